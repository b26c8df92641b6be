import subprocess
import sys

import pytest

HEAVY = ("matplotlib", "sklearn", "h5py", "numba", "tqdm")


@pytest.mark.parametrize(
    "module",
    ["lapilli", "lapilli.classifier", "lapilli.data", "lapilli.filter", "lapilli.loss",
     "lapilli.plots", "lapilli.training"],
)  # fmt: skip
def test_importing_is_light(module):
    code = f"""if True:
        import sys, {module}
        found = [m for m in {HEAVY} if m in sys.modules]
        assert not found, found
        if "torch" in sys.modules:
            assert not sys.modules["torch"].cuda.is_initialized()
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
