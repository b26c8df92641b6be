"""Blocks without weights, but for two numbers: inputs, and what changes the shape of spikes.

Source: lava-dl block/base.py.
"""

from typing import Any

import torch
from lapilli.kernels.executors.layout import check_input, from_rows, to_rows
from lapilli.neurons.errors import ArgumentTypeError, flag, require
from lapilli.neurons.norm import identity
from torch import Tensor

from .block import Block, NeuronBlock, step_delay
from .documentation import documented
from .stored_weight import Hook, whole_number

__all__ = [
    "AbstractAverage",
    "AbstractFlatten",
    "AbstractInput",
    "AbstractTimeDecimation",
    "checked_tensor",
]


@documented(
    "For input that is not ``[batch, neurons..., time]``, a weight or bias of several values.",
    neuron_params="Arguments of the neuron by name, or None for no neuron: the input passes.",
    weight=(
        "Factor of the input to start from; it is learned, and quantised when used. None: the\n"
        "input is not multiplied."
    ),
    bias=(
        "What to add to the input to start from; it is learned, and quantised when used. None:\n"
        "nothing is added."
    ),
    example=(
        ">>> Kind(neuron, weight=2.0)(torch.rand(4, 3, 10)).shape  # [batch, neurons, time]\n"
        "torch.Size([4, 3, 10])"
    ),
)
class AbstractInput(NeuronBlock):
    """Input layer: scale, shift and quantise the input, and encode it in spikes."""

    weight: torch.nn.Parameter | None
    bias: torch.nn.Parameter | None
    pre_hook_fx: Hook

    def __init__(
        self,
        neuron_params: dict[str, Any] | None = None,
        weight: float | None = None,
        bias: float | None = None,
        delay_shift: bool = True,
        count_log: bool = False,
    ):
        super().__init__()
        self._set_neuron(neuron_params, optional=True)
        self.synapse_params = None
        self._set_output(False, delay_shift, count_log)
        self.register_parameter("weight", _one_value("weight", weight))
        self.register_parameter("bias", _one_value("bias", bias))
        self.pre_hook_fx = identity if self.neuron is None else self.neuron.quantize_8bit
        self.input_shape: torch.Size | None = None

    @property
    def shape(self) -> torch.Size | None:
        """Shape of the input, without batch and time; None before the first call."""
        return self.input_shape if self.neuron is None else self.neuron.shape

    def _scaled(self, x: Tensor) -> Tensor:
        check_input(x, "Input")
        # as rows from the start: the neuron would convert the result
        z = self.pre_hook_fx(from_rows(to_rows(x), x.shape[1:-1]))
        if self.weight is not None:
            z = z * self.pre_hook_fx(self.weight)
        if self.bias is not None:
            z = z + self.pre_hook_fx(self.bias)
        return z

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Run the block over time.

        Parameters
        ----------
        x
            ``[N, neurons..., T]``. For complex neurons also a pair (real, imaginary); one tensor
            drives both.

        Returns
        -------
        Tensor
            Spikes, of the shape of ``x``; with ``count_log`` also the event rate.
        """
        one: Any = x
        if self.neuron is None:
            check_input(one, "Input")  # refuses a pair
            self.input_shape = one.shape[1:-1]
            return self._counted(step_delay(self, one) if self.delay_shift else one)
        if not self.neuron.complex:
            z = self._scaled(one)
        elif isinstance(x, Tensor):
            z = (self._scaled(x),) * 2
        else:
            if not isinstance(x, (tuple, list)):
                check_input(one, "Input")
            if len(x) != 2:
                raise ValueError(
                    f"Input input must be one torch.Tensor or a pair (real, imaginary); got "
                    f"{len(x)} parts"
                )
            real, imag = x
            z = (self._scaled(real), self._scaled(imag))
        y = self._output(z)
        self.input_shape = self.neuron.shape
        return y


def checked_tensor(name: str, value: Any, expected: str) -> Tensor:
    """Return a copy of an argument that is numbers, as a tensor."""
    try:
        return torch.as_tensor(value).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(
            f"{name} must be {expected}; got {value!r} ({type(value).__name__})"
        ) from None


def _one_value(name: str, value: Any) -> torch.nn.Parameter | None:
    """Return a parameter ``[1]``, or None for None."""
    if value is None:
        return None
    tensor = checked_tensor(name, value, "one number").float().reshape(-1)
    if tensor.numel() != 1:
        raise ValueError(f"{name} must be one number; got {tensor.numel()} values")
    return torch.nn.Parameter(tensor)


@documented(
    "For input that is not ``[batch, neurons..., time]``.",
    count_log="Also return None.",
    example=(
        ">>> Kind()(torch.rand(4, 2, 3, 5, 10)).shape  # [batch, channels, height, width, time]\n"
        "torch.Size([4, 30, 10])"
    ),
)
class AbstractFlatten(Block):
    """Flatten the neurons, ``[N, C, H, W, T]`` to ``[N, C * H * W, T]``, without moving data."""

    def __init__(self, count_log: bool = False):
        super().__init__()
        self.count_log = flag("count_log", count_log)
        self.shape: torch.Size | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        """Flatten ``[N, neurons..., T]``; with ``count_log`` also return None."""
        check_input(x, "Flatten")
        y = x.movedim(-1, 1).flatten(2).movedim(1, -1)
        self.shape = torch.Size((y.shape[1], 1, 1))
        return (y, None) if self.count_log else y


@documented(
    "For a number of neurons that ``num_outputs`` does not divide.",
    num_outputs="Number of outputs, at least 1.",
    count_log="Also return None.",
    example=(
        ">>> Kind(num_outputs=2)(torch.rand(4, 6, 10)).shape  # two groups of three neurons\n"
        "torch.Size([4, 2, 10])"
    ),
)
class AbstractAverage(Block):
    """Average groups of consecutive neurons: ``[N, neurons..., T]`` to ``[N, num_outputs, T]``."""

    shown = ("num_outputs",)

    def __init__(self, num_outputs: int, count_log: bool = False):
        super().__init__()
        self.num_outputs = num_outputs
        self.count_log = flag("count_log", count_log)

    @property
    def num_outputs(self) -> int:
        """Number of outputs, at least 1."""
        return self._num_outputs

    @num_outputs.setter
    def num_outputs(self, num_outputs: int) -> None:
        self._num_outputs = whole_number("num_outputs", num_outputs)
        self.shape = torch.Size((self._num_outputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        """Average ``[N, neurons..., T]``; with ``count_log`` also return None."""
        check_input(x, "Average")
        rows = to_rows(x)
        neurons = rows.shape[2]
        if neurons % self.num_outputs:
            raise ValueError(
                f"Average over {self.num_outputs} outputs needs a multiple of as many neurons; got "
                f"{neurons} (input shape {tuple(x.shape)})"
            )
        y = rows.unflatten(2, (self.num_outputs, neurons // self.num_outputs)).mean(-1)
        y = y.movedim(1, -1)
        return (y, None) if self.count_log else y


@documented(
    "(ArgumentError, also an AssertionError.) For a factor that is no power of two.",
    factor="Steps that become one; a power of two, at least 1.",
    count_log="Also return None.",
    example=(
        ">>> Kind(factor=4)(torch.rand(4, 3, 10)).shape  # 10 steps in bins of 4\n"
        "torch.Size([4, 3, 3])"
    ),
)
class AbstractTimeDecimation(Block):
    """Average bins of time: ``[N, neurons..., T]`` to ``[N, neurons..., ceil(T / factor)]``.

    Zeros fill up the last bin, and count.
    """

    shown = ("factor",)

    def __init__(self, factor: int, count_log: bool = False):
        super().__init__()
        self.factor = factor
        self.count_log = flag("count_log", count_log)
        self.shape: torch.Size | None = None

    @property
    def factor(self) -> int:
        """Steps that become one; a power of two, at least 1."""
        return self._factor

    @factor.setter
    def factor(self, factor: int) -> None:
        try:
            steps = whole_number("factor", factor)
        except ValueError:
            steps = 0
        require(
            steps > 0 and steps & (steps - 1) == 0,
            f"expected factor to be a power of two of at least 1; got factor={factor!r}",
        )
        self._factor = steps

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        """Decimate ``[N, neurons..., T]``; with ``count_log`` also return None."""
        check_input(x, "TimeDecimation")
        self.shape = x.shape[1:-1]
        rows = to_rows(x)
        N, T, C = rows.shape
        bins = -(-T // self.factor)
        any_steps = torch.compiler.is_compiling() or not isinstance(T, int)  # of a graph
        if any_steps or bins * self.factor > T:
            rows = torch.nn.functional.pad(rows, (0, 0, 0, bins * self.factor - T))
        y = from_rows(rows.reshape(N, bins, self.factor, C).mean(2), self.shape)
        return (y, None) if self.count_log else y
