"""What modules keep from one call to the next, and the shape of the neurons that they learn.

State is not model: what is kept is neither parameter nor buffer. It moves with the module and is
copied with it, but nothing saves, averages or broadcasts it.

Source: lava-dl neuron/base.py, dendrite/sigma.py, axon/delta.py.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from lapilli.kernels.executors.layout import wrong_type
from lapilli.kernels.executors.operators import is_exported, is_transformed
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from .errors import InputTypeError, flag, require
from .lazy import LazySize
from .precision import KeepsFloat32, keeping_type


def state_value(name: str, meaning: str) -> Any:
    """Make the property that reads and writes what a module keeps under a name.

    At rest nothing is stored, and reading gives one value, float32 ``[1]`` on the module's device,
    or None where there is no value at rest. Type checkers take no type from a property that is
    made by a call: the class writes ``name: Tensor = state_value(...)``, or ``Tensor | None``.
    """

    def get(self: "KeepsState") -> Tensor | None:
        kept, rest = self._kept[name], self._rest[name]
        if kept is not None or rest is None:
            return to_keep(kept) if self._writes_in_place and kept is not None else kept
        return torch.full((1,), rest, dtype=torch.float32, device=self.device)

    def put(self: "KeepsState", value: Tensor | None) -> None:
        self._kept[name] = value

    return property(get, put, doc=meaning)


def to_keep(x: Tensor) -> Tensor:
    """Return a copy without gradient that no later call, of whatever kind, is unable to use."""
    if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
        with torch.inference_mode(False):  # training calls cannot save an inference tensor
            return x.clone()
    return (x.detach() if x.requires_grad else x).clone()


def usable(x: Tensor | None) -> Tensor | None:
    """Return what was kept in a form that a training call can save.

    A compiled graph that ran in inference mode keeps inference tensors.
    """
    if x is None or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return x
    return x.clone() if x.is_inference() else x


class KeepsState(KeepsFloat32):
    """Mixin of modules that keep tensors from one call to the next.

    ``_kept`` holds them by name, None at rest, and ``_rest`` the value that stands for None.
    """

    _writes_in_place = False  # what is kept may change after it was read, see blocks/stream.py
    _kept: dict[str, Tensor | None]
    _rest: dict[str, float | None]
    _alive: ClassVar[WeakValueDictionary[int, "KeepsState"]] = WeakValueDictionary()

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        KeepsState._alive[id(self)] = self
        self._kept = {}
        self._rest = {}
        self._seen_finite: dict[str, tuple[int, int]] = {}  # see limits.py
        self._moved_to: torch.device | None = None  # for modules that have no tensor

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes of another one, as copies and pickles do."""
        parent: Any = super()  # Module's
        parent.__setstate__(state)
        KeepsState._alive[id(self)] = self

    @staticmethod
    def alive() -> list["KeepsState"]:
        """Return all modules that keep something and live."""
        modules = (reference() for reference in KeepsState._alive.valuerefs())  # one instant's
        return [m for m in modules if m is not None and "_kept" in m.__dict__]

    def _add_states(self, **rest: float | None) -> None:
        """Keep what the class names by ``state_value``, with its values at rest."""
        for name, value in rest.items():
            self._rest[name] = None if value is None else float(value)
            self._kept[name] = None

    def reset_state(self) -> None:
        """Return to rest: the next call starts as the first one did."""
        for name in self._kept:
            self._kept[name] = None

    def __prepare_scriptable__(self) -> Any:
        """Refuse ``torch.jit.script``, which calls this first."""
        raise TypeError(
            f"torch.jit.script cannot compile a {type(self).__module__}.{type(self).__name__}: use "
            f"torch.compile, torch.export.export or torch.jit.trace"
        )

    @property
    def device(self) -> torch.device:
        """Device of the parameters, or of what is kept where there are none."""
        for own in (*self._parameters.values(), *self._buffers.values(), *self._kept.values()):  # type: ignore[attr-defined]
            if own is not None:
                return own.device
        if self._modules:  # type: ignore[attr-defined]
            for parameter in self.parameters():  # type: ignore[attr-defined]
                return parameter.device
        return self._moved_to or torch.device("cpu")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        move = keeping_type(fn)
        for name, value in self._kept.items():
            if value is not None:
                self._kept[name] = move(value)
        if not self._parameters:  # type: ignore[attr-defined]
            self._moved_to = move(torch.empty(0, dtype=torch.float32, device=self.device)).device
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in self._rest:  # what older modules saved
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]


