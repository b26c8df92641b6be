"""Write what a kernel computes (trace.py) as a loop over tiles of neurons, for Numba.

    for each tile: some neurons of one sample
        where the channels are others than before: what parameters become, once for all samples
        the states before the first step, an array entry a neuron
        for each step: for each neuron, innermost so that the loop vectorises
        the states after the last step

States stay in the first-level cache, rows are read and written contiguously, and nothing is
computed that no tensor of the call asks for. Of a tensor that lies time last, ``[N, C, T]``, some
steps of a tile are turned to rows at once, in an array that stays in the cache, or turned back.
The bound of the states is one number a tile, see ``note`` of loop_ops.py.

500 lines, since all parts of a loop are written from one list of values.
"""

import math
from typing import Any

from .graph import Store, Trace, largest_of, operands, prune, roots
from .symbols import LEAVES, Row, Shifted, Stage, Value, can_be_outside, is_state, kind_of

_ARRAYS = {"float": "float32", "int": "int32", "uint": "uint32", "bool": "bool_"}
SHIFT = "SHIFT"  # the flag that moves rows by one step
READ = (SHIFT, "CARE")  # flags that a loop reads, outside of its innermost loops
_SIGNS = ("<", "<=", ">", ">=", "==", "!=")


STEPS = 8  # of a tile that are turned at once, or up to as many more but one at the end
_WIDTH = 1024 + 16  # from one turned row to the next: powers of two share places in a cache
ROOM = _WIDTH * 2 * STEPS  # entries: the rows at once, and one before or behind them


class CannotTurnError(NotImplementedError):
    """Tiles cannot turn a tensor that lies time last; ``written`` are those that a loop writes."""

    def __init__(self, name: str, written: set[str]):
        super().__init__(f"rows of {name} are read or written in another way than step by step")
        self.written = written


def loop_text(
    found: Trace, name: str, arguments: list[str], is_watched: bool, read: list[str],
    last: tuple[str, ...] = (),
) -> str:  # fmt: skip
    """Return the definition of the loop.

    Parameters
    ----------
    found
        What is computed.
    name
        Of the function.
    arguments
        Its arguments that are present, after ``first, last``; of states it takes the addresses.
    is_watched
        Whether it gets marks of tiles: it notes the bound of the states, or heeds the marks.
    read
        Flags that it is told when it is called, its last arguments.
    last
        Names of the tensors that lie time last.

    Raises
    ------
    CannotTurnError
        If the kernel does not read or write one of ``last`` row by row.
    """
    return _Writer(found, is_watched, read, last).text(name, arguments)


def _is_mask(x: Value) -> bool:
    """Whether a value is some bits of another.

    The compiler has to see that, where it multiplies it: fewer bits are quicker to multiply.
    """
    return x.op == "bitwise_and" and any(isinstance(a, int) for a in x.args)


