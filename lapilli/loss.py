"""Losses on the spikes of the output layer, and on the activity of any layer.

    r = mean of s over time, or over the last steps (moving_window)
    SpikeTime         L = sum (h * s - h * s^)^2,   h[k] = binomial(k+m-1, m-1) exp(-k / tau)
    SpikeRate         L = sum (r - r^)^2,   r^ = true_rate for the labelled class, else false_rate
    SpikeMax          L = -sum log p,       p = r / sum of r, or softmax of r, of the labelled class
    SpikeMoid         L = sum BCE(p, y),    p = sigmoid((r - theta) / alpha)
    SparsityEnforcer  L = lam sum max(mean |s| - max_rate, 0)^2

Source: lava-dl loss.py.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from .classifier import INTEGERS, MovingWindow, can_be_read, flat_classes, whole_rate, within
from .filter import FIR, conv, fast_conv, real

Reduction = Literal["sum", "mean", "none"]
MaxMode = Literal["probability", "softmax", "logsoftmax"]

_LEAST_PROBABILITY = 1e-6  # of a labelled class that is silent; -log of it is 13.8


def _fitting(label: Tensor, *shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the first of the shapes that ``label`` has but for axes of size 1; None without."""
    own = [size for size in label.shape if size != 1]
    return next((shape for shape in shapes if own == [n for n in shape if n != 1]), None)


