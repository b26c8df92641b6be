"""The READMEs state what the stored results say."""

from pathlib import Path

from bench import peers, report
from lapilli.benchmark import results

README = Path(__file__).parents[2] / "README.md"


def stored(name):
    return results.read(report.BENCH / "results" / name)


def test_readme_has_the_figures_of_the_results():
    text, stored_of = README.read_text(), report.processors()
    assert "\n".join(report.summary(stored_of)) in text
    assert report.processors_sentence(stored_of) in " ".join(text.split())


def test_each_processor_has_results_of_its_own():
    for name, document in report.processors().items():
        assert name.split()[0] in document["machine"]["processor"]


def test_readme_has_the_figures_of_a_step_and_of_the_demo():
    text = " ".join(README.read_text().split())
    assert report.step_sentence(report.processors()) in text
    assert report.demo_sentence(stored("demo-cpu.json")) in text


def test_readme_has_the_figures_of_lava_dl():
    text = " ".join(README.read_text().split())
    assert peers.sentence(report.processors("peers-")) in text


def test_readme_of_the_benchmarks_has_the_other_libraries():
    text = (report.BENCH / "README.md").read_text()
    every, complete = list(map(str, peers.cases())), 0
    for document in report.processors("peers-").values():
        rows = document["cases"]
        # a processor that was measured earlier lacks what was added since
        assert list(rows) == [case for case in every if case in rows]
        complete += list(rows) == every
        assert "\n".join(peers.summary(rows)) in text
    assert complete
    assert "\n".join(peers.differences()) in text
    rows = stored("peers-cpu.json")["cases"]
    activity = rows["lava-dl-MLP 2312-512-512-10 at 0.6%-training"]["activity"]
    assert f"spike at {activity[1]:.1%} and {activity[2]:.1%}" in " ".join(text.split())
