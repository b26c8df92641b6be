import pytest
import torch
from known import present
from lapilli.blocks import synapse
from lapilli.neurons import cuba, sigma_delta
from lapilli.neurons.norm import MeanOnlyBatchNorm
from torch.testing import assert_close

from lapilli.slayer.utils.recurrent import (
    CustomRecurrent,
    custom_recurrent,
    custom_recurrent_ground_truth_1,
    custom_recurrent_ground_truth_2,
)

Z = torch.randn(3, 4, 9)


def made(persistent=True, **options):
    torch.manual_seed(0)
    neuron = cuba.Neuron(0.5, 0.25, 0.1, requires_grad=True, persistent_state=persistent, **options)
    feedback = synapse.Dense(4, 4, weight_scale=2, pre_hook_fx=neuron.quantize_8bit)
    return neuron, feedback


def test_feedback_of_the_step_before():
    neuron, feedback = made()
    got = custom_recurrent(Z, neuron, feedback)
    again, _ = made()
    matrix = feedback.effective_weight().flatten(1)
    last = torch.zeros(3, 4)
    for t in range(9):
        last = again((Z[..., t] + last @ matrix.t()).unsqueeze(-1))[..., 0]
        assert_close(got[..., t], last, rtol=0, atol=0)
    assert 0 < got.mean() < 1


def results(run, **options):
    neuron, feedback = made(**options)
    z = Z.clone().requires_grad_()
    g = torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(1))
    spikes = run(z, neuron, feedback)
    (spikes * g).sum().backward()
    return spikes.detach(), z.grad, feedback.weight.grad, neuron


def test_ground_truths_agree():
    runs = (custom_recurrent, custom_recurrent_ground_truth_1, custom_recurrent_ground_truth_2)
    first, *others = [results(run) for run in runs]
    for other in others:
        for a, b in zip(first[:3], other[:3], strict=True):
            assert_close(a, b)
    assert present(first[2]).any()
    for decay in (first[3].current_decay, first[3].voltage_decay):
        assert present(decay.grad).tolist() == [0]  # no gradient through the state


def test_gradient_is_that_of_the_spikes_alone():
    """gd[t] = f'(v[t]) (g[t] + R^T gd[t+1]) with the surrogate f'."""
    _, g_z, g_weight, _ = results(custom_recurrent)
    _, feedback = made()
    matrix = feedback.effective_weight().flatten(1).detach()
    g = torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(1))
    again, _ = made()
    last, slopes = torch.zeros(3, 4), []
    for t in range(9):
        x = (Z[..., t] + last @ matrix.t()).unsqueeze(-1).requires_grad_()
        y = again(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        slopes.append(slope[..., 0])
        last = y.detach()[..., 0]
    gd = torch.zeros(3, 4)
    for t in reversed(range(9)):
        gd = slopes[t] * (g[..., t] + gd @ matrix)
        assert_close(present(g_z)[..., t], gd, rtol=1e-5, atol=1e-8)
    assert present(g_weight).shape == (4, 4, 1, 1, 1)


def test_a_neuron_that_forgets_starts_from_rest_every_time():
    neuron, feedback = made(persistent=False)
    first = custom_recurrent(Z, neuron, feedback)
    assert_close(custom_recurrent(Z, neuron, feedback), first, rtol=0, atol=0)
    assert not neuron.persistent_state
    assert_close(first, custom_recurrent(Z, *made()), rtol=0, atol=0)
    keeping, _ = made()
    custom_recurrent(Z, keeping, feedback)
    assert (custom_recurrent(Z, keeping, feedback) != first).any()


def test_other_neurons_and_the_matrix_alone():
    neuron = sigma_delta.Neuron(0.1, torch.relu)
    matrix = 0.1 * torch.eye(4)
    got = CustomRecurrent.apply(Z, neuron, matrix)
    assert got.shape == Z.shape
    assert got.any()
    without_hook = synapse.Dense(4, 4)
    without_hook.weight.data = matrix.view(4, 4, 1, 1, 1)
    assert_close(custom_recurrent(Z, neuron, without_hook), got)


def test_an_error_leaves_the_neuron_as_it_was():
    neuron, _ = made(persistent=False)
    with pytest.raises(ValueError, match="expects 3 channels"):
        custom_recurrent_ground_truth_1(Z, neuron, synapse.Dense(3, 3))
    assert not neuron.persistent_state
    with pytest.raises(ValueError, match=r"must have shape \(4, 4\); got \(3, 3\)"):
        custom_recurrent(Z, neuron, synapse.Dense(3, 3))


def test_what_acts_on_each_step_is_stepped():
    def run(function, **options):
        neuron, feedback = made(persistent=False, **options)
        return neuron, function(Z, neuron.train(), feedback)

    norm = {"norm": MeanOnlyBatchNorm}
    (neuron, got), (again, want) = (
        run(f, **norm) for f in (custom_recurrent, custom_recurrent_ground_truth_1)
    )
    assert_close(got, want, rtol=0, atol=0)
    assert_close(present(neuron.norm).running_mean, present(again.norm).running_mean)
    assert (got != run(custom_recurrent)[1]).any()
