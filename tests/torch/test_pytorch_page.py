"""docs/pytorch.md prints the tables that the tests run, and the faults for which they skip."""

from pathlib import Path

import faults
import features
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"


@pytest.mark.parametrize("table", [features.table(), faults.table()], ids=["features", "faults"])
def test_the_page_has_the_table(table):
    lines = PAGE.read_text().splitlines()
    first = lines.index(table[0])
    printed = lines[first : first + len(table)]
    assert printed == table
    assert not lines[first + len(printed)].startswith("|")
