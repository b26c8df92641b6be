"""Run a Triton kernel on symbols, and keep what it computes: the source of its CPU loop.

A kernel that walks over time (rows.py) is ordinary Python once its arguments are symbols: a flag is
a number, an absent tensor is None, a loop over the rows of a chunk has one row, and arithmetic on
``Value`` writes itself down. What is left is one graph of operations on 32-bit numbers, each with
the stage at which it is known (``Stage``); walk.py writes it as a loop for Numba. So the walk of a
neuron is written once, in the language of Triton, and both executors do the same operations in the
same order.

Four functions of rows.py and fixed_point.py are about how a GPU walks, and mean something else
here: ``lanes``, ``walk_forward`` and ``walk_backward``, ``with_care``; ``larger`` and ``not_calm``
keep the largest input of a whole tile in place of one for each neuron.
"""

import enum
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lapilli.kernels.numbers import fixed_point, language
from lapilli.kernels.numbers.language import is_jit

from . import rows

Function = Callable[..., Any]
LEAVES = ("argument", "number", "state", "before", "last")  # values of no others
Kind = str  # of a number: "int", "uint", "float" or "bool"


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
        return _value(kind.name, (self,), kind.kind)

    def __neg__(self) -> "Value":
        return _value("negative", (self,), self.kind)


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
        return _value(op, (a, b), kind or _joint(a, b))

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


def _joint(*args: Any) -> Kind:
    kinds = {kind_of(a) for a in args}
    return next(k for k in ("float", "uint", "int", "bool") if k in kinds)


def _value(op: str, args: tuple[Any, ...], kind: Kind) -> Value:
    of_lanes = any(isinstance(a, Value) and a.of_lanes for a in args)
    return _known(op, args, kind, max(map(stage_of, args)), of_lanes)


def _known(op: str, args: tuple[Any, ...], kind: Kind, stage: Stage, of_lanes: bool) -> Value:
    """Return the value of an operation: the same for the same arguments."""
    # by identity: 0 and 0.0 are equal, a NaN is not, and ``==`` of a value makes another
    key = op, kind, tuple(id(a) if isinstance(a, Value) else (type(a), repr(a)) for a in args)
    values = Trace.current.values
    if key not in values:
        values[key] = Value(op, args, kind, stage, of_lanes)
    return values[key]


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


@dataclass(frozen=True)
class Store:
    """What is written where; ``stage`` is STEP or END."""

    address: Address
    value: Any
    stage: Stage


@dataclass(eq=False)
class Carried:
    """What a walk hands from one step to the next."""

    first: Any  # before the first step that is walked
    before: Value  # at the beginning of a step
    after: Any  # at its end
    last: Value  # after the walk


@dataclass
class Watch:
    """The bound of the states, see ``not_calm`` of fixed_point.py."""

    top: Any
    gain: Any
    scale: Any
    calm: Any


@dataclass
class Trace:
    """What a kernel computes."""

    rule: int
    values: dict[Any, Value] = field(default_factory=dict)
    stores: list[Store] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    backward: bool = False
    watch: Watch | None = None
    stage: Stage = Stage.SAMPLE  # of stores

    current: "Trace" = None  # type: ignore[assignment]


def is_state(name: str) -> bool:
    """Whether an argument is a state before or after the sequence, which a call may lack."""
    return name[-1] in "01"


def trace(kernel: Any, absent: Iterable[str], constants: dict[str, Any], rule: int) -> Trace:
    """Run a kernel on symbols.

    Parameters
    ----------
    kernel
        Triton kernel that walks over time.
    absent
        Names of the tensors that are None, without ``_ptr``; of states nobody knows.
    constants
        Its flags.
    rule
        What becomes of numbers that do not fit, see fixed_point.py.
    """
    found = Trace(rule)
    Trace.current = found
    given: dict[str, Any] = {}
    for name in inspect.signature(kernel.fn).parameters:
        if name.endswith("_ptr"):
            short = name.removesuffix("_ptr")
            given[name] = None if short in absent else Pointer(short)
        elif name == "C":
            given[name] = Columns()
        elif name in constants:
            given[name] = _translated(constants[name])
        elif name in ("U", "STAGES", "BLOCK"):
            given[name] = 1
        else:
            kind = "int" if name in language.WHOLE_NUMBERS else "float"
            given[name] = _known("argument", (name,), kind, Stage.CALL, False)
    _bound(kernel.fn)(**given)
    return found


