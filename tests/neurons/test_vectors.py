"""Short runs worked out with lava-dl on the CPU: one neuron, twelve steps, default scale.

Integers are states times 4096. Gradients of current and voltage decay have lava-dl's sign.
"""

import pytest
import torch
from known import present
from lapilli.kernels.recurrences.decays import set_decay_gradient
from lapilli.neurons import adrf, adrf_iz, alif, cuba, rf, rf_iz, sigma_delta
from tolerances import SIX_DIGITS
from torch.testing import assert_close

X = [3000, 2500, -4001, 9001, 0, 4500, -8191, 4097, 12000, 1, -6000, -1]
Y = [-2500, -7000, 1200, -300, 5003, 0, -9000, 2, 8191, -4097, 777, 3333]
RE = [3000, 6000, 4069, 11103, 5300, -932, -16534, -5253, 16099, 11898, -1290, -7957]
IM = [-2500, -6682, 766, 2776, 13835, 12178, -1843, -11694, -2594, 4498, 11211, 9647]
U = [3000, 4750, -439, 8672, 6504, 9378, -1158, 3229, 14421, 10816, 2112, 1583]


@pytest.fixture(params=["lava-dl", "descent"])
def sign(request):
    set_decay_gradient(request.param)
    yield 1 if request.param == "lava-dl" else -1
    set_decay_gradient("descent")


def series(values):
    return (torch.tensor(values, dtype=torch.float32) / 4096).view(1, 1, -1)


def spikes_at(*steps):
    return torch.zeros(12).index_fill(0, torch.tensor(steps), 1).view(1, 1, 12)


def run(neuron):
    """Return states, spikes, gradients of the inputs and of the parameters."""
    inputs = [series(v).requires_grad_() for v in (X, Y)[: 1 + neuron.complex]]
    x = tuple(inputs) if neuron.complex else inputs[0]
    states = neuron.dynamics(x)
    y = neuron(x)
    y.backward(torch.tensor([(-1) ** t * (t + 1) / 8 for t in range(12)]).view(1, 1, -1))
    return states, y.detach(), *(present(part.grad).flatten() for part in inputs)


def check_states(states, *want):
    for got, values in zip(states, want, strict=True):
        assert_close(got.detach(), series(values), rtol=0, atol=0)


def check(gradient, entries):
    """Compare some entries of a gradient, or its only one."""
    if not isinstance(entries, dict):
        entries = {0: entries}
    for k, value in entries.items():
        assert_close(gradient[k].item(), value, **SIX_DIGITS)


V_CUBA = [3000, 7449, -439, 8277, 6504, 9378, -1158, 2187, 16389, 10816, 2112, 3483]


def test_cuba(sign):
    neuron = cuba.Neuron(1.0, 0.25, 0.1, requires_grad=True)
    states, y, gx = run(neuron)
    check_states(states, U, V_CUBA)
    assert_close(y, spikes_at(1, 3, 4, 5, 8, 9), rtol=0, atol=0)
    want = [
        -6.41352e-4, -7.18837e-4, -7.14634e-4, -8.65605e-4, -7.82447e-4, -9.96874e-4,
        -8.17318e-4, -1.06947e-3, -7.63467e-4, -1.01915e-3, -5.51398e-4, -7.48878e-4,
    ]  # fmt: skip
    check(gx, dict(enumerate(want)))
    check(neuron.current_decay.grad, sign * -0.0121031)
    check(neuron.voltage_decay.grad, sign * -0.00357897)


def test_cuba_with_graded_spikes(sign):
    neuron = cuba.Neuron(1.0, 0.25, 0.1, requires_grad=True, graded_spike=True)
    _, y, gx = run(neuron)
    assert_close(y, spikes_at(1, 3, 4, 5, 8, 9) * series(V_CUBA), rtol=0, atol=0)
    check(gx, {0: -1.28198e-1, 11: -1.49776e-1})
    check(neuron.current_decay.grad, sign * -2.41524)
    check(neuron.voltage_decay.grad, sign * -0.719867)


def test_alif(sign):
    neuron = alif.Neuron(1.0, 0.5, 0.25, 0.1, 0.2, 0.3, requires_grad=True)
    states, y, gx = run(neuron)
    check_states(
        states, U,
        [3000, 7449, 6264, 14308, 19379, 26817, 22974, 23903, 35931, 43150, 40942, 38426],
        [4096, 4096, 5734, 5406, 6782, 7883, 8764, 7830, 8721, 9434, 10005, 8823],
        [0, 0, 5734, 4013, 10376, 16756, 22763, 15932, 22112, 27685, 32584, 22807],
    )  # fmt: skip
    assert_close(y, spikes_at(1, 3, 4, 5, 7, 8, 9, 11), rtol=0, atol=0)
    check(gx, {0: -6.22131e-4, 3: -8.38624e-4, 11: -7.37659e-4})
    check(neuron.current_decay.grad, sign * -0.0117055)
    check(neuron.voltage_decay.grad, sign * -0.0175986)
    for decay in (neuron.threshold_decay, neuron.refractory_decay):
        assert present(decay.grad).item() == 0


