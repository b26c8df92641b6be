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
* the body of a step stands where the step is called (inline.py).

The result is one small Python module a loop and set of constants, in a folder named by the hash of
its text: what the compiler sees can be read there, Numba's on-disk cache works for it, and no edit
of any helper can leave stale machine code behind. Compilation happens at the first call.
"""

import ast
import hashlib
import importlib.util
import inspect
import logging
import os
import sys
import tempfile
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lapilli.kernels.numbers.language import is_jit, tl

from .inline import inlined

_HEADER = """\
import numpy as np
from numba import njit

from lapilli.kernels.executors.scalar_ops import *
from lapilli.kernels.executors.vector_ops import *
"""
_STEP = "@njit(forceinline=True, error_model='numpy')"
_LOOP = "@njit(nogil=True, cache={cache}, error_model='numpy', no_cfunc_wrapper=True)"

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

_lock = threading.Lock()


def _new_lock() -> None:
    """Forget a lock that another thread may have held when the process forked."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def is_state(argument: str) -> bool:
    """Whether an argument of a loop is a state before or after the sequence."""
    return argument[-1] in "01"


class CpuLoop:
    """A loop over ``[first, last)`` tiles, compiled at its first call.

    Arguments annotated ``tl.constexpr``, which come last, are compile-time constants (flags and
    step functions), and so is the absence of an argument that is None: one module for each
    combination.
    """

    def __init__(self, fn: Callable[..., None]):
        self.fn = fn
        self.__name__ = fn.__name__
        self.__doc__ = fn.__doc__
        parameters = inspect.signature(fn).parameters.values()
        self.arguments = [p.name for p in parameters if p.annotation is not tl.constexpr]
        self.constants = [p.name for p in parameters if p.annotation is tl.constexpr]
        self.is_watched = "RULE" in self.constants  # see fixed_point.py
        self.states = [k for k, n in enumerate(self.arguments[2:]) if is_state(n)]
        self._compiled: dict[tuple[object, ...], Callable[..., None]] = {}

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
                    values = dict(zip(self.constants, constants, strict=True))
                    names = self.arguments[2 : 2 + len(absent)]
                    values.update({n: None for n, a in zip(names, absent, strict=True) if a})
                    compiled = self._compiled[key] = _load(self.fn, values)
        return compiled


def cpu_loop(fn: Callable[..., None]) -> CpuLoop:
    """Mark a function as the CPU loop of a kernel."""
    return CpuLoop(fn)


def lift(step: Any) -> Callable[..., Any]:
    """Return a step function compiled for scalars, for tests and for use from other loops."""
    return _load(step.fn, {}, root_is_step=True)


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

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "to":
            return ast.Call(node.args[0], [node.func.value], [])
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
    parts = [
        f"# Generated by lapilli from {fn.__module__}; see lapilli/kernels/executors/lift.py.\n"
        + _HEADER
    ]
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
    decorator = _STEP if root_is_step else _LOOP
    parts.append(f"\n\n{decorator}\n{ast.unparse(ast.fix_missing_locations(tree))}\n")
    return "".join(parts)


def cache_folder() -> Path:
    """Folder of the compiled CPU loops: LAPILLI_CACHE_DIR, or a folder in the user's cache."""
    chosen = os.environ.get("LAPILLI_CACHE_DIR")
    if chosen:
        return Path(chosen)
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
    return path


def _load(
    fn: Callable[..., Any], constants: dict[str, object], root_is_step: bool = False
) -> Callable[..., Any]:
    path = _write(_text(fn, constants, root_is_step), fn.__name__.lstrip("_"))
    logging.getLogger(__name__).info("%s is prepared from %s", fn.__name__, path)
    # Numba's cache imports the module by name, so the name must be the same in every process
    name = f"_lapilli_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, fn.__name__)
