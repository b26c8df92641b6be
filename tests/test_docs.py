"""What the documents link to and name is there."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from known import present
from lapilli.kernels.numbers.surrogate import SURROGATES

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


def table(document: Path, heading: str) -> list[list[str]]:
    """Return the rows of the table whose first cell of the heading is given."""
    lines = document.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_choice_of_a_neuron_says_what_the_readme_says():
    readme = ROOT / "README.md"
    blocks = table(readme, "block")
    deployed = next(row for row in blocks if "netx deploys" in row[0])
    runs = dict(zip(blocks[0][1:], deployed[1:], strict=True))
    kept = {row[0]: row[-1] for row in table(readme, "neuron")[2:]}
    chosen = table(ROOT / "docs/choose.md", "neuron")[2:]
    assert [row[0] for row in chosen] == list(kept)
    for neuron, _, _, bytes_kept, netx in chosen:
        assert bytes_kept == kept[neuron]
        assert netx == (runs[neuron] or "nothing")


@pytest.mark.parametrize("name", ["own-neurons", "own-data", "saving", "how-it-works"])
def test_the_code_of_a_page_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / f"docs/{name}.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    found: dict[str, Any] = {"__name__": "page"}
    exec(code, found)
    if name == "own-data":
        assert found["make"]((2, 4, 4), 3)(torch.zeros(1, 2, 4, 4, 5)).shape == (1, 3, 5)
    if name == "how-it-works":
        said = present(re.search(r"print\(.*\)  # (\[.*\])", code))[1]
        assert capsys.readouterr().out.strip() == said
        rest = said.strip("[]").partition(", ")[2]
        assert f"falls to {rest}, ..." in " ".join(text.split())
    if name == "saving":
        assert capsys.readouterr().out.startswith("1 ")
        exec(code, {"__name__": "page"})  # goes on, and there is nothing left
        assert capsys.readouterr().out == ""


# what the examples of a page take for granted, and how many of them there are
BEFORE = """
import torch
import lapilli
from lapilli import export, loss, slayer
neuron = dict(threshold=1.25, current_decay=0.25, voltage_decay=0.03)
net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 34, 5))
spikes = x = (torch.rand(8, 34, 20) < 0.2).float()
labels = torch.arange(8) % 5
rates = loss.SpikeRate(0.2, 0.03)
frames = x.unbind(-1)
frames = [frame.unsqueeze(-1) for frame in frames]
net(x)
net.eval()
export.save(net, "a.net")
"""
EXAMPLES = {
    "surrogates": 2, "rates": 2, "events": 1, "gradients": 1, "no-start": 3, "overflow": 2,
    "network-files": 2, "gpu": 2, "pytorch": 6,
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_page_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / f"docs/{name}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) == EXAMPLES[name]
    if name == "gpu":
        assert "cuda" in blocks.pop(0)  # the one that asks for a GPU
    if name == "pytorch":
        assert "weight_nrm" in blocks.pop()  # the one with a mistake that type checkers find
    before = dict(SURROGATES)
    script = tmp_path / "page.py"  # a file, as the source of a surrogate is read
    script.write_text("\n".join([BEFORE, *blocks]), encoding="utf-8")
    try:
        found = runpy.run_path(str(script))
    finally:
        SURROGATES.clear()
        SURROGATES.update(before)
    if name == "overflow":
        assert found["block"].neuron.overflows == 0
        assert capsys.readouterr().out == "0\n"
    if name == "surrogates":
        assert found["block"].neuron.surrogate == "gaussian"


def test_tables_that_adding_a_neuron_names_exist():
    document = ROOT / "docs" / "adding-a-neuron.md"
    rows = re.findall(r"^\| `(\w+)` of .*$", document.read_text(), flags=re.M)
    for line in document.read_text().splitlines():
        found = re.match(r"\| `(\w+)` of ", line)
        name = found[1] if found else ""
        for path in re.findall(r"\]\(([^)]+)\)", line) if name else ():
            source = (document.parent / path).read_text()
            assert re.search(rf"^{name}\b", source, flags=re.M), f"{path} has no {name}"
    assert len(rows) == 2
