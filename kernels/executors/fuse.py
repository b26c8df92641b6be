"""Make one function of each expression, in source code.

Numba takes as long for a call of one operation as for a call of a function of fifty: of the time
that a loop took to compile, a fifth went to looking operations up one by one. An expression of
operations becomes a function of what it reads, which ``scalar_ops.expression`` makes of its text.
"""

import ast
from collections.abc import Iterable

_NO_NUMBERS = ("float('inf')", "float('nan')")

Definitions = dict[str, str]  # text of an expression, by the name of its function


def fused(
    tree: ast.FunctionDef, operations: Iterable[str], constants: dict[str, object]
) -> tuple[ast.FunctionDef, Definitions]:
    """Return the definition of a function whose expressions of operations are calls.

    Parameters
    ----------
    tree
        Definition; it is changed.
    operations
        Names of the operations.
    constants
        What names of its module stand for.
    """
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    own = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    own.update(argument.arg for argument in tree.args.args)
    known = {
        name: value
        for name, value in constants.items()
        if isinstance(value, (int, float)) and name not in own
    }
    fuse = _Fuse(frozenset(operations), known)
    return fuse.visit(tree), {name: text for text, name in fuse.names.items()}


class _Fuse(ast.NodeTransformer):
    """Replace each largest expression of operations."""

    def __init__(self, operations: frozenset[str], constants: dict[str, int | float]):
        self.operations = operations
        self.constants = constants
        self.names: dict[str, str] = {}  # of the functions, by their text

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not self._is_operation(node):
            return self.generic_visit(node)
        leaves: dict[str, ast.expr] = {}
        body = ast.unparse(self._read(node, leaves))
        parameters = ", ".join(map(_parameter, range(len(leaves))))
        text = f"lambda {parameters}: {body}" if leaves else f"lambda: {body}"
        name = self.names.setdefault(text, f"expression_{len(self.names) + 1}")
        return ast.Call(ast.Name(name, ast.Load()), [*leaves.values()], [])

    def _is_operation(self, node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in self.operations
        )

    def _read(self, node: ast.expr, leaves: dict[str, ast.expr]) -> ast.expr:
        """Return an expression of parameters; ``leaves`` gets what they stand for, by its text."""
        if isinstance(node, ast.Call) and self._is_operation(node):
            return ast.Call(node.func, [self._read(a, leaves) for a in node.args], [])
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = (self._read(a, leaves) for a in (node.left, *node.comparators))
            return ast.Compare(left, node.ops, [right])
        is_negative = isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
        if isinstance(node, ast.Constant) or is_negative or ast.unparse(node) in _NO_NUMBERS:
            return node
        if isinstance(node, ast.Name) and node.id in self.constants:
            value = self.constants[node.id]
            text = f"float32({value!r})" if isinstance(value, float) else repr(value)
            return ast.parse(text, mode="eval").body
        leaf = self.visit(node)
        leaves.setdefault(ast.unparse(leaf), leaf)
        return ast.Name(_parameter([*leaves].index(ast.unparse(leaf))), ast.Load())


def _parameter(place: int) -> str:
    return f"x{place}"
