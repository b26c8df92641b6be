"""A script as users write it, in which type checkers find nothing."""

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import lapilli
from lapilli import export, loss, slayer
from lapilli.slayer.block.cuba import Dense
from lapilli.slayer.utils.filter.fir import FIR

neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "requires_grad": True}
turning = {"threshold": 1.0, "period": 8, "decay": 0.1}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                slayer.block.cuba.Input(neuron, weight=1.0),
                slayer.block.cuba.Dense(neuron, 34, 64, weight_norm=True, delay=True),
                Dense(neuron, 64, 5, pre_hook_fx=None, synapse="events"),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Layer(slayer.block.rf.AbstractRF, slayer.block.base.AbstractDense):
    """Written as in lava-dl."""


net = Network()
spikes: Tensor = net(torch.zeros(2, 34, 10))
layer = Layer(turning, 5, 3, delay_shift=False)
spikes = layer(spikes)
dense = Dense(neuron, in_neurons=(4, 4, 2), out_neurons=3)
recurrent = slayer.block.alif.Recurrent(neuron, 3, 4, gradient="full")
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

assert_type(dense, lapilli.blocks.cuba.Dense)
assert_type(dense.neuron, lapilli.neurons.cuba.Neuron)
assert_type(dense.neuron.threshold, float)
assert_type(dense.neuron.current_decay, nn.Parameter)
assert_type(dense.neuron.voltage_state, Tensor)
assert_type(dense.neuron.norm, nn.Module | None)
assert_type(dense.mask, Tensor | None)
assert_type(dense.forward(spikes), Tensor | tuple[Tensor, Tensor])
assert_type(recurrent.spike_state, Tensor)
assert_type(slayer.synapse.complex.Dense(3, 4).real, slayer.synapse.layer.GenericLayer)
assert_type(slayer.block.rf.Input(turning).weight, nn.Parameter | None)

rates = loss.SpikeRate(true_rate=0.2, false_rate=0.03, reduction="mean")
assert_type(rates.forward(spikes, torch.zeros(2, dtype=torch.int64)), Tensor)
assert_type(slayer.classifier.Rate.predict(spikes), Tensor)
assert_type(slayer.utils.time.shift(spikes, 2), Tensor)
assert_type(slayer.axon.delay(spikes, 2), Tensor)
assert_type(slayer.utils.quantize(spikes, step=2), Tensor)
assert_type(slayer.io.read_1d_spikes("events.bs1"), slayer.io.Event)
stats = slayer.utils.LearningStats()
assistant = slayer.utils.Assistant(net, rates, optimizer, stats, slayer.classifier.Rate.predict)
slayer.neuron.rf.TAU_RHO_MULT = 0.25
FIR(length=8)

assert_type(lapilli.init_rates_(net, spikes, {"0": 0.1}), list[lapilli.LayerStart])
with lapilli.Activity(net, warn_silent=0.5) as activity:
    net(spikes)
assert_type(activity.layers()[0].silent, int)

export.save(net, "network.net", target="lapilli")
assert_type(export.load("network.net"), export.Network)
assert_type(export.check(net), list[export.Finding])
assert_type(slayer.auto.SequentialNetwork("network.net").blocks, nn.ModuleList)
