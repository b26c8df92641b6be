"""How each recurrence is called: the calls that are measured and compiled ahead of time."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Recurrence:
    """A kernel function ``f(x, *parameters, *numbers)``; two inputs are a pair ``x``."""

    name: str
    module: str
    inputs: int = 1
    parameters: tuple[float, ...] = ()
    numbers: tuple[float, ...] = ()
    function: str = ""  # if it is not the name
    trains: bool = True
    learns: bool = True  # its parameters can be learned

    def callable(self, package: str = "lapilli.kernels.recurrences") -> Callable[..., Any]:
        """Return the function, of the kernels or of ``lapilli.kernels.reference``."""
        module = importlib.import_module(f"{package}.{self.module}")
        return getattr(module, self.function or self.name)

    def tensors(self, device: torch.device | None = None) -> list[Tensor]:
        """Return its parameters, one value for all neurons."""
        return [torch.tensor([p], device=device) for p in self.parameters]


ROTATION = (400.0, 4000.0)  # sine and cosine
ADAPTATION = (50.0, 80.0)
RECURRENCES = {
    r.name: r
    for r in (
        Recurrence("cuba", "cuba", 1, (410.0, 164.0), (1.0, 4096)),
        Recurrence("alif", "alif", 1, (410.0, 164.0, *ADAPTATION), (1.0, 0.125, 4096)),
        Recurrence("rf", "rf", 2, ROTATION, (1.0, 4096)),
        Recurrence("rf_iz", "rf_iz", 2, ROTATION, (1.0, 4096)),
        Recurrence("adrf", "rf", 2, ROTATION + ADAPTATION, (1.0, 0.125, 4096)),
        Recurrence("adrf_iz", "rf_iz", 2, ROTATION + ADAPTATION, (1.0, 0.125, 4096)),
        Recurrence("sigma_delta", "sigma_delta", 1, (0.125,), (64,)),
        Recurrence("leaky", "leaky", 1, (410.0,), (1.0, 4096), "leaky_spike"),
        Recurrence(
            "adaptive_threshold", "adaptive_threshold", 1, ADAPTATION, (1.0, 0.125, 4096),
            trains=False,
        ),
        Recurrence("delta", "delta", 1, (0.125,), (64,)),
        Recurrence("sigma", "sigma", learns=False),
        Recurrence("step_delay", "delay", learns=False),
        Recurrence("channel_delay", "delay", 1, (3.0,)),
    )
}  # fmt: skip
