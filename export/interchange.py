"""Networks as graphs of NIR, the Neuromorphic Intermediate Representation, and back.

NIR's neurons are differential equations; with forward Euler steps of ``dt`` they are lapilli's:

    CubaLIF  tau_syn = dt / a_u, w_in = 1 / a_u    u = (1 - a_u) u + x
             tau_mem = dt / a_v, r = 1 / a_v       v = (1 - a_v) v + u + b,  v_leak = b / a_v
             spikes where v > threshold, then v = v_reset = 0
    LIF      the same with a_u = 1;  IF also with a_v = 0, r = 1 / dt, and b in the weights' node
    CubaLI, LI, I   the same without threshold: Affine blocks

The hop of one step between layers and axonal delays are Delay nodes. A recurrent layer feeds its
spikes back one step later.

Source: Pedersen et al., Neuromorphic intermediate representation, Nature Communications 2024.
"""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from torch import nn

from .build import Network, build
from .describe import describe
from .errors import LayerError, QuantisationWarning
from .layers import (
    NEVER_FIRES,
    P_SCALE,
    W_SCALE,
    WEIGHT_RANGE,
    Layer,
    check,
    competition_bias,
    input_shape_of,
    is_shifted,
    scale_of,
    window_shape,
)
from .reader import read_network
from .writer import arrange, blocks_of

DEFAULT_STEP = 1e-3  # seconds
_EXACT = 1e-6  # of a product of float64 time constants, relative


def _nir() -> ModuleType:
    try:
        import nir
    except ModuleNotFoundError:
        raise ImportError("nir is not installed; get it with: pip install 'lapilli[nir]'") from None
    return nir


def _refuse(where: str, what: str) -> NoReturn:
    raise NotImplementedError(f"{where}: NIR has no exact counterpart of {what}")


# to NIR


def to_nir(
    net: nn.Module | Sequence[nn.Module] | str | os.PathLike[str],
    *,
    dt: float = DEFAULT_STEP,
    input_shape: Sequence[int] | None = None,
) -> Any:
    """Turn a network into a NIR graph with the same spikes, for forward Euler steps of ``dt``.

    Parameters
    ----------
    net
        A network as ``save`` takes it, or a network file.
    dt
        Length of a time step in seconds; kept in the graph's metadata.
    input_shape
        Shape of a sample without time, ``(C, H, W)``; needed if the first layer is a convolution.

    Returns
    -------
    nir.NIRGraph
        To be written with ``nir.write``.

    Raises
    ------
    ImportError
        If nir is not installed.
    NotImplementedError
        For a layer or an option without an exact counterpart; names both.
    RuntimeError, ValueError
        As ``save``; also if the input's shape is needed and not given.
    """
    nir = _nir()
    if isinstance(net, str | os.PathLike):
        layers = read_network(net).layers
    else:
        layers = arrange([describe(b, f"layer {i}")[0] for i, b in enumerate(blocks_of(net))])
    graph = _Graph(nir, dt)
    shape = tuple(input_shape) if input_shape else input_shape_of(layers[0])
    if shape is None:
        raise ValueError("the first layer does not tell the shape of its input; give input_shape")
    graph.add("input", nir.Input(input_type={"input": np.array(shape)}))
    for i, layer in enumerate(layers):
        _Exported(graph, i, layer, shape)
        shape = layer.shape
        if layer.type == "flatten":
            shape = (math.prod(shape),)
    graph.add("output", nir.Output(output_type={"output": np.array(shape)}))
    return nir.NIRGraph(graph.nodes, graph.edges, metadata={"dt": dt}, type_check=False)


class _Graph:
    """Nodes in a chain, each joined to the one before."""

    def __init__(self, nir: ModuleType, dt: float):
        self.nir, self.dt = nir, dt
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.last: str | None = None

    def add(self, name: str, node: Any) -> None:
        self.nodes[name] = node
        if self.last is not None:
            self.edges.append((self.last, name))
        self.last = name


