"""Run the code that the compiler makes for an AMD GPU on the CPU, and watch what it does to memory.

    text.py          assembly as instructions
    arithmetic.py    what instructions without memory compute
    machine.py       a grid of programs: waves, masks of lanes, barriers, accesses in flight

Tensors, shared memory and the launches of operators are those of ``tests/ptx``.

Source of all semantics: AMD, "AMD Instinct MI300 Instruction Set Architecture" (CDNA 3).
"""
