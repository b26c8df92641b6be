"""Events from a camera, with convolutions.

An event camera has no frames. Each pixel reports when it gets brighter or darker: an *event* with
a place, a polarity and a time. This page makes events of real images in motion, stores them as
files, and trains a convolutional network that reads the files.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import lapilli
from lapilli import loss, plot, slayer
from lapilli.classifier import Rate

# %%
# ## Recording
#
# N-MNIST was made by moving a camera in front of handwritten digits. We do the same with
# scikit-learn's digits: each image moves along a triangle over a field of 16 x 16 pixels, and a
# pixel reports an event where its brightness changed by more than 0.4 since its last one.

size, steps = 16, 30
images, labels = load_digits(return_X_y=True)
images = torch.from_numpy(images / 16).float().view(-1, 8, 8)
samples = 500
corners = torch.tensor([[0, 0], [4, 8], [8, 0], [0, 0]])


def record(image):
    """Move an image [8, 8] along a triangle; returns events [2, size, size, steps]."""
    seen, film = torch.zeros(size, size), torch.zeros(2, size, size, steps)
    part = steps // 3
    for t in range(steps):
        start, end = corners[t // part], corners[t // part + 1]
        y, x = (start + (end - start) * (t % part) / part).round().int().tolist()
        now = torch.zeros(size, size)
        now[y : y + 8, x : x + 8] = image
        film[0, ..., t] = now < seen - 0.4
        film[1, ..., t] = now > seen + 0.4
        seen = torch.where(film[..., t].any(0), now, seen)
    return film


# %%
# Events are stored as lists, which is much smaller than a film. `slayer.io` writes and reads the
# formats of lava-dl; this one is that of N-MNIST. Other formats are in [data sets](../datasets.md).

for i in range(samples):
    folder = Path("films") / str(labels[i])
    folder.mkdir(parents=True, exist_ok=True)
    slayer.io.encode_2d_spikes(
        folder / f"{i:04d}.bin", slayer.io.tensor_to_event(record(images[i]))
    )

files = sorted(Path("films").glob("*/*.bin"))
event = slayer.io.read_2d_spikes(files[0])
print(f"{files[0]}: {len(event)} events in {files[0].stat().st_size} bytes")

figure = Figure(figsize=(9, 2.6), layout="constrained", dpi=110)
for axes, t in zip(figure.subplots(1, 5), (1, 5, 9, 14, 24), strict=True):
    film = event.fill_tensor(torch.zeros(2, size, size, steps))
    axes.imshow(film[1, ..., t] - film[0, ..., t], cmap="RdBu", vmin=-1, vmax=1)
    axes.set(title=f"step {t}", xticks=[], yticks=[])
figure.suptitle("A digit in motion: brighter (blue) and darker (red) pixels")
figure.savefig("events.png")

# %%
# Only the edges that move are seen. `fill_tensor` sorts events into time steps.

spikes = torch.stack(
    [slayer.io.read_2d_spikes(f).fill_tensor(torch.zeros(2, size, size, steps)) for f in files]
)
classes = torch.tensor([int(f.parent.name) for f in files])
torch.manual_seed(0)
order = torch.randperm(samples)
train, test = order[: samples * 4 // 5], order[samples * 4 // 5 :]
print(f"{tuple(spikes.shape)}, {float(spikes.mean()):.1%} of the entries are events")

# %%
# ## The network
#
# `Conv` slides small filters over the image, as in any convolutional network, and `stride=2` halves
# its sides. After `Flatten`, a dense layer decides. Layers of convolutions often start too quiet or
# too loud: `init_rates_` scales the weights so that each layer starts with 5 % of its neurons
# spiking.

neuron = {
    "threshold": 1.0,
    "current_decay": 0.3,
    "voltage_decay": 0.1,
    "tau_grad": 0.05,
    "scale_grad": 3,
}
block = slayer.block.cuba
net = torch.nn.Sequential(
    block.Conv(neuron, 2, 8, 3, padding=1, stride=2, weight_norm=True),
    block.Conv(neuron, 8, 16, 3, padding=1, stride=2, weight_norm=True),
    block.Flatten(),
    block.Dense(neuron, 16 * 4 * 4, 10, weight_norm=True),
)
for layer in lapilli.init_rates_(net, spikes[train[:64]], rate=0.05):
    print(layer)

# %%
# ## Training

error = loss.SpikeRate(true_rate=0.3, false_rate=0.02)
epochs, batch = 15, 40
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=0.02, total_steps=epochs * len(train) // batch
)
for epoch in range(epochs):
    total = 0.0
    for index in train[torch.randperm(len(train))].split(batch):
        value = error(net(spikes[index]), classes[index])
        optimizer.zero_grad()
        (value / batch).backward()
        optimizer.step()
        schedule.step()
        total += float(value) / len(train)
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: loss {total:.4f}")

with torch.no_grad(), lapilli.Activity(net) as activity:
    guess = Rate.predict(net(spikes[test]))
found = float((guess == classes[test]).float().mean())
print(f"test accuracy {found:.0%} with {len(train)} training samples; chance is 10 %")
print(*activity.layers(), sep="\n")
assert found > 0.6

# %%
# With 400 films to learn from, the network reads far more than chance. `Activity` counts how much
# each layer spikes: on the chip, and on the CPU, work goes with the number of spikes.
#
# ## What the filters look for

weights = net[0].synapse.effective_weight()[:, 1, ..., 0].detach()
figure = Figure(figsize=(9, 1.6), layout="constrained", dpi=110)
for axes, weight in zip(figure.subplots(1, 8), weights, strict=True):
    axes.imshow(weight, cmap="RdBu", vmin=-weight.abs().max(), vmax=weight.abs().max())
    axes.set(xticks=[], yticks=[])
figure.suptitle("Filters of the first layer on pixels that get brighter")
figure.savefig("filters.png")
plot.raster(
    {"output": net(spikes[test[:1]])[0].detach()}, "output.png", f"Output for a {classes[test[0]]}"
)

# %%
# **Try next**: more samples, `delay=True` in the convolutions, a third layer. `lapilli train nmnist
# --data FOLDER` trains on the real N-MNIST, and [your own recordings](../own-data.md) says how to
# train on what your camera wrote.
