"""Run the code that the compiler makes for a GPU on the CPU, and watch what it does to memory.

    text.py          PTX as instructions
    arithmetic.py    what each instruction without memory computes, on bits
    products.py      matrix instructions by the layouts of their fragments
    memory.py        tensors and shared memory: bounds, alignment, unwritten bytes, races
    machine.py       a grid of programs: threads, divergence, barriers, copies in flight, counts
    launcher.py      runs the operators of lapilli on it, or on the executor for AMD (tests/gcn)
    work.py          the calls that the tests run

Source of all semantics: NVIDIA, "Parallel Thread Execution ISA", version 8.7.
"""
