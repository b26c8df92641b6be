"""Turn step functions and CPU loops into machine code with Numba.

The step functions of a recurrence are written once, in the Triton language. ``lift`` reads their
source and rewrites what Numba reads differently, and nothing else:

* ``a + b`` on int32 is int64 in Numba, which halves the vector width and changes overflow, so
  operators become the scalar functions of ``scalar_ops``, which keep to 32 bits, as ``tl.where``,
  ``tl.exp2``, ... do; ``y.to(tl.int32)`` becomes ``int32(y)``, and float constants float32;
* a ``tl.constexpr`` argument of a loop and one that is None become constants of the module, and
  the branches that they rule out are dropped, as Triton does. Not so the states before and after a
  sequence, ``[N, C]`` float32, whose names end in 0 and 1: a loop touches them once a tile, so it
  takes their addresses, of which that of None is 0, and one module serves with states and without;
* arrays of a size that is a constant of the module lie on the stack: without memory that Numba has
  to count references of, a loop compiles in a fifth less, and LLVM knows that they do not overlap;
* the body of a step stands where the step is called (inline.py), and each expression of operations
  is one function (fuse.py).

The result is one small Python module a loop and set of constants, in a folder named by the hash of
its text: what the compiler sees can be read there, Numba's on-disk cache works for it, and no edit
of any helper can leave stale machine code behind. Compilation happens at the first call.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lapilli.kernels.numbers.language import is_jit, tl

from .fuse import fused
from .graph import with_shift
from .inline import inlined
from .symbols import is_state
from .trace import trace
from .walk import SHIFT, loop_text

_HEADER = """\
import numpy as np
from numba import njit

from lapilli.kernels.executors.scalar_ops import *
from lapilli.kernels.executors.vector_ops import *
"""
_WALK_HEADER = (
    _HEADER
    + """\

TILE = 1024
"""
)
_STEP = "@njit(forceinline=True, error_model='numpy')"
_LOOP = "@njit(nogil=True, cache={cache}, error_model='numpy', no_cfunc_wrapper=True, _nrt=%s)"
_ALLOCATES = re.compile(r"\b(np\.empty|np\.zeros|aligned)\(")  # memory that Numba frees
_ON_STACK = {"empty": "scratch", "zeros": "zeroed_scratch"}

_OPERATIONS: dict[type[ast.operator], str] = {  # of scalar_ops
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.LShift: "left_shift",
    ast.RShift: "right_shift",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
}

# Releases of Numba that look at the time of a module, not at its text, compile again where it has
# another one, as in a copy: all have this one, the first that a zip file can hold
_WRITTEN = 315532800.0

_lock = threading.Lock()


def _new_lock() -> None:
    """Forget a lock that another thread may have held when the process forked."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


class CpuLoop:
    """A loop over ``[first, last)`` tiles, compiled at its first call.

    Arguments annotated ``tl.constexpr``, which come last, are compile-time constants (flags and
    step functions), and so is the absence of an argument that is None: one module for each
    combination. Those among them that are annotated ``bool`` or ``int`` are constants of the Triton
    kernel only: the loop reads them outside of its innermost loops, so they cost nothing at run
    time, and a module less for each of their values.
    """

    def __init__(self, fn: Callable[..., None]):
        self.fn = fn
        self.__name__ = fn.__name__
        self.__doc__ = fn.__doc__
        parameters = inspect.signature(fn).parameters.values()
        self.arguments = [p.name for p in parameters if p.annotation is not tl.constexpr][2:]
        self.constants = [p.name for p in parameters if p.annotation is tl.constexpr]
        self.flags = [p.name for p in parameters if p.annotation is not inspect.Parameter.empty]
        self._is_read = [p.annotation in (bool, int) for p in parameters if p.name in self.flags]
        self.is_watched = False  # see fixed_point.py
        self.count: int | None = None  # position of what only the careful rules write to
        self._compiled: dict[tuple[object, ...], Callable[..., None]] = {}
        self._divided: dict[tuple[Any, ...], tuple[tuple[bool | int, ...], tuple[Any, ...]]] = {}

    def divided(self, flags: tuple[Any, ...]) -> tuple[tuple[bool | int, ...], tuple[object, ...]]:
        """Divide the values of ``flags`` into last arguments and compile-time constants."""
        found = self._divided.get(flags)
        if found is None:
            pairs = [*zip(self._is_read, flags, strict=True)]
            found = tuple(f for r, f in pairs if r), tuple(f for r, f in pairs if not r)
            self._divided[flags] = found
        return found

    @functools.cached_property
    def states(self) -> list[int]:
        """Positions of the states among the arguments after ``first, last``."""
        return [k for k, n in enumerate(self.arguments) if is_state(n)]

    def specialise(
        self, absent: tuple[bool, ...], constants: tuple[object, ...]
    ) -> Callable[..., None]:
        """Return the compiled loop; ``absent`` says of each argument after ``last`` if it is None.

        It takes the arguments that are present, and of ``states``, which are present always, the
        addresses.
        """
        key = (absent, constants)
        compiled = self._compiled.get(key)
        if compiled is None:
            with _lock:
                compiled = self._compiled.get(key)
                if compiled is None:
                    missing = [n for n, a in zip(self.arguments, absent, strict=False) if a]
                    values = dict(zip(self.constants, constants, strict=True))
                    text = self.text(missing, values)
                    compiled = self._compiled[key] = _load(text, self.__name__)
        return compiled

    def text(self, absent: list[str], constants: dict[str, object]) -> str:
        """Return the module that defines the loop."""
        return _text(self.fn, {**constants, **dict.fromkeys(absent)}, False)


