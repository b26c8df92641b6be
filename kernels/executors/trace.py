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

import inspect
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lapilli.kernels.numbers import fixed_point, language
from lapilli.kernels.numbers.language import is_jit

from . import rows
from .graph import Carried, Store, Trace, Watch
from .symbols import (
    BASE,
    LIVE,
    Address,
    Columns,
    Function,
    Kind,
    Neuron,
    Parameter,
    Pointer,
    Row,
    Stage,
    Value,
    forget,
    joint,
    kind_of,
    known,
    value_of,
)


def trace(
    kernel: Any, absent: Iterable[str], constants: dict[str, Any], rule: int, whole: Iterable[str]
) -> Trace:
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
    whole
        Names of the numbers that are whole; others are floats.
    """
    forget()
    found = Trace.current = Trace(rule)
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
            kind = "int" if name in (*whole, *_SIZES) else "float"
            given[name] = known("argument", (name,), kind, Stage.CALL, False)
    _bound(kernel.fn)(**given)
    return found


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
        return known("number", (0.0 if kind.kind == "float" else 0,), kind.kind, Stage.CALL, False)

    @staticmethod
    def zeros_like(x: Value) -> Value:
        zero = 0.0 if x.kind == "float" else 0
        return known("number", (zero,), x.kind, Stage.CALL, False)

    @staticmethod
    def where(condition: Any, a: Any, b: Any) -> Any:
        return a if condition is LIVE else value_of("where", (condition, a, b), joint(a, b))

    @staticmethod
    def load(address: Address, mask: Any = LIVE, other: Any = 0) -> Value:
        if isinstance(address.place, Parameter):
            found = address.name, address.place.per
            return known("parameter", found, "float", Stage.CHANNELS, True)
        if isinstance(address.place, Neuron):
            return known("state", (address.name,), "float", Stage.SAMPLE, True)
        step, condition = address.place.step, None if mask is LIVE else mask
        stage = Stage.SAMPLE if Trace.current.stage is Stage.SAMPLE else Stage.STEP
        return known("row", (address.name, step, condition), "float", stage, True)

    @staticmethod
    def store(address: Address, value: Any, mask: Any = LIVE) -> None:
        Trace.current.stores.append(Store(address, value, Trace.current.stage))

    def __getattr__(self, name: str) -> Function:
        from .scalar_ops import OPERATIONS  # which loads Numba

        if name not in OPERATIONS:
            raise AttributeError(
                f"tl.{name} is not among what a kernel may compute with on a CPU; use arithmetic, "
                f"comparisons and {', '.join(f'tl.{n}' for n in _FUNCTIONS)}"
            )

        def operation(*args: Any) -> Value:
            return value_of(name, args, joint(*args) if name in _OF_ANY else "float")

        return operation


_SIZES = ("T", "C", "M")
_OF_ANY = ("maximum", "minimum", "abs")
_FUNCTIONS = ("where", *_OF_ANY, "exp2", "floor", "sqrt", "div_rn", "load", "store")
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
        cells = tuple(types.CellType(_translated(c.cell_contents)) for c in fn.__closure__ or ())
        body = types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, cells)

        def run(*args: Any, **options: Any) -> Any:
            if args and isinstance(args[0], Pointer) and args[0].name.endswith("0"):
                return _with_or_without(body, *args)
            return body(*args, **options)

        run.__name__ = fn.__name__
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
    kind = joint(without, present)
    return known("given", (state.name, without, present), kind, Stage.SAMPLE, True)


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
                first, known("before", (k,), kind_of(first), Stage.STEP, True), None,
                known("last", (k,), kind_of(first), Stage.END, True),
            )
            for k, first in enumerate(carry if several else (carry,))
        ]  # fmt: skip
        found.backward, found.stage = backward, Stage.STEP
        t = known("argument", ("t",), "int", Stage.STEP, False)
        handed: list[Any] = [c.before for c in carried]
        settled = False
        while not settled:
            found.stores.clear()
            given = tuple(handed) if several else handed[0]
            after = step(given, ptrs, fixed, base, Row(0), live, t, C, flags, 1)
            _check_carry(step, carry, after)
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


def _check_carry(step: Function, carry: Any, after: Any) -> None:
    """Raise unless what a step hands on is of the form that the walk began with."""
    before, now = (
        f"{len(c)} values" if isinstance(c, tuple) else "one value" for c in (carry, after)
    )
    if now != before:
        raise TypeError(
            f"{step.__name__} returns {now}, and the walk began with {before}; expected as many: "
            "what it returns is the carry of the next step"
        )


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
            return known("row", (name, before, None), c.after.kind, Stage.STEP, True)
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
    return value_of("larger", (top, x), "float")


def _not_calm(top: Any, gain: Any, scale: Any, CARE: Any) -> None:
    calm: Any = _bound(fixed_point.calm_of.fn)(CARE) if isinstance(CARE, int) else None
    if calm is None:  # a rule that the loop is told when it is called
        is_chip = fixed_point.LOIHI.value == CARE
        calm = _Language.where(is_chip, fixed_point.CALM_OF_CHIP.value, fixed_point.CALM.value)
    Trace.current.watch = Watch(top, gain, scale, calm)


_MEANINGS: dict[Function, Function] = {
    rows.lanes.fn: _lanes,
    rows.walk_forward.fn: _walk(backward=False),
    rows.walk_backward.fn: _walk(backward=True),
    rows.with_care.fn: _with_care,
    fixed_point.larger.fn: _larger,
    fixed_point.not_calm.fn: _not_calm,
}
