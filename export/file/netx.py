"""Where lava netx will refuse a layer, or run it differently from lapilli."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .layers import Layer, competition_bias, neuron_options, scale_of
from .tables import P_SCALE, W_SCALE


def _has(layer: Layer, *names: str) -> bool:
    return any(name in layer.data for name in names)


def _of(layer: Layer, *families: str) -> bool:
    return layer.module in families and layer.neuron is not None


def _all_zero(layer: Layer) -> bool:
    weights = layer.weights().values()
    return bool(weights) and not any(w.any() for w in weights)


def _loses_minimum(layer: Layer) -> bool:
    lowest = [-w.min() for w in layer.weights().values() if w.max() <= 0 and w.any()]
    return any(np.log2(v) % 1 == 0 for v in lowest)


def _competition_bias(layer: Layer) -> bool:
    if layer.neuron is None or "shape" not in layer.data or not competition_bias(layer):
        return False
    return bool(np.any(layer.data["neuron/iDecay"] != P_SCALE))


def _normed(layer: Layer) -> bool:
    """Whether a norm that netx does not read has an effect."""
    return any(
        layer.data[n].any() for n in ("bias/real", "bias/imag", "bias/norm") if _has(layer, n)
    )


def _is_complex_dense(layer: Layer) -> bool:
    return layer.is_complex and layer.type == "dense"


_RF = ("rf", "rf_iz", "adrf", "adrf_iz")
_DENSE = ("dense", "dense_rec")


class Cause(NamedTuple):
    """One thing that netx cannot run, or runs differently; without ``blocks`` hardly so.

    ``feeds``, if given, must hold of the layer and of the next one with weights as well.
    """

    problem: str
    limit: str
    remedy: str
    applies: Callable[[Layer], bool]
    blocks: bool = True
    feeds: Callable[[Layer, Layer], bool] | None = None


def _any(layer: Layer, after: Layer) -> bool:
    return True


def _other_events(layer: Layer, after: Layer) -> bool:
    return (layer.module == "sigma_delta") != (after.module == "sigma_delta")


_POWER = "use a scale that is a power of two, 64 by default"
_TRAIN_ON = "train a little longer, or leave the layer out"

# Strictness at a threshold of 64 and above is no cause: lapilli spikes above the threshold only.
CAUSES = (
    Cause("netx has no convT, pool, unpool and average layers (NotImplementedError)",
          "input, flatten, dense, dense_rec, conv",
          "use a Conv with a stride instead of pooling, and average outside the chip",
          lambda l: l.type in ("convT", "pool", "unpool", "average")),
    Cause("netx has no ALIF neuron", "cuba, rf, rf_iz, sigma_delta", "use cuba",
          lambda l: _of(l, "alif")),
    Cause("netx reads complex weights of dense layers only", "Dense",
          "use cuba or sigma_delta for convolutions",
          lambda l: l.is_complex and l.type not in _DENSE),
    Cause("netx needs a neuron behind complex weights", "a neuron", "use Affine with dynamics=True",
          lambda l: l.is_complex and l.neuron is None),
    Cause("netx would load complex recurrent layers and drop the recurrence",
          "Recurrent and KWTA of cuba", "use cuba",
          lambda l: l.type == "dense_rec" and l.is_complex),
    Cause("netx has no Input block with a resonate-and-fire neuron", "cuba, sigma_delta",
          "start with a Dense block", lambda l: l.type == "input" and _of(l, *_RF)),
    Cause("netx runs ADRF as RF, without adaptation", "cuba, rf, rf_iz, sigma_delta",
          "use rf or rf_iz", lambda l: _of(l, "adrf", "adrf_iz")),
    Cause("netx rebuilds the rotation of RF neurons in floats and truncates: decays can be 1/4096 "
          "low", "sine and cosine of the file", "compare the results with lapilli run",
          lambda l: _of(l, *_RF), blocks=False),
    Cause("netx spikes are binary, not graded", "0 and 1", "train with graded_spike=False",
          lambda l: l.data.get("neuron/gradedSpike") is True),
    Cause("netx ignores the delays of conv and of complex dense layers",
          "delays on Dense of cuba and sigma_delta", "leave out delay=True",
          lambda l: _has(l, "delay") and (l.type == "conv" or _is_complex_dense(l))),
    Cause("netx does not delay the bias of a layer with delays", "a delay or a norm or bias",
          "leave out one of the two",
          lambda l: l.type == "dense" and _has(l, "delay") and _has(l, "bias")),
    Cause("netx runs recurrent layers with delays wrongly", "no delay",
          "leave out delay=True",
          lambda l: l.type == "dense_rec" and _has(l, "delay")),
    Cause("netx ignores the exponent of a norm", "exponent 0",
          "use MeanOnlyBatchNorm",
          lambda l: any(v.any() for n, v in l.data.items() if n.startswith("neuron/weight_exp"))),
    Cause("netx ignores the norm of complex neurons and of Input blocks", "no norm",
          "leave out norm", _normed),
    Cause("netx leaves the weight and the bias of an Input block to the caller",
          "input that is scaled and shifted already", "apply net.in_layer.transform to the input",
          lambda l: l.type == "input" and _has(l, "weight", "bias"), blocks=False),
    Cause("netx always uses relu in sigma-delta neurons", "relu",
          "train with activation=torch.relu",
          lambda l: _of(l, "sigma_delta") and l.block not in ("Input", "Output")
          and l.data.get("neuron/activation", "relu") != "relu"),
    Cause("netx has no cumulative error in sigma-delta neurons", "cum_error=False",
          "train with cum_error=False",
          lambda l: _of(l, "sigma_delta") and l.block != "Output"
          and neuron_options(l).get("cum_error") is True),
    Cause("netx takes the events of sigma-delta neurons for multiples of 1/4096", "scale 64",
          "train with scale=64 all layers but the last",
          lambda l: _of(l, "sigma_delta") and scale_of(l) != W_SCALE, feeds=_any),
    Cause("netx fails on sigma-delta thresholds per channel", "one threshold a layer",
          "train with shared_param=True",
          lambda l: _of(l, "sigma_delta") and np.ndim(l.data["neuron/vThMant"]) > 0),
    Cause("netx passes a spike on as 1 and a sigma-delta event as 4096 times its value",
          "neurons of one kind", "use sigma-delta neurons in all layers or in none",
          lambda l: l.neuron is not None, feeds=_other_events),
    Cause("netx passes on neither the voltage of an Affine nor the sum of an Output",
          "at the end of the network", "use Dense in between",
          lambda l: l.block in ("Affine", "Output"), feeds=_any),
    Cause("netx adds up what an Affine without dynamics gives", "dynamics=True",
          "read how the voltage changes from one step to the next",
          lambda l: l.block == "Affine" and l.neuron is None and not l.is_complex, blocks=False),
    Cause("netx equals lapilli for scales that are powers of two only", "1, 2, 4, ...",
          _POWER, lambda l: scale_of(l) & (scale_of(l) - 1) != 0),
    Cause("netx cannot load a dense layer whose weights are all zero (OverflowError)",
          "a weight that is not 0", _TRAIN_ON, lambda l: l.type in _DENSE and _all_zero(l)),
    Cause("netx loses bits of a dense layer without positive weights whose minimum is a power of "
          "two", "a positive weight, or another minimum", "make one weight positive",
          lambda l: l.type in _DENSE and _loses_minimum(l)),
    Cause("netx adds the bias of KWTA to the voltage, lapilli to the current",
          "a threshold at which the bias rounds to 0, or current_decay=1",
          "lower the threshold", _competition_bias),
)  # fmt: skip


def causes_of(layers: list[Layer]) -> Iterator[tuple[int, Cause]]:
    """Yield every cause with the index of the layer that it concerns."""
    for cause in CAUSES:
        for i, layer in enumerate(layers):
            if not cause.applies(layer):
                continue
            after = next((l for l in layers[i + 1 :] if l.weights() and l.type != "input"), None)
            if cause.feeds is None or (after is not None and cause.feeds(layer, after)):
                yield i, cause


def incompatibilities(layers: list[Layer]) -> Iterator[str]:
    """Yield one message for each cause, with the layers that it concerns."""
    for cause, found in itertools.groupby(causes_of(layers), lambda pair: pair[1]):
        where = [f"{i} ({layers[i].module}.{layers[i].block})" for i, _ in found]
        yield f"{cause.problem}: layer {', '.join(where)}"
