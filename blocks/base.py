"""What a block of each kind does, whatever its neuron.

A block runs synapse, neuron, the hop of one step to the next layer, and the axonal delay, in this
order. The concrete classes join a kind with the mixin of a neuron (family.py).

Source: lava-dl block/base.py.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lapilli.kernels.executors.layout import check_input, from_rows, to_rows
from lapilli.kernels.recurrences.delay import step_delay as shift_by_one
from lapilli.neurons.errors import ArgumentTypeError, flag, require
from lapilli.neurons.gradients import with_zero_gradients
from lapilli.neurons.norm import identity
from lapilli.neurons.state import KeepsState, reset_state, state_value, to_keep
from torch import Tensor

from . import complex_synapse
from . import synapse as synapses
from .delay import Delay
from .documentation import continued, documented
from .maps import PRODUCTS, Product
from .stream import Stream
from .synapse import Hook, Pair, whole_number

if TYPE_CHECKING:  # what ``__getattr__`` imports
    from .recurrent import AbstractKWTA as AbstractKWTA
    from .recurrent import AbstractRecurrent as AbstractRecurrent

MAX_DELAY = 62  # steps; the chip's axonal delay has six bits


class _HookOfTheNeuron:
    def __repr__(self) -> str:
        return "neuron.quantize_8bit"


NEURON_HOOK: Any = _HookOfTheNeuron()  # as ``pre_hook_fx``: the neuron's own quantisation

_SIZES = "For arguments out of range or of a wrong length, or input of another shape."
_SHOWS_DENSE = """\
>>> layer = Kind(neuron, 3, 2)
>>> x = torch.rand(4, 3, 10)  # spikes or any real numbers, [batch, neurons, time]
>>> layer(x).shape
torch.Size([4, 2, 10])"""
_SHOWS_CONV = """\
>>> layer = Kind(neuron, 2, 3, kernel_size=2, stride=2)
>>> layer(torch.rand(1, 2, 4, 4, 10)).shape  # [batch, channels, height, width, time]
torch.Size([1, 3, OUT, OUT, 10])"""
_SHOWS_POOL = """\
>>> layer = Kind(neuron, kernel_size=2)
>>> layer(torch.rand(1, 2, 4, 4, 10)).shape  # [batch, channels, height, width, time]
torch.Size([1, 2, OUT, OUT, 10])"""
_CONVOLVED = "For arguments out of range or of a wrong length, or input that is not NCHWT."
_POOLED = {
    "stride": "Integer, or a pair (height, width); None for ``kernel_size``.",
    "weight_scale": "Every entry of the weight.",
    "weight_norm": "Store direction and length of the weight apart; it stays constant.",
    "neuron_params": "Arguments of the neuron, by name; ``norm`` is not used here.",
}


if not TYPE_CHECKING:  # or checkers would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if name in ("AbstractKWTA", "AbstractRecurrent"):
            from . import recurrent  # which imports this module

            return getattr(recurrent, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def step_delay(module: torch.nn.Module, x: Tensor) -> Tensor:
    """Delay ``x`` by one step: the first step is 0, and what was last is left out.

    Where ``module.neuron.persistent_state`` is true, the last step is kept in
    ``module.delay_buffer``, detached, and is the first one of the next call with this batch size.
    A call that the neuron begins at rest begins with 0.

    Parameters
    ----------
    module
        Block whose output ``x`` is; it may have no neuron.
    x
        ``[N, neurons..., T]``.

    Returns
    -------
    Tensor
        Of the shape of ``x``; a new tensor.
    """
    neuron = getattr(module, "neuron", None)
    if not getattr(neuron, "persistent_state", False):
        return shift_by_one(x)
    first = getattr(module, "delay_buffer", None)
    if getattr(neuron, "began_at_rest", False) or getattr(first, "shape", None) != x.shape[:-1]:
        first = None
    if x.shape[-1] > 0:
        module.delay_buffer = to_keep(x[..., -1])
    return shift_by_one(x, None if first is None else first.to(x.device))


def event_rate(x: Tensor) -> Tensor:
    """Return the share of non-zero entries, a float32 scalar without gradient."""
    rows = x.detach().movedim(-1, 1)  # contiguous, so quick to read
    return torch.count_nonzero(rows) / rows.numel()


class AbstractResidual(torch.nn.Module):
    """Base of residual blocks; has nothing of its own."""


class _Block(KeepsState, torch.nn.Module):
    """Base of all blocks.

    Attributes
    ----------
    delay_buffer : Tensor or None
        Output ``[N, neurons...]`` of the last step, which the hop of one step puts first into the
        next call where the neuron's state persists; None at rest.
    """

    delay_buffer: Tensor | None = state_value(
        "delay_buffer", "Last output before the hop; None at rest."
    )

    def __init__(self) -> None:
        super().__init__()
        self._add_states(delay_buffer=None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_stream"}

    def reset_state(self) -> None:
        """Return to rest, the neuron included: the next call starts as the first one did."""
        super().reset_state()
        for part in self.children():
            reset_state(part)

    shown: tuple[str, ...] = ()  # attributes that repr shows

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete the docstring of a class with the arguments of its kind."""
        super().__init_subclass__(**kwargs)
        if "__init__" not in vars(cls):
            continued(cls, *cls.__mro__[1:])

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)

    def export_hdf5(self, handle: Any) -> None:
        """Write the block into an open HDF5 group, see ``lapilli.export``."""
        from lapilli.export import export_block  # above this package: only on demand

        export_block(self, handle)


