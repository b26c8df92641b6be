"""The recurrences: step functions, Triton kernels, CPU loops, operators."""