def operands(x: Value) -> Iterator[Value]:
    """Yield the values that a value is computed from."""
    if x.op not in LEAVES:
        yield from (a for a in x.args if isinstance(a, Value))


def roots(found: Trace) -> Iterator[Any]:
    """Yield what is asked for, but for what is carried from step to step."""
    for store in found.stores:
        yield store.value
        if isinstance(store.address.place, Row):
            yield store.address.place.step
    if found.watch is not None and not found.rule:
        yield from (found.watch.top, found.watch.gain, found.watch.scale)


def prune(found: Trace) -> None:
    """Drop what is carried and nobody asks for."""
    seen: set[int] = set()

    def visit(x: Any) -> None:
        if isinstance(x, Value) and id(x) not in seen:
            seen.add(id(x))
            for a in operands(x):
                visit(a)

    for x in roots(found):
        visit(x)
    waiting, wanted = found.carried, []
    while True:
        needed = [c for c in waiting if id(c.before) in seen or id(c.last) in seen]
        if not needed:
            break
        waiting = [c for c in waiting if not any(c is other for other in needed)]
        wanted += needed
        for c in needed:
            visit(c.first)
            visit(c.after)
    found.carried = wanted


def with_shift(plain: Trace, shifted: Trace) -> Trace:
    """Return one trace for a kernel with and without SHIFT, which may only move rows by one.

    Raises
    ------
    NotImplementedError
        If SHIFT makes another difference.
    """
    Trace.current = plain
    pairs: dict[tuple[int, int], Any] = {}

    def both(a: Any, b: Any) -> Any:
        if not (isinstance(a, Value) and isinstance(b, Value)):
            if type(a) is type(b) and repr(a) == repr(b):
                return a
            raise NotImplementedError(f"with SHIFT a kernel computes {b!r} in place of {a!r}")
        key = id(a), id(b)
        if key not in pairs:
            if (a.op, a.kind, len(a.args)) != (b.op, b.kind, len(b.args)):
                raise NotImplementedError(f"with SHIFT a kernel has {b.op!r} in place of {a.op!r}")
            args = tuple(both(*each) for each in zip(a.args, b.args, strict=True) if a.op != "row")
            if a.op == "row":
                args = (both(a.args[0], b.args[0]), offset(a.args[1], b.args[1]),
                        both(a.args[2], b.args[2]))  # fmt: skip
            pairs[key] = _known(a.op, args, a.kind, a.stage, a.of_lanes)
        return pairs[key]

    def offset(a: Any, b: Any) -> Any:
        if isinstance(a, int) and isinstance(b, int) and b == a + 1:
            return Shifted(a)
        return both(a, b)

    def address(a: Address, b: Address) -> Address:
        if isinstance(a.place, Row) and isinstance(b.place, Row) and a.name == b.name:
            return Address(a.name, Row(offset(a.place.step, b.place.step)))
        return both(a, b)

    for found in (plain, shifted):
        prune(found)
    if len(plain.stores) != len(shifted.stores) or len(plain.carried) != len(shifted.carried):
        raise NotImplementedError("with SHIFT a kernel stores or carries other values")
    stores = [
        Store(address(a.address, b.address), both(a.value, b.value), a.stage)
        for a, b in zip(plain.stores, shifted.stores, strict=True)
    ]
    carried = [
        Carried(*(both(*each) for each in zip(_parts(a), _parts(b), strict=True)))
        for a, b in zip(plain.carried, shifted.carried, strict=True)
    ]
    watch = plain.watch
    if watch is not None and shifted.watch is not None:
        mine, other = ((w.top, w.gain, w.scale, w.calm) for w in (watch, shifted.watch))
        watch = Watch(*(both(*each) for each in zip(mine, other, strict=True)))
    return replace(plain, stores=stores, carried=carried, watch=watch)


