"""Other libraries read lapilli's NIR graphs and give its spikes; where they are installed.

No extra of lapilli holds them: to run this, put a folder with snntorch, spikingjelly and nirtorch
on PYTHONPATH.
"""

import numpy as np
import pytest
import torch
from export_networks import spikes
from lapilli.blocks import cuba
from torch import nn

from lapilli import export

pytest.importorskip("nir", reason="the extra nir is not installed")

from nir_simulation import simulate

DT = 1e-4  # the step of both
CUBA = {"threshold": 1 + 2.0**-6, "current_decay": 0.5, "voltage_decay": 0.5}
LIF = CUBA | {"current_decay": 1.0}
IF = LIF | {"voltage_decay": 0.0}

# without hop: neither reads Delay nodes
NETWORKS = {
    "cuba": (lambda: [dense(CUBA, 6, 5), dense(CUBA, 5, 4)], (6,)),
    "lif": (lambda: [dense(LIF, 6, 5), dense(LIF, 5, 4)], (6,)),
    "if": (lambda: [dense(IF, 6, 5)], (6,)),
    "recurrent": (lambda: [cuba.Recurrent(CUBA, 6, 5, delay_shift=False), dense(CUBA, 5, 4)], (6,)),
    "images": (lambda: [
        cuba.Conv(LIF, 2, 3, 3, delay_shift=False),
        cuba.Pool(LIF | {"threshold": 0.9}, 2, weight_scale=0.25, delay_shift=False),
        cuba.Flatten(), dense(LIF, 12, 4),
    ], (2, 6, 6)),
}  # fmt: skip


def dense(params, inputs, outputs):
    return cuba.Dense(params, inputs, outputs, delay_shift=False)


def made(name):
    """Graph, input and spikes, ``[T, neurons...]``."""
    torch.manual_seed(1)
    make, shape = NETWORKS[name]
    net = nn.Sequential(*make()).eval()
    for block in net:
        for synapse in ("synapse", "input_synapse", "recurrent_synapse"):
            weight = getattr(getattr(block, synapse, None), "weight", None)
            if weight is not None and not isinstance(block, cuba.Pool):
                weight.data = torch.randint(-3, 9, weight.shape) / 8
    x = spikes(1, *shape, 20)
    with torch.no_grad():
        y = net(x)
    assert 0.05 < y.mean() < 0.95
    graph = export.to_nir(net, dt=DT, input_shape=shape)
    # lapilli truncates decays, by less than 6 units of 1/4096 in all; SpikingJelly spikes at the
    # threshold, too
    assert simulate(graph, x[0].movedim(-1, 0), DT)[1] > 6 / 4096
    return graph, x[0].movedim(-1, 0), y[0].movedim(-1, 0).numpy()


def step_by_step(net, x):
    state, outputs = None, []
    with torch.no_grad():
        for frame in x:
            output, state = net(frame[None], state)
            outputs.append(output[0] if isinstance(output, tuple) else output)
    return torch.stack(outputs).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_spikingjelly(name):
    reader = pytest.importorskip("spikingjelly.activation_based.nir_exchange.from_nir")
    graph, x, want = made(name)
    got = step_by_step(reader.import_from_nir(graph, dt=DT), x)
    np.testing.assert_array_equal(got.reshape(want.shape), want)


# snntorch refuses an IF whose r is not 1; of recurrent graphs it cannot read back its own
@pytest.mark.parametrize("name", ["cuba", "lif", "images"])
def test_snntorch(name):
    reader = pytest.importorskip("snntorch.import_nir")
    graph, x, want = made(name)
    got = step_by_step(reader.import_from_nir(graph), x)
    np.testing.assert_array_equal(got.reshape(want.shape), want)
