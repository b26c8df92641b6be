"""Arrays in code that is written for LLVM (llvm_code.py): addresses, entries, what overlaps what.

Imported by the generated modules only; importing it loads Numba.
"""

from dataclasses import dataclass, replace
from typing import Any

from numba import types
from numba.core import cgutils
from numba.np.arrayobj import populate_array

from .symbols import is_state
from .vectors import LONG


@dataclass(frozen=True)
class Array:
    """A contiguous array: the address of its first entry, its sizes, and the arrays it is of."""

    address: Any
    sizes: tuple[Any, ...]
    of: frozenset[str] = frozenset()

    @property
    def parts(self):
        """Return what a function takes for it."""
        return self.address, *self.sizes


class Arrays:
    """What the code of one function does with arrays.

    None overlaps another, but for the states before and after a sequence, and LLVM is told so.
    """

    def __init__(self, context, builder):
        self.context, self.builder = context, builder
        self.scopes = {}  # of arrays by name, as LLVM's metadata

    def of_numba(self, kind, value):
        """Return an array of Numba's."""
        view = self.context.make_array(kind)(self.context, self.builder, value)
        return Array(view.data, tuple(cgutils.unpack_tuple(self.builder, view.shape)))

    def for_numba(self, kind, array):
        """Return an array as Numba takes it."""
        made = self.context.make_array(kind)(self.context, self.builder)
        width = LONG(self.context.get_abi_sizeof(self.context.get_data_type(kind.dtype)))
        strides = [width]
        for size in reversed(array.sizes[1:]):
            strides.insert(0, self.builder.mul(strides[0], size))
        populate_array(made, array.address, array.sizes, strides, width, None)
        return made._getvalue()

    def named(self, name, array):
        """Return an array that has got a name; one that has just been made overlaps no other."""
        if array.of:
            return array
        own = "states" if is_state(name) else name
        module, function = self.builder.module, self.builder.function.name
        if own not in self.scopes:
            domain = module.add_metadata([f"lapilli {function}"])
            self.scopes[own] = module.add_metadata([f"lapilli {function} {own}", domain])
        return replace(array, of=frozenset([own]))

    def one_of(self, condition, a, b):
        """Choose between two arrays."""
        pairs = zip(a.parts, b.parts, strict=True)
        address, *sizes = (self.builder.select(condition, one, other) for one, other in pairs)
        return Array(address, tuple(sizes), a.of | b.of)

    def flat(self, kind, array):
        """Return an array as one dimension."""
        entries = array.sizes[0]
        for size in array.sizes[1:]:
            entries = self.builder.mul(entries, size)
        return types.Array(kind.dtype, 1, "C"), Array(array.address, (entries,), array.of)

    def place(self, array, indices):
        """Return the address of an entry."""
        at = indices[0]
        for index, size in zip(indices[1:], array.sizes[1:], strict=True):
            at = self.builder.add(self.builder.mul(at, size), index)
        return self.builder.gep(array.address, [at])

    def load(self, kind, array, indices):
        """Load an entry; ``kind`` is the type of the array."""
        loaded = self._apart(self.builder.load(self.place(array, indices)), array)
        return self.context.data_model_manager[kind.dtype].from_data(self.builder, loaded)

    def store(self, kind, array, indices, value):
        """Store an entry."""
        data = self.context.data_model_manager[kind.dtype].as_data(self.builder, value)
        self._apart(self.builder.store(data, self.place(array, indices)), array)

    def _apart(self, access, array):
        """Say of a load or store which arrays it does not touch."""
        own = [scope for name, scope in self.scopes.items() if name in array.of]
        others = [scope for name, scope in self.scopes.items() if name not in array.of]
        for kind, scopes in (("alias.scope", own), ("noalias", others)):
            if scopes:
                access.set_metadata(kind, self.builder.module.add_metadata(scopes))
        return access
