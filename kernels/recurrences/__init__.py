"""The neurons as functions of tensors, one file each, equations first.

``cuba``, ``leaky``, ``alif``, ``rf``, ``rf_iz``, ``sigma_delta`` with its halves ``sigma`` and
``delta``, and ``adaptive_threshold``; ``delay`` is the axon. ``spike`` is a threshold alone,
``decays`` says which gradient decays get, ``declared`` what a file declares of its neuron. The
four resonators share ``resonator_steps``, ``resonator_kernels`` and what ``resonator`` makes of
them.

``recurrent`` is a layer whose spikes come back through weights, ``recurrent_steps`` its equations.
``recurrent_triton`` runs it on a GPU, with ``recurrent_kernels`` and ``recurrent_tiles``;
``recurrent_numba`` on a CPU, and ``recurrent_dense`` backward where no kernel does.

Short names that recur: ``u, v`` are current and voltage, ``w`` the voltage after the reset, ``s`` a
spike; ``g_v`` is the gradient of v and ``a_v`` that of its decay; a name that ends in 0 is the
state before the first step, in 1 after the last; ``_fwd`` and ``_bwd`` go forward and backward in
time. ``re, im`` are the parts of a resonator, ``th, r`` an adapting threshold and its refractory
part; ``z`` and ``R`` are input and feedback of a recurrent layer. ``tested`` is the state that the
threshold looks at, ``rest`` a zero that is not a number where a decay is none, ``top`` the largest
number met.
"""
