"""Synapses under torch's own tools, with a bias, and in blocks that users join themselves."""

import copy

import numpy as np
import pytest
import torch
from lapilli.blocks import base, complex_synapse, cuba, rf, sigma_delta, synapse
from lapilli.neurons import cuba as cuba_neuron
from torch.nn.utils import prune

from lapilli import export, slayer

CUBA = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}
RF = {"threshold": 1.0, "period": 8.0, "decay": 0.1}
KINDS = {
    "Dense": (lambda **o: synapse.Dense(5, 4, **o), (2, 5, 7)),
    "Conv": (lambda **o: synapse.Conv(2, 4, 3, padding=1, **o), (2, 2, 5, 6, 7)),
    "ConvTranspose": (lambda **o: synapse.ConvTranspose(2, 4, 3, **o), (2, 2, 5, 6, 7)),
    "Pool": (lambda **o: synapse.Pool(2, **o), (2, 3, 4, 6, 7)),
    "Unpool": (lambda **o: synapse.Unpool(2, **o), (2, 3, 4, 6, 7)),
}
LEARNED = ("Dense", "Conv", "ConvTranspose")
kinds = pytest.mark.parametrize("kind", KINDS)
learned = pytest.mark.parametrize("kind", LEARNED)


def made(kind, **options):
    make, shape = KINDS[kind]
    return make(**options), torch.randint(0, 2, shape).float()


def by_torch(made, x):
    """Do as lava-dl: torch's own convolution with what the synapse says of itself."""
    y = x if x.ndim == 5 else x[:, :, None, None]
    options = (made.bias, made.stride, made.padding)
    if isinstance(made, torch.nn.ConvTranspose3d):
        y = torch.nn.functional.conv_transpose3d(
            y, made.weight, *options, made.output_padding, made.groups, made.dilation
        )
    else:
        y = torch.nn.functional.conv3d(y, made.weight, *options, made.dilation, made.groups)
    return y if x.ndim == 5 else y[:, :, 0, 0]


def on_grid(module):
    """Put the weight on the chip's grid, where sums of any order are exact."""
    with torch.no_grad():
        module.weight.copy_((module.weight * 64).round() / 64)


# a convolution


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


# bias


@learned
@pytest.mark.parametrize("product", ["dense", "events"])
def test_bias_is_added_as_by_torch(kind, product):
    module, x = made(kind)
    module.product = product
    on_grid(module)
    module.bias = torch.nn.Parameter(torch.tensor([0.5, -1.25, 3.0, 0.0]))
    torch.testing.assert_close(module(x), by_torch(module, x), rtol=0, atol=0)
    y = module(x)
    upstream = torch.randn(y.shape)
    y.backward(upstream)
    want = upstream.transpose(0, 1).flatten(1).sum(1)
    torch.testing.assert_close(module.bias.grad, want)
    assert list(module.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("kind", ["Pool", "Unpool"])
def test_bias_of_pooling_is_one_number(kind):
    module, x = made(kind)
    without = module(x)
    module.bias = torch.nn.Parameter(torch.tensor([0.5]))
    torch.testing.assert_close(module(x), without + 0.5, rtol=0, atol=0)


def test_bias_keeps_the_layout_of_the_output():
    module, x = made("Conv")
    before = module(x).stride()
    module.bias = torch.nn.Parameter(torch.ones(4))
    assert module(x).stride() == before


def test_bias_of_a_wrong_shape_raises():
    module, x = made("Dense")
    module.bias = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"bias of Dense must have shape \(4,\); got \(3,\)"):
        module(x)


