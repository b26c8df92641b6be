"""What holds for every neuron module: state, checkpoints, copies, norms, dropout."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from cells import same
from lapilli.neurons import Dropout, cuba, norm
from lapilli.neurons.state import KeepsState
from table import NCT, each, each_sort, each_that
from tolerances import FLOAT32, FUSED_GRADIENT
from torch.testing import assert_close

NCHWT = (2, 3, 2, 4, 20)


def states_of(neuron):
    """Return copies of the states of a neuron and of what it is made of."""
    return {name: state.clone() for name, state in held_by(neuron).items()}


def held_by(neuron):
    parts = {path: part for path, part in neuron.named_modules() if isinstance(part, KeepsState)}
    names = [(path, name) for path, part in parts.items() for name in part._rest]
    states = {f"{path}.{name}": getattr(parts[path], name) for path, name in names}
    assert states
    return states


# parts and whole


def in_parts(row, neuron, x):
    """Do as ``forward``, by the functions that it fuses."""
    if row.name == "sigma_delta":
        return neuron.delta(torch.relu(neuron.sigma(x)))
    return neuron.spike(*neuron._tested(neuron.dynamics(x)))  # a current does not spike


@each_sort
@pytest.mark.parametrize("shape", [NCT, NCHWT, (1, 1, 1)], ids=str)
def test_forward_equals_its_parts(row, shape):
    results = []
    for call in (lambda neuron, x: neuron(x), lambda neuron, x: in_parts(row, neuron, x)):
        neuron = row.make(requires_grad=True, persistent_state=True)
        x = row.input(*shape)
        outputs = [call(neuron, x) for _ in range(2)]  # the second from the state of the first
        torch.manual_seed(1)
        torch.stack(outputs).backward(torch.randn(2, *shape))
        gradients = [t.grad for t in (*row.parts(x), *neuron.parameters())]
        results.append((torch.stack(outputs).detach(), gradients, states_of(neuron)))
    (fused, g_fused, s_fused), (parts, g_parts, s_parts) = results
    same(fused, parts)
    assert s_fused.keys() == s_parts.keys()
    for name, state in s_fused.items():
        same(state, s_parts[name])
    for got, want in zip(g_fused, g_parts, strict=True):
        if want is None or got is None:  # zeros, which DDP asks for, are the same to an optimizer
            assert all(g is None or not g.any() for g in (got, want))
        else:
            assert_close(got, want, rtol=0, atol=FUSED_GRADIENT * want.abs().max().item())


@each
def test_shift_is_a_delay_of_one_step(row):
    x = row.input(*NCT)
    same(row.make()(x, delay_shift=True)[..., 1:], row.make()(x)[..., :-1])
    assert not row.make()(x, delay_shift=True)[..., 0].any()


@each
def test_samples_do_not_affect_each_other(row):
    x = row.input(4, 3, 20)
    whole = row.make()(x)
    for n in range(4):
        same(row.make()(row.map(lambda part, n=n: part[n : n + 1], x)), whole[n : n + 1])


@each
@pytest.mark.parametrize("shape", [NCT, NCHWT], ids=["NCT", "NCHWT"])
def test_parameters_of_a_channel_are_that_channels(row, shape):
    if not row.ranges:
        pytest.skip("all of its thresholds start equal")
    neuron = row.per_channel()
    x = row.input(*shape)
    whole = neuron(x)
    values = dict(neuron.named_parameters())
    assert {tuple(p.shape) for p in values.values()} == {(3,)}
    assert all(p.unique().numel() == 3 for p in values.values())
    for c in range(3):
        one = row.make()
        for name, p in one.named_parameters():
            p.data.copy_(values[name][c : c + 1].detach())
        same(one(row.map(lambda part, c=c: part[:, c : c + 1], x)), whole[:, c : c + 1])


# state


@each_sort
@pytest.mark.parametrize("parts", [False, True], ids=["forward", "in-parts"])
def test_chunks_equal_one_run(row, parts):
    x = row.input(2, 3, 50, scale=1.0)
    neuron = row.per_channel(persistent_state=True)
    state = torch.get_rng_state()
    whole = neuron(x)
    torch.set_rng_state(state)
    neuron.reset_state()
    call = (lambda chunk: in_parts(row, neuron, chunk)) if parts else neuron
    chunks = [call(row.map(lambda p, t=t: p[..., t : t + 7], x)) for t in range(0, 50, 7)]
    same(torch.cat(chunks, -1), whole)
    assert 0 < (whole != 0).float().mean() < 1


@each
def test_state_persists_only_where_asked(row):
    x = row.input(*NCT)
    neuron = row.make()
    first = neuron(x)
    before = states_of(neuron)
    same(neuron(x), first)
    assert all(b.shape == (1,) for b in before.values())
    kept = row.make(persistent_state=True)
    same(kept(x), first)
    assert not torch.equal(kept(x), first)
    assert all(b.shape == (2, 3) and not b.requires_grad for b in states_of(kept).values())
    assert not any(name.endswith("_state") for name in kept.state_dict())


@each
def test_reset_and_change_of_batch_return_to_rest(row):
    neuron = row.make(persistent_state=True)
    x = row.input(*NCT)
    first = neuron(x)
    neuron.reset_state()
    assert all(b.shape == (1,) for b in states_of(neuron).values())
    same(neuron(x), first)
    one = row.map(lambda part: part[:1], x)
    same(neuron(one), first[:1])  # two samples before, one now
    assert {b.shape[0] for b in states_of(neuron).values()} == {1}
    same(neuron(x), first)


@each
def test_state_before_the_call_is_not_written(row):
    neuron = row.make(persistent_state=True)
    neuron(row.input(*NCT))
    held = held_by(neuron)
    values = {name: buffer.clone() for name, buffer in held.items()}
    neuron(row.input(*NCT, seed=1))
    for name, buffer in held.items():
        same(buffer, values[name])


@each_sort
@pytest.mark.parametrize("parts", [False, True], ids=["forward", "in-parts"])
def test_backward_reaches_no_call_before(row, parts):
    neuron = row.make(persistent_state=True)
    call = (lambda x: in_parts(row, neuron, x)) if parts else neuron
    first = row.input(*NCT)
    call(first)
    assert not any(b.requires_grad for b in states_of(neuron).values())
    second = row.input(*NCT, seed=1)
    call(second).sum().backward()
    assert all(part.grad is None for part in row.parts(first))
    assert all(part.grad.any() for part in row.parts(second)[-1:])


# checkpoints and copies


@each
def test_state_dict_has_lava_dls_names(row):
    assert tuple(row.make().state_dict()) == row.parameters
    assert tuple(n for n, _ in row.make().named_parameters()) == row.parameters


@each
@pytest.mark.parametrize("requires_grad", [False, True], ids=["frozen", "learned"])
def test_fresh_neuron_takes_sized_parameters_from_a_checkpoint(row, requires_grad):
    x = row.input(*NCHWT)
    trained = row.per_channel(requires_grad=requires_grad)
    trained(x)
    for p in trained.parameters():
        p.data.mul_(0.9)
    want = trained(x)
    fresh = row.per_channel(requires_grad=requires_grad)
    kept = {name: id(p) for name, p in fresh.named_parameters()}
    fresh.load_state_dict(trained.state_dict(), strict=True)
    assert {name: id(p) for name, p in fresh.named_parameters()} == kept, "optimizers hold them"
    before = torch.get_rng_state()
    same(fresh(x), want)
    same(torch.get_rng_state(), before)
    for got, p in zip(fresh.parameters(), trained.parameters(), strict=True):
        same(got.data, p.data)


@each
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("called", [False, True], ids=["fresh", "called"])
def test_copies_are_equal_and_apart(row, copied, called):
    neuron = row.per_channel(
        persistent_state=True, norm=norm.MeanOnlyBatchNorm, dropout=Dropout(0.5)
    ).eval()
    x = row.input(*NCT)
    if called:
        neuron(x)
    twin = copied(neuron)
    torch.manual_seed(0)
    want = neuron(x)
    torch.manual_seed(0)
    same(twin(x), want)
    for p in neuron.parameters():
        p.data.zero_()
    assert all(p.any() for n, p in twin.named_parameters() if n != "bias")


@each
def test_modules_move_and_print(row):
    neuron = row.make(persistent_state=True)
    neuron(row.input(*NCT))
    assert "threshold=1" in repr(neuron) or row.name == "sigma_delta"
    assert "(2, 3" not in repr(neuron)
    moved = copy.deepcopy(neuron).to("meta")
    tensors = (*moved.parameters(), *moved.buffers(), *held_by(moved).values())
    assert {t.device.type for t in tensors} == {"meta"}
    assert {t.device.type for t in held_by(row.make().to("meta")).values()} == {"meta"}


@each
def test_other_types_are_float32_inside(row):
    x = row.map(lambda part: part.round(), row.input(*NCT))
    want = row.make()(x)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int32):
        got = row.make()(row.map(lambda part, dtype=dtype: part.to(dtype), x))
        assert got.dtype == torch.float32
        same(got, want)


# norm and dropout


@each_that(lambda row: row.name not in ("cuba", "sigma_delta"))
@pytest.mark.parametrize("kind", [norm.MeanOnlyBatchNorm, norm.WgtScaleBatchNorm])
def test_norm_acts_on_the_input(row, kind):
    neuron = row.make(norm=kind)
    x = row.input(*NCT)
    y = neuron(x)
    names = ("real_norm", "imag_norm") if row.pair else ("norm",)
    by_hand = []
    for part, name in zip(row.parts(x), names, strict=True):
        apart = kind(pre_hook_fx=neuron.quantize_8bit)
        by_hand.append(apart(part))
        same(apart.running_mean, getattr(neuron, name).running_mean)
    same(row.make()(tuple(by_hand) if row.pair else by_hand[0]), y)
    assert f"{names[0]}.running_mean" in neuron.state_dict()


def test_norm_of_cuba_acts_on_the_current():
    neuron = cuba.Neuron(1.0, 0.25, 0.1, norm=norm.MeanOnlyBatchNorm)
    x = torch.randn(*NCT) + 1
    current, _ = neuron.dynamics(x)
    raw, _ = cuba.Neuron(1.0, 0.25, 0.1).dynamics(x)
    mean = neuron.quantize_8bit(raw.mean((0, 2)))
    same(current, raw - mean.view(1, -1, 1))


@each
def test_dropout_is_constant_over_time_and_leaves_the_state_alone(row):
    x = row.input(8, 40, 30)
    torch.manual_seed(0)
    neuron = row.make(dropout=Dropout(0.25), persistent_state=True)
    plain = row.make(persistent_state=True)
    want = plain(x)
    got = neuron(x)
    for name, state in states_of(plain).items():
        same(states_of(neuron)[name], state)
    active = want.any(-1)
    kept = got.any(-1)
    assert_close(got[kept], want[kept] / 0.75, **FLOAT32)
    assert not got[~kept].any()
    assert 0.1 < (active & ~kept).sum() / active.sum() < 0.4
    neuron.eval().reset_state()
    same(neuron(x), want)


def test_modules_that_keep_a_state_are_known_while_they_live():
    neuron = cuba.Neuron(1.0, 0.25, 0.1)
    each = [neuron, copy.copy(neuron), copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))]
    assert all(any(m is one for m in KeepsState.alive()) for one in each)
    known = [weakref.ref(one) for one in each]
    del neuron, each
    gc.collect()
    assert not any(one() for one in known), "the list holds them"
