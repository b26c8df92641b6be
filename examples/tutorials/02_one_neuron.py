"""One neuron by hand.

A neuron turns a current that flows into it, a number a step, into spikes. lapilli has seven kinds.
This page gives each of them the same kind of input, draws what happens inside, and then moves
every parameter to show what it does. No training yet.
"""

import torch
from matplotlib.figure import Figure

from lapilli import slayer

neurons = slayer.neuron
steps = 120

# %%
# ## Integrate and fire: CUBA
#
# CUBA is the standard neuron of Loihi. The input adds to a *current*, the current adds to a
# *voltage*, and both leak away. When the voltage reaches the threshold the neuron spikes and the
# voltage falls back to zero. We let two short pulses and a long one flow in. `dynamics` returns the
# states; calling the neuron returns its spikes.

pulses = torch.zeros(1, 1, steps)  # [batch, neurons, time]
pulses[..., [10, 30]] = 0.6
pulses[..., 50:90] = 0.1

cuba = neurons.cuba.Neuron(threshold=1.0, current_decay=0.2, voltage_decay=0.05)
current, voltage = cuba.dynamics(pulses)
spikes = cuba(pulses)
print("spikes at steps", spikes.nonzero()[:, -1].tolist())


def draw(rows, path, title):
    """Draw one panel a row: label, lines by name, spikes, threshold."""
    figure = Figure(figsize=(9, 0.6 + 1.7 * len(rows)), layout="constrained", dpi=110)
    figure.suptitle(title)
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, lines, fired, threshold) in zip(panels, rows, strict=True):
        for name, line in lines.items():
            axes.plot(line.detach().flatten(), label=name, lw=1.3)
        top = max(float(line.detach().max()) for line in lines.values())
        (at,) = fired.flatten().nonzero(as_tuple=True)
        axes.plot(
            at, torch.full_like(at, 1, dtype=torch.float) * 1.1 * top, "k|", ms=9, label="spike"
        )
        if threshold is not None:
            axes.axhline(threshold, color="grey", ls="--", lw=1)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    panels[-1].set_xlabel("time step")
    figure.savefig(path)


draw(
    [
        ("input", {"input": pulses}, torch.zeros(steps), None),
        ("cuba", {"current": current, "voltage": voltage}, spikes, 1.0),
    ],
    "cuba.png",
    "CUBA: input, current, voltage and spikes",
)
assert spikes.sum() > 3

# %%
# The marks above the curves are spikes, the dashed line is the threshold. One pulse is enough to
# reach it, because the current stays for a while and the voltage adds it up.
#
# ## Move each parameter
#
# The same pulses, with one parameter at a time set to three values.


def sweep(family, fixed, parameter, values, wave):
    """Count and draw the spikes of one neuron for several values of one parameter."""
    rows = []
    for value in values:
        neuron = getattr(neurons, family).Neuron(**{**fixed, parameter: value})
        states = neuron.dynamics(wave)
        fired = neuron(wave)
        rows.append((f"{value}", {"state": states[state_of[family]]}, fired, None))
        print(f"{family:<6}{parameter:<18}{value:<6} {int(fired.count_nonzero()):3d} spikes")
    draw(rows, f"{family}_{parameter}.png", f"{family}: {parameter}")


state_of = {"cuba": 1, "alif": 1, "rf": 0}
basic = {"threshold": 1.0, "current_decay": 0.2, "voltage_decay": 0.05}
for parameter, values in {
    "threshold": (0.5, 1.0, 2.0),
    "current_decay": (0.05, 0.2, 0.8),
    "voltage_decay": (0.01, 0.05, 0.3),
}.items():
    sweep("cuba", basic, parameter, values, pulses)

# %%
# - A lower **threshold** gives more spikes.
# - **current_decay** is the share of the current that is lost in each step. With 0.8 a pulse is
#   over at once, and the neuron needs strong input at the same time. With 0.05 it echoes for dozens
#   of steps.
# - **voltage_decay** is the share of the voltage that is lost in each step: how long the neuron
#   remembers input that did not suffice for a spike.
#
# ## A threshold that adapts: ALIF
#
# ALIF is CUBA with fatigue. A spike does not reset the voltage. Instead it raises the threshold,
# and a *refractory* state on top of it; the voltage has to reach their sum to spike again. Both
# decay. A steady input then gives spikes that become rarer.

