"""Short forms of the training recipes that are public for lava-dl, end to end on random data.

Each builds the network of a recipe with its neurons, trains a few steps with its loss and the same
helpers, writes the network file block by block, reads it back and runs it. Apart from ``from
lapilli import slayer``, these are lava-dl's names only. Sources: lava-dl's tutorials (Oxford,
N-MNIST, PilotNet, NTIDIGITS), SLAYER's example of DVS gestures, the baseline of Intel's N-DNS
challenge.
"""

import itertools
from typing import Any

import h5py
import pytest
import torch
import torch.nn.functional as F
from known import present

from lapilli import export, slayer

# pooling is no layer of netx
pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")

SNN = {
    "threshold": 1.25,
    "current_decay": 0.25,
    "voltage_decay": 0.03,
    "tau_grad": 0.03,
    "scale_grad": 3,
    "requires_grad": True,
}
SDNN = {
    "threshold": 0.1,
    "tau_grad": 0.5,
    "scale_grad": 1,
    "requires_grad": True,
    "shared_param": True,
    "activation": F.relu,
}


class Chain(torch.nn.Module):
    """Blocks one after the other, as every recipe has them."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def grad_flow(self):
        synapses: Any = [b.synapse for b in self.blocks if hasattr(b, "synapse")]
        return [s.grad_norm for s in synapses if any(p.requires_grad for p in s.parameters())]

    def export_hdf5(self: Any, path):
        with h5py.File(path, "w") as file:
            layers = file.create_group("layer")
            for i, block in enumerate(self.blocks):
                block.export_hdf5(layers.create_group(f"{i}"))


class Logged(Chain):
    """The same with event rates and their cost, as the sigma-delta recipes have it."""

    def forward(self, x):
        cost, rates = 0, []
        for block in self.blocks:
            x = block(x)
            if hasattr(block, "neuron"):
                cost = cost + F.relu(x.abs().mean() - 0.01).square()
                rates.append((x.detach()[..., 1:] != 0).float().mean().item())
        return x, cost, torch.tensor([rates])


def events(*shape, rate=0.2):
    return (torch.rand(shape) < rate).float()


def learn(net, x, step, optimizer: Any = torch.optim.Adam, steps=3, **options):
    """Take some steps; every synapse gets a gradient, every parameter stays finite."""
    adam = optimizer(net.parameters(), **({"lr": 0.001} | options))
    losses = []
    for _ in range(steps):
        adam.zero_grad()
        loss = step(net(x))
        loss.backward()
        assert all(flow > 0 for flow in net.grad_flow())
        adam.step()
        losses.append(loss.item())
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    assert len(set(losses)) > 1, "nothing was learned"


def deploy(net, path, x):
    """Write the file, read it, and run it: the same outputs."""
    net.eval()
    with torch.no_grad():
        net.export_hdf5(path)
        got = export.load(path).eval()(x)
        want = net(x)
    want = want[0] if isinstance(want, tuple) else want
    assert want.any()
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def dense(params, *sizes, **options):
    return [
        slayer.block.cuba.Dense(params, n, m, weight_norm=True, **options)
        for n, m in itertools.pairwise(sizes)
    ]


def test_oxford(tmp_path):
    params = {
        "threshold": 0.1, "current_decay": 1, "voltage_decay": 0.1, "requires_grad": True,
    }  # fmt: skip
    net = Chain(*dense(params, 200, 64, 200))
    x, target = events(1, 200, 60), events(1, 200, 60, rate=0.05)
    error = slayer.loss.SpikeTime(time_constant=2, length=100, filter_order=2)
    stats = slayer.utils.LearningStats()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=1e-5)
    assistant = slayer.utils.Assistant(net, error, optimizer, stats)
    losses = []
    for _ in range(4):
        output = assistant.train(x, target)
        losses.append(stats.training.loss)
        stats.update()
    assert output.shape == target.shape
    assert losses[-1] < losses[0]
    stats.save(f"{tmp_path}/")
    deploy(net, tmp_path / "oxford.net", x)


def test_nmnist_dense(tmp_path):
    params = SNN | {"dropout": slayer.neuron.Dropout(p=0.05)}
    net = Chain(
        *dense(params, 34 * 34 * 2, 64, 64, delay=True),
        *dense(SNN, 64, 10),
    )
    x, label = events(4, 34 * 34 * 2, 30, rate=0.03), torch.randint(0, 10, (4,))
    error = slayer.loss.SpikeRate(true_rate=0.2, false_rate=0.03, reduction="sum")
    stats = slayer.utils.LearningStats()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    assistant = slayer.utils.Assistant(
        net, error, optimizer, stats, classifier=slayer.classifier.Rate.predict
    )
    for _ in range(3):
        assistant.train(x, label)
    assistant.test(x, label)
    stats.update()
    assert present(stats.training.loss_log[0]) > 0
    assert 0 <= present(stats.testing.accuracy_log[0]) <= 1
    torch.save(net.state_dict(), tmp_path / "network.pt")
    net.load_state_dict(torch.load(tmp_path / "network.pt"))
    deploy(net, tmp_path / "nmnist.net", x)


def test_nmnist_convolution(tmp_path):
    cuba = slayer.block.cuba
    net = Chain(
        cuba.Conv(SNN, 2, 8, 5, padding=1, weight_scale=2, weight_norm=True),
        cuba.Pool(SNN, 2, weight_scale=1.5),
        cuba.Conv(SNN, 8, 16, 3, padding=1, weight_scale=2, weight_norm=True),
        cuba.Pool(SNN, 2, weight_scale=1.5),
        cuba.Flatten(),
        *dense(SNN, 16 * 8 * 8, 10),
    )
    x, label = events(2, 2, 34, 34, 20, rate=0.3), torch.randint(0, 10, (2,))
    error = slayer.loss.SpikeMax(mode="softmax")
    learn(net, x, lambda y: error(y, label))
    assert slayer.classifier.Rate.predict(net(x)).shape == (2,)
    deploy(net, tmp_path / "nmnist.net", x)


def test_dvs_gestures(tmp_path):
    cuba = slayer.block.cuba
    net = Chain(
        cuba.Pool(SNN, 4, weight_scale=2),
        cuba.Conv(SNN, 2, 8, 5, padding=2, weight_scale=2, weight_norm=True, delay=True),
        cuba.Pool(SNN, 2, weight_scale=2),
        cuba.Conv(SNN, 8, 16, 3, padding=1, weight_scale=2, weight_norm=True, delay=True),
        cuba.Pool(SNN, 2, weight_scale=2),
        cuba.Flatten(),
        *dense(SNN, 16 * 8 * 8, 32, delay=True),
        *dense(SNN, 32, 11),
    )
    x, label = events(1, 2, 128, 128, 20), torch.tensor([7])
    error = slayer.loss.SpikeRate(0.5, 0.05, moving_window=10)
    learn(net, x, lambda y: error(y, label.unsqueeze(-1)))
    predicted = slayer.classifier.MovingWindow(10)(net(x))
    assert predicted.shape == (1, 20)
    deploy(net, tmp_path / "gestures.net", x)


def test_ntidigits(tmp_path):
    params = SNN | {"threshold": 0.5, "current_decay": 0.1, "voltage_decay": 0.1}
    net = Chain(*dense(params, 64, 48, 48, delay=True), *dense(params, 48, 11))
    x, label = events(3, 64, 80, rate=0.05), torch.randint(0, 11, (3, 1))
    error = slayer.loss.SpikeRate(true_rate=0.2, false_rate=0.02)
    learn(net, x, lambda y: error(y, label))
    deploy(net, tmp_path / "ntidigits.net", x)


def test_pilotnet(tmp_path):
    block = slayer.block.sigma_delta
    convolved = SDNN | {"norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    options = {"weight_scale": 2, "weight_norm": True}
    net: Any = Logged(
        block.Input(SDNN),
        block.Conv(convolved, 3, 8, 3, padding=0, stride=2, **options),
        block.Conv(convolved, 8, 12, 3, padding=(0, 1), stride=(2, 2), **options),
        block.Conv(convolved, 12, 16, 3, padding=(1, 0), stride=(2, 1), **options),
        block.Flatten(),
        block.Dense(SDNN | {"dropout": slayer.neuron.Dropout(0.2)}, 16 * 4 * 6, 20, **options),
        block.Output(SDNN, 20, 1, **options),
    )
    x, angle = torch.rand(2, 3, 33, 33, 8), torch.tensor([0.1, -0.2])

    def step(output):
        y, cost, rates = output
        assert rates.shape == (1, 6)
        return F.mse_loss(y.flatten(1).mean(-1), angle) + 0.01 * cost

    learn(net, x, step, optimizer=torch.optim.RAdam, weight_decay=1e-5)
    assert tuple(net.blocks[3].shape) == (16, 4, 6)
    for block in net.blocks:  # the chip's thresholds are multiples of 1 / 64, learned ones are not
        if hasattr(block, "neuron"):
            block.neuron.threshold = block.neuron.v_th_mant / block.neuron.scale
    deploy(net, tmp_path / "pilotnet.net", x)


def test_noise_suppression(tmp_path):
    block = slayer.block.sigma_delta
    params = SDNN | {"tau_grad": 0.1, "scale_grad": 0.8, "requires_grad": False}
    options: dict[str, Any] = {"weight_norm": False, "delay": True, "delay_shift": True}

    class Masking(Chain):
        mean = 0.2

        def forward(self, noisy):
            return super().forward(noisy - self.mean)

    net: Any = Masking(
        block.Input(params),
        block.Dense(params, 257, 64, **options),
        block.Dense(params, 64, 64, **options),
        block.Output(params, 64, 257, weight_norm=False),
    )
    net.blocks[0].pre_hook_fx = lambda x: slayer.utils.quantize(x, step=1 / 64)
    for hidden in net.blocks[1:3]:
        hidden.delay.max_delay = 62
    noisy = torch.rand(2, 257, 24)
    clean = noisy * torch.rand(2, 257, 1)

    def step(output):
        kept = torch.relu(output + 1)
        return F.mse_loss(slayer.axon.delay(noisy, 2) * kept, clean)

    learn(net, noisy, step, optimizer=torch.optim.RAdam, lr=0.01, weight_decay=1e-5)
    assert slayer.axon.delay(noisy, 2).shape == noisy.shape
    for hidden in net.blocks[1:3]:
        assert (hidden.delay.delay >= 0).all()
    # the file holds the chip's own quantisation of inputs, no other
    net.blocks[0].pre_hook_fx = net.blocks[0].neuron.quantize_8bit
    net.mean = 0.0
    deploy(net, tmp_path / "suppression.net", noisy)
