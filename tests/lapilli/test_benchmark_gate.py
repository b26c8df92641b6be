"""``lapilli.benchmark.gate``: what it stores, lets pass and refuses; and the recipe for users."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lapilli.kernels.recurrences.sigma import sigma

from lapilli.benchmark import gate, judge, yardsticks

ROOT = Path(__file__).parents[2]


def work(extra=False):
    x = torch.randn(8, 512, 100)

    def call():
        y: Any = sigma(x)
        return y + 1 if extra else y

    return call


@pytest.fixture
def path(tmp_path):
    """A file with the baseline of ``work``."""
    path = tmp_path / "speed.json"
    gate(work(), "sum", path, update=True)
    return path


def test_unchanged_work_passes(path):
    before = path.read_text()
    result = gate(work(), "sum", path)
    assert result.counters == json.loads(before)["cases"]["sum"]["counters"]
    assert set(result.ratios) == {"speed_beside_a_copy", "speed_beside_a_product"}
    assert path.read_text() == before


def test_more_work_is_refused_on_any_machine(path):
    stored = json.loads(path.read_text())
    stored["machine"]["processor"] = "another"
    path.write_text(json.dumps(stored))
    with pytest.raises(AssertionError, match=r"sum: operators grew from 1 to 2; allocated_bytes.*"):
        gate(work(extra=True), "sum", path)


def with_ratios(path, factor, **machine):
    """Make the stored call ``factor`` times as fast."""
    stored = json.loads(path.read_text())
    ratios = stored["cases"]["sum"]["ratios"]
    stored["cases"]["sum"]["ratios"] = {k: v * factor for k, v in ratios.items()}
    stored["machine"] |= machine
    path.write_text(json.dumps(stored))


def test_slower_work_is_refused_after_three_measurements(path, monkeypatch):
    with_ratios(path, 20)
    measured = []
    ratios = yardsticks._ratios
    monkeypatch.setattr(yardsticks, "_ratios", lambda *a: measured.append(a) or ratios(*a))
    expected = r"sum: speed_beside_a_copy fell from .* by more than 30%.*LAPILLI_BENCHMARK_UPDATE=1"
    with pytest.raises(AssertionError, match=expected):
        gate(work(), "sum", path)
    assert len(measured) == judge.ATTEMPTS
    gate(work(), "sum", path, tolerance=0.99)


def test_speed_is_not_judged_on_another_machine(path):
    with_ratios(path, 20, processor="another")
    gate(work(), "sum", path)


def test_update_keeps_other_calls(path, monkeypatch):
    monkeypatch.setenv("LAPILLI_BENCHMARK_UPDATE", "1")
    gate(work(extra=True), "more", path)
    assert list(json.loads(path.read_text())["cases"]) == ["more", "sum"]
    assert json.loads(path.read_text())["cases"]["more"]["counters"]["operators"] == 2


def test_ratios_follow_the_work(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(yardsticks, "clock_of", lambda device: lambda: now[0])
    copy, product = torch.Tensor.copy_, torch.Tensor.__matmul__

    def takes(seconds, function):
        def call(*args):
            now[0] += seconds
            return function(*args)

        return call

    monkeypatch.setattr(torch.Tensor, "copy_", takes(0.5, copy))
    monkeypatch.setattr(torch.Tensor, "__matmul__", takes(3.0, product))
    found = yardsticks._ratios(takes(0.25, int), torch.device("cpu"))
    assert found == {"speed_beside_a_copy": 2.0, "speed_beside_a_product": 12.0}


def test_missing_baseline(tmp_path, path):
    for file, name in ((tmp_path / "none.json", "sum"), (path, "other")):
        with pytest.raises(LookupError, match=f"no baseline '{name}'; run once with LAPILLI_"):
            gate(work(), name, file, update=False)
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize("tolerance", [0, 1, -1, 30])
def test_tolerance_out_of_range(path, tolerance):
    with pytest.raises(ValueError, match="expected a share above 0 and below 1"):
        gate(work(), "sum", path, tolerance=tolerance)


def recipe():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "bench" / "README.md").read_text(), re.S)
    (code,) = [block for block in blocks if block.startswith("# test_speed.py")]
    return code


def test_recipe_of_the_readme(tmp_path, monkeypatch):
    def run(code):
        names: dict[str, Any] = {"__file__": str(tmp_path / "test_speed.py")}
        exec(compile(code, "test_speed.py", "exec"), names)
        names["test_training_step"]()

    with pytest.raises(LookupError, match=r"speed\.json has no baseline 'training step'"):
        run(recipe())
    with monkeypatch.context() as patch:
        patch.setenv("LAPILLI_BENCHMARK_UPDATE", "1")
        run(recipe())
    run(recipe())
    more = recipe().replace("net(spikes).mean()", "net(spikes).clone().mean()")
    assert more != recipe()
    with pytest.raises(AssertionError, match="training step: operators grew from"):
        run(more)
