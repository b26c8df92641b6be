"""Which public names of lava-dl lapilli does not have, as a table of docs/migration.md.

    python tests/slayer/absent_names.py                      write the table again
    python tests/slayer/absent_names.py --collect FOLDER     list the names of an installed lava-dl

``names_of_lava_dl.txt`` holds the names, one a line, below ``lava.lib.dl.slayer``: modules, what
they define, and the public methods and properties of their classes.
"""

import argparse
import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from lapilli.blocks import base, complex_synapse

LIST = Path(__file__).with_name("names_of_lava_dl.txt")
DOCUMENT = Path(__file__).parents[2] / "docs" / "migration.md"
BEGIN, END = "<!-- absent names: written by tests/slayer/absent_names.py -->", "<!-- end -->"

# pattern of names -> why they are absent
REASONS = {
    r"obd|object_detection(\..*)?": "object detection is not part of lapilli",
    r".*\.Accelerated(\..*)?": "held lava-dl's CUDA sources; lapilli's kernels are in "
    "`lapilli.kernels`",
    r"auto\.SequentialNetwork\..*_block": "internal readers of one layer each; "
    "`lapilli.export.load` reads all layers",
    r"spike\..*\.Spike\.(forward|backward)": "call `Spike.apply`",
    r"utils\.recurrent\.CustomRecurrent\.(forward|backward)": "call `CustomRecurrent.apply`",
    r"utils\.filter\.conv\.(fwd|bwd)": "internal halves of `conv` and `corr`",
    r"neuron\.dynamics\.adaptive_threshold\.reset_persistent_.*": "inert in lava-dl; "
    "neurons have `reset_state()`",
    r"neuron\.norm\.WgtScaleBatchNorm\.std": "internal; `weight_exp` is its exponent",
}


# attributes that instances have and classes do not
ON_INSTANCES = {
    "block.base.AbstractAverage.shape": lambda: base.AbstractAverage(1),
    "block.base.AbstractTimeDecimation.shape": lambda: base.AbstractTimeDecimation(1),
    "synapse.complex.ComplexLayer.shape": lambda: complex_synapse.Dense(1, 1),
}


def collect(folder: Path) -> Iterator[str]:
    """Names of the sources of lava-dl, from ``.../lava/lib/dl/slayer``; object detection apart."""
    for path in sorted(folder.rglob("*.py")):
        module = path.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
        module = module.removesuffix("__init__").rstrip(".")
        if module.startswith("object_detection"):
            continue
        if module:
            yield module
        prefix = f"{module}." if module else ""
        for node in ast.parse(path.read_text()).body:
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    yield prefix + name
                    if isinstance(node, ast.ClassDef):
                        members = (m.name for m in node.body if isinstance(m, ast.FunctionDef))
                        yield from (f"{prefix}{name}.{m}" for m in members)
                case ast.Assign(targets=[ast.Name(id=name)]):
                    yield prefix + name
                case ast.ImportFrom(names=names) if path.stem == "__init__":
                    yield from (prefix + (n.asname or n.name) for n in names)


def public(names: Iterator[str]) -> list[str]:
    return sorted({name for name in names if not re.search(r"(^|\.)_", name)})


def known() -> list[str]:
    """Names of the list; its first lines say where they are from."""
    return [line for line in LIST.read_text().splitlines() if not line.startswith("#")]


def is_here(name: str) -> bool:
    """Whether the name can be reached through ``lapilli.slayer``, by import and then attribute."""
    parts = name.split(".")
    if name in ON_INSTANCES:
        return hasattr(ON_INSTANCES[name](), parts[-1])
    for cut in range(len(parts), -1, -1):  # the longest module first
        try:
            found = importlib.import_module(".".join(("lapilli.slayer", *parts[:cut])))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[cut:]:
                found = getattr(found, part)
        except AttributeError:
            continue
        return True
    return False


def absent() -> dict[str, list[str]]:
    """Absent names by the pattern of REASONS that explains them; "" for none."""
    found: dict[str, list[str]] = {}
    for name in known():
        if not is_here(name):
            pattern = next((p for p in REASONS if re.fullmatch(p, name)), "")
            found.setdefault(pattern, []).append(name)
    return found


def table() -> str:
    """One row a reason; members of a class that is absent go without saying."""
    rows = ["| names below `slayer` | why |", "|---|---|"]
    groups = absent()
    gone = {name for names in groups.values() for name in names}
    for pattern, reason in REASONS.items():
        names = [n for n in groups.get(pattern, ()) if n.rpartition(".")[0] not in gone]
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {reason} |")
    return "\n".join(rows)


def in_document() -> str:
    """Table as the document has it."""
    return DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collect", type=Path, metavar="FOLDER")
    folder = parser.parse_args().collect
    if folder:
        sys.stdout.write("".join(f"{name}\n" for name in public(collect(folder))))
        return
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")


if __name__ == "__main__":
    main()
