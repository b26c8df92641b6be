"""What a recurrence is written with, for neurons outside of this package.

A kernel that walks over time runs on a GPU as Triton compiles it, and on a CPU as the loop that is
made from it. docs/adding-a-neuron.md shows a whole neuron.
"""

from .executors.dispatch import execute
from .executors.layout import (
    contiguous_rows,
    from_rows,
    from_state_rows,
    neurons_a_parameter,
    state_rows,
    to_rows,
)
from .executors.memory import empty
from .executors.operators import define_op, differentiable, is_learned
from .executors.rows import (
    lanes,
    load_last,
    load_or_zero,
    load_rows,
    store_row,
    store_spike,
    walk_backward,
    walk_forward,
    with_care,
)
from .numbers.fixed_point import decay, keep_of, to_float, to_state
from .numbers.language import jit, tl
from .numbers.surrogate import surrogate, surrogate_constants, surrogate_named
from .recurrences.decays import reduce_to

__all__ = [
    "contiguous_rows",
    "decay",
    "define_op",
    "differentiable",
    "empty",
    "execute",
    "from_rows",
    "from_state_rows",
    "is_learned",
    "jit",
    "keep_of",
    "lanes",
    "load_last",
    "load_or_zero",
    "load_rows",
    "neurons_a_parameter",
    "reduce_to",
    "state_rows",
    "store_row",
    "store_spike",
    "surrogate",
    "surrogate_constants",
    "surrogate_named",
    "tl",
    "to_float",
    "to_rows",
    "to_state",
    "walk_backward",
    "walk_forward",
    "with_care",
]
