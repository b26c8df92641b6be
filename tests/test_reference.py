"""The reference in plain torch, as a backend for any script, gives what the kernels give."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cells import CELLS, FEW, OF_LAVA_DL, in_turn, make
from known import present
from reference_side import run, variants
from tolerances import REFERENCE_GRADIENT

SHORT, LONG = (0, 1, 2, 9), (50,)
each_cell = in_turn(CELLS, FEW)


def on_reference(code: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *code], cwd=Path(__file__).parent, capture_output=True, text=True,
        env=os.environ | {"LAPILLI_BACKEND": "reference"}, check=False,
    )  # fmt: skip


def _results(folder, steps):
    file = folder / "found.pt"
    done = on_reference(["reference_side.py", str(file), *map(str, steps)])
    assert done.returncode == 0, done.stderr
    return torch.load(file)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return _results(tmp_path_factory.mktemp("few"), SHORT)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return _results(tmp_path_factory.mktemp("many"), LONG)


def _exact_steps(family, kind, name, y):
    """Return how many steps are promised to be equal.

    Graded spikes come back through weights of 1/32: their products are multiples of 2**-17, whose
    sum is exact in float32 below 2**24 of these, 128. The step after the first sum beyond that is
    the first that may differ; with the delay of one step, so is the output one later.
    """
    steps = y.shape[-1]
    if (kind, name) != ("Recurrent", "graded"):
        return steps
    synapse = make(family, kind, {"graded_spike": True}).recurrent_synapse
    weights = torch.cat([p.detach().flatten(1).abs() for p in synapse.parameters()])
    size = torch.einsum("ij,njt->nit", weights + 1 / 32, y.abs()).amax((0, 1))
    beyond = (size >= 2**24 * 2**-17).nonzero()
    return int(beyond[0]) + 1 if len(beyond) else steps


def _compare(found, family, kind, steps):
    for name in variants(family, kind):
        want, got = found[family, kind, name, steps], run(family, kind, name, steps)
        assert want.keys() == got.keys()
        y, y_kernels = want.pop("y"), present(got.pop("y"))
        exact = _exact_steps(family, kind, name, y)
        assert exact >= min(y.shape[-1], 6)
        assert torch.equal(y[..., :exact], y_kernels[..., :exact])
        if exact < y.shape[-1]:
            continue
        for parameter, g in want.items():
            assert (g is None) == (got[parameter] is None), (name, parameter)
            if g is not None and g.numel():
                most = REFERENCE_GRADIENT * float(g.abs().max())
                torch.testing.assert_close(got[parameter], g, rtol=0, atol=most)


@each_cell
@pytest.mark.parametrize("steps", SHORT)
def test_it_equals_the_kernels(few, family, kind, steps):
    _compare(few, family, kind, steps)


@pytest.mark.slow
@each_cell
@pytest.mark.parametrize("steps", LONG)
def test_it_equals_the_kernels_over_many_steps(many, family, kind, steps):
    _compare(many, family, kind, steps)


def test_there_are_78_cells():
    assert len(OF_LAVA_DL) == 78


@pytest.mark.slow
def test_a_neuron_of_a_user_has_none():
    example = Path(__file__).parents[1] / "examples" / "own_neuron.py"
    done = on_reference([str(example)])
    assert done.returncode == 1
    assert "lif_fwd_kernel has no reference in plain torch" in done.stderr
    assert "Unset LAPILLI_BACKEND" in done.stderr
