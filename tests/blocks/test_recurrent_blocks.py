"""Recurrent and KWTA: numbers of the specification, state between calls, gradients."""

import functools
import importlib

import pytest
import torch
from golden_cases import cases
from golden_runs import build
from lapilli.blocks import base
from recurrent_kinds import (
    FAMILIES,
    LEAKY,
    each_family,
    each_kind,
    events,
    example_input,
    make,
    pattern,
    ramp,
    spikes_of,
)
from tolerances import FLOAT32, SIX_DIGITS
from torch.testing import assert_close
from turns import soon

from lapilli import neurons


def test_recurrent_equals_the_example_of_the_specification(device):
    block = make("cuba", "Recurrent", 6, 4).to(device)
    block.input_synapse.weight.data = pattern(4, 6).to(device)
    block.recurrent_synapse.weight.data = pattern(4, 4).to(device)
    y = block(example_input().to(device))
    want = "0010110011011011 0001111111111111 0000000010111111 0111111111111111"
    assert_close(y.cpu(), spikes_of(want), rtol=0, atol=0)
    ramp(y.cpu()).backward()
    sums = [s.weight.grad.sum().item() for s in (block.input_synapse, block.recurrent_synapse)]
    assert_close(sums, [0.69925082, 0.82422632], **SIX_DIGITS)


def test_kwta_equals_the_example_of_the_specification(device):
    neuron = {"threshold": 0.5, "current_decay": 0.5, "voltage_decay": 0.25}
    block = make("cuba", "KWTA", 6, 4, neuron).to(device)
    block.synapse.weight.data = pattern(4, 6).to(device) / 2 + 0.375
    want = "0100100000000000 0100101111111111 0100100111111111 0100100000000000"
    assert_close(block(example_input().to(device)).cpu(), spikes_of(want), rtol=0, atol=0)
    block.delay_shift = False
    ramp(block(example_input().to(device)).cpu()).backward()
    sums = block.self_excitation.grad.item(), block.synapse.weight.grad.sum().item()
    assert_close(sums, (0.246114, 1.322490), **SIX_DIGITS)


SECOND = [c for c in cases("block") if "two_calls" in c.name]


@pytest.mark.parametrize(
    "case", soon([c for c in SECOND if ".cuba." in c.name], SECOND), ids=lambda c: c.name
)
def test_second_call_equals_lava_dl_without_the_spikes_that_it_forgets(case):
    block = build(case)
    with torch.no_grad():
        for i in range(2):
            y = block(*case.input(i, torch.device("cpu")))
            assert_close(y, case.arrays[f"c{i}/out/y"], rtol=0, atol=0)
            block.spike_state.zero_()
            if case.target.endswith("Recurrent"):
                block.delay_buffer = None
    for name in ("current_state", "voltage_state"):
        assert_close(getattr(block.neuron, name), case.arrays[f"after/neuron.{name}"])


