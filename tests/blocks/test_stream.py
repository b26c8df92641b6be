"""Blocks that are called with one step at a time do what they do with the whole sequence."""

import copy
import math
import pickle

import pytest
import torch
from known import present
from lapilli.blocks import alif, cuba
from lapilli.kernels.executors.dispatch import BACKEND
from lapilli.neurons.state import reset_state

pytestmark = pytest.mark.skipif(BACKEND != "auto", reason="blocks stream on compiled loops only")

DECAYS = {"current_decay": 0.25, "voltage_decay": 0.03, "persistent_state": True}
ADAPTS = {"threshold_step": 0.1, "threshold_decay": 0.1, "refractory_decay": 0.1}
NEURONS = {
    "cuba": (cuba, {"threshold": 0.5, **DECAYS}),
    "alif": (alif, {"threshold": 0.5, **DECAYS, **ADAPTS}),
    "graded": (cuba, {"threshold": 0.5, "graded_spike": True, **DECAYS}),
    "channels": (
        cuba,
        {"threshold": 0.5, **DECAYS, "shared_param": False, "current_decay": (0.2, 0.4)},
    ),
}
OPTIONS = {
    "plain": {},
    "delay": {"delay": True},
    "norm": {"weight_norm": True, "delay_shift": False},
    "all": {"weight_norm": True, "delay": True, "count_log": True},
}
IN, OUT, STEPS = 40, 17, 160


def block_of(neuron, option, hooked=False):
    """Return a block, called once; ``hooked`` keeps it from streaming."""
    module, params = NEURONS[neuron]
    torch.manual_seed(0)
    block = module.Dense(params, IN, OUT, weight_scale=3, **OPTIONS[option])
    with torch.no_grad():
        block(torch.zeros(2, IN, 1))
        if block.delay is not None:
            block.delay.delay.copy_(torch.rand(OUT) * 60)
    block.reset_state()
    if hooked:
        block.neuron.register_forward_hook(lambda *_: None)
    return block


def spikes(batch, steps=STEPS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, IN, steps, generator=generator) < 0.3).float()


@torch.no_grad()
def one_by_one(block, x):
    steps = [block(x[..., t : t + 1].contiguous()) for t in range(x.shape[-1])]
    return torch.cat([s[0] if isinstance(s, tuple) else s for s in steps], -1)


def streams(block, x, monkeypatch):
    """Whether a step of the block goes without a call of its neuron."""
    called = []
    forward = type(block.neuron).forward
    with monkeypatch.context() as patch:
        patch.setattr(
            type(block.neuron), "forward", lambda *a, **k: called.append(1) or forward(*a, **k)
        )
        with torch.no_grad():
            block(x)
    return not called


def states(block):
    kept = {f"neuron.{k}": v for k, v in block.neuron._kept.items()}
    kept |= {} if block.delay is None else block.delay._kept
    kept |= block._kept
    return {name: None if v is None else v.clone() for name, v in kept.items()}


def assert_same_states(one, other):
    one, other = states(one), states(other)
    assert one.keys() == other.keys()
    for name in one:
        a, b = one[name], other[name]
        assert a is b is None or torch.equal(present(a), present(b))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("neuron", NEURONS)
def test_steps_are_those_of_the_sequence(neuron, option, batch, monkeypatch):
    block, x = block_of(neuron, option), spikes(batch)
    with torch.no_grad():
        whole = block(x)
    whole = whole[0] if isinstance(whole, tuple) else whole
    assert whole.any()
    after = states(block)
    reset_state(block)
    assert torch.equal(one_by_one(block, x), whole)
    for name, state in states(block).items():
        assert state is None or torch.equal(state, present(after[name]))
    assert streams(block, x[..., :1].contiguous(), monkeypatch)


@torch.no_grad()
def test_a_step_that_lies_apart_in_memory_streams(monkeypatch):
    """As the steps of a sequence do, and what is no number in them stays so."""
    one, other = block_of("cuba", "all"), block_of("cuba", "all")
    x = spikes(2, 8)
    x[1, 3, 5] = math.nan
    for t in range(8):
        step = x[..., t : t + 1]
        assert not step.is_contiguous()
        torch.testing.assert_close(
            one(step), other(step.contiguous()), rtol=0, atol=0, equal_nan=True
        )
    assert streams(one, spikes(2)[..., :1], monkeypatch)


def _weight(block):
    with torch.no_grad():
        block.synapse.weight.mul_(0.9)


def _weight_data(block):
    block.synapse.weight.data.mul_(0.9)  # which torch does not count


