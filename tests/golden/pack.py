"""Pack golden vectors, one ``.npz`` a case, into the archives that the tests read.

    python tests/golden/pack.py FOLDER

FOLDER holds ``index.json``, the ``.npz`` files that it names, and ``hdf5/``.
"""

import json
import lzma
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
# four-byte numbers side by side: the position in the word predicts a byte better than its neighbour
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 2, "pb": 2}]


def group_of(target: str) -> str:
    """Return the archive of a target: ``neuron.cuba`` for ``neuron.cuba.Neuron``."""
    return ".".join(target.split(".")[:2])


def pack(source: Path) -> None:
    text = (source / "index.json").read_bytes()
    groups: dict[str, list[bytes]] = {}
    for case in json.loads(text)["cases"]:
        with np.load(source / case["file"]) as arrays:
            for key, entry in case["arrays"].items():
                array = arrays[key]
                if array.dtype != entry.get("dtype", "float32") or [*array.shape] != entry["shape"]:
                    raise ValueError(
                        f"{case['name']} {key} is {array.dtype} {array.shape}; expected {entry}"
                    )
                groups.setdefault(group_of(case["target"]), []).append(array.tobytes())
    for group, parts in groups.items():
        data = lzma.compress(b"".join(parts), filters=FILTERS)
        (HERE / f"{group}.xz").write_bytes(data)
    (HERE / "index.json.xz").write_bytes(lzma.compress(text, preset=9))
    shutil.copytree(source / "hdf5", HERE / "hdf5", dirs_exist_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pack(Path(sys.argv[1]))
