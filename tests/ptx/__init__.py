"""Run the code that the compiler makes for a GPU on the CPU, and watch what it does to memory.

    text.py          PTX as instructions
    arithmetic.py    what each instruction without memory computes, on bits
    products.py      matrix instructions by the layouts of their fragments
    memory.py        tensors and shared memory: bounds, alignment, unwritten bytes, races
    schedule.py      what hardware is free to choose in a launch, and what is counted
    program.py       a kernel made ready: instructions as functions of registers
    gang.py          warps that run together: divergence, accesses, copies in flight
    machine.py       a grid of programs: its warps in their order, barriers
    launcher.py      runs the operators of lapilli on it, or on the executor for AMD (tests/gcn)
    work.py          the calls that the tests run

Source of all semantics: NVIDIA, "Parallel Thread Execution ISA", version 8.7.
"""
