"""Spikes and encodings.

A spiking network passes *spikes* from layer to layer: tensors of zeros and ones, of shape `[batch,
neurons, time]`. Pictures, sounds and measurements are numbers, and there are several ways to turn
numbers into spikes. This page draws four of them; `lapilli.encode` has a function for each.
"""

import torch
from sklearn.datasets import load_digits

from lapilli import encode, plot

# %%
# The numbers are an image that comes with scikit-learn: a handwritten digit of 8 x 8 pixels, with
# grey levels from 0 to 16. We scale them to 0..1.

images, labels = load_digits(return_X_y=True)
image = torch.from_numpy(images[3] / 16).float()  # [64]
steps = 32
print(f"a {labels[3]}, grey levels {image.min()} to {image.max()}")

# %%
# ## Rate: how often
#
# The brighter a pixel, the more often its neuron spikes. `encode.rate` spaces the spikes evenly, so
# that the same picture always gives the same spikes; drawing them at random is as common, and
# noisier. A rate needs time: with 32 steps there are at most 33 different brightnesses.

rate = encode.rate(image.unsqueeze(0), steps, max_rate=0.5)[0]  # [64, 32]
torch.manual_seed(0)
chance = (torch.rand(64, steps) < image[:, None] / 2).float()

# %%
# ## Latency: how soon
#
# Each neuron spikes once: the brighter its pixel, the sooner. This takes one spike a pixel, and the
# answer of the network can come early. Black pixels do not spike at all.

latency = encode.latency(image.unsqueeze(0), steps)[0]  # [64, 32]

# %%
# ## Thermometer: how far up
#
# Several neurons share one value. Each has its own limit and spikes where the value is above it,
# like the mercury of a thermometer. That needs more neurons and no time at all: one step is enough.

thermometer = encode.thermometer(image.unsqueeze(0), [0.2, 0.4, 0.6, 0.8])[0]  # [256]

plot.raster(
    {"rate": rate, "at random": chance, "latency": latency},
    "encodings.png",
    "One digit as spikes, in three ways",
)
for name, spikes in {"rate": rate, "latency": latency, "thermometer": thermometer}.items():
    print(f"{name:<12}{int(spikes.sum()):4d} spikes of {spikes.numel()} possible")

# %%
# Each row of the picture is a neuron, that is a pixel; each mark is a spike. Rows with many marks
# in the upper two panels are bright pixels of the digit. The lowest panel holds one mark a row.
#
# ## Delta: only what changes
#
# A signal over time needs no rate. A *delta* encoder remembers the last value that it sent. When
# the signal has moved up by more than a threshold it sends a spike on its "up" neuron, and it sends
# one on the "down" neuron when the signal has moved down. Event cameras work like this, in every
# pixel. As a signal we take the image as a scanner sees it, line after line from left to right.

signal = image.view(8, 8).repeat_interleave(4, 1).flatten()  # 256 steps
threshold = 0.2
up, down = encode.delta(signal.view(1, 1, -1), threshold)[0]
rebuilt = threshold * (up - down).cumsum(0)
plot.traces({"signal": signal, "rebuilt from the spikes": rebuilt}, "delta.png", "Delta encoding")
print(f"{int(up.sum())} spikes up, {int(down.sum())} down, in {len(signal)} steps")
assert (signal - rebuilt).abs().mean() < threshold

# %%
# The lower curve is what a receiver that only counts the spikes knows: on average it is closer to
# the signal than one threshold. Where the signal jumps, the encoder needs a few steps to follow, as
# it sends one spike a step.
#
# ## No encoding at all
#
# The first layer of a network multiplies its input by weights, and nothing forces that input to be
# spikes. `Dense`, `Conv` and the other blocks take any real numbers: the layer's neurons then turn
# the weighted numbers into spikes, and training finds an encoding that suits the task. On a chip
# the first layer then has to be computed outside, or fed with graded spikes; for everything else
# this is the simplest start, and often the best: [spoken vowels](12_vowels.md) compares it with
# spikes.
#
# | encoding | spikes | time it needs | good for |
# |---|---|---|---|
# | rate | many | long | first experiments, noisy input |
# | latency | one a neuron | as long as the answer may take | few spikes, quick answers |
# | thermometer | one a limit | one step | static numbers |
# | delta | one a change | that of the signal | sound, sensors, event cameras |
# | none | none | that of the signal | training on the CPU or GPU |
#
# **Try next**: change `max_rate` and `threshold` and draw again. Then [one neuron by
# hand](02_one_neuron.md) shows what a neuron does with such spikes.
