"""Synapses with a bias: dense and by events, complex, recurrent, compiled."""

import pytest
import torch
from known import present
from lapilli.blocks import complex_synapse, cuba, rf, synapse
from lapilli.neurons import cuba as cuba_neuron
from synapse_kinds import CUBA, RF, by_torch, learned, made, on_grid

from lapilli import export, slayer


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
    assert present(block.recurrent_synapse.bias.grad).abs().sum() > 0


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
