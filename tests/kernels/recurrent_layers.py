"""Recurrent layers of every family, and their oracle."""

from dataclasses import dataclass

import torch
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.reference.recurrent import recurrent as oracle
from tolerances import FLOAT32
from torch.testing import assert_close


@dataclass(frozen=True)
class Family:
    parts: int = 1
    phase: bool = False
    adapts: bool = False

    @property
    def decays(self):
        return [*([2600.0, 2500.0] if self.parts == 2 else [600.0, 400.0]), 300.0, 900.0][
            : 4 if self.adapts else 2
        ]


FAMILIES = {
    "cuba": Family(),
    "alif": Family(adapts=True),
    "rf": Family(2, phase=True),
    "rf_iz": Family(2),
    "adrf": Family(2, phase=True, adapts=True),
    "adrf_iz": Family(2, adapts=True),
}


class Layer:
    """Inputs, weights and options of one call; the oracle's are on the CPU."""

    def __init__(self, name, neurons=5, batch=3, steps=17, learn=False, device="cpu", only=None,
                 shape=None, state=False, scale=4096, coarse=16.0, **options):  # fmt: skip
        generator = torch.Generator().manual_seed(0)

        def normal(*size):
            return torch.randn(size, generator=generator)

        self.twin = (
            self
            if torch.device(device).type == "cpu"
            else Layer(
                name,
                neurons,
                batch,
                steps,
                learn,
                "cpu",
                only,
                shape,
                state,
                scale,
                coarse,
                **options,
            )
        )
        self.family = family = FAMILIES[name]
        shape = (neurons,) if shape is None else shape
        parts = range(family.parts)
        self.z = [normal(batch, *shape, steps).to(device).requires_grad_() for _ in parts]
        # quantised, so that sums are the same in any order
        self.r = [(normal(neurons, neurons) * coarse).round().div(32).to(device) for _ in parts]
        self.r = [r.requires_grad_() if only in (None, k) else None for k, r in enumerate(self.r)]
        self.decays = [torch.full((shape[0],), d, device=device) for d in family.decays]
        for d in self.decays:
            d.requires_grad_(learn)
        self.scale = scale
        self.options = {
            "phase": family.phase, "threshold_step": 0.5, "bias": 0.25, "quantum": 1 / 32,
            "tau_rho": 1.0, "return_state": True, **options,
        }  # fmt: skip
        if state:
            states = [normal(batch, *shape).mul(2**10).round().div(2**10) for _ in self.decays]
            self.options["state"] = tuple(s.to(device) for s in states)
            self.options["spikes"] = (normal(batch, *shape) > 0).float().to(device)

    @property
    def learned(self):
        tensors = (*self.z, *self.r, *self.decays)
        return [t for t in tensors if t is not None and t.requires_grad]

    def call(self, function, z=None, **options):
        z = self.z if z is None else z
        pair = self.family.parts == 2
        return function(
            tuple(z) if pair else z[0], tuple(self.r) if pair else self.r[0], tuple(self.decays),
            1.0, self.scale, **self.options | options,
        )  # fmt: skip

    def run(self, function):
        y, states, last = self.call(function)
        torch.manual_seed(1)
        gradients = torch.autograd.grad(y, self.learned, torch.randn(y.shape).to(y.device))
        return (y.detach(), *states, last), gradients


def assert_equals_oracle(layer, equal_nan=False):
    (y, *states), gradients = layer.run(recurrent)
    # not on a GPU, where torch multiplies by the reciprocal of a scale
    (want, *want_states), want_gradients = layer.twin.run(oracle)
    assert 0 < (want != 0).float().mean() < 1, "some spike, and some do not"
    for a, b in zip((y, *states), (want, *want_states), strict=True):
        assert_close(a.cpu(), b, rtol=0, atol=0, equal_nan=equal_nan)
    for a, b in zip(gradients, want_gradients, strict=True):
        # sums cancel, so small entries are not sharper than the largest
        largest = b.nan_to_num(0.0).abs().max().item()
        atol = 10 * FLOAT32["rtol"] * largest + 1e-30
        assert_close(a.cpu(), b, rtol=0, atol=atol, equal_nan=equal_nan)
