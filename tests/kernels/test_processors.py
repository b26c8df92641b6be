"""The same bits whatever the processor can do: torch's and its libraries' paths, one by one."""

import functools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden_cases import cases
from golden_runs import construct

pytestmark = pytest.mark.turns

SIDE = Path(__file__).with_name("processor_side.py")
# torch's own loops, its products (MKL) and its convolutions (oneDNN)
WAYS = {
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
}
ORDER = list(WAYS)
HERE = torch.backends.cpu.get_cpu_capability().lower()  # DEFAULT, AVX2, AVX512


@functools.cache
def numbers(way: str) -> dict[str, dict[str, object]]:
    result = subprocess.run(
        [sys.executable, SIDE], env=os.environ | WAYS[way], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="no other paths here")
# with AVX-512 golden cases run wherever the processor has it
@pytest.mark.slow
@pytest.mark.parametrize("way", ["avx2", "avx512"])
def test_outputs_states_and_files_do_not_depend_on_the_processor(way):
    if ORDER.index(way) > (ORDER.index(HERE) if HERE in ORDER else 0):
        pytest.skip(f"this processor has {HERE} at most")
    want = numbers("default")
    for family, found in numbers(way).items():
        assert not [v for v in found.values() if "events" in str(v)], "layers must be active"
        assert found == want[family], family


@pytest.mark.parametrize("name", ["rf", "rf_iz", "adrf", "adrf_iz"])
def test_a_rotation_that_is_shortened_is_rounded_once(name):
    """Made afresh, not loaded: 4095 / 4096 of a sine that rounds to another number."""
    (case,) = (c for c in cases("neuron") if c.name == f"neuron.{name}.decay_zero")
    neuron = construct(case.target, case.kwargs)
    for parameter in ("sin_decay", "cos_decay"):
        got = getattr(neuron, parameter).detach()
        torch.testing.assert_close(got, case.arrays[f"state/{parameter}"], rtol=0, atol=0)
        neuron.clamp()
        assert torch.equal(getattr(neuron, parameter), got)
