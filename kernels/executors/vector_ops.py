"""Vector instructions that loops call by name, where LLVM does not find them by itself.

They are written as generic vectors, which LLVM maps to what the machine has. Arrays are flat or
one-dimensional and contiguous; places and strides count elements. Imported by the generated modules
only; importing it loads Numba.
"""

from .vector_bits import collect_bits, count_bits, list_bits, lowest_bit, pack_words, unequal_bits
from .vector_sums import (
    add_row,
    add_to_row,
    aligned,
    prefetch,
    sum_frame_of_codes,
    sum_rows,
)
from .vector_transpose import (
    transpose_piece,
    transpose_rows,
    transpose_to_codes,
    turn_in,
    turn_out,
)

__all__ = [
    "add_row",
    "add_to_row",
    "aligned",
    "collect_bits",
    "count_bits",
    "list_bits",
    "lowest_bit",
    "pack_words",
    "prefetch",
    "sum_frame_of_codes",
    "sum_rows",
    "transpose_piece",
    "transpose_rows",
    "transpose_to_codes",
    "turn_in",
    "turn_out",
    "unequal_bits",
]
