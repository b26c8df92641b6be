"""Synapses under torch's own tools: weight norm, pruning, parametrisations, and others."""

import copy
from typing import Any

import pytest
import torch
from lapilli.blocks import cuba, rf
from synapse_kinds import CUBA, RF, by_torch, learned, made, on_grid, weights
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

# weight norm, in each of torch's three forms


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
    block: Any = rf.Dense(RF, 5, 4)
    calls = []
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
    module.eval()
    norm.eval()
    fused = torch.nn.utils.fuse_conv_bn_eval(module, norm, transpose=kind == "ConvTranspose")
    assert type(fused) is type(module)
    torch.testing.assert_close(fused(x), norm(module(x)), rtol=1e-4, atol=1e-5)


def test_flops_of_a_dense_product_are_counted():
    module, x = made("Conv")
    with FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() == 2 * 4 * 2 * 9 * 5 * 6 * 14


def test_memory_formats_change_nothing():
    module, x = made("Conv")
    y = module(x)
    torch.nn.utils.convert_conv3d_weight_memory_format(module, torch.channels_last_3d)
    torch.testing.assert_close(module(x), y)
