"""docs/pytorch.md prints the table that the tests run."""

from pathlib import Path

from features import table

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"


def test_the_page_has_the_table():
    lines = PAGE.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| feature |"))
    printed = lines[first : first + len(table())]
    assert printed == table()
    assert not lines[first + len(printed)].startswith("|")
