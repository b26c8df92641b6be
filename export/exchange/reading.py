"""From a NIR graph to layers; the equations are in interchange.py."""

import math
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from lapilli.export.file.checks import check
from lapilli.export.file.errors import LayerError, QuantisationWarning
from lapilli.export.file.layers import Layer
from lapilli.export.file.tables import P_SCALE, W_SCALE
from lapilli.export.network.build import Network, build

from .graph import Step, chain, load_nir
from .maps import Matrix, Window, one_weight_a_channel, pool_in_matrix, windows_in_one
from .putting_together import (
    Dynamics,
    LayerMaker,
    numbers,
    pair,
    per_channel,
    refuse,
    tolerance_of,
    whole_numbers,
)

if TYPE_CHECKING:
    import nir

__all__ = ["from_nir"]


def from_nir(graph: "nir.NIRGraph", *, dt: float | None = None, scale: int = W_SCALE) -> Network:
    """Turn a NIR graph into a network; exact where weights and time constants lie on the grid.

    Parameters
    ----------
    graph
        A ``nir.NIRGraph``, its values NumPy arrays or CPU tensors: a chain of Linear, Affine,
        Conv2d, SumPool2d or AvgPool2d, each before a CubaLIF, LIF, IF, CubaLI, LI or I; Flatten,
        Scale after a pool, Delay after a neuron, and a Linear or Affine from a neuron back to
        itself. Nested graphs are opened. A pool without a neuron is multiplied into the Conv2d or
        Linear beside it; a last Linear needs no neuron. Time constants, gains, leaks and delays may
        differ between channels.
    dt
        Length of a time step in seconds; by default what the graph's metadata says. Only lapilli
        writes it there: docs/network-files.md lists the steps of other tools.
    scale
        Number of integer units in a weight of 1; weights reach from -256 to 254 units.

    Returns
    -------
    Network
        In eval mode. Weights that are not on the grid stay as they are and are rounded in forward.

    Raises
    ------
    ImportError
        If nir is not installed.
    TypeError
        If ``graph`` is no graph.
    NotImplementedError
        For a node or an option that lapilli does not have; names it.
    ValueError
        If the graph is no chain, values are out of range, or nothing tells ``dt``.

    Warns
    -----
    QuantisationWarning
        If weights, thresholds or time constants are rounded.

    Examples
    --------
    >>> import torch
    >>> from lapilli import export, slayer
    >>> neuron = dict(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 3, 2)).eval()
    >>> x = (torch.rand(4, 3, 10) < 0.5).float()
    >>> output = net(x)
    >>> export.save(net, "network.net")
    >>> again = export.from_nir(export.to_nir("network.net"))  # or a graph of another library
    >>> torch.equal(again(x), output)
    True
    """
    nir = load_nir()
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            f"from_nir takes a nir.NIRGraph; got {graph!r}. Read a file with nir.read(path) first."
        )
    metadata = graph.metadata if isinstance(graph.metadata, dict) else {}
    dt = dt if dt is not None else metadata.get("dt")
    if dt is None:
        raise ValueError(
            "the graph does not tell the length of a step; give dt in seconds "
            "(docs/network-files.md lists the steps of other tools)"
        )
    if not 0 < float(dt) < math.inf:
        raise ValueError(f"dt must be positive and finite; got {dt}")
    reader = _Reader(float(dt), scale)
    for step in chain(graph):
        reader.take(step)
    for note in reader.notes:
        warnings.warn(note, QuantisationWarning, stacklevel=2)
    for layer, where in zip(reader.layers, reader.sources, strict=True):
        try:
            check(layer)
        except LayerError as error:
            raise ValueError(f"{where}: {error}") from None
    network = build(reader.layers)
    for block, weights in zip(network, reader.exact, strict=True):
        for attribute, weight in weights.items():
            stored = getattr(block, attribute).weight
            stored.data.copy_(stored.new_tensor(weight).reshape(stored.shape))
    return network


