"""What is learned: a neuron finds the parameters of another, at the rate of the weights."""

import copy
from typing import Any

import pytest
import torch
from lapilli.kernels.recurrences.decays import set_decay_gradient
from table import ROWS, each_that

TARGET = 0.3
BY_NAME: dict[str, Any] = {row.name: row for row in ROWS}


@pytest.fixture(autouse=True)
def _default_sign():
    yield
    set_decay_gradient("descent")


def voltage(neuron, x):
    return neuron.dynamics(x)[1]


each_leaky = each_that(lambda row: "current_decay" in row.arguments)
each_decay = pytest.mark.parametrize("name", ["current_decay", "voltage_decay"])
from_both_sides = pytest.mark.parametrize("start", [0.1, 0.6])


@each_leaky
@each_decay
@from_both_sides
def test_decay_comes_to_that_of_the_target(row, name, start):
    x = torch.randn(8, 4, 40) * 0.5
    want = voltage(row.make(**{name: TARGET}), x)
    neuron = row.make(**{name: start}, requires_grad=True)
    decay = getattr(neuron, name)
    optimizer = torch.optim.Rprop([decay], lr=50, step_sizes=(1e-3, 500))
    for _ in range(40):
        optimizer.zero_grad()
        (voltage(neuron, x) - want).square().mean().backward()
        optimizer.step()
    assert abs(decay.item() / 4096 - TARGET) < 0.005


@each_leaky
@each_decay
@from_both_sides
@pytest.mark.parametrize("call", ["dynamics", "forward"])
def test_lava_dls_sign_is_the_other(row, name, start, call):
    x = torch.randn(8, 4, 40)
    gradients = {}
    for sign in ("descent", "lava-dl", "descent"):
        set_decay_gradient(sign)
        neuron = row.make(**{name: start}, requires_grad=True)
        y = voltage(neuron, x) if call == "dynamics" else neuron(x)
        want = voltage(row.make(**{name: TARGET}), x) if call == "dynamics" else 0 * y
        (y - want).square().mean().backward()
        gradients.setdefault(sign, getattr(neuron, name).grad)
        torch.testing.assert_close(getattr(neuron, name).grad, gradients[sign], rtol=0, atol=0)
    torch.testing.assert_close(gradients["lava-dl"], -gradients["descent"], rtol=0, atol=0)
    assert gradients["descent"].item() != 0
    if call == "dynamics":
        assert (gradients["descent"].item() > 0) == (start > TARGET), "a step down moves it there"


def test_unknown_sign_is_refused():
    with pytest.raises(ValueError, match="mode is 'ascent'; expected one of 'descent', 'lava-dl'"):
        set_decay_gradient("ascent")


def fit(learner, teacher, x, steps=250, rate=0.03):
    """Train all that a neuron learns with Adam, at a rate for weights, to do as another does."""

    def signal(neuron):
        return torch.stack(neuron.dynamics(x)[:2]) if hasattr(neuron, "dynamics") else neuron(x)

    want = signal(teacher).detach()
    optimizer = torch.optim.Adam(learner.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (signal(learner) - want).square().mean().backward()
        optimizer.step()
        schedule.step()


def found(neuron, name):
    """Value of a constructor argument, as the neuron has it now."""
    if name in ("period", "decay"):
        return getattr(neuron, name).item()
    if name == "bias":
        return neuron.bias.item()
    return getattr(neuron, name).item() / (4096 if name.endswith("_decay") else 1)


def recoveries():
    quick = {("cuba", "voltage_decay"), ("rf", "period"), ("rf_iz", "decay")}
    starts = {"current_decay": (0.15, 0.6), "voltage_decay": (0.03, 0.3)}
    turning = {"period": (6.0, 12.0), "decay": (0.02, 0.3)}
    for name in ("cuba", "alif", "rf", "rf_iz", "adrf", "adrf_iz"):
        for argument, values in (starts if name in ("cuba", "alif") else turning).items():
            marks = () if (name, argument) in quick else pytest.mark.slow
            for start in values:
                yield pytest.param(name, argument, start, marks=marks)


@pytest.mark.parametrize(("name", "argument", "start"), list(recoveries()))
def test_adam_recovers_what_a_signal_was_made_with(name, argument, start):
    """The decay of a filtered signal, the period of a driven resonator, within 5 %."""
    row = BY_NAME[name]
    teacher, learner = row.make(), row.make(**{argument: start}, requires_grad=True)
    wrong = abs(found(learner, argument) / found(teacher, argument) - 1)
    assert wrong > 0.2
    with torch.no_grad():
        x = row.map(torch.Tensor.detach, row.input(16, 4, 60, scale=0.5))
    options: dict[str, Any] = {} if row.pair else {"steps": 400, "rate": 0.1}
    fit(learner, teacher, x, **options)
    for each in ("period", "decay") if row.pair else ("current_decay", "voltage_decay"):
        assert found(learner, each) == pytest.approx(found(teacher, each), rel=0.05)


@pytest.mark.parametrize("start", [0.5, 0.125])
def test_adam_recovers_the_threshold_that_events_were_sent_with(start):
    def make(threshold, **options):
        neuron = BY_NAME["sigma_delta"].make(threshold=threshold, tau_grad=0.1, **options)
        neuron.set_bias(0.5)
        return neuron

    teacher, learner = make(0.25), make(start, requires_grad=True, min_threshold=0)
    fit(learner, teacher, BY_NAME["sigma_delta"].input(16, 4, 60, scale=0.3).detach())
    assert found(learner, "threshold") == pytest.approx(0.25, rel=0.05)


def test_adam_recovers_the_bias_of_a_sigma_delta_neuron():
    teacher, learner = (
        BY_NAME["sigma_delta"].make(threshold=0.25, requires_grad=learns) for learns in (0, 1)
    )
    teacher.set_bias(0.5)
    learner.set_bias(0.0)
    learner.threshold.requires_grad_(False)
    fit(learner, teacher, BY_NAME["sigma_delta"].input(16, 4, 60, scale=0.3).detach())
    assert found(learner, "bias") == pytest.approx(0.5, rel=0.05)


def test_learned_thresholds_keep_silent_what_is_small():
    """A loss that asks for accuracy alone lowers the threshold to its least, and no further."""
    x = BY_NAME["sigma_delta"].input(16, 4, 60, scale=0.3).detach()
    rates = []
    for least in (None, 0.0):
        neuron = BY_NAME["sigma_delta"].make(threshold=0.25, min_threshold=least, tau_grad=0.1)
        neuron.requires_grad = True
        optimizer = torch.optim.Adam(neuron.parameters(), 0.02)
        want = torch.relu(x.cumsum(-1))
        for _ in range(60):
            optimizer.zero_grad()
            (neuron(x).cumsum(-1) - want).square().mean().backward()
            optimizer.step()
        rates.append((neuron(x) != 0).float().mean())
        if least is None:
            assert neuron.threshold.item() >= 0.125
    assert rates[0] < 0.8 * rates[1]


def test_a_checkpoint_with_a_lower_threshold_stays_as_it_is():
    saved = BY_NAME["sigma_delta"].make(threshold=0.03125).state_dict()
    neuron = BY_NAME["sigma_delta"].make(threshold=0.25, requires_grad=True)
    neuron.load_state_dict(saved)
    neuron(torch.zeros(1, 2, 3))
    assert neuron.threshold.item() == saved["delta.threshold"].item()


def stepped(neuron, change=0.125):
    """Do as an optimizer does to all that is learned of the first decay, without its gradient."""
    name = neuron._learning[0]
    with torch.no_grad():
        neuron._parameters[name + "_update"].add_(change)
    return name


decaying = each_that(lambda row: row.name != "sigma_delta")
# the others by loops of their own
decaying_sorts = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=() if row.name in ("cuba", "rf") else pytest.mark.slow)
        for row in ROWS
        if row.name != "sigma_delta"
    ],
)


