"""The neurons as functions of tensors, one file each, equations first.

``cuba``, ``leaky``, ``alif``, ``rf``, ``rf_iz``, ``sigma_delta`` with its halves ``sigma`` and
``delta``, and ``adaptive_threshold``; ``delay`` is the axon; ``recurrent`` a layer whose spikes
come back through weights. The four resonators share ``resonator`` and its steps. ``spike`` is a
threshold alone, ``decays`` says which gradient decays get.

Short names that recur: ``u, v`` are current and voltage, ``w`` the voltage after the reset, ``s`` a
spike; ``g_v`` is the gradient of v and ``a_v`` that of its decay; a name that ends in 0 is the
state before the first step, in 1 after the last; ``_fwd`` and ``_bwd`` go forward and backward in
time.
"""
