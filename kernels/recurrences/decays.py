"""Gradients of decay parameters: their sign and their reduction.

The recurrences give one partial sum a neuron and sample. Here the partials of the neurons that
share a parameter are added, in an order that does not change from run to run.

lava-dl's gradient of ``current_decay`` and ``voltage_decay`` is that of what remains after a step,
1 - decay, so descending along it moves a decay the wrong way (its issue 383). lapilli's default is
the true direction; ``set_decay_gradient("lava-dl")`` restores the other to reproduce an old run.
"""

from lapilli.kernels.executors.derivation import Backward
from lapilli.kernels.executors.sums import reduce_to
from torch import Tensor

_SIGNS = {"descent": -1.0, "lava-dl": 1.0}
_mode = "descent"


def set_decay_gradient(mode: str) -> None:
    """Choose the sign of the gradients of leaky-integrator decays, for networks run from now on.

    Parameters
    ----------
    mode
        ``"descent"`` (default): the true direction, a gradient step lowers the loss.
        ``"lava-dl"``: lava-dl's sign, which is the opposite.

    Raises
    ------
    ValueError
        For any other mode.

    Examples
    --------
    >>> import lapilli
    >>> lapilli.set_decay_gradient("lava-dl")
    >>> lapilli.decay_gradient()
    'lava-dl'
    >>> lapilli.set_decay_gradient("descent")
    """
    global _mode
    if mode not in _SIGNS:
        raise ValueError(
            f"decay gradient mode is {mode!r}; expected one of {', '.join(map(repr, _SIGNS))}"
        )
    _mode = mode


def decay_gradient() -> str:
    """Return the mode that ``set_decay_gradient`` chose.

    Examples
    --------
    >>> import lapilli
    >>> lapilli.decay_gradient()
    'descent'
    """
    return _mode


def decay_sign() -> float:
    """Return the factor of the decay gradient in the current mode."""
    return _SIGNS[_mode]


def decay_gradients(
    sign: float, *pairs: tuple[Tensor, Tensor], wanted: bool
) -> tuple[Tensor | None, ...]:
    """Reduce ``(parameter, partials [N, C])`` pairs to gradients of the parameters' shapes."""
    if not wanted:
        return (None,) * len(pairs)
    return tuple(sign * reduce_to(parameter, partials) for parameter, partials in pairs)


def learned_decays(
    back: Backward, sign: float, **partials: Tensor | None
) -> dict[str, Tensor]:  # fmt: skip
    """Return the gradients of decays by their names, where ``partials`` [N, C] are there."""
    return {
        name: sign * reduce_to(getattr(back, name), found)
        for name, found in partials.items()
        if found is not None
    }


__all__ = [
    "decay_gradient", "decay_gradients", "decay_sign", "learned_decays", "reduce_to",
    "set_decay_gradient",
]  # fmt: skip
