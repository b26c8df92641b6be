import subprocess
import sys

import pytest

HEAVY = ("matplotlib", "sklearn", "h5py", "numba", "tonic", "tqdm")
MODULES = ("assistant", "auto", "data", "io", "loss", "plot", "processes", "recipes", "recordings",
           "recurrent", "slayer", "stats", "training")  # fmt: skip
WITHOUT_TRITON = (
    *MODULES, "export", "blocks", "cli", "benchmark", "profiling", "kernels.synapses.bfloat16",
    "kernels.synapses.codes", "kernels.proof.calls", "kernels.proof.prediction",
    "kernels.recurrences.recurrent_triton",
)  # fmt: skip


def test_importing_is_light():
    """What torch itself imports does not count."""
    code = f"""if True:
        import importlib, sys, lapilli
        assert "torch" not in sys.modules
        import torch
        before = set(sys.modules)
        for name in {MODULES}:
            importlib.import_module("lapilli." + name)
            found = [m for m in {HEAVY} if m in sys.modules and m not in before]
            assert not found, (name, found)
        assert not torch.cuda.is_initialized()
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_importing_needs_no_triton():
    code = f"""if True:
        import importlib, sys
        sys.modules["triton"] = None
        for name in {WITHOUT_TRITON}:
            importlib.import_module("lapilli." + name)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
