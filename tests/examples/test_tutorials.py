"""Tutorials become pages with their output; ``make docs`` runs all of them."""

import json
from pathlib import Path

import pytest
import tutorials

from lapilli.data import series
from lapilli.extras import MissingExtraError

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(tutorials.SCRIPTS.glob("*.py"))

SMALL = '''"""Counting.

How to *count*.
"""

import pathlib

n = 1

# %%
# ## Up
#
# One more:

n += 1
print("n is", n)

# %%
# Draw.
pathlib.Path("a.png").write_bytes(b"")
pathlib.Path("films").mkdir()
'''


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(tutorials, "ROOT", tmp_path)
    script = tmp_path / "1_small.py"
    script.write_text(SMALL)
    return script


def test_a_script_is_taken_apart(small):
    found = tutorials.read(small)
    assert (found.title, found.introduction) == ("Counting", "How to *count*.")
    assert [text for text, _ in found.cells] == ["", "## Up\n\nOne more:", "Draw."]
    for _, code in found.cells:  # errors name the line of the file
        for number, line in enumerate(code.split("\n")):
            assert not line or line == SMALL.split("\n")[number]


def test_the_page_has_what_was_printed_and_drawn(small, tmp_path):
    page = tutorials.make(small, tmp_path / "pages").read_text()
    start = "# Counting\n\nHow to *count*.\n\n```python\nimport pathlib\n\nn = 1\n```"
    assert page.startswith(start)
    assert "One more:\n\n```python\nn += 1" in page
    assert "n is 2\n```" in page
    assert "![a.png](1_small/a.png)" in page
    assert page.index("n is 2") < page.index("Draw.") < page.index("a.png]")


def test_it_runs_again_when_it_changes(small, tmp_path):
    first = tutorials.make(small, tmp_path / "pages")
    made = (tmp_path / "pages/1_small/key").stat().st_mtime_ns
    tutorials.make(small, tmp_path / "pages")
    assert (tmp_path / "pages/1_small/key").stat().st_mtime_ns == made
    small.write_text(SMALL.replace("n = 1", "n = 5"))
    assert "n is 6" in tutorials.make(small, tmp_path / "pages").read_text()
    assert first.exists()


def test_a_script_that_fails_names_its_line(small, tmp_path):
    small.write_text(SMALL.replace('print("n is", n)', "assert n == 3"))
    line = SMALL.split("\n").index('print("n is", n)') + 1
    with pytest.raises(RuntimeError, match=f"1_small.py failed:(.|\n)*line {line}, (.|\n)*Assert"):
        tutorials.make(small, tmp_path / "pages")


def test_a_package_that_is_not_here_is_said_on_the_page(small, tmp_path):
    need = 'from lapilli.extras import require\nrequire("no_such_module", "such-a-package")\n'
    small.write_text(SMALL.replace("import pathlib\n", f"import pathlib\n{need}"))
    made = tutorials.make(small, tmp_path / "pages")
    said = "without running its script**: such-a-package is not installed; get it with: pip install"
    assert said in made.read_text()
    assert "n is 2" not in made.read_text()
    small.write_text(SMALL)
    assert "n is 2" in tutorials.make(small, tmp_path / "pages").read_text()


@pytest.mark.slow
def test_the_vowels_run_where_their_data_are(tmp_path):
    try:
        series("JapaneseVowels", "TEST")
    except MissingExtraError as error:
        pytest.skip(str(error))
    page = tutorials.make(next(s for s in SCRIPTS if s.stem == "12_vowels"), tmp_path).read_text()
    assert "![vowels.png]" in page
    assert "logistic regression: test 98" in page


def test_a_script_without_a_title(small):
    small.write_text("n = 1\n")
    with pytest.raises(ValueError, match="has no docstring"):
        tutorials.read(small)


def test_all_are_in_the_readme():
    readme = (tutorials.SCRIPTS.parent / "README.md").read_text()
    assert len(SCRIPTS) >= 12
    for script in SCRIPTS:
        assert f"[{script.name}](tutorials/{script.name})" in readme


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    SCRIPTS[:2],
    ids=lambda script: script.stem,
)
def test_the_first_ones_run(script, tmp_path):
    tutorials.make(script, tmp_path)
    found = [json.dumps(path.name) for path in (tmp_path / script.stem).glob("*.png")]
    assert len(found) >= 2
