"""What a step function may say, and the numbers that it computes with.

``language`` is Triton's language, or a stand-in where Triton is not installed. ``fixed_point`` has
the integers of Loihi, ``threshold`` when one of them spikes, ``surrogate`` and ``formula`` the
gradient of a spike. Imports nothing from the other rooms.

Short names that recur: ``keep`` is 4096 minus a decay, ``lam`` the same as a fraction of 1,
``theta`` the lowest integer that spikes; ``RULE`` says what becomes of a number that does not fit.
"""
