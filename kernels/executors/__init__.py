"""How a step function runs, whatever it computes.

``dispatch`` chooses the executor of a tensor. On a GPU, ``rows`` walks over the rows of a tensor,
``passes`` shortens Triton's compilation and ``again`` finds kernels that were launched before.

On a CPU, ``loops`` are what Numba compiles and ``cache`` keeps. The loop of a neuron is made from
its Triton kernel: ``trace`` runs the kernel on ``symbols``, which gives a ``graph``, and ``walk``
writes that down. Other loops are written by hand; ``lift`` reads them and the steps that they call,
with ``inline`` and ``fuse``. ``scalar_ops``, ``loop_ops`` and ``vector_ops`` hold the instructions,
``workers`` shares a loop among threads.

``operators`` registers operators of torch, ``declaration`` those that run one kernel, whose calls
``given`` checks and which ``derivation`` differentiates; ``sequence`` joins them in compiled
graphs. ``layout``, ``transpose``, ``memory`` and ``sums`` are about tensors: their order in memory,
where large ones come from, their sums over samples.

Short names that recur: ``N, T, C`` are samples, steps and neurons of a sample; ``at`` is the offset
of a row, ``live`` tells the lanes that have a neuron; a ``tile`` is a group of neurons of one
sample that one thread of a CPU walks over.
"""

from . import sequence as _sequence  # noqa: F401 (it registers itself with operators)
