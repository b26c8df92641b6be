"""From the values of NIR's nodes to layers, with notes on what is rounded."""

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from lapilli.export.file.layers import Layer
from lapilli.export.file.tables import NEVER_FIRES, P_SCALE, WEIGHT_RANGE
from torch import Tensor

from .graph import Step
from .maps import Matrix, Window

_EXACT = 1e-6  # relative: what products of rounded factors may differ by


def refuse(step: Step, what: str) -> NoReturn:
    """Raise for a node that lapilli does not have."""
    raise NotImplementedError(f"{step.where}: {what}")


def _array(values: Any) -> np.ndarray:
    # Rockpool's graphs hold parameters, which numpy does not take as they are
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def numbers(values: Any) -> np.ndarray:
    """Return the numbers of a node, in float64."""
    return _array(values).astype(np.float64)


def whole_numbers(values: Any) -> np.ndarray:
    """Return whole numbers as the file holds them."""
    return np.array(values, np.int64)


def pair(values: Any) -> tuple[int, int]:
    """Return height and width, of a pair or of one number for both."""
    return tuple(np.broadcast_to(_array(values).astype(np.int64), 2).tolist())


def tolerance_of(node: Any) -> float:
    """Return how far equal products may lie apart, relative, in the precision of the node."""
    given = (_array(value).dtype for value in vars(node).values() if hasattr(value, "dtype"))
    return max([_EXACT, *(8 * np.finfo(t).eps for t in given if np.issubdtype(t, np.floating))])