class _Reader(LayerMaker):
    """Walk along the chain and put layers together."""

    def take(self, step: Step) -> None:
        """Add the next node of the chain."""
        handlers = {
            "Input": self._input, "Output": self._output, "Flatten": self._flatten,
            "Linear": self._dense, "Affine": self._dense, "Conv2d": self._conv,
            "SumPool2d": self._pool, "AvgPool2d": self._pool, "Scale": self._scale,
            "Delay": self._delay,
            **dict.fromkeys(("CubaLIF", "LIF", "IF", "CubaLI", "LI", "I"), self._neuron),
        }  # fmt: skip
        if step.kind not in handlers:
            refuse(step, f"lapilli reads {', '.join(handlers)} nodes of NIR")
        if step.feedback is not None and handlers[step.kind] != self._neuron:
            refuse(step, f"{step.feedback[0]} leads back to it; only neurons feed themselves")
        handlers[step.kind](step)

    # ends of the chain

    def _input(self, step: Step) -> None:
        shape = tuple(int(n) for n in step.node.input_type["input"])
        self.batched = len(shape) in (2, 4) and shape[0] == 1
        self.shape = shape[1:] if self.batched else shape
        if len(self.shape) not in (1, 3):
            refuse(step, f"has shape {shape}; expected (N,) or (C, H, W), or a batch of one")
        self._finish(step, Layer("input", {"shape": whole_numbers(self.shape)}, "cuba", "Input"))

    def _output(self, step: Step) -> None:
        if isinstance(self.map, Matrix):
            self._add_weighted_sum(step, self.map)
        self._no_map_waits(step)
        if not self.layers[0].params["delay_shift"] and len(self.layers) > 1:
            del self.layers[0], self.exact[0], self.sources[0]  # the Input does nothing

    def _add_weighted_sum(self, step: Step, map_: Matrix) -> None:
        """Add a last synapse without a neuron: an Affine block without dynamics."""
        if map_.bias.any():
            refuse(step, "a synapse with a bias and without a neuron stands before it; put an LI "
                    "with tau = dt there")  # fmt: skip
        layer = self._layer(step, map_, fires=False)
        exact = self._add_weights(step, layer, map_, np.float64(1))
        self.shape, self.map = layer.shape, None
        self._finish(step, layer, exact)

    def _no_map_waits(self, step: Step) -> None:
        if self.map is not None:
            refuse(
                step,
                "a synapse without a neuron stands before it; put a neuron between, or multiply "
                "the weights of the two",
            )

    # linear nodes

    def _flatten(self, step: Step) -> None:
        before = self.shape if self.map is None else self.map.shape
        dims = (1, *before) if self.batched else before
        start, end = (int(n) % len(dims) for n in (step.node.start_dim, step.node.end_dim))
        if math.prod(dims[start : end + 1]) != math.prod(dims):
            refuse(step, f"flattens dimensions {start} to {end} of {dims} only; expected all")
        if len(before) == 1:
            return
        if self.map is None:
            self._add_flatten(step)
        elif isinstance(self.map, Window) and self.map.pools:
            self.map.flat = True
        else:
            refuse(step, "stands between a synapse and its neuron; put it behind the neuron")

    def _add_flatten(self, step: Step) -> None:
        self.shape = (math.prod(self.shape),)
        shape = whole_numbers((*self.shape, 1, 1))
        self._finish(step, Layer("flatten", {"shape": shape}, "cuba", "Flatten"))

    def _matrix(self, step: Step, node: Any, inputs: tuple[int, ...]) -> Matrix:
        weight = numbers(node.weight)
        if weight.ndim != 2 or inputs != weight.shape[1:]:
            raise ValueError(f"{step.where}: weight {weight.shape} does not take {inputs}")
        bias = getattr(node, "bias", None)
        bias = np.zeros(len(weight)) if bias is None else numbers(bias)
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"{step.where}: bias {bias.shape} of weight {weight.shape}")
        return Matrix(weight, bias)

    def _dense(self, step: Step) -> None:
        pool = self.map
        if not isinstance(pool, Window) or not pool.pools:
            self._no_map_waits(step)
            self.map = self._matrix(step, step.node, self.shape)
            return
        matrix = self._matrix(step, step.node, pool.shape)
        self._add_flatten(step)
        self.map = replace(matrix, weight=pool_in_matrix(pool, matrix.weight))

    def _conv(self, step: Step) -> None:
        node = step.node
        weight = numbers(node.weight)
        kernel, dilation = weight.shape[2:], pair(node.dilation)
        if isinstance(node.padding, str):
            same = node.padding == "same"
            spare = [same * d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            if any(n % 2 for n in spare):
                refuse(step, "padding 'same' differs between the sides; use an odd kernel")
            padding = tuple(n // 2 for n in spare)
        else:
            padding = pair(node.padding)
        bias = np.zeros(len(weight)) if node.bias is None else numbers(node.bias)
        before = self._frames(step)
        if before[0] != weight.shape[1] * int(node.groups):
            raise ValueError(f"{step.where}: weight {weight.shape} does not take {before}")
        self._add_window(step, Window(
            weight, bias, before, pair(node.stride), padding, dilation, int(node.groups)
        ))  # fmt: skip

    def _pool(self, step: Step) -> None:
        node, before = step.node, self._frames(step)
        kernel = pair(node.kernel_size)
        factor = 1 / math.prod(kernel) if step.kind == "AvgPool2d" else 1.0
        self._add_window(step, Window(
            np.full((1, 1, *kernel), factor), np.zeros(before[0]), before,
            pair(node.stride), pair(node.padding), pools=True,
        ))  # fmt: skip

    def _frames(self, step: Step) -> tuple[int, int, int]:
        shape = self.shape if self.map is None else self.map.shape
        if len(shape) != 3:
            raise ValueError(f"{step.where}: does not take {shape}; expected (C, H, W)")
        return shape

    def _add_window(self, step: Step, window: Window) -> None:
        if min(window.shape) < 1:
            raise ValueError(f"{step.where}: its window is larger than {window.before}")
        if self.map is None:
            self.map = window
            return
        before: Any = self.map  # a Window: what a Matrix gives is flat, and was refused
        if not (before.pools or window.pools):
            self._no_map_waits(step)
        both = windows_in_one(before, window)
        if both is None:
            refuse(step, "its padding does not go with the pool or convolution right before it")
        self.map = both

    def _scale(self, step: Step) -> None:
        factors = np.unique(numbers(step.node.scale))
        if not isinstance(self.map, Window) or not self.map.pools or factors.size != 1:
            refuse(step, "lapilli reads one factor behind a pool only; multiply it into the "
                    "weights")  # fmt: skip
        self.map.weight = self.map.weight * factors[0]

    # delays

    def _delay(self, step: Step) -> None:
        self._no_map_waits(step)
        steps = numbers(step.node.delay) / self.dt
        whole = np.rint(steps)
        if not np.all(np.abs(steps - whole) <= tolerance_of(step.node) * np.maximum(1, whole)):
            refuse(step, "a delay that is no whole number of steps")
        if whole.min() < 0:
            raise ValueError(f"{step.where}: a delay of {whole.min():g} steps")
        layer = self.layers[-1]
        channels = per_channel(step, "delay", whole, self.shape)
        hop = bool(channels.min() >= 1)
        if layer.params.get("delay_shift") or "delay" in layer.data:
            refuse(step, "a second delay; add it to the first")
        if "delay_shift" not in layer.params or (
            "neuron/type" not in layer.data and channels.max() > 1
        ):
            refuse(step, "lapilli delays spikes only; put it right behind a neuron that spikes")
        layer.params["delay_shift"] = hop
        rest = np.broadcast_to(channels - hop, layer.shape[0])
        if rest.any():
            layer.data["delay"] = rest.astype(np.float32)

    # neurons

    def _neuron(self, step: Step) -> None:
        if self.map is None:
            refuse(step, "a neuron without a synapse before it; put a Linear with the identity "
                    "there")  # fmt: skip
        if step.feedback is not None:
            self._add_feedback(step, *step.feedback)
        says = self._dynamics(step, self.map.shape)
        map_ = self.map
        if isinstance(map_, Window) and map_.pools and self._passes_the_pool_block(map_, says):
            map_ = one_weight_a_channel(map_)
        own = map_.bias * says.gain
        if np.any(own * (np.rint(says.lost_u * P_SCALE) != P_SCALE)):
            refuse(step, "a bias that the synaptic current filters; train without it, or give it "
                    "as v_leak, which it does not filter")  # fmt: skip
        says.bias = says.bias + own
        if isinstance(map_, Window) and map_.flat:
            refuse(step, "a Flatten stands between its synapse and it; put it behind the neuron")
        layer = self._layer(step, map_, says.threshold is not None)
        self._add_dynamics(step, layer, says)
        exact = self._add_weights(step, layer, map_, says.gain)
        self.shape, self.map = layer.shape, None
        self._finish(step, layer, exact)

    @staticmethod
    def _passes_the_pool_block(pool: Window, says: Dynamics) -> bool:
        """Whether a Pool block, of one weight and without bias, cannot hold what a pool needs."""
        sides = zip(pool.before[1:], pool.weight.shape[2:], strict=True)
        return bool(np.ndim(says.gain) or np.any(says.bias) or any(n % k for n, k in sides))

    def _add_feedback(self, step: Step, name: str, node: Any) -> None:
        back = Step(name, node)
        if back.kind not in ("Linear", "Affine") or not isinstance(self.map, Matrix):
            refuse(back, f"leads back to {step.name}; lapilli has feedback through a Linear or "
                    "Affine, to neurons behind a Linear or Affine")  # fmt: skip
        matrix = self._matrix(back, node, self.map.shape)
        if len(matrix.bias) != len(self.map.bias):
            raise ValueError(
                f"{back.where}: weight {matrix.weight.shape} back to {self.map.shape} neurons"
            )
        self.map.feedback = matrix.weight
        self.map.bias = self.map.bias + matrix.bias  # it is on in every step, spike or not

    def _dynamics(self, step: Step, shape: tuple[int, ...]) -> Dynamics:
        node, kind = step.node, step.kind

        def of(what: str, default: float) -> np.ndarray:
            values = getattr(node, what, None)
            return per_channel(step, what, default if values is None else values, shape)

        def lost(what: str) -> np.ndarray:
            tau = of(what, self.dt)
            if not np.all(tau > 0):
                raise ValueError(f"{step.where}: {what} holds {np.min(tau):g}; must be positive")
            share = self.dt / tau
            if np.max(share) > 1 + tolerance_of(node):
                raise ValueError(
                    f"{step.where}: {what} is {np.min(tau):g} s, below the step of {self.dt:g} s; "
                    f"is dt right?"
                )
            return np.minimum(share, 1.0)

        has_leak = kind not in ("IF", "I")
        filters = kind.startswith("Cuba")
        lost_u = lost("tau_syn") if filters else np.float64(1)
        lost_v = lost("tau_mem" if filters else "tau") if has_leak else np.float64(0)
        if np.any(of("v_reset", 0.0)):
            refuse(step, "a reset to another voltage than 0; shift v_leak, v_reset and "
                    "v_threshold by it")  # fmt: skip
        with np.errstate(invalid="ignore"):  # an infinite r times a share of 0: refused below
            gain = of("r", 1.0) * (lost_v if has_leak else self.dt)
            gain = gain * (of("w_in", 1.0) * lost_u if filters else 1)
        if not np.all(np.isfinite(gain)):
            raise ValueError(
                f"{step.where}: r and w_in with these time constants give a gain of "
                f"{np.ravel(gain)[0]:g}; without leak use an IF or I node"
            )
        threshold = of("v_threshold", 1.0) if kind.endswith("IF") else None
        if threshold is not None and np.ndim(threshold):
            refuse(step, "thresholds that differ between channels; divide the weights and biases "
                    "of each by its threshold")  # fmt: skip
        gain = per_channel(step, "gain", self._of_neurons(gain, shape), shape)
        return Dynamics(lost_u, lost_v, gain, of("v_leak", 0.0) * lost_v, threshold)

    @staticmethod
    def _of_neurons(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return values that numpy can spread over ``shape``, of one or one a channel."""
        return values.reshape(-1, *(1,) * (len(shape) - 1)) if np.ndim(values) else values