def test_complex_synapses_have_two_biases():
    module = complex_synapse.Dense(5, 4)
    x = torch.randint(0, 2, (2, 5, 7)).float()
    real, imag = module(x)
    module.real.bias = torch.nn.Parameter(torch.full((4,), 0.5))
    y_real, y_imag = module(x)
    torch.testing.assert_close(y_real, real + 0.5, rtol=0, atol=0)
    torch.testing.assert_close(y_imag, imag, rtol=0, atol=0)
    module.imag.bias = torch.nn.Parameter(torch.full((4,), 2.0))
    torch.testing.assert_close(module(x)[1], imag + 2, rtol=0, atol=0)
    for name in ("bias", "weight", "stride"):
        with pytest.raises(AttributeError, match=f"synapse.real.{name}"):
            setattr(module, name, torch.nn.Parameter(torch.ones(4)))


@pytest.mark.parametrize("which", ["input_synapse", "recurrent_synapse"])
@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("module", [cuba, rf])
def test_bias_of_a_recurrent_block_is_an_input_at_every_step(module, by_step, which):
    block = module.Recurrent(CUBA if module is cuba else RF, 4, 4)
    if by_step:
        block.neuron.register_forward_hook(lambda *_: None)
    x = torch.randint(0, 2, (2, 4, 30)).float()
    with torch.no_grad():
        for name in ("input_synapse", "recurrent_synapse"):
            for part in getattr(block, name).modules():
                if isinstance(part, synapse.GenericLayer):
                    part.weight.mul_(3)
    own = getattr(block, which)
    parts = [own] if module is cuba else [own.real, own.imag]
    for part in parts:
        part.bias = torch.nn.Parameter(torch.tensor([0.5, 0.25, 2.0, -1.0]))
    got = block(x)
    biases = [part.bias for part in parts]
    for part in parts:
        part.bias = None
    silent = block(x)
    dendrite = block._dendrite

    def shifted(x):
        z = dendrite(x)
        if module is cuba:
            return z + biases[0].view(1, -1, 1)
        return tuple(part + bias.view(1, -1, 1) for part, bias in zip(z, biases, strict=True))

    block._dendrite = shifted
    assert not torch.equal(got, silent)
    assert torch.equal(got, block(x))


def test_bias_of_a_recurrent_synapse_learns():
    block = cuba.Recurrent(CUBA, 4, 4)
    block.recurrent_synapse.bias = torch.nn.Parameter(torch.full((4,), 0.5))
    block(torch.ones(2, 4, 9)).sum().backward()
    assert block.recurrent_synapse.bias.grad.abs().sum() > 0


@pytest.mark.parametrize("which", [1, 2, 0])
def test_custom_recurrent_uses_the_bias(which):
    names = (
        "custom_recurrent",
        "custom_recurrent_ground_truth_1",
        "custom_recurrent_ground_truth_2",
    )
    function = getattr(slayer.utils.recurrent, names[which])
    neuron, own = cuba_neuron.Neuron(**CUBA), synapse.Dense(3, 3)
    z = torch.rand(2, 3, 8)
    before = function(z, neuron, own)
    own.bias = torch.nn.Parameter(torch.full((3,), 1.0))
    assert function(z, neuron, own).sum() > before.sum()


@pytest.mark.parametrize("kind", ["Dense", "Recurrent", "KWTA", "rf"])
def test_files_refuse_the_bias_of_a_synapse(kind, tmp_path):
    made = {
        "Dense": lambda: cuba.Dense(CUBA, 3, 4),
        "Recurrent": lambda: cuba.Recurrent(CUBA, 3, 4),
        "KWTA": lambda: cuba.KWTA(CUBA, 3, 4, 2),
        "rf": lambda: rf.Dense(RF, 3, 4),
    }
    block = made[kind]()
    block(torch.ones(1, 3, 2))
    own = block.recurrent_synapse if kind == "Recurrent" else block.synapse
    own = own.imag if kind == "rf" else own
    own.bias = torch.nn.Parameter(torch.ones(4))
    with pytest.raises(ValueError, match="bias in its synapse"):
        export.save(torch.nn.Sequential(block), tmp_path / "net.net", target="lapilli")
    own.bias = None
    export.save(torch.nn.Sequential(block), tmp_path / "net.net", target="lapilli")


