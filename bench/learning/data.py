"""Recorded data that come with packages, and how they become spikes. Nothing is downloaded.

    digits   scikit-learn: 1,797 handwritten digits of 8 x 8 grey levels, 10 classes
    vowels   sktime: Japanese vowels, 640 utterances of 9 speakers, 12 coefficients of a linear
             prediction a frame, 7 to 29 frames (UCI; Kudo, Toyama and Shimbo 1999)
    motion   sktime: BasicMotions, 80 recordings of a smart watch, 3 axes of acceleration and 3 of
             rotation, 100 samples at 10 Hz (timeseriesclassification.com)

The last two are read as text from the folder of the package, which is not imported.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lapilli import encode
from lapilli.data import SPLIT_SEED, series
from lapilli.extras import require

DIGIT_STEPS = 24
STEPS_A_FRAME = 2  # of the vowels
REACH = 2.0  # standard deviations that become the highest rate
WINDOW = 8  # samples of a motion from which the next is foretold


@dataclass(frozen=True)
class Task:
    """Inputs and targets, to train and to test.

    Attributes
    ----------
    train, test
        Inputs by encoding: ``spikes`` of 0 and 1, ``values`` as they were recorded, ``carrier``, an
        oscillation whose amplitude they are. Each ``[N, channels, T]`` float32.
    train_targets, test_targets
        Classes ``[N]`` int64, or the signal ``[N, channels, T]`` that is to come out.
    chance
        Share of the test samples in the most frequent class; 0 for signals.
    """

    train: dict[str, Tensor]
    test: dict[str, Tensor]
    train_targets: Tensor
    test_targets: Tensor
    chance: float


def _classes(parts: list[dict[str, Tensor]], train: Tensor, test: Tensor) -> Task:
    chance = float(test.bincount().max()) / len(test)
    return Task(parts[0], parts[1], train, test, chance)


def digits(period: int) -> Task:
    """Return the digits, a fifth of them held out: a constant picture in each form."""
    datasets = require("sklearn.datasets", "scikit-learn")
    selection = require("sklearn.model_selection", "scikit-learn")
    images, labels = datasets.load_digits(return_X_y=True)
    parts = selection.train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=SPLIT_SEED
    )
    train, test, train_labels, test_labels = map(torch.from_numpy, parts)
    wave = torch.cos(2 * math.pi * torch.arange(DIGIT_STEPS) / period)

    def forms(images: Tensor) -> dict[str, Tensor]:
        grey = (images / 16).float()
        return {
            "spikes": encode.rate(grey, DIGIT_STEPS, max_rate=0.5),
            "values": grey.unsqueeze(-1).expand(-1, -1, DIGIT_STEPS),
            "carrier": grey.unsqueeze(-1) * wave,
        }

    return _classes([forms(train), forms(test)], train_labels.long(), test_labels.long())


def vowels() -> Task:
    """Return the vowels, in the parts that the archive gives."""
    parts = [series("JapaneseVowels", part) for part in ("TRAIN", "TEST")]
    values = np.concatenate(parts[0][0], axis=1)  # of the training part, without padding
    mean, deviation = values.mean(1, keepdims=True), values.std(1, keepdims=True)
    frames = max(s.shape[1] for recorded, _ in parts for s in recorded)

    def forms(recordings: list[np.ndarray]) -> dict[str, Tensor]:
        signal = torch.zeros(len(recordings), 12, frames)
        for k, recorded in enumerate(recordings):
            signal[k, :, : recorded.shape[1]] = torch.from_numpy((recorded - mean) / deviation)
        held = signal.repeat_interleave(STEPS_A_FRAME, -1)
        return {"spikes": rate_of(held / REACH), "values": signal}

    targets = [torch.tensor([int(label) - 1 for label in labels]) for _, labels in parts]
    return _classes([forms(recordings) for recordings, _ in parts], *targets)


def motion() -> Task:
    """Return windows of motion and the sample after each."""
    train, test = (np.stack(series("BasicMotions", p)[0]) for p in ("TRAIN", "TEST"))
    mean, deviation = train.mean((0, 2), keepdims=True), train.std((0, 2), keepdims=True)
    signals = [torch.from_numpy((part - mean) / deviation).float() for part in (train, test)]
    inputs = [
        {"values": s.unfold(-1, WINDOW, 1)[:, :, :-1].transpose(2, 3).flatten(1, 2)}
        for s in signals
    ]
    train_targets, test_targets = (s[..., WINDOW:] for s in signals)
    return Task(inputs[0], inputs[1], train_targets, test_targets, chance=0.0)


def rate_of(signal: Tensor) -> Tensor:
    """Turn a signal into the spikes of two channels each, for what is above zero and below.

    A channel adds up its part of the signal, 0..1 a step, and spikes whenever that passes a whole
    number.

    Parameters
    ----------
    signal
        ``[N, channels, T]``; beyond -1 and 1 it is cut.

    Returns
    -------
    Tensor
        ``[N, 2 * channels, T]`` of 0 and 1.
    """
    parts = torch.cat([signal.clamp(0, 1), (-signal).clamp(0, 1)], 1)
    due = parts.double().cumsum(-1).floor()
    return due.diff(dim=-1, prepend=torch.zeros_like(due[..., :1])).float()


TASKS: dict[str, Callable[..., Task]] = {"digits": digits, "vowels": vowels, "motion": motion}
