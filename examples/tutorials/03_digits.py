"""Digits, from pixels to a Loihi file.

The whole way once: images become spikes, a network learns to read them, and a file is written that
Lava deploys on Loihi 2. `lapilli train digits` does the same in one command; here is what it does.
"""

import time

import torch

from lapilli import export, loss, plot, slayer
from lapilli.classifier import Rate
from lapilli.data import digits
from lapilli.training import Epoch

# %%
# ## The data
#
# 1,797 handwritten digits of 8 x 8 pixels come with scikit-learn. `digits` turns grey levels into
# rates, as in [spikes and encodings](01_spikes.md), and holds a fifth of the samples back for
# testing.

data = digits(steps=32)
train, test = data.train, data.test
print("training:", tuple(train.spikes.shape), "test:", tuple(test.spikes.shape))

# %%
# ## The network
#
# Two layers: 64 pixels to 128 hidden neurons to 10 output neurons, one for each digit.
# `requires_grad` lets training change the decays too; `tau_grad` sets how far from its threshold a
# neuron still learns (see [gradients](../gradients.md)).

torch.manual_seed(0)
neuron = {
    "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03,
    "requires_grad": True,
}  # fmt: skip
net = torch.nn.Sequential(
    slayer.block.cuba.Dense(neuron, 64, 128, weight_norm=True),
    slayer.block.cuba.Dense(neuron, 128, 10, weight_norm=True),
)

# %%
# ## Training
#
# The loss wants a rate of 0.3 spikes a step from the neuron of the right class, and none from the
# others. `Rate.predict` reads the answer: the neuron that spiked most.

epochs, batch = 12, 72
error = loss.SpikeRate(true_rate=0.3, false_rate=0.0)
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
steps = epochs * (len(train) // batch)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps)


def accuracy(samples):
    """Share of samples that the network reads correctly."""
    net.eval()
    with torch.no_grad():
        right = Rate.predict(net(samples.spikes)) == samples.labels
    net.train()
    return float(right.float().mean())


history = []
for number in range(1, epochs + 1):
    start, total = time.perf_counter(), 0.0
    for index in torch.randperm(len(train))[: len(train) // batch * batch].view(-1, batch):
        samples = train.take(index)
        value = error(net(samples.spikes), samples.labels)
        optimizer.zero_grad()
        (value / batch).backward()
        optimizer.step()
        schedule.step()
        total += float(value) / len(train)
    seconds = time.perf_counter() - start
    history.append(Epoch(number, total, accuracy(train), accuracy(test), seconds))
plot.training_curves(history, "training.png", "Reading digits")
print(f"test accuracy {history[-1].test_accuracy:.1%}")
assert history[-1].test_accuracy > 0.95

# %%
# More than 95 % of the test digits are read correctly. The curves should fall and rise together; a
# training curve that goes on while the test curve falls is overfitting.
#
# ## Looking inside

sample, label = test.spikes[:1], int(test.labels[0])
hidden = net[0](sample)
output = net[1](hidden)
plot.raster(
    {"input": sample[0], "hidden": hidden[0].detach(), "output": output[0].detach()},
    "raster.png",
    f"A {label} on its way through the network",
)

# %%
# In the lowest panel, one row spikes far more often than the others: the answer.
#
# ## The file for Loihi
#
# `save` writes the integers of the chip: weights of eight bits, decays and thresholds. It reads the
# file back and compares it with the network. `check` says whether Lava can deploy it, and `budget`
# what it takes of a chip.

net.eval()
export.save(net, "digits.net")
print(export.format_table(export.inspect("digits.net")))
print(export.check("digits.net") or "nothing stands against deploying it")
print(export.budget("digits.net"))

# %%
# What is in the file is what was trained: the network that is read from it gives the same spikes,
# and so does a second program, which computes in integers only, as the chip does.

same = export.load("digits.net")
with torch.no_grad():
    trained = net(test.spikes)
    assert torch.equal(same(test.spikes), trained)
integers = export.run("digits.net", test.spikes.numpy())
assert (integers.output == trained.numpy()).all()
print("file, network and integers: equal spikes")

# %%
# In Lava, on a machine with Loihi 2 or with its simulation on the CPU:
#
#     from lava.lib.dl.netx import hdf5
#     net = hdf5.Network(net_config="digits.net")
#
# **Try next**: fewer hidden neurons, fewer steps, a sparser loss (`true_rate=0.1`).
# [Quantisation](09_quantisation.md) shows what eight bits do to the weights.
