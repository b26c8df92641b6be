"""Surrogates that users write: a Python function, read once and compiled for every executor.

The function is an ordinary one of a float. Its source becomes a function in the language of the
kernels (language.py), which Triton compiles for a GPU and ``lift`` for the CPU, as they do with the
shapes of surrogate.py. What that language has no word for is refused, with the line and the reason.
"""

import ast
import builtins
import functools
import hashlib
import inspect
import linecache
import math
import operator
import textwrap
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from .language import jit, tl
from .surrogate import BUILT_IN, SURROGATES, Surrogate, surrogate_named

GivenSurrogate = str | Callable[[float], float]  # its name, or the function that defines it

Shape = TypeVar("Shape", bound=Callable[[float], float])

_WORDS = (
    "a surrogate is a function of one argument: assignments and one return, made of numbers, "
    "+ - * /, ** with a whole number from -8 to 8 or with 0.5, comparisons, and, or, "
    "'a if condition else b', abs, min, max, math.exp and math.sqrt"
)
_OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}
_COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}
_LARGEST_POWER = 8
_LOG2_E = math.log2(math.e)
_PROBES = (0.0, *(s * 10.0**k for k in range(-4, 5) for s in (1, -1, 3, -3)))  # distances in widths


class _Reader:
    """Translates the body of a function; an expression is a number where it is known, else text."""

    def __init__(self, fn: types.FunctionType):
        self.fn = fn
        self.known = {**vars(builtins), **fn.__globals__, **inspect.getclosurevars(fn).nonlocals}
        self.locals: dict[str, float | str] = {}

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        text = ast.unparse(node).splitlines()[0]
        line = getattr(node, "lineno", 1)
        raise ValueError(
            f"surrogate {self.fn.__name__!r}, line {line}, {text!r}: {reason}; {_WORDS}"
        )

    def body(self, node: ast.FunctionDef) -> list[str]:
        """Return the statements; the argument's name stands for ``distance * rate``."""
        a = node.args
        if len(a.args) != 1 or a.posonlyargs or a.kwonlyargs or a.vararg or a.kwarg or a.defaults:
            self.refuse(node, "it must have one argument, the distance in widths, and no default")
        self.locals[a.args[0].arg] = "z0"
        lines = ["z0 = distance * rate"]
        statements = node.body[ast.get_docstring(node) is not None :]
        for statement in statements[:-1]:
            if not (
                isinstance(statement, ast.Assign)
                and len(statement.targets) == 1
                and isinstance(statement.targets[0], ast.Name)
            ):
                self.refuse(statement, "only assignments to a name can stand before the return")
            value = self.expression(statement.value)
            if isinstance(value, str):
                name = f"z{len(lines)}"
                lines.append(f"{name} = {value}")
                value = name
            self.locals[statement.targets[0].id] = value
        last = statements[-1] if statements else node
        if not isinstance(last, ast.Return) or last.value is None:
            self.refuse(last, "it must end with a return of its value")
        value = self.expression(last.value)
        # a number alone would have no shape
        whole = value if isinstance(value, str) else f"tl.where(reach >= 0.0, {value!r}, {value!r})"
        return [*lines, f"return {whole}"]

    def expression(self, node: ast.expr) -> float | str:
        if isinstance(node, ast.Constant):
            return self.number(node, node.value)
        if isinstance(node, ast.Name) and node.id in self.locals:
            return self.locals[node.id]
        if isinstance(node, (ast.Name, ast.Attribute)):
            return self.number(node, self.value_of(node))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.expression(node.operand)
            if isinstance(node.op, ast.UAdd):
                return value
            return -value if isinstance(value, float) else f"(-{value})"
        if isinstance(node, ast.BinOp):
            a, b = self.expression(node.left), self.expression(node.right)
            if isinstance(node.op, ast.Pow):
                return self.power(node, a, b)
            if type(node.op) not in _OPERATORS:
                self.refuse(node, "this operator is not known")
            sign, apply = _OPERATORS[type(node.op)]
            return self.together(node, apply, lambda a, b: f"({a} {sign} {b})", a, b)
        if isinstance(node, ast.IfExp):
            test = self.condition(node.test)
            a, b = self.expression(node.body), self.expression(node.orelse)
            if isinstance(test, bool):
                return a if test else b
            return f"tl.where({test}, {a}, {b})"
        if isinstance(node, ast.Call):
            return self.call(node)
        self.refuse(node, "this is not an expression of numbers")

    def number(self, node: ast.expr, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(node, f"this is {type(value).__name__}, not a number")
        if not math.isfinite(value):
            self.refuse(node, "this is not finite")
        return float(value)

    def value_of(self, node: ast.expr) -> Any:
        """Value of a name that is not the function's own, or of an attribute of one."""
        if isinstance(node, ast.Name):
            if node.id not in self.known:
                self.refuse(node, "this name is not known where the function is defined")
            return self.known[node.id]
        if isinstance(node, ast.Attribute):
            whole = self.value_of(node.value)
            if not hasattr(whole, node.attr):
                self.refuse(node, "there is no such attribute")
            return getattr(whole, node.attr)
        self.refuse(node, "this is neither a number nor a known name")

    def together(
        self, node: ast.expr, apply: Callable[..., float], write: Callable[..., str], *values: Any
    ) -> float | str:
        """Compute what is known of numbers alone, else write it down."""
        if any(isinstance(value, str) for value in values):
            return write(*values)
        try:
            return self.number(node, apply(*values))
        except (ArithmeticError, ValueError) as error:
            self.refuse(node, str(error))

    def power(self, node: ast.expr, a: float | str, b: float | str) -> float | str:
        if isinstance(a, float) and isinstance(b, float):
            return self.together(node, operator.pow, str, a, b)
        if isinstance(b, str) or not (b == 0.5 or (b == int(b) and abs(b) <= _LARGEST_POWER)):
            self.refuse(node, "this power is not known")
        if b == 0.5:
            return f"tl.sqrt({a})"
        if b == 0:
            return 1.0
        product = "(" + " * ".join([str(a)] * abs(int(b))) + ")"
        return product if b > 0 else f"(1.0 / {product})"

    def call(self, node: ast.Call) -> float | str:
        function = self.value_of(node.func)
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self.refuse(node, "arguments are given by place")
        values = [self.expression(a) for a in node.args]
        if function in (min, max) and len(values) >= 2:
            word = "tl.minimum" if function is min else "tl.maximum"
            return functools.reduce(
                lambda a, b: self.together(node, function, lambda a, b: f"{word}({a}, {b})", a, b),
                values,
            )
        if len(values) == 1 and function in _CALLS:
            return self.together(node, function, _CALLS[function], *values)
        self.refuse(node, "this function is not known")

    def condition(self, node: ast.expr) -> bool | str:
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(value) for value in node.values]
            known = [part for part in parts if isinstance(part, bool)]
            written = [part for part in parts if isinstance(part, str)]
            is_and = isinstance(node.op, ast.And)
            if (not is_and) in known or not written:
                return all(known) if is_and else any(known)
            return "(" + (" & " if is_and else " | ").join(written) + ")"
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            if type(node.ops[0]) not in _COMPARISONS:
                self.refuse(node, "this comparison is not known")
            sign, apply = _COMPARISONS[type(node.ops[0])]
            a, b = self.expression(node.left), self.expression(node.comparators[0])
            if isinstance(a, float) and isinstance(b, float):
                return apply(a, b)
            return f"({a} {sign} {b})"
        self.refuse(node, "a condition is one comparison, or several with and, or")