def per_channel(step: Step, what: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return one value, or one a channel, of values that may be one a neuron."""
    values = numbers(values)
    try:
        rows = np.broadcast_to(values, shape).reshape(shape[0], -1)
    except ValueError:
        raise ValueError(
            f"{step.where}: {what} has shape {values.shape}; expected one value, or {shape}"
        ) from None
    if np.any(np.isnan(rows)):
        raise ValueError(f"{step.where}: {what} holds NaN")
    rtol = tolerance_of(step.node)
    if np.all(np.isclose(rows, rows[0, 0], rtol, atol=0)):
        return rows[0, 0]
    if not np.all(np.isclose(rows, rows[:, :1], rtol, atol=0)):
        refuse(step, f"{what} differs within a channel; lapilli has one value a channel")
    return rows[:, 0]


@dataclass
class Dynamics:
    """What a neuron's node says, one value each or one a channel."""

    lost_u: np.ndarray | np.floating  # share of the current that a step loses
    lost_v: np.ndarray | np.floating
    gain: np.ndarray  # of the weights
    bias: np.ndarray  # added to the voltage in each step
    threshold: np.ndarray | None  # None for a readout


class LayerMaker:
    """Put layers together from what nodes say."""

    def __init__(self, dt: float, scale: int):
        self.dt, self.scale = dt, scale
        self.shape: tuple[int, ...] = ()  # of what the last layer sends
        self.batched = False  # the Input's shape begins with a batch of one
        self.map: Matrix | Window | None = None  # what waits for its neuron
        self.layers: list[Layer] = []
        self.exact: list[dict[str, np.ndarray]] = []  # attribute -> weights, where rounded
        self.sources: list[str] = []  # the node that errors name, for each layer
        self.notes: list[str] = []  # what was rounded

    def _finish(self, step: Step, layer: Layer, exact: dict[str, np.ndarray] | None = None) -> None:
        if layer.block not in ("Affine", "Flatten"):
            layer.params["delay_shift"] = False
        self.layers.append(layer)
        self.exact.append(exact or {})
        self.sources.append(step.where)

    def _layer(self, step: Step, map_: Matrix | Window, fires: bool) -> Layer:
        """Return the layer with its structure, without values."""
        data: dict[str, Any] = {"shape": whole_numbers(map_.shape)}
        if isinstance(map_, Window):
            type_, block = ("pool", "Pool") if map_.pools else ("conv", "Conv")
            data |= {n: whole_numbers(getattr(map_, n)) for n in ("stride", "padding", "dilation")}
            if not map_.pools:
                data["groups"] = whole_numbers(map_.groups)
        else:
            type_, block = "dense", "Dense"
            data |= {"outFeatures": whole_numbers(len(map_.weight)),
                     "inFeatures": whole_numbers(map_.weight.shape[1])}  # fmt: skip
            if map_.feedback is not None:
                type_, block = "dense_rec", "Recurrent"
        if not fires:
            if type_ != "dense":
                refuse(step, "a readout that is not behind a Linear or Affine")
            block = "Affine"
        layer = Layer(type_, data, "cuba", block)
        layer.params["neuron_params"] = {"scale": self.scale}
        return layer

    def _add_dynamics(self, step: Step, layer: Layer, says: Dynamics) -> None:
        data = layer.data
        data["neuron/type"], data["neuron/gradedSpike"] = "CUBA", False
        data["neuron/refDelay"] = whole_numbers(1)
        shares = [says.lost_u, says.lost_v]
        if any(np.ndim(share) for share in shares):  # the blocks have both of one kind
            shares = [np.broadcast_to(share, layer.shape[0]) for share in shares]
        names = ("tau_syn", "tau_mem")
        for dataset, name, share in zip(("iDecay", "vDecay"), names, shares, strict=True):
            data[f"neuron/{dataset}"] = self._rounded(step, name, share * P_SCALE)
        if says.threshold is None:
            data["neuron/vThMant"] = whole_numbers(NEVER_FIRES)
        else:
            theta = self._rounded(step, "v_threshold", says.threshold * self.scale)
            data["neuron/vThMant"] = theta
        if np.any(says.bias):
            bias = np.broadcast_to(says.bias, layer.shape[0])
            data["bias"] = self._rounded(step, "bias", bias * self.scale, 2).astype(np.float32)

    def _rounded(self, step: Step, what: str, values: np.ndarray, unit: int = 1) -> np.ndarray:
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{step.where}: {what} holds values that are not finite")
        rounded = np.rint(values / unit) * unit
        error = np.abs(rounded - values).max()
        if error > _EXACT * max(1.0, np.abs(values).max()):
            self.notes.append(f"{step.where}: {what} is rounded by {error:.3g} units")
        return rounded.astype(np.int64)

    def _add_weights(
        self, step: Step, layer: Layer, map_: Any, gain: np.ndarray | np.floating
    ) -> dict[str, np.ndarray]:
        """Put rounded weights into the layer; return the exact ones, where they differ."""
        weights = {"weight": map_.weight}
        attributes = {"weight": "synapse"}
        if layer.block == "Recurrent":
            weights["weight_rec"] = map_.feedback
            attributes = {"weight": "input_synapse", "weight_rec": "recurrent_synapse"}
        exact = {}
        for dataset, weight in weights.items():
            rows = np.reshape(gain, (-1, *(1,) * (weight.ndim - 1)))
            units = weight * rows * self.scale
            if not np.all(np.isfinite(units)):
                raise ValueError(f"{step.where}: {dataset} holds values that are not finite")
            grid = np.clip(np.rint(units / 2) * 2, *WEIGHT_RANGE)
            if units.any() and not grid.any():
                raise ValueError(
                    f"{step.where}: all weights round to 0, since r and w_in multiply them by "
                    f"{np.max(gain):.3g}; is dt right?"
                )
            error = np.abs(grid - units).max()
            if error > _EXACT * max(1.0, np.abs(units).max()):
                note = f"{step.where}: weights are rounded in forward, by up to "
                note += f"{error / self.scale:.3g}"
                if error > 1 + _EXACT:  # more than half a step
                    low, high = (n / self.scale for n in WEIGHT_RANGE)
                    note += f"; some lie beyond {low:g} to {high:g}: give a smaller scale"
                self.notes.append(note)
                exact[attributes[dataset]] = units / self.scale
            layer.data[dataset] = grid.astype(np.float32)
        return exact
