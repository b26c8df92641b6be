"""Write the code of a loop for LLVM, from its definition in Python.

Numba takes several milliseconds for a statement, to find its types and to write it for LLVM: two
thirds of the time that a loop takes to compile. The loops that are made from kernels (walk.py) are
plain enough to be written without it. Numba then compiles a function of one call, for the
processor at hand, and keeps it on the disk.

    for .. in range(..), if, continue           statements
    a = x,  a, b = x, y,  a -= x,  row[i] = x   names keep their types
    x + y, -, *, //, %                          of whole numbers, 64 bits; none below 0 is divided
    x < y, x if y else z, min(x, y), max(x, y)
    np.int64(x), np.int32(x), np.float32(x)
    x[n, t, c0:c1], x[i], x.reshape(-1)         contiguous arrays; no index is below 0
    add(x, y), scratch(..), ...                 operations (scalar_ops.py), intrinsics, functions of
                                                this language

Arrays do not overlap, but for the states before and after a sequence, and LLVM is told so: it need
not compare addresses before it works on vectors.

Imported by the generated modules only; importing it loads Numba.
"""

import ast
import inspect
import textwrap
from types import FunctionType

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError

from .intrinsics import intrinsic
from .llvm_arrays import Array, Arrays
from .scalar_ops import compared
from .vectors import LONG

__all__ = ["code_of"]

_ARITHMETIC = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "sdiv", ast.Mod: "srem",
}  # fmt: skip
_CHOICES = {"min": "<", "max": ">"}
_TYPES = {
    "int64": types.int64, "int32": types.int32, "uint32": types.uint32, "float32": types.float32,
    "bool_": types.boolean,
}  # fmt: skip


def code_of(function):
    """Return what compiled code calls in place of a function, whose source it reads.

    The function takes numbers and contiguous arrays, returns nothing, and keeps to the language
    above. What its names stand for is looked up in its module.
    """

    def define(typingctx, *given):
        def codegen(context, builder, signature, args):
            arrays = Arrays(context, builder)
            values = [
                arrays.of_numba(kind, value) if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, args, strict=True)
            ]
            _write(function, typingctx, context, builder, signature.args, values)
            return context.get_dummy_value()

        return types.void(*given), codegen

    # Numba binds arguments to parameters by this, and knows no starred ones
    define.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in ("typingctx", *inspect.signature(function).parameters)
        ]
    )
    return intrinsic(define)