_CALLS: dict[Any, Callable[[str], str]] = {
    abs: lambda a: f"tl.abs({a})",
    math.fabs: lambda a: f"tl.abs({a})",
    math.sqrt: lambda a: f"tl.sqrt({a})",
    # exp2 takes exponents below 128
    math.exp: lambda a: f"tl.exp2(tl.minimum({a} * {_LOG2_E!r}, 127.0))",
}


def _translated(fn: types.FunctionType) -> tuple[Any, str]:
    """Return a function in the language of the kernels, and its text."""
    try:
        source = textwrap.dedent(inspect.getsource(fn))
    except (OSError, TypeError) as error:
        raise ValueError(
            f"surrogate {fn.__name__!r}: its source cannot be read ({error}); define it in a file "
            f"or a notebook"
        ) from error
    node = ast.parse(source).body[0]
    if not isinstance(node, ast.FunctionDef):
        raise ValueError(f"surrogate {fn.__name__!r} must be defined with def; {_WORDS}")
    lines = _Reader(fn).body(node)
    text = "\n    ".join(lines)
    # another formula is another name: Triton tells functions apart by it
    name = f"{fn.__name__}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    text = f"def {name}(distance, reach, rate):\n    {text}\n"
    file = f"<lapilli surrogate {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(text, file, "exec"), space)
    return jit(space[name]), text


# of each function that was added: a notebook's cell that runs twice makes two functions of one text
_FORMULAS: "weakref.WeakKeyDictionary[types.FunctionType, str]" = weakref.WeakKeyDictionary()


