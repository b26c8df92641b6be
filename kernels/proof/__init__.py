"""What can be known of a kernel without a GPU, and of a CPU loop on another processor.

``aot`` compiles kernels ahead of time, ``machine_code`` reads what came out, ``catalogue`` lists
every kernel and its forms, ``prediction`` turns counters into a time; ``calls`` are the calls that
are compiled and measured. ``standin`` lets a GPU be there that is not. ``processors`` compiles CPU
loops for processors that are not at hand.

Short names that recur: a ``target`` is a GPU's architecture, such as sm_90 or gfx942; a ``launch``
a kernel with the arguments and constants that it would get; ``code`` are the instructions of a
kernel, ``main`` is where its loop over time starts.
"""
