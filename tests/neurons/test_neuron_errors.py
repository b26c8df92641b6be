"""Inputs and parameters that neurons refuse or bring back into range."""

import pytest
import torch
from lapilli.neurons import sigma_delta
from lapilli.neurons.errors import ArgumentError
from table import NCT, each, each_fixed_point, each_that


@each
def test_wrong_inputs_raise(row):
    neuron = row.make()

    def refused(x, match, error: type[Exception] = ArgumentError):
        with pytest.raises(error, match=match):
            neuron(row.map(lambda part: part, x) if row.pair else x)

    def of(tensor):
        return (tensor, tensor) if row.pair else tensor

    refused(of(torch.zeros(3, 5)), r"at least 3 dimensions .* got shape \(3, 5\).*unsqueeze")
    refused(of(torch.zeros(2, 3, 5, dtype=torch.complex64)), "must be real; got torch.complex64")
    refused(of(torch.zeros(2, 3, 5, device="meta")), "on meta but the neuron is on cpu", ValueError)
    refused(of([[0.0]]), "must be a torch.Tensor; got list")
    neuron(of(torch.zeros(2, 3, 5)))
    refused(of(torch.zeros(2, 4, 5)), r"neuron shape \(3,\), as in the first call; got \(4,\)")
    refused(of(torch.zeros(2, 3, 4, 5)), r"neuron shape \(3,\)")
    assert issubclass(ArgumentError, AssertionError)
    assert issubclass(ArgumentError, ValueError)


@each_that(lambda row: row.pair)
def test_pairs_that_do_not_fit_raise(row):
    x = torch.zeros(2, 3, 5)
    with pytest.raises(ArgumentError, match=r"pair \(real, imag\).*got Tensor"):
        row.make()(x)
    with pytest.raises(ArgumentError, match=r"same shape; got \(2, 3, 5\) and \(2, 3, 4\)"):
        row.make()((x, x[..., 1:]))
    with pytest.raises(ValueError, match="on meta but the neuron is on cpu"):
        row.make()((x, x.to("meta")))


@each
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite_raise(row, value):
    neuron = row.make(requires_grad=True)
    name = row.parameters[-1]
    torch.nn.Module.get_parameter(neuron, name).data.fill_(value)
    with pytest.raises(ValueError, match=r"threshold .*not finite|_decay .*not finite"):
        neuron(row.input(*NCT))


@each
@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_thresholds_that_cannot_be_raise(row, threshold):
    with pytest.raises(ArgumentError, match="threshold must be finite and at least"):
        row.make(threshold=threshold)


@each_fixed_point
@pytest.mark.parametrize("threshold", [0.0, 0.01, -1.0])
def test_thresholds_that_would_be_zero_raise(row, threshold):
    with pytest.raises(ArgumentError, match="threshold must be finite and at least 1 / scale"):
        row.make(threshold=threshold)


@pytest.mark.parametrize("threshold", [0.0, 0.01])
def test_sigma_delta_sends_every_change_at_threshold_zero(threshold):
    neuron = sigma_delta.Neuron(threshold, torch.relu)
    x = torch.tensor([[[1 / 4096, 0, 0, 3 / 4096, -0.5]]])
    assert neuron(x).tolist() == [[[1 / 4096, 0, 0, 3 / 4096, -4 / 4096]]]
    assert neuron.threshold.item() == 1 / 4096
    with pytest.raises(ArgumentError, match=r"at least 0; got -0\.1"):
        sigma_delta.Neuron(-0.1, torch.relu)


@each
def test_thresholds_are_rounded_down(row):
    assert float(row.make(threshold=0.999).threshold) == 63 / 64
    assert row.make(threshold=0.999).v_th_mant == 63


@each_fixed_point
def test_decays_that_cannot_be_raise(row):
    for name in (n for n in row.arguments if n.endswith("decay")):
        for value in (-0.1, 1.1, float("nan")):
            with pytest.raises(ArgumentError, match=rf"must be in \[0, 1\]; got {name}="):
                row.make(**{name: value})
        with pytest.raises(ArgumentError, match="scalar when shared_param is True"):
            row.make(**{name: (0.1, 0.2)})
        with pytest.raises(ArgumentError, match=r"a pair \(min, max\)"):
            row.per_channel(**{name: (0.1, 0.2, 0.3)})
        with pytest.raises(ArgumentError, match=r"must be in \[0, 1\]"):
            row.per_channel(**{name: (0.1, 1.2)})
    if row.pair:
        with pytest.raises(ArgumentError, match="period must be in"):
            row.make(period=3.9)


@each_fixed_point
def test_scales_that_cannot_be_raise(row):
    with pytest.raises(ArgumentError, match="state scale must be at least the weight scale"):
        row.make(scale=0)


@each
def test_clamp_brings_parameters_back(row):
    neuron = row.make(requires_grad=True)
    for name, p in neuron.named_parameters():
        p.data.fill_(-100.0 if name != "bias" else 0.0)
    neuron(row.input(*NCT))
    low = {"sin_decay": 1, "delta.threshold": row.arguments["threshold"] / 2}  # as it is learned
    for name, p in neuron.named_parameters():
        assert p.item() == low.get(name, 0), name
    for p in neuron.parameters():
        p.data.fill_(1e6)
    neuron(row.input(*NCT))
    if row.pair:
        assert torch.hypot(neuron.sin_decay, neuron.cos_decay).item() == pytest.approx(4095)
    for name, p in neuron.named_parameters():
        if name.endswith("decay") and name[:3] not in ("sin", "cos"):
            assert p.item() == 4096, name
