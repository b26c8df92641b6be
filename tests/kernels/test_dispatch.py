"""Which executor runs, how operators are registered, and what is refused."""

import os
import subprocess
import sys

import pytest
import torch
from lapilli.kernels import dispatch
from lapilli.kernels.dispatch import execute, executor, launch_options
from lapilli.kernels.rows import BLOCK
from problems import fixed_problem
from recurrences import TABLE, VARIANTS
from torch.utils._python_dispatch import TorchDispatchMode


class Calls(TorchDispatchMode):
    """Record the calls of lapilli's operators."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "lapilli":
            self.calls.append((op, args))
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("recurrence", TABLE, ids=repr)
def test_operators_pass_opcheck(recurrence, variant):
    with Calls() as recorded:
        fixed_problem(recurrence, **VARIANTS[variant]).fast()
    assert len(recorded.calls) == 1 + VARIANTS[variant].get("train", False)
    for op, args in recorded.calls:
        torch.library.opcheck(op, args)


@pytest.mark.parametrize("recurrence", TABLE, ids=repr)
def test_tracing_launches_nothing(recurrence):
    x, decay = torch.zeros(2, 3, 5), torch.tensor([100.0])
    with torch._subclasses.FakeTensorMode() as mode:
        inputs = [mode.from_tensor(x)] * recurrence.inputs
        decays = [mode.from_tensor(decay)] * recurrence.decays
        spikes = recurrence.spikes(recurrence.kernels, inputs, decays, 1.0, 4096)
    assert spikes.shape == x.shape
    assert spikes.stride() == (15, 1, 3)


@pytest.mark.skipif(dispatch.BACKEND != "auto", reason="a backend was chosen")
def test_device_chooses_the_executor():
    assert executor(torch.device("cpu")) == "numba"
    assert executor(torch.device("cuda")) == "triton"
    assert executor(torch.device("xpu:1")) == "triton"
    with pytest.raises(RuntimeError, match=r"no kernel runs on device 'mps:0'.*\.to\('cpu'\)"):
        executor(torch.device("mps:0"))


def test_device_without_triton_is_refused(monkeypatch):
    monkeypatch.setattr(dispatch, "HAS_TRITON", False)
    monkeypatch.setattr(dispatch, "BACKEND", "auto")
    assert executor(torch.device("cpu")) == "numba"
    with pytest.raises(RuntimeError, match="Triton is not installed"):
        executor(torch.device("cuda"))


def test_unknown_backend_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", "import lapilli.kernels.language"],
        env=os.environ | {"LAPILLI_BACKEND": "cuda"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "LAPILLI_BACKEND is 'cuda'; expected one of auto, reference, interpret" in done.stderr


def test_one_lane_a_thread():
    assert launch_options("cuda")["num_warps"] * 32 == BLOCK
    assert launch_options("hip")["num_warps"] * 64 == BLOCK
    assert "maxnreg" not in launch_options("hip")


@pytest.mark.parametrize(
    ("steps", "neurons"), [(2**28, 8), (2**26, 31), (2**24, 43)], ids=lambda n: f"{n:x}"
)
def test_sample_beyond_32_bit_offsets_is_refused(steps, neurons, monkeypatch):
    monkeypatch.setattr(dispatch, "BACKEND", "interpret")
    x = torch.zeros(1).expand(2, steps, neurons)
    with pytest.raises(ValueError, match=r"neuron-steps\. Run the sequence in chunks"):
        execute(None, None, (2, steps, neurons), (x,))
