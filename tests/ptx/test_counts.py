"""What is counted is what the tensors of a launch make necessary, and what the report estimates."""

import pytest
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof import catalogue

from bench.kernels import PATH
from lapilli.benchmark import results
from ptx.counts import executed

DIVISION = 8  # machine instructions beyond the first

pytestmark = pytest.mark.skipif(BACKEND != "auto", reason="kernels are compiled for a GPU")


@pytest.mark.parametrize(
    "name",
    ["cuba", *(pytest.param(n, marks=pytest.mark.slow) for n in catalogue.names()
               if n not in ("cuba", "terms", "convolution", "recurrent"))],
)  # fmt: skip
def test_sectors_hold_what_is_accessed_and_nothing_else(name):
    """Neighbours in memory, one a thread: as the report reads it from the machine code."""
    stored = results.read(PATH)["cases"]
    found = executed("sm_90", [name])
    assert found
    for entry, counts in found.items():
        report = stored[f"{entry}, sm_90"]["counters"]
        assert counts["touched"] == report["accessed"]
        assert counts["conflicts"] == 0
        # the assembler fuses and drops some instructions, and adds few but for divisions, which
        # become a reciprocal, products that correct it, and a test for what these cannot do
        expected = counts["executed"] + DIVISION * counts["divisions"]
        assert 0.7 < report["instructions"] / expected < 1.2