def _weight_storage(block):
    block.synapse.weight.data = block.synapse.weight.data * 0.9


def _decay(block):
    block.neuron.current_decay.data.add_(7)


def _decay_out_of_range(block):
    block.neuron.current_decay.data.fill_(5000)


def _threshold(block):
    block.neuron.threshold = 0.75


def _shift(block):
    block.delay_shift = False


def _step(block):
    block.delay.delay.data.mul_(0.5)


def _state(block):
    block.neuron.voltage_state = block.neuron.voltage_state * 0.5


def _other_weight(block):
    block.synapse.weight = torch.nn.Parameter(block.synapse.weight.detach() * 0.8)


def _load(block):
    block.load_state_dict({k: v * 0.9 for k, v in block.state_dict().items()})


def _bias(block):
    block.synapse.bias = torch.nn.Parameter(torch.full((OUT,), 0.25))


def _mask(block):
    block.mask = torch.arange(OUT * IN).view(OUT, IN) % 2


def _train(block):
    before = spikes(1, 5, seed=3).requires_grad_()
    y = block(before)
    with torch.no_grad():
        block(before[..., :1].detach().contiguous())
        block(before[..., :1].detach().contiguous())
    y.sum().backward()
    block.last_gradient = before.grad, block.synapse.weight.grad.clone()


def _reset(block):
    reset_state(block)


def _sequence(block):
    with torch.no_grad():
        block(spikes(1, 9, seed=4))


def _other_batch(block):
    with torch.no_grad():
        block(spikes(2, 1, seed=4))


def _real_values(block):
    with torch.no_grad():
        block(spikes(1, 1, seed=4) * 0.3)


def _not_finite(block):
    block.neuron.current_decay.data.fill_(float("nan"))
    with torch.no_grad(), pytest.raises(ValueError, match="not finite"):
        block(spikes(1, 1))
    block.neuron.current_decay.data.fill_(1024.0)


def _inference(block):
    with torch.inference_mode():
        for t in range(3):
            block(spikes(1, 3, seed=5)[..., t : t + 1].contiguous())


CHANGES = (
    _weight, _weight_data, _weight_storage, _decay, _decay_out_of_range, _threshold, _shift, _step,
    _state, _other_weight, _load, _bias, _mask, _train, _reset, _sequence, _other_batch,
    _real_values, _not_finite, _inference,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_changes_between_steps_are_seen(change, monkeypatch):
    block, usual = block_of("cuba", "delay"), block_of("cuba", "delay", hooked=True)
    for x in (spikes(1, 80), spikes(1, 80, seed=2)):
        assert torch.equal(one_by_one(block, x), one_by_one(usual, x))
        assert_same_states(block, usual)
        change(block)
        change(usual)
    assert torch.equal(one_by_one(block, x), one_by_one(usual, x))
    for one, other in zip(*(getattr(b, "last_gradient", ()) for b in (block, usual)), strict=True):
        assert torch.equal(one, other)
    assert not streams(usual, x[..., :1].contiguous(), monkeypatch)


def test_hooks_are_called_from_the_step_on_in_which_they_are_there(monkeypatch):
    seen = []
    for part in ("synapse", "neuron", "delay"):
        block = block_of("cuba", "delay")
        seen.clear()
        one_by_one(block, spikes(1, 4))
        hook = getattr(block, part).register_forward_hook(lambda *a: seen.append(a[0]))
        one_by_one(block, spikes(1, 2))
        assert len(seen) == 2
        hook.remove()
        one_by_one(block, spikes(1, 2))
        assert len(seen) == 2
        assert streams(block, spikes(1, 1), monkeypatch)


def test_what_was_read_or_returned_is_not_written():
    block, x = block_of("cuba", "delay"), spikes(1)
    read = []
    for start in (0, 4):  # before the block streams, and while it does
        one_by_one(block, x[..., start : 4 * start + 1])
        read += [block.neuron.voltage_state, block.delay.tail, block.delay_buffer]
    copies = [r.clone() for r in read]
    with torch.no_grad():
        y = block(x[..., :1].contiguous())
    kept = y.clone()
    one_by_one(block, x[..., 20:])
    assert all(map(torch.equal, (*read, y), (*copies, kept)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_copies_go_on_by_themselves(copied):
    block, x = block_of("cuba", "delay"), spikes(1)
    one_by_one(block, x[..., :50])
    other = copied(block)
    assert torch.equal(one_by_one(block, x[..., 50:]), one_by_one(other, x[..., 50:]))
