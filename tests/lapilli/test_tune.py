"""``lapilli tune``: limits of density, measured on the processor at hand."""

import pytest
from known import present
from lapilli.blocks import crossover, tuned
from lapilli.kernels.synapses import codes

from lapilli.benchmark import limits
from lapilli.program import tune
from lapilli.program.cli import main

SMALL = limits.Effort(8, 2, 1, 0.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPILLI_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(crossover, "_alike", False)
    monkeypatch.setattr(limits, "OUTPUTS", (8, 16, 64))
    monkeypatch.setattr(limits, "QUICK", SMALL)
    crossover.forget()
    yield tmp_path
    crossover.forget()


def test_what_is_measured_is_stored_and_used(folder, capsys):
    assert main(["tune"]) == 0
    printed = capsys.readouterr()
    found = present(tuned.stored()).limits
    kinds = ["codes"] * codes.usable() + ["convolution", "float32"]
    assert sorted(found) == kinds
    assert list(found["float32"]) == [8, 16, 64]
    assert list(found["convolution"]) == [144, 576]
    assert crossover.limits()["float32"] == found["float32"]
    assert str(folder / "limits.json") in printed.out
    assert "measured 3 of 3 sizes" in printed.err
    assert main(["info"]) == 0
    assert "limits    of events as measured on this processor" in capsys.readouterr().out


def test_reset_forgets_it(folder, capsys):
    tuned.store(tuned.Tuned({"float32": {16: (0.5, 0.5)}}, "before"))
    assert main(["tune", "--reset"]) == 0
    assert tuned.stored() is None
    assert crossover.limits().items() >= crossover.MEASURED[crossover.vectors()].items()
    assert main(["info"]) == 0
    assert "lapilli tune measures this one" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_is_found_first(folder, monkeypatch, capsys):
    (folder / "file").write_text("")
    monkeypatch.setenv("LAPILLI_CACHE_DIR", str(folder / "file"))
    monkeypatch.setattr(limits, "measured", lambda *_: pytest.fail("measured in vain"))
    assert main(["tune"]) == 2
    assert str(folder / "file") in capsys.readouterr().err


def test_a_limit_is_where_both_take_as_long():
    assert limits.crossing([1.0] * len(limits.DENSITIES)) == 0
    assert limits.crossing([0.5] * len(limits.DENSITIES)) == limits.DENSITIES[-1]
    straight = [density / 0.12 / 1.05 for density in limits.DENSITIES]
    assert limits.crossing(straight) == pytest.approx(0.12)


def test_limits_are_measured_of_what_the_synapse_calls(monkeypatch):
    chosen = []
    for name in ("linear", "convolve"):
        original = getattr(limits, name)

        def noting(x, *args, original=original, name=name, **options):
            chosen.append((name, options["product"]))
            return original(x, *args, **options)

        monkeypatch.setattr(limits, name, noting)
    found = limits.measured(SMALL, (16,))
    assert {name for name, _ in chosen} == {"linear", "convolve"}
    assert {product for _, product in chosen} == {"events", "dense"}
    assert all(
        0 <= number <= 1 for rows in found.values() for row in rows.values() for number in row
    )
    assert tune.path().name == "limits.json"
