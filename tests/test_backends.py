"""The executors that only debugging uses give lava-dl's results too.

A backend is chosen for a whole process, when lapilli is imported, so each runs in one of its own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from golden_cases import cases, ways
from known import present

pytestmark = pytest.mark.turns

FAMILIES = sorted({case.target.split(".")[1] for case in cases("neuron")})

# Triton's interpreter takes a second a case, so it gets those that cover every option between them.
COVERING = (
    ".rand_nct_odd_scale_grad",
    ".batch1_nchwt",
    ".t1",
    ".dynamics_grad_per_channel",
    ".per_channel_nchwt_derived",
    ".persistent_t1_calls",
    ".graded_reqgrad_per_channel_persistent",
    ".norm_mean_train_nchwt_reqgrad",
    ".norm_default_eval",
    ".scale_not_power_of_two_persistent",
    ".reqgrad_shared",
)
COVERING_SIGMA_DELTA = (
    ".rand_nct_odd_scale_grad",
    ".t1",
    ".per_channel_reqgrad_nchwt",
    ".persistent_reqgrad_nchwt",
    ".norm_wgt_train_nchwt",
    ".bias_nchwt",
    ".reqgrad_tau_scale",
)


def passed(backend: str, wanted: str) -> int:
    """Run golden cases of neurons on a backend; return how many tests passed."""
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"),
        *("test_golden.py", "-k", f"test_golden and ({wanted})", "--no-header", "--tb=short"),
    ]
    environment = os.environ | {"LAPILLI_BACKEND": backend}
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(present(re.search(r"(\d+) passed", done.stdout))[1])


@pytest.mark.slow
def test_reference_equals_lava_dl():
    assert passed("reference", "cpu-neuron.") == len(ways(cases("neuron")))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_interpreter_equals_lava_dl(family):
    ends = COVERING_SIGMA_DELTA if family == "sigma_delta" else COVERING
    of_family = [case for case in cases("neuron") if case.target.split(".")[1] == family]
    chosen = [case for case in of_family if case.name.endswith(ends)]
    assert len(chosen) == len(ends)
    wanted = " or ".join(f"{case.name}-" for case in chosen)
    assert passed("interpret", wanted) == len(ways(chosen))
