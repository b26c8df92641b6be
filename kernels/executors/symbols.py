"""Numbers and addresses that a kernel is traced with: what they are made of, not what they are.

``Value`` is a number of each neuron, or of all of them; arithmetic with it makes others. The same
operation on the same values is the same value. An address is a tensor and a place in it.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]
LEAVES = ("argument", "number", "state", "before", "last")  # values of no others
Kind = str  # of a number: "int", "uint", "float" or "bool"

_values: dict[Any, "Value"] = {}  # those of the kernel that is traced


def forget() -> None:
    """Forget all values: another kernel is traced."""
    _values.clear()


class Stage(enum.IntEnum):
    """When a value is known: once a call, a block of channels, a sample, a step, or at the end."""

    CALL = 0
    CHANNELS = 1
    SAMPLE = 2
    STEP = 3
    END = 4


@dataclass(frozen=True, eq=False)
class Value:
    """A number of each neuron, or of all of them (not ``of_lanes``), and how it is computed."""

    op: str
    args: tuple[Any, ...]
    kind: Kind
    stage: Stage
    of_lanes: bool

    def __bool__(self) -> bool:
        raise TypeError(
            f"a kernel branches on a number that it computes ({self.op}); a branch may depend on "
            "constants and on tensors that are absent. Use tl.where."
        )

    def to(self, kind: Any, bitcast: bool = False) -> "Value":
        """Convert."""
        if bitcast:
            raise NotImplementedError("the bits of a number as another kind: only ``larger`` may")
        return value_of(kind.name, (self,), kind.kind)

    def __neg__(self) -> "Value":
        return value_of("negative", (self,), self.kind)


def _operator(op: str, swapped: bool = False, kind: Kind | None = None) -> Function:
    def method(self: Value, other: Any) -> Any:
        if not isinstance(other, (Value, int, float)):
            return NotImplemented
        if isinstance(other, int) and other == 0 and self.kind != "float":
            if op == "multiply":
                return 0
            if op == "add":
                return self
        a, b = (other, self) if swapped else (self, other)
        return value_of(op, (a, b), kind or joint(a, b))

    return method


_ARITHMETIC = {
    "add": "add", "sub": "subtract", "mul": "multiply", "lshift": "left_shift",
    "rshift": "right_shift", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip
for _name, _op in _ARITHMETIC.items():
    setattr(Value, f"__{_name}__", _operator(_op))
    setattr(Value, f"__r{_name}__", _operator(_op, swapped=True))
Value.__truediv__ = _operator("divide", kind="float")  # type: ignore[attr-defined]
Value.__rtruediv__ = _operator("divide", True, "float")  # type: ignore[attr-defined]
for _name, _op in (
    ("lt", "<"),
    ("le", "<="),
    ("gt", ">"),
    ("ge", ">="),
    ("eq", "=="),
    ("ne", "!="),
):
    setattr(Value, f"__{_name}__", _operator(_op, kind="bool"))
Value.__hash__ = object.__hash__  # type: ignore[method-assign]


def kind_of(x: Any) -> Kind:
    """Return the kind of a symbol or of a number of Python's."""
    if isinstance(x, Value):
        return x.kind
    return "bool" if isinstance(x, bool) else "float" if isinstance(x, float) else "int"


def stage_of(x: Any) -> Stage:
    """Return the stage of a symbol; numbers of Python's are known before a call."""
    return x.stage if isinstance(x, Value) else Stage.CALL


def joint(*args: Any) -> Kind:
    """Return the kind of what is computed from several."""
    kinds = {kind_of(a) for a in args}
    return next(k for k in ("float", "uint", "int", "bool") if k in kinds)


def value_of(op: str, args: tuple[Any, ...], kind: Kind) -> Value:
    """Return the value of an operation on others."""
    of_lanes = any(isinstance(a, Value) and a.of_lanes for a in args)
    return known(op, args, kind, max(map(stage_of, args)), of_lanes)


def known(op: str, args: tuple[Any, ...], kind: Kind, stage: Stage, of_lanes: bool) -> Value:
    """Return the value of an operation: the same for the same arguments."""
    # by identity: 0 and 0.0 are equal, a NaN is not, and ``==`` of a value makes another
    key = op, kind, tuple(id(a) if isinstance(a, Value) else (type(a), repr(a)) for a in args)
    if key not in _values:
        _values[key] = Value(op, args, kind, stage, of_lanes)
    return _values[key]


# What addresses are made of


@dataclass(frozen=True)
class Pointer:
    """A tensor that a kernel is given; ``name`` is that of the argument of the loop."""

    name: str

    def __add__(self, other: Any) -> Any:
        if other is BASE or (isinstance(other, int) and other == 0):
            return self
        if isinstance(other, (Row, Parameter, Neuron)):
            return Address(self.name, other)
        return NotImplemented


@dataclass(frozen=True)
class Row:
    """A row of ``[N, rows, C]``: so many behind that of step t, or one by its number."""

    step: Any  # a number of Python's, or a value

    def __add__(self, other: Any) -> Any:
        if isinstance(other, int) and other == 0:
            return self
        if not isinstance(other, Steps):
            return NotImplemented
        whole = isinstance(other.steps, int)
        return Row(self.step + other.steps) if whole else Row(other.steps)

    def __sub__(self, other: Any) -> Any:
        return Row(self.step - 1) if isinstance(other, Columns) else NotImplemented

    def __mul__(self, other: int) -> int:
        assert other == 0, "of a place in a row only what it begins with is used"
        return 0


@dataclass(frozen=True)
class Shifted:
    """So many rows behind that of step t, and with SHIFT one more."""

    steps: int


@dataclass(frozen=True)
class Steps:
    """So many rows."""

    steps: Any


class Columns:
    """Neurons of a sample: the distance from one row to the next."""

    def __mul__(self, steps: Any) -> Steps:
        return Steps(steps)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Parameter:
    """The entry of a parameter for a neuron, of which ``per`` consecutive ones share it."""

    per: Value


@dataclass(frozen=True)
class Neuron:
    """A neuron of all samples, or (``// per``) of one."""

    def __lt__(self, other: Any) -> Any:
        return LIVE

    def __mul__(self, other: int) -> int:
        assert other == 0, "no number of a neuron is computed with"
        return 0

    def __floordiv__(self, per: Value) -> Parameter:
        return Parameter(per)


class Live:
    """That a lane has a neuron: on a CPU all have one."""

    def __and__(self, other: Any) -> Any:
        return other

    __rand__ = __and__


BASE, LIVE = object(), Live()


@dataclass(frozen=True)
class Address:
    """A place in a tensor: a row, an entry of a parameter, or the neuron's of ``[N, C]``."""

    name: str
    place: Row | Parameter | Neuron


def is_state(name: str) -> bool:
    """Whether an argument is a state before or after the sequence, which a call may lack."""
    return name[-1] in "01"


def can_be_outside(step: Any) -> bool:
    """Whether a row can lie outside of the sequence."""
    return isinstance(step, Shifted) or (isinstance(step, int) and step != 0)