class _Loss(torch.nn.Module):
    """What the losses share: the reduction."""

    def __init__(self, reduction: Reduction) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise ValueError(
                f"reduction is {reduction!r}; expected one of {', '.join(get_args(Reduction))}"
            )
        self.reduction = reduction

    def _reduce(self, terms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Reduce terms; with ``lengths`` those ``[N, ..., T]`` within the samples."""
        if lengths is not None:
            terms = within(terms, lengths)
        if self.reduction == "none":
            return terms.flatten()
        if self.reduction == "sum":
            return terms.sum()
        if lengths is None:
            return terms.mean()
        steps = lengths.sum().to(terms.device)
        return terms.sum() / (steps * math.prod(terms.shape[1:-1]))


class SpikeTime(_Loss):
    """Distance of van Rossum: squared difference of the filtered spikes from filtered targets.

    Parameters
    ----------
    time_constant
        Decay of the filter's exponential, in steps.
    length
        Number of steps of the filter.
    filter_order
        How many exponentials are chained, at least 1; from 2 on the filter rises before it decays.
    reduction
        ``sum`` over everything, ``mean``, or ``none``: all terms, flat.

    Attributes
    ----------
    filter : FIR
        The filter, for use on its own.

    Raises
    ------
    ValueError
        If the reduction is unknown, or the order below 1.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss
    >>> desired = torch.tensor([[[0.0, 0, 1, 0]]])
    >>> early = torch.tensor([[[0.0, 1, 0, 0]]])
    >>> distance = loss.SpikeTime(time_constant=2)
    >>> distance(desired, desired), distance(early, desired) > 0
    (tensor(0.), tensor(True))
    """

    def __init__(
        self,
        time_constant: float = 5,
        length: int = 100,
        filter_order: int = 1,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(reduction)
        if filter_order < 1:
            raise ValueError(f"filter_order is {filter_order}; expected at least 1")
        self.filter = FIR(time_constant=time_constant, length=length)
        once = self.filter.filter
        for _ in range(filter_order - 1):
            self.filter.filter = conv(self.filter.filter, once)

    def forward(self, input: Tensor, desired: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Loss of spikes against target spikes.

        Parameters
        ----------
        input, desired
            Spikes, ``[..., T]`` of one shape; both are differentiable. Neurons may be arranged
            differently: ``[N, C, T]`` fits ``[N, C, 1, 1, T]``.
        lengths
            Steps of each sample that count, ``[N]`` integers in 1..T; what comes later is left out.
            None: all steps.

        Returns
        -------
        Tensor
            A scalar; for ``reduction="none"`` all ``input.numel()`` terms.

        Raises
        ------
        ValueError
            If the shapes differ, or the lengths do not fit.
        """
        if input.shape != desired.shape:
            flat = [
                (*x.shape[:1], math.prod(x.shape[1:-1]), *x.shape[-1:]) for x in (input, desired)
            ]
            if flat[0] != flat[1]:
                raise ValueError(
                    f"input and desired must have the same shape, but for how neurons are "
                    f"arranged; got {tuple(input.shape)} and {tuple(desired.shape)}"
                )
            desired = desired.reshape(input.shape)
        with torch.autocast(input.device.type, enabled=False):
            difference = real(input) - real(desired)
            if lengths is not None:  # what comes later is not even filtered
                difference = within(difference, lengths)
            error = fast_conv(difference, self.filter.filter)
            return self._reduce(error.square(), lengths)


class _ClassLoss(_Loss):
    """What the losses on rates share: rates of the classes, over all time or a window; labels."""

    def __init__(self, moving_window: int | None, reduction: Reduction) -> None:
        super().__init__(reduction)
        self.window = None if moving_window is None else MovingWindow(moving_window)

    def _rates(self, spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``[N, classes..., T]`` to ``[N, K]``, or ``[N, K, T]`` with a window."""
        spikes = flat_classes(spikes)
        if self.window is None:
            return whole_rate(spikes, lengths)
        return self.window.rate(spikes if lengths is None else within(spikes, lengths))

    def _reduce(self, terms: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super()._reduce(terms, None if self.window is None else lengths)

    def _label_index(self, rates: Tensor, label: Tensor) -> Tensor:
        """Labels as int64 index along the class axis of ``rates``: ``[N, 1]`` or ``[N, 1, T]``."""
        shapes = [tuple(rates.shape[:1])]
        if self.window is not None:
            shapes.append((rates.shape[0], rates.shape[-1]))
        shape = _fitting(label, *shapes)
        if label.dtype not in INTEGERS or shape is None:
            expected = " or ".join(map(str, dict.fromkeys(shapes)))
            raise ValueError(
                f"label must hold integers of shape {expected}; got {label.dtype} of shape "
                f"{tuple(label.shape)}"
            )
        label = label.reshape(shape)
        K = rates.shape[1]
        # elsewhere, and in a compiled graph, the index operation itself asserts
        if can_be_read(label):
            low, high = (int(v) for v in label.aminmax())
            if low < 0 or high >= K:
                raise ValueError(f"labels are {low}..{high}; expected 0..{K - 1} for {K} classes")
        label = label.long().unsqueeze(1)
        if label.ndim < rates.ndim:
            label = label.unsqueeze(-1).expand(-1, -1, rates.shape[-1])
        return label


class SpikeRate(_ClassLoss):
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
            if not 0 <= rate <= 1:
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


class SpikeMax(_ClassLoss):
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


class SpikeMoid(_ClassLoss):
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
        if alpha == 0:
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
        found = _fitting(label, *kinds)
        if found is None:
            expected = " or ".join(map(str, dict.fromkeys((held, full))))
            raise ValueError(f"label must have shape {expected}; got {tuple(label.shape)}")
        label = label.reshape(kinds[found])
        label = label.to(rates.dtype)
        if torch.compiler.is_compiling():
            inside = ((label >= 0) & (label <= 1)).all()
            torch._assert_async(inside, "labels must be probabilities, 0..1")
        elif can_be_read(label):
            low, high = (float(v) for v in label.aminmax())
            if not (low >= 0 and high <= 1):
                raise ValueError(f"labels are {low:g}..{high:g}; expected probabilities, 0..1")
        return label if label.ndim == rates.ndim else label.unsqueeze(-1).expand_as(rates)


class SparsityEnforcer:
    """Penalty on layers that are busier than wanted.

    ``append`` the output of each layer in each step, add ``loss`` to the loss, then ``clear``.

    Parameters
    ----------
    max_rate
        Mean magnitude of a layer's output that is still free, events a neuron and step.
    lam
        Factor of the penalty.

    Attributes
    ----------
    loss_list : list of Tensor
        One penalty a layer, without the factor.

    Examples
    --------
    >>> import torch
    >>> from lapilli import loss
    >>> sparse = loss.SparsityEnforcer(max_rate=0.25, lam=2)
    >>> sparse.append(torch.tensor([[[0.0, 1, 0, 1]]]))  # a rate of 0.5
    >>> sparse.loss
    tensor(0.1250)
    >>> sparse.clear()
    """

    def __init__(self, max_rate: float = 0.01, lam: float = 1.0) -> None:
        self.max_rate = max_rate
        self.lam = lam
        self.loss_list: list[Tensor] = []

    def append(self, x: Tensor) -> None:
        """Add the penalty of a layer's output, of any shape."""
        with torch.autocast(x.device.type, enabled=False):
            excess = (real(x).abs().mean() - self.max_rate).relu()
            self.loss_list.append(excess.square())

    @property
    def loss(self) -> Tensor | float:
        """Sum of the penalties times ``lam``; the number 0 without any."""
        return self.lam * sum(self.loss_list)

    def clear(self) -> None:
        """Forget the penalties."""
        self.loss_list = []
