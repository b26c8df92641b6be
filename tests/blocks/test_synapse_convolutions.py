"""Synapses as torch's convolutions: what they are, what can be set, and numbers of any type."""

import numpy as np
import pytest
import torch
from lapilli.blocks import cuba, rf, sigma_delta, synapse
from lapilli.neurons import cuba as cuba_neuron
from synapse_kinds import CUBA, LEARNED, RF, by_torch, kinds, made, on_grid

from lapilli import slayer


@kinds
def test_synapses_are_torch_convolutions(kind):
    module, x = made(kind)
    wanted = torch.nn.ConvTranspose3d if kind in ("ConvTranspose", "Unpool") else torch.nn.Conv3d
    assert isinstance(module, wanted)
    assert module.bias is None
    assert module.padding_mode == "zeros"
    assert module.transposed == (wanted is torch.nn.ConvTranspose3d)
    assert list(module.state_dict()) == ["weight"]
    if kind in LEARNED:
        on_grid(module)
        torch.testing.assert_close(module(x), by_torch(module, x), rtol=0, atol=0)


def test_a_loop_over_convolutions_finds_every_synapse():
    net = torch.nn.Sequential(
        cuba.Conv(CUBA, 2, 3, 3), cuba.Pool(CUBA, 2), cuba.Flatten(), cuba.Dense(CUBA, 12, 4),
        cuba.Recurrent(CUBA, 4, 3), rf.Dense(RF, 3, 2),
    )  # fmt: skip
    found = [n for n, m in net.named_modules() if isinstance(m, torch.nn.Conv3d)]
    assert found == [
        "0.synapse", "1.synapse", "3.synapse", "4.input_synapse", "4.recurrent_synapse",
        "5.synapse.real", "5.synapse.imag",
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_synapse_of_ones_own_as_for_lava_dl(order):
    parents = (torch.nn.Conv3d, synapse.GenericLayer)

    class Mine(*(parents if order == "before" else parents[::-1])):
        def __init__(self):
            super().__init__(3, 2, (1, 1, 1), bias=False)
            self._pre_hook_fx = torch.round

        def forward(self, input):
            return torch.nn.functional.conv3d(input, self.pre_hook_fx(self.weight))

    module, x = Mine(), torch.randn(2, 3, 1, 1, 4)
    assert module.weight_norm_enabled is False
    assert module.complex is False
    module.enable_weight_norm()
    y = module(x)
    assert y.shape == (2, 2, 1, 1, 4)
    assert module.grad_norm == 0


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("Dense", "stride", (2, 2, 1)), ("Dense", "padding", 1), ("Dense", "groups", 2),
        ("Dense", "dilation", 2), ("Conv", "stride", (1, 1, 2)), ("Conv", "padding", (0, 0, 1)),
        ("Conv", "padding_mode", "circular"), ("Conv", "padding", "same"),
        ("ConvTranspose", "output_padding", 1), ("Pool", "groups", 3), ("Conv", "stride", 0),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_cannot_be_set(kind, name, value):
    module, _ = made(kind)
    before = getattr(module, name)
    with pytest.raises(ValueError, match=name):
        setattr(module, name, value)
    assert getattr(module, name) == before


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("Dense", "out_channels", 5), ("Dense", "in_channels", 4), ("Dense", "kernel_size", 2),
        ("Conv", "kernel_size", 2), ("Conv", "groups", 2), ("Conv", "out_channels", 3),
        ("ConvTranspose", "kernel_size", (3, 2)), ("ConvTranspose", "in_channels", 1),
        ("Pool", "kernel_size", 3), ("Unpool", "kernel_size", 1),
    ],
)  # fmt: skip
def test_sizes_that_the_weight_has_not_raise_at_the_call(kind, name, value):
    module, x = made(kind)
    setattr(module, name, value)
    with pytest.raises(ValueError, match=rf"the weight of {kind} has shape .* {name}="):
        module(x)
    with pytest.raises(ValueError, match="together"):
        module.effective_weight()


def test_channels_can_be_taken_away_in_any_order():
    module, x = made("Conv")
    module.out_channels = 3
    module.weight = torch.nn.Parameter(module.weight[:3].detach())
    on_grid(module)
    torch.testing.assert_close(module(x), by_torch(module, x), rtol=0, atol=0)


