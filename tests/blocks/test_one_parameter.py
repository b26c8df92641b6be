"""A parameter may learn alone: its gradient does not depend on what else has one."""

import inspect

import pytest
import torch
from cells import KINDS, block_class, each_cell, events, make
from torch.testing import assert_close


def _learning(family, kind):
    """Return a block with all that can learn, and its input."""
    options = {}
    if "delay" in inspect.signature(block_class(family, kind).__init__).parameters:
        options["delay"] = True
    block = make(family, kind, neuron={"requires_grad": True, "shared_param": False}, **options)
    x = events(kind)
    block(x)
    return block, x


@each_cell
def test_gradients_are_those_beside_others(family, kind):
    if not KINDS[kind].neuron:
        pytest.skip("nothing in this block learns")
    block, x = _learning(family, kind)
    leaves = dict(block.named_parameters()) | {"the input": x.requires_grad_()}

    def gradients(of):
        for name, leaf in leaves.items():
            leaf.requires_grad_(name in of)
        y = block(x)
        weights = torch.arange(y.numel()).view(y.shape) % 7 - 3.0
        found = torch.autograd.grad((y * weights).sum(), [leaves[name] for name in of])
        return dict(zip(of, found, strict=True))

    together = gradients([*leaves])
    assert any(g.any() for g in together.values())
    for name, want in together.items():
        (got,) = gradients([name]).values()
        assert_close(got, want, rtol=1e-5, atol=1e-6 * float(want.abs().max()), msg=name)
