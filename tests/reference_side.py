"""The cells on the backend that is asked for: outputs and gradients, written to a file.

    python reference_side.py FILE STEPS...

A backend is chosen for a whole process, so test_reference.py runs this in one of its own.
"""

import os
import sys

import torch
from cells import CELLS, FEW, KINDS, make

# of the neuron, of the block, and whether the input is real numbers
VARIANTS = {
    "learned": ({"requires_grad": True, "shared_param": False}, {}, False),
    "graded": ({"requires_grad": True, "graded_spike": True}, {}, True),
    "persistent": ({"requires_grad": True, "persistent_state": True}, {}, True),
    "weight_norm": ({}, {"weight_norm": True}, True),
}
CHOSEN = CELLS if os.environ.get("LAPILLI_SLOW") == "1" else FEW
LEFT_OUT = {"graded": ("sigma_delta",), "persistent": ("Output",), "weight_norm": ("Input",)}


def variants(family: str, kind: str) -> list[str]:
    """Names of the variants of a cell."""
    cell = KINDS[kind]
    if not cell.neuron:
        return ["learned"]
    return [
        name for name in VARIANTS
        if (name != "graded" or CHOSEN is CELLS or family == "cuba")  # loops that take long
        and not {family, kind} & {*LEFT_OUT.get(name, ())}
        and (name != "weight_norm" or "synapse" in cell.weight)
    ]  # fmt: skip


def run(family: str, kind: str, name: str, steps: int) -> dict[str, torch.Tensor | None]:
    """Return the output of a cell and its gradients, by name."""
    neuron, options, real = VARIANTS[name]
    block = make(family, kind, neuron, **options)
    torch.manual_seed(2)
    shape = (2, *KINDS[kind].channels, steps)
    x = torch.randn(shape) if real else (torch.rand(shape) < 0.4).float()
    x.requires_grad_()
    y = block(x)
    if name == "persistent":
        y = torch.cat((y, block(x)), -1)
    torch.manual_seed(3)
    y.backward(torch.randn(y.shape))
    return {"y": y.detach(), "x": x.grad, **{n: p.grad for n, p in block.named_parameters()}}


if __name__ == "__main__":
    file, *lengths = sys.argv[1:]
    found = {
        (*cell, name, steps): run(*cell, name, steps)
        for cell in CHOSEN for name in variants(*cell) for steps in map(int, lengths)
    }  # fmt: skip
    torch.save(found, file)