class _NeuronBlock(_Block):
    """Base of the blocks with a neuron."""

    neuron: Any
    delay: Delay | None
    neuron_params: dict[str, Any] | None  # until the neuron is there
    synapse_params: dict[str, Any] | None  # of a class that makes its own synapse

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "delay" and not (value is None or isinstance(value, torch.nn.Module)):
            raise TypeError(
                f"delay of a block must be a lapilli.slayer.axon.Delay or None; got {value!r}. "
                f"Build the block with delay=True, or set block.delay = Delay({MAX_DELAY})."
            )
        super().__setattr__(name, value)

    def _set_neuron(
        self, neuron_params: dict[str, Any] | None, optional: bool = False, **fixed: Any
    ) -> None:
        """Make the neuron; without a mixin, keep what it is to be made of.

        ``optional`` blocks have none where there are no parameters.
        """
        none = neuron_params is None and (optional or not hasattr(self, "_new_neuron"))
        if not none and not isinstance(neuron_params, Mapping):
            raise ArgumentTypeError(
                f"neuron_params must be a dict of the neuron's arguments; got {neuron_params!r} "
                f"({type(neuron_params).__name__})"
            )
        self.neuron = None
        if not hasattr(self, "_new_neuron"):
            self.neuron_params = None if neuron_params is None else dict(neuron_params) | fixed
        elif neuron_params is not None:
            self.neuron = self._new_neuron(**(dict(neuron_params) | fixed))

    @property
    def _makes_synapse(self) -> bool:
        """Whether the constructor of a user's class is to make the synapse, as in lava-dl.

        Such a class joins a kind with a mixin itself, and has a constructor that reads
        ``synapse_params``.
        """
        from .family import NeuronMixin  # which imports this module

        joined = getattr(type(self), "_is_joined", False)
        return not joined and type(self).__init__ is not NeuronMixin.__init__

    def _missing(self, name: str) -> TypeError:
        return TypeError(
            f"{type(self).__name__} has no {name}: a block that joins a kind with a mixin of its "
            f"own makes it in its constructor, as self.{name} = ...(**self.{name}_params). Or use "
            f"a class of lapilli.blocks.<neuron>, or derive from the mixin there first."
        )

    def _new_synapse(
        self, kind: str, pre_hook_fx: Any, product: Product = "auto", **arguments: Any
    ) -> Any:
        """Make a synapse, complex for complex neurons; None if that is left to the class."""
        if self._makes_synapse:
            hook = None if pre_hook_fx is NEURON_HOOK else pre_hook_fx
            self.synapse_params = {**arguments, "pre_hook_fx": hook}
            return None
        module = complex_synapse if self.neuron.complex else synapses
        hook = self.neuron.quantize_8bit if pre_hook_fx is NEURON_HOOK else pre_hook_fx
        made = getattr(module, kind)(**arguments, pre_hook_fx=hook)
        if product not in PRODUCTS:
            raise ValueError(
                f"synapse must be one of {', '.join(map(repr, PRODUCTS))}; got {product!r}"
            )
        made.product = product
        return made

    def _set_output(self, delay: bool, delay_shift: bool, count_log: bool) -> None:
        delay = flag("delay", delay)
        persists = delay and getattr(self.neuron, "persistent_state", False)
        self.delay = Delay(max_delay=MAX_DELAY, persistent_state=persists) if delay else None
        self.delay_shift = flag("delay_shift", delay_shift)
        self.count_log = flag("count_log", count_log)

    @property
    def shape(self) -> torch.Size | None:
        """Shape of the neurons, without batch and time; None before the first call."""
        return self.neuron.shape

    def _set_sizes(self, synapse: Any, dimensions: int = 1) -> None:
        """Size what has one value a channel, for as many neuron dimensions as a sample has.

        Where a user's class makes the neuron or the synapse itself, the first call sizes it.
        """
        if None in (self.neuron, synapse):
            return
        channels = synapse.out_channels
        with torch.random.fork_rng(devices=[]):  # the draws of a seeded script are lava-dl's
            if hasattr(self.neuron, "_size"):
                self.neuron._size(channels, dimensions)
            if self.delay is not None:
                self.delay._size(channels)

    def _spikes(self, z: Any, **options: Any) -> Tensor:
        """Run the neuron on its input."""
        return self.neuron(z, **options)

    def _output(self, z: Any) -> Tensor | tuple[Tensor, Tensor]:
        """Run the neuron on its input, then the hop, the delay and the count."""
        if self.neuron is None:
            raise self._missing("neuron")
        neuron = self.neuron
        # a hook on the neuron is to see spikes in their own step
        fused = not (neuron.persistent_state or getattr(neuron, "is_observed", True))
        if self.delay_shift and fused:
            y = self._spikes(z, delay_shift=True)
        else:
            y = self._spikes(z)
            if self.delay_shift:
                y = step_delay(self, y)
        if self.delay is not None:
            y = self._delayed(y)
        return self._counted(y)

    def _synapses(self) -> tuple[Any, ...]:
        """Return the synapses of a block that streams: that of the input, then that of spikes."""
        raise NotImplementedError

    def _streamed(self, x: Tensor, forward: Callable[[Tensor], Any]) -> Any:
        """Run the block by ``forward``, or quicker where a call is one step: see stream.py."""
        if (
            torch.compiler.is_compiling()
            or torch.is_grad_enabled()
            or not isinstance(x, Tensor)
            or x.shape[-1:] != (1,)
        ):
            return forward(x)
        stream = self.__dict__.get("_stream")
        y = None if stream is None else stream(self, x)
        if y is None:
            y = forward(x)
            if self.__dict__.get("_stream") is None:
                self.__dict__["_stream"] = Stream.of(self, x)
        return y

    def _delayed(self, y: Tensor) -> Tensor:
        """Apply the axonal delay, which keeps its input as the neuron does its state."""
        delay, neuron = self.delay, self.neuron
        if delay.persistent_state != neuron.persistent_state:
            delay.persistent_state = neuron.persistent_state
        if neuron.persistent_state and getattr(neuron, "began_at_rest", False):
            delay.reset_state()
        return delay(y)

    def _counted(self, y: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (y, event_rate(y)) if self.count_log else y


class _SynapseBlock(_NeuronBlock):
    """Base of the blocks with a synapse."""

    synapse: synapses.GenericLayer | complex_synapse.ComplexLayer

    def _set_synapse(self, kind: str, pre_hook_fx: Any, **arguments: Any) -> None:
        self.synapse = self._new_synapse(kind, pre_hook_fx, **arguments)

    def _dendrite(self, x: Tensor) -> Any:
        """Return the weighted input of the neuron; a pair for complex neurons."""
        synapse = self.synapse
        if synapse is None:
            raise self._missing("synapse")
        return synapse(x)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Run the block over time.

        Parameters
        ----------
        x
            ``[N, C, T]`` or ``[N, C, H, W, T]``, as the synapse takes it; real units.

        Returns
        -------
        Tensor
            Spikes in the same layout; with ``count_log`` also the event rate.
        """
        return self._output(self._dendrite(x))


class _MaskedBlock(_SynapseBlock):
    """Base of the blocks with a fully connected synapse, of which a mask cuts some."""

    mask: Tensor | None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "mask" and value is not None:
            value = self._five_dimensional(value)
        super().__setattr__(name, value)

    def _set_mask(self, mask: Tensor | np.ndarray | None) -> None:
        """Register a mask ``[out, in]``, or None where nothing is cut. It can be set later."""
        self.register_buffer("mask", None if mask is None else self._five_dimensional(mask))

    def _five_dimensional(self, mask: Tensor | np.ndarray) -> Tensor:
        """Return a copy of a mask ``[out, in]`` in the weight's five dimensions."""
        if self.synapse is not None:
            shape = (self.synapse.out_channels, self.synapse.in_channels)
        else:
            shape = (self.synapse_params["out_neurons"], self.synapse_params["in_neurons"])
        mask = _tensor("mask", mask, "0 and 1, [out, in]")
        if tuple(mask.shape) not in (shape, (*shape, 1, 1, 1)):
            raise ValueError(f"mask must be [out, in] = {shape}; got shape {tuple(mask.shape)}")
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("mask must hold 0 and 1 only, or be bool; it holds other values")
        return mask.view(*shape, 1, 1, 1)

    def _dendrite(self, x: Tensor) -> Any:
        """Return the weighted input of the neuron; a pair for complex neurons."""
        if self.mask is None:
            return super()._dendrite(x)
        synapse = self.synapse
        if synapse is None:
            raise self._missing("synapse")
        synapse.apply_mask(self.mask)
        return synapse(x, self.mask)


@documented(
    "For input that is not ``[batch, neurons..., time]``, a weight or bias of several values.",
    neuron_params="Arguments of the neuron, by name; None: no neuron, the input passes.",
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
class AbstractInput(_NeuronBlock):
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
        if self.neuron is None:
            check_input(x, "Input")
            self.input_shape = x.shape[1:-1]
            return self._counted(step_delay(self, x) if self.delay_shift else x)
        if not self.neuron.complex:
            z = self._scaled(x)
        elif isinstance(x, Tensor):
            z = (self._scaled(x),) * 2
        else:
            real, imag = x
            z = (self._scaled(real), self._scaled(imag))
        y = self._output(z)
        self.input_shape = self.neuron.shape
        return y


def _tensor(name: str, value: Any, expected: str) -> Tensor:
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
    tensor = _tensor(name, value, "one number").float().reshape(-1)
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
class AbstractFlatten(_Block):
    """Flatten the neurons: ``[N, C, H, W, T]`` to ``[N, C * H * W, T]``; moves no data."""

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
class AbstractAverage(_Block):
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
class AbstractTimeDecimation(_Block):
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


@documented(
    _SIZES,
    dynamics="Return the neuron's state, without spike and reset; otherwise the weighted input.",
    count_log="Also return None.",
    example=_SHOWS_DENSE,
)
class AbstractAffine(_MaskedBlock):
    """Affine layer, for readout: a fully connected synapse and the neuron's dynamics.

    Returns the voltage, of resonators the imaginary state; never delayed.
    """

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        dynamics: bool = True,
        mask: Tensor | np.ndarray | None = None,
        count_log: bool = False,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(False, False, count_log)
        self._set_synapse(
            "Dense",
            pre_hook_fx,
            product=synapse,
            in_neurons=in_neurons,
            out_neurons=out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self._set_mask(mask)
        self._set_sizes(self.synapse)
        if None not in (self.neuron, self.synapse):
            self.neuron.no_reset = True
            self.neuron.shape = torch.Size((self.synapse.out_channels,))
        self.dynamics = flag("dynamics", dynamics)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        """Run the block over time.

        Parameters
        ----------
        x
            ``[N, C, T]`` in real units; without ``dynamics`` whatever the synapse takes.

        Returns
        -------
        Tensor
            State or weighted input; with ``count_log`` also None.
        """
        check_input(x, "Affine")
        if self.dynamics and x.ndim != 3:
            raise ValueError(
                f"Affine with dynamics takes [batch, channels, time]; got shape {tuple(x.shape)}. "
                f"Put a Flatten before it."
            )
        z = self._dendrite(x)
        if self.dynamics:
            if not getattr(self.neuron, "no_reset", True):  # made by a user's class
                self.neuron.no_reset = True
            z = self.neuron.dynamics(z)
        # voltage of (current, voltage), imaginary part of (real, imaginary)
        y = z if isinstance(z, Tensor) else z[-1]
        if not self.dynamics:
            y = with_zero_gradients(y, *self.neuron.parameters())
        return (y, None) if self.count_log else y


@documented(_SIZES, example=_SHOWS_DENSE)
class AbstractDense(_MaskedBlock):
    """Dense layer: a fully connected synapse and its neurons.

    The input may be spikes or any other real numbers, which the weights multiply.
    ``[N, in, T]`` to ``[N, out, T]``; with a tuple of ``in_neurons``, ``[N, C, H, W, T]`` to
    ``[N, out, 1, 1, T]``.
    """

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        delay: bool = False,
        delay_shift: bool = True,
        mask: Tensor | np.ndarray | None = None,
        count_log: bool = False,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(delay, delay_shift, count_log)
        self._set_synapse(
            "Dense",
            pre_hook_fx,
            product=synapse,
            in_neurons=in_neurons,
            out_neurons=out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self._set_mask(mask)
        self._set_sizes(self.synapse, _dimensions(in_neurons))

    def _synapses(self) -> tuple[Any, ...]:
        return (self.synapse,)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # noqa: D102 (the base's)
        return self._streamed(x, super().forward)


def _dimensions(in_neurons: Any) -> int:
    """Neuron dimensions that a fully connected synapse gives to a sample, as a rule."""
    return 3 if isinstance(in_neurons, (tuple, list)) else 1


class _Convolving(_SynapseBlock):
    """What Conv and ConvT share."""

    kind: str  # name of the synapse

    def __init__(
        self,
        neuron_params: dict[str, Any],
        in_features: int,
        out_features: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        delay: bool = False,
        delay_shift: bool = True,
        count_log: bool = False,
        *,
        synapse: Product = "auto",
    ):
        super().__init__()
        self._set_neuron(neuron_params)
        self._set_output(delay, delay_shift, count_log)
        self._set_synapse(
            self.kind,
            pre_hook_fx,
            product=synapse,
            in_features=in_features,
            out_features=out_features,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )
        self._set_sizes(self.synapse, 3)


@documented(_CONVOLVED, example=_SHOWS_CONV.replace("OUT", "2"))
class AbstractConv(_Convolving):
    """Convolution layer: a convolution of each frame and its neurons.

    ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.
    """

    kind = "Conv"


@documented(_CONVOLVED, example=_SHOWS_CONV.replace("OUT", "8"))
class AbstractConvT(_Convolving):
    """Transposed convolution layer: a transposed convolution of each frame and its neurons.

    ``[N, in, H, W, T]`` to ``[N, out, H', W', T]``.
    """

    kind = "ConvTranspose"


class _Pooling(_SynapseBlock):
    """What Pool and Unpool share."""

    kind: str  # name of the synapse

    def __init__(
        self,
        neuron_params: dict[str, Any],
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: Hook | None = NEURON_HOOK,
        delay: bool = False,
        delay_shift: bool = True,
        count_log: bool = False,
    ):
        super().__init__()
        self._set_neuron(neuron_params, norm=None)
        self._set_output(delay, delay_shift, count_log)
        self._set_synapse(
            self.kind,
            pre_hook_fx,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
        )


@documented(_CONVOLVED, example=_SHOWS_POOL.replace("OUT", "2"), **_POOLED)
class AbstractPool(_Pooling):
    """Pooling layer: a weighted sum over each window of a channel, and its neurons.

    ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.
    """

    kind = "Pool"


@documented(_CONVOLVED, example=_SHOWS_POOL.replace("OUT", "8"), **_POOLED)
class AbstractUnpool(_Pooling):
    """Unpooling layer: each value spread over a window of its channel, and its neurons.

    ``[N, C, H, W, T]`` to ``[N, C, H', W', T]``.
    """

    kind = "Unpool"