def test_a_synapse_does_not_change_its_kind():
    module, _ = made("Conv")
    with pytest.raises(AttributeError, match="ConvTranspose"):
        module.transposed = True


def test_sizes_that_are_set_are_used():
    module, x = made("Conv")
    on_grid(module)
    before = module(x)
    module.stride, module.padding = (2, 1), np.array([0, 1])
    assert (module.stride, module.padding) == ((2, 1, 1), (0, 1, 0))
    torch.testing.assert_close(module(x), by_torch(module, x), rtol=0, atol=0)
    assert module(x).shape != before.shape


@kinds
def test_drawing_anew_is_as_at_construction(kind):
    module, _ = made(kind, weight_scale=3, weight_norm=kind in LEARNED)
    parameters = dict(module.named_parameters())
    torch.manual_seed(5)
    module.reset_parameters()
    torch.manual_seed(5)
    fresh, _ = made(kind, weight_scale=3, weight_norm=kind in LEARNED)
    for name, parameter in module.named_parameters():
        assert parameter is parameters[name]
        assert parameter.requires_grad == (kind in LEARNED)
        torch.testing.assert_close(parameter, fresh.get_parameter(name), rtol=0, atol=0)


def test_the_weight_is_float32_whatever_the_default():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert synapse.Dense(3, 2).weight.dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


# sizes in other types


@pytest.mark.parametrize(
    "pair", [(1, 2), [1, 2], np.array([1, 2]), torch.Size((1, 2)), torch.tensor([1, 2])], ids=str
)
def test_pairs_of_any_type(pair):
    module = synapse.Conv(2, 3, pair, stride=pair, padding=pair, dilation=pair)
    sizes = module.kernel_size, module.stride, module.padding, module.dilation
    assert sizes == ((1, 2, 1), (1, 2, 1), (1, 2, 0), (1, 2, 1))
    assert all(type(n) is int for size in sizes for n in size)
    block = cuba.Conv(CUBA, 2, 3, pair, stride=pair, padding=pair, dilation=pair)
    assert block.synapse.stride == (1, 2, 1)
    assert cuba.Pool(CUBA, pair, stride=pair).synapse.stride == (1, 2, 1)
    assert synapse.Dense(pair, 3).shape == (3, 1, 2, 1, 1)
    assert sigma_delta.Dense({"threshold": 0.1, "activation": None}, pair, 3) is not None


@pytest.mark.parametrize("number", [3, np.int64(3), np.array(3), torch.tensor(3)], ids=repr)
def test_numbers_of_any_type(number):
    module = synapse.Conv(number, number, number, number, number, number, number)
    assert module.kernel_size == (3, 3, 1)
    assert type(module.groups) is int
    assert synapse.Dense(number, number).shape == (3, 3, 1, 1, 1)
    assert cuba.Average(number).num_outputs == 3


@pytest.mark.parametrize(
    "number", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)], ids=repr
)
@pytest.mark.parametrize("shared", [True, False])
def test_neurons_take_numbers_of_any_type(number, shared):
    neuron = cuba_neuron.Neuron(number, number, number, shared_param=shared)
    want = cuba_neuron.Neuron(0.5, 0.5, 0.5, shared_param=shared)
    for each in (neuron, want):  # alone, it draws what belongs to a channel at the first call
        torch.manual_seed(0)
        each(torch.zeros(1, 3, 2))
    assert neuron.current_decay.shape == ((1,) if shared else (3,))
    assert neuron.threshold == want.threshold
    torch.testing.assert_close(neuron.current_decay, want.current_decay, rtol=0, atol=0)
    block = cuba.Dense(CUBA, 3, 2, weight_scale=number)
    assert block.synapse.weight.dtype == torch.float32
    resonator = slayer.neuron.rf.Neuron(number, number * 16, number, shared_param=shared)
    resonator((torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)))
    assert torch.isfinite(resonator.sin_decay).all()


@pytest.mark.parametrize(
    "pair", [[0.2, 0.3], np.array([0.2, 0.3]), torch.tensor([0.2, 0.3])], ids=repr
)
def test_neurons_take_ranges_of_any_type(pair):
    neuron = cuba_neuron.Neuron(1, pair, pair, shared_param=False)
    neuron(torch.zeros(1, 50, 2))
    decay = neuron.current_decay / 4096
    assert 0.2 <= decay.min() < 0.22 < 0.28 < decay.max() <= 0.3
