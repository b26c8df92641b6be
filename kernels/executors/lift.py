"""Write step functions, and loops that call them, as Numba reads them.

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
"""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Callable
from typing import Any

from lapilli.kernels.numbers.language import is_jit, tl

from .fuse import fused
from .inline import inlined
from .symbols import is_state

HEADER = """\
import numpy as np
from numba import njit

from lapilli.kernels.executors.loop_ops import *
from lapilli.kernels.executors.scalar_ops import *
from lapilli.kernels.executors.vector_ops import *
"""
_STEP = "@njit(forceinline=True, error_model='numpy')"
LOOP = "@njit(nogil=True, cache={cache}, error_model='numpy', no_cfunc_wrapper=True, _nrt=%s)"
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


def _globals_of(fn: Callable[..., Any]) -> dict[str, Any]:
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


def text_of(fn: Callable[..., Any], constants: dict[str, Any], root_is_step: bool) -> str:
    """Return the module of a loop, or of a step, with some arguments as constants."""
    values: dict[str, object] = {}
    steps: dict[str, Any] = {}
    _collect(fn, values, steps)
    values.update(constants)
    for value in constants.values():
        if is_jit(value):
            _collect(value.fn, values, steps)
    parts = [origin(fn) + HEADER]
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
    parts.append(defined(tree, values, _STEP if root_is_step else LOOP))
    return "".join(parts)


def defined(tree: Any, values: dict[str, object], decorator: str) -> str:
    """Return the text of a function, and before it of those of its expressions."""
    from .scalar_ops import OPERATIONS

    tree, functions = fused(tree, OPERATIONS, values)
    named = "".join(f"{name} = expression({text!r})\n" for name, text in functions.items())
    body = ast.unparse(ast.fix_missing_locations(tree))
    if decorator is LOOP:
        decorator %= bool(_ALLOCATES.search(body))
    return f"{named}\n\n{decorator}\n{body}\n"


def without_numba(definition: str) -> str:
    """Return the text of a function that is written for LLVM without Numba, see llvm_code.py."""
    name, arguments = re.match(r"def (\w+)\((.*)\):", definition).groups()  # type: ignore[union-attr]
    body = definition.replace(f"def {name}(", f"def {name}_body(", 1)
    call = f"{LOOP % False}\ndef {name}({arguments}):\n    code({arguments})\n"
    return f"\n\n{body}\n\n\ncode = code_of({name}_body)\n\n\n{call}"


def origin(fn: Callable[..., Any]) -> str:
    """Return the first line of a module."""
    return f"# Generated by lapilli from {fn.__module__}; see lapilli/kernels/executors/cache.py.\n"
