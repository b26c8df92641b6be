"""Recurrent and KWTA: arguments and inputs that they refuse, at once and when set later."""

import pytest
import torch
from recurrent_kinds import events, make
from torch.testing import assert_close

from lapilli import neurons

ERRORS = [
    ("KWTA", {"num_winners": 6}, "num_winners must be between 1 and out_neurons = 5; got 6"),
    ("KWTA", {"num_winners": 0}, "num_winners must be an integer of at least 1; got 0"),
    ("KWTA", {"num_winners": 1.5}, "num_winners must be an integer of at least 1; got 1.5"),
    ("Recurrent", {"inputs": (2, 3)}, r"in_neurons must be an integer of at least 1; got \(2, 3\)"),
    ("Recurrent", {"gradient": "all"}, "gradient must be one of 'lava-dl', 'full', 'bounded'; got"),
    ("Recurrent", {"gradient": "full", "neuron": {"norm": neurons.norm.MeanOnlyBatchNorm}},
     "gradient='full' cannot go through what acts step by step; got a norm"),
    ("KWTA", {"gradient": "full", "neuron": {"dropout": neurons.Dropout()}},
     "gradient='full' cannot go through what acts step by step; got dropout"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "message"), ERRORS)
def test_wrong_arguments_raise(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make("cuba", kind, **options)


def test_wrong_inputs_raise():
    with pytest.raises(ValueError, match=r"Recurrent takes \[batch, channels, time\]; got shape"):
        make("cuba", "Recurrent")(torch.zeros(1, 6, 1, 1, 4))
    with pytest.raises(ValueError, match="one competition of 5 neurons; got input of shape"):
        make("cuba", "KWTA")(torch.zeros(1, 6, 2, 2, 4))
    with pytest.raises(ValueError, match="expects 6 channels; got 7"):
        make("cuba", "Recurrent")(torch.zeros(1, 7, 4))
    block = make("cuba", "Recurrent", gradient="full")
    block.neuron.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="got a forward hook of the neuron"):
        block(events())
    block = make("cuba", "Recurrent", gradient="full")
    block.recurrent_synapse.register_full_backward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="got a hook or a forward that the recurrent synapse"):
        block(events())


def test_what_is_set_later_is_checked_like_an_argument():
    block = make("cuba", "KWTA")
    with pytest.raises(ValueError, match="num_winners must be between 1 and out_neurons = 5"):
        block.num_winners = 6
    with pytest.raises(ValueError, match=r"gradient must be one of .*; got 'none'"):
        block.gradient = "none"
    assert (block.num_winners, block.gradient) == (2, "lava-dl")
    coarse, x = {"scale": 2, "threshold": 3.0}, events()
    block, fewer = (make("cuba", "KWTA", neuron=coarse, num_winners=k) for k in (5, 1))
    assert not torch.equal(block(x), fewer(x))
    block.num_winners = 1
    assert_close(block(x), fewer(x), rtol=0, atol=0)
