"""What the neurons keep for the backward pass, and what they leave out where nothing is learned."""

import pytest
import torch
from lapilli.neurons import sigma_delta
from operator_calls import OperatorCalls
from table import each
from torch.autograd.graph import saved_tensors_hooks

N, C, T = 2, 48, 64  # steps: a multiple of 32, whose masks share a word

each_way = pytest.mark.parametrize("learned", [False, True], ids=["frozen", "learned"])


@each
@each_way
@pytest.mark.parametrize(
    "shift",
    [pytest.param(False, id="prompt"), pytest.param(True, id="shifted", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("persistent", [False, True], ids=["from-rest", "persistent"])
def test_bytes_kept_for_backward(row, learned, shift, persistent):
    neuron = row.make(requires_grad=learned, persistent_state=persistent)
    x = row.input(N, C, T)
    if persistent:
        neuron(x)
    kept = {}

    def pack(tensor):
        if tensor.numel() > N * C:  # neither parameters nor a state
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        y = neuron(x, delay_shift=shift)
    assert y.requires_grad
    assert sum(kept.values()) == row.recurrence.kept[learned] * N * C * T


def test_sigma_delta_without_activation_keeps_nothing_of_it():
    neuron = sigma_delta.Neuron(1.0, None)
    kept = []
    with saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        neuron(torch.randn(N, C, T, requires_grad=True))
    assert max(kept) == 1


def element_counts(call, suffix):
    """Elements of each output of the one operator of this name that ``call`` runs."""
    with OperatorCalls() as recorded:
        call()
    named = [(op.name().removesuffix(".bare"), out) for op, _, out in recorded.calls]
    (outputs,) = [out for name, out in named if name.endswith(suffix)]
    return [y.numel() for y in outputs if y.numel()]


@each
@each_way
def test_inference_writes_spikes_and_nothing_else(row, learned):
    neuron = row.make(requires_grad=learned)
    x = row.map(lambda part: part.requires_grad_(learned), row.input(N, C, T))

    def run():
        with torch.no_grad():
            assert not neuron(x).requires_grad

    assert element_counts(run, "_fwd") == [N * C * T]


@each
@each_way
def test_backward_works_on_parameters_only_where_they_learn(row, learned):
    neuron = row.make(requires_grad=learned)
    x = row.input(N, C, T)
    y = neuron(x)
    counts = element_counts(lambda: y.backward(torch.randn_like(y)), "_bwd")
    partials = len(row.recurrence.learned_names)
    assert counts == [N * C * T] * len(row.parts(x)) + [N * C] * (learned * partials)
    assert all((p.grad is not None) == learned for n, p in neuron.named_parameters() if n != "bias")
