"""How a step function runs, whatever it computes.

``dispatch`` chooses the executor of a tensor. On a GPU, ``rows`` walks over the rows of a tensor,
``passes`` shortens Triton's compilation and ``again`` finds kernels that were launched before.

On a CPU, ``loops`` are what Numba compiles and ``cache`` keeps. The loop of a neuron is made from
its Triton kernel: ``trace`` runs the kernel on ``symbols``, which gives a ``graph``, ``walk``
writes that down as a function in Python, and ``llvm_code`` writes that for LLVM, with its arrays by
``llvm_arrays``. Other loops are written by hand; ``lift`` reads them and the steps that they call,
with ``inline`` and ``fuse``, and Numba reads what comes out. ``scalar_ops``, ``loop_ops`` and
``vector_ops`` name what loops call; of the last, ``vector_transpose``, ``vector_sums`` and
``vector_bits`` are built with ``vectors``. ``workers`` shares a loop among threads.

``operators`` registers operators of torch, ``declaration`` those that run one kernel, whose calls
``given`` checks and which ``derivation`` differentiates; ``sequence`` joins them in compiled
graphs. ``layout``, ``transpose``, ``memory`` and ``sums`` are about tensors: their order in memory,
where large ones come from, their sums over samples; ``precision`` keeps torch's products in
float32. ``processor`` names the CPU.

Short names that recur: ``N, T, C`` are samples, steps and neurons of a sample; ``at`` is the offset
of a row, ``live`` tells the lanes that have a neuron; a ``tile`` is a group of neurons of one
sample, or a whole sample, that one thread of a CPU walks over, and ``first, last`` are those of a
call. ``carry`` is what a step hands to the next, ``fixed`` what stays, ``U`` the steps of a chunk.
"""

from . import sequence as _sequence  # noqa: F401 (it registers itself with operators)
