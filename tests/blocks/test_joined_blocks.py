"""Blocks that users join themselves from a mixin and a kind, as they did for lava-dl."""

from typing import Any

import pytest
import torch
from lapilli.blocks import base, cuba, sigma_delta
from synapse_kinds import CUBA

from lapilli import slayer


class TheirMixin(torch.nn.Module):
    neuron_params: Any

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
        synapse_params: Any
        recurrent_params: Any

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
