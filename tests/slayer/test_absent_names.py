"""docs/migration.md lists every public name of lava-dl that lapilli does not have."""

import absent_names
import pytest
from absent_names import DOCUMENT, REASONS, absent, in_document, is_here, known, table


def test_every_absent_name_has_a_reason():
    assert absent().get("", []) == []


def test_every_reason_is_needed():
    assert set(REASONS) == set(absent()) - {""}


def test_the_table_of_the_document_is_current():
    assert in_document() == table(), "run: python tests/slayer/absent_names.py"
    assert f"({len(known())} with methods" in DOCUMENT.read_text()


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("neuron.cuba.Neuron.clamp", True),
        ("utils.time.shift.shift", True),
        ("utils.quantize.MODE", True),
        ("block.base.AbstractAverage.shape", True),
        ("neuron.cuba.Neuron.nothing", False),
        ("nothing", False),
        ("obd", False),
    ],
)
def test_names_are_found(name, here):
    assert is_here(name) == here


def test_collecting_reads_modules_classes_and_members(tmp_path):
    (tmp_path / "object_detection").mkdir()
    (tmp_path / "object_detection" / "a.py").write_text("x = 1")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "__init__.py").write_text("from .b import c as d\n__all__ = []")
    (tmp_path / "part" / "b.py").write_text(
        "import os\nY = 2\ndef c(): pass\n"
        "class E(object):\n    def f(self): pass\n    def _g(self): pass\n"
    )
    want = ["part", "part.b", "part.b.E", "part.b.E.f", "part.b.Y", "part.b.c", "part.d"]
    assert absent_names.public(absent_names.collect(tmp_path)) == want
