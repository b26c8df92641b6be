"""The shell completes commands, options, data sets and files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lapilli.program.arguments import DATASETS, SHELLS
from lapilli.program.cli import main
from lapilli.program.recipes import RECIPES


def test_data_sets_are_those_of_the_recipes():
    assert set(DATASETS) == set(RECIPES)


def test_without_shtab(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install shtab (or in a clone" in err
    assert "'.[completion]'" in err


def test_of_another_shell(capsys):
    assert main(["completion", "fish"]) == 2
    assert "fish" in capsys.readouterr().err


@pytest.fixture
def scripts(tmp_path, monkeypatch, capsys):
    pytest.importorskip("shtab", reason="completion needs shtab: pip install shtab")
    monkeypatch.chdir(tmp_path)
    Path("recordings").mkdir()
    Path("a.net").write_text("")
    made = {}
    for shell in SHELLS:
        assert main(["completion", shell]) == 0
        made[shell] = capsys.readouterr().out
    return made


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", {"train", "check", "run", "inspect", "info", "completion"}),
        ("in", {"inspect", "info"}),
        ("train ", {"digits", "shd", "recordings", "a.net"}),
        ("train di", {"digits"}),
        ("train digits --pat", {"--patience"}),
        ("train digits --resume rec", {"recordings"}),
        ("train digits --resume a", set()),
        ("check a", {"a.net"}),
        ("bench ", {"show"}),
        ("completion ", {"bash", "zsh"}),
    ],
)
def test_bash_offers(scripts, typed, offered):
    words = ["lapilli", *typed.split(" ")]
    script = f"""{scripts["bash"]}
COMP_WORDS=({" ".join(word or "''" for word in words)})
COMP_CWORD={len(words) - 1}
_shtab_lapilli
printf "%s\\n" "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    found = set(done.stdout.split())
    assert offered <= found, done.stderr
    assert len(found) < 3 or len(offered) > 1
    if not offered:
        assert not found


def test_zsh_gets_its_own_script(scripts):
    assert scripts["zsh"].startswith("#compdef lapilli")
    assert '_alternative "names:data set:(digits nmnist shd dvsgesture)"' in scripts["zsh"]
