"""A script with a mistake on each marked line, which type checkers find."""

import torch
from lapilli.slayer.block.cub import Conv  # wrong

from lapilli import export, loss, slayer
from lapilli.slayer.block.cuba import Dense
from lapilli.slayer.block.rf import Dnse  # wrong

neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}


class Layer(slayer.block.rf.AbstractRF, slayer.block.base.AbstractDense):
    """Written as in lava-dl."""


layers = (Conv, Dnse)
right = Dense(neuron, 34, 64, weight_norm=True)
Dense(neuron, "a", 64)  # wrong
Dense(neuron, 34, 64, weight_nrm=True)  # wrong
Dense(neuron, 34)  # wrong
Dense(neuron, 34, 64, synapse="event")  # wrong
Layer(neuron, 34, 64, kernel_size=3)  # wrong
slayer.block.sigma_delta.Output(neuron, 34, 64, delay_shift=True)  # wrong
slayer.block.alif.Recurrent(neuron, 3, 4, gradient="whole")  # wrong
slayer.block.cuba.Dnse(neuron, 3, 4)  # wrong
slayer.blocks.cuba.Dense(neuron, 3, 4)  # wrong
slayer.neuron.rf.Neuron(1.0, 8, 0.1, current_decay=0.5)  # wrong
slayer.synapse.complex.Conv(2, 3, "3")  # wrong
slayer.axon.Delay(max=62)  # wrong
right.neuron.curent_decay.clamp_(0, 1)  # wrong
right.forward([1.0])  # wrong
loss.SpikeRate(0.2, 0.03, reduction="max")  # wrong
slayer.classifier.Rate(0.5)  # wrong
slayer.utils.quantize(torch.ones(3), mod=1)  # wrong
export.save(right, "network.net", taget="lapilli")  # wrong
export.load(5)  # wrong
