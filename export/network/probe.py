"""The chain of blocks that a network really runs, and whether a file gives the same.

A copy of the network runs once on a probe, in eval mode and from rest. The output of every block is
replaced by new random spikes and values before it goes on. What reaches the next block then tells
where it comes from, and anything computed in between shows; each block gets a busy input, however
silent the blocks before it are.
"""

import contextlib
import copy
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lapilli.export.file.shapes import smallest_input
from lapilli.export.file.tables import KINDS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .blocks import blocks_of, kind_of, name_of
from .build import reset
from .describe import survey
from .origins import Origins, tensors_of

SAMPLES, STEPS = 2, 32

_AS_LIST = "give save the blocks as a list if they alone, in their order, are meant"


class ChainError(ValueError):
    """What a network runs is not one chain of blocks, or not what the file holds."""


class ProbeError(ValueError):
    """The network does not take the probe."""


@dataclass
class Call:
    """One call of a block on the probe.

    ``block`` belongs to the network, ``twin`` to its copy; ``name`` is the path to it. ``output``
    is what the block gave, ``passed`` what went on in its place. ``acted`` names a function that
    the input went through in the network's forward, if there is one that more than hands it on.
    """

    block: Any
    twin: Any
    name: str
    input: Any
    output: Tensor
    passed: Tensor
    acted: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({name_of(self.block)})"


def trace(
    net: nn.Module | Sequence[nn.Module],
    example: Tensor | tuple[Any, ...] | None = None,
    input_shape: Sequence[int] | None = None,
) -> list[Call]:
    """Run a copy of a network on a probe and return the calls of its blocks, a chain.

    Parameters
    ----------
    net
        Blocks in order, or a module that runs or holds them; neither it nor torch's random
        generator is changed.
    example
        Input ``[N, neurons..., T]``, or a tuple of the arguments of ``forward``.
    input_shape
        Shape of a sample without time; ``SAMPLES`` of ``STEPS`` steps are made of it. Without both,
        the first block that tells the shape of its input decides.

    Raises
    ------
    ProbeError
        If the network does not take the input, or nothing tells its shape.
    ChainError
        If the blocks do not run as one chain from the network's input to its output.
    """
    whole = _module(net)
    if example is not None:
        arguments = example if isinstance(example, tuple) else (example,)
        return _Run(whole, arguments, "example").calls
    if input_shape is not None:
        shape = tuple(input_shape)
        return _Run(whole, _probe(whole, shape), f"input_shape {shape}").calls
    refused: ProbeError | None = None
    for shape in _guesses(whole):
        try:
            return _Run(whole, _probe(whole, shape), f"a probe of shape {shape}").calls
        except ProbeError as error:
            refused = refused or error
    if refused is None:
        raise ProbeError("no block tells the shape of the network's input; give example=")
    raise ProbeError(f"{refused}; give example=, an input that the network takes, or {_AS_LIST}")


def compare(calls: list[Call], blocks: Sequence[nn.Module], expected: Sequence[bool]) -> None:
    """Run the blocks of a file on the inputs of a trace.

    Parameters
    ----------
    calls
        What ``trace`` returned.
    blocks
        One for each call, in order, at rest.
    expected
        For each call, whether the outputs must be equal.

    Raises
    ------
    ChainError
        If a block that must give equal output does not; names the first one.
    """
    for i, (call, block, equal) in enumerate(zip(calls, blocks, expected, strict=True)):
        if not equal:
            continue
        with torch.no_grad():
            y = _first(block.to(call.output.device)(call.input))
        if y.shape == call.output.shape and torch.equal(y, call.output):
            continue
        values = "values"
        if y.shape == call.output.shape:
            values = f"{int((y != call.output).sum())} of {y.numel()} values"
        raise ChainError(
            f"layer {i}, {call}: {values} differ between the network and its file, on a probe. "
            f"Something that a file does not hold changes what the block does: a forward or a "
            f"neuron of its own, a hook, a parametrisation; remove it, or pass verify=False"
        )


def _module(net: Any) -> nn.Module:
    return net if isinstance(net, nn.Module) else nn.ModuleList(map(_module, net))


def _probe(net: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor]:
    tensors = (*net.parameters(), *net.buffers())
    device = tensors[0].device if tensors else torch.device("cpu")
    return (_stimulus((SAMPLES, *shape, STEPS), torch.Generator().manual_seed(0)).to(device),)


