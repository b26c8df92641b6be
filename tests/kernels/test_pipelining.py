"""Chunks in flight never overtake a store: nothing is both on its way and written.

With several chunks in flight (rows.py) a load of a later step is under way before the stores of
this one. The compiler does not know whether two tensors overlap, so the proof reads what it made:
the tensors that asynchronous copies read from, and those that stores write to, have none in common,
and those of a launch lie apart. Recurrent layers that are split over programs read what the launch
before has sent, and send as much: of that tensor all copies have arrived before the next store.
"""

import re
from dataclasses import dataclass, field, replace

import pytest
from known import present
from lapilli.kernels.executors.dispatch import FULL
from lapilli.kernels.proof import catalogue
from lapilli.kernels.proof.aot import compile_launch, launches, recurrent_launches
from lapilli.kernels.recurrences import recurrent_triton
from lapilli.kernels.recurrences.recurrent import recurrent
from problems import fixed_problem
from recurrences import TABLE, most_of
from recurrent_layers import Layer
from test_recurrent import used_form

_NAME = re.compile(r"%[\w-]+(?:#\d+)?")
_OPERATION = re.compile(r'(?:(%[\w-]+)(?::\d+)? = )?"?([a-z]\w*\.[\w.]+)"?(.*)')
_ARGUMENT = re.compile(r"(%\w+): (!tt\.ptr)?")
_CARRIED = re.compile(r"(%[\w-]+) = (%[\w-]+(?:#\d+)?)")
_RANGE = re.compile(r"= (\S+) to (\S+) step (\S+)")
# of which operands a pointer is made
_MOVES = {
    "tt.addptr": [0], "tt.splat": [0], "tt.broadcast": [0], "tt.expand_dims": [0],
    "tt.reshape": [0], "tt.bitcast": [0], "ttg.convert_layout": [0], "arith.select": [1, 2],
}  # fmt: skip
_TOUCHES = {"ttg.async_copy_global_to_local": "copy", "tt.store": "store"}


@dataclass
class Region:
    """Lines between braces: the names that are known in them alone, and what happens in order."""

    op: str
    results: int = -1  # definition whose results it yields
    carried: tuple = ()  # definitions that its yields go round to
    branches: list = field(default_factory=list)  # events of this one and those beside it
    names: dict = field(default_factory=dict)  # definition of a name
    events: list = field(default_factory=list)


