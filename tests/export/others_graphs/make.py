"""Write small networks of other libraries as NIR graphs, with inputs and the library's own outputs.

It needs a scratch environment with nir, nirtorch, snntorch, norse, sinabs, spikingjelly and
rockpool, and without lapilli. Run it in this folder:

    python make.py                   # all libraries
    python make.py snntorch norse    # some

It writes ``<library>.npz`` with three arrays a network: ``<network>/graph``, the bytes of a file
that ``nir.read`` reads, ``<network>/input`` and ``<network>/output``, ``[T, neurons...]``. Weights
are multiples of 1/32 once the gains of the neurons are in them, and shares of 1/4, so that Loihi's
grid holds them without rounding; ``test_export_nir_sources.py`` tells the exceptions.
"""

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
STEPS = 24
# of the weights and inputs: those with which no voltage comes close to a threshold
SEEDS = {"snntorch": 7, "norse": 1, "sinabs": 1, "spikingjelly": 5, "rockpool": 5}
# Some libraries spike at the threshold, NIR above it. No weighted sum reaches this one, and Loihi's
# grid of 1/64 holds it.
THRESHOLD = 1 + 2.0**-6

# network -> graph, function that runs [T, ...], shape of a sample
Cases = dict[str, tuple[nir.NIRGraph, Callable[[Tensor], Tensor], tuple[int, ...]]]


def on_grid(net: nn.Module, unit: float = 1 / 8) -> nn.Module:
    """Draw weights and biases as multiples of ``unit``, more of them positive than negative."""
    for module in net.modules():
        for name in ("weight", "bias"):
            value = getattr(module, name, None)
            if isinstance(value, Tensor):
                low, high = (-4, 9) if name == "weight" else (-1, 2)
                value.data = unit * torch.randint(low, high, value.shape).float()
    return net


