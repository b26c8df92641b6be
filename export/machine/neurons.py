"""The neurons in integers, one step at a time, for the interpreter; nothing here is a float.

A state counts units of 1 / S with S = 64 * scale; the file's threshold and bias mantissas count
units of 1 / scale and are shifted left by 6. D(s, k) = trunc(s k / 4096); x is the input in state
units, rounded toward zero; b the bias and e the exponent of a norm.

    cuba      u = D(u, 4096 - i) + x;  c = trunc((u + b) / 2**e);  v = D(v, 4096 - d) + c
              spikes where v > theta, then v = 0
    alif      u, v as above without reset, b and e applied to x
              r = D(r, 4096 - f);  h = D(h - theta, 4096 - t) + theta
              spikes where v >= h + r, then r += 2 h, h += step
    rf        z = (D(re, cos) - D(im, sin) + x_re,  D(re, sin) + D(im, cos) + x_im)
              spikes where re >= theta and im turns from below zero to zero or above
    rf_iz     the same z; spikes where im >= theta, then re = 0, im = theta - 1
    adrf,     the same z without reset; the threshold h + r of alif in place of theta
    adrf_iz
    sigma_    m += x;  a = relu((m + b) / 2**e + b');  g = a - a[t-1] + r
    delta     sends g where |g| >= theta, rounded down to 1 / S;  r = g - what is sent

States of the chip have 24 bits. As in Lava's models of it, the current u wraps around, once, and
every other state stays at the limit. Layers whose neuron has ``overflow="loihi"`` always keep to
that; in others states grow, unless the interpreter is told to keep to it everywhere.

Source: the network file's specification; lava-nc proc/lif, proc/rf, proc/rf_iz, proc/sdn.
"""

import numpy as np
from lapilli.export.file.errors import LayerError
from lapilli.export.file.layers import (
    Layer,
    competition_bias,
    neuron_options,
    option,
    overflow_of,
    scale_of,
)
from lapilli.export.file.tables import P_SCALE, STATE_LIMIT, STATE_UNITS

Array = np.ndarray


class Limits:
    """What becomes of a state beyond 24 bits, and how many there were.

    ``whole`` counts for this one too.
    """

    def __init__(self, saturates: bool, whole: "Limits | None" = None):
        self.saturates = saturates
        self.whole = whole or self
        self.overflows = 0

    def of(self, layer: Layer) -> "Limits":
        """Return those of a layer: its neuron may have been told to keep to the chip's rule."""
        return Limits(True, self.whole) if overflow_of(layer) == "loihi" else self

    def _count(self, state: Array, limit: int) -> None:
        self.whole.overflows += int(np.count_nonzero(np.abs(state) > limit))

    def clip(self, state: Array, limit: int = STATE_LIMIT) -> Array:
        """Keep a state at the limit."""
        self._count(state, limit)
        return np.clip(state, -limit, limit) if self.saturates else state

    def wrap(self, state: Array) -> Array:
        """Let a state come round from the other end, once."""
        self._count(state, STATE_LIMIT)
        if not self.saturates:
            return state
        half = STATE_LIMIT + 1
        return state - 2 * half * (state > half) + 2 * half * (state <= -half)