class Pointers:
    """Which arguments of a kernel its pointers come from, read from the last IR of Triton's own.

    Regions side by side use the same names for different things, so that a value is known by the
    number of its definition, and by which of the results it is.
    """

    def __init__(self, text):
        lines = text.splitlines()
        head = next(i for i, line in enumerate(lines) if "tt.func public" in line)
        self.made_by = []  # operation of each definition
        self.sources = {}  # values that a value may be
        self.sums = {}  # both values that a value is the sum of
        self.regions = [Region("tt.func")]  # that are open
        self.events = self.regions[0].events
        found = [(self._define(n, "tt.func"), kind) for n, kind in _ARGUMENT.findall(lines[head])]
        self.arguments = [(made, 0) for made, kind in found if kind]
        touched = {"copy": set(), "store": set()}
        for line in lines[head + 1 :]:
            self._read(line.partition(" loc(")[0].strip(), line, touched)
            if not self.regions:
                break
        self.copied, self.stored = (self._all(touched[kind]) for kind in ("copy", "store"))

    def _read(self, code, line, touched):
        operation = _OPERATION.match(code)
        if code.startswith("}"):
            region = self.regions.pop()
            if code.endswith("{"):  # the other branch
                self._open(Region(region.op, region.results, branches=region.branches))
        elif code.startswith("^"):
            for name, _ in _ARGUMENT.findall(line):
                self._define(name, f"a block of {self.regions[-1].op}")
        elif operation:
            name, op, rest = operation.groups()
            if op == "scf.yield":
                self._yield([self._value(n) for n in _NAME.findall(rest)])
                return
            made = self._define(name, op)
            if op in _TOUCHES:
                value = self._value(present(_NAME.search(rest))[0])
                touched[_TOUCHES[op]].add(value)
                self.regions[-1].events.append((_TOUCHES[op], value))
            elif op in ("ttg.barrier", "gpu.barrier"):
                self.regions[-1].events.append(("barrier", None))
            elif op == "ttg.async_wait" and "{num = 0 : i32}" in rest:
                self.regions[-1].events.append(("wait", None))
            elif op == "arith.addi":
                self.sums[made, 0] = {self._value(n) for n in _NAME.findall(rest)[:2]}
            for k in _MOVES.get(op, ()):
                self.sources.setdefault((made, 0), set()).add(self._value(_NAME.findall(rest)[k]))
            if code.endswith("{"):
                self._enter(op, made, rest)

    def _enter(self, op, made, rest):
        region = Region(op, made)
        if op in ("scf.for", "scf.if"):
            kind = "one pass" if op == "scf.for" and self._passes_once(rest) else op
            self.regions[-1].events.append((kind, region.branches))
        counter, _, carried = rest.partition("iter_args")
        firsts = [(name, self._value(first)) for name, first in _CARRIED.findall(carried)]
        self._open(region)
        for name, _ in _CARRIED.findall(counter):
            self._define(name, f"the counter of {op}")
        region.carried = tuple(self._define(name, op) for name, _ in firsts)
        self._yield([first for _, first in firsts])  # also the results, of a loop of no steps

    def _passes_once(self, rest):
        """Whether a loop ends one step after it begins, as in launches of one step."""
        first, end, step = (self._value(n) for n in present(_RANGE.search(rest)).groups())
        return self.sums.get(end) == {first, step}

    def _open(self, region):
        region.branches.append(region.events)
        self.regions.append(region)

    def _yield(self, values):
        region = self.regions[-1]
        for at, value in enumerate(values):
            self.sources.setdefault((region.results, at), set()).add(value)
            if region.carried:
                self.sources.setdefault((region.carried[at], 0), set()).add(value)

    def _define(self, name, op):
        self.made_by.append(op)
        made = len(self.made_by) - 1
        if name:
            self.regions[-1].names[name] = made
        return made

    def _value(self, name):
        name, _, at = name.partition("#")
        for region in reversed(self.regions):
            if name in region.names:
                return region.names[name], int(at or 0)
        raise AssertionError(f"{name} is not defined in a region that is open")

    def _all(self, values):
        return {k for value in values for k in self._origins(value)}

    def _origins(self, pointer):
        seen, todo, found = set(), [pointer], set()
        while todo:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            if value in self.arguments:
                found.add(self.arguments.index(value))
            else:
                op = self.made_by[value[0]]
                assert value in self.sources, f"a pointer comes from {op}, which is not followed"
                todo += self.sources[value]
        assert found, "no argument is behind a pointer"
        return found

    def overtakes(self):
        """Say what is wrong with the order of copies and stores of one tensor, or None."""
        return self._follow(self.events, set(), set())

    def _follow(self, events, on_its_way, written):
        """Go through events; the sets of arguments are those before, and after it those behind."""
        for kind, what in events:
            if kind == "copy":
                arguments = self._origins(what)
                if arguments & written:
                    return "a copy follows a store with no barrier between"
                on_its_way |= arguments
            elif kind == "store":
                arguments = self._origins(what)
                if arguments & on_its_way:
                    return "a store follows a copy that may not have arrived"
                written |= arguments
            elif kind == "wait":
                on_its_way.clear()
            elif kind == "barrier":
                written.clear()
            elif kind in ("scf.for", "one pass"):
                passes = 1 if kind == "one pass" else 2
                wrong = self._follow(what[0] * passes, on_its_way, written)
                if wrong:
                    return wrong
            else:  # one of two ways: what one of them leaves may be there
                ways = [(set(on_its_way), set(written)) for _ in range(2)]
                for branch, way in zip(what, ways, strict=False):
                    wrong = self._follow(branch, *way)
                    if wrong:
                        return wrong
                for now, after in zip((on_its_way, written), zip(*ways, strict=True), strict=True):
                    now.clear()
                    now.update(*after)
        return None


def _given(launch):
    """Tensors of a launch in the order of the compiled arguments."""
    return [a for a in launch.args if hasattr(a, "data_ptr")]