def _write(function, typingctx, context, builder, kinds, values):
    """Write what a function does with arguments of some types."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef), ast.unparse(tree)
    code = _Code(typingctx, context, builder, function.__globals__, tree)
    for argument, *value in zip(tree.args.args, kinds, values, strict=True):
        code.keep(argument.arg, tuple(value))
    code.block(tree.body)


class _Code:
    """Writer of statements; a value is a pair of its Numba type and of what LLVM has for it.

    LLVM knows nothing of a type or of None: there the second is None.
    """

    def __init__(self, typingctx, context, builder, names, tree):
        self.typingctx, self.context, self.builder = typingctx, context, builder
        self.names = names  # of the module
        self.fixed = {}  # values of names that keep them: arguments, places in loops, arrays
        self.places = {}  # types and addresses of the other names
        self.following = []  # of each loop around, where its next turn begins
        self.once = _assigned_once(tree)
        self.arrays = Arrays(context, builder)

    def keep(self, name, value):
        """Give a name its only value."""
        kind, result = value
        if isinstance(result, Array):
            result = self.arrays.named(name, result)
        self.fixed[name] = kind, result

    # statements

    def block(self, statements):
        """Write statements; what comes behind a ``continue`` is left out."""
        for statement in statements:
            if self.builder.block.is_terminated:
                return
            self._writer(statement, "")(statement)

    def _writer(self, node, prefix):
        write = getattr(self, f"_{prefix}{type(node).__name__.lower()}", None)
        return write or self._refuse(node)

    def _refuse(self, node):
        raise TypingError(f"a loop cannot contain `{ast.unparse(node)}`, see llvm_code.py")

    def _expr(self, node):
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.value(node.value)

    def _assign(self, node):
        (target,) = node.targets
        if isinstance(target, ast.Tuple):
            values = [self.value(v) for v in node.value.elts]  # all, before a name is changed
            for name, value in zip(target.elts, values, strict=True):
                self._set(name, value)
        else:
            self._set(target, self.value(node.value))

    def _augassign(self, node):
        self._set(node.target, self.value(ast.BinOp(node.target, node.op, node.value)))

    def _set(self, target, value):
        if isinstance(target, ast.Subscript):
            self._store(target, value)
            return
        name, (kind, result) = target.id, value
        if name in self.once:
            self.keep(name, value)
            return
        if name not in self.places:
            self.places[name] = kind, cgutils.alloca_once(self.builder, result.type)
        known, place = self.places[name]
        if known != kind and (known, kind) != (types.int64, types.int32):
            raise TypingError(f"{name} is of type {known}, and is given {kind}")
        self.builder.store(self.cast(value, known), place)

    def _if(self, node):
        condition = self._condition(node.test)
        if not node.orelse:
            with self.builder.if_then(condition):
                self.block(node.body)
            return
        with self.builder.if_else(condition) as (then, otherwise):
            with then:
                self.block(node.body)
            with otherwise:
                self.block(node.orelse)

    def _continue(self, node):
        self.builder.branch(self.following[-1])

    def _for(self, node):
        builder = self.builder
        bounds, step = node.iter.args, 1
        if len(bounds) > 2:  # the step is a constant
            *bounds, each = bounds
            step = self.names[each.id] if isinstance(each, ast.Name) else ast.literal_eval(each)
        *begin, end = (self._whole(a) for a in bounds)
        before = builder.block
        head, body, following, done = (
            builder.append_basic_block(f"loop.{name}") for name in ("head", "body", "next", "done")
        )
        builder.branch(head)
        builder.position_at_end(head)
        place = builder.phi(LONG)
        place.add_incoming(begin[0] if begin else LONG(0), before)
        inside = builder.icmp_signed("<" if step > 0 else ">", place, end)
        builder.cbranch(inside, body, done)
        builder.position_at_end(body)
        self.fixed[node.target.id] = types.int64, place
        self.following.append(following)
        self.block(node.body)
        self.following.pop()
        del self.fixed[node.target.id]
        if not builder.block.is_terminated:
            builder.branch(following)
        builder.position_at_end(following)
        place.add_incoming(builder.add(place, LONG(step), flags=["nsw"]), following)
        builder.branch(head)
        builder.position_at_end(done)

    # expressions

    def value(self, node):
        """Write an expression; return its type and value."""
        return self._writer(node, "of_")(node)

    def cast(self, value, kind):
        """Convert a value to a type, as Numba does."""
        return self.context.cast(self.builder, value[1], value[0], kind)

    def _whole(self, node):
        """Return an expression as a whole number of 64 bits."""
        value = self.value(node)
        if not isinstance(value[0], (types.Integer, types.Boolean)):
            raise TypingError(f"`{ast.unparse(node)}` is {value[0]}, not a whole number")
        return self.cast(value, types.int64)

    def _condition(self, node):
        return self.cast(self.value(node), types.boolean)

    def _of_name(self, node):
        if node.id in self.fixed:
            return self.fixed[node.id]
        if node.id in self.places:
            kind, place = self.places[node.id]
            return kind, self.builder.load(place)
        number = self.names.get(node.id)
        if not isinstance(number, (int, float)):
            self._refuse(node)
        kind, value = self._number(number)
        return (types.literal(number) if isinstance(number, int) else kind), value

    def _of_constant(self, node):
        return (types.none, None) if node.value is None else self._number(node.value)

    def _of_unaryop(self, node):
        return self._number(ast.literal_eval(node))

    def _number(self, number):
        kind = types.int64 if isinstance(number, int) else types.float64
        return kind, self.context.get_constant(kind, number)

    def _of_binop(self, node):
        name = _ARITHMETIC.get(type(node.op)) or self._refuse(node)
        write = getattr(self.builder, name)
        return types.int64, write(self._whole(node.left), self._whole(node.right))

    def _of_compare(self, node):
        (sign,), (right,) = node.ops, node.comparators
        sides = self.value(node.left), self.value(right)
        return compared(self.typingctx, self.context, self.builder, sign, *sides)

    def _of_ifexp(self, node):
        """Choose between two arrays."""
        condition = self._condition(node.test)
        (kind, one), (_, other) = self.value(node.body), self.value(node.orelse)
        return kind, self.arrays.one_of(condition, one, other)

    def _of_attribute(self, node):
        """Return a type, ``np.int32`` or ``x.dtype``."""
        if node.attr == "dtype":
            return types.DType(self.value(node.value)[0].dtype), None
        return types.DType(_TYPES.get(node.attr) or self._refuse(node)), None

    def _of_call(self, node):
        if isinstance(node.func, ast.Attribute):
            return self._of_method(node)
        name = node.func.id
        if name == "float":
            return self._number(float(node.args[0].value))
        if name in _CHOICES:
            a, b = (self._whole(a) for a in node.args)
            is_first = self.builder.icmp_signed(_CHOICES[name], a, b)
            return types.int64, self.builder.select(is_first, a, b)
        called = self.names.get(name)
        args = [self.value(a) for a in node.args]
        if isinstance(called, FunctionType):
            return self._function(called, args)
        define = getattr(called, "__wrapped__", None) or self._refuse(node)  # of an intrinsic
        signature, codegen = define(self.typingctx, *(kind for kind, _ in args))
        given = [
            self._in_numba(value, taken) for value, taken in zip(args, signature.args, strict=True)
        ]
        result = codegen(self.context, self.builder, signature, given)
        kind = signature.return_type
        if isinstance(kind, types.Array):
            result = self.arrays.of_numba(kind, result)
        return kind, result

    def _in_numba(self, value, taken):
        """Return an argument as an intrinsic takes it."""
        kind, result = value
        if result is None:
            return self.context.get_dummy_value()
        if isinstance(result, Array):
            return self.arrays.for_numba(kind, result)
        return self.cast(value, taken)

    def _function(self, called, args):
        """Call a function that keeps to the language, too, and is written once."""
        module = self.builder.module
        kinds = [kind for kind, _ in args]
        flat = [
            part for _, value in args
            for part in (value.parts if isinstance(value, Array) else (value,))
        ]  # fmt: skip
        name = f"{called.__name__}({', '.join(map(str, kinds))})"
        function = module.globals.get(name)
        if function is None:
            given = ir.FunctionType(ir.VoidType(), [value.type for value in flat])
            function = ir.Function(module, given, name)
            function.linkage = "internal"
            taken = iter(function.args)
            values = [
                Array(next(taken), tuple(next(taken) for _ in value.sizes))
                if isinstance(value, Array) else next(taken)
                for _, value in args
            ]  # fmt: skip
            builder = ir.IRBuilder(function.append_basic_block())
            _write(called, self.typingctx, self.context, builder, kinds, values)
            builder.ret_void()
        self.builder.call(function, flat)
        return types.none, None

    def _of_method(self, node):
        """Convert a number, ``np.int32(x)``, or show an array as flat, ``x.reshape(-1)``."""
        if node.func.attr != "reshape":
            kind = _TYPES.get(node.func.attr) or self._refuse(node)
            return kind, self.cast(self.value(node.args[0]), kind)
        return self.arrays.flat(*self.value(node.func.value))

    def _of_subscript(self, node):
        """Load an entry, or return a row as an array."""
        kind, array, indices = self._element(node)
        last = _indices(node)[-1]
        if not isinstance(last, ast.Slice):
            return kind.dtype, self.arrays.load(kind, array, indices)
        size = self.builder.sub(self._whole(last.upper), indices[-1])
        row = Array(self.arrays.place(array, indices), (size,), array.of)
        return types.Array(kind.dtype, 1, "C"), row

    def _store(self, target, value):
        kind, array, indices = self._element(target)
        self.arrays.store(kind, array, indices, self.cast(value, kind.dtype))

    def _element(self, node):
        """Return an array, its type first, and the place of an entry, or of the first of a row."""
        kind, array = self.value(node.value)
        places = (i.lower if isinstance(i, ast.Slice) else i for i in _indices(node))
        return kind, array, [self._whole(place) for place in places]


def _indices(node):
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def _assigned_once(tree):
    """Return the names that get a value at one place, which is under no condition."""
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    conditional = {node for branch in branches for node in ast.walk(branch)}
    counts = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] = counts.get(node.id, 0) + 1 + (node in conditional)
    return {name for name, count in counts.items() if count == 1}