def surrogate(shape: Shape) -> Shape:
    """Add a surrogate gradient of your own; use as a decorator.

    The function is h of ``rho(d) = scale / (2 tau) h(d / tau)``, graded
    ``scale h(min(d, 0) / tau)``, where d is how far a state is above its threshold; tau and scale
    are ``tau_grad`` and ``scale_grad`` times what the neuron makes of them. With ``h(0) = 1`` and
    an integral of 2, as the built-in ones have, ``tau_grad`` and ``scale_grad`` mean what they mean
    for those.

    It is read once, where it is defined, and compiled for GPU and CPU with the kernels. Names from
    outside must be numbers, and keep the value that they have then.

    Parameters
    ----------
    shape
        Function of one float, the distance in widths, defined with ``def``: assignments and one
        return, made of numbers, ``+ - * /``, ``**`` with a whole number from -8 to 8 or with 0.5,
        comparisons, ``and``, ``or``, ``a if condition else b`` (both are computed), ``abs``,
        ``min``, ``max``, ``math.exp`` and ``math.sqrt``.

    Returns
    -------
    Callable
        The function itself. Neurons take it or its name as ``surrogate``; checkpoints, pickles and
        exported programs keep the name, so the module that defines it must be imported before they
        are used.

    Raises
    ------
    ValueError
        For a function that is not in this language, with the line and the reason; that is not
        finite somewhere, or 0 everywhere; that has the name of a built-in surrogate.

    Warns
    -----
    UserWarning
        For a name that has another formula already, which is replaced for all that use it.

    Examples
    --------
    >>> import math
    >>> import lapilli
    >>> from lapilli import slayer
    >>> @lapilli.surrogate
    ... def gaussian(z):
    ...     return math.exp(-math.pi * z * z / 4)
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1, surrogate="gaussian")
    >>> slayer.block.cuba.Dense(neuron, 34, 64).neuron.surrogate
    'gaussian'
    """
    function: Any = shape
    if not isinstance(function, types.FunctionType):
        raise ValueError(f"a surrogate is a function; got {type(function).__name__}")
    name = function.__name__
    if name in BUILT_IN:
        raise ValueError(
            f"surrogate {name!r} is built in; give the function another name. Built in are "
            f"{', '.join(map(repr, BUILT_IN))}"
        )
    translated, text = _translated(function)
    values = on_tensors(translated.fn)(
        torch.tensor(_PROBES), torch.tensor(_PROBES).abs(), 1.0
    ).tolist()
    for distance, value in zip(_PROBES, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"surrogate {name!r} is {value} at {distance}; it must be finite")
    if not any(values):
        raise ValueError(f"surrogate {name!r} is 0 everywhere: nothing would learn")
    before = SURROGATES.get(name)
    if before is not None and before.formula != text:
        warnings.warn(
            f"surrogate {name!r} had another formula, which is replaced for all that use it",
            stacklevel=2,
        )
    SURROGATES[name] = Surrogate(name, text, translated, lambda tau: 1 / tau, function)
    _FORMULAS[function] = text
    return shape


def surrogates() -> tuple[str, ...]:
    """Return the names of the surrogate gradients that exist, the built-in ones first.

    Examples
    --------
    >>> import lapilli
    >>> "arctan" in lapilli.surrogates()
    True
    """
    return tuple(SURROGATES)


def name_of(given: GivenSurrogate) -> str:
    """Return the name of a surrogate, which is given by it or by the function that defines it.

    Raises
    ------
    ValueError
        For one that does not exist, or whose name has another formula by now.
    """
    if isinstance(given, types.FunctionType):
        found, formula = SURROGATES.get(given.__name__), _FORMULAS.get(given)
        if formula is None:
            raise ValueError(
                f"surrogate is the function {given.__name__!r}, which was not added; decorate it "
                f"with lapilli.surrogate"
            )
        if found is None or found.formula != formula:
            raise ValueError(
                f"surrogate is the function {given.__name__!r}, whose name has another formula "
                f"by now; give one of the two functions another name"
            )
        return found.name
    name: Any = given  # the error of ``surrogate_named`` says what else it may be
    return surrogate_named(name).name


class _OnTensors:
    """What stands for the language where a shape is computed by torch."""

    abs, exp2 = staticmethod(torch.abs), staticmethod(torch.exp2)
    sqrt, where = staticmethod(torch.sqrt), staticmethod(torch.where)

    @staticmethod
    def maximum(a: Tensor | float, b: Tensor | float) -> Tensor:
        return torch.maximum(torch.as_tensor(a), torch.as_tensor(b))

    @staticmethod
    def minimum(a: Tensor | float, b: Tensor | float) -> Tensor:
        return torch.minimum(torch.as_tensor(a), torch.as_tensor(b))


@functools.cache
def on_tensors(shape: types.FunctionType) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Return a shape of surrogate.py, or one that a user added, as a function of tensors."""
    function = types.FunctionType(shape.__code__, {"tl": _OnTensors, "__builtins__": builtins})

    def on(distance: Tensor, reach: Tensor, rate: float) -> Tensor:
        return function(distance, reach, rate).to(distance.dtype)

    return on
