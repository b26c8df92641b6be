"""Small things that training scripts for lava-dl use.

Source: lava-dl utils/utils.py, utils/int_utils.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Q2Zero",
    "diagonal_mask",
    "dotdict",
    "event_rate",
    "right_shift_to_zero",
    "staticproperty",
]


class dotdict(dict[str, Any]):
    """Dictionary whose entries are attributes too.

    A missing attribute is None. Methods of ``dict`` win over entries of their name, and nested
    dictionaries stay as they are.

    Examples
    --------
    >>> from lapilli import slayer
    >>> settings = slayer.utils.dotdict(epochs=5)
    >>> settings.epochs, settings.missing
    (5, None)
    """

    def __getattr__(self, name: str) -> Any:
        # what copy and pickle look for must be missing where it is
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self.get(name)

    __setattr__ = dict.__setitem__  # type: ignore[assignment]
    __delattr__ = dict.__delitem__  # type: ignore[assignment]


class staticproperty:
    """Decorator: a function without arguments, read like a value from class or instance.

    Examples
    --------
    >>> from lapilli.slayer.utils import staticproperty
    >>> class Chip:
    ...     @staticproperty
    ...     def cores():
    ...         return 128
    >>> Chip.cores
    128
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.function()


def diagonal_mask(dim: int, num_diagonals: int) -> Tensor:
    """Return a matrix of ones near the diagonal.

    Parameters
    ----------
    dim
        Number of rows and columns.
    num_diagonals
        Number of diagonals, at least 1; an even number counts as the next odd one.

    Returns
    -------
    Tensor
        ``[dim, dim]`` float32, 1 where ``|i - j| <= num_diagonals // 2``.

    Raises
    ------
    ValueError
        If there is no diagonal.

    Examples
    --------
    >>> from lapilli import slayer
    >>> slayer.utils.diagonal_mask(3, 1)  # of a layer: ``mask=`` of Dense
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    if num_diagonals < 1:
        raise ValueError(f"num_diagonals is {num_diagonals}; expected at least 1")
    at = torch.arange(dim)
    return ((at.unsqueeze(1) - at).abs() <= num_diagonals // 2).float()


def share_of_events(x: Tensor) -> Tensor:
    """Return ``event_rate`` as a float32 scalar on the device of ``x``, without waiting for it."""
    if x.shape[-1] > 1:
        x = x[..., 1:]
    return torch.count_nonzero(x.detach()) / x.numel()


def event_rate(x: Tensor) -> float:
    """Share of non-zero entries of ``[..., T]``; the first step counts only where it is alone.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.utils.event_rate(torch.tensor([[0.0, 1, 0, 0, 1]]))
    0.5
    """
    return float(share_of_events(x))


def right_shift_to_zero(x: Tensor, bits: int) -> Tensor:
    """Divide integers by ``2**bits`` and round toward zero.

    Parameters
    ----------
    x
        int32 or int64, any shape.
    bits
        Number of bits, at least 0.

    Returns
    -------
    Tensor
        Of the type of ``x``.

    Raises
    ------
    TypeError
        For any other type.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils import int_utils
    >>> int_utils.right_shift_to_zero(torch.tensor([7, -7]), 1)
    tensor([ 3, -3])
    """
    if x.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"right_shift_to_zero takes int32 or int64; got {x.dtype}")
    # shifting a negative number rounds toward minus infinity, so shift its magnitude
    return x.sign() * (x.abs() >> bits)


class Q2Zero(torch.autograd.Function):
    """Round toward zero; the gradient passes. Use ``Q2Zero.apply(x)``.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer.utils.utils import Q2Zero
    >>> Q2Zero.apply(torch.tensor([1.5, -1.5]))
    tensor([ 1., -1.])
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """Return the whole numbers, as floats."""
        return x.trunc()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        """Pass the gradient on."""
        return g
