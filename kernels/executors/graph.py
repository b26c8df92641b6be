"""What a kernel computes, as a graph of values: its stores, and what it carries over time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .symbols import LEAVES, Address, Row, Shifted, Stage, Value, known


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
    stores: list[Store] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    backward: bool = False
    watch: Watch | None = None
    stage: Stage = Stage.SAMPLE  # of stores

    current: "Trace" = None  # type: ignore[assignment]


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
        watch = found.watch
        yield from (watch.top, watch.gain, watch.scale, watch.calm)


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
            pairs[key] = known(a.op, args, a.kind, a.stage, a.of_lanes)
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


def largest_of(x: Any) -> Iterator[Any]:
    """Yield the numbers of which ``larger`` takes the largest."""
    if isinstance(x, Value) and x.op == "larger":
        for a in x.args:
            yield from largest_of(a)
    else:
        yield x
