"""What the documents link to and name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]


def links(document: Path) -> list[str]:
    """Return where the links of a document lead, without those to the web."""
    text = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(), flags=re.S)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as they are made of their text."""
    headings = re.findall(r"^#+ +(.*)$", document.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.name} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{document.name} links to {link}: no such heading"


def test_links_are_found():
    assert sum(len(links(document)) for document in DOCUMENTS) > 10


def test_tables_that_adding_a_neuron_names_exist():
    document = ROOT / "docs" / "adding-a-neuron.md"
    rows = re.findall(r"^\| `(\w+)` of .*$", document.read_text(), flags=re.M)
    for line in document.read_text().splitlines():
        name = re.match(r"\| `(\w+)` of ", line)
        for path in re.findall(r"\]\(([^)]+)\)", line) if name else ():
            source = (document.parent / path).read_text()
            assert re.search(rf"^{name[1]}\b", source, flags=re.M), f"{path} has no {name[1]}"
    assert len(rows) >= 5
