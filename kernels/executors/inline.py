"""Put the bodies of step functions where they are called, in source code.

Numba compiles each function that it meets on its own, down to machine code, before it inlines it:
of the time that a loop took to compile, more than half went there.

A step is arithmetic: it assigns to names of its own, and each of its branches ends with a return.
"""

import ast
import copy
import inspect
from collections.abc import Callable
from typing import Any

from lapilli.kernels.numbers.language import is_jit, tl

Function = Callable[..., Any]


def inlined(
    tree: ast.FunctionDef,
    steps: dict[str, Function],
    constants: dict[str, object],
    read: Callable[[Function, dict[str, object]], ast.FunctionDef],
) -> ast.FunctionDef:
    """Return the definition of a function that calls no steps any more.

    Parameters
    ----------
    tree
        Definition; it is changed.
    steps
        Steps by the names that they are called by.
    constants
        What other names stand for: numbers, and steps that are called too.
    read
        Function of a step, and of those of its arguments that are constants, by name. Returns its
        definition without them.
    """
    return _Inline(steps, constants, read).visit(tree)


class _Inline(ast.NodeTransformer):
    """Put the bodies of steps before the statements that call them."""

    def __init__(
        self,
        steps: dict[str, Function],
        constants: dict[str, object],
        read: Callable[[Function, dict[str, object]], ast.FunctionDef],
    ):
        self.steps = steps
        self.constants = constants
        self.read = read
        self.before: list[ast.stmt] = []  # what comes before the statement that is visited
        self.count = 0
        self.own: set[str] = set()  # variables that came with steps

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """Inline statement by statement."""
        kept: list[ast.stmt] = []
        for statement in statements:
            outer, self.before = self.before, []
            result = self.visit(statement)
            kept += [*self.before, *(result if isinstance(result, list) else [result])]
            self.before = outer
        return kept

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = self.block(node.body)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        node.test = self.visit(node.test)
        node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = self.visit(node.iter)
        node.body = self.block(node.body)
        return node

    def _visit_sometimes(self, node: ast.AST) -> ast.AST:
        """Visit what is not always evaluated, or again: nothing of it may come before."""
        before, text = len(self.before), ast.unparse(node)
        node = self.generic_visit(node)
        if len(self.before) != before:
            raise NotImplementedError(
                f"a step is called in {text!r}, which is not evaluated once each "
                "time; call it in a statement before"
            )
        return node

    visit_While = visit_IfExp = visit_BoolOp = visit_ListComp = visit_GeneratorExp = (
        _visit_sometimes
    )

    def visit_Assign(self, node: ast.Assign) -> Any:
        is_call = self._step(node.value) is not None
        self.generic_visit(node)
        target, value = node.targets[0], node.value
        if not (is_call and isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)):
            return node
        # one by one: Numba takes long for tuples; first all values, which may need the targets
        values = [self._held(element) for element in value.elts]
        return [_assign(*pair) for pair in zip(target.elts, values, strict=True)]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        step = self._step(node)
        self.generic_visit(node)
        return node if step is None else self._inlined(step, node.args)

    def _step(self, node: ast.AST) -> Function | None:
        """Return the step that is called, if one is."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            return None
        given: Any = self.constants.get(node.func.id)
        return given.fn if is_jit(given) else self.steps.get(node.func.id)

    def _held(self, value: ast.expr) -> ast.expr:
        """Evaluate an expression before the statement that is visited."""
        is_own = isinstance(value, ast.Name) and value.id in self.own
        if is_own or isinstance(value, ast.Constant):
            return value
        self.count += 1
        name = f"result__{self.count}"
        self.before.append(_assign(ast.Name(name, ast.Store()), value))
        return ast.Name(name, ast.Load())

    def _inlined(self, step: Function, arguments: list[ast.expr]) -> ast.expr:
        """Put the body of a step before the statement that is visited, and return its value."""
        parameters = inspect.signature(step).parameters
        given = dict(zip(parameters, arguments, strict=True))
        known: dict[str, object] = {}
        for name, value in given.items():
            if parameters[name].annotation is tl.constexpr:
                if isinstance(value, ast.Constant):
                    known[name] = value.value
                elif isinstance(value, ast.Name) and value.id in self.constants:
                    known[name] = self.constants[value.id]
        definition = self.read(step, known)
        variables = {
            node.id
            for node in ast.walk(definition)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        self.count += 1
        suffix = f"__{self.count}"
        for name, value in given.items():
            if name in variables or not isinstance(value, (ast.Name, ast.Constant)):
                self.before.append(_assign(ast.Name(name + suffix, ast.Store()), value))
                variables.add(name)
        renamed = _Rename({name: name + suffix for name in variables}, given).visit(definition)
        result = step.__name__ + suffix
        self.own |= {result, *(name + suffix for name in variables)}
        *body, end = renamed.body[ast.get_docstring(renamed) is not None :]
        if isinstance(end, ast.Return) and end.value is not None:
            self.before += self.block(_without_return(step, body))
            return self.visit(end.value)
        self.before += self.block(_returned_to(result, step, [*body, end]))
        return ast.Name(result, ast.Load())


class _Rename(ast.NodeTransformer):
    """Give variables other names, and put what is given in the place of arguments."""

    def __init__(self, names: dict[str, str], given: dict[str, ast.expr]):
        self.names = names
        self.given = given

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.names:
            return ast.Name(self.names[node.id], node.ctx)
        return copy.deepcopy(self.given.get(node.id, node))


def _assign(target: ast.expr, value: ast.expr) -> ast.Assign:
    return ast.Assign([target], value, lineno=0)


def _without_return(step: Function, body: list[ast.stmt]) -> list[ast.stmt]:
    for statement in body:
        if any(isinstance(node, ast.Return) for node in ast.walk(statement)):
            raise NotImplementedError(
                f"step {step.__name__!r} returns within {ast.unparse(statement)!r} and goes on "
                "after it; end each branch with a return, or none"
            )
    return body


def _returned_to(name: str, step: Function, body: list[ast.stmt]) -> list[ast.stmt]:
    """Assign to ``name`` what a body returns, in each of its branches."""
    *others, end = body
    others = _without_return(step, others)
    if isinstance(end, ast.Return) and end.value is not None:
        return [*others, _assign(ast.Name(name, ast.Store()), end.value)]
    if isinstance(end, ast.If) and end.orelse:
        branches = (_returned_to(name, step, branch) for branch in (end.body, end.orelse))
        return [*others, ast.If(end.test, *branches)]
    raise NotImplementedError(
        f"step {step.__name__!r} ends with {ast.unparse(end)!r}; expected a return, or one at the "
        "end of each branch"
    )
