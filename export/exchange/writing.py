"""From layers to a NIR graph; the equations are in interchange.py."""

import math
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from lapilli.export.file.layers import Layer, competition_bias, is_shifted, scale_of
from lapilli.export.file.reader import read_network
from lapilli.export.file.shapes import input_shape_of
from lapilli.export.file.tables import P_SCALE
from lapilli.export.network.saving import planned
from torch import nn

from .graph import load_nir

if TYPE_CHECKING:
    import nir

__all__ = ["DEFAULT_STEP", "to_nir"]

DEFAULT_STEP = 1e-3  # seconds


def _refuse(where: str, what: str) -> NoReturn:
    raise NotImplementedError(f"{where}: NIR has no exact counterpart of {what}")


def to_nir(
    net: nn.Module | Sequence[nn.Module] | str | os.PathLike[str],
    *,
    dt: float = DEFAULT_STEP,
    input_shape: Sequence[int] | None = None,
) -> "nir.NIRGraph":
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

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> sorted(export.to_nir("network.net").nodes)  # a graph of the package nir
    ['0_delay', '0_neuron', '0_synapse', 'input', 'output']
    """
    nir = load_nir()
    if isinstance(net, str | os.PathLike):
        layers = read_network(net).layers
    else:
        layers = planned(net, input_shape=input_shape).layers
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
