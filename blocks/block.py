"""What all blocks share: synapse, neuron, the hop of one step to the next layer, axonal delay.

A block runs these in this order. The kinds of blocks are in files of their own, and base.py names
them all.

Source: lava-dl block/base.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lapilli.kernels.recurrences.delay import step_delay as shift_by_one
from lapilli.neurons.errors import ArgumentTypeError, flag
from lapilli.neurons.state import KeepsState, reset_state, state_value, to_keep
from torch import Tensor

from . import complex_synapse
from . import synapse as synapses
from .delay import Delay
from .documentation import continued
from .family import NeuronMixin
from .maps import PRODUCTS, Product
from .stream import Stream

__all__ = [
    "MAX_DELAY",
    "NEURON_HOOK",
    "AbstractResidual",
    "Block",
    "NeuronBlock",
    "SynapseBlock",
    "dimensions_of",
    "event_rate",
    "step_delay",
]

MAX_DELAY = 62  # steps; the chip's axonal delay has six bits


class _HookOfTheNeuron:
    def __repr__(self) -> str:
        return "neuron.quantize_8bit"


NEURON_HOOK: Any = _HookOfTheNeuron()  # as ``pre_hook_fx``: the neuron's own quantisation


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

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> block = slayer.block.cuba.Flatten()
    >>> slayer.block.base.step_delay(block, torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[0., 1., 2.]]])
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
    """Return the share of non-zero entries, a float32 scalar without gradient.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> slayer.block.base.event_rate(torch.tensor([[[1.0, 0.0, 0.0, 2.0]]]))
    tensor(0.5000)
    """
    rows = x.detach().movedim(-1, 1)  # contiguous, so quick to read
    return torch.count_nonzero(rows) / rows.numel()


class AbstractResidual(torch.nn.Module):
    """Base of residual blocks; has nothing of its own."""


class Block(KeepsState, torch.nn.Module):
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
        """Return the attributes that ``repr`` shows."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)

    def export_hdf5(self, handle: Any) -> None:
        """Write the block into an open HDF5 group, see ``lapilli.export``."""
        from lapilli.export import export_block  # above this package: only on demand

        export_block(self, handle)


class NeuronBlock(Block):
    """Base of the blocks with a neuron."""

    neuron: Any
    delay: Delay | None
    neuron_params: dict[str, Any] | None  # until the neuron is there
    synapse_params: dict[str, Any] | None  # of a class that makes its own synapse
    _new_neuron: Callable[..., Any]  # a family's, see ``family.py``; classes without one have none

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
            y = self._delayed(y, self.delay)
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

    def _delayed(self, y: Tensor, delay: Delay) -> Tensor:
        """Apply the axonal delay, which keeps its input as the neuron does its state."""
        neuron = self.neuron
        if delay.persistent_state != neuron.persistent_state:
            delay.persistent_state = neuron.persistent_state
        if neuron.persistent_state and getattr(neuron, "began_at_rest", False):
            delay.reset_state()
        return delay(y)

    def _counted(self, y: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (y, event_rate(y)) if self.count_log else y


class SynapseBlock(NeuronBlock):
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


def dimensions_of(in_neurons: Any) -> int:
    """Neuron dimensions that a fully connected synapse gives to a sample, as a rule."""
    return 3 if isinstance(in_neurons, (tuple, list)) else 1
