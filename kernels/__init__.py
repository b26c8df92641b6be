"""The kernels: what computes, and nothing that a module of torch is needed for.

    numbers/      the language of step functions, Loihi's integers, thresholds, surrogate gradients
    executors/    how a step function runs: as a Triton kernel, as a loop that Numba compiles, as an
                  operator of torch
    recurrences/  the neurons, one file each: equations, steps, kernels, the function to call; the
                  axonal delay; layers with feedback
    synapses/     weights of eight bits and products of events with them
    proof/        kernels compiled for GPUs that are not at hand: their machine code, its counters,
                  and a prediction of speed
    reference/    every recurrence again in plain torch, which shares no code with the others

``toolkit`` is what recurrences are written with, in lapilli and outside of it. A room imports from
those above it; ``recurrences`` and ``synapses`` stand side by side, but for the
delay, and ``reference`` stands alone.
"""

from lapilli import moved

# where modules were that users import: ``lapilli.kernels.cuba`` is the module in its room
moved.install(
    __name__,
    {
        "numbers": "fixed_point formula surrogate",
        "executors": "memory",
        "recurrences": (
            "adaptive_threshold alif cuba decays delay delta leaky recurrent resonator rf rf_iz "
            "sigma sigma_delta spike"
        ),
        "synapses": "normalize quantize",
    },
)