@decaying
def test_decays_are_those_of_lava_dl_to_all_who_look(row):
    neuron = row.make(requires_grad=True)
    before = {k: v.clone() for k, v in neuron.state_dict().items()}
    name = stepped(neuron, -0.0625)
    assert list(neuron.state_dict()) == list(before) == list(row.parameters)
    kept = 1 - 0.0625  # an update is a share of the decay
    assert neuron.state_dict()[name].item() == pytest.approx(before[name].item() * kept)
    assert neuron._parameters[name] is getattr(neuron, name)
    stepped(neuron, -0.0625)
    assert getattr(neuron, name).item() == pytest.approx(before[name].item() * kept**2)
    stepped(neuron, -0.0625)
    copied = copy.deepcopy(neuron).state_dict()[name]
    assert copied.item() == pytest.approx(before[name].item() * kept**3)
    neuron.load_state_dict(before)
    assert getattr(neuron, name).item() == before[name].item()
    stepped(neuron)
    getattr(neuron, name).data.fill_(99)
    neuron(row.input(1, 2, 3))
    assert getattr(neuron, name).item() == 99


def test_a_decay_of_nothing_can_be_left():
    neuron = BY_NAME["cuba"].make(current_decay=0.0, requires_grad=True)
    with torch.no_grad():
        neuron.current_decay_update.fill_(0.5)
    assert neuron.current_decay.item() == 4096 / 64 * 0.5


@decaying_sorts
def test_what_is_learned_is_used_without_being_written(row):
    """Under functional_call, where forward may write nothing, and in a forward of its own."""
    neuron = row.make(requires_grad=True)
    x = row.input(2, 3, 30)
    stepped(neuron, -0.0625)
    given = {n: p.detach().clone().requires_grad_() for n, p in neuron.named_parameters()}
    y = torch.func.functional_call(neuron, given, (x,))
    torch.testing.assert_close(y, neuron(x), rtol=0, atol=0)
    y.square().sum().backward()
    name = neuron._learning[0]
    torch.testing.assert_close(given[name].grad, given[name + "_update"].grad, rtol=0, atol=0)


@decaying
def test_frozen_neurons_have_no_more_parameters_than_lava_dls(row):
    neuron = row.make()
    assert tuple(dict(neuron.named_parameters())) == row.parameters
    neuron.requires_grad = True
    names = [n + "_update" for n in neuron._learning]
    assert [n for n in dict(neuron.named_parameters()) if n not in row.parameters] == names


@decaying_sorts
def test_decays_of_channels_learn_from_the_first_call_on(row):
    neuron = row.per_channel(requires_grad=True)
    optimizer = torch.optim.Adam(neuron.parameters(), 0.01)
    x = row.input(2, 3, 30)
    neuron(x)
    before = {n: getattr(neuron, n).detach().clone() for n in neuron._learning}
    neuron(x).square().sum().backward()
    optimizer.step()
    for name, value in before.items():
        moved = (getattr(neuron, name).detach() - value).abs()
        assert moved.shape == (3,)
        assert (moved > 0.008 * value.abs()).any()
    fresh = row.per_channel(requires_grad=True)
    fresh.load_state_dict(neuron.state_dict())
    torch.testing.assert_close(fresh(x), neuron(x), rtol=0, atol=0)