def _stimulus(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Make spikes, and from the middle on values from -2 to 2, which drive any neuron."""
    sends = torch.rand(*shape, generator=generator) < 0.3
    values = 1 - 2 * torch.randint(2, shape, generator=generator)
    values *= 1 + torch.randint(2, shape, generator=generator)
    late = torch.arange(shape[-1]) >= shape[-1] // 2
    return torch.where(late, values, 1) * sends.float()


def _guesses(net: nn.Module) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of the blocks' inputs, each once."""
    seen = set()
    for block in blocks_of(net):
        shape = smallest_input(survey(block)[0])
        if shape is not None and shape not in seen:
            seen.add(shape)
            yield shape


class _Detached(TorchFunctionMode):
    """Lets ``deepcopy`` copy tensors with a history, such as outputs that a network keeps."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            args[1][id(args[0])] = made = args[0].detach().clone()
            return made
        return func(*args, **(kwargs or {}))


def copy_of(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a copy, also of a module that keeps tensors with a history."""
    with _Detached():
        return copy.deepcopy(module, memo)


def _copied(net: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a copy in eval mode; ``memo`` gets the copies of everything by id."""
    try:
        twin = copy_of(net, memo)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ProbeError(
            f"the network cannot be copied to run it on a probe: {error}. Keep what cannot be "
            f"copied outside of it, or {_AS_LIST}"
        ) from error
    return twin.eval()


class _Run:
    """One run of a copy on the probe; ``calls`` is the chain."""

    def __init__(self, net: nn.Module, arguments: tuple[Any, ...], given: str):
        self.arguments = arguments
        self.calls: list[Call] = []
        self.generator = torch.Generator().manual_seed(1)
        self.running: nn.Module | None = None
        twins: dict[int, Any] = {}
        twin = _copied(net, twins)
        listed = blocks_of(net)
        names = {id(module): name for name, module in net.named_modules()}
        names |= {id(b): f"blocks.{i}" for i, b in enumerate(listed) if id(b) not in names}
        self.required = {id(block) for block in listed}
        every = {id(m): m for m in (*net.modules(), *listed) if kind_of(m) is not None}
        # by the id of the copy: the block and its name
        self.blocks = {id(twins[i]): (b, names[i] or "the network") for i, b in every.items()}
        for i in every:
            reset(twins[i].eval())  # a list of blocks is no part of what eval() reaches
            twins[i].register_forward_pre_hook(self._enters, prepend=True, with_kwargs=True)
            twins[i].register_forward_hook(self._leaves, with_kwargs=True)
        cuda = {t.device for t in tensors_of(arguments) if t.device.type == "cuda"}
        self.origins = Origins(by_example=given == "example")
        given_to = _kept(arguments)
        self.origins.begin(*tensors_of(given_to))
        try:
            with torch.no_grad(), torch.random.fork_rng(cuda), _eager(), self.origins:
                result = _forward(twin, *given_to)
        except Exception as error:
            raise ProbeError(f"{given} does not suit {self._place()}: {error}") from error
        self._check_chain(result)

    def _place(self) -> str:
        if self.running is None:
            return "the network's forward"
        block, _ = self.blocks[id(self.running)]
        return f"layer {len(self.calls)} ({name_of(block)})"

    # hooks

    def _enters(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.origins.depth += 1
        if self.origins.depth == 1:
            self.running = module
            given = args[0] if args else next(iter(kwargs.values()))
            self.acted = next(filter(None, map(self.origins.of, tensors_of(given))), None)
            self.input = _kept(given)

    def _leaves(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        self.origins.depth -= 1
        if self.origins.depth:
            return output
        self.running = None
        y = _first(output)
        passed = torch.empty_like(y).copy_(_stimulus(y.shape, self.generator))
        block, name = self.blocks[id(module)]
        self.calls.append(Call(block, module, name, self.input, y.clone(), passed, self.acted))
        sent = torch.empty_like(y).copy_(passed)  # ``passed`` stays if forward writes into it
        self.origins.begin(sent)
        return (sent, *output[1:]) if isinstance(output, tuple) else sent

    # the chain

    def _check_chain(self, result: Any) -> None:
        remedy = f"a network file holds one chain of blocks; {_AS_LIST}"
        ran = {id(call.block) for call in self.calls}
        for block, name in self.blocks.values():
            if id(block) not in ran and id(block) in self.required:
                raise ChainError(
                    f"{name} ({name_of(block)}) does not run in the network's forward, "
                    f"or not by a call of the block; {remedy}"
                )
        for i, call in enumerate(self.calls):
            before = self.calls[i - 1] if i else None
            if not self._comes_from(call.input, before):
                raise ChainError(f"{self._wrong_input(i)}; {remedy}")
            if call.acted is not None:
                source = f"the output of {before}" if before else "the network's input"
                raise ChainError(
                    f"{call} gets {source} by way of {call.acted} in the network's forward, which "
                    f"changed nothing on the probe but may on other input; {remedy}"
                )
            if id(call.block) in {id(c.block) for c in self.calls[:i]} and _keeps_state(call.block):
                raise ChainError(
                    f"{call} runs twice and keeps its state from one call to the next; two layers "
                    f"of a file have a state each"
                )
        if not self.calls:
            return
        last = self.calls[-1]
        every = list(tensors_of(result))
        returned = [t for t in every if _equal(t, last.passed)]
        if not returned:
            raise ChainError(
                f"the network does not return the output of {last}, its last block, but something "
                f"computed from it; {remedy}"
            )
        if isinstance(result, (tuple, list)) and not _equal(every[0], last.passed):
            raise ChainError(
                f"the first of what the network returns is not the output of {last}, its last "
                f"block, which is what a file holds; return that first, or {_AS_LIST}"
            )
        ways = [self.origins.of(t) for t in returned]
        if None not in ways:
            raise ChainError(
                f"the network returns the output of {last}, its last block, by way of {ways[0]}, "
                f"which changed nothing on the probe but may on other input; {remedy}"
            )

    def _comes_from(self, x: Any, before: Call | None) -> bool:
        if before is not None:
            return isinstance(x, Tensor) and _equal(x, before.passed)
        given = list(tensors_of(self.arguments))
        parts = list(tensors_of(x))  # of an Input block a pair (real, imaginary)
        return bool(parts) and all(any(_equal(part, g) for g in given) for part in parts)

    def _wrong_input(self, i: int) -> str:
        call = self.calls[i]
        expected = f"the output of {self.calls[i - 1]}, which runs before it" if i else (
            "the network's input, though it runs first"
        )  # fmt: skip
        for earlier in self.calls[: max(i - 1, 0)]:
            if self._comes_from(call.input, earlier):
                return f"{call} gets the output of {earlier}, not {expected}"
        if i and self._comes_from(call.input, None):
            return f"{call} gets the network's input, not {expected}"
        return (
            f"{call} does not get {expected}, but something computed in the network's forward, "
            f"such as a sum, a concatenation or a function of it"
        )


def _forward(module: nn.Module, *arguments: Any) -> Any:
    """Run a module; one without a forward runs its blocks, or its children, in order."""
    own = type(module).forward is not nn.Module.forward or "forward" in module.__dict__
    if own:
        return module(*arguments)
    x = _first(arguments)
    children: Any = module.blocks if hasattr(module, "blocks") else module._modules.values()
    for child in children:
        if child is not None:
            x = _first(_forward(child, _flattened(child, x)))
    return x


def _flattened(block: Any, x: Any) -> Any:
    """Flatten an image for a dense block that takes none, as the file does."""
    kind = kind_of(block)
    if kind is None or KINDS[kind[1]].type not in ("dense", "dense_rec") or x.ndim != 5:
        return x
    synapse = block.input_synapse if hasattr(block, "input_synapse") else block.synapse
    takes_image = math.prod(synapse.kernel_size) != 1 or x.shape[1] == synapse.in_channels
    return x if takes_image else x.flatten(1, 3)


def _eager() -> contextlib.AbstractContextManager[Any]:
    """Run what torch.compile has made without it; importing it for that alone takes seconds."""
    if "torch._dynamo" in sys.modules:
        return torch.compiler.set_stance("force_eager")
    return contextlib.nullcontext()


def _kept(x: Any) -> Any:
    """Return a copy of tensors, and of tuples of them."""
    if isinstance(x, tuple):
        return tuple(map(_kept, x))
    return x.detach().clone() if isinstance(x, Tensor) else x


def _first(output: Any) -> Any:
    """Return a block's output without the event rate."""
    return output[0] if isinstance(output, tuple) else output


def _keeps_state(block: nn.Module) -> bool:
    return bool(getattr(getattr(block, "neuron", None), "persistent_state", False))


def _equal(x: Tensor, source: Tensor) -> bool:
    """Whether a tensor holds the values of another in their order, in any shape."""
    if x.numel() != source.numel():
        return False
    return torch.equal(x.reshape(-1).to(source), source.reshape(-1))