class _Exported:
    """The nodes of one layer."""

    def __init__(self, graph: _Graph, i: int, layer: Layer, shape: tuple[int, ...]):
        self.graph, self.nir, self.dt = graph, graph.nir, graph.dt
        self.i, self.layer, self.data, self.input_shape = i, layer, layer.data, shape
        self.where = f"layer {i} ({layer.module}.{layer.block})"
        self.scale = scale_of(layer)
        self._refuse_options()
        if layer.type == "flatten":
            node = self.nir.Flatten({"input": np.array(shape)}, start_dim=0)
            graph.add(f"{i}_flatten", node)
        elif layer.type != "input":
            self.bias = self._bias()
            own = self._neuron() if layer.neuron else None
            self._add_map()
            if own is not None:
                graph.add(f"{i}_neuron", own)
                self._add_feedback()
        self._add_delays()

    def _refuse_options(self) -> None:
        layer, data = self.layer, self.data
        if layer.module != "cuba" and layer.type != "flatten":
            _refuse(self.where, f"the neuron {layer.neuron or layer.module}")
        if layer.type in ("average", "convT", "unpool") or (layer.type == "input" and layer.neuron):
            _refuse(self.where, f"{layer.block} layers")
        if data.get("neuron/gradedSpike") is True:
            _refuse(self.where, "graded spikes")
        if np.any(data.get("neuron/weight_exp", 0)):
            _refuse(self.where, "a norm with an exponent")
        if competition_bias(layer):
            _refuse(self.where, "the bias of KWTA")

    def _bias(self) -> np.ndarray:
        return self.data.get("bias", np.zeros(self.layer.shape[0])).astype(np.float64) / self.scale

    def _spread(self, values: Any) -> np.ndarray:
        """One value a neuron, of one a layer or a channel."""
        values = np.asarray(values, np.float64)
        if values.ndim:
            values = values.reshape(-1, *(1,) * (len(self.layer.shape) - 1))
        return np.broadcast_to(values, self.layer.shape).copy()

    def _neuron(self) -> Any:
        lost_u, lost_v = (self._spread(self.data[f"neuron/{n}"]) for n in ("iDecay", "vDecay"))
        lost_u, lost_v = lost_u / P_SCALE, lost_v / P_SCALE
        if np.any(lost_u == 0):
            _refuse(self.where, "a current that never decays")
        instant = bool(np.all(lost_u == 1))
        if not np.all(lost_v) and (np.any(lost_v) or not instant):
            _refuse(self.where, "a voltage that never decays behind a current that does")
        leaks = bool(np.all(lost_v))
        arguments: dict[str, Any] = {}
        if leaks:
            arguments |= {
                "r": 1 / lost_v, "v_leak": self._spread(self.bias) / lost_v,
                ("tau" if instant else "tau_mem"): self.dt / lost_v,
            }  # fmt: skip
            self.bias = np.zeros_like(self.bias)
        else:
            arguments["r"] = np.full(lost_v.shape, 1 / self.dt)
        if not instant:
            arguments |= {"tau_syn": self.dt / lost_u, "w_in": 1 / lost_u}
        fires = self.layer.block != "Affine"
        if fires:
            theta = self._spread(self.data["neuron/vThMant"]) / self.scale
            arguments |= {"v_threshold": theta, "v_reset": np.zeros_like(theta)}
        kind = ("LI" if leaks else "I") + ("F" if fires else "")
        kind = "IF" if kind == "IF" else kind
        return getattr(self.nir, kind if instant else f"Cuba{kind}")(**arguments)

    def _add_map(self) -> None:
        layer, nir, name = self.layer, self.nir, f"{self.i}_synapse"
        weight = next(iter(layer.weights().values())).astype(np.float64) / self.scale
        if layer.type in ("dense", "dense_rec"):
            biased = bool(np.any(self.bias))
            self.graph.add(name, nir.Affine(weight, self.bias) if biased else nir.Linear(weight))
            return
        window = {n: tuple(self.data[n].tolist()) for n in ("stride", "padding")}
        dilation = tuple(self.data["dilation"].tolist())
        if layer.type == "conv":
            self.graph.add(name, nir.Conv2d(
                self.input_shape[1:], weight, dilation=dilation, groups=int(self.data["groups"]),
                bias=self.bias, **window,
            ))  # fmt: skip
            return
        kernel = weight.shape[2:]
        if dilation != (1, 1):
            _refuse(self.where, "dilated pooling")
        if any(n % k for n, k in zip(self.input_shape[1:], kernel, strict=True)):
            _refuse(self.where, "the padding of a size that the window does not divide")
        window = {n: np.array(v) for n, v in window.items()}
        factor = float(weight[0, 0, 0, 0])
        mean = factor * math.prod(kernel) == 1
        pool = nir.AvgPool2d if mean else nir.SumPool2d
        self.graph.add(name, pool(np.array(kernel), **window))
        if not mean and factor != 1:
            self.graph.add(f"{self.i}_scale", nir.Scale(self._spread(factor)))

    def _add_feedback(self) -> None:
        feedback = self.data.get("weight_rec")
        if feedback is not None:
            name, neuron = f"{self.i}_feedback", self.graph.last
            weight = feedback.astype(np.float64) / self.scale
            self.graph.nodes[name] = self.nir.Linear(weight)
            self.graph.edges += [(neuron, name), (name, neuron)]

    def _add_delays(self) -> None:
        steps = self._spread(self.data.get("delay", 0)) + is_shifted(self.layer)
        if steps.any():
            self.graph.add(f"{self.i}_delay", self.nir.Delay(steps * self.dt))


