"""What a run of ``lapilli train`` writes after each epoch, to go on after an interruption."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lapilli.export.file.files import replacing

from lapilli.activity import LayerActivity
from lapilli.errors import UsageError, in_plain_words
from lapilli.training import Epoch

CHECKPOINT, HISTORY = "checkpoint.pt", "history.csv"
_COLUMNS = ("number", "loss", "train_accuracy", "test_accuracy", "seconds")


def write(folder: Path, content: dict[str, Any], history: Sequence[Epoch]) -> None:
    """Write the checkpoint and the table of epochs; a kill leaves the last complete ones."""
    with replacing(folder / CHECKPOINT) as temporary:
        torch.save({**content, "history": [asdict(epoch) for epoch in history]}, temporary)
    write_history(folder, history)


def write_history(folder: Path, history: Sequence[Epoch]) -> None:
    """Write the epochs as a table of numbers, one line each."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("epoch", *_COLUMNS[1:]))
    table.writerows([getattr(epoch, name) for name in _COLUMNS] for epoch in history)
    with replacing(folder / HISTORY) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """Read the checkpoint of a folder, its history as epochs.

    Raises
    ------
    UsageError
        If there is none, or it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise UsageError(
            f"there is no {CHECKPOINT} in {str(folder)!r} to go on from; a run that has finished "
            "leaves none"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        epochs = [
            Epoch(**{**e, "layers": tuple(LayerActivity(**layer) for layer in e["layers"])})
            for e in content["history"]
        ]
    except Exception as error:  # torch raises many kinds
        reason = in_plain_words(error)[:120]
        if path.stat().st_size == 0:
            reason = "it is empty"
        elif isinstance(error, KeyError):
            reason = f"it has no {error}, so it is no checkpoint of lapilli train"
        raise UsageError(
            f"{path} cannot be read: {reason}. Nothing can go on from it: start a new run without "
            "--resume"
        ) from None
    return {**content, "history": epochs}


def same_settings(asked: dict[str, Any], kept: dict[str, Any]) -> None:
    """Raise where a setting that was asked for is not that of the run.

    Raises
    ------
    UsageError
        With the first that differs.
    """
    for name, value in asked.items():
        if value is not None and value != kept.get(name):
            raise UsageError(
                f"the run to go on with has {name} {kept.get(name)}, not {value}; leave it out, or "
                "start a new run without --resume"
            )