def reset_state(net: torch.nn.Module) -> None:
    """Return a whole network to rest: its next call starts as the first one did.

    Calls ``reset_state()`` of every neuron, delay and block of lapilli in it; networks from files
    (``lapilli.export.load``), compiled ones and those within ``DistributedDataParallel`` included.

    Parameters
    ----------
    net
        Any module.

    Examples
    --------
    >>> import torch
    >>> import lapilli
    >>> from lapilli import slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1, persistent_state=True)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2))
    >>> x = torch.rand(4, 3, 10)
    >>> first = net(x)  # leaves its state
    >>> lapilli.reset_state(net)
    >>> torch.equal(net(x), first)
    True
    """
    for module in net.modules():
        if isinstance(module, KeepsState):
            module.reset_state()


class Stateful(KeepsState, LazySize, torch.nn.Module):
    """Base of the modules with input ``[N, neurons..., T]`` and state ``[N, neurons...]``.

    Parameters
    ----------
    persistent_state
        Keep the state from one call to the next instead of starting from rest.

    Attributes
    ----------
    shape : torch.Size or None
        Shape of the neurons, without batch and time; known after the first call.
    num_neurons : int or None
        Their number.
    began_at_rest : bool
        Whether all of the state, or a part of it, was at rest when the last call began.
    """

    _fixed: ClassVar[dict[str, str]] = {}  # what only the constructor sets, and what to do instead
    _derived: ClassVar[dict[str, str]] = {}  # what is only read, and what to set instead

    def __init__(self, persistent_state: bool):
        super().__init__()
        self.shape: torch.Size | None = None
        self.num_neurons: int | None = None
        self.persistent_state = flag("persistent_state", persistent_state)
        self._within_step = False  # a call is one step of another, see ``stepping``
        self._last_call = {"began_at_rest": False}  # a dict: quicker to write than an attribute

    @property
    def rests(self) -> bool:
        """Whether all of the state, or a part of it, is at rest now."""
        return any(s is None or s.ndim <= 1 for s in self._kept.values())

    def __setattr__(self, name: str, value: Any) -> None:
        advice = self._fixed.get(name)
        if advice is not None and value is not self.__dict__.get(name, value):
            if value != self.__dict__[name]:
                raise AttributeError(
                    f"{name} of a {type(self).__module__}.{type(self).__name__} cannot be set to "
                    f"{value!r}: {advice}"
                )
        elif name in self._derived:
            raise AttributeError(
                f"{name} of a {type(self).__module__}.{type(self).__name__} follows from other "
                f"values; {self._derived[name]}"
            )
        super().__setattr__(name, value)

    @property
    def began_at_rest(self) -> bool:  # noqa: D102 (the class says it)
        return self._last_call["began_at_rest"]

    def _note_rest(self, resting: bool) -> None:
        """Keep whether a call begins at rest.

        A compiled graph that is checkpointed may write nothing, so what stays is not written. It is
        where states persist, or each of the two would be compiled for.
        """
        if self.persistent_state or self._last_call["began_at_rest"] != resting:
            self._last_call["began_at_rest"] = resting

    def _state(self, batch: int) -> Any:
        """State before this call, each ``[batch, neurons...]``; None at rest."""
        if self.persistent_state:
            refuse_lost_state(self)
        states = [usable(self._kept[name]) for name in self._rest]
        resting = [s is None or s.ndim <= 1 for s in states]  # one value: somebody wrote it
        self._note_rest(any(resting))
        given = [s for s in states if s is not None]
        if not given:
            return None
        if any(s.ndim > 1 and s.shape[0] != batch for s in given):
            Stateful.reset_state(self)
            self._note_rest(True)
            return None
        if not any(resting):
            return tuple(given)
        # names are those of state_value, whose reading gives the value at rest
        every = [getattr(self, name) for name in self._rest]
        neurons: Any = self.shape  # known by now
        return tuple([s if s.ndim > 1 else s.expand(batch, *neurons) for s in every])

    def _keep_state(self, **states: Tensor) -> None:
        """Keep copies, detached: what a call keeps for its backward is never written.

        On a GPU, where nothing writes into what is kept, a whole tensor is kept as it is.
        """
        if self.persistent_state:
            for name, state in states.items():
                whole = not (state.is_cpu or state._is_view() or state.is_inference())
                tracing = torch.compiler.is_compiling()
                keep = torch.Tensor.detach if whole and not tracing else to_keep
                self._kept[name] = keep(state)

    def _keeps(self, x: Tensor) -> bool:
        """Whether a call with ``x`` leaves a state: no steps leave it as it is."""
        return self.persistent_state and x.shape[-1] > 0

    def _keep_last(self, **series: Tensor) -> None:
        """Keep the last of the states over time, each ``[N, neurons..., T]``."""
        if self.persistent_state:
            steps = {name: states[..., -1] for name, states in series.items() if states.shape[-1]}
            self._keep_state(**steps)

    def _check(self, x: Tensor) -> None:
        """Check an input ``[N, neurons..., T]`` and learn the shape of the neurons."""
        usual = (
            wrong_type(x) is None
            and x.shape[1:-1] == self.shape
            and x.device == self.device
            and not x.is_complex()
        )
        if not usual:  # messages take longer than a step
            self._learn(x)

    def _learn(self, x: Tensor) -> None:
        wrong = wrong_type(x)
        if wrong is not None:
            raise InputTypeError(f"neuron input {wrong}")
        require(
            x.ndim >= 3,
            f"expected input to have at least 3 dimensions [batch, neuron dims..., time]; got "
            f"shape {tuple(x.shape)}. For a single sample use x.unsqueeze(0).",
        )
        require(
            not x.is_complex(),
            f"neuron input must be real; got {x.dtype}. Complex neurons take a pair (real, imag).",
        )
        if self._has_device() and x.device != self.device:
            raise ValueError(
                f"neuron input is on {x.device} but the neuron is on {self.device}; move one of "
                f"them with .to(device)"
            )
        shape = x.shape[1:-1]
        if self.shape is None:
            self.shape = shape
        require(
            tuple(shape) == tuple(self.shape),
            f"expected input of neuron shape {tuple(self.shape)}, as in the first call; got "
            f"{tuple(shape)} (input shape {tuple(x.shape)})",
        )
        if self.num_neurons is None:
            self.num_neurons = math.prod(shape)

    def _has_device(self) -> bool:
        """Whether there is a tensor that the input must be on one device with."""
        return len(self._parameters) > 0 or any(s is not None for s in self._kept.values())


