"""What the neurons share whose states are Loihi's integers: overflow, feedback, chip values.

Source: lava-dl neuron/base.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.operators import is_exported, is_transformed
from lapilli.kernels.numbers.fixed_point import DECAY_SCALE, OVERFLOWS, STATE_SCALE
from lapilli.kernels.numbers.formula import GivenSurrogate
from lapilli.kernels.numbers.surrogate import DEFAULT
from lapilli.kernels.recurrences.adaptive_threshold import NO_CHIP_RULE
from lapilli.kernels.recurrences.delay import step_delay
from lapilli.kernels.recurrences.recurrent import recurrent
from torch import Tensor

from .errors import finite, flag, require
from .neuron import Neuron
from .state import refuse_graph

__all__ = ["FixedPointNeuron", "chip_value", "fixed_point_scales"]


def fixed_point_scales(scale: int) -> dict[str, int]:
    """Return the three scales of a neuron with fixed-point dynamics.

    Examples
    --------
    >>> from lapilli import slayer
    >>> slayer.neuron.base.fixed_point_scales(64)
    {'p_scale': 4096, 'w_scale': 64, 's_scale': 4096}
    """
    finite("scale", scale)
    return {"p_scale": DECAY_SCALE, "w_scale": int(scale), "s_scale": int(scale * STATE_SCALE)}


class FixedPointNeuron(Neuron):
    """Base of the neurons whose states are integers; its arguments end their constructors.

    Parameters
    ----------
    scale
        Number of integer units in a weight of 1; a state of 1 has 64 times as many.
    graded_spike
        Spikes carry the state that spikes instead of 1.
    threshold, tau_grad, scale_grad, norm, dropout, shared_param, persistent_state, requires_grad, \
    complex, surrogate
        See ``Neuron``.
    overflow
        What becomes of a state that does not fit. ``"saturate"``: it has 32 bits and stays at the
        limit. ``"loihi"``: it has 24 bits, as on the chip, and follows the rule by which Lava
        simulates it: a current wraps around, the other states stay at the limit. The equations are
        in ``lapilli/kernels/numbers/fixed_point.py``. Keyword only.

    Attributes
    ----------
    count_overflows : bool
        Whether calls count the states that did not fit; False at first, and costs nothing then.
    overflows : int or None
        Steps of a neuron at which an input or a state did not fit, summed over neurons, samples and
        calls since the last ``reset_state()``; None if nothing was counted. Reading it waits for
        the device. What is not a number does not count. With a norm between them, current and
        voltage count apart.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1.25, current_decay=0.25, voltage_decay=0.1)
    >>> neuron.count_overflows = True
    >>> spikes = neuron(torch.full((1, 2, 5), 3.0))
    >>> neuron.overflows  # every state fitted
    0
    """

    _overflow = "saturate"
    _counts_overflows = False
    _lost: Tensor | None = None  # the count so far, on the device
    _has_chip_rule = True  # whether lava's netx simulates such neurons
    phase = False  # whether it is a resonator that spikes by its phase
    _options: Callable[[], dict[str, Any]]  # of the surrogate gradient
    dynamics: Callable[..., Any]
    spike: Callable[..., Any]

    def __init__(
        self,
        threshold: float,
        tau_grad: float,
        scale_grad: float,
        scale: int,
        norm: Callable[[], torch.nn.Module] | None,
        dropout: torch.nn.Module | None,
        shared_param: bool,
        persistent_state: bool,
        requires_grad: bool,
        graded_spike: bool,
        complex: bool = False,
        surrogate: GivenSurrogate = DEFAULT,
        *,
        overflow: str = "saturate",
    ):
        super().__init__(
            threshold=threshold,
            tau_grad=tau_grad,
            scale_grad=scale_grad,
            norm=norm,
            dropout=dropout,
            persistent_state=persistent_state,
            shared_param=shared_param,
            requires_grad=requires_grad,
            complex=complex,
            surrogate=surrogate,
            **fixed_point_scales(scale),
        )
        self.graded_spike = flag("graded_spike", graded_spike)
        self.overflow = overflow

    @property
    def overflow(self) -> str:
        """What becomes of a state that does not fit, ``"saturate"`` or ``"loihi"``."""
        return self._overflow

    @overflow.setter
    def overflow(self, overflow: str) -> None:
        known = isinstance(overflow, str) and overflow in OVERFLOWS
        require(
            known, f"overflow must be one of {', '.join(map(repr, OVERFLOWS))}; got {overflow!r}"
        )
        require(overflow != "loihi" or self._has_chip_rule, NO_CHIP_RULE)
        self._overflow = overflow

    @property
    def count_overflows(self) -> bool:
        """Whether calls count the states that did not fit, see ``overflows``."""
        return self._counts_overflows

    @count_overflows.setter
    def count_overflows(self, count_overflows: bool) -> None:
        self._counts_overflows = flag("count_overflows", count_overflows)

    @property
    def overflows(self) -> int | None:
        """Steps of neurons that did not fit since the last ``reset_state()``; see the class."""
        if self._lost is None:
            return 0 if self._counts_overflows else None
        return int(self._lost)

    def reset_state(self) -> None:  # noqa: D102 (the base says it)
        super().reset_state()
        self._lost = None

    def _care(self) -> dict[str, Any]:
        """Return what the kernels want to know of what does not fit."""
        care: dict[str, Any] = {"count": self._counts_overflows}
        return care | {"overflow": self._overflow} if self._has_chip_rule else care

    def _counted(self, found: Any) -> Any:
        """Add what a kernel counted last to ``overflows``, if it did, and return the rest."""
        if not self._counts_overflows:
            return found
        *others, lost = found
        self._add_overflows(lost.sum())
        return others[0] if len(others) == 1 else tuple(others)

    def _add_overflows(self, lost: Tensor) -> None:
        if is_exported() or (not torch.compiler.is_compiling() and is_transformed()):
            raise RuntimeError(
                "overflows cannot be counted under torch.export or a transform of torch.func: set "
                "count_overflows = False for this call"
            )
        refuse_graph(lost, "overflows are counted; set count_overflows = False for a graphed step")
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            return  # activation checkpointing computes again what has been counted
        self._lost = lost if self._lost is None else self._lost.to(lost.device) + lost

    def _surrogate(self, tau_mult: float, scale_mult: float) -> dict[str, Any]:
        """Return what the kernels want to know of the surrogate gradient."""
        return {
            "tau_rho": self.tau_rho * tau_mult,
            "scale_rho": self.scale_rho * scale_mult,
            "surrogate": self._surrogate_name,
            "graded": self.graded_spike,
        }

    def extra_repr(self) -> str:  # noqa: D102 (torch's hook)
        usual = self._overflow == FixedPointNeuron._overflow
        return super().extra_repr() + ("" if usual else f", overflow={self._overflow}")

    def _in_two_stages(self, input: Any, delay_shift: bool) -> Tensor:
        """Do as ``forward``, by ``dynamics`` and ``spike``, which a subclass may have replaced."""
        spikes = self.spike(*self._tested(self.dynamics(input)))
        return step_delay(spikes) if delay_shift else spikes

    def _tested(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return those of the states of ``dynamics`` that ``spike`` takes."""
        return states

    def run_with_feedback(
        self, z: Any, feedback: Any, *, spikes: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Run the neuron over time with its spikes coming back; without norm and dropout.

        Parameters
        ----------
        z
            Weighted input, as ``forward`` takes it.
        feedback
            Weight ``[neurons, neurons]``; of resonators a pair, None for no feedback.
        spikes
            Spikes ``[N, neurons...]`` before the first step; ignored where the neurons are at rest.
        options
            ``bias``, ``quantum``, ``shift`` and ``gradient`` of
            ``lapilli.kernels.recurrences.recurrent.recurrent``.

        Returns
        -------
        tuple of Tensor
            Spikes over time, and those of the last step.
        """
        first, *others = z if self.complex else (z,)
        self._enter(first)
        for other in others:
            self._check(other)
        state = self._state(first.shape[0])
        found = recurrent(
            z, feedback,
            self._parameters_used(), self._threshold, self.s_scale, phase=self.phase,
            threshold_step=getattr(self, "threshold_step", 0.0), state=state,
            spikes=None if self.began_at_rest else spikes, return_state=True,
            overflow=self._overflow, count=self._counts_overflows, **options, **self._options(),
        )  # fmt: skip
        out, states, last = self._counted(found)
        if self._keeps(first):
            self._keep_state(**dict(zip(self._rest, states, strict=True)))
        return out, last


def chip_value(name: str) -> property:
    """Make the property ``cx_<name>`` of a decay: its value as the chip holds it.

    Examples
    --------
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1.25, current_decay=0.25, voltage_decay=0.1)
    >>> int(neuron.cx_current_decay)  # 0.25 of 4096
    1024
    """

    def get(self: Neuron) -> np.int64 | np.ndarray:
        return self._quantized(name)

    get.__doc__ = f"{name.replace('_', ' ').capitalize()} as the chip holds it, 0..4096."
    return property(get)