def _assert_apart(launch, target="sm_90", rereads=False):
    """Prove it for a launch; return how many tensors are on their way and written."""
    pointers = Pointers(compile_launch(launch, target).asm["ttgir"])
    tensors = _given(launch)
    assert len(pointers.arguments) == len(tensors)
    assert pointers.stored, "a kernel writes something"
    both = pointers.copied & pointers.stored
    assert rereads or not both, f"{launch.kernel.__name__} writes what is on its way: {both}"
    assert pointers.overtakes() is None
    for a in pointers.copied - both:
        for b in pointers.stored:
            storages = [tensors[k].untyped_storage().data_ptr() for k in (a, b)]
            assert storages[0] != storages[1] or not tensors[a].numel(), (a, b)
    return len(pointers.copied), len(pointers.stored)


NAMES = ("cuba", "sigma")


@pytest.mark.parametrize(
    "recurrence",
    [pytest.param(r, marks=() if r.name in NAMES else pytest.mark.slow) for r in TABLE],
    ids=repr,
)
def test_walking_kernels_write_nothing_that_is_on_its_way(recurrence):
    problem = fixed_problem(recurrence, **recurrence.variants()[most_of(recurrence)])
    recorded = launches(problem.fast)
    assert recorded
    for launch in recorded:
        copied, _ = _assert_apart(replace(launch, lanes=FULL - 1))
        assert copied, "chunks are in flight"


@pytest.mark.slow
@pytest.mark.parametrize("neurons", [64, 256, 512])
@pytest.mark.parametrize("name", ["cuba", "adrf"])
def test_recurrent_kernels_write_nothing_that_is_on_its_way(name, neurons):
    layer = Layer(name, neurons, 16, 3, gradient="lava-dl", shift=True)
    forward, *_, backward = recurrent_launches(lambda: layer.call(recurrent)[0].sum().backward())
    for launch in (forward, backward):
        _assert_apart(launch, rereads=used_form(launch) == recurrent_triton.SPLIT.value)


@pytest.mark.parametrize("mode", ["inference", "backward", "backward, weight"])
def test_convolutions_write_nothing_that_is_on_its_way(mode):
    (entry,) = (e for e in catalogue.entries("convolution") if e.mode == mode)
    copied, stored = _assert_apart(entry.launch)
    assert (copied, stored) == (2, 1)


LOOP = """
  tt.func public @k(%x: !tt.ptr<f32> {tt.divisibility = 16 : i32} loc(#1), %y: !tt.ptr<f32>) {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %n = arith.constant 8 : i32
    %0 = tt.splat %x : !tt.ptr<f32> -> tensor<128x!tt.ptr<f32>>
    %1:2 = scf.for %t = %c0 to %n step %c1 iter_args(%a = %0, %b = %c0) -> (i32) : i32 {
      %2 = ttg.async_copy_global_to_local %a, %m mask %k : tensor<128x!tt.ptr<f32>> -> <8>
      %3 = tt.splat %y : !tt.ptr<f32> -> tensor<128x!tt.ptr<f32>>
      %4 = tt.addptr %3, %t : tensor<128x!tt.ptr<f32>>
      tt.store %4, %v, %k : tensor<128x!tt.ptr<f32>>
      %5 = tt.addptr %a, %t : tensor<128x!tt.ptr<f32>>
      scf.yield %5, %t : tensor<128x!tt.ptr<f32>>, i32
    }
    tt.return
  }
"""


def test_pointers_are_followed_around_loops():
    found = Pointers(LOOP)
    assert (found.copied, found.stored) == ({0}, {1})
    mixed = Pointers(LOOP.replace("scf.yield %5, %t", "scf.yield %4, %t"))
    assert mixed.copied == {0, 1}, "the second argument goes round, too"
    behind = Pointers(LOOP.replace("tt.return", "tt.store %1#0, %v : tensor<8x!tt.ptr<f32>>"))
    assert behind.stored == {0, 1}


