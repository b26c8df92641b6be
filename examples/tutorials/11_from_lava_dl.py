"""Moving a lava-dl project in an afternoon.

You have a project that trains with lava-dl's `slayer`. This page moves one to lapilli, step by
step: one line makes it run, a few more make it shorter, safer and faster. The reference of all
differences is [moving from lava-dl](../migration.md).
"""

import time

import h5py
import torch
from matplotlib.figure import Figure

from lapilli import data, export, slayer  # slayer before: import lava.lib.dl.slayer as slayer

# %%
# ## Step 1: the import
#
# This is the only line that has to change. What follows is the form of lava-dl's tutorials: a
# module with a list of blocks, an `Assistant` that runs the steps, `LearningStats`, and a method
# that writes the network file.


class Network(torch.nn.Module):
    """A network as in lava-dl's tutorials; nothing here is changed."""

    def __init__(self):
        super().__init__()
        neuron_params = {
            "threshold": 1.25,
            "current_decay": 0.25,
            "voltage_decay": 0.03,
            "tau_grad": 0.03,
            "scale_grad": 3,
            "requires_grad": True,
        }
        self.blocks = torch.nn.ModuleList(
            [
                slayer.block.cuba.Dense(neuron_params, 64, 128, weight_norm=True, delay=True),
                slayer.block.cuba.Dense(neuron_params, 128, 10, weight_norm=True),
            ]
        )

    def forward(self, spike):
        """Run the blocks one after another."""
        for block in self.blocks:
            spike = block(spike)
        return spike

    def export_hdf5(self, filename):
        """Write the network, a group for each block."""
        with h5py.File(filename, "w") as file:
            layer = file.create_group("layer")
            for i, block in enumerate(self.blocks):
                block.export_hdf5(layer.create_group(f"{i}"))


digits = data.digits(steps=32)
torch.manual_seed(0)
net = Network()
error = slayer.loss.SpikeRate(true_rate=0.2, false_rate=0.03, reduction="sum")
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
stats = slayer.utils.LearningStats()
assistant = slayer.utils.Assistant(
    net, error, optimizer, stats, classifier=slayer.classifier.Rate.predict
)
start = time.perf_counter()
for _ in range(10):
    for index in torch.randperm(len(digits.train)).split(32):
        batch = digits.train.take(index)
        assistant.train(batch.spikes, batch.labels)
    assistant.test(digits.test.spikes, digits.test.labels)
    stats.update()
print(f"10 epochs in {time.perf_counter() - start:.1f} s, kernels compiled included")
print(f"test accuracy {stats.testing.accuracy_log[-1]:.1%}")
assert stats.testing.accuracy_log[-1] > 0.9
net.export_hdf5("as-before.net")

# %%
# ## Step 2: the numbers
#
# The same weights give the same spikes, bit for bit: the tests hold 836 cases that lava-dl
# computed. To see it in your project, save a state dict and a batch there, load both here, and
# compare:
#
#     net.load_state_dict(torch.load("from-lava-dl.pt"))
#     assert torch.equal(net(spikes), output_of_lava_dl)
#
# Trainings then agree step by step, except where lava-dl moves learned decays in the wrong
# direction. lapilli moves them downhill; `lapilli.set_decay_gradient("lava-dl")` restores the old
# sign for a comparison.
#
# ## Step 3: what you can delete
#
# - `export_hdf5` of the network: `export.save` finds the blocks, runs the network once on a probe,
#   compares the file with it, and says what netx cannot run.
# - A loop over blocks in `forward`, where it is one chain: `torch.nn.Sequential` does.
# - Code that waits for a compiler, or that keeps the CUDA toolkit in step with torch: nothing is
#   built.

sequential = torch.nn.Sequential(*net.blocks).eval()
export.save(sequential, "network.net")
print(export.check("network.net") or "nothing stands against deploying it")

# %%
# Both files hold the same network:

old, new = export.load("as-before.net"), export.load("network.net")
with torch.no_grad():
    assert torch.equal(old(digits.test.spikes), new(digits.test.spikes))
print("the file of the old method and that of export.save give equal spikes")

# %%
# ## Step 4: look at what you could not see
#
# `Activity` counts spikes and silent neurons of every layer, `check` and `budget` tell what the
# chip will say, and `torch.compile`, `torch.export` and several GPUs work on the network as it is.

import lapilli  # noqa: E402 (where the text needs it)

with torch.no_grad(), lapilli.Activity(sequential) as activity:
    sequential(digits.test.spikes)
print(*activity.layers(), sep="\n")
assert activity.layers()[0].silent > 0.3 * 128

figure = Figure(figsize=(9, 3), layout="constrained", dpi=110)
losses, delays = figure.subplots(1, 2)
losses.plot(stats.training.loss_log, "o-", label="training")
losses.plot(stats.testing.loss_log, "o-", label="test")
losses.set(xlabel="epoch", ylabel="loss a sample", yscale="log")
losses.legend()
learned = net.blocks[0].delay.delay.detach().floor().flatten()
delays.hist(learned, bins=range(int(learned.max()) + 2))
delays.set(xlabel="learned delay in steps", ylabel="neurons")
figure.savefig("training.png")

# %%
# A good part of the hidden layer never spikes on the test samples: neurons that could be saved, or
# put to work. [Rates](../rates.md) says how.
#
# ## Step 5: speed
#
# Nothing has to be set. If a step is still slow, [speed](../speed.md) has the few switches there
# are: sparse input, larger batches, fused Adam, `torch.compile`.
#
# ## When something differs
#
# Search [moving from lava-dl](../migration.md) for the name: every difference that is meant is a
# row there, with its reason. Classes of your own that derive from lava-dl's abstract blocks work as
# before. An error message says what was given and what is expected; if it does not help, that is a
# bug.
#
# **Try next**: your own script. Change the import, run its tests, compare a batch.