def truncated(y: Array, divisor: Array | int) -> Array:
    """Divide integers, toward zero."""
    return np.sign(y) * (np.abs(y) // divisor)


def decayed(y: Array, keep: Array) -> Array:
    """Return what is left of a state: D of the equations."""
    return truncated(y * keep, P_SCALE)


def shifted(y: Array, exponent: int) -> Array:
    """Divide integers by a power of two, toward zero."""
    return truncated(y, 1 << exponent) if exponent >= 0 else y << -exponent


class Neuron:
    """One layer of neurons; ``step`` takes its input and returns what it sends.

    Input is an integer in units of ``1 / (scale * per)``; the two parts of complex neurons come
    one after the other. Output counts units of ``1 / unit``.
    """

    parts: tuple[str, ...] = ("",)

    def __init__(self, layer: Layer, shape: tuple[int, ...], per: int, limits: Limits):
        self.layer, self.shape, self.per, self.limits = layer, shape, per, limits.of(layer)
        self.scale = scale_of(layer)
        self.state_scale = STATE_UNITS * self.scale
        self.is_readout = layer.block == "Affine"
        self.graded = self.is_readout or layer.data.get("neuron/gradedSpike") is True
        self.unit = self.state_scale if self.graded else 1
        self.theta = STATE_UNITS * self.channels("neuron/vThMant")
        # ``bias`` of an Input block is that of the block
        norms = ("/norm",) if layer.type == "input" and self.parts == ("",) else self.parts
        self.exponents = [
            int(layer.data.get(f"neuron/weight_exp{n}", np.zeros(1))[0]) for n in norms
        ]
        self.norms = [
            self.channels(f"bias{n}", 0) - self._other_bias(part)
            for n, part in zip(norms, self.parts, strict=True)
        ]

    def _other_bias(self, part: str) -> Array | int:
        """Return what the bias of the file holds besides that of the norm."""
        return competition_bias(self.layer, part)

    def channels(self, name: str, default: int | None = None) -> Array:
        """Read a dataset as int64 that broadcasts to ``[N, neurons...]``."""
        value = self.layer.data.get(name, default)
        value = np.asarray(value).astype(np.int64)
        return value.reshape(-1, *(1,) * (len(self.shape) - 2)) if value.ndim else value

    def rest(self, value: Array | int = 0) -> Array:
        """Return a new state."""
        return np.zeros(self.shape, np.int64) + value

    def keep(self, name: str) -> Array:
        """Return what a decay leaves of 4096."""
        return P_SCALE - self.channels(f"neuron/{name}")

    def drive(self, x: Array) -> Array:
        """Turn input into state units."""
        return truncated(x * STATE_UNITS, self.per)

    def normed_drive(self, x: Array, part: int = 0) -> Array:
        """Turn input into state units, behind the norm."""
        x = (x + self.norms[part] * self.per) * STATE_UNITS
        exponent = self.exponents[part]
        return truncated(x << max(-exponent, 0), self.per << max(exponent, 0))

    def sent(self, fires: Array, value: Array) -> Array:
        """Return the spikes, or the state where they are graded."""
        return np.where(fires, value, 0) if self.graded else fires.astype(np.int64)

    def step(self, *inputs: Array) -> Array:
        """Advance one step; return what is sent ``[N, neurons...]``."""
        raise NotImplementedError


class _Cuba(Neuron):
    def __init__(self, *args):
        super().__init__(*args)
        self.keep_u, self.keep_v = self.keep("iDecay"), self.keep("vDecay")
        self.u, self.v = self.rest(), self.rest()

    def step(self, x: Array) -> Array:
        self.u = self.limits.wrap(decayed(self.u, self.keep_u) + self.drive(x))
        current = shifted(self.u + STATE_UNITS * self.norms[0], self.exponents[0])
        v = self.limits.clip(decayed(self.v, self.keep_v) + current)
        if self.is_readout:
            self.v = v
            return v
        fires = v > self.theta
        self.v = np.where(fires, 0, v)
        return self.sent(fires, v)


class _Adaptation:
    """The threshold that rises at each spike: h + r."""

    def __init__(self, neuron: Neuron):
        self.limits, self.theta = neuron.limits, neuron.theta
        self.keep_h, self.keep_r = neuron.keep("thDecay"), neuron.keep("refDecay")
        self.rise = STATE_UNITS * neuron.channels("neuron/vThStep")
        self.h, self.r = neuron.rest(self.theta), neuron.rest()

    def threshold(self) -> Array:
        self.r = decayed(self.r, self.keep_r)
        self.h = decayed(self.h - self.theta, self.keep_h) + self.theta
        return self.h + self.r

    def fired(self, fires: Array) -> None:
        self.r = self.limits.clip(self.r + 2 * self.h * fires)
        self.h = self.limits.clip(self.h + self.rise * fires)


class _Alif(Neuron):
    def __init__(self, *args):
        super().__init__(*args)
        self.keep_u, self.keep_v = self.keep("iDecay"), self.keep("vDecay")
        self.u, self.v = self.rest(), self.rest()
        self.adaptation = _Adaptation(self)

    def step(self, x: Array) -> Array:
        self.u = self.limits.wrap(decayed(self.u, self.keep_u) + self.normed_drive(x))
        self.v = self.limits.clip(decayed(self.v, self.keep_v) + self.u)
        fires = self.v >= self.adaptation.threshold()
        self.adaptation.fired(fires)
        return self.sent(fires, self.v)


class _Resonator(Neuron):
    parts = ("/real", "/imag")

    def __init__(self, *args):
        super().__init__(*args)
        self.sin, self.cos = self.channels("neuron/sinDecay"), self.channels("neuron/cosDecay")
        self.re, self.im = self.rest(), self.rest()
        kind: str = self.layer.data["neuron/type"]
        self.by_phase = kind.endswith("PHASE")
        adapts = kind.startswith("AD")
        self.adaptation = _Adaptation(self) if adapts else None
        self.resets = not (self.by_phase or adapts)

    def step(self, real: Array, imag: Array) -> Array:
        before = self.re, self.im
        turned_re = decayed(before[0], self.cos) - decayed(before[1], self.sin)
        turned_im = decayed(before[0], self.sin) + decayed(before[1], self.cos)
        self.re = self.limits.clip(turned_re + self.normed_drive(real, 0))
        self.im = self.limits.clip(turned_im + self.normed_drive(imag, 1))
        if self.is_readout:
            return self.im
        tested = self.re if self.by_phase else self.im
        fires = tested >= (self.adaptation.threshold() if self.adaptation else self.theta)
        if self.by_phase:
            fires &= (before[1] < 0) & (self.im >= 0)
        if self.adaptation:
            self.adaptation.fired(fires)
        if self.resets:
            self.re, self.im = np.where(fires, 0, self.re), np.where(fires, self.theta - 1, self.im)
        return self.sent(fires, tested)


class _SigmaDelta(Neuron):
    """``m`` and what follows count 1 / (scale * per * 2**e), as fine as the norm makes them."""

    def __init__(self, *args):
        super().__init__(*args)
        layer = self.layer
        self.activation = layer.data.get("neuron/activation", "relu")
        if self.activation not in ("relu", "identity"):
            raise LayerError(
                "neuron/activation",
                f"is {self.activation!r}, which has no integer form; relu and identity have",
            )
        self.adds_error = option(neuron_options(layer), "cum_error", bool, False)
        self.finer = max(self.exponents[0], 0)
        self.in_one = self.per << self.finer  # units of m in a unit of weights
        self.own_bias = self._other_bias("") * self.in_one
        theta = self.channels("neuron/vThMant") * self.in_one
        # the encoder's least threshold is a unit of its output
        self.theta = np.where(theta > 0, theta, -(-self.in_one // STATE_UNITS))
        self.limit = STATE_LIMIT * self.in_one // self.state_scale
        self.unit = self.state_scale
        self.m, self.before, self.residual, self.error = (self.rest() for _ in range(4))

    def _other_bias(self, part: str) -> Array | int:
        own = self.layer.data.get("lapilli/bias")
        if own is None:
            return 0 if self._has_norm() else self.channels("bias", 0)
        units = np.rint(own * self.scale).astype(np.int64)
        return units.reshape(-1, *(1,) * (len(self.shape) - 2))

    def _has_norm(self) -> bool:
        return option(neuron_options(self.layer), "norm", dict, None) is not None

    def activated(self, x: Array) -> Array:
        self.m = self.limits.clip(self.m + x, self.limit)
        normed = (self.m + self.norms[0] * self.per) << max(-self.exponents[0], 0)
        y = normed + self.own_bias
        return np.maximum(y, 0) if self.activation == "relu" else y

    def encoded(self, a: Array) -> Array:
        change = a - self.before + self.residual
        self.before = a
        if self.adds_error:
            self.error = self.error + change
        tested = self.error if self.adds_error else change
        sent = np.where(np.abs(tested) >= self.theta, change, 0)
        self.error = np.where(sent != 0, 0, self.error)
        self.residual = change - sent
        return sent * STATE_UNITS // self.in_one

    def step(self, x: Array) -> Array:
        return self.encoded(self.activated(x))


class _Delta(_SigmaDelta):
    """The encoder alone, of Input blocks."""

    def step(self, x: Array) -> Array:
        return self.encoded(x)


class _Sigma(_SigmaDelta):
    """The running sum alone, of Output blocks."""

    def __init__(self, *args):
        super().__init__(*args)
        self.unit = self.scale * self.per

    def step(self, x: Array) -> Array:
        self.m = self.limits.clip(self.m + x, self.limit)
        return self.m


class _Wire(Neuron):
    """No neuron: what an Affine without dynamics gives, of complex weights the imaginary part."""

    def __init__(self, layer: Layer, shape: tuple[int, ...], per: int, limits: Limits):
        self.unit = scale_of(layer) * per
        self.parts = ("/real", "/imag") if layer.is_complex else ("",)

    def step(self, *inputs: Array) -> Array:
        return inputs[-1]


_CLASSES = {
    "cuba": _Cuba,
    "alif": _Alif,
    **dict.fromkeys(("rf", "rf_iz", "adrf", "adrf_iz"), _Resonator),
    "sigma_delta": _SigmaDelta,
}


def neuron(layer: Layer, shape: tuple[int, ...], per: int, limits: Limits) -> Neuron:
    """Make the neurons of a layer at rest, of ``shape`` ``[N, neurons...]``."""
    cls: type[Neuron]
    if layer.neuron is None:
        cls = _Wire
    elif layer.module == "sigma_delta":
        cls = {"Input": _Delta, "Output": _Sigma}.get(layer.block, _SigmaDelta)
    elif layer.module in _CLASSES:
        cls = _CLASSES[layer.module]
    else:
        raise LayerError(
            "neuron/type",
            f"is {layer.neuron}, which has no integer form here; {', '.join(_CLASSES)} have. Load "
            f"the file and call the network",
        )
    return cls(layer, shape, per, limits)