def _parts(c: Carried) -> tuple[Any, ...]:
    return c.first, c.before, c.after, c.last


# The language


@dataclass(frozen=True)
class _Type:
    name: str
    kind: Kind


class _Language:
    """Stands for ``tl`` while a kernel is traced."""

    float32 = _Type("float32", "float")
    int32 = _Type("int32", "int")
    uint32 = _Type("uint32", "uint")
    static_range = range

    @staticmethod
    def zeros(shape: Any, kind: _Type) -> Value:
        return _known("number", (0.0 if kind.kind == "float" else 0,), kind.kind, Stage.CALL, False)

    @staticmethod
    def zeros_like(x: Value) -> Value:
        zero = 0.0 if x.kind == "float" else 0
        return _known("number", (zero,), x.kind, Stage.CALL, False)

    @staticmethod
    def where(condition: Any, a: Any, b: Any) -> Any:
        return a if condition is LIVE else _value("where", (condition, a, b), _joint(a, b))

    @staticmethod
    def load(address: Address, mask: Any = LIVE, other: Any = 0) -> Value:
        if isinstance(address.place, Parameter):
            found = address.name, address.place.per
            return _known("parameter", found, "float", Stage.CHANNELS, True)
        if isinstance(address.place, Neuron):
            return _known("state", (address.name,), "float", Stage.SAMPLE, True)
        step, condition = address.place.step, None if mask is LIVE else mask
        stage = Stage.SAMPLE if Trace.current.stage is Stage.SAMPLE else Stage.STEP
        return _known("row", (address.name, step, condition), "float", stage, True)

    @staticmethod
    def store(address: Address, value: Any, mask: Any = LIVE) -> None:
        Trace.current.stores.append(Store(address, value, Trace.current.stage))

    def __getattr__(self, name: str) -> Function:
        def operation(*args: Any) -> Value:
            return _value(name, args, _joint(*args) if name in _OF_ANY else "float")

        return operation


_OF_ANY = ("maximum", "minimum", "abs")
_LANGUAGE = _Language()
_bodies: dict[Function, Function] = {}


def _translated(x: Any) -> Any:
    """Return what a name of a kernel's module stands for while it is traced."""
    if x is language.tl:
        return _LANGUAGE
    if is_jit(x):
        return _MEANINGS.get(x.fn) or _bound(x.fn)
    return x.value if isinstance(x, language.tl.constexpr) else x


def _bound(fn: Function) -> Function:
    """Return a function of the kernels as one of symbols."""
    if fn not in _bodies:
        scope: dict[str, Any] = {"__builtins__": __builtins__}
        body = types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__)

        def run(*args: Any, **options: Any) -> Any:
            if args and isinstance(args[0], Pointer) and args[0].name.endswith("0"):
                return _with_or_without(body, *args)
            return body(*args, **options)

        _bodies[fn] = run  # before its names: it may be among them
        names = fn.__globals__
        scope.update({n: _translated(names[n]) for n in fn.__code__.co_names if n in names})
    return _bodies[fn]


def _with_or_without(body: Function, state: Pointer, *args: Any) -> Any:
    """Call a function of a state that a call may lack."""
    without, present = body(None, *args), body(state, *args)
    if not isinstance(present, tuple):
        return _given(state, without, present)
    return tuple(_given(state, *pair) for pair in zip(without, present, strict=True))


def _given(state: Pointer, without: Any, present: Any) -> Any:
    kind = _joint(without, present)
    return _known("given", (state.name, without, present), kind, Stage.SAMPLE, True)


