"""Every recurrence again, in plain torch, differentiated by autograd: what the kernels are held to.

Slow, and independent: nothing is imported from the rooms that compute, but a name or a setting.
``fixed`` holds the pieces that the oracles share, ``spike`` the gradients that are declared.

Short names that recur: ``u, v, w`` are current, voltage and the voltage after the reset, ``y`` any
decaying state, ``re, im`` the parts of a resonator, ``th, r`` an adapting threshold and its
refractory part: in units of the chip's integers, float64, until ``to_float`` makes them real
numbers. ``rate`` is a decay in units of 1/4096, ``rest`` a state that nothing has come into yet;
``rule`` says what becomes of a sum that does not fit, and counts them. ``fires`` is the decision
to spike, ``tested`` the state that it looks at, ``limit`` the threshold that this is compared with,
``may`` whether the phase allows it. ``last`` is the state after the last step, and ``given`` is
what has a gradient.
"""
