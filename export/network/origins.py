"""Where a tensor of a running network comes from: of which tensors it is a rearrangement."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

# what hands the values on in their order: shapes, places in memory and devices may change
_HANDS_ON = {
    "alias", "alpha_dropout", "clone", "contiguous", "cpu", "cuda", "detach", "detach_", "dropout",
    "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "flatten", "float", "movedim",
    "permute", "ravel", "requires_grad_", "reshape", "reshape_as", "squeeze", "squeeze_",
    "swapaxes", "to", "transpose", "type_as", "unflatten", "unsqueeze", "unsqueeze_", "view",
    "view_as",
}  # fmt: skip


class Origins(TorchFunctionMode):
    """Knows which tensors have the values of a block's output only on the probe.

    ``acted`` holds, for tensors that descend from the network's input or a block's output, the name
    of a function that is no part of any block and that they went through, or None.
    """

    def __init__(self, by_example: bool):
        super().__init__()
        self.by_example = by_example  # of the length that the network is used with
        self.depth = 0  # of blocks that run within others
        self.acted: dict[int, tuple[Tensor, str | None]] = {}  # by id, with what keeps it alive

    def begin(self, *tensors: Tensor) -> None:
        """Take note of an input of the network or an output of a block."""
        for x in tensors:
            self.acted[id(x)] = x, None

    def of(self, x: Tensor) -> str | None:
        """Return the name of a function that a tensor went through, or None."""
        return self.acted.get(id(x), (x, None))[1]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [x for x in tensors_of((args, kwargs or {})) if id(x) in self.acted]
        if self.depth == 0 and given:
            name = getattr(func, "__name__", str(func))
            through = next(filter(None, map(self.of, given)), None)
            if name == "__get__":  # an attribute of a tensor, such as data
                name = "contiguous"
            indexed = name == "__getitem__" and (self.by_example or _takes_all(args[1]))
            converted = any(x.dtype != given[0].dtype for x in tensors_of(result))
            if converted or not (name in _HANDS_ON or indexed):
                through = through or name
            changed = given[:1] if name == "__setitem__" else []
            for x in (*tensors_of(result), *changed):
                self.acted[id(x)] = x, through
        return result


def _takes_all(index: Any) -> bool:
    """Whether an index takes whole dimensions, whatever their length, or one place of them."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None
        or part is Ellipsis
        or type(part) is int
        or (isinstance(part, slice) and part in (slice(None), slice(0, None)))
        for part in parts
    )


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from tensors_of(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from tensors_of(value)
