"""A regression with sigma-delta neurons.

Not every task is a classification. Sigma-delta networks compute what ordinary networks compute,
real numbers, but their layers send only *changes*: a signal that moves slowly costs few messages.
This page foretells a recorded EEG, the electric field of a brain, one sample ahead.
"""

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from lapilli import export, slayer

# %%
# ## The signal
#
# matplotlib comes with a short recording of four electrodes, 800 samples. We scale it, train on the
# first 600 samples and test on the rest. The input at each step are the last eight samples of all
# electrodes; the target is the next sample.

path = matplotlib.get_data_path() + "/sample_data/eeg.dat"
eeg = torch.from_numpy(np.fromfile(path).reshape(800, 4).T.copy()).float()  # [4, 800]
eeg = (eeg - eeg[:, :600].mean(1, keepdim=True)) / eeg[:, :600].std(1, keepdim=True)
window = 8
inputs = eeg.unfold(1, window, 1)[:, :-1].permute(0, 2, 1).reshape(1, 4 * window, -1)
targets = eeg[:, window:].unsqueeze(0)  # [1, 4, 792]
split = 600 - window
last = eeg[:, window - 1 : -1].unsqueeze(0)  # the guess that nothing changes
print("input:", tuple(inputs.shape), "target:", tuple(targets.shape))

# %%
# ## The network
#
# `Input` turns the numbers into changes, `Dense` layers compute with `relu`, and `Output` sums the
# changes up again. The threshold says how large a change has to be to be sent. It is learned here;
# `min_threshold` keeps it from sinking to nothing.

relu = torch.nn.functional.relu


def network(threshold):
    """Make a network whose neurons send changes above a threshold."""
    torch.manual_seed(0)
    neuron = {"threshold": threshold, "tau_grad": 0.1, "scale_grad": 1, "activation": relu}
    # the input has both signs, which relu would cut
    signed = {**neuron, "activation": None}
    block = slayer.block.sigma_delta
    return torch.nn.Sequential(
        block.Input(signed),
        block.Dense(neuron, 4 * window, 128),
        block.Output(neuron, 128, 4),
    )


def fit(net, steps=150):
    """Train on the first part of the signal, cut into pieces; return the error on the rest."""
    pieces = [(inputs[..., i : i + 74], targets[..., i : i + 74]) for i in range(0, split, 74)]
    x, y = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        value = torch.nn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return net(inputs[..., split:])


# %%
# ## Exactness against messages
#
# The error is that of the network's guess on the last 200 samples, as a share of the signal's
# variance. There are two yardsticks: the guess that the next sample equals the last one, and a
# linear fit of the same input.


def unexplained(guess):
    """Error as a share of the variance."""
    real = targets[..., split:]
    return float(
        (guess - real).square().mean() / (real - real.mean(-1, keepdim=True)).square().mean()
    )


naive = unexplained(last[..., split:])
fitted = torch.linalg.lstsq(inputs[0, :, :split].T, targets[0, :, :split].T).solution
linear = unexplained((inputs[0, :, split:].T @ fitted).T)
print(f"last sample again: {naive:.3f} of the variance is left, linear fit: {linear:.3f}")
guesses, results = {}, {}
for threshold in (0.05, 0.1, 0.3, 0.6):
    net = network(threshold)
    guesses[threshold] = fit(net)
    with torch.no_grad():
        messages, y = [], inputs[..., split:]
        for layer in net:
            y = layer(y)
            messages.append(float((y != 0).float().mean()))
    results[threshold] = unexplained(guesses[threshold]), sum(messages[:2]) / 2
    print(
        f"threshold {threshold:<5}{results[threshold][0]:.3f} of the variance is left, "
        f"{results[threshold][1]:.0%} of the neurons send in a step"
    )
assert linear < results[0.05][0] < naive
assert results[0.6][1] < results[0.05][1]

figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=110)
curve, trade = figure.subplots(1, 2, width_ratios=(2, 1))
curve.plot(targets[0, 0, split : split + 100], "k", lw=1, label="recorded")
curve.plot(guesses[0.05][0, 0, :100], label="threshold 0.05")
curve.plot(guesses[0.6][0, 0, :100], label="threshold 0.6", alpha=0.7)
curve.set(xlabel="sample", ylabel="electrode 0")
curve.legend(fontsize="small")
trade.plot([r[1] for r in results.values()], [r[0] for r in results.values()], "o-")
for threshold, (left, sent) in results.items():
    trade.annotate(f" {threshold}", (sent, left))
for level, name, line in ((naive, "last sample again", "--"), (linear, "linear fit", ":")):
    trade.axhline(level, color="grey", ls=line, lw=1, label=name)
trade.legend(fontsize="small", loc="upper right")
trade.set(xlabel="share of neurons that send", ylabel="share of the variance left")
figure.savefig("eeg.png")

# %%
# The right panel has one point a threshold. A low threshold sends more and guesses better, up to a
# point: where the curve bends is a good place to be. The network beats the first yardstick and not
# the second. Ten minutes of signal would change that, 600 samples are little to learn from: a
# network that is trained for longer here does better on the first part and worse on the rest.
#
# The network goes to the chip as any other does:

export.save(net.eval(), "eeg.net", target="lapilli", example=inputs[..., :50])
print(export.format_table(export.inspect("eeg.net")))

# %%
# **Try next**: train a penalty on messages, `slayer.loss.SparsityEnforcer`, as
# [examples/steering.py](../../examples/steering.py) does for images of a road.
