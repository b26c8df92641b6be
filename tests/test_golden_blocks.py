"""Blocks and networks against lava-dl: outputs, states, gradients, checkpoints."""

import pytest
import torch
from golden_cases import cases, way_name, ways
from golden_runs import build, compare, run

BLOCKS = cases("block")
NETWORKS = cases("export")


def _marked(case, *way):
    """Graded spikes need loops of their own: at once for CUBA, as in test_golden.py."""
    later = ".graded" in case.name and ".cuba." not in case.name
    name = "-".join(map(way_name, (case, *way)))
    return pytest.param(case, *way, id=name, marks=pytest.mark.slow if later else ())


@pytest.mark.parametrize(
    ("case", "fused", "sign"), [_marked(*way) for way in ways(BLOCKS + NETWORKS)]
)
def test_golden(case, fused, sign, device):
    module, results = run(case, device, fused=fused, sign=sign)
    compare(case, module, results, fused=fused, sign=sign)


RESIZED = [c for c in BLOCKS + NETWORKS if "warmup_zeros" in c.setup]


@pytest.mark.parametrize("case", RESIZED, ids=way_name)
def test_fresh_block_loads_sized_parameters(case):
    module, results = run(case, warm=False)
    compare(case, module, results, sign="lava-dl")


@pytest.mark.parametrize("case", BLOCKS + NETWORKS, ids=way_name)
def test_state_dict_has_the_names_and_shapes_of_lava_dl(case):
    state = build(case).state_dict()
    want = {k.removeprefix("state/"): case.arrays[k].shape for k in case.of_role("parameter")}
    want |= {name: (1,) for name in want if name.endswith("spike_state")}  # lava-dl's has a batch
    assert {name: value.shape for name, value in state.items()} == want


def test_a_wrong_weight_is_seen():
    case = next(c for c in BLOCKS if c.name == "block.cuba.Dense.base")
    module, results = run(case)
    results["c0/out/y"] = results["c0/out/y"].roll(1, 0)
    with pytest.raises(AssertionError, match="c0/out/y"):
        compare(case, module, results, sign="lava-dl")
    results["c0/out/y"] = torch.full_like(results["c0/out/y"], torch.nan)
    with pytest.raises(AssertionError, match="c0/out/y"):
        compare(case, module, results, sign="lava-dl")
