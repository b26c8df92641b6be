"""The page on surrogate gradients states what neurons and kernels do."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from lapilli.kernels.numbers.surrogate import BUILT_IN, SURROGATES

from bench import surrogates

PAGE = Path(__file__).parents[2] / "docs" / "surrogates.md"


def test_code_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(SURROGATES, "gaussian", None)  # other tests keep theirs
    del SURROGATES["gaussian"]
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 2
    for k, block in enumerate(blocks):
        file = tmp_path / f"block_{k}.py"  # the source of a surrogate is read from its file
        file.write_text(block)
        exec(compile(block, str(file), "exec"), {"__name__": f"block_{k}"})
    assert "gaussian" in SURROGATES


def test_every_built_in_name_is_listed_in_order():
    assert tuple(re.findall(r'^\| `"(\w+)"`[^|]*\| [^`]', PAGE.read_text(), re.M)) == BUILT_IN


def test_constants_are_those_of_the_neurons():
    rows = re.findall(
        r"^\| ([\w, ]+) \| ([\d.]+) `tau_grad` threshold \| ([\d.]+) `scale_grad` \|$",
        PAGE.read_text(), re.M,
    )  # fmt: skip
    named = [(n, float(t), float(s)) for names, t, s in rows for n in names.split(", ")]
    assert len(named) == 6
    for name, tau, scale in named:
        module = importlib.import_module(f"lapilli.neurons.{name}")
        assert (tau, scale) == (module.TAU_RHO_MULT, module.SCALE_RHO_MULT)


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("name", BUILT_IN)
def test_curves_have_a_height_of_one(name, graded):
    distance, gradient = surrogates.curve(name, graded)
    assert gradient[distance.abs().argmin()] == pytest.approx(1, abs=1e-5)
    assert (gradient <= 1 + 1e-6).all()
    assert torch.all(gradient[distance > 0.01] > 0.99) == graded


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    surrogates.plot(tmp_path / "surrogates.svg")
    text = (tmp_path / "surrogates.svg").read_text()
    assert all(f"<!-- {name} -->" in text for name in BUILT_IN)
