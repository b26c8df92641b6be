"""From a NIR graph to layers; the equations are in interchange.py."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from lapilli.export.file.errors import LayerError, QuantisationWarning
from lapilli.export.file.layers import NEVER_FIRES, P_SCALE, W_SCALE, WEIGHT_RANGE, Layer, check
from lapilli.export.network.build import Network, build
from torch import Tensor

from .graph import Step, chain, load_nir
from .maps import Matrix, Window, one_weight_a_channel, pool_in_matrix, windows_in_one

_EXACT = 1e-6  # relative: what products of rounded factors may differ by


def from_nir(graph: Any, *, dt: float | None = None, scale: int = W_SCALE) -> Network:
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
        Integer units in 1 of the weights, which reach from -256 to 254 units.

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
    load_nir()
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


def _refuse(step: Step, what: str) -> NoReturn:
    raise NotImplementedError(f"{step.where}: {what}")


def _array(values: Any) -> np.ndarray:
    # Rockpool's graphs hold parameters, which numpy does not take as they are
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _values(values: Any) -> np.ndarray:
    return _array(values).astype(np.float64)


def _integers(values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def _pair(values: Any) -> tuple[int, int]:
    return tuple(np.broadcast_to(_array(values).astype(np.int64), 2).tolist())


def _tolerance(node: Any) -> float:
    """Return how far equal products may lie apart, relative, in the precision of the node."""
    given = (_array(value).dtype for value in vars(node).values() if hasattr(value, "dtype"))
    return max([_EXACT, *(8 * np.finfo(t).eps for t in given if np.issubdtype(t, np.floating))])


def _per_channel(step: Step, what: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return one value, or one a channel, of values that may be one a neuron."""
    values = _values(values)
    try:
        rows = np.broadcast_to(values, shape).reshape(shape[0], -1)
    except ValueError:
        raise ValueError(
            f"{step.where}: {what} has shape {values.shape}; expected one value, or {shape}"
        ) from None
    if np.any(np.isnan(rows)):
        raise ValueError(f"{step.where}: {what} holds NaN")
    rtol = _tolerance(step.node)
    if np.all(np.isclose(rows, rows[0, 0], rtol, atol=0)):
        return rows[0, 0]
    if not np.all(np.isclose(rows, rows[:, :1], rtol, atol=0)):
        _refuse(step, f"{what} differs within a channel; lapilli has one value a channel")
    return rows[:, 0]


@dataclass
class _Dynamics:
    """What a neuron's node says, one value each or one a channel."""

    lost_u: np.ndarray  # share of the current that a step loses
    lost_v: np.ndarray
    gain: np.ndarray  # of the weights
    bias: np.ndarray  # added to the voltage in each step
    threshold: np.ndarray | None  # None for a readout