def test_bias_compiles_into_one_graph():
    module, x = made("Dense")
    module.bias = torch.nn.Parameter(torch.ones(4))
    want = module.biased(x[:, :4])
    got = torch.compile(module.biased, fullgraph=True, backend="eager")(x[:, :4])
    torch.testing.assert_close(got, want, rtol=0, atol=0)


# weight norm, in each of torch's three forms


def weights(module):
    return module.weight.detach().clone()


@learned
def test_torch_removes_weight_norm(kind):
    module, x = made(kind, weight_norm=True)
    before, y = weights(module), module(x)
    assert torch.nn.utils.remove_weight_norm(module) is module
    assert not module.weight_norm_enabled
    assert list(module.state_dict()) == ["weight"]
    torch.testing.assert_close(module.weight.detach(), before, rtol=0, atol=0)
    torch.testing.assert_close(module(x), y, rtol=0, atol=0)
    with pytest.raises(ValueError, match="not found"):
        torch.nn.utils.remove_weight_norm(module)


@learned
def test_torch_adds_weight_norm(kind):
    module, x = made(kind)
    y = module(x)
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(module)
    assert module.weight_norm_enabled
    assert sorted(module.state_dict()) == ["weight_g", "weight_v"]
    torch.testing.assert_close(module(x), y)
    module(x).square().sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= 0.1 * parameter.grad
    want = (
        module.weight_g
        * module.weight_v
        / module.weight_v.flatten(1).norm(dim=1).view(module.weight_g.shape)
    )
    torch.testing.assert_close(module.effective_weight(), want)  # without another forward
    module.disable_weight_norm()
    torch.testing.assert_close(module.weight, want)
    with pytest.warns(FutureWarning), pytest.raises(RuntimeError, match="two weight_norm"):
        torch.nn.utils.weight_norm(torch.nn.utils.weight_norm(module))


def test_weight_norm_twice_raises_in_torch():
    module, _ = made("Dense", weight_norm=True)
    with pytest.warns(FutureWarning), pytest.raises(RuntimeError, match="two weight_norm"):
        torch.nn.utils.weight_norm(module)


def test_weight_norm_as_parametrisation():
    module, x = made("Dense")
    y = module(x)
    torch.nn.utils.parametrizations.weight_norm(module)
    torch.testing.assert_close(module(x), y)
    module(x).sum().backward()
    assert module.grad_norm > 0
    with pytest.raises(ValueError, match="parameter"):
        module.enable_weight_norm()
    torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    torch.testing.assert_close(module(x), y)


def test_weight_norm_by_its_flag():
    module, _ = made("Dense")
    module.weight_norm_enabled = True
    assert sorted(module.state_dict()) == ["weight_g", "weight_v"]
    module.weight_norm_enabled = False
    assert list(module.state_dict()) == ["weight"]


def test_weight_cannot_be_set_under_weight_norm():
    module, _ = made("Dense", weight_norm=True)
    with pytest.raises(AttributeError, match="weight_v"):
        module.weight = torch.nn.Parameter(torch.ones(4, 5, 1, 1, 1))


def test_copies_keep_weight_norm_removable():
    module, _ = made("Dense", weight_norm=True)
    torch.nn.utils.remove_weight_norm(copy.deepcopy(module))
    assert module.weight_norm_enabled


# pruning


@learned
@pytest.mark.parametrize("norm", [False, True])
def test_pruning(kind, norm):
    module, x = made(kind, weight_norm=norm)
    name = "weight_v" if norm else "weight"
    prune.l1_unstructured(module, name, amount=0.5)
    zeros = module.weight == 0
    assert 0 < zeros.sum() == module.weight.numel() // 2
    for _ in range(2):
        module(x).square().sum().backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.01 * parameter.grad
        module.zero_grad()
    assert torch.equal(module.effective_weight() == 0, zeros)
    if norm:
        with pytest.raises(ValueError, match="while its direction or length is pruned"):
            module.disable_weight_norm()
    prune.remove(module, name)
    assert torch.equal(module.weight == 0, zeros)
    assert sorted(module.state_dict()) == (["weight_g", "weight_v"] if norm else ["weight"])


