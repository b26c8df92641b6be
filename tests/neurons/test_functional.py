"""The functional forms give lava-dl's results: neurons put together from them run golden cases."""

import golden_runs
import pytest
import torch
from golden_cases import cases, way_name
from golden_runs import compare, run
from lapilli.neurons import dynamics as d
from torch import Tensor, nn

from lapilli.spike import Spike
from lapilli.spike import complex as complex_spike
from lapilli.spike.spike import Spike as SameSpike


class Functional(nn.Module):
    """Parameters, rest and constants of a neuron module; its families add the functions."""

    # what the neuron has of these
    current_decay: Tensor
    voltage_decay: Tensor
    threshold_decay: Tensor
    refractory_decay: Tensor
    sin_decay: Tensor
    cos_decay: Tensor
    current_state: Tensor
    voltage_state: Tensor
    threshold_state: Tensor
    refractory_state: Tensor
    real_state: Tensor
    imag_state: Tensor

    def __init__(self, neuron):
        super().__init__()
        for name, parameter in neuron.named_parameters():
            self.register_parameter(name, parameter)
        for name, rest in neuron._rest.items():
            setattr(self, name, torch.tensor([float(rest)]))
        self.neuron = [neuron]  # in a list: not a submodule

    @property
    def th(self):
        return self.neuron[0]._threshold

    @property
    def units(self):
        return self.neuron[0].s_scale

    @property
    def adaptation(self):
        return self.neuron[0].threshold_step, self.th, self.units

    def surrogate(self, tau, scale) -> tuple[float, float, bool]:
        neuron = self.neuron[0]
        return neuron.tau_rho * tau, neuron.scale_rho * scale, neuron.graded_spike

    def keep(self, **states):
        if self.neuron[0].persistent_state:
            for name, state in states.items():
                setattr(self, name, state.detach())

    def raised(self, spike, threshold, refractory):
        th, r, last = threshold[..., -1], refractory[..., -1], spike[..., -1]
        self.keep(
            refractory_state=d.adaptive_threshold.persistent_ref_state(r, last, th),
            threshold_state=d.adaptive_threshold.persistent_th_state(th, last, self.adaptation[0]),
        )
        # the neuron modules give these two gradients of zero
        return spike + 0 * (self.threshold_decay.sum() + self.refractory_decay.sum())

    def rotate(self, x, threshold=None):
        re, im = x
        return d.resonator.dynamics(
            re, im, self.sin_decay, self.cos_decay, self.real_state, self.imag_state, self.units,
            threshold,
        )  # fmt: skip


class Cuba(Functional):
    @property
    def above(self):
        return self.th + 0.01 / self.units

    def dynamics(self, x):
        u = d.leaky_integrator.dynamics(x, self.current_decay, self.current_state, self.units)
        v = d.leaky_integrator.dynamics(
            u, self.voltage_decay, self.voltage_state, self.units, self.above, debug=True
        )
        self.keep(current_state=u[..., -1], voltage_state=v[..., -1])
        return u, v

    def spike(self, v):
        s = Spike.apply(v, self.above, *self.surrogate(100, 0.1), 0, 1)
        after = d.leaky_integrator.persistent_state(v[..., -1], s[..., -1])
        self.keep(voltage_state=after)
        return s


class Alif(Functional):
    def dynamics(self, x):
        u = d.leaky_integrator.dynamics(x, self.current_decay, self.current_state, self.units)
        v = d.leaky_integrator.dynamics(u, self.voltage_decay, self.voltage_state, self.units)
        th, r = d.adaptive_threshold.dynamics(
            v, self.refractory_state, self.refractory_decay, self.threshold_state,
            self.threshold_decay, *self.adaptation,
        )  # fmt: skip
        self.keep(current_state=u[..., -1], voltage_state=v[..., -1])
        return u, v, th, r

    def spike(self, v, th, r):
        return self.raised(Spike.apply(v, th + r, *self.surrogate(100, 0.1), 0, 1), th, r)


class Rf(Functional):
    def dynamics(self, x):
        re, im = self.rotate(x)
        self.keep(real_state=re[..., -1])
        return re, im

    def spike(self, re, im):
        s = complex_spike.Spike.apply(re, im, self.th, *self.surrogate(0.5, 10), self.imag_state, 1)
        self.keep(imag_state=im[..., -1])
        return s


class RfIz(Functional):
    def dynamics(self, x):
        return self.rotate(x, self.th)

    def spike(self, re, im):
        s = Spike.apply(im, self.th, *self.surrogate(100, 0.1), 0, 1)
        last = s[..., -1]
        self.keep(
            real_state=d.resonator.persistent_real_state(re[..., -1], last),
            imag_state=d.resonator.persistent_imag_state(im[..., -1], last, self.th, self.units),
        )
        return s


class Adrf(Functional):
    def dynamics(self, x):
        re, im = self.rotate(x)
        th, r = d.adaptive_phase_th.dynamics(
            re, im, self.imag_state, self.refractory_state, self.refractory_decay,
            self.threshold_state, self.threshold_decay, *self.adaptation,
        )  # fmt: skip
        self.keep(real_state=re[..., -1])
        return re, im, th, r

    def spike(self, re, im, th, r):
        constants = (*self.surrogate(100, 0.1), self.imag_state, 1)
        s = complex_spike.Spike.apply(re, im, th + r, *constants)
        self.keep(imag_state=im[..., -1])
        return self.raised(s, th, r)