BRANCHES = """
  tt.func public @k(%x: !tt.ptr<f32>, %y: !tt.ptr<f32>, %z: !tt.ptr<f32>, %n: i32) {
    %0:2 = scf.if %n -> (tensor<128x!tt.ptr<f32>>, i32) {
      %1 = tt.addptr %x, %n : !tt.ptr<f32>, i32
      scf.yield %1, %n : !tt.ptr<f32>, i32
    } else {
      %1 = tt.addptr %y, %n : !tt.ptr<f32>, i32
      scf.yield %1, %n : !tt.ptr<f32>, i32
    }
    %2 = scf.if %n -> (i32) {
      %3 = tt.addptr %z, %n : !tt.ptr<f32>, i32
      scf.yield %n : i32
    } else {
      %3 = arith.constant 7 : i32
      scf.yield %3 : i32
    }
    tt.store %0#0, %v : tensor<128x!tt.ptr<f32>>
    tt.return
  }
"""


def test_pointers_are_followed_through_branches():
    assert Pointers(BRANCHES).stored == {0, 1}
    # the same name in a region beside it is something else
    inside = BRANCHES.replace(
        "scf.yield %n : i32\n", "tt.store %3, %v : f32\n scf.yield %n : i32\n"
    )
    assert Pointers(inside).stored == {0, 1, 2}
    with pytest.raises(AssertionError, match=r"comes from arith\.constant, which is not followed"):
        Pointers(BRANCHES.replace("scf.yield %3", "tt.store %3, %v : i32\n scf.yield %3"))
    with pytest.raises(AssertionError, match="%3 is not defined in a region that is open"):
        Pointers(BRANCHES.replace("tt.store %0#0", "tt.store %3"))


MAYBE = """
  tt.func public @k(%x: !tt.ptr<f32>, %n: i32) {
    %1 = ttg.async_copy_global_to_local %x, %m mask %k : tensor<128x!tt.ptr<f32>> -> <8>
    scf.if %n {
      %2 = ttg.async_wait {num = 0 : i32}
    } else {
      %2 = ttg.async_wait {num = 0 : i32}
    }
    tt.store %x, %v, %k : tensor<128x!tt.ptr<f32>>
    tt.return
  }
"""


def test_what_one_branch_alone_waits_for_may_not_have_arrived():
    assert Pointers(MAYBE).overtakes() is None
    lines = MAYBE.splitlines()
    for at in (5, 7):
        one = Pointers("\n".join(lines[: at - 1] + lines[at:])).overtakes()
        assert one == "a store follows a copy that may not have arrived"
    none = Pointers(MAYBE.replace("} else {\n      %2 = ttg.async_wait {num = 0 : i32}\n", ""))
    assert none.overtakes() == "a store follows a copy that may not have arrived"


REREAD = """
  tt.func public @k(%x: !tt.ptr<f32>, %y: !tt.ptr<f32>, %n: i32) {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %1 = scf.for %t = %c0 to %n step %c1 iter_args(%a = %c0) -> (i32) : i32 {
      ttg.barrier all loc(#1)
      %2 = ttg.async_copy_global_to_local %y, %m mask %k : tensor<128x!tt.ptr<f32>> -> <8>
      %3 = ttg.async_wait {num = 0 : i32} loc(#1)
      tt.store %y, %v, %k : tensor<128x!tt.ptr<f32>>
      scf.yield %t : i32
    }
    tt.return
  }
"""


def test_what_is_read_again_has_arrived():
    assert Pointers(REREAD).overtakes() is None
    without = Pointers(REREAD.replace("ttg.barrier all", "")).overtakes()
    assert without == "a copy follows a store with no barrier between"
    early = Pointers(REREAD.replace("num = 0", "num = 2")).overtakes()
    assert early == "a store follows a copy that may not have arrived"
    assert Pointers(LOOP).overtakes() is None


def test_a_loop_of_one_pass_reads_nothing_again():
    more = REREAD.replace("ttg.barrier all loc(#1)", "")
    last = "%last = arith.addi %c0, %c1 : i32\n    %1 = scf.for"
    once = more.replace("%1 = scf.for", last).replace("to %n", "to %last")
    assert Pointers(once).overtakes() is None
    for other in ("%n, %c1", "%c1, %c1", "%c0, %n"):
        again = Pointers(once.replace("addi %c0, %c1", f"addi {other}")).overtakes()
        assert again == "a copy follows a store with no barrier between"
    early = Pointers(once.replace("num = 0", "num = 2")).overtakes()
    assert early == "a store follows a copy that may not have arrived"