class WalkLoop(CpuLoop):
    """The loop of a Triton kernel that walks over time, written from the kernel (trace.py).

    Its arguments are those of the kernel without ``_ptr``, then marks of tiles if it is watched
    (fixed_point.py), and sizes ``N, T, C``; its constants are the kernel's, and the rule for
    numbers that do not fit.
    """

    def __init__(self, kernel: Any):
        super().__init__(kernel.fn)
        self.kernel = kernel
        self.__name__ = kernel.fn.__name__.removesuffix("_kernel") + "_cpu"
        self.is_watched = "with_care" in kernel.fn.__code__.co_names
        names = [p for p in inspect.signature(kernel.fn).parameters if p not in self.constants]
        assert names[-3:] == ["T", "C", "M"], names
        self.tensors = [n.removesuffix("_ptr") for n in names[:-3]]
        marks = ["suspect"] if self.is_watched else []
        self.arguments = [*self.tensors, *marks, "N", "T", "C"]
        self.flags = [c for c in self.constants if c not in ("U", "STAGES", "BLOCK")]
        self.shifts = SHIFT in self.flags
        if self.is_watched:
            self.flags.append("RULE")
        self._is_read = [flag == SHIFT for flag in self.flags]
        self.constants = [flag for flag in self.flags if flag != SHIFT]
        self.count = self.arguments.index("count") if "count" in self.arguments else None

    def text(self, absent: list[str], constants: dict[str, Any]) -> str:
        """Return the module that defines the loop."""
        flags = dict(constants)
        rule = flags.pop("RULE", 0)
        found = trace(self.kernel, absent, flags | {SHIFT: False}, rule)
        if self.shifts:
            found = with_shift(found, trace(self.kernel, absent, flags | {SHIFT: True}, rule))
        present = [n for n in self.tensors if n not in absent]
        definition = loop_text(found, self.__name__, present, self.is_watched, self.shifts)
        return _origin(self.fn) + _WALK_HEADER + _defined(ast.parse(definition).body[0], {}, _LOOP)


def cpu_loop(fn: Callable[..., None]) -> CpuLoop:
    """Mark a function as the CPU loop of a kernel."""
    return CpuLoop(fn)


_loops: dict[int, WalkLoop] = {}  # by identity: Triton takes microseconds to hash a kernel


def loop_of(kernel: Any) -> WalkLoop:
    """Return the CPU loop of a Triton kernel that walks over time."""
    loop = _loops.get(id(kernel))
    if loop is None:
        loop = _loops.setdefault(id(kernel), WalkLoop(kernel))
    return loop


def lift(step: Any) -> Callable[..., Any]:
    """Return a step function compiled for scalars, for tests and for use from other loops."""
    return _load(_text(step.fn, {}, root_is_step=True), step.fn.__name__)