def run(block, x):
    x = x.clone().requires_grad_()
    y = block(x)
    torch.manual_seed(1)
    parameters = [p for p in block.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(y, [x, *parameters], torch.randn(y.shape), allow_unused=True)
    return y.detach(), [torch.zeros(()) if g is None else g for g in gradients]


@each_family
@each_kind
def test_one_kernel_equals_a_call_for_each_step(family, kind):
    block = make(family, kind, neuron={"requires_grad": True}, gradient="lava-dl")
    y, gradients = run(block, events())
    assert 0.01 < y.mean() < 0.99
    block.neuron.register_forward_hook(lambda *_: None)  # wants to see each step
    stepwise, want = run(block, events())
    assert_close(y, stepwise, rtol=0, atol=0)
    for a, b in zip(gradients, want, strict=True):
        assert_close(a, b.expand_as(a), rtol=0, atol=20 * FLOAT32["rtol"] * b.abs().max().item())


@each_family
@pytest.mark.parametrize("bias", [None, 0.25])
def test_hooks_of_the_recurrent_synapse_are_called_at_every_step(family, bias):
    block, x = make(family, "Recurrent", gradient="lava-dl"), events()
    synapse = block.recurrent_synapse
    if bias is not None:
        for part in (synapse.real, synapse.imag) if block.neuron.complex else (synapse,):
            part.bias = torch.nn.Parameter(torch.full((5,), bias))
    y, gradients = run(block, x)
    seen = []
    handle = synapse.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    hooked, want = run(block, x)
    handle.remove()
    assert_close(hooked, y, rtol=0, atol=0)
    for a, b in zip(gradients, want, strict=True):
        assert_close(a, b.expand_as(a), rtol=0, atol=20 * FLOAT32["rtol"] * b.abs().max().item())
    # what comes back at a step are the spikes of the step before; the hop delays the output
    assert_close(torch.cat(seen, -1), y, rtol=0, atol=0)


def test_what_a_hook_makes_of_the_feedback_counts():
    block, x = make("cuba", "Recurrent"), events()
    without = make("cuba", "Recurrent")
    torch.nn.init.zeros_(without.recurrent_synapse.weight)
    assert not torch.equal(block(x), without(x))
    block.recurrent_synapse.register_forward_hook(lambda module, args, output: output * 0)
    assert_close(block(x), without(x), rtol=0, atol=0)
    block = make("rf", "Recurrent")
    block.recurrent_synapse.imag.register_forward_pre_hook(lambda module, args: (args[0] * 0,))
    without = make("rf", "Recurrent")
    torch.nn.init.zeros_(without.recurrent_synapse.imag.weight)
    assert_close(block(x), without(x), rtol=0, atol=0)


@each_family
@each_kind
@pytest.mark.parametrize("delay_shift", [False, True])
def test_chunks_equal_one_call(family, kind, delay_shift):
    options = {"neuron": {"persistent_state": True}, "delay_shift": delay_shift}
    x = events()
    with torch.no_grad():
        whole = make(family, kind, **options)
        want = whole(x)
        block = make(family, kind, **options)
        got = torch.cat([block(part) for part in x.split((7, 1, 12, 20), -1)], -1)
    assert block.persistent_state
    assert_close(got, want, rtol=0, atol=0)
    assert_close(block.spike_state, whole.spike_state, rtol=0, atol=0)
    assert block.spike_state.any()


@each_kind
def test_state_carries_only_where_the_user_wants_it(kind):
    x = events()
    for persistent in (False, True):
        block = make("cuba", kind, neuron={"persistent_state": persistent})
        with torch.no_grad():
            first, second = block(x), block(x)
            assert torch.equal(first, second) != persistent
            block(events(batch=2))  # another batch starts from rest
            assert_close(block(x), first, rtol=0, atol=0)
            block.neuron.reset_state()
            block.delay_buffer = None
            assert_close(block(x), first, rtol=0, atol=0)


@each_kind
def test_arguments_of_the_caller_are_not_changed(kind):
    params = dict(LEAKY)
    options = {"num_winners": 2} if kind == "KWTA" else {}
    block = getattr(importlib.import_module("lapilli.blocks.cuba"), kind)(params, 6, 5, **options)
    block(events())
    assert params == LEAKY
    assert not block.persistent_state
    assert block.num_neurons == 5
    assert block.bias is None
    assert isinstance(block, getattr(base, f"Abstract{kind}"))


@each_family
@each_kind
def test_the_full_gradient_learns_decays(family, kind):
    block = make(family, kind, neuron={"requires_grad": True}, gradient="full")
    other = make(family, kind, neuron={"requires_grad": True}, gradient="lava-dl")
    (y, full), (want, default) = run(block, events()), run(other, events())
    assert_close(y, want, rtol=0, atol=0)
    names = ["x", *(name for name, p in block.named_parameters() if p.requires_grad)]
    for name, a, b in zip(names, full, default, strict=True):
        if name.endswith("_decay"):
            assert not b.any(), f"{name}: lava-dl's is zero"
            learned = not name.endswith(("threshold_decay", "refractory_decay"))
            assert a.any() == learned, name


def test_feedback_stays_as_it_is_without_requires_grad():
    block = make("cuba", "Recurrent", requires_grad=False)
    assert [n for n, p in block.named_parameters() if p.requires_grad] == ["input_synapse.weight"]
    kwta = make("cuba", "KWTA", requires_grad=False)
    assert [n for n, p in kwta.named_parameters() if p.requires_grad] == ["synapse.weight"]


@each_kind
def test_weight_norm_changes_nothing_at_first_and_trains_twice(kind):
    plain, normed = (make("cuba", kind, weight_norm=w) for w in (False, True))
    assert_close(normed(events()), plain(events()), rtol=0, atol=0)
    optimizer = torch.optim.SGD(normed.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        normed(events()).sum().backward()
        optimizer.step()
    assert all(p.grad is not None for p in normed.parameters() if p.requires_grad)


@each_kind
def test_hooks(kind):
    """The neuron's quantisation by default; whatever is given, where something is."""
    half = make("cuba", kind, pre_hook_fx=functools.partial(torch.mul, other=0.5))
    assert not torch.equal(half(events()), make("cuba", kind)(events()))
    default = make("cuba", "Recurrent", pre_hook_fx=None)
    assert default.recurrent_synapse.pre_hook_fx == default.neuron.quantize_8bit
    assert make("cuba", "KWTA", pre_hook_fx=None).synapse.pre_hook_fx is None


@each_kind
@pytest.mark.parametrize("family", ["cuba", "rf"])
def test_norm_in_training_takes_each_step_by_itself(family, kind):
    block = make(family, kind, neuron={"norm": neurons.norm.MeanOnlyBatchNorm})
    y, gradients = run(block, events())
    assert all(g.isfinite().all() for g in gradients)
    norm = block.neuron.norm if family == "cuba" else block.neuron.real_norm
    assert norm.running_mean.shape == (5,)
    assert norm.running_mean.any()
    block.eval()
    assert_close(block(events()), block(events()), rtol=0, atol=0)
    assert y.shape == (3, 5, 40)
    assert y.movedim(-1, 1).is_contiguous()


def test_norm_that_subtracts_nothing_changes_nothing():
    block = make("alif", "Recurrent", neuron={"norm": neurons.norm.MeanOnlyBatchNorm}).eval()
    assert_close(block(events()), make("alif", "Recurrent")(events()), rtol=0, atol=0)


@each_kind
def test_dropout_silences_neurons_in_training_alone(kind):
    block = make("cuba", kind, neuron={"dropout": neurons.Dropout(1.0)})
    assert not block(events()).any()
    assert_close(block.eval()(events()), make("cuba", kind)(events()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("family", "tested"),
    [
        pytest.param(*row, marks=() if row[0] == "rf" else pytest.mark.slow)
        for row in (("rf", 0), ("adrf", 0), ("rf_iz", 1), ("adrf_iz", 1))
    ],
)
def test_bias_adds_to_what_the_threshold_tests(family, tested):
    block = make(family, "KWTA", delay_shift=False)
    z = [part.detach().clone() for part in block.synapse(events())]
    block.bias = torch.tensor([1.0, 0.0, -0.5, 0.0, 0.25]).view(5, 1)
    z[tested] += block.bias
    feedback, bias, quantum = block._feedback()
    want, _ = block.neuron.run_with_feedback(
        tuple(z), feedback, spikes=None, bias=bias, quantum=quantum, gradient="lava-dl"
    )
    y = block(events())
    assert_close(y, want, rtol=0, atol=0)
    block.bias = None
    assert not torch.equal(block(events()), y)


def test_bias_adds_to_the_input_of_real_neurons():
    block = make("cuba", "Recurrent", delay_shift=False)
    assert not block(torch.zeros(1, 6, 30)).any()
    block.bias = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]).view(5, 1)
    assert block(torch.zeros(1, 6, 30))[:, 0].any()


def test_bias_of_the_competition():
    """Beyond +-1 it rounds to a step of the weights: theta (N - 2 K) / (N scale)."""
    block = make("cuba", "KWTA", neuron={"threshold": 8.0}, num_winners=1)
    weight, bias, quantum = block._feedback()
    assert bias == round(8 * 3 / 5 / 64 * 32) / 32 == 0.0625
    assert quantum == 1 / 32
    assert_close(weight.diagonal(), torch.full((5,), 0.5))
    assert_close((weight - weight.diagonal().diag()).sum(1), torch.full((5,), -4.0))


@each_kind
def test_checkpoints_may_hold_any_spike_state(kind):
    block = make("cuba", kind, neuron={"persistent_state": True})
    block(events())
    state = block.state_dict()
    assert_close(state["spike_state"], torch.zeros(1), rtol=0, atol=0)
    state["spike_state"] = torch.ones(7, 5)  # as lava-dl's
    fresh = make("cuba", kind)
    fresh.load_state_dict(state, strict=True)
    assert_close(fresh.spike_state, torch.zeros(1), rtol=0, atol=0)
    block.load_state_dict(state, strict=True)
    assert block.spike_state.shape == (3, 5)


def test_learned_delay():
    block = make("cuba", "Recurrent", delay=True)
    block.delay.delay.data, block.delay.init = torch.tensor([0.0, 1.5, 2.0, 3.0, 0.5]), True
    y, gradients = run(block, events())
    prompt = make("cuba", "Recurrent")(events())
    for channel, steps in enumerate((0, 1, 2, 3, 0)):
        assert_close(y[:, channel, steps:], prompt[:, channel, : 40 - steps], rtol=0, atol=0)
    assert all(g.isfinite().all() for g in gradients)


def test_kwta_takes_an_image_of_one_place():
    x = events()
    block = make("cuba", "KWTA")
    image = make("cuba", "KWTA")
    got = image(x[:, :, None, None])
    assert got.shape == (3, 5, 1, 1, 40)
    assert_close(got[:, :, 0, 0], block(x), rtol=0, atol=0)


def test_self_excitation_is_clamped():
    block = make("cuba", "KWTA", self_excitation=1.5)
    block(events())
    assert block.self_excitation.item() == 1
    block.self_excitation.data.fill_(-0.5)
    block.clamp()
    assert block.self_excitation.item() == 0


def test_training_lowers_the_loss_through_the_feedback_alone():
    block = make("cuba", "Recurrent")
    block.input_synapse.requires_grad_(False)
    optimizer = torch.optim.Adam(block.parameters(), 0.02)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = block(events()).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


RESONATORS = [family for family in FAMILIES if family not in ("cuba", "alif")]


@each_family
@each_kind
def test_the_default_gradient_is_the_one_that_trains(family, kind):
    assert make(family, kind).gradient == ("bounded" if family in RESONATORS else "lava-dl")


@pytest.mark.parametrize("family", soon(("rf",), RESONATORS))
@each_kind
def test_default_gradient_reaches_both_parts_of_every_weight(family, kind):
    block = make(family, kind)
    _, gradients = run(block, events())
    names = ["x", *(name for name, p in block.named_parameters() if p.requires_grad)]
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.5, name


@pytest.mark.parametrize("family", soon(("rf",), RESONATORS))
@each_kind
def test_bounded_gradient_of_single_steps_goes_through_the_state(family, kind, monkeypatch):
    """It is that of the kernel where no gradient comes back through the feedback."""
    block = make(family, kind, neuron={"requires_grad": family != "rf_iz"})
    monkeypatch.setattr(
        "lapilli.kernels.recurrences.recurrent_dense.room_for",
        lambda *args: torch.full((5,), 1e-30),
    )
    y, gradients = run(block, events())
    block.neuron.register_forward_hook(lambda *_: None)
    stepwise, want = run(block, events())
    assert_close(y, stepwise, rtol=0, atol=0)
    for a, b in zip(gradients, want, strict=True):
        assert_close(a, b.expand_as(a), rtol=0, atol=20 * FLOAT32["rtol"] * b.abs().max().item())


@pytest.mark.parametrize("family", soon(("rf",), RESONATORS))
def test_norms_let_the_bounded_gradient_through_in_every_step(family):
    block = make(family, "Recurrent", neuron={"norm": neurons.norm.MeanOnlyBatchNorm})
    _, gradients = run(block, events())
    assert all(g.isfinite().all() and g.any() for g in gradients)
