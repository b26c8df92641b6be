"""Losses on how often each output spikes, one output a class."""

import math
from typing import Literal, get_args

import torch
from lapilli.neurons.errors import finite, number
from torch import Tensor

from lapilli.classifier import can_be_read

from .base import ClassLoss, Reduction, fitting

MaxMode = Literal["probability", "softmax", "logsoftmax"]

_LEAST_PROBABILITY = 1e-6  # of a labelled class that is silent; -log of it is 13.8


class SpikeRate(ClassLoss):
    """Squared distance of the spike rates from a high rate for the true class, else a low one.

    Parameters
    ----------
    true_rate, false_rate
        Desired rate of the labelled class and of the others, spikes a step, 0..1.
    moving_window
        Steps over which the rate is taken, at every step; None: one rate for the whole sequence.
    reduction
        ``sum`` over samples, classes (and steps), ``mean``, or ``none``: all terms, flat.

    Raises
    ------
    AssertionError
        If a rate is not in 0..1.
    ValueError
        If the reduction is unknown.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss
    >>> spikes = torch.tensor([[[0.0, 1, 0, 1], [0, 0, 1, 0]]])  # one sample, 2 classes, 4 steps
    >>> label = torch.tensor([0])
    >>> loss.SpikeRate(true_rate=0.5, false_rate=0)(spikes, label)  # rates are 0.5 and 0.25
    tensor(0.0625)
    """

    def __init__(
        self,
        true_rate: float,
        false_rate: float,
        moving_window: int | None = None,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(moving_window, reduction)
        for name, rate in (("true_rate", true_rate), ("false_rate", false_rate)):
            if not 0 <= number(name, rate) <= 1:
                raise AssertionError(f"{name} is {rate}; expected a rate in 0..1 spikes a step")
        self.true_rate = true_rate
        self.false_rate = false_rate

    def forward(self, input: Tensor, label: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Loss of spikes against labels.

        Parameters
        ----------
        input
            Spikes, ``[N, classes..., T]``; several class axes are flattened.
        label
            Class indices of any integer type: ``[N]``, with a window also ``[N, T]``. Axes of
            size 1 do not count: ``[N, 1]`` is ``[N]``.
        lengths
            Steps of each sample that count, ``[N]`` integers in 1..T; what comes later is left out.
            None: all steps.

        Returns
        -------
        Tensor
            A scalar; for ``reduction="none"`` ``[N * K]``, with a window ``[N * K * T]``.

        Raises
        ------
        ValueError
            If shapes or lengths do not fit, or a label is not in 0..K-1.
        """
        with torch.autocast(input.device.type, enabled=False):
            rates = self._rates(input, lengths)
            desired = torch.full_like(rates, self.false_rate)
            desired.scatter_(1, self._label_index(rates, label), self.true_rate)
            return self._reduce((rates - desired).square(), lengths)


class SpikeMax(ClassLoss):
    """Negative log-likelihood of the labelled class.

    Parameters
    ----------
    moving_window
        Steps over which the rate is taken, at every step; None: one rate for the whole sequence.
    mode
        ``probability``: share of the class in the sum of the rates; ``softmax`` of the rates, also
        called ``logsoftmax``. A share below 1e-6 counts as 1e-6 and gives no gradient.
    reduction
        ``sum`` over samples (and steps), ``mean``, or ``none``: all terms, flat.

    Raises
    ------
    ValueError
        If mode or reduction is unknown.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss
    >>> spikes = torch.tensor([[[0.0, 1, 0, 1], [0, 0, 1, 0]]])  # one sample, 2 classes, 4 steps
    >>> label = torch.tensor([0])
    >>> loss.SpikeMax()(spikes, label)  # two of the three spikes are of the class: -log(2 / 3)
    tensor(0.4055)
    """

    def __init__(
        self,
        moving_window: int | None = None,
        mode: MaxMode = "probability",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(moving_window, reduction)
        if mode not in get_args(MaxMode):
            raise ValueError(f"mode is {mode!r}; expected one of {', '.join(get_args(MaxMode))}")
        self.mode = mode

    def forward(self, input: Tensor, label: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Loss of spikes against labels.

        Parameters
        ----------
        input
            Spikes, ``[N, classes..., T]``; several class axes are flattened.
        label
            Class indices of any integer type: ``[N]``, with a window also ``[N, T]``. Axes of
            size 1 do not count: ``[N, 1]`` is ``[N]``.
        lengths
            Steps of each sample that count, ``[N]`` integers in 1..T; what comes later is left out.
            None: all steps.

        Returns
        -------
        Tensor
            A scalar; for ``reduction="none"`` ``[N]``, with a window ``[N * T]``.

        Raises
        ------
        ValueError
            If shapes or lengths do not fit, or a label is not in 0..K-1.
        """
        with torch.autocast(input.device.type, enabled=False):
            rates = self._rates(input, lengths)
            index = self._label_index(rates, label)
            if self.mode == "probability":
                share = rates.gather(1, index) / (rates.sum(1, keepdim=True) + 1e-6)
                log_p = share.clamp(min=_LEAST_PROBABILITY).log()
            else:
                log_p = rates.log_softmax(1).gather(1, index)
            return self._reduce(-log_p, lengths)


class SpikeMoid(ClassLoss):
    """Binary cross-entropy of each class, for samples that may have several.

    Parameters
    ----------
    moving_window
        Steps over which the rate is taken, at every step; None: one rate for the whole sequence.
    reduction
        ``sum`` over samples, classes (and steps), ``mean``, or ``none``: all terms, flat.
    alpha
        Width of the sigmoid, spikes a step; not 0.
    theta
        Rate of probability 1/2, spikes a step.

    Raises
    ------
    ValueError
        If the reduction is unknown, or ``alpha`` 0.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss
    >>> spikes = torch.tensor([[[0.0, 1, 0, 1], [0, 0, 1, 0]]])  # one sample, 2 classes, 4 steps
    >>> label = torch.tensor([0])
    >>> loss.SpikeMoid(alpha=0.1, theta=0.4)(spikes, torch.tensor([[1.0, 0.0]])) < 0.6
    tensor(True)
    """

    def __init__(
        self,
        moving_window: int | None = None,
        reduction: Reduction = "sum",
        alpha: float = 1,
        theta: float = 0,
    ) -> None:
        super().__init__(moving_window, reduction)
        finite("theta", theta)
        if finite("alpha", alpha) == 0:
            raise ValueError("alpha is 0; expected the width of the sigmoid in spikes a step")
        self.alpha = alpha
        self.theta = theta

    def forward(self, input: Tensor, label: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Loss of spikes against the probabilities of the classes.

        Parameters
        ----------
        input
            Spikes, ``[N, classes..., T]``; several class axes are flattened.
        label
            Desired probabilities, 0..1, of any type: ``[N, K]``, with a window also ``[N, K, T]``.
            Classes may be arranged as those of ``input``, or flat with the batch; axes of size 1 do
            not count: ``[N]`` fits one class.
        lengths
            Steps of each sample that count, ``[N]`` integers in 1..T; what comes later is left out.
            None: all steps.

        Returns
        -------
        Tensor
            A scalar; for ``reduction="none"`` ``[N * K]``, with a window ``[N * K * T]``. Where a
            sigmoid saturates, there is no gradient.

        Raises
        ------
        ValueError
            If shapes or lengths do not fit, or a probability is not in 0..1.
        """
        with torch.autocast(input.device.type, enabled=False):
            rates = self._rates(input, lengths)
            desired = self._probabilities(rates, label, tuple(input.shape))
            probability = torch.sigmoid((rates - self.theta) / self.alpha)
            # not the form on logits, which has a gradient where the sigmoid saturates
            return self._reduce(
                torch.nn.functional.binary_cross_entropy(probability, desired, reduction="none"),
                lengths,
            )

    def _probabilities(self, rates: Tensor, label: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Labels in the shape of ``rates``; those without time are held.

        ``shape`` is that of the spikes, whose classes may have several axes.
        """
        held, full = tuple(rates.shape[:2]), tuple(rates.shape)
        kinds = {held: held, shape[:-1]: held, (math.prod(held),): held}
        if self.window is not None:
            kinds |= {full: full, shape: full}
        found = fitting(label, *kinds)
        if found is None:
            expected = " or ".join(map(str, dict.fromkeys((held, full))))
            raise ValueError(f"label must have shape {expected}; got {tuple(label.shape)}")
        label = label.reshape(kinds[found])
        label = label.to(rates.dtype)
        if torch.compiler.is_compiling():
            inside = ((label >= 0) & (label <= 1)).all()
            torch._assert_async(  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
                inside, "labels must be probabilities, 0..1"
            )
        elif can_be_read(label):
            low, high = (float(v) for v in label.aminmax())
            if not (low >= 0 and high <= 1):
                raise ValueError(f"labels are {low:g}..{high:g}; expected probabilities, 0..1")
        return label if label.ndim == rates.ndim else label.unsqueeze(-1).expand_as(rates)
