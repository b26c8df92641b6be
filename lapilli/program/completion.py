"""Completion of the command line by the shell: a script for bash or zsh, made by shtab."""

import argparse
from pathlib import Path
from typing import Any

from lapilli.extras import require

from .arguments import DATASETS, SHELLS, parser

_WORDS = " ".join(DATASETS)
# functions of the scripts that complete DATASET: a name, a folder or a table
_NAMES = {
    "bash": f"""_lapilli_dataset() {{
  compgen -W "{_WORDS}" -- "$1"
  _shtab_compgen_files "$1"
}}""",
    "zsh": f"""_lapilli_dataset() {{
  _alternative "names:data set:({_WORDS})" "files:recordings:_files"
}}""",
}


def script(shell: str) -> str:
    """Return the completion script for a shell.

    Parameters
    ----------
    shell
        ``bash`` or ``zsh``.

    Raises
    ------
    MissingExtraError
        If shtab is not installed.
    """
    shtab = require("shtab", "shtab", extra="completion")
    root = parser()
    _mark_paths(root, shtab)
    return shtab.complete(root, shell=shell, preamble=_NAMES)


def _mark_paths(root: argparse.ArgumentParser, shtab: Any) -> None:
    """Say which arguments are files and which are folders."""
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_paths(command, shtab)
        elif action.dest == "dataset":
            vars(action)["complete"] = dict.fromkeys(SHELLS, "_lapilli_dataset")
        elif action.type is Path:
            folder = action.metavar == "FOLDER"
            vars(action)["complete"] = shtab.DIRECTORY if folder else shtab.FILE
