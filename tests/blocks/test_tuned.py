"""The limits of density that are in use, and the file of those that were measured here."""

import json

import pytest
import torch
from lapilli.blocks import crossover, tuned

COMES_WITH = {kind: crossover.MEASURED["AVX512"] | m for kind, m in crossover.MEASURED.items()}
FOUND: tuned.Limits = {
    "float32": {16: (0.1, 0.2), 256: (0.3, 0.4)},
    "convolution": {144: (0.5, 0.6)},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPILLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(crossover, "_alike", False)
    crossover.forget()
    yield tmp_path / "cache"
    crossover.forget()


def test_without_a_file_the_processor_decides(monkeypatch):
    assert tuned.stored() is None
    for has, kind in (("AVX512", "AVX512"), ("AVX2", "AVX2"), ("DEFAULT", "AVX2")):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda has=has: has)
        crossover.forget()
        assert crossover.limits() == COMES_WITH[kind]
    assert "lapilli tune" in crossover.source()


def test_what_was_measured_here_is_used(folder):
    before = crossover.limit("codes", 128, False)
    tuned.store(tuned.Tuned(FOUND, "2026-11-30"))
    crossover.forget()
    assert tuned.stored() == tuned.Tuned(FOUND, "2026-11-30")
    assert crossover.limit("float32", 16, True) == 0.2
    assert crossover.limit("float32", 64, False) == pytest.approx(0.2)
    assert crossover.limit("codes", 128, False) == before  # not measured: no such product here
    assert str(folder / "limits.json") in crossover.source()
    assert "2026-11-30" in crossover.source()
    assert not list(folder.glob("*.tmp"))


def test_each_processor_has_its_own(monkeypatch):
    tuned.store(tuned.Tuned(FOUND, "here"))
    monkeypatch.setattr(tuned, "processor", lambda: "another")
    assert tuned.stored() is None
    tuned.store(tuned.Tuned({"float32": {16: (0.0, 1.0)}}, "there"))
    tuned.store(None)
    assert tuned.stored() is None
    monkeypatch.undo()


def test_the_entry_of_another_processor_stays(monkeypatch, folder):
    tuned.store(tuned.Tuned(FOUND, "here"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(tuned, "processor", lambda: "another")
        tuned.store(tuned.Tuned(FOUND, "there"))
    assert set(json.loads((folder / "limits.json").read_text())) == {tuned.processor(), "another"}
    tuned.store(None)
    assert set(json.loads((folder / "limits.json").read_text())) == {"another"}


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"NAME": 3}', '{"NAME": {"limits": {}}}',
        '{"NAME": {"limits": {"float32": {}}, "date": ""}}',
        '{"NAME": {"limits": {"float32": {"16": [0.5]}}, "date": ""}}',
        '{"NAME": {"limits": {"float32": {"16": [0.5, 1.5]}}, "date": ""}}',
        '{"NAME": {"limits": {"float32": {"many": [0.5, 0.5]}}, "date": ""}}',
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_not_used(text, folder):
    folder.mkdir()
    (folder / "limits.json").write_text(text.replace("NAME", tuned.processor()))
    with pytest.warns(UserWarning, match=r"limits\.json is not what lapilli tune writes"):
        assert crossover.limits() == COMES_WITH[crossover.vectors()]
    tuned.store(tuned.Tuned(FOUND, "again"))  # mends it
    assert tuned.stored() is not None
