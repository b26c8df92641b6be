"""The page on GPUs states what the stored results say."""

import re
from pathlib import Path

from bench import report
from lapilli.benchmark.results import read

README = Path(__file__).parents[2] / "README.md"
PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"


def test_the_page_has_the_figures_of_the_results():
    lines = PAGE.read_text().splitlines()
    document = read(report.BENCH / "results" / "h100-first.json")
    for name, row in document["cases"].items():
        found = [line for line in lines if line.startswith(f"| {name} |")]
        (cells,) = [line.strip("| ").split("|")[1:] for line in found]
        for cell, key in zip(cells, ("forward_us", "training_us"), strict=True):
            assert (float(cell) if cell.strip() else None) == row.get(key)
    table = [line for line in lines if re.match(r"\| [a-zA-Z].*\|", line) and line.count("|") == 4]
    assert len(table) == len(document["cases"])


def test_the_page_has_the_remarks():
    text = " ".join(PAGE.read_text().split())
    document = read(report.BENCH / "results" / "h100-first.json")
    for name, figure in document["remarks"].items():
        assert figure in text, name


def test_readme_has_the_figures_of_cuba():
    row = read(report.BENCH / "results" / "h100-first.json")["cases"]["cuba, 32x512x300"]
    words = f"takes {row['forward_us']} us and a step of training {row['training_us']} us"
    assert words in " ".join(README.read_text().split())


def test_the_shares_of_a_copy_are_those_of_the_results():
    document = read(report.BENCH / "results" / "h100-first.json")
    copy = 8 * 13107200 / document["copy_us"]["13107200 float32"]
    moved = {"sigma": (8, 16), "cuba": (8, 24), "adrf": (12, 40)}  # bytes a neuron-step
    shares = [
        each * steps / row[key] / copy
        for name, row in document["cases"].items()
        for shape, steps in (("8x16384x100", 13107200), ("32x16384x40", 20971520))
        if name.endswith(f" {shape}")
        for key, each in zip(
            ("forward_us", "training_us"), moved[name.partition(",")[0]], strict=True
        )
    ]
    words = f"{min(shares) * 100:.0f} to {max(shares) * 100:.0f} % of"
    for page in (README, PAGE):
        assert words in " ".join(page.read_text().split())
