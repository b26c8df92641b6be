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

A room imports from those above it; ``recurrences`` and ``synapses`` stand side by side, but for the
delay, and ``reference`` stands alone.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType

# where modules were that users import: ``lapilli.kernels.cuba`` is the module in its room
_ROOMS = {
    "numbers": "fixed_point formula surrogate",
    "executors": "memory",
    "recurrences": (
        "adaptive_threshold alif cuba decays delay delta leaky recurrent resonator rf rf_iz sigma "
        "sigma_delta spike"
    ),
    "synapses": "normalize quantize",
}
_MOVED = {name: room for room, names in _ROOMS.items() for name in names.split()}


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module under the name that it had before the rooms were made."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != __name__ or name not in _MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.rpartition(".")[2]
        sys.modules[module.__name__] = importlib.import_module(f"{__name__}.{_MOVED[name]}.{name}")


sys.meta_path.append(_Moved())
