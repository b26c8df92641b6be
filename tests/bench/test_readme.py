"""The README states what the stored results say."""

from pathlib import Path

from bench import report

README = Path(__file__).parents[2] / "README.md"


def test_readme_has_the_figures_of_the_results():
    results = report.read(report.BENCH / "results" / "cpu.json")
    assert "\n".join(report.summary(results)) in README.read_text()
