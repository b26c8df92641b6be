"""A step of training as one CUDA graph: recorded once, then launched as a whole.

Small layers are over before Python has launched the next (docs/gpu.md). A graph holds all that a
step launches, on the memory that it had when it was captured. So what goes in is copied there, what
comes out is copied from there, and states that neurons keep are carried from its end to its start.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
from lapilli.neurons.state import KeepsState
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

Given = ParamSpec("Given")
Result = TypeVar("Result")

_NOT_CAPTURED = (
    "the step cannot be captured as a CUDA graph: {}. A step must launch the same work every time "
    "and never look at a value: no .item(), .cpu(), print or if of a tensor, no index by a mask, "
    "no tensor that is made on the CPU. Optimizers want capturable=True; with torch.amp.GradScaler "
    "they want fused=True too. Call the step itself where this cannot be changed."
)


def graphed(
    step: Callable[Given, Result], *, warmup: int = 3, device: torch.device | str | None = None
) -> Callable[Given, Result]:
    """Run a step of training, or of inference, as one CUDA graph; on a CPU as it is.

    Each call does what ``step`` does, with the tensors that it is given, and nothing else: the
    first ``warmup`` calls are plain ones, on a stream of their own, in which kernels compile and
    layers learn their shapes. The next one is captured, and this and all later ones are launched as
    a whole. On a CPU every call is a plain one, so that scripts need not tell the two apart.

    What the graph holds stays as it was: numbers, such as a learning rate that is no tensor, and
    the tensors that ``step`` takes from outside, such as parameters. What it does besides
    launching, such as printing, is not done again. States of neurons with ``persistent_state`` go
    on from call to call, and ``lapilli.reset_state(net)`` between calls returns them to rest.

    Parameters
    ----------
    step
        Function of tensors, in any tuples, lists and dicts, and of numbers. It has to contain
        ``zero_grad`` if it contains ``backward``. Its results may be of the same kinds.
    warmup
        Plain calls before the capture, at least 1.
    device
        Where the step runs, if it is given no tensors; else they tell, and those on the CPU are
        copied if others are on a GPU.

    Returns
    -------
    Callable
        Takes the arguments of ``step`` and returns its results, on either device without gradient,
        and in memory of their own.

    Raises
    ------
    ValueError
        For tensors of another shape, type or number than in the call that was captured, for other
        numbers, for an input that requires a gradient, and where a part of the states was reset.
    RuntimeError
        Where the step cannot be captured, and says why; where it reads a tensor by a name outside
        of it, and that is another tensor now.
    TypeError
        For a device that is neither a CPU nor one of CUDA or ROCm.

    Notes
    -----
    Optimizers want ``capturable=True``. With a ``torch.amp.GradScaler`` they also want
    ``fused=True``: others ask the device whether to skip a step. A scheduler wants a learning rate
    that is a tensor on the device. No figure of a GPU is behind this function yet: its recipe is
    the one that docs/gpu.md has measured.

    Examples
    --------
    >>> import torch
    >>> import lapilli
    >>> from lapilli import slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = slayer.block.cuba.Dense(neuron, 3, 2)
    >>> on_gpu = net.neuron.device.type == "cuda"
    >>> optimizer = torch.optim.Adam(net.parameters(), lr=0.01, capturable=on_gpu)
    >>> def step(spikes, target):
    ...     optimizer.zero_grad()
    ...     loss = (net(spikes).mean(-1) - target).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> step = lapilli.graphed(step)
    >>> for _ in range(5):
    ...     loss = step(torch.rand(4, 3, 10), torch.zeros(4, 2))
    >>> loss.requires_grad
    False
    """
    if not callable(step):
        raise TypeError(f"step must be a function; got {step!r} ({type(step).__name__})")
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 1:
        raise ValueError(f"warmup must be an integer of at least 1; got {warmup!r}")
    made = _Graphed(step, warmup, None if device is None else _supported(torch.device(device)))

    @functools.wraps(step)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        return made(args, kwargs)

    return call


def _supported(device: torch.device) -> torch.device:
    if device.type not in ("cpu", "cuda"):
        raise TypeError(
            f"a step can be graphed on CUDA and ROCm devices, and runs as it is on a CPU; got "
            f"device {str(device)!r}. Call the step itself there."
        )
    return device


def _has_graphs(device: torch.device) -> bool:
    return device.type == "cuda"


def _results(found: Any) -> Any:
    """Return results without gradient, in memory of their own."""
    return tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, found)


class _Graphed:
    """One step, before and after its capture."""

    def __init__(self, step: Callable[..., Any], warmup: int, device: torch.device | None):
        self.step = step
        self.warmup = warmup
        self.device = device
        self.calls = 0
        self.captured: _Captured | None = None
        self.shapes: dict[tuple[int, str], tuple[KeepsState, torch.Size, torch.dtype]] = {}

    def __call__(self, args: Any, kwargs: Any) -> Any:
        values, form = tree_flatten((args, kwargs))
        tensors = [v for v in values if isinstance(v, Tensor)]
        if any(t.requires_grad for t in tensors):
            raise ValueError(
                "a tensor given to a graphed step must not require a gradient, which would go to "
                "the graph's own copy; give x.detach(), or make it a parameter that the step reads"
            )
        device = _device_of(tensors, self.device)
        if not _has_graphs(device):
            return _results(self.step(*args, **kwargs))
        with torch.cuda.device(device):
            if self.captured is None:
                if self.calls < self.warmup:
                    return self._plain(values, form, device)
                self.captured = _Captured(self, values, form, device)
            return self.captured.replay(values, form)

    def _plain(self, values: list[Any], form: Any, device: torch.device) -> Any:
        """Call the step on a stream of its own, as the capture will."""
        side, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        side.wait_stream(here)
        with torch.cuda.stream(side):
            args, kwargs = tree_unflatten([_moved(v, device) for v in values], form)
            found = _results(self.step(*args, **kwargs))
        here.wait_stream(side)
        self.calls += 1
        if self.calls == self.warmup:  # what a state at rest will look like
            for module, name in _states():
                kept = module._kept[name]
                if kept is not None and kept.device.type == device.type:
                    self.shapes[id(module), name] = module, kept.shape, kept.dtype
        return found


class _Captured:
    """A captured step, and the memory that it works on."""

    def __init__(self, owner: _Graphed, values: list[Any], form: Any, device: torch.device):
        self.form = form
        self.given = [
            torch.empty_like(v, device=device).copy_(v) if isinstance(v, Tensor) else v
            for v in values
        ]
        self.read = _tensors_read(owner.step)
        before = {(m, n): m._kept[n] for m, n in _states()}
        for (id_, name), (module, shape, dtype) in owner.shapes.items():
            assert id_ == id(module)
            if before.get((module, name)) is None:  # a state that may be at rest at every start
                start = torch.full(shape, module._rest[name] or 0.0, dtype=dtype, device=device)
                module._kept[name] = start
        starts = {(m, n): m._kept[n] for m, n in before}
        self.states: list[tuple[KeepsState, str, Tensor]] = []
        self.graph = torch.cuda.CUDAGraph()
        args, kwargs = tree_unflatten(self.given, form)
        side = torch.cuda.Stream(device)
        try:
            # thread_local: those that load data may allocate pinned memory meanwhile
            with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                self.found = owner.step(*args, **kwargs)
                for (module, name), start in starts.items():
                    end = module._kept[name]
                    if end is not start:
                        self._carry(module, name, start, end)
        except Exception as error:
            for (module, name), kept in before.items():
                module._kept[name] = kept
            raise RuntimeError(_NOT_CAPTURED.format(str(error).strip() or repr(error))) from error
        for (module, name), kept in before.items():
            if kept is None and any(m is module and n == name for m, n, _ in self.states):
                module._kept[name] = None  # still at rest: nothing has run

    def _carry(
        self, module: KeepsState, name: str, start: Tensor | None, end: Tensor | None
    ) -> None:
        """Let the next run of the graph begin with the state that this one leaves."""
        if start is None or end is None or start.shape != end.shape:
            raise RuntimeError(
                f"{name} of a {type(module).__name__} changes from "
                f"{None if start is None else tuple(start.shape)} to "
                f"{None if end is None else tuple(end.shape)} in a step; a state of a graph keeps "
                f"its shape. Call lapilli.reset_state(net) between the steps, not within"
            )
        start.copy_(end)
        module._kept[name] = start
        self.states.append((module, name, start))

    def replay(self, values: list[Any], form: Any) -> Any:
        """Run the graph on other values."""
        self._check(values, form)
        for own, value in zip(self.given, values, strict=True):
            if isinstance(own, Tensor):
                own.copy_(value, non_blocking=True)
        self._take_states()
        self.graph.replay()
        return _results(self.found)

    def _take_states(self) -> None:
        """Copy states that were set or reset since the last run to where the graph reads them."""
        kept = [module._kept[name] for module, name, _ in self.states]
        resting = [k is None for k in kept]
        if any(resting) and not all(resting):
            raise ValueError(
                "some states of the network are at rest and others are not; return all of it to "
                "rest with lapilli.reset_state(net) between two calls of a graphed step"
            )
        for (module, name, start), now in zip(self.states, kept, strict=True):
            if now is None:
                start.fill_(module._rest[name] or 0.0)
            elif now is not start:
                start.copy_(now)
            module._kept[name] = start

    def _check(self, values: list[Any], form: Any) -> None:
        if form != self.form:
            raise ValueError(
                f"a graphed step was captured with arguments of another structure: {self.form}; "
                f"got {form}. Make another one with lapilli.graphed for these."
            )
        for own, value in zip(self.given, values, strict=True):
            if isinstance(own, Tensor) and isinstance(value, Tensor):
                if (own.shape, own.dtype) != (value.shape, value.dtype):
                    raise ValueError(
                        f"a graphed step was captured with a tensor of shape {tuple(own.shape)}, "
                        f"{own.dtype}; got {tuple(value.shape)}, {value.dtype}. Let the loader "
                        f"leave out the last, smaller batch (drop_last=True), or make another "
                        f"graphed step for such tensors."
                    )
            elif isinstance(own, Tensor) or isinstance(value, Tensor) or own != value:
                raise ValueError(
                    f"a graphed step was captured with {_short(own)} in place of which it is given "
                    f"{_short(value)}; a graph holds numbers as they were. Give a tensor, which "
                    f"may have another value in each call."
                )
        for name, (where, tensor) in self.read.items():
            if where(name) is not tensor:
                raise RuntimeError(
                    f"a graphed step reads the tensor {name!r}, which is another one than when it "
                    f"was captured; the graph would go on reading the old one. Give it as an "
                    f"argument, or write into it with {name}.copy_(...)"
                )


def _short(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


def _device_of(tensors: list[Tensor], asked: torch.device | None) -> torch.device:
    """Return where a step runs."""
    if asked is not None:
        return asked
    if not tensors:
        raise ValueError(
            "a graphed step that is given no tensors cannot tell where it runs; say so with "
            "lapilli.graphed(step, device=...)"
        )
    devices = {_supported(t.device) for t in tensors}
    others = [d for d in devices if d.type != "cpu"]
    if len(others) > 1:
        raise ValueError(f"a graph is of one device; got tensors on {sorted(map(str, others))}")
    return others[0] if others else torch.device("cpu")


def _states() -> Iterator[tuple[KeepsState, str]]:
    """Return what all modules keep, by module and name: a step does not say which it runs."""
    for module in KeepsState.alive():
        for name in module._kept:
            yield module, name


def _tensors_read(step: Callable[..., Any]) -> dict[str, tuple[Callable[[str], Any], Tensor]]:
    """Return the tensors that a function reads by names outside of it, and how to look again."""
    while isinstance(step, functools.partial):
        step = step.func
    function = inspect.unwrap(step)
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=False))
    outside = function.__globals__

    def in_cell(name: str) -> Any:
        return cells[name].cell_contents

    places = [(name, in_cell) for name in cells]
    places += [(name, outside.get) for name in code.co_names if name in outside]
    found = {}
    for name, where in places:
        try:
            value = where(name)
        except ValueError:  # an empty cell
            continue
        if isinstance(value, Tensor):
            found[name] = where, value
    return found
