"""NIR graphs by forward Euler steps in float64, straight from the definitions of the nodes."""

import nir
import numpy as np
import torch
from lapilli.export.exchange.graph import chain
from torch.nn import functional


def simulate(graph, x, dt):
    """Return the output ``[T, neurons...]`` for ``x``, and the least distance to a threshold."""
    steps = [_Node(step.node, step.feedback and step.feedback[1], dt) for step in chain(graph)]
    outputs = []
    for frame in np.asarray(x, np.float64):
        for step in steps:
            frame = step.run(frame)
        outputs.append(frame)
    return np.stack(outputs), min(step.margin for step in steps)


def linear(node, x):
    """Return what a node without state makes of ``x``, ``(N,)`` or ``(C, H, W)``."""
    kind = type(node).__name__
    if kind in ("Linear", "Affine"):
        return _array(node.weight) @ x + _array(getattr(node, "bias", 0.0))
    if kind == "Scale":
        return _array(node.scale) * x
    if kind == "Flatten":
        return x.reshape(-1)
    frame = torch.from_numpy(x)[None]
    if kind == "Conv2d":
        y = functional.conv2d(
            frame, torch.from_numpy(_array(node.weight)), torch.from_numpy(_array(node.bias)),
            _pair(node.stride), node.padding if isinstance(node.padding, str) else
            _pair(node.padding), _pair(node.dilation), int(node.groups),
        )  # fmt: skip
    else:
        size = _pair(node.kernel_size)
        y = functional.avg_pool2d(frame, size, _pair(node.stride), _pair(node.padding))
        y = y * float(np.prod(size)) if kind == "SumPool2d" else y
    return y[0].numpy()


class _Node:
    """One node with its state."""

    def __init__(self, node, feedback, dt):
        self.node, self.feedback, self.dt = node, feedback, dt
        self.kind = type(node).__name__
        self.current, self.voltage, self.spikes = 0.0, 0.0, None
        self.past = []
        self.margin = np.inf

    def run(self, x):
        node, kind, dt = self.node, self.kind, self.dt
        if kind in ("Input", "Output"):
            return x
        if kind == "Delay":
            self.past.append(x)
            steps = np.broadcast_to(np.rint(_array(node.delay) / dt).astype(int), x.shape)
            y = np.zeros(x.shape)
            for i, n in np.ndenumerate(steps):
                if n < len(self.past):
                    y[i] = self.past[-1 - n][i]
            return y
        if not hasattr(node, "r"):
            return linear(node, x)
        if self.feedback is not None:
            x = x + linear(self.feedback, np.zeros_like(x) if self.spikes is None else self.spikes)
        if kind.startswith("Cuba"):
            drive = _array(node.w_in) * x - self.current
            self.current = self.current + dt / _array(node.tau_syn) * drive
            x = self.current
        if kind in ("IF", "I"):
            self.voltage = self.voltage + dt * _array(node.r) * x
        else:
            tau = _array(node.tau_mem if kind.startswith("Cuba") else node.tau)
            slope = _array(node.v_leak) - self.voltage + _array(node.r) * x
            self.voltage = self.voltage + dt / tau * slope
        if not kind.endswith("IF"):
            return self.voltage
        above = self.voltage - _array(node.v_threshold)
        self.margin = min(self.margin, np.abs(above).min())
        self.spikes = (above > 0).astype(np.float64)
        self.voltage = np.where(above > 0, _array(node.v_reset), self.voltage)
        return self.spikes


def _array(values):
    return np.asarray(values, np.float64)


def _pair(values):
    return tuple(np.broadcast_to(np.asarray(values, int), 2).tolist())


def read(stream):
    """Read a graph, without nir's check of types, which norse's and Rockpool's do not pass."""
    return nir.read(stream, type_check=False)