class _Reader:
    """Walk along the chain and put layers together."""

    def __init__(self, dt: float, scale: int):
        self.dt, self.scale = dt, scale
        self.shape: tuple[int, ...] = ()  # of what the last layer sends
        self.batched = False  # the Input's shape begins with a batch of one
        self.map: Matrix | Window | None = None  # what waits for its neuron
        self.layers: list[Layer] = []
        self.exact: list[dict[str, np.ndarray]] = []  # attribute -> weights, where rounded
        self.sources: list[str] = []  # the node that errors name, for each layer
        self.notes: list[str] = []  # what was rounded

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
            _refuse(step, f"lapilli reads {', '.join(handlers)} nodes of NIR")
        if step.feedback is not None and handlers[step.kind] != self._neuron:
            _refuse(step, f"{step.feedback[0]} leads back to it; only neurons feed themselves")
        handlers[step.kind](step)

    def _finish(self, step: Step, layer: Layer, exact: dict[str, np.ndarray] | None = None) -> None:
        if layer.block not in ("Affine", "Flatten"):
            layer.params["delay_shift"] = False
        self.layers.append(layer)
        self.exact.append(exact or {})
        self.sources.append(step.where)

    # ends of the chain

    def _input(self, step: Step) -> None:
        shape = tuple(int(n) for n in step.node.input_type["input"])
        self.batched = len(shape) in (2, 4) and shape[0] == 1
        self.shape = shape[1:] if self.batched else shape
        if len(self.shape) not in (1, 3):
            _refuse(step, f"has shape {shape}; expected (N,) or (C, H, W), or a batch of one")
        self._finish(step, Layer("input", {"shape": _integers(self.shape)}, "cuba", "Input"))

    def _output(self, step: Step) -> None:
        if isinstance(self.map, Matrix):
            self._add_weighted_sum(step)
        self._no_map_waits(step)
        if not self.layers[0].params["delay_shift"] and len(self.layers) > 1:
            del self.layers[0], self.exact[0], self.sources[0]  # the Input does nothing

    def _add_weighted_sum(self, step: Step) -> None:
        """Add a last synapse without a neuron: an Affine block without dynamics."""
        map_ = self.map
        if map_.bias.any():
            _refuse(step, "a synapse with a bias and without a neuron stands before it; put an LI "
                    "with tau = dt there")  # fmt: skip
        layer = self._layer(step, map_, fires=False)
        exact = self._add_weights(step, layer, map_, np.float64(1))
        self.shape, self.map = layer.shape, None
        self._finish(step, layer, exact)

    def _no_map_waits(self, step: Step) -> None:
        if self.map is not None:
            _refuse(
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
            _refuse(step, f"flattens dimensions {start} to {end} of {dims} only; expected all")
        if len(before) == 1:
            return
        if self.map is None:
            self._add_flatten(step)
        elif isinstance(self.map, Window) and self.map.pools:
            self.map.flat = True
        else:
            _refuse(step, "stands between a synapse and its neuron; put it behind the neuron")

    def _add_flatten(self, step: Step) -> None:
        self.shape = (math.prod(self.shape),)
        shape = _integers((*self.shape, 1, 1))
        self._finish(step, Layer("flatten", {"shape": shape}, "cuba", "Flatten"))

    def _matrix(self, step: Step, node: Any, inputs: tuple[int, ...]) -> Matrix:
        weight = _values(node.weight)
        if weight.ndim != 2 or inputs != weight.shape[1:]:
            raise ValueError(f"{step.where}: weight {weight.shape} does not take {inputs}")
        bias = getattr(node, "bias", None)
        bias = np.zeros(len(weight)) if bias is None else _values(bias)
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
        weight = _values(node.weight)
        kernel, dilation = weight.shape[2:], _pair(node.dilation)
        if isinstance(node.padding, str):
            same = node.padding == "same"
            spare = [same * d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            if any(n % 2 for n in spare):
                _refuse(step, "padding 'same' differs between the sides; use an odd kernel")
            padding = tuple(n // 2 for n in spare)
        else:
            padding = _pair(node.padding)
        bias = np.zeros(len(weight)) if node.bias is None else _values(node.bias)
        before = self._frames(step)
        if before[0] != weight.shape[1] * int(node.groups):
            raise ValueError(f"{step.where}: weight {weight.shape} does not take {before}")
        self._add_window(step, Window(
            weight, bias, before, _pair(node.stride), padding, dilation, int(node.groups)
        ))  # fmt: skip

    def _pool(self, step: Step) -> None:
        node, before = step.node, self._frames(step)
        kernel = _pair(node.kernel_size)
        factor = 1 / math.prod(kernel) if step.kind == "AvgPool2d" else 1.0
        self._add_window(step, Window(
            np.full((1, 1, *kernel), factor), np.zeros(before[0]), before,
            _pair(node.stride), _pair(node.padding), pools=True,
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
        if not (self.map.pools or window.pools):
            self._no_map_waits(step)
        both = windows_in_one(self.map, window)
        if both is None:
            _refuse(step, "its padding does not go with the pool or convolution right before it")
        self.map = both

    def _scale(self, step: Step) -> None:
        factors = np.unique(_values(step.node.scale))
        if not isinstance(self.map, Window) or not self.map.pools or factors.size != 1:
            _refuse(step, "lapilli reads one factor behind a pool only; multiply it into the "
                    "weights")  # fmt: skip
        self.map.weight = self.map.weight * factors[0]

    # delays

    def _delay(self, step: Step) -> None:
        self._no_map_waits(step)
        steps = _values(step.node.delay) / self.dt
        whole = np.rint(steps)
        if not np.all(np.abs(steps - whole) <= _tolerance(step.node) * np.maximum(1, whole)):
            _refuse(step, "a delay that is no whole number of steps")
        if whole.min() < 0:
            raise ValueError(f"{step.where}: a delay of {whole.min():g} steps")
        layer = self.layers[-1]
        channels = _per_channel(step, "delay", whole, self.shape)
        hop = bool(channels.min() >= 1)
        if layer.params.get("delay_shift") or "delay" in layer.data:
            _refuse(step, "a second delay; add it to the first")
        if "delay_shift" not in layer.params or (
            "neuron/type" not in layer.data and channels.max() > 1
        ):
            _refuse(step, "lapilli delays spikes only; put it right behind a neuron that spikes")
        layer.params["delay_shift"] = hop
        rest = np.broadcast_to(channels - hop, layer.shape[0])
        if rest.any():
            layer.data["delay"] = rest.astype(np.float32)

    # neurons

    def _neuron(self, step: Step) -> None:
        if self.map is None:
            _refuse(step, "a neuron without a synapse before it; put a Linear with the identity "
                    "there")  # fmt: skip
        if step.feedback is not None:
            self._add_feedback(step)
        says = self._dynamics(step, self.map.shape)
        map_ = self.map
        if isinstance(map_, Window) and map_.pools and self._passes_the_pool_block(map_, says):
            map_ = one_weight_a_channel(map_)
        own = map_.bias * says.gain
        if np.any(own * (np.rint(says.lost_u * P_SCALE) != P_SCALE)):
            _refuse(step, "a bias that the synaptic current filters; train without it, or give it "
                    "as v_leak, which it does not filter")  # fmt: skip
        says.bias = says.bias + own
        if isinstance(map_, Window) and map_.flat:
            _refuse(step, "a Flatten stands between its synapse and it; put it behind the neuron")
        layer = self._layer(step, map_, says.threshold is not None)
        self._add_dynamics(step, layer, says)
        exact = self._add_weights(step, layer, map_, says.gain)
        self.shape, self.map = layer.shape, None
        self._finish(step, layer, exact)

    @staticmethod
    def _passes_the_pool_block(pool: Window, says: _Dynamics) -> bool:
        """Whether a Pool block, of one weight and without bias, cannot hold what a pool needs."""
        sides = zip(pool.before[1:], pool.weight.shape[2:], strict=True)
        return bool(np.ndim(says.gain) or np.any(says.bias) or any(n % k for n, k in sides))

    def _add_feedback(self, step: Step) -> None:
        name, node = step.feedback
        back = Step(name, node)
        if back.kind not in ("Linear", "Affine") or not isinstance(self.map, Matrix):
            _refuse(back, f"leads back to {step.name}; lapilli has feedback through a Linear or "
                    "Affine, to neurons behind a Linear or Affine")  # fmt: skip
        matrix = self._matrix(back, node, self.map.shape)
        if len(matrix.bias) != len(self.map.bias):
            raise ValueError(
                f"{back.where}: weight {matrix.weight.shape} back to {self.map.shape} neurons"
            )
        self.map.feedback = matrix.weight
        self.map.bias = self.map.bias + matrix.bias  # it is on in every step, spike or not

    def _dynamics(self, step: Step, shape: tuple[int, ...]) -> _Dynamics:
        node, kind = step.node, step.kind

        def of(what: str, default: float) -> np.ndarray:
            values = getattr(node, what, None)
            return _per_channel(step, what, default if values is None else values, shape)

        def lost(what: str) -> np.ndarray:
            tau = of(what, self.dt)
            if not np.all(tau > 0):
                raise ValueError(f"{step.where}: {what} holds {np.min(tau):g}; must be positive")
            share = self.dt / tau
            if np.max(share) > 1 + _tolerance(node):
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
            _refuse(step, "a reset to another voltage than 0; shift v_leak, v_reset and "
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
        if np.ndim(threshold):
            _refuse(step, "thresholds that differ between channels; divide the weights and biases "
                    "of each by its threshold")  # fmt: skip
        gain = _per_channel(step, "gain", self._of_neurons(gain, shape), shape)
        return _Dynamics(lost_u, lost_v, gain, of("v_leak", 0.0) * lost_v, threshold)

    @staticmethod
    def _of_neurons(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return values that numpy can spread over ``shape``, of one or one a channel."""
        return values.reshape(-1, *(1,) * (len(shape) - 1)) if np.ndim(values) else values

    def _layer(self, step: Step, map_: Matrix | Window, fires: bool) -> Layer:
        """Return the layer with its structure, without values."""
        data: dict[str, Any] = {"shape": _integers(map_.shape)}
        if isinstance(map_, Window):
            type_, block = ("pool", "Pool") if map_.pools else ("conv", "Conv")
            data |= {n: _integers(getattr(map_, n)) for n in ("stride", "padding", "dilation")}
            if not map_.pools:
                data["groups"] = _integers(map_.groups)
        else:
            type_, block = "dense", "Dense"
            data |= {"outFeatures": _integers(len(map_.weight)),
                     "inFeatures": _integers(map_.weight.shape[1])}  # fmt: skip
            if map_.feedback is not None:
                type_, block = "dense_rec", "Recurrent"
        if not fires:
            if type_ != "dense":
                _refuse(step, "a readout that is not behind a Linear or Affine")
            block = "Affine"
        layer = Layer(type_, data, "cuba", block)
        layer.params["neuron_params"] = {"scale": self.scale}
        return layer

    def _add_dynamics(self, step: Step, layer: Layer, says: _Dynamics) -> None:
        data = layer.data
        data["neuron/type"], data["neuron/gradedSpike"] = "CUBA", False
        data["neuron/refDelay"] = _integers(1)
        shares = [says.lost_u, says.lost_v]
        if any(np.ndim(share) for share in shares):  # the blocks have both of one kind
            shares = [np.broadcast_to(share, layer.shape[0]) for share in shares]
        names = ("tau_syn", "tau_mem")
        for dataset, name, share in zip(("iDecay", "vDecay"), names, shares, strict=True):
            data[f"neuron/{dataset}"] = self._rounded(step, name, share * P_SCALE)
        if says.threshold is None:
            data["neuron/vThMant"] = _integers(NEVER_FIRES)
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
        self, step: Step, layer: Layer, map_: Matrix | Window, gain: np.ndarray
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