def test_pruning_what_is_computed_says_what_to_prune():
    module, x = made("Dense", weight_norm=True)
    y = module(x)
    with pytest.raises(ValueError, match="prune 'weight_v'"):
        prune.l1_unstructured(module, "weight", amount=0.5)
    torch.testing.assert_close(module(x), y, rtol=0, atol=0)


@pytest.mark.parametrize("module", [cuba, rf])
def test_a_pruned_feedback_is_the_pruned_one(module):
    block = module.Recurrent(CUBA if module is cuba else RF, 3, 4)
    own = block.recurrent_synapse if module is cuba else block.recurrent_synapse.imag
    prune.l1_unstructured(own, "weight", amount=0.5)
    with torch.no_grad():
        own.weight_orig.add_(1)  # as an optimizer does
    weight, _, _ = block._feedback()
    weight = weight if module is cuba else weight[1]
    want = own.pre_hook_fx(own.weight_orig * own.weight_mask).flatten(1)
    torch.testing.assert_close(weight, want, rtol=0, atol=0)
    for _ in range(2):
        block(torch.ones(2, 3, 5)).sum().backward()


def test_a_pruned_complex_synapse_is_computed_at_each_call():
    block = rf.Dense(RF, 5, 4)
    prune.random_unstructured(block.synapse.imag, "weight", amount=0.5)
    x = torch.randint(0, 2, (2, 5, 7)).float()
    with torch.no_grad():
        block.synapse.imag.weight_orig.add_(1)
    imag = block.synapse.imag
    want = by_torch(imag, x) * 0 + imag.map(x, imag.effective_weight())[0]
    torch.testing.assert_close(block.synapse(x)[1], want, rtol=0, atol=0)
    for _ in range(2):
        block(x).sum().backward()


def test_hooks_on_the_parts_of_a_complex_synapse_run():
    block, calls = rf.Dense(RF, 5, 4), []
    want = block(torch.ones(2, 5, 7))
    block.synapse.imag.register_forward_hook(lambda *_: calls.append("imag"))
    assert torch.equal(block(torch.ones(2, 5, 7)), want)
    assert calls == ["imag"]
    block.synapse.real = torch.nn.Sequential(block.synapse.real)
    assert torch.equal(block(torch.ones(2, 5, 7)), want)


def test_pruning_and_a_mask_in_one_block():
    mask = torch.ones(4, 5)
    mask[0] = 0
    block = cuba.Dense(CUBA, 5, 4, mask=mask)
    prune.random_unstructured(block.synapse, "weight", amount=0.5)
    block(torch.ones(2, 5, 7)).sum().backward()
    pruned = block.synapse.weight_mask.flatten(1) == 0
    got = block.synapse.raw_weight(block.mask).flatten(1) == 0
    assert torch.equal(got, pruned | (mask == 0))


# other tools


@learned
def test_parametrisation(kind):
    class Double(torch.nn.Module):
        def forward(self, w):
            return 2 * w

    module, x = made(kind)
    on_grid(module)
    y = module(x)
    torch.nn.utils.parametrize.register_parametrization(module, "weight", Double())
    torch.testing.assert_close(module(x), 2 * y, rtol=0, atol=0)
    module(x).sum().backward()
    assert module.grad_norm > 0
    with pytest.raises(ValueError, match="parametrisation"):
        module.reset_parameters()
    module.bias = torch.nn.Parameter(torch.ones(4))
    torch.nn.utils.parametrize.register_parametrization(module, "bias", Double())
    torch.testing.assert_close(module(x), 2 * y + 2, rtol=0, atol=0)