class AdrfIz(Functional):
    def dynamics(self, x):
        re, im = x
        re, im, th, r = d.adaptive_resonator.dynamics(
            re, im, self.sin_decay, self.cos_decay, self.refractory_decay, self.threshold_decay,
            self.real_state, self.imag_state, self.refractory_state, self.threshold_state,
            *self.adaptation,
        )  # fmt: skip
        self.keep(real_state=re[..., -1], imag_state=im[..., -1])
        return re, im, th, r

    def spike(self, re, im, th, r):
        return self.raised(Spike.apply(im, th + r, *self.surrogate(100, 0.1), 0, 1), th, r)


FAMILIES = {
    "cuba": Cuba, "alif": Alif, "rf": Rf, "rf_iz": RfIz, "adrf": Adrf, "adrf_iz": AdrfIz,
}  # fmt: skip

# what only the modules do, and a threshold that equals itself plus its epsilon in float32
OF_MODULES = ("batch_change", ".clamp", "cuba.at_threshold_64", "cuba.at_threshold_100")


def runs(case):
    family = case.target.split(".")[1]
    wraps = case.kwargs.keys() & {"norm", "dropout"}
    return (
        family in FAMILIES
        and case.method != "forward"
        and not wraps
        and not case.name.endswith(OF_MODULES)
    )


CASES = [case for case in cases("neuron") if runs(case)]


# those whose flags need loops of their own; at once for one neuron, as of golden cases, whose
# modules call these functions
_RARE = ("graded", "24bit", "scale_not_power_of_two", "dynamics")
_SHARING = (".alif.Neuron", ".rf_iz.Neuron", ".adrf.Neuron", ".adrf_iz.Neuron")


def _marks(case):
    is_rare = any(flag in case.name for flag in _RARE) or case.target.endswith(_SHARING)
    return pytest.mark.slow if is_rare and case.target != "neuron.cuba.Neuron" else ()


@pytest.mark.parametrize("case", [pytest.param(c, id=way_name(c), marks=_marks(c)) for c in CASES])
def test_functions_equal_lava_dl(case, monkeypatch):
    build = golden_runs.build
    functional = FAMILIES[case.target.split(".")[1]]
    monkeypatch.setattr(golden_runs, "build", lambda *a, **kw: functional(build(*a, **kw)))
    module, results = run(case)
    compare(case, module, results, sign="lava-dl")


def test_every_family_runs_persistent_cases():
    persistent = [c for c in CASES if c.kwargs.get("persistent_state") and c.calls > 1]
    assert {c.target.split(".")[1] for c in persistent} == FAMILIES.keys()


@pytest.mark.parametrize("shape", [(9,), (2, 9), (2, 3, 9), (2, 3, 4, 5, 9)], ids=str)
def test_any_rank(shape):
    x = torch.randn(shape) * 2
    one = torch.tensor([1000.0])
    rest = torch.tensor([0.0])
    y = d.leaky_integrator.dynamics(x, one, rest, 4096, 1.0)
    re, im = d.resonator.dynamics(x, y, one, one, rest, rest, 4096)
    th, r = d.adaptive_phase_th.dynamics(
        re, im, rest, rest, one, torch.tensor([1.0]), one, 0.5, 1.0, 4096
    )
    s = complex_spike.Spike.apply(re, im, th + r, 1.0, 1.0, False, 0.0, 1)
    assert {t.shape for t in (y, re, im, th, r, s)} == {x.shape}
    for k, series in enumerate(x.reshape(-1, 9)):
        alone = d.leaky_integrator.dynamics(series, one, rest, 4096, 1.0)
        torch.testing.assert_close(y.reshape(-1, 9)[k], alone, rtol=0, atol=0)


def test_threshold_is_reached_and_one_that_is_not_positive_is_left_out():
    x = torch.tensor([1.25, 0.0, 2.0])
    keep, rest = torch.tensor([0.0]), torch.tensor([0.5])
    cases = {1.75: [1.75, 0.0, 2.0], 1.75 + 1 / 8192: [1.75, 1.75, 3.75], 0.0: [1.75, 1.75, 3.75]}
    for threshold, want in cases.items():
        y = d.leaky_integrator.dynamics(x, keep, rest, 4096, threshold)
        torch.testing.assert_close(y, torch.tensor(want), rtol=0, atol=0)


def test_parameters_of_one_value_and_one_a_channel_mix():
    x = torch.randn(2, 3, 9) * 2
    one, three = torch.tensor([1000.0]), torch.tensor([900.0, 1000.0, 1100.0])
    rest = torch.tensor([0.0])
    whole = torch.zeros(2, 3)
    mixed = d.adaptive_resonator.dynamics(
        x, -x, one, three, one, three, rest, whole, rest, whole + 1, 0.5, 1.0, 4096
    )
    same = d.adaptive_resonator.dynamics(
        x, -x, one.expand(3), three, one.expand(3), three, rest, rest, rest, rest + 1, 0.5, 1.0,
        4096,
    )  # fmt: skip
    for got, want in zip(mixed, same, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_inputs_that_do_not_fit_raise():
    x, one = torch.zeros(3, 5), torch.tensor([0.0])
    with pytest.raises(ValueError, match=r"one shape; got \(3, 5\), \(3, 4\)"):
        d.resonator.dynamics(x, x[:, 1:], one, one, one, one, 4096)
    with pytest.raises(ValueError, match=r"\[\.\.\., time\]"):
        d.leaky_integrator.dynamics(torch.tensor(1.0), one, one, 4096)


def test_names_of_lava_dl():
    from lapilli import slayer
    from lapilli.slayer.neuron.dynamics import leaky_integrator

    assert leaky_integrator is d.leaky_integrator is slayer.neuron.dynamics.leaky_integrator
    assert slayer.spike.Spike is Spike is SameSpike
    assert slayer.spike.complex.Spike is complex_spike.Spike
