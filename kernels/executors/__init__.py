"""How a step function runs, whatever it computes.

``dispatch`` chooses the executor of a tensor. On a GPU, ``rows`` walks over the rows of a tensor
and ``passes`` shortens Triton's compilation. On a CPU, ``lift`` and ``inline`` turn a function into
a loop of Numba's, for which ``scalar_ops`` and ``vector_ops`` hold the instructions, and
``workers`` shares it among threads. ``operators`` registers operators of torch, ``sequence`` joins
them in compiled graphs. ``layout``, ``transpose``, ``memory`` and ``sums`` are about tensors: their
order in memory, where large ones come from, their sums over samples.

Short names that recur: ``N, T, C`` are samples, steps and neurons of a sample; ``at`` is the offset
of a row, ``live`` tells the lanes that have a neuron; a ``tile`` is a group of neurons of one
sample that one thread of a CPU walks over.
"""

from . import sequence as _sequence  # noqa: F401 (it registers itself with operators)
