"""Quantisation, and what the chip will see.

Loihi computes with integers. lapilli trains with those integers from the start: what you measure
in training is what the chip does. This page looks at the integers, and at what coarser ones would
cost.
"""

import torch
from matplotlib.figure import Figure

from lapilli import data, export, loss, plot, slayer
from lapilli.classifier import Rate
from lapilli.training import Rates, fit

# %%
# ## Train as usual

digits = data.digits(steps=24)
torch.manual_seed(0)
neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03}
net = torch.nn.Sequential(
    slayer.block.cuba.Dense(neuron, 64, 64), slayer.block.cuba.Dense(neuron, 64, 10)
)
history = list(
    fit(net, digits, loss.SpikeRate(0.3, 0.0), epochs=8, batch_size=72, rates=Rates(0.02, 0.02))
)
net.eval()
print(f"test accuracy {history[-1].test_accuracy:.1%}")

# %%
# ## Weights
#
# The optimiser moves float weights. The forward pass rounds them to even multiples of 1/64, from -4
# to almost 4: eight bits. The backward pass ignores the rounding, so that small steps add up until
# they pass to the next level. `effective_weight` gives what forward uses.

stored = net[0].synapse.weight.detach()
used = net[0].synapse.effective_weight().detach()
print(f"float weights: {stored.unique().numel()} values, used: {used.unique().numel()}")
print(f"largest difference {float((stored - used).abs().max()):.5f}; half a level is {1 / 64:.5f}")
assert (stored - used).abs().max() < 2 / 64
plot.histograms(
    {"as the optimiser holds them": stored, "as the network uses them": used},
    "weights.png", "Weights of the first layer", xlabel="weight",
)  # fmt: skip

# %%
# Most weights are small, so that many levels are never used. That is the first thing to look at
# when a network loses accuracy: a larger `weight_scale`, or `init_rates_`, spreads them over more
# levels.
#
# ## How many bits are needed?
#
# We round the trained weights to fewer levels and test, without training again.


def accuracy():
    """Share of the test samples that the network reads correctly."""
    with torch.no_grad():
        right = Rate.predict(net(digits.test.spikes)) == digits.test.labels
    return float(right.float().mean())


kept = {name: value.clone() for name, value in net.state_dict().items()}
results = {}
for bits in (8, 6, 5, 4, 3, 2):
    with torch.no_grad():
        for layer in net:
            weight = layer.synapse.weight
            level = float(weight.abs().max()) / 2 ** (bits - 1)
            weight.copy_((weight / level).round() * level)
    results[bits] = accuracy()
    print(f"{bits} bits: {results[bits]:.1%}")
    net.load_state_dict(kept)
assert results[8] > 0.9

figure = Figure(figsize=(6, 3), layout="constrained", dpi=110)
axes = figure.subplots()
axes.plot(list(results), list(results.values()), "o-")
axes.set(xlabel="bits a weight", ylabel="test accuracy", xlim=(8.3, 1.7))
axes.grid(alpha=0.3)
figure.savefig("bits.png")

# %%
# Digits need few bits. A network that needs all eight shows it here by falling at once.
#
# ## Decays and thresholds
#
# Decays are stored in 12 bits, thresholds as multiples of 1/64. A decay of 0.0001 would become 0,
# and the neuron would never forget; `device_params` shows what the chip gets.

print(net[0].neuron.device_params)

# %%
# ## States
#
# Currents and voltages of the chip have 24 bits. Training lets them grow beyond; the chip would
# not. `check` runs the network on your data in integers and counts what leaves the range.

export.save(net, "digits.net")
findings = export.check("digits.net", data=digits.test.spikes.numpy())
print(findings or "no state leaves 24 bits on the test samples")
run = export.run("digits.net", digits.test.spikes.numpy(), overflow="loihi")
with torch.no_grad():
    assert (run.output == net(digits.test.spikes).numpy()).all()
print(f"{run.overflows} overflows; the integers give the same spikes as training")

# %%
# ## What it takes
#
# `budget` with data also counts how much the network works: operations go with spikes.

print(export.budget("digits.net", digits.test.spikes[:50].numpy()))

# %%
# **Try next**: prune small weights to zero (`net[0].synapse.weight` and `torch.nn.utils.prune`) and
# look at the budget again. [Network files](../network-files.md) has the limits, and what netx
# deploys.