class _Rewrite(ast.NodeTransformer):
    """Rewrite one function: arithmetic only in steps; ``constants`` replace arguments.

    ``named`` are the constants of its module, which an argument may be compared with.
    """

    def __init__(self, is_step: bool, constants: dict[str, object], named: dict[str, object]):
        self.is_step = is_step
        self.constants = constants
        self.named = named
        self.states: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = []
        node.returns = None
        node.args.args = [a for a in node.args.args if a.arg not in self.constants]
        for argument in node.args.args:
            argument.annotation = None
        if self.is_step:
            return self.generic_visit(node)
        self.states = [a.arg for a in node.args.args if is_state(a.arg)]
        self.generic_visit(node)
        for argument in node.args.args:
            if argument.arg in self.states:
                argument.arg = _address(argument.arg)
        placed = [f"{name} = state_at({_address(name)}, N, C)" for name in self.states]
        node.body[:0] = ast.parse("\n".join(["widest_vectors()", *placed])).body
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if not (isinstance(node.left, ast.Name) and node.left.id in self.states):
            return node
        sign = ast.Eq() if isinstance(node.ops[0], ast.Is) else ast.NotEq()
        address = ast.Name(_address(node.left.id), ast.Load())
        return ast.Compare(address, [sign], [ast.Constant(0)])

    def _decided(self, test: ast.expr) -> bool | None:
        """Value of a condition that the constants alone decide, else None."""
        if isinstance(test, ast.BoolOp):
            parts = [self._decided(value) for value in test.values]
            deciding = isinstance(test.op, ast.Or)  # the part that decides alone
            if deciding in parts:
                return deciding
            return None if None in parts else not deciding
        if isinstance(test, ast.Name) and test.id in self.constants:
            return bool(self.constants[test.id])
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            decided = self._decided(test.operand)
            return None if decided is None else not decided
        if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name):
            if test.left.id in self.states:
                return None
            absent = self.constants.get(test.left.id, self) is None
            if isinstance(test.ops[0], ast.Is):
                return absent
            if isinstance(test.ops[0], ast.IsNot):
                return not absent
            other = test.comparators[0]
            if isinstance(test.ops[0], ast.Eq) and isinstance(other, ast.Name):
                known = test.left.id in self.constants and other.id in self.named
                return self.constants[test.left.id] == self.named[other.id] if known else None
        return None

    def visit_If(self, node: ast.If) -> Any:
        decided = self._decided(node.test)
        if decided is None:
            return self.generic_visit(node)
        kept: list[ast.stmt] = []
        for statement in node.body if decided else node.orelse:
            result = self.visit(statement)
            kept.extend(result if isinstance(result, list) else [result])
        return kept

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        return node if node.body else None

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        decided = self._decided(node.test)
        if decided is None:
            return self.generic_visit(node)
        return self.visit(node.body if decided else node.orelse)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        decided = self._decided(node)
        if decided is not None:
            return ast.Constant(decided)
        values = [self.visit(value) for value in node.values if self._decided(value) is None]
        return values[0] if len(values) == 1 else ast.BoolOp(node.op, values)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not self.is_step:
            return node
        return _call(_OPERATIONS[type(node.op)], node.left, node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if not (self.is_step and isinstance(node.op, ast.USub)):
            return node
        return _call("negative", node.operand)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if self.is_step and isinstance(node.value, float):
            return _call("float32", node)
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        """Clear whole arrays by one call each: Numba takes long to type a slice."""
        targets = _elements(node.targets[0])
        values = _elements(node.value)
        if self.is_step or not (
            all(map(_is_whole_array, targets))
            and all(isinstance(value, ast.Constant) and value.value == 0 for value in values)
        ):
            return self.generic_visit(node)
        return [ast.Expr(_call("clear", target.value)) for target in targets]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "to":
            return ast.Call(node.args[0], [node.func.value], [])
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in _ON_STACK
            and isinstance(node.args[0], ast.Name)
            and node.args[0].id in self.named
        ):
            return _call(_ON_STACK[node.func.attr], *node.args)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "tl":
            return ast.Name(node.attr, ast.Load())
        self.generic_visit(node)
        return node


def _rewritten(
    source: str, is_step: bool, constants: dict[str, object], named: dict[str, object]
) -> Any:
    """Return the definition of a function as Numba shall read it."""
    return _Rewrite(is_step, constants, named).visit(ast.parse(textwrap.dedent(source)).body[0])


def _address(state: str) -> str:
    """Name of the argument that holds the address of a state."""
    return f"{state}_address"


def _elements(node: ast.expr) -> list[Any]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _is_whole_array(node: ast.expr) -> bool:
    """Whether an expression is ``name[:]``."""
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and ast.unparse(node.slice) == ":"
    )


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), [*arguments], [])


def _globals_of(fn: Callable[..., Any]) -> dict[str, object]:
    names: set[str] = set()
    stack: list[types.CodeType] = [fn.__code__]
    while stack:
        code = stack.pop()
        names.update(code.co_names)
        stack.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
    return {n: fn.__globals__[n] for n in sorted(names) if n in fn.__globals__}