@pytest.mark.parametrize("new", [False, True])
def test_spectral_norm(new):
    module, x = made("Dense")
    tools = torch.nn.utils.parametrizations if new else torch.nn.utils
    tools.spectral_norm(module)
    for _ in range(30):
        module(x).sum().backward()
    sigma = torch.linalg.matrix_norm(module.effective_weight().flatten(1), 2)
    torch.testing.assert_close(sigma, torch.tensor(1.0), rtol=1e-3, atol=0)


def test_spectral_norm_of_a_feedback_iterates():
    block = cuba.Recurrent(CUBA, 3, 4, pre_hook_fx=lambda w: w)
    torch.nn.utils.spectral_norm(block.recurrent_synapse)
    for _ in range(30):
        block(torch.ones(2, 3, 5))
    sigma = torch.linalg.matrix_norm(block._feedback()[0], 2)
    torch.testing.assert_close(sigma, torch.tensor(1.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["xavier_uniform_", "kaiming_normal_", "orthogonal_", "ones_"])
def test_drawing_functions_write_into_the_weight(name):
    module, x = made("Conv")
    before = weights(module)
    getattr(torch.nn.init, name)(module.weight)
    assert not torch.equal(module.weight, before)
    torch.testing.assert_close(module(x), by_torch(module, x))


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_fusion_of_a_batch_norm(kind):
    module, x = made(kind)
    norm = torch.nn.BatchNorm3d(4)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
    module.eval(), norm.eval()
    fused = torch.nn.utils.fuse_conv_bn_eval(module, norm, transpose=kind == "ConvTranspose")
    assert type(fused) is type(module)
    torch.testing.assert_close(fused(x), norm(module(x)), rtol=1e-4, atol=1e-5)


def test_flops_of_a_dense_product_are_counted():
    module, x = made("Conv")
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() == 2 * 4 * 2 * 9 * 5 * 6 * 14


def test_memory_formats_change_nothing():
    module, x = made("Conv")
    y = module(x)
    torch.nn.utils.convert_conv3d_weight_memory_format(module, torch.channels_last_3d)
    torch.testing.assert_close(module(x), y)


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


# blocks that users join themselves, as they did for lava-dl


class TheirMixin(torch.nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.neuron_params is not None:
            self.neuron = slayer.neuron.cuba.Neuron(**self.neuron_params)
        delay = kwargs.get("delay", False)
        self.delay = slayer.axon.Delay(max_delay=62) if delay is True else None
        del self.neuron_params


def joined(mixin, kind, maker):
    """A block as lava-dl makes its own."""

    def __init__(self, *args, **kwargs):
        super(block, self).__init__(*args, **kwargs)
        self.synapse = getattr(slayer.synapse, maker)(**self.synapse_params)
        if "pre_hook_fx" not in kwargs:
            self.synapse.pre_hook_fx = self.neuron.quantize_8bit
        if kind == "Affine":
            self.neuron._threshold = -1 if self.dynamics else None
            self.neuron.shape = torch.Size([self.synapse.out_channels])
        del self.synapse_params

    block = type(f"Their{kind}", (mixin, getattr(base, f"Abstract{kind}")), {"__init__": __init__})
    return block


JOINED = {
    "Dense": ("Dense", (5, 4), (2, 5, 9)),
    "Affine": ("Dense", (5, 4), (2, 5, 9)),
    "Conv": ("Conv", (2, 4, 3), (2, 2, 5, 5, 9)),
    "ConvT": ("ConvTranspose", (2, 4, 3), (2, 2, 5, 5, 9)),
    "Pool": ("Pool", (2,), (2, 2, 4, 4, 9)),
    "Unpool": ("Unpool", (2,), (2, 2, 4, 4, 9)),
    "KWTA": ("Dense", (5, 4, 2), (2, 5, 9)),
}


@pytest.mark.parametrize("mixin", [TheirMixin, cuba.AbstractCuba])
@pytest.mark.parametrize("kind", JOINED)
def test_blocks_joined_as_in_lava_dl(kind, mixin):
    maker, arguments, shape = JOINED[kind]
    options = {"weight_scale": 6}
    torch.manual_seed(3)
    theirs = joined(mixin, kind, maker)(CUBA, *arguments, **options)
    torch.manual_seed(3)
    ours = getattr(cuba, kind)(CUBA, *arguments, **options)
    x = torch.randint(0, 2, shape).float()
    want = ours(x)
    assert want.abs().sum() > 0
    torch.testing.assert_close(theirs(x), want, rtol=0, atol=0)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert not hasattr(theirs, "synapse_params")
    assert not hasattr(theirs, "neuron_params")


@pytest.mark.parametrize("mixin", [TheirMixin, cuba.AbstractCuba])
def test_a_recurrent_block_joined_as_in_lava_dl(mixin):
    class Theirs(mixin, base.AbstractRecurrent):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.input_synapse = slayer.synapse.Dense(**self.synapse_params)
            self.recurrent_synapse = slayer.synapse.Dense(**self.recurrent_params)
            self.input_synapse.pre_hook_fx = self.neuron.quantize_8bit
            self.recurrent_synapse.pre_hook_fx = self.neuron.quantize_8bit
            del self.synapse_params
            del self.recurrent_params

    torch.manual_seed(3)
    theirs = Theirs(CUBA, 3, 4, weight_scale=6)
    assert theirs.num_neurons == 4
    torch.manual_seed(3)
    ours = cuba.Recurrent(CUBA, 3, 4, weight_scale=6)
    x = torch.randint(0, 2, (2, 3, 9)).float()
    assert ours(x).sum() > 0
    assert torch.equal(theirs(x), ours(x))


def test_an_input_block_joined_as_in_lava_dl():
    class Theirs(TheirMixin, base.AbstractInput):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            assert self.synapse_params is None
            if self.neuron is not None:
                self.pre_hook_fx = self.neuron.quantize_8bit

    x = torch.rand(2, 3, 9)
    ours = cuba.Input(CUBA, weight=2.0, bias=0.25)
    assert ours(x).sum() > 0
    assert torch.equal(Theirs(CUBA, weight=2.0, bias=0.25)(x), ours(x))
    assert torch.equal(Theirs(None)(x), cuba.Input()(x))


def test_an_output_block_without_a_kind_as_in_lava_dl():
    class Theirs(sigma_delta.AbstractSDRelu):
        def __init__(self, neuron_params, in_neurons, out_neurons):
            self.neuron_params = neuron_params
            super().__init__()
            self.synapse = slayer.synapse.Dense(
                in_neurons, out_neurons, pre_hook_fx=self.neuron.quantize_8bit
            )

        def forward(self, x):
            return self.neuron.sigma(self.synapse(x))

    params = {"threshold": 0.1, "activation": torch.relu}
    torch.manual_seed(3)
    theirs = Theirs(params, 3, 2)
    torch.manual_seed(3)
    ours = sigma_delta.Output(params, 3, 2)
    x = torch.rand(2, 3, 9)
    assert torch.equal(theirs(x), ours(x))


def test_a_block_of_a_mixin_and_a_kind_alone_is_complete():
    class Mine(cuba.AbstractCuba, base.AbstractDense):
        pass

    class Longer(cuba.Dense):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.more = 1

    for block in (Mine(CUBA, 3, 2), Longer(CUBA, 3, 2)):
        assert block(torch.ones(1, 3, 4)).shape == (1, 2, 4)


@pytest.mark.parametrize("kind", [*JOINED, "Recurrent"])
def test_what_a_class_left_out_is_named(kind):
    _, arguments, shape = JOINED.get(kind, ("Dense", (5, 4), (2, 5, 9)))
    abstract = getattr(base, f"Abstract{kind}")(CUBA, *arguments)
    with pytest.raises(TypeError, match=f"Abstract{kind} has no synapse"):
        abstract(torch.zeros(shape))
    if kind == "Dense":
        abstract.synapse = slayer.synapse.Dense(**abstract.synapse_params)
        with pytest.raises(TypeError, match="has no neuron"):
            abstract(torch.zeros(shape))
