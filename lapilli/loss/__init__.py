"""Losses on the spikes of the output layer, and on the activity of any layer.

    r = mean of s over time, or over the last steps (moving_window)
    SpikeTime         L = sum (h * s - h * s^)^2,   h[k] = binomial(k+m-1, m-1) exp(-k / tau)
    SpikeRate         L = sum (r - r^)^2,   r^ = true_rate for the labelled class, else false_rate
    SpikeMax          L = -sum log p,       p = r / sum of r, or softmax of r, of the labelled class
    SpikeMoid         L = sum BCE(p, y),    p = sigmoid((r - theta) / alpha)
    SparsityEnforcer  L = lam sum max(mean |s| - max_rate, 0)^2

``s`` are spikes, ``r`` rates, a hat marks what is desired.

Source: lava-dl loss.py.
"""

from .classes import SpikeMax, SpikeMoid, SpikeRate
from .sparsity import SparsityEnforcer
from .times import SpikeTime

__all__ = [
    "SparsityEnforcer",
    "SpikeMax",
    "SpikeMoid",
    "SpikeRate",
    "SpikeTime",
]