_CANNOT_PERSIST = (
    "a state cannot persist through {}: build the neurons with persistent_state=False, or set "
    "persistent_state of the neurons to False for this call"
)


def refuse_lost_state(module: torch.nn.Module) -> None:
    """Raise where a module whose state persists is called by what cannot carry a state.

    A backward pass calls it where activation checkpointing computes a part of a network again; the
    state has moved on by then, so the gradients would be those of other numbers. Transforms of
    ``torch.func`` would leave their own tensors in the module, and a program that is exported or
    traced would begin at each call with the state that the module happened to have.
    """
    if torch.compiler.is_compiling():
        if is_exported():
            raise RuntimeError(_CANNOT_PERSIST.format("torch.export"))
        return
    if is_transformed():
        raise RuntimeError(_CANNOT_PERSIST.format("a transform of torch.func"))
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(_CANNOT_PERSIST.format("torch.jit.trace"))
    if torch._C._len_torch_dispatch_stack() and get_proxy_mode() is not None:
        raise RuntimeError(_CANNOT_PERSIST.format("make_fx"))
    if torch._C._current_graph_task_id() == -1:
        return
    if getattr(module, "_within_step", False):
        return
    raise RuntimeError(
        f"a {type(module).__module__}.{type(module).__name__} with persistent_state=True was "
        f"called within a backward pass, as torch.utils.checkpoint does to compute a part of the "
        f"network again. Its state has moved on since, so the results would be others. Build the "
        f"neurons of the checkpointed part with persistent_state=False, or leave that part out of "
        f"torch.utils.checkpoint."
    )


def refuse_graph(x: Tensor, why: str) -> None:
    """Raise where ``x`` is computed for a CUDA graph: what Python adds up is done once only."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(why)


@contextlib.contextmanager
def stepping(neuron: Any, linked: bool = False) -> Iterator[None]:
    """Let a neuron keep its state from step to step of one call, and forget it where it would.

    With ``linked`` a resonator also hands the gradient of its state from step to step.
    """
    modules = [m for m in neuron.modules() if isinstance(m, Stateful)]
    before = [(m.persistent_state, dict(m._kept)) for m in modules]
    for module in modules:
        module.persistent_state = module._within_step = True
    if linked:
        neuron._links = ()
    try:
        yield
    finally:
        if linked:
            neuron._links = None
        for module, (persistent, kept) in zip(modules, before, strict=True):
            module.persistent_state, module._within_step = persistent, False
            if not persistent:
                module._kept.update(kept)