steady = torch.zeros(1, 1, steps)
steady[..., 10:110] = 0.1
adaptive = {**basic, "threshold_step": 0.5, "threshold_decay": 0.03, "refractory_decay": 0.2}
alif = neurons.alif.Neuron(**adaptive)
current, voltage, threshold, refractory = alif.dynamics(steady)
draw(
    [
        (
            "alif",
            {"voltage": voltage, "threshold": threshold, "refractory": refractory},
            alif(steady),
            None,
        )
    ],
    "alif.png",
    "ALIF: the threshold rises with each spike",
)
for parameter, values in {
    "threshold_step": (0.0, 0.5, 2.0),
    "threshold_decay": (0.01, 0.03, 0.3),
    "refractory_decay": (0.05, 0.2, 0.9),
}.items():
    sweep("alif", adaptive, parameter, values, steady)

# %%
# The marks stand closer at the start of the input than later. A larger step or a slower decay
# strengthens that.
#
# ## Resonators: RF and RF-Izhikevich
#
# The state of a resonator is a point that turns around the origin and slowly falls towards it, like
# a pendulum with friction. `period` is the number of steps of one turn, `decay` the share of the
# amplitude that is lost in a step. Input in time with the period builds up, like pushes of a swing;
# other input does not. RF spikes once a turn, when the imaginary part turns positive and the real
# part is large enough. RF-Izhikevich spikes when the imaginary part reaches the threshold, and is
# then reset.


def tone(period):
    """Return a wave of the given period, as the input of a resonator: real and imaginary part."""
    wave = 0.15 * torch.cos(2 * torch.pi * torch.arange(steps) / period).view(1, 1, -1)
    return wave, torch.zeros_like(wave)


resonator = {"threshold": 0.5, "period": 12, "decay": 0.05}
for family in ("rf", "rf_iz"):
    rows = []
    for period in (8, 12, 20):
        neuron = getattr(neurons, family).Neuron(**resonator)
        real, imaginary = neuron.dynamics(tone(period))[:2]
        fired = neuron(tone(period))
        rows.append((f"wave of {period}", {"real": real, "imaginary": imaginary}, fired, 0.5))
        print(f"{family:<6} of period 12, wave of period {period:2d}: {int(fired.sum()):2d} spikes")
    draw(rows, f"{family}.png", f"{family} of period 12 hears three waves")

# %%
# Only the wave of the neuron's own period makes it swing widely. `decay` says how picky it is: with
# a small one the swing lasts long, and only the very period builds up.

for parameter, values in {"period": (8, 12, 20), "decay": (0.01, 0.05, 0.3)}.items():
    sweep("rf", resonator, parameter, values, tone(12))

# %%
# ## Resonators that adapt: ADRF and ADRF-Izhikevich
#
# The same two with the threshold of ALIF: what is steady soon passes unnoticed.

fatigue = {"threshold_step": 0.3, "threshold_decay": 0.02, "refractory_decay": 0.2}
rows = []
for family in ("adrf", "adrf_iz"):
    neuron = getattr(neurons, family).Neuron(**resonator, **fatigue)
    real, imaginary, threshold, _ = neuron.dynamics(tone(12))
    tested = {"adrf": ("real", real), "adrf_iz": ("imaginary", imaginary)}[family]
    rows.append((family, {tested[0]: tested[1], "threshold": threshold}, neuron(tone(12)), None))
draw(rows, "adrf.png", "Adaptive resonators: the threshold follows the swing")

# %%
# ## Sigma-delta: only changes are sent
#
# Sigma-delta neurons do not spike with ones. They compute an activation, as neurons of ordinary
# networks do, and send the *change* since the last message, with its size, where it is larger than
# the threshold. What arrives is summed up again. Slow signals need few messages.

# the input is a stream of changes, too: their sum is the wave
wave = torch.sin(2 * torch.pi * torch.arange(steps) / 80).view(1, 1, -1)
changes = wave.diff(dim=-1, prepend=torch.zeros(1, 1, 1))
rows = []
for threshold in (0.05, 0.2, 0.6):
    neuron = neurons.sigma_delta.Neuron(threshold, activation=torch.nn.functional.relu)
    messages = neuron(changes)
    rows.append(
        (
            f"{threshold}",
            {"activation": wave.relu(), "received": messages.cumsum(-1)},
            messages,
            None,
        )
    )
    print(f"sigma_delta threshold {threshold:<5} {int(messages.count_nonzero()):3d} messages")
draw(rows, "sigma_delta.png", "Sigma-delta: the threshold trades messages for exactness")

# %%
# **Try next**: give two neurons the same pulses in another order, or a wave that changes its period
# half way. [Which neuron for what](../choose.md) sums up the seven; the equations are in [the
# reference](../reference/kernels.md).