def _lanes(T: Any, C: Any, BLOCK: Any) -> tuple[Any, ...]:
    return Neuron(), BASE, Row(0), Neuron()


def _walk(backward: bool) -> Function:
    def walk(
        step: Function, carry: Any, ptrs: Any, fixed: Any, base: Any, at: Any, live: Any, T: Any,
        C: Any, flags: Any, U: Any, STAGES: Any,
    ) -> Any:  # fmt: skip
        found = Trace.current
        several = isinstance(carry, tuple)
        carried = [
            Carried(
                first, _known("before", (k,), kind_of(first), Stage.STEP, True), None,
                _known("last", (k,), kind_of(first), Stage.END, True),
            )
            for k, first in enumerate(carry if several else (carry,))
        ]  # fmt: skip
        found.backward, found.stage = backward, Stage.STEP
        t = _known("argument", ("t",), "int", Stage.STEP, False)
        handed: list[Any] = [c.before for c in carried]
        settled = False
        while not settled:
            found.stores.clear()
            given = tuple(handed) if several else handed[0]
            after = step(given, ptrs, fixed, base, Row(0), live, t, C, flags, 1)
            settled = True
            for k, c in enumerate(carried):
                c.after = after[k] if several else after
                if handed[k] is c.before:
                    handed[k] = _without_carrying(c, backward)
                    settled = settled and handed[k] is c.before
        found.stage = Stage.END
        for c, kept in zip(carried, handed, strict=True):
            if kept is c.before:
                found.carried.append(c)
                if not backward and _is_zero(c.first):
                    found.stores = [_later(s, c) for s in found.stores]
            else:
                c.last = kept
        last = tuple(c.last for c in carried)
        return last if several else last[0]

    return walk


def _without_carrying(c: Carried, backward: bool) -> Any:
    """Return a carried value in another way, if there is one.

    What no step changes is what it was at first. A row that is kept for the next step is a row of
    the step before.
    """
    if c.after is c.before:
        return c.first
    if isinstance(c.after, Value) and c.after.op == "row" and _is_zero(c.first):
        name, offset, condition = c.after.args
        if isinstance(offset, int) and condition is None:
            before = offset + (1 if backward else -1)
            return _known("row", (name, before, None), c.after.kind, Stage.STEP, True)
    return c.before


def _later(store: Store, c: Carried) -> Store:
    """Return the store of a value that was kept for a step: a row of the step after."""
    if store.value is not c.before or store.address.place != Row(0):
        return store
    return Store(Address(store.address.name, Row(1)), c.after, store.stage)


def _is_zero(x: Any) -> bool:
    if isinstance(x, Value) and x.op == "number":
        x = x.args[0]
    return isinstance(x, (int, float)) and x == 0


def _with_care(
    walk: Function, ptrs: Any, decay_ptrs: Any, first_ptrs: Any, last_ptrs: Any, numbers: Any,
    T: Any, C: Any, M: Any, flags: Any, CARE: Any, U: Any, STAGES: Any, BLOCK: Any,
) -> None:  # fmt: skip
    walk(ptrs, decay_ptrs, first_ptrs, last_ptrs, numbers, T, C, M, flags, Trace.current.rule,
         CARE, 1, 1, 1)  # fmt: skip


def _larger(top: Any, x: Any) -> Value:
    return _value("larger", (top, x), "float")


def _not_calm(top: Any, gain: Any, scale: Any, CARE: Any) -> None:
    Trace.current.watch = Watch(top, gain, scale, _bound(fixed_point.calm_of.fn)(CARE))


_MEANINGS: dict[Function, Function] = {
    rows.lanes.fn: _lanes,
    rows.walk_forward.fn: _walk(backward=False),
    rows.walk_backward.fn: _walk(backward=True),
    rows.with_care.fn: _with_care,
    fixed_point.larger.fn: _larger,
    fixed_point.not_calm.fn: _not_calm,
}