def test_rf():
    neuron = rf.Neuron(1.0, 8, 0.1, requires_grad=True)
    assert neuron.cx_sin_decay == neuron.cx_cos_decay == 2607
    states, y, g_re, g_im = run(neuron)
    check_states(states, RE, IM)
    assert_close(y, spikes_at(9), rtol=0, atol=0)
    check(g_re, {0: 1.06329e-1, 6: 6.56027, 11: -3.75350e-4})
    check(g_im, {0: 2.87746e-1, 8: 8.09746, 11: 3.75349e-4})
    check(neuron.sin_decay.grad, -58.4079)
    check(neuron.cos_decay.grad, -84.0450)


def test_rf_with_graded_spikes():
    neuron = rf.Neuron(1.0, 8, 0.1, requires_grad=True, graded_spike=True)
    _, y, g_re, g_im = run(neuron)
    assert_close(y, spikes_at(9) * 2.90478515625, rtol=0, atol=0)
    check(g_re, {0: 7.20662e-1, 9: -1.38988})
    check(g_im, {9: 1.38520})
    check(neuron.sin_decay.grad, -19.1935)
    check(neuron.cos_decay.grad, -81.0410)


def test_rf_iz():
    neuron = rf_iz.Neuron(1.0, 8, 0.1, requires_grad=True)
    states, y, g_re, g_im = run(neuron)
    check_states(
        states,
        [3000, 6000, 4069, 11103, 5300, 1894, -8644, 2502, 19578, 10045, -8606, -7631],
        [-2500, -6682, 766, 2776, 13835, 2606, -6137, -9405, 3797, 10779, 3383, 9],
    )
    assert_close(y, spikes_at(4, 9), rtol=0, atol=0)
    check(g_re, {0: -5.64169e-5, 10: -4.72617e-4, 11: 0.0})
    check(g_im, {0: 1.43103e-4, 11: -7.42554e-4})
    check(neuron.sin_decay.grad, 7.90125e-4)
    check(neuron.cos_decay.grad, -4.87498e-3)


def test_adrf():
    neuron = adrf.Neuron(1.0, 0.5, 8, 0.1, 0.2, 0.3, requires_grad=True)
    states, y, g_re, g_im = run(neuron)
    check_states(states, RE, IM, [4096] * 10 + [5734, 5406], [0] * 10 + [5734, 4013])
    assert_close(y, spikes_at(9), rtol=0, atol=0)
    check(g_re, {0: -4.10850e-7, 8: 3.78212e-6, 11: -3.51058e-6})
    check(g_im, {0: 3.14596e-7, 8: 4.18321e-6})
    check(neuron.sin_decay.grad, 2.23198e-5)
    check(neuron.cos_decay.grad, -1.37559e-5)


def test_adrf_iz():
    neuron = adrf_iz.Neuron(1.0, 0.5, 8, 0.1, 0.2, 0.3, requires_grad=True)
    states, y, g_re, g_im = run(neuron)
    check_states(
        states, RE, IM,
        [4096] * 5 + [5734, 7044, 6454, 5982, 5604, 5302, 6699],
        [0] * 5 + [5734, 12040, 8427, 5898, 4128, 2889, 9444],
    )  # fmt: skip
    assert_close(y, spikes_at(4, 5, 10), rtol=0, atol=0)
    check(g_re, {0: -5.63914e-5, 10: -4.69845e-4, 11: 0.0})
    check(g_im, {0: 1.38742e-4, 11: -7.38199e-4})
    check(neuron.sin_decay.grad, -3.14912e-3)
    check(neuron.cos_decay.grad, -5.93046e-3)


def test_sigma_delta():
    neuron = sigma_delta.Neuron(1.0, torch.relu, requires_grad=True)
    x = series(X).requires_grad_()
    y = neuron(x)
    want = [0, 5500, 0, 5000, 0, 4500, -8191, 4097, 12000, 0, -5999, 0]
    assert_close(y.detach(), series(want), rtol=0, atol=0)
    g = torch.tensor([(-1) ** t * (t + 1) / 8 for t in range(12)]).view(1, 1, -1)
    y.backward(g)
    assert_close(x.grad, g, rtol=0, atol=0)
    check(neuron.threshold.grad, 3.9051)


def test_cuba_must_exceed_its_threshold():
    neuron = cuba.Neuron(1.25, 1.0, 0.0)
    x = torch.tensor([[[1.25, 0, 0, 0.03125, 0, 0]]])
    _, voltage = neuron.dynamics(x)
    assert voltage.flatten().tolist() == [1.25, 1.25, 1.25, 1.28125, 0, 0]
    assert neuron(x).flatten().tolist() == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("threshold", [1.0, 63.984375, 64.0, 100.0])  # 64 is 2**18 state units
def test_cuba_is_strict_at_every_threshold(threshold):
    neuron = cuba.Neuron(threshold, 1.0, 1.0)
    x = torch.tensor([[[threshold - 1 / 4096, threshold, threshold + 1 / 4096, 0.0]]])
    assert neuron(x).flatten().tolist() == [0, 0, 1, 0]
    assert neuron.spike(neuron.dynamics(x)[1]).flatten().tolist() == [0, 0, 1, 0]
