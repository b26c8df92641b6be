"""What can be known of a kernel without a GPU, and of a CPU loop on another processor.

``aot`` compiles kernels ahead of time, ``machine_code`` reads what came out, ``catalogue`` lists
every kernel and its forms, ``prediction`` turns counters into a time; ``calls`` are the calls that
are compiled and measured. ``processors`` compiles CPU loops for processors that are not at hand.
"""
