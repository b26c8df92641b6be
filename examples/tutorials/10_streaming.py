"""Streaming, one step at a time.

A sensor does not wait until a recording is complete. This page runs a trained network step by
step, as a robot would, and reads its answer while the input still comes in.
"""

import time

import torch
from matplotlib.figure import Figure

import lapilli
from lapilli import data, export, loss, slayer
from lapilli.classifier import MovingWindow
from lapilli.training import Rates, fit

# %%
# ## A trained network, from its file
#
# `voltage_decay` is larger than in the other tutorials: a neuron that remembers for long would
# still answer for the digit before.

digits = data.digits(steps=32)
torch.manual_seed(0)
neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.15, "tau_grad": 0.03}
net = torch.nn.Sequential(
    slayer.block.cuba.Dense(neuron, 64, 64, delay=True), slayer.block.cuba.Dense(neuron, 64, 10)
)
history = list(
    fit(net, digits, loss.SpikeRate(0.3, 0.0), epochs=8, batch_size=72, rates=Rates(0.02, 0.02))
)
print(f"test accuracy {history[-1].test_accuracy:.1%}")
export.save(net.eval(), "digits.net")

# %%
# `persistent_state=True` makes every layer go on where its last call ended: voltages, currents, and
# the spikes that are still on their way through a delay.

stream = export.load("digits.net", persistent_state=True)

# %%
# ## Step by step
#
# Three digits come one after another, without a gap. We hand over one step at a time, `[1, 64, 1]`,
# and compare with a run over everything at once.

shown = [7, 3, 0]
first = [int((digits.test.labels == digit).nonzero()[0]) for digit in shown]
film = torch.cat([digits.test.spikes[k] for k in first], -1).unsqueeze(0)  # [1, 64, 96]
answers = []
with torch.no_grad():
    for t in range(film.shape[-1]):
        answers.append(stream(film[..., t : t + 1]))
    streamed = torch.cat(answers, -1)

    whole = export.load("digits.net")(film)
assert torch.equal(streamed, whole)
print("96 calls of one step and one call of 96 steps: equal bits")

# %%
# Pieces may have any length. Before the next recording, forget the last one; otherwise the first
# steps would still hear it:

lapilli.reset_state(stream)

# %%
# ## Answers on the way
#
# `MovingWindow` counts the spikes of the last 16 steps and turns them into a confidence for each
# class, at every step.

confidence = MovingWindow(time_window=16).confidence(streamed)[0]  # [10, 96]
figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=110)
axes = figure.subplots()
for digit, line in enumerate(confidence):
    axes.plot(line, lw=2 if digit in shown else 0.7, label=f"{digit}")
for k, digit in enumerate(shown):
    axes.axvspan(32 * k, 32 * (k + 1), color="grey", alpha=0.12 if k % 2 else 0.04)
    axes.text(32 * k + 1, 1.02, f"a {digit} is shown")
axes.set(xlabel="time step", ylabel="confidence", ylim=(0, 1.12), xlim=(0, 96))
axes.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
figure.savefig("confidence.png")
found = confidence[:, [31, 63, 95]].argmax(0).tolist()
print(f"shown: {shown}, answers at the end of each: {found}")
assert found == shown

# %%
# After a digit changes, the old answer fades within a window and the new one takes over.
#
# ## How quick is a step?
#
# On a CPU, without gradients, a layer of CUBA or ALIF neurons takes a prepared way for calls of one
# step.

step = film[..., :1].contiguous()
with torch.no_grad():
    for _ in range(50):
        stream(step)
    start = time.perf_counter()
    for _ in range(500):
        stream(step)
    each = (time.perf_counter() - start) / 500
print(f"a step of the whole network takes {1e6 * each:.0f} microseconds here")
assert each < 0.01

# %%
# **Try next**: stop as soon as the confidence is above 0.8, and count how many steps that saves.
# [PyTorch](../pytorch.md) says what persists, and what persistent state means for training.
