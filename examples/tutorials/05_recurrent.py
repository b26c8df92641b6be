"""A recurrent network on sequences.

In a recurrent layer the neurons also hear each other's spikes, one step later. The layer can then
remember what came earlier for longer than a single neuron does. This page reads digits as a
scanner does, one row at a time, so that the network has to put the picture together itself.
"""

import torch
from matplotlib.figure import Figure

import lapilli
from lapilli import data, plot, slayer

# %%
# ## Sequences
#
# In each group of three steps the network sees one row of the image: eight numbers, the grey
# levels. It never sees two rows at once, and a black row looks the same anywhere. The numbers go in
# as they are: `Recurrent` takes real input, as `Dense` does. At the end come four steps without
# input.

pixels = data.digits(steps=16)  # with 16 steps, a pixel of grey level k (0..16) spikes k / 2 times
HOLD, QUIET, READ = 3, 4, 10


def rows(samples):
    """Return rows of the images as sequences, [N, 8, steps]."""
    grey = samples.spikes.sum(-1).view(-1, 8, 8) / 8  # [N, rows, columns]
    sequence = grey.transpose(1, 2).repeat_interleave(HOLD, -1)
    return torch.nn.functional.pad(sequence, (0, QUIET)), samples.labels


(train, train_labels), (test, test_labels) = rows(pixels.train), rows(pixels.test)
print("training:", tuple(train.shape), "test:", tuple(test.shape))

# %%
# ## The network, and the loss
#
# One recurrent layer of 128 neurons and a dense readout. The class is read from the rates of the
# last ten steps, when most of the rows are long gone. Cross entropy on rates, times a factor that
# spreads them, is the usual loss of classifiers.

neuron = {
    "threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.2, "tau_grad": 0.03,
    "scale_grad": 10, "requires_grad": True,
}  # fmt: skip
block = slayer.block.cuba


def network(recurrent):
    """Make a network with a recurrent layer, or with a dense one in its place."""
    torch.manual_seed(0)
    first = block.Recurrent if recurrent else block.Dense
    net = torch.nn.Sequential(first(neuron, 8, 128), block.Dense(neuron, 128, 10))
    lapilli.init_rates_(net, train[:256], rate=0.15)
    return net


def fit(net, epochs=10, batch=32):
    """Train, and return the test accuracy after each epoch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    steps = epochs * (len(train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.03, total_steps=steps)
    found = []
    for _ in range(epochs):
        for index in torch.randperm(len(train))[: len(train) // batch * batch].view(-1, batch):
            rates = net(train[index])[..., -READ:].mean(-1)
            value = torch.nn.functional.cross_entropy(20 * rates, train_labels[index])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            guess = net(test)[..., -READ:].mean(-1).argmax(1)
        found.append(float((guess == test_labels).float().mean()))
    return found


# %%
# We train a network with the recurrent layer and one with a dense layer of the same size in its
# place. Feedback multiplies gradients at every step; over hundreds of steps they can grow out of
# hand, and [gradients](../gradients.md) says what helps then.

with_feedback = network(recurrent=True)
curves = {"recurrent": fit(with_feedback), "dense": fit(network(recurrent=False))}
figure = Figure(figsize=(7, 3.2), layout="constrained", dpi=110)
axes = figure.subplots()
for name, found in curves.items():
    axes.plot(range(1, len(found) + 1), found, label=f"{name}, {found[-1]:.1%} at the end")
    print(f"{name:<10} test accuracy {found[-1]:.1%}")
axes.set(xlabel="epoch", ylabel="test accuracy")
axes.legend()
axes.grid(alpha=0.3)
figure.savefig("accuracy.png")
assert curves["recurrent"][-1] > max(0.75, curves["dense"][-1] + 0.03)

# %%
# The dense layer sees the same rows, and its neurons remember a little by themselves. With feedback
# the network reads clearly more digits.
#
# ## What the layer does
#
# The rows of the digit come in from the top of the image to its bottom. The hidden layer spikes on
# long after a row has passed, and the output settles on a class towards the end.

with torch.no_grad():
    hidden = with_feedback[0](test[:1])
    output = with_feedback[1](hidden)
plot.raster(
    {"input": (test[0] > 0.3).float(), "hidden": hidden[0], "output": output[0]},
    "raster.png",
    f"A {test_labels[0]}, row by row",
)

# %%
# **Try next**: show each row for one step only (`HOLD = 1`), or ALIF neurons, whose adaptive
# threshold is a longer memory. For sequences of unequal length pad with zeros, and take the mean
# over each sample's own steps. [What each block learns](../learning.md) trains all neurons on
# recorded speech.
