"""Learned delays.

A spike that travels an axon takes time. Blocks with `delay=True` learn how long: a delay of whole
steps for each of their neurons, which the chip holds too. This page gives a network a task that is
about nothing but timing, and shows how delays solve it.
"""

import torch
from matplotlib.figure import Figure

from lapilli import export, loss, plot, slayer
from lapilli.classifier import Rate

# %%
# ## A task of timing
#
# Four channels spike once each, in one of four orders, with gaps of a few steps. Every channel
# spikes once in every sample, so counting tells nothing. Noise moves each spike by a step at most,
# and adds a few spikes.

steps, channels, classes = 60, 4, 4
torch.manual_seed(0)
pattern = torch.tensor([[0, 8, 16, 24], [24, 16, 8, 0], [0, 24, 8, 16], [16, 0, 24, 8]])


def sample(count):
    """Draw spikes [count, channels, steps] and the class of each."""
    labels = torch.arange(count) % classes
    start = torch.randint(2, 12, (count, 1))
    times = start + pattern[labels] + torch.randint(-1, 2, (count, channels))
    spikes = torch.nn.functional.one_hot(times, steps).float()
    noise = (torch.rand_like(spikes) < 0.01).float()
    return torch.maximum(spikes, noise), labels


train, train_labels = sample(400)
test, test_labels = sample(200)
plot.raster({f"class {k}": test[k] for k in range(classes)}, "task.png", "One sample of each class")

# %%
# ## With and without delays
#
# The neurons forget within a few steps (`current_decay` and `voltage_decay` are large), so that
# spikes only add up when they arrive together. A first layer relays the channels and may delay what
# it sends; a second decides. `max_delay` bounds what is learned; the chip allows 62 steps.

neuron = {
    "threshold": 1.0,
    "current_decay": 0.6,
    "voltage_decay": 0.4,
    "tau_grad": 0.1,
    "scale_grad": 5,
}


def network(delay):
    """Make a network whose first layer learns delays, or has none."""
    torch.manual_seed(1)
    block = slayer.block.cuba
    net = torch.nn.Sequential(
        block.Dense(neuron, channels, 48, weight_scale=3, delay=delay),
        block.Dense(neuron, 48, classes, weight_scale=2),
    )
    if delay:  # start all over the range: where nothing arrives together, nothing pulls
        net(train[:1])
        net[0].delay.delay.data.uniform_(0, 30)
    return net


def fit(net, epochs=30, batch=40):
    """Train, and return the test accuracy after each epoch."""
    error = loss.SpikeRate(true_rate=0.1, false_rate=0.0)
    delays = [p for name, p in net.named_parameters() if name.endswith("delay.delay")]
    weights = [p for name, p in net.named_parameters() if not name.endswith("delay.delay")]
    # delays are counted in steps, weights in thresholds: each needs its own learning rate
    optimizer = torch.optim.Adam([{"params": weights}, {"params": delays, "lr": 0.3}], lr=0.01)
    found = []
    for _ in range(epochs):
        for index in torch.randperm(len(train)).split(batch):
            value = error(net(train[index]), train_labels[index]) / batch
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        with torch.no_grad():
            found.append(float((Rate.predict(net(test)) == test_labels).float().mean()))
    return found


delayed = network(delay=True)
before = delayed[0].delay.delay.detach().floor().flatten().clone()
curves = {"with delays": fit(delayed), "without": fit(network(delay=False))}
for name, found in curves.items():
    print(f"{name:<12} test accuracy {found[-1]:.0%}")
assert curves["with delays"][-1] > curves["without"][-1] + 0.1

figure = Figure(figsize=(9, 3.2), layout="constrained", dpi=110)
accuracy, moved = figure.subplots(1, 2)
for name, found in curves.items():
    accuracy.plot(range(1, len(found) + 1), found, label=name)
accuracy.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.05))
accuracy.legend()
after = delayed[0].delay.delay.detach().floor().flatten()
moved.hist([before, after], bins=range(0, 40, 4), label=["at the start", "learned"])
moved.set(xlabel="delay in steps", ylabel="neurons")
moved.legend()
figure.savefig("delays.png")

# %%
# Without delays the network has forgotten the first spike when the last one comes. With delays, the
# neurons that hear the first channel of a pattern hold their spikes back until those of the last
# channel are there: then all arrive at the output in the same steps.

with torch.no_grad():
    early = delayed[0](test[:1])
    plot.raster(
        {"input": test[0], "hidden, delayed": early[0], "output": delayed[1](early)[0]},
        "raster.png",
        "Spikes of class 0, brought together by delays",
    )

# %%
# In the middle panel, look for the column where many neurons spike at once. Delays go into the
# network file with the weights:

export.save(delayed.eval(), "delays.net", input_shape=(channels,))
print(export.format_table(export.inspect("delays.net")))

# %%
# **Try next**: start the delays at zero, or longer patterns. lava-dl's networks for N-MNIST and
# speech learn delays in every layer; [examples/events.py](../../examples/events.py) has one.
