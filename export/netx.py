"""Where lava netx will refuse a layer, or run it differently from lapilli."""

from collections.abc import Callable, Iterator

import numpy as np

from .layers import W_SCALE, Layer


def _has(layer: Layer, *names: str) -> bool:
    return any(name in layer.data for name in names)


def _of(layer: Layer, *families: str) -> bool:
    return layer.module in families and layer.neuron is not None


def _neuron_params(layer: Layer) -> dict:
    return layer.params.get("neuron_params") or {}


def _scale(layer: Layer) -> int:
    return _neuron_params(layer).get("scale", W_SCALE)


def _all_zero(layer: Layer) -> bool:
    return not any(w.any() for w in layer.weights().values())


def _loses_minimum(layer: Layer) -> bool:
    lowest = [-w.min() for w in layer.weights().values() if w.max() <= 0 and w.any()]
    return any(np.log2(v) % 1 == 0 for v in lowest)


def _competition_bias(layer: Layer) -> bool:
    return (
        layer.block == "KWTA"
        and _has(layer, "bias")
        and np.any(layer.data.get("neuron/iDecay") != 4096)
    )


def _threshold_unsuited(layer: Layer) -> bool:
    return bool(np.any(np.asarray(layer.data["neuron/vThMant"]) < 1))


_RF = ("rf", "rf_iz", "adrf", "adrf_iz")
_DENSE = ("dense", "dense_rec")

# Strictness at a threshold of 64 and above is no cause: lapilli spikes above the threshold only.
_CAUSES: tuple[tuple[str, Callable[[Layer], bool]], ...] = (
    ("netx has no convT, pool, unpool and average layers (NotImplementedError)",
     lambda l: l.type in ("convT", "pool", "unpool", "average")),
    ("netx has no ALIF neuron", lambda l: _of(l, "alif")),
    ("netx reads complex weights of dense layers only",
     lambda l: l.is_complex and l.type not in _DENSE),
    ("netx has no Input block with a resonate-and-fire neuron",
     lambda l: l.type == "input" and _of(l, *_RF)),
    ("netx runs ADRF as RF, without adaptation", lambda l: _of(l, "adrf", "adrf_iz")),
    ("netx rebuilds the rotation of RF neurons in floats and truncates: decays can be 1/4096 low",
     lambda l: _of(l, *_RF)),
    ("netx spikes are binary, not graded", lambda l: l.data.get("neuron/gradedSpike") is True),
    ("netx ignores the delays of conv and of complex dense layers",
     lambda l: _has(l, "delay") and (l.type == "conv" or (l.type == "dense" and l.is_complex))),
    ("netx does not delay the bias of a layer with delays",
     lambda l: l.type == "dense" and _has(l, "delay") and _has(l, "bias")),
    ("netx runs recurrent layers with delays wrongly",
     lambda l: l.type == "dense_rec" and _has(l, "delay")),
    ("netx ignores the exponent of a norm",
     lambda l: any(v.any() for n, v in l.data.items() if n.startswith("neuron/weight_exp"))),
    ("netx ignores the norm of complex neurons", lambda l: _has(l, "bias/real", "bias/imag")),
    ("netx always uses relu in sigma-delta neurons",
     lambda l: _of(l, "sigma_delta") and l.data.get("neuron/activation", "relu") != "relu"),
    ("netx has no cumulative error in sigma-delta neurons",
     lambda l: _of(l, "sigma_delta") and _neuron_params(l).get("cum_error") is True),
    ("netx runs sigma-delta neurons with scale 64 only",
     lambda l: _of(l, "sigma_delta") and _scale(l) != W_SCALE),
    ("netx truncates sigma-delta thresholds below 1/64",
     lambda l: _of(l, "sigma_delta") and _threshold_unsuited(l)),
    ("netx fails on sigma-delta thresholds per channel",
     lambda l: _of(l, "sigma_delta") and np.ndim(l.data["neuron/vThMant"]) > 0),
    ("netx equals lapilli for scales that are powers of two only",
     lambda l: _scale(l) & (_scale(l) - 1) != 0),
    ("netx cannot load a dense layer whose weights are all zero (OverflowError)",
     lambda l: l.type in _DENSE and _all_zero(l)),
    ("netx loses bits of a dense layer without positive weights whose minimum is a power of two",
     lambda l: l.type in _DENSE and _loses_minimum(l)),
    ("netx adds the bias of KWTA to the voltage, lapilli to the current", _competition_bias),
)  # fmt: skip


def incompatibilities(layers: list[Layer]) -> Iterator[str]:
    """Yield one message for each cause, with the layers that it concerns."""
    for text, applies in _CAUSES:
        where = [f"{i} ({l.module}.{l.block})" for i, l in enumerate(layers) if applies(l)]
        if where:
            yield f"{text}: layer {', '.join(where)}"
