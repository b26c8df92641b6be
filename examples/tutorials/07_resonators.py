"""Resonators that hear a frequency.

The state of a resonator turns at its own speed, and input in time with it builds up. A layer of
resonators with different periods takes a sound apart into its tones, as the inner ear does, and
neither filters nor Fourier transforms are needed. This page measures what such a layer hears, and
then lets a network learn to tell chords apart.
"""

import math

import torch
from matplotlib.figure import Figure

from lapilli import plot, slayer

# %%
# ## What one layer hears
#
# Twenty-four RF neurons, with periods from 6 to 40 steps. A neuron hears a tone best whose period
# is its own. We play each neuron each tone and look how far its state swings.

steps, periods = 240, torch.logspace(math.log10(6), math.log10(40), 24)


def wave(period, amplitude=0.1, phase=0.0):
    """Return a tone of the given period in steps, [steps]."""
    return amplitude * torch.cos(2 * math.pi * torch.arange(steps) / period + phase)


tones = torch.stack([wave(period) for period in periods]).unsqueeze(1)  # [tones, 1, steps]
heard = torch.empty(24, 24)  # [neurons, tones]
for i, period in enumerate(periods.tolist()):
    neuron = slayer.neuron.rf.Neuron(threshold=0.5, period=period, decay=0.03)
    real, _ = neuron.dynamics((tones, torch.zeros_like(tones)))
    heard[i] = real[:, 0, steps // 2 :].amax(-1).detach()  # once it swings steadily

figure = Figure(figsize=(6, 4.6), layout="constrained", dpi=110)
axes = figure.subplots()
image = axes.imshow(heard, origin="lower", cmap="viridis")
ticks = range(0, 24, 4)
axes.set_xticks(ticks, [f"{periods[i]:.0f}" for i in ticks])
axes.set_yticks(ticks, [f"{periods[i]:.0f}" for i in ticks])
axes.set(xlabel="period of the tone", ylabel="period of the neuron")
figure.colorbar(image, label="amplitude of the real part")
figure.savefig("tuning.png")
near = (heard.argmax(1) - torch.arange(24)).abs() <= 1
print(f"{int(near.sum())} of 24 neurons swing most for their own tone or its neighbour")
assert near.float().mean() > 0.9

# %%
# The bright diagonal says that each neuron hears its own tone. The threshold makes spikes of it: a
# neuron whose swing reaches the threshold spikes once a turn, the others are silent.
#
# ## A sound that rises
#
# In a chirp the tone rises from low to high. Each turn of the sound makes a group of neurons spike,
# and the group moves from the slow neurons, at the bottom, to the fast ones at the top.

instant = 40 * (6 / 40) ** (torch.arange(steps) / steps)  # period at each step, from 40 to 6
chirp = 0.15 * torch.cos(2 * math.pi * (1 / instant).cumsum(0)).view(1, 1, -1)
answers = torch.cat(
    [
        slayer.neuron.rf.Neuron(threshold=0.5, period=float(period), decay=0.1)(
            (chirp, torch.zeros_like(chirp))
        )[0].detach()
        for period in periods
    ]
)
plot.raster({"neurons, fast to slow": answers}, "chirp.png", "A chirp, heard by 24 resonators")

# %%
# ## Learning chords
#
# Four classes: chords of two tones each. Every single tone occurs in two of the chords, so hearing
# one tone is not enough. Loudness and phase differ from sample to sample, and noise is added. The
# network is a layer of RF-Izhikevich neurons, whose periods are drawn from a range and learned, and
# a readout.

pairs = ((8, 14), (8, 24), (18, 14), (18, 24))


def chords(samples):
    """Draw sounds [samples, 1, steps] and their classes."""
    labels = torch.arange(samples) % len(pairs)
    sounds = torch.stack(
        [
            sum(wave(p, 0.3 + 0.2 * torch.rand(1), 6.28 * torch.rand(1)) for p in pairs[k])
            for k in labels.tolist()
        ]
    )
    return (sounds + 0.1 * torch.randn(samples, steps)).unsqueeze(1), labels


torch.manual_seed(0)
train, train_labels = chords(200)
test, test_labels = chords(100)
ears = {
    "threshold": 1.0, "period": (6.0, 30.0), "decay": (0.03, 0.06), "tau_grad": 0.03,
    "scale_grad": 3, "requires_grad": True, "shared_param": False,
}  # fmt: skip
readers = {
    "threshold": 1.0,
    "current_decay": 0.3,
    "voltage_decay": 0.1,
    "tau_grad": 0.1,
    "scale_grad": 5,
}
net = torch.nn.Sequential(
    slayer.block.rf_iz.Dense(ears, 1, 48), slayer.block.cuba.Dense(readers, 48, 4)
)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
losses = []
for _ in range(20):
    for index in torch.randperm(len(train)).split(25):
        rates = net(train[index]).mean(-1)
        value = torch.nn.functional.cross_entropy(20 * rates, train_labels[index])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    losses.append(float(value.detach()))
with torch.no_grad():
    guess = net(test).mean(-1).argmax(1)
found = float((guess == test_labels).float().mean())
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}, test accuracy {found:.0%}; chance is 25 %")
assert found > 0.8

with torch.no_grad():
    hidden = net[0](test[:4])
plot.raster(
    {f"chord of {a} and {b}": spikes for (a, b), spikes in zip(pairs, hidden, strict=True)},
    "chords.png",
    "What the learned resonators make of four chords",
)

# %%
# Which neurons spike, and in which rhythm, differs from chord to chord: the readout only has to
# count.
#
# **Try next**: ALIF or CUBA in place of the resonators, which have no period; chords of three
# tones; a recording of your own, scaled to about 0.3. Resonators with `delay=True` can also wait
# for each other.