def step_by_step(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Run a network that keeps its own state, a step at a time, as a batch of one."""
    return lambda x: torch.cat([net(frame[None]) for frame in x])


def snntorch() -> Cases:
    """Leaky, Synaptic, RLeaky and RSynaptic, reset to zero at once, which is what NIR means.

    The exporter needs one decay and threshold a neuron: it takes the shape of a layer from them.
    What it makes of RLeaky and RSynaptic is a nested graph; nirtorch opens it in whole networks.
    """
    import snntorch as snn
    from snntorch.export_nir import _extract_snntorch_module, export_to_nir

    as_nir = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}

    def leaky(n: Any, beta: Any = 0.75, **options: Any) -> nn.Module:
        shape = (n,) if isinstance(n, int) else n
        beta = torch.as_tensor(beta).expand(shape)
        return snn.Leaky(beta, threshold=torch.full(shape, THRESHOLD), **as_nir | options)

    def synaptic(n: int, alpha: Any = 0.5, beta: Any = 0.75) -> nn.Module:
        alpha, beta = torch.as_tensor(alpha).expand(n), torch.as_tensor(beta).expand(n)
        return snn.Synaptic(alpha, beta, threshold=torch.full((n,), THRESHOLD), **as_nir)

    def recurrent(make: type, *decays: float, all_to_all: bool) -> nn.Module:
        options = {"all_to_all": all_to_all, "threshold": THRESHOLD, **as_nir}
        if make is snn.RSynaptic:
            options["reset_delay"] = True  # else it raises a TypeError
        if all_to_all:
            return make(*decays, linear_features=5, **options)
        return make(*decays, V=torch.tensor([0.25, -0.5, 0.5, -0.25, 0.125]), **options)

    def dense(first: nn.Module, bias: bool = False, bias_of_feedback: bool = True) -> nn.Module:
        net = on_grid(nn.Sequential(
            nn.Linear(6, 5, bias=bias), first, nn.Linear(5, 4, bias=bias), leaky(4)
        ))  # fmt: skip
        if hasattr(first, "recurrent") and not bias_of_feedback:
            first.recurrent.bias.data.zero_()
        return net

    some = torch.tensor([0.5, 0.75, 0.25, 0.5, 0.75])
    nets = {
        "leaky": dense(leaky(5)),
        "leaky_bias": dense(leaky(5), bias=True),
        "leaky_per_neuron": dense(leaky(5, some)),
        "leaky_subtract": dense(leaky(5, reset_mechanism="subtract")),
        "synaptic": dense(synaptic(5)),
        "synaptic_per_neuron": dense(synaptic(5, 0.5, some)),
        "synaptic_bias": dense(synaptic(5), bias=True),
        "rleaky": dense(recurrent(snn.RLeaky, 0.75, all_to_all=True), bias_of_feedback=False),
        "rleaky_bias": dense(recurrent(snn.RLeaky, 0.75, all_to_all=True), bias=True),
        "rleaky_own": dense(recurrent(snn.RLeaky, 0.75, all_to_all=False)),
        "rsynaptic": dense(
            recurrent(snn.RSynaptic, 0.5, 0.75, all_to_all=True), bias_of_feedback=False
        ),
        "rsynaptic_own": dense(recurrent(snn.RSynaptic, 0.5, 0.75, all_to_all=False)),
    }
    images = {
        "conv": on_grid(nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), leaky((3, 6, 6)), nn.AvgPool2d(2),
            nn.Conv2d(3, 4, 2, bias=False), leaky((4, 2, 2), 0.5), nn.Flatten(),
            nn.Linear(16, 4), leaky(4),
        )),
        "conv_pool": on_grid(nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), leaky((3, 2, 2)), nn.Flatten(),
            nn.Linear(12, 4), leaky(4),
        )),
    }  # fmt: skip
    cases = {}
    for shape, group in (((6,), nets), ((2, 6, 6), images)):
        for name, net in group.items():
            if isinstance(net[1], snn.RSynaptic):  # which export_to_nir fails on
                graph = nir.NIRGraph.from_list(*map(_extract_snntorch_module, net))
            else:
                graph = export_to_nir(net, torch.zeros(1, *shape), ignore_dims=[0])
            for module in net:  # the states that the exporter left behind
                for state in ("mem", "syn", "spk"):
                    if hasattr(module, state):
                        setattr(module, state, torch.zeros(0))
            cases[name] = graph, step_by_step(net), shape
    return cases


def norse() -> Cases:
    """The cells that its exporter knows; all numbers of a layer are one for all neurons.

    Its time constants are dt divided by a rate, so that its step of 1e-3 s is 1e-6 s in NIR.
    """
    import norse.torch as norse

    rate, threshold = torch.as_tensor(250.0), torch.as_tensor(THRESHOLD)
    box = norse.LIFBoxParameters(tau_mem_inv=rate, v_th=threshold)
    cuba = norse.LIFParameters(tau_mem_inv=rate, tau_syn_inv=2 * rate, v_th=threshold)
    li = norse.LIBoxParameters(tau_mem_inv=rate)
    iaf = norse.IAFParameters(v_th=threshold)
    nets = {
        "lifbox": ((6,), [nn.Linear(6, 5), norse.LIFBoxCell(box), nn.Linear(5, 4, bias=False),
                          norse.LIFBoxCell(box)]),
        "libox": ((6,), [nn.Linear(6, 5), norse.LIFBoxCell(box), nn.Linear(5, 4),
                         norse.LIBoxCell(li)]),
        "lif": ((6,), [nn.Linear(6, 5, bias=False), norse.LIFCell(cuba)]),
        "iaf": ((6,), [nn.Linear(6, 5), norse.IAFCell(iaf), nn.Linear(5, 4), norse.IAFCell(iaf)]),
        "conv": ((2, 4, 4), [nn.Conv2d(2, 3, 3), norse.LIFBoxCell(box), nn.Conv2d(3, 3, 2),
                             norse.LIFBoxCell(box)]),
    }  # fmt: skip
    cases = {}
    for name, (shape, modules) in nets.items():
        # a share of 1/4 multiplies the weights of all but IAF
        unit = {"iaf": 1 / 8, "conv": 1 / 4}.get(name, 1 / 2)
        net = on_grid(norse.SequentialState(*modules), unit)
        graph = norse.to_nir(net, torch.zeros(1, *shape))
        if name == "conv":  # nir.write cannot write the sizes that norse leaves open
            graph.nodes["0"].input_shape, graph.nodes["2"].input_shape = (4, 4), (2, 2)

        def run(x: Tensor, net: nn.Module = net) -> Tensor:
            state, outputs = None, []
            for frame in x:
                output, state = net(frame[None], state)
                outputs.append(output)
            return torch.cat(outputs)

        cases[name] = graph, run, shape
    return cases


def sinabs() -> Cases:
    """IAF, LIF and ExpLeak with pools; time is counted in steps, dt = 1.

    Only with ``MembraneReset`` and ``SingleSpike`` does it do what NIR says.
    """
    import sinabs.layers as sl
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.nir import to_nir

    as_nir = {"spike_fn": SingleSpike, "reset_fn": MembraneReset()}

    def iaf(**options: Any) -> nn.Module:
        threshold = torch.tensor(THRESHOLD)
        return sl.IAFSqueeze(batch_size=1, spike_threshold=threshold, **options)

    def lif() -> nn.Module:
        return sl.LIFSqueeze(
            tau_mem=torch.full((5,), 4.0),
            spike_threshold=torch.full((5,), THRESHOLD),
            batch_size=1,
            **as_nir,
        )

    nets = {
        "iaf": ((6,), [nn.Linear(6, 5), iaf(**as_nir), nn.Linear(5, 4, bias=False),
                       iaf(**as_nir)]),
        "iaf_subtract": ((6,), [nn.Linear(6, 5), iaf()]),
        "lif": ((6,), [nn.Linear(6, 5), lif()]),
        "expleak": ((6,), [nn.Linear(6, 5), iaf(**as_nir), nn.Linear(5, 4),
                           sl.ExpLeakSqueeze(tau_mem=torch.full((4,), 4.0), batch_size=1)]),
        "pool_linear": ((2, 6, 6), [nn.Conv2d(2, 3, 3), iaf(**as_nir), sl.SumPool2d(2),
                                    nn.Flatten(), nn.Linear(12, 4), iaf(**as_nir)]),
        "pool_conv": ((2, 8, 8), [nn.Conv2d(2, 3, 3, bias=False), iaf(**as_nir),
                                  sl.SumPool2d(2), nn.Conv2d(3, 4, 3, padding=1),
                                  iaf(**as_nir), sl.SumPool2d(3), nn.Flatten(),
                                  nn.Linear(4, 4), iaf(**as_nir)]),
    }  # fmt: skip
    cases = {}
    for name, (shape, modules) in nets.items():
        net = on_grid(nn.Sequential(*modules), unit=1 / 2 if name == "lif" else 1 / 8)
        graph = to_nir(net, torch.zeros(3, *shape))
        graph.infer_types()  # else nir.write fails on the sizes that sinabs leaves open
        for module in net:
            if hasattr(module, "reset_states"):
                module.reset_states()
        cases[name] = graph, net, shape
    return cases


def spikingjelly() -> Cases:
    """IF, LIF, parametric LIF and CUBA LIF nodes, with hard reset."""
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.nir_exchange.to_nir import export_to_nir

    as_nir = {"v_threshold": THRESHOLD}

    def lif(**options: Any) -> nn.Module:
        return neuron.LIFNode(tau=4.0, **as_nir | options)

    def image(*pool: nn.Module) -> list[nn.Module]:
        return [nn.Conv2d(2, 3, 3), neuron.IFNode(**as_nir), *pool, nn.Flatten(),
                nn.Linear(12, 4), neuron.IFNode(**as_nir)]  # fmt: skip

    nets = {
        "if": ((6,), [nn.Linear(6, 5), neuron.IFNode(**as_nir), nn.Linear(5, 4, bias=False),
                      neuron.IFNode(**as_nir)], 1 / 8),
        "lif": ((6,), [nn.Linear(6, 5), lif(), nn.Linear(5, 4), lif()], 1 / 2),
        "lif_undecayed": ((6,), [nn.Linear(6, 5), lif(decay_input=False)], 1 / 8),
        "lif_reset": ((6,), [nn.Linear(6, 5), lif(v_reset=-0.5)], 1 / 2),
        "plif": ((6,), [nn.Linear(6, 5, bias=False),
                        neuron.ParametricLIFNode(init_tau=2.0, **as_nir)], 1 / 4),
        "cuba": ((6,), [nn.Linear(6, 5, bias=False),
                        neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75, **as_nir)], 1 / 8),
        "pool": ((2, 6, 6), image(nn.AvgPool2d(2)), 1 / 8),
        "pool_padded": ((2, 7, 7), image(nn.AvgPool2d(3, 3, padding=1)), 1 / 8),
    }  # fmt: skip
    cases = {}
    for name, (shape, modules, unit) in nets.items():
        net = on_grid(nn.Sequential(*modules), unit)
        cases[name] = export_to_nir(net, torch.zeros(1, *shape)), step_by_step(net), shape
    return cases


def rockpool() -> Cases:
    """LinearTorch before LIFTorch, LIFNeuronTorch and ExpSynTorch, in steps of 1e-3 s.

    Its neurons decay by exp(-dt / tau) and lose the threshold at a spike; NIR says neither.
    """
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch import ExpSynTorch, LIFNeuronTorch, LIFTorch, LinearTorch
    from rockpool.nn.modules.torch.nir import to_nir

    taus = {"tau_mem": torch.tensor([0.004, 0.008, 0.004, 0.016, 0.002]), "dt": 1e-3,
            "threshold": torch.full((5,), THRESHOLD)}  # fmt: skip
    nets = {
        "lif": [LinearTorch((6, 5)), LIFTorch(5, tau_syn=0.002, **taus)],
        "lif_neuron": [LinearTorch((6, 5), has_bias=True), LIFNeuronTorch(5, **taus)],
        "expsyn": [LinearTorch((6, 5)), ExpSynTorch(5, tau=0.004, dt=1e-3)],
        "lif_recurrent": [LinearTorch((6, 5)), LIFTorch(5, tau_syn=0.002, has_rec=True, **taus)],
    }
    cases = {}
    for name, modules in nets.items():
        net = on_grid(Sequential(*modules), unit=1)
        graph = to_nir(net)

        def run(x: Tensor, net: nn.Module = net) -> Tensor:
            net.reset_state()
            return net(x[None])[0][0]

        cases[name] = graph, run, (6,)
    return cases


def file_of(graph: nir.NIRGraph) -> np.ndarray:
    """Return the bytes of what ``nir.write`` writes, without its compression.

    ``nir.write`` fails on numbers that are tensors without dimensions, which norse and sinabs give.
    """

    def fill(group: h5py.Group, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                if name != "metadata" or value:
                    fill(group.create_group(name), value)
            elif isinstance(value, str):
                group.create_dataset(name, data=value, dtype=h5py.string_dtype())
            elif value is not None:
                group[name] = value.detach().numpy() if isinstance(value, Tensor) else value

    stream = io.BytesIO()
    with h5py.File(stream, "w", libver="latest") as file:
        file.create_dataset("version", data=nir.version, dtype=h5py.string_dtype())
        fill(file.create_group("node"), graph.to_dict())
    return np.frombuffer(stream.getvalue(), np.uint8)


def main(libraries: list[str]) -> None:
    """Write the files of some libraries."""
    warnings.simplefilter("ignore")
    for library in libraries or SEEDS:
        torch.manual_seed(SEEDS[library])
        arrays = {}
        for name, (graph, run, shape) in globals()[library]().items():
            x = (torch.rand(STEPS, *shape) < 0.3).float()
            with torch.no_grad():
                y = run(x)
            arrays |= {f"{name}/graph": file_of(graph), f"{name}/input": x.numpy().astype(bool),
                       f"{name}/output": y.numpy()}  # fmt: skip
        np.savez_compressed(HERE / f"{library}.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
