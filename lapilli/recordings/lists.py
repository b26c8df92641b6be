"""Which recordings there are, of which classes, and which of them are held out.

A group, a person or a session for instance, is never split between training and test samples.
"""

import csv
import dataclasses
import os
import random
from dataclasses import dataclass
from pathlib import Path

from lapilli.data import SPLIT_SEED

from .errors import RecordingError
from .formats import FORMATS

__all__ = ["File", "divide", "find"]

_SPLITS = ("train", "test")


@dataclass(frozen=True)
class File:
    """A recording: where, of which class and group, and its part where that is given.

    Examples
    --------
    >>> from pathlib import Path
    >>> from lapilli.recordings.own import File
    >>> File(Path("a/anna/1.npy"), label="a", group="anna").group
    'anna'
    """

    path: Path
    label: str
    group: str
    split: str | None = None


def find(root: str | os.PathLike[str]) -> list[File]:
    """List the recordings of a folder or a table, in a fixed order.

    Raises
    ------
    RecordingError
        If there are none, or the table is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> for name in ("left", "right"):
    ...     for k in range(5):
    ...         path = Path("recordings") / name / f"{k}.npy"
    ...         path.parent.mkdir(parents=True, exist_ok=True)
    ...         np.save(path, [[k, 0, 1, 0], [3, 2, 0, 90_000]])  # rows x, y, polarity, us
    >>> from lapilli.recordings.own import find
    >>> files = find("recordings")
    >>> len(files), files[0].label
    (10, 'left')
    """
    root = Path(root)
    files = _of_table(root) if root.suffix.lower() == ".csv" else _of_folder(root)
    labels = {file.label for file in files}
    if len(labels) < 2:
        raise RecordingError(
            f"there are {len(files)} recordings of {len(labels)} classes in {str(root)!r}; "
            f"expected a folder for each of two or more classes, with files {', '.join(FORMATS)}"
        )
    return files


def _of_folder(root: Path) -> list[File]:
    parts = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
    if set(parts) == set(_SPLITS):
        return [
            dataclasses.replace(file, split=split, group=f"{split}/{file.group}")
            for split in _SPLITS
            for file in _of_classes(parts[split])
        ]
    return _of_classes(root)


def _of_classes(root: Path) -> list[File]:
    found = []
    for path in sorted(root.rglob("*")):
        where = path.relative_to(root).parts
        if len(where) < 2 or path.suffix.lower() not in FORMATS or path.name.startswith("."):
            continue
        # files right in the folder of a class belong to no group but their own
        group = "/".join(where[1:-1]) or "/".join(where)
        found.append(File(path, where[0], group))
    return found


def _of_table(table: Path) -> list[File]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{table} is no table of text ({error})") from None
    if not rows:
        raise RecordingError(
            f"{table} lists no recordings; expected a first line with the columns file and label, "
            "and a line for each recording"
        )
    found = []
    for line, row in enumerate(rows, 2):
        path, label = (row.get("file") or "").strip(), (row.get("label") or "").strip()
        split = (row.get("split") or "").strip().lower() or None
        if not path or not label:
            raise RecordingError(
                f"{table}, line {line}: expected columns file and label, and something in them; "
                f"the columns are {', '.join(map(str, row))}"
            )
        if split not in (None, *_SPLITS):
            raise RecordingError(
                f"{table}, line {line}: split is {split!r}; expected train or test"
            )
        where = table.parent / path
        if not where.is_file():
            raise RecordingError(f"{table}, line {line}: there is no file {str(where)!r}")
        found.append(File(where, label, (row.get("group") or "").strip() or path, split))
    given = {file.split is None for file in found}
    if len(given) > 1:
        raise RecordingError(
            f"{table}: some lines have a split and others none; expected all or none"
        )
    return found


def divide(files: list[File], share: float) -> tuple[list[File], list[File]]:
    """Hold out a share of the recordings, always the same one; groups stay together.

    Where each recording is a group of its own, each class gives its share.

    Raises
    ------
    RecordingError
        If a class would have no recording to train with, or none to test.

    Examples
    --------
    >>> from pathlib import Path
    >>> from lapilli.recordings.own import File, divide
    >>> files = [File(Path(f"{k}.npy"), "ab"[k % 2], str(k)) for k in range(10)]
    >>> train, test = divide(files, share=0.2)
    >>> len(train), len(test)
    (8, 2)
    """
    if files[0].split is not None:
        parts = tuple([file for file in files if file.split == split] for split in _SPLITS)
    else:
        held: set[str] = set()
        draw = random.Random(SPLIT_SEED)
        alone = len({file.group for file in files}) == len(files)
        labels = sorted({file.label for file in files}) if alone else [None]
        for label in labels:
            mine = [file for file in files if label in (None, file.label)]
            groups = sorted({file.group for file in mine})
            draw.shuffle(groups)
            count = 0
            for group in groups[:-1]:
                if count >= share * len(mine):
                    break
                held.add(group)
                count += sum(file.group == group for file in mine)
        parts = tuple(
            [file for file in files if (file.group in held) == out] for out in (False, True)
        )
    for name, part in zip(("training", "test"), parts, strict=True):
        lacking = {file.label for file in files} - {file.label for file in part}
        if lacking:
            raise RecordingError(
                f"class {sorted(lacking)[0]!r} has no {name} recording; give more recordings or "
                "groups, or the split: folders train and test, or a column split"
            )
    return parts[0], parts[1]
