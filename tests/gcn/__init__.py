"""Run the code that the compiler makes for an AMD GPU on the CPU, and watch what it does to memory.

    text.py          assembly as instructions
    arithmetic.py    what instructions without memory compute
    waves.py         the lanes of a wave, and masks of them
    program.py       a kernel made ready: instructions as functions of a machine
    machine.py       a grid of programs: waves, barriers, accesses in flight

Tensors, shared memory and the launches of operators are those of ``tests/ptx``.

Source of all semantics: AMD, "AMD Instinct MI300 Instruction Set Architecture" (CDNA 3).
"""