# from NIR


def from_nir(graph: Any, *, dt: float | None = None, scale: int = W_SCALE) -> Network:
    """Turn a NIR graph into a network; exact where weights and time constants lie on the grid.

    Parameters
    ----------
    graph
        A ``nir.NIRGraph``: a chain of Linear, Affine, Conv2d, SumPool2d or AvgPool2d, each before a
        CubaLIF, LIF, IF, CubaLI, LI or I; Flatten, Scale after a pool, Delay after a neuron, and a
        Linear from a neuron back to itself.
    dt
        Length of a time step in seconds; by default what the graph's metadata says.
    scale
        Integer units in 1 of the weights.

    Returns
    -------
    Network
        In eval mode. Weights that are not on the grid stay as they are and are rounded in forward.

    Raises
    ------
    ImportError
        If nir is not installed.
    NotImplementedError
        For a node or an option that lapilli does not have; names it.
    ValueError
        If the graph is no chain, values are out of range, or nothing tells ``dt``.

    Warns
    -----
    QuantisationWarning
        If weights, thresholds or time constants are rounded.
    """
    _nir()
    metadata = graph.metadata if isinstance(graph.metadata, dict) else {}
    dt = dt if dt is not None else metadata.get("dt")
    if dt is None:
        raise ValueError("the graph does not tell the length of a step; give dt in seconds")
    reader = _Imported(float(dt), scale)
    for name in _chain(graph):
        reader.take(name, graph.nodes[name], graph)
    layers, exact = reader.finished()
    for i, layer in enumerate(layers):
        try:
            check(layer)
        except LayerError as error:
            raise ValueError(f"layer {i}: {error}") from None
    network = build(layers)
    for block, weights in zip(network, exact, strict=True):
        for attribute, weight in weights.items():
            stored = getattr(block, attribute).weight
            stored.data.copy_(stored.new_tensor(weight).reshape(stored.shape))
    return network