def _collect(fn: Callable[..., Any], values: dict[str, object], steps: dict[str, object]) -> None:
    """Gather the constants and step functions that ``fn`` names, callees first."""
    for name, value in _globals_of(fn).items():
        if is_jit(value):
            if name not in steps:
                _collect(value.fn, values, steps)
                steps[name] = value.fn
        elif isinstance(value, tl.constexpr):
            values[name] = value.value
        elif isinstance(value, (bool, int, float)):
            values[name] = value


def _text(fn: Callable[..., Any], constants: dict[str, object], root_is_step: bool) -> str:
    values: dict[str, object] = {}
    steps: dict[str, Any] = {}
    _collect(fn, values, steps)
    values.update(constants)
    for value in constants.values():
        if is_jit(value):
            _collect(value.fn, values, steps)
    parts = [_origin(fn) + _HEADER]
    for name, value in values.items():
        if value is None or is_jit(value):
            continue
        literal = f"np.float32({value!r})" if isinstance(value, float) else repr(value)
        parts.append(f"{name} = {literal}\n")
    sources: dict[Callable[..., Any], str] = {}

    def read(step: Callable[..., Any], known: dict[str, object]) -> ast.FunctionDef:
        if step not in sources:  # it is called often, and takes long to find
            sources[step] = inspect.getsource(step)
        return _rewritten(sources[step], True, known, values)

    tree = _rewritten(inspect.getsource(fn), root_is_step, constants, values)
    tree = inlined(tree, steps, {**values, **constants}, read)
    parts.append(_defined(tree, values, _STEP if root_is_step else _LOOP))
    return "".join(parts)


def _defined(tree: Any, values: dict[str, object], decorator: str) -> str:
    """Return the text of a function, and before it of those of its expressions."""
    from .scalar_ops import OPERATIONS

    tree, functions = fused(tree, OPERATIONS, values)
    named = "".join(f"{name} = expression({text!r})\n" for name, text in functions.items())
    body = ast.unparse(ast.fix_missing_locations(tree))
    if decorator is _LOOP:
        decorator %= bool(_ALLOCATES.search(body))
    return f"{named}\n\n{decorator}\n{body}\n"


def cache_folder() -> Path:
    """Folder of the compiled CPU loops: LAPILLI_CACHE_DIR, or a folder in the user's cache.

    One that cannot be written to is read; what it lacks is then compiled by every process.
    """
    chosen = os.environ.get("LAPILLI_CACHE_DIR")
    return Path(chosen) if chosen else _own_cache()


def _own_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lapilli"


def _write(text: str, name: str) -> Path:
    """Write the module where it can be cached; else in a temporary folder, without caching."""
    from numba import __version__ as numba_version

    from . import scalar_ops, vector_ops

    called = (inspect.getsource(module) for module in (scalar_ops, vector_ops))
    key = "\n".join((text, *called, numba_version, sys.version))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        folder, cache = cache_folder() / digest, True
        if (folder / f"{name}.py").exists() and not os.access(folder, os.W_OK):
            folder = _copied(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(folder)
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written
        folder, cache = Path(tempfile.mkdtemp(prefix="lapilli-")), False
    path = folder / f"{name}.py"
    if not path.exists():
        # another process may be doing the same: never let it read half a file
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False) as file:
            file.write(text.replace("{cache}", str(cache)))
        os.replace(file.name, path)
    if cache and path.stat().st_mtime != _WRITTEN:
        with contextlib.suppress(OSError):  # another user's
            os.utime(path, (_WRITTEN, _WRITTEN))
    return path


def _origin(fn: Callable[..., Any]) -> str:
    return f"# Generated by lapilli from {fn.__module__}; see lapilli/kernels/executors/lift.py.\n"


def _copied(folder: Path) -> Path:
    """Copy a folder of the cache that cannot be written to, in which Numba would not read."""
    base = _own_cache()
    target = base / folder.name
    if not target.exists():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as scratch:
            copy = shutil.copytree(folder, Path(scratch) / folder.name, copy_function=shutil.copy)
            for entry in (copy, *copy.rglob("*")):
                entry.chmod(entry.stat().st_mode | stat.S_IWUSR)
            with contextlib.suppress(OSError):  # another process was faster
                copy.rename(target)
    return target


def _load(text: str, function: str) -> Callable[..., Any]:
    path = _write(text, function.lstrip("_"))
    logging.getLogger(__name__).info("%s is prepared from %s", function, path)
    # Numba's cache imports the module by name, so the name must be the same in every process
    name = f"_lapilli_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)