class _Writer:
    def __init__(self, found: Trace, is_watched: bool, read: list[str], last: tuple[str, ...]):
        self.read = read
        prune(found)
        self.found = found
        self.is_watched = is_watched
        self.watch = None if found.rule else found.watch
        self.tops: list[Any] = []  # before the walk
        self.tops_of_step: list[Any] = []
        self.carried = list(found.carried)
        self._find_tops()
        self.uses: dict[int, int] = {}
        self.live: list[Value] = []  # in an order in which they can be computed
        self._find_live()
        self.turned = {name: self._offsets(name) for name in last}
        self.arrays: dict[int, str] = {}  # lanes of an early stage that a later one reads
        self.names: dict[int, str] = {}  # what else has a name
        self.rows: dict[tuple[Any, ...], str] = {}
        self.lines: list[str] = []
        self.depth = 1
        self.count = 0

    def _find_tops(self) -> None:
        if self.watch is None:
            return
        for c in self.carried:
            if self.watch.top is c.last:
                self.tops = list(largest_of(c.first))
                self.tops_of_step = [x for x in largest_of(c.after) if x is not c.before]
                self.carried.remove(c)
                return
        self.tops = list(largest_of(self.watch.top))

    def _find_live(self) -> None:
        """List all values that somebody needs."""
        seen: dict[int, Value] = {}

        def visit(x: Any) -> None:
            if not isinstance(x, Value):
                return
            self.uses[id(x)] = self.uses.get(id(x), 0) + 1
            if id(x) not in seen:
                seen[id(x)] = x
                for a in operands(x):
                    visit(a)
                self.live.append(x)

        for x in (*roots(self.found), *self.tops, *self.tops_of_step):
            if self.watch is None or x is not self.watch.top:
                visit(x)
        for c in self.carried:
            visit(c.first)
            visit(c.after)

    def _offsets(self, name: str) -> tuple[int, int, bool] | None:
        """Return the first and last row that a step reads, and whether SHIFT moves them.

        None for a tensor that is written.
        """
        stores = [s for s in self.found.stores if s.address.name == name]
        rows = [x for x in self.live if x.op == "row" and x.args[0] == name]
        if len(stores) == 1 and not rows and stores[0].stage is Stage.STEP:
            place = stores[0].address.place
            if isinstance(place, Row) and isinstance(place.step, int) and place.step == 0:
                return None
        steps = [x.args[1] for x in rows]
        shifted = {isinstance(step, Shifted) for step in steps}
        plain = [step.steps if isinstance(step, Shifted) else step for step in steps]
        if (
            stores
            or len(shifted) != 1
            or any(x.stage is not Stage.STEP or x.args[2] is not None for x in rows)
            or not all(isinstance(step, int) for step in plain)
            or max(plain) - min(plain) > 1
        ):
            raise CannotTurnError(name, {s.address.name for s in self.found.stores})
        return min(plain), max(plain), shifted.pop()

    # text

    def text(self, name: str, arguments: list[str]) -> str:
        """Return the definition."""
        given = [f"{a}_address" if is_state(a) else a for a in arguments]
        marks = ["suspect"] if self.is_watched else []
        taken = ["first", "last", *given, *marks, "N", "T", "C", *self.read]
        head = f"def {name}({', '.join(taken)}):"
        self._line("widest_vectors()")
        for a in arguments:
            if is_state(a):
                self._line(f"{a} = state_at({a}_address, N, C)")
        self._scalars(Stage.CALL)
        self._place_arrays()
        self._line("held = np.int64(-1)")
        self._line("for tile in range(first, last):")
        self.depth += 1
        if self.is_watched and self.found.rule:
            self._line("if suspect[1 + tile] == 0:")
            self._line("    continue")
        self._line("n, c0 = tile % N, tile // N * TILE")  # samples share what parameters become
        self._line("c1 = min(c0 + TILE, C)")
        self._channels()
        self._sample()
        self._steps()
        self._end()
        return "\n".join([head, *self.lines])

    def _line(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def _lanes(self) -> None:
        """Begin a loop over the neurons of the tile."""
        self._line("for i in range(c1 - c0):")
        self.depth += 1

    def _scalars(self, stage: Stage) -> None:
        """Compute what is the same for all neurons."""
        for x in self.live:
            if x.stage is stage and not x.of_lanes and x.op not in LEAVES:
                self._line(f"{self._name(x)} = {self._operation(x)}")

    def _place_arrays(self) -> None:
        for k, c in enumerate(self.carried):
            self.arrays[id(c.before)] = self.arrays[id(c.last)] = f"carry_{k}"
            self._line(f"carry_{k} = scratch(TILE, np.{_ARRAYS[kind_of(c.first)]})")
        readers: dict[int, Stage] = {}
        for x in self.live:
            for a in operands(x):
                readers[id(a)] = max(readers.get(id(a), Stage.CALL), x.stage)
        for c in self.carried:
            self._read(readers, c.first, Stage.SAMPLE)
            self._read(readers, c.after, Stage.STEP)
        for store in self.found.stores:
            self._read(readers, store.value, store.stage)
        for x in self.tops:
            self._read(readers, x, Stage.SAMPLE)
        for x in reversed(self.live):
            if _is_mask(x):  # what it is taken of is kept in its place
                for a in operands(x):
                    self._read(readers, a, readers[id(x)])
        for x in self.live:
            early = x.stage in (Stage.CHANNELS, Stage.SAMPLE)
            if x.of_lanes and early and not _is_mask(x) and readers.get(id(x), x.stage) > x.stage:
                name = self.arrays[id(x)] = f"lane_{len(self.arrays)}"
                self._line(f"{name} = scratch(TILE, np.{_ARRAYS[x.kind]})")
        for name, beyond in sorted(self._rows_beyond()):
            self._line(f"{beyond} = zeroed_scratch(TILE, {name}.dtype)")
        for name in self.turned:
            self._line(f"{name}_turned = scratch(ROOM, {name}.dtype)")
            self._line(f"{name}_flat = {name}.reshape(-1)")

    @staticmethod
    def _read(readers: dict[int, Stage], x: Any, stage: Stage) -> None:
        readers[id(x)] = max(readers.get(id(x), Stage.CALL), stage)

    def _rows_beyond(self) -> set[tuple[str, str]]:
        """Name the rows that stand for those outside a tensor: zeros, and one to write to."""
        read: set[tuple[str, str]] = set()
        for x in self.live:
            if x.op == "row":
                name, step, condition = x.args
                if condition is not None or can_be_outside(step):
                    read.add((name, f"{name}_none"))
        return read | {(name, f"{name}_beyond") for name in self._delayed()}

    def _delayed(self) -> list[str]:
        """Name the tensors whose rows are written one step later."""
        rows = [(s.address.name, s.address.place) for s in self.found.stores]
        return [n for n, row in rows if isinstance(row, Row) and can_be_outside(row.step)]

    def _channels(self) -> None:
        own = [x for x in self.live if x.stage is Stage.CHANNELS]
        gain = None if self.watch is None else self.watch.gain
        if not own:
            if gain is not None:
                self._line(f"gain = magnitude({self._text(gain)})")
            return
        self._line("if c0 != held:")
        self.depth += 1
        self._line("held = c0")
        counted = {x.args[1].args[0] for x in own if x.op == "parameter"}
        for per in sorted(counted):  # counted: a division takes as long as all the rest
            self._line(f"at_{per}, left_{per} = c0 // {per}, {per} - c0 % {per}")
        if gain is not None:
            self._line("gain = np.int32(0)")
        self._lanes()
        self._keep(Stage.CHANNELS)
        if gain is not None:
            self._line(f"gain = maximum(gain, magnitude({self._text(gain)}))")
        for per in sorted(counted):
            self._line(f"left_{per} -= 1")
            self._line(f"if left_{per} == 0:")
            self._line(f"    at_{per}, left_{per} = at_{per} + 1, {per}")
        self.depth -= 2
        self.names = {k: n for k, n in self.names.items() if k not in {id(x) for x in own}}

    def _keep(self, stage: Stage) -> None:
        """Compute the values that a later stage needs."""
        for x in self.live:
            if x.stage is stage and id(x) in self.arrays and x.op not in ("before", "last"):
                array = self.arrays.pop(id(x))
                self._line(f"{array}[i] = {self._text(x)}")
                self.arrays[id(x)] = array

    def _sample(self) -> None:
        if self.watch is not None:
            self._line("top = np.int32(0)")
        self._lanes()
        at = len(self.lines)
        names = dict(self.names)
        self._keep(Stage.SAMPLE)
        for k, c in enumerate(self.carried):
            self._line(f"carry_{k}[i] = {self._text(c.first)}")
        self._raise_top(self.tops)
        self.depth -= 1
        self.names = names
        if len(self.lines) == at:
            self.lines.pop()
        for name in self._delayed():
            self._line(f"if {SHIFT} != 0:")
            self._line(f"    clear({name}[n, 0, c0:c1])")

    def _raise_top(self, values: list[Any]) -> None:
        if values:  # at once: LLVM vectorises one maximum over the lanes, not one after another
            largest, *others = (f"magnitude({self._text(x)})" for x in values)
            for other in others:
                largest = f"maximum({largest}, {other})"
            self._line(f"top = maximum(top, {largest})")

    def _steps(self) -> None:
        stores = [s for s in self.found.stores if s.stage is Stage.STEP]
        if not (stores or self.carried or self.tops_of_step):
            return
        first, end = ("tile_begin", "tile_until") if self.turned else (0, "T")
        if self.turned:
            self._turn_in()
        backward = f"range({end} - 1, {first} - 1, -1)"
        self._line(f"for t in {backward if self.found.backward else f'range({first}, {end})'}:")
        self.depth += 1
        self._scalars(Stage.STEP)
        for x in self.live:
            if x.op == "row" and x.stage is Stage.STEP:
                name, step, condition = x.args
                self._row(name, step, condition, "none")
        rows: list[tuple[Store, Any]] = [(s, s.address.place) for s in stores]  # each is a Row
        for s, place in rows:
            self._row(s.address.name, place.step, None, "beyond")
        self._lanes()
        names = dict(self.names)
        self._raise_top(self.tops_of_step)
        for s, place in rows:
            row = self.rows[s.address.name, _key(place.step), None]
            self._line(f"{row}[i] = {self._text(s.value)}")
        new = [self._held(c.after) for c in self.carried]  # all, before any takes its new value
        for k, value in enumerate(new):
            self._line(f"carry_{k}[i] = {value}")
        self.names = names
        self.depth -= 2
        if self.turned:
            self._turn_out()
            self.depth -= 1

    def _turn_in(self) -> None:
        """Begin a loop over pieces of the sequence, and turn what of one is read."""
        self._line("tile_steps, tile_lanes = np.int64(T), np.int64(c1 - c0)")
        self._line("tile_at = (np.int64(n) * C + c0) * tile_steps")
        self._line(f"tile_width = np.int64({_WIDTH})")
        # from the beginning of a piece to the end of the next that is read first
        self._line(f"tile_ahead = np.int64({-STEPS if self.found.backward else 2 * STEPS - 1})")
        self._line(f"tile_pieces = max(tile_steps // {STEPS}, 1)")
        self._line("for tile_piece in range(tile_pieces):")
        self.depth += 1
        place = "(tile_pieces - 1 - tile_piece)" if self.found.backward else "tile_piece"
        self._line(f"tile_begin = {place} * {STEPS}")
        self._line(f"tile_until = tile_begin + {STEPS}")
        self._line(f"if tile_until + {STEPS} > tile_steps:")
        self._line("    tile_until = tile_steps")
        for name, offsets in self.turned.items():
            if offsets is None:
                continue
            low, high, shifted = offsets
            more = f" + {SHIFT}" if shifted else ""
            # as many as are turned in registers, also where fewer are left
            self._line(f"{name}_until = min(tile_until + {high}{more}, tile_steps)")
            self._line(f"{name}_begin = min(tile_begin + {low}{more}, {name}_until - {STEPS})")
            self._line(f"{name}_begin = max({name}_begin, 0)")
            self._line(
                f"turn_in({name}_flat, tile_at + {name}_begin, tile_steps, tile_lanes, "
                f"{name}_until - {name}_begin, {name}_turned, tile_width, tile_ahead)"
            )

    def _turn_out(self) -> None:
        """Turn what of a piece was written."""
        for name, offsets in self.turned.items():
            if offsets is None:
                self._line(
                    f"turn_out({name}_turned, tile_width, tile_lanes, tile_until - tile_begin, "
                    f"{name}_flat, tile_at + tile_begin, tile_steps, tile_ahead)"
                )

    def _row(self, name: str, step: Any, condition: Any, beyond: str) -> None:
        """Take a row of a tensor, or what stands for it outside of the sequence."""
        key = name, _key(step), condition if condition is None else id(condition)
        if key in self.rows:
            return
        row = self.rows[key] = f"{name}_row{len(self.rows)}"
        if isinstance(step, Shifted):
            at = f"t + {step.steps} + {SHIFT}" if step.steps else f"t + {SHIFT}"
            inside = f"{at} < T"
        elif isinstance(step, int):
            at = "t" if step == 0 else f"t + {step}" if step > 0 else f"t - {-step}"
            inside = None if step == 0 else f"{at} < T" if step > 0 else f"{at} >= 0"
        else:
            at, inside = self._text(step), None
        if condition is not None:
            inside = self._text(condition)
        taken = f"{name}[n, {at}, c0:c1]"
        if name in self.turned:
            begin = "tile_begin" if self.turned[name] is None else f"{name}_begin"
            start = f"({at} - {begin}) * tile_width"
            taken = f"{name}_turned[{start} : {start} + tile_lanes]"
        self._line(f"{row} = {taken}" + (f" if {inside} else {name}_{beyond}" if inside else ""))

    def _end(self) -> None:
        stores: dict[str, list[Store]] = {}
        for s in self.found.stores:
            if s.stage is Stage.END:
                stores.setdefault(s.address.name, []).append(s)
        for name, of_name in stores.items():
            names = dict(self.names)
            if is_state(name):
                self._line(f"if {name}_address != 0:")
                self.depth += 1
            self._lanes()
            for s in of_name:
                self._line(f"{name}[n, c0 + i] = {self._text(s.value)}")
            self.depth -= 2 if is_state(name) else 1
            self.names = names
        if self.watch is not None:
            scale, calm = self._text(self.watch.scale), self._text(self.watch.calm)
            self._line(f"note(suspect, tile, top, gain, {scale}, {calm})")

    # expressions

    def _name(self, x: Value) -> str:
        if id(x) not in self.names:
            self.count += 1  # never the same twice: Numba would give both one type
            self.names[id(x)] = f"value_{self.count}"
        return self.names[id(x)]

    def _held(self, x: Any) -> str:
        """Return the name of a value; give it one if it has none."""
        if not isinstance(x, Value) or x.op in ("argument", "number"):
            return self._text(x)
        text = self._text(x)
        if text.isidentifier():
            return text
        self._line(f"{self._name(x)} = {text}")
        return self.names[id(x)]

    def _text(self, x: Any) -> str:
        """Return an expression, after lines for what is needed more than once."""
        if not isinstance(x, Value):
            return _number(x)
        if id(x) in self.names:
            return self.names[id(x)]
        in_array = id(x) in self.arrays
        text = f"{self.arrays[id(x)]}[i]" if in_array else self._operation(x)
        if self.uses[id(x)] > 1 and not text.isidentifier() and x.op != "number":
            self._line(f"{self._name(x)} = {text}")
            return self.names[id(x)]
        return text

    def _operation(self, x: Value) -> str:
        if x.op == "argument":
            return x.args[0]
        if x.op == "number":
            return _number(x.args[0])
        if x.op == "parameter":
            return f"{x.args[0]}[at_{x.args[1].args[0]}]"
        if x.op == "state":
            return f"{x.args[0]}[n, c0 + i]"
        if x.op == "row":
            return self._entry(*x.args)
        if x.op == "given":
            return self._of_state(x)
        args = [self._text(a) for a in x.args]
        if x.op in _SIGNS:
            return f"({args[0]} {x.op} {args[1]})"
        return f"{x.op}({', '.join(args)})"

    def _entry(self, name: str, step: Any, condition: Any) -> str:
        key = name, _key(step), condition if condition is None else id(condition)
        if key in self.rows:
            return f"{self.rows[key]}[i]"
        return f"{name}[n, {self._text(step)}, c0 + i]"  # before the walk

    def _of_state(self, x: Value) -> str:
        """Compute one of two values, by whether a call has a state; return its name."""
        name, without, present = x.args
        result = self._name(x)
        for sign, value in (("!=", present), ("==", without)):
            self._line(f"if {name}_address {sign} 0:")
            self.depth += 1
            names = dict(self.names)
            self._line(f"{result} = {self._text(value)}")
            self.names = names
            self.depth -= 1
        return result


def _key(step: Any) -> Any:
    return id(step) if isinstance(step, Value) else step


def _number(x: Any) -> str:
    if isinstance(x, float):
        if math.isfinite(x):
            return f"float32({x!r})"
        if x < 0:
            return f"negative({_number(-x)})"
        return f"float32(float('{x}'))"
    return repr(x)