def _chain(graph: Any) -> list[str]:
    """Return the nodes from input to output, without those that feed back."""
    nir = _nir()
    starts = [n for n, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise ValueError(f"expected a graph with one Input; got {len(starts)}")
    after: dict[str, list[str]] = {}
    for source, target in graph.edges:
        after.setdefault(source, []).append(target)
    order = [starts[0]]
    while True:
        last = order[-1]
        # what feeds a node back to itself belongs to it
        forward = [n for n in after.get(last, []) if n != last and after.get(n) != [last]]
        if not forward:
            break
        if len(forward) > 1 or forward[0] in order:
            raise ValueError(f"expected a chain of nodes; {last} leads to {', '.join(forward)}")
        order.append(forward[0])
    if not isinstance(graph.nodes[order[-1]], nir.Output):
        raise ValueError(f"the chain from the Input ends at {order[-1]}, which is no Output")
    loops = {n for n, targets in after.items() if len(targets) == 1 and targets[0] in order}
    left = set(graph.nodes) - set(order) - loops
    if left:
        raise ValueError(f"the chain from Input to Output leaves out {', '.join(sorted(left))}")
    return order


@dataclass
class _Pending:
    """A layer that is being put together from its nodes."""

    type: str
    data: dict[str, Any]
    shape: tuple[int, ...]
    bias: np.ndarray
    gain: float = 1.0
    weights: dict[str, np.ndarray] = field(default_factory=dict)  # by dataset, real units


class _Imported:
    """Walk along the chain and put layers together."""

    def __init__(self, dt: float, scale: int):
        self.dt, self.scale = dt, scale
        self.shape: tuple[int, ...] = ()
        self.pending: _Pending | None = None
        self.layers: list[Layer] = []
        self.exact: list[dict[str, np.ndarray]] = []

    def take(self, name: str, node: Any, graph: Any) -> None:
        kind = type(node).__name__
        where = f"node {name} ({kind})"
        handlers = {
            "Input": self._input, "Output": self._output, "Flatten": self._flatten,
            "Linear": self._dense, "Affine": self._dense, "Conv2d": self._conv,
            "SumPool2d": self._pool, "AvgPool2d": self._pool, "Scale": self._scaled,
            "Delay": self._delay,
            **dict.fromkeys(("CubaLIF", "LIF", "IF", "CubaLI", "LI", "I"), self._neuron),
        }  # fmt: skip
        if kind not in handlers:
            raise NotImplementedError(f"{where}: lapilli reads {', '.join(handlers)} nodes of NIR")
        if self.pending is not None and kind in (
            "Output", "Flatten", "Linear", "Affine", "Conv2d", "SumPool2d", "AvgPool2d", "Delay",
        ):  # fmt: skip
            raise NotImplementedError(f"{where}: a synapse without a neuron stands before it")
        handlers[kind](where, name, node, graph)

    def finished(self) -> tuple[list[Layer], list[dict[str, np.ndarray]]]:
        return self.layers, self.exact

    def _input(self, where: str, name: str, node: Any, graph: Any) -> None:
        self.shape = tuple(int(n) for n in node.input_type["input"])
        if len(self.shape) not in (1, 3):
            raise NotImplementedError(
                f"{where}: has shape {self.shape}; expected (N,) or (C, H, W)"
            )
        self._finish(Layer("input", {"shape": self._array(self.shape)}, "cuba", "Input"))

    def _output(self, where: str, name: str, node: Any, graph: Any) -> None:
        first = self.layers[0]
        if not first.params["delay_shift"] and len(self.layers) > 1:
            del self.layers[0], self.exact[0]  # the Input does nothing

    def _flatten(self, where: str, name: str, node: Any, graph: Any) -> None:
        if len(self.shape) == 1:
            return
        count = math.prod(self.shape)
        self.shape = (count,)
        self._finish(Layer("flatten", {"shape": self._array((count, 1, 1))}, "cuba", "Flatten"))

    @staticmethod
    def _array(values: Any) -> np.ndarray:
        return np.array(values, np.int64)

    def _dense(self, where: str, name: str, node: Any, graph: Any) -> None:
        weight = np.asarray(node.weight, np.float64)
        if weight.ndim != 2 or self.shape != (weight.shape[1],):
            raise ValueError(f"{where}: weight {weight.shape} does not take {self.shape}")
        bias = np.asarray(getattr(node, "bias", np.zeros(len(weight))), np.float64)
        sizes = {"outFeatures": self._array(weight.shape[0]),
                 "inFeatures": self._array(weight.shape[1])}  # fmt: skip
        self.pending = _Pending("dense", sizes, weight.shape[:1], bias, weights={"weight": weight})

    def _conv(self, where: str, name: str, node: Any, graph: Any) -> None:
        weight = np.asarray(node.weight, np.float64)
        kernel, dilation = weight.shape[2:], self._pair(node.dilation)
        if isinstance(node.padding, str):
            if node.padding == "same" and any(
                d * (k - 1) % 2 for d, k in zip(dilation, kernel, strict=True)
            ):
                raise NotImplementedError(f"{where}: padding 'same' that differs between the sides")
            same = node.padding == "same"
            padding = [same * d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
        else:
            padding = self._pair(node.padding)
        window = {"stride": self._pair(node.stride), "padding": padding, "dilation": dilation,
                  "groups": int(node.groups)}  # fmt: skip
        self._window("conv", weight, np.asarray(node.bias, np.float64), window)

    @staticmethod
    def _pair(value: Any) -> list[int]:
        return np.broadcast_to(np.asarray(value, np.int64), 2).tolist()

    def _pool(self, where: str, name: str, node: Any, graph: Any) -> None:
        kernel = self._pair(node.kernel_size)
        if len(self.shape) != 3 or any(n % k for n, k in zip(self.shape[1:], kernel, strict=True)):
            raise NotImplementedError(f"{where}: {kernel} does not divide {self.shape}")
        factor = 1 / math.prod(kernel) if type(node).__name__ == "AvgPool2d" else 1.0
        window = {"stride": self._pair(node.stride), "padding": self._pair(node.padding),
                  "dilation": [1, 1]}  # fmt: skip
        self._window("pool", np.full((1, 1, *kernel), factor), np.zeros(self.shape[0]), window)

    def _window(self, type_: str, weight: np.ndarray, bias: np.ndarray, window: dict) -> None:
        data = {name: self._array(value) for name, value in window.items()}
        shape = window_shape(self.shape, Layer(type_, {
            **data, "weight": weight, "shape": self._array([len(weight), 1, 1]),
        }))  # fmt: skip
        self.pending = _Pending(type_, data, shape, bias, weights={"weight": weight})

    def _scaled(self, where: str, name: str, node: Any, graph: Any) -> None:
        factors = np.unique(np.asarray(node.scale, np.float64))
        if self.pending is None or self.pending.type != "pool" or factors.size != 1:
            raise NotImplementedError(f"{where}: lapilli reads one factor behind a pool only")
        self.pending.weights["weight"] = self.pending.weights["weight"] * factors[0]

    def _delay(self, where: str, name: str, node: Any, graph: Any) -> None:
        steps = np.asarray(node.delay, np.float64) / self.dt
        whole = np.rint(steps)
        if np.abs(steps - whole).max() > _EXACT * max(1.0, whole.max()) or whole.min() < 0:
            raise NotImplementedError(f"{where}: a delay that is no whole number of steps")
        layer = self.layers[-1]
        channels = self._of_channels(where, "delay", whole, layer.shape)
        hop = bool(channels.min() >= 1)
        if layer.params.get("delay_shift"):
            raise NotImplementedError(f"{where}: a second delay")
        if "delay_shift" not in layer.params or (
            "neuron/type" not in layer.data and channels.max() > 1
        ):
            raise NotImplementedError(f"{where}: lapilli delays spikes only")
        layer.params["delay_shift"] = hop
        rest = np.broadcast_to(channels - hop, layer.shape[0])
        if rest.any():
            layer.data["delay"] = rest.astype(np.float32)

    def _of_channels(self, where: str, what: str, values: np.ndarray, shape: tuple) -> np.ndarray:
        """Return one value, or one a channel, of values that may be one a neuron."""
        values = np.asarray(values, np.float64)
        if np.all(values == values.flat[0]):
            return values.reshape(-1)[:1].reshape(())
        rows = np.broadcast_to(values, shape).reshape(shape[0], -1)
        if np.any(rows != rows[:, :1]):
            raise NotImplementedError(f"{where}: {what} that differs within a channel")
        return rows[:, 0]

    def _neuron(self, where: str, name: str, node: Any, graph: Any) -> None:
        pending, kind = self.pending, type(node).__name__
        if pending is None:
            raise NotImplementedError(f"{where}: a neuron without a synapse before it")
        shape = pending.shape

        def of(what: str, default: float) -> np.ndarray:
            values = getattr(node, what, None)
            values = np.float64(default) if values is None else np.asarray(values, np.float64)
            return self._of_channels(where, what, values, shape)

        fires = kind.endswith("IF")
        lost_u = self.dt / of("tau_syn", self.dt)
        has_leak = kind not in ("IF", "I")
        lost_v = self.dt / of("tau_mem" if kind.startswith("Cuba") else "tau", self.dt)
        lost_v = lost_v if has_leak else np.float64(0)
        if np.any(of("v_reset", 0.0)):
            raise NotImplementedError(f"{where}: a reset to another voltage than 0")
        gain_u = of("w_in", 1.0) * lost_u if kind.startswith("Cuba") else np.float64(1)
        gain_v = of("r", 1.0) * (lost_v if has_leak else self.dt)
        gain = np.unique(np.round(gain_u * gain_v, 9))
        if gain.size != 1:
            raise NotImplementedError(f"{where}: gains w_in and r that differ between neurons")
        bias = np.broadcast_to(of("v_leak", 0.0) * lost_v, shape[0])
        own = pending.bias * gain[0]
        if own.any() and np.any(lost_u != 1):
            raise NotImplementedError(f"{where}: a bias that the synaptic current filters")
        pending.gain = float(gain[0])
        self._add_feedback(where, name, graph)
        data = pending.data
        data["neuron/type"], data["neuron/gradedSpike"] = "CUBA", False
        data["neuron/refDelay"] = self._array(1)
        data["neuron/iDecay"] = self._rounded(where, "tau_syn", lost_u * P_SCALE)
        data["neuron/vDecay"] = self._rounded(where, "tau_mem", lost_v * P_SCALE)
        theta = of("v_threshold", 1.0) * self.scale
        if theta.ndim:
            raise NotImplementedError(f"{where}: thresholds that differ between channels")
        theta = self._rounded(where, "v_threshold", theta)
        data["neuron/vThMant"] = theta if fires else self._array(NEVER_FIRES)
        if (bias + own).any():
            data["bias"] = self._rounded(where, "bias", (bias + own) * self.scale, 2).astype("f4")
        self._close(where, fires)

    def _add_feedback(self, where: str, name: str, graph: Any) -> None:
        loops = [t for s, t in graph.edges if s == name and (t, name) in graph.edges]
        if not loops:
            return
        node = graph.nodes[loops[0]]
        if len(loops) > 1 or type(node).__name__ != "Linear" or self.pending.type != "dense":
            raise NotImplementedError(f"{where}: feedback other than one Linear, to dense neurons")
        self.pending.type = "dense_rec"
        self.pending.weights["weight_rec"] = np.asarray(node.weight, np.float64)

    def _rounded(self, where: str, what: str, values: np.ndarray, unit: int = 1) -> np.ndarray:
        rounded = np.rint(values / unit) * unit
        error = np.abs(rounded - values).max()
        if error > _EXACT * max(1.0, np.abs(values).max()):
            warnings.warn(
                f"{where}: {what} is rounded by {error:.3g} units",
                QuantisationWarning,
                stacklevel=6,
            )
        return rounded.astype(np.int64)

    def _close(self, where: str, fires: bool) -> None:
        """Turn what is pending into a layer, its weights rounded; keep the exact ones."""
        pending = self.pending
        blocks = {"dense": "Dense", "dense_rec": "Recurrent", "conv": "Conv", "pool": "Pool"}
        block = blocks[pending.type]
        if not fires:
            if pending.type != "dense":
                raise NotImplementedError(f"{where}: a readout that is not behind a Linear")
            block = "Affine"
        exact = {}
        attributes = {"weight": "input_synapse" if block == "Recurrent" else "synapse",
                      "weight_rec": "recurrent_synapse"}  # fmt: skip
        for dataset, weight in pending.weights.items():
            units = weight * pending.gain * self.scale
            grid = np.clip(np.rint(units / 2) * 2, *WEIGHT_RANGE)
            error = np.abs(grid - units).max()
            if error > _EXACT * max(1.0, np.abs(units).max()):
                warnings.warn(
                    f"{where}: weights are rounded in forward, by up to {error / self.scale:.3g}",
                    QuantisationWarning, stacklevel=5,
                )  # fmt: skip
                exact[attributes[dataset]] = units / self.scale
            pending.data[dataset] = grid.astype(np.float32)
        pending.data["shape"] = self._array(pending.shape)
        layer = Layer(pending.type, pending.data, "cuba", block)
        layer.params["neuron_params"] = {"scale": self.scale}
        if pending.type == "pool":
            layer.data.pop("bias", None)
        self.shape, self.pending = pending.shape, None
        self._finish(layer, exact)

    def _finish(self, layer: Layer, exact: dict[str, np.ndarray] | None = None) -> None:
        if layer.block not in ("Affine", "Flatten"):
            layer.params["delay_shift"] = False
        self.layers.append(layer)
        self.exact.append(exact or {})
