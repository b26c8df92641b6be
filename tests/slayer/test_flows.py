"""The training scripts of lava-dl's tutorials in miniature, with lava-dl's numbers."""

from typing import Any

import h5py
import pytest
import torch
from known import present
from matplotlib.animation import PillowWriter
from tolerances import FLOAT32
from torch.testing import assert_close

from lapilli import slayer


def spikes(rule, *shape):
    n, c, t = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    return rule(n, c, t).float()


X = spikes(lambda n, c, t: (3 * c + 5 * t + 2 * n) % 7 < 3, 4, 6, 32)
TARGET = spikes(lambda n, c, t: (2 * c + 3 * t + n) % 5 < 2, 4, 3, 32)
LABELS = torch.tensor([0, 1, 2, 1])
NEURON = {
    "threshold": 0.5,
    "current_decay": 0.25,
    "voltage_decay": 0.1,
    "tau_grad": 0.1,
    "scale_grad": 1,
}

# loss, target, weight_norm -> loss per step and output spikes that lava-dl gives
RUNS = {
    "rate": (
        slayer.loss.SpikeRate(0.5, 0.05), LABELS, False,
        (3.207891, 3.207891, 3.207891, 3.125078, 2.824297, 2.863945),
        (118, 118, 118, 118, 144, 119),
    ),
    "rate, weight norm": (
        slayer.loss.SpikeRate(0.5, 0.05), LABELS, True,
        (3.207891, 3.207891, 3.177617, 3.070391, 2.988945, 2.044414),
        (118, 118, 119, 120, 125, 107),
    ),
    "time": (
        slayer.loss.SpikeTime(2, filter_order=2), TARGET, False,
        (2951.0776, 2951.0776, 2951.0776, 2888.7109, 2525.1899, 2537.1821),
        (118, 118, 118, 119, 149, 133),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_six_steps_are_those_of_lava_dl(name):
    error, target, weight_norm, losses, counts = RUNS[name]
    torch.manual_seed(0)
    net: Any = torch.nn.Sequential(*(
        slayer.block.cuba.Dense(NEURON, i, o, weight_scale=2, weight_norm=weight_norm)
        for i, o in ((6, 16), (16, 3))
    ))  # fmt: skip
    sums = torch.stack([block.synapse.weight.sum() for block in net])
    assert_close(sums.detach(), torch.tensor([-1.3625764, -0.7435919]), **FLOAT32)
    stats = slayer.utils.LearningStats()
    classifier = slayer.classifier.Rate.predict if target.ndim == 1 else None
    assistant = slayer.utils.Assistant(
        net, error, torch.optim.Adam(net.parameters(), lr=0.01), stats, classifier=classifier
    )
    seen = []
    for _ in range(6):
        seen.append(int(assistant.train(X, target).sum()))
        stats.update()
    assert tuple(seen) == counts
    assert stats.training.loss_log == pytest.approx(losses, rel=1e-6)
    assert stats.training.accuracy_log == [0.25 if classifier else 0.0] * 6


def test_classification_of_events(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Trained").mkdir()
    generator = torch.Generator().manual_seed(0)
    files = []
    for i in range(8):  # the class is the half of the image that is busy
        n = 60
        x = torch.randint(0, 4, (n,), generator=generator) + 4 * (i % 2)
        y, p = (torch.randint(0, 8, (n,), generator=generator) for _ in range(2))
        t = torch.rand(n, generator=generator) * 29
        files.append(tmp_path / f"{i}.bin")
        slayer.io.encode_2d_spikes(files[-1], slayer.io.Event(x, y, y * 0 + (p > 0), t))

    def sample(i):
        event = slayer.io.read_2d_spikes(files[i])
        event.x, event.y = event.x + 0.2, present(event.y) - 0.2
        return event.fill_tensor(torch.zeros(2, 8, 8, 30)).reshape(-1, 30), i % 2

    params = {**NEURON, "threshold": 0.8, "requires_grad": True}
    params["dropout"] = slayer.neuron.Dropout(p=0.05)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            dense = slayer.block.cuba.Dense
            last = {k: v for k, v in params.items() if k != "dropout"}
            self.blocks = torch.nn.ModuleList(
                [
                    dense(params, 128, 16, weight_norm=True, delay=True, weight_scale=2),
                    dense(params, 16, 16, weight_norm=True, delay=True, weight_scale=2),
                    dense(last, 16, 2, weight_norm=True, weight_scale=2),
                ]
            )

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

        def grad_flow(self: Any):
            return [b.synapse.grad_norm for b in self.blocks if hasattr(b, "synapse")]

        def export_hdf5(self: Any, filename):
            with h5py.File(filename, "w") as h:
                layer = h.create_group("layer")
                for i, b in enumerate(self.blocks):
                    b.export_hdf5(layer.create_group(f"{i}"))

    torch.manual_seed(0)
    net = Network()
    samples: Any = [sample(i) for i in range(8)]
    loader = torch.utils.data.DataLoader(samples, batch_size=4, shuffle=True)
    stats = slayer.utils.LearningStats()
    assistant = slayer.utils.Assistant(
        net,
        slayer.loss.SpikeRate(true_rate=0.4, false_rate=0.03),
        torch.optim.Adam(net.parameters(), lr=0.03),
        stats,
        classifier=slayer.classifier.Rate.predict,
    )
    for epoch in range(15):
        for x, y in loader:
            assistant.train(x, y)
            stats.print(epoch)
        for x, y in loader:
            output = assistant.test(x, y)
        if stats.testing.best_accuracy:
            torch.save(net.state_dict(), "Trained/network.pt")
        stats.update()
        stats.save("Trained/")
        assert all(norm > 0 for norm in net.grad_flow())
    stats.plot(path="Trained/")
    assert present(stats.training.loss_log[-1]) < present(stats.training.loss_log[0]) / 2
    assert stats.testing.accuracy_log[-1] == 1

    net.load_state_dict(torch.load("Trained/network.pt"))
    net.eval()
    net.export_hdf5("Trained/network.net")
    again = slayer.auto.SequentialNetwork("Trained/network.net")
    x, _ = next(iter(loader))
    assert_close(again(x), net(x), rtol=0, atol=0)
    event = slayer.io.tensor_to_event(output[0].cpu().numpy().reshape(1, 2, -1))
    event.anim(frame_rate=240).save("out.gif", PillowWriter(24))
    written = {f.name for f in (tmp_path / "Trained").iterdir()}
    assert written >= {"network.net", "loss.txt", "accuracy.txt", "loss.png", "accuracy.png"}


def test_regression_with_a_sparsity_penalty():
    q = {
        "threshold": 0.1,
        "tau_grad": 0.5,
        "scale_grad": 1,
        "requires_grad": True,
        "shared_param": True,
        "activation": torch.nn.functional.relu,
    }
    cnn = {**q, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    dense = {**cnn, "dropout": slayer.neuron.Dropout(p=0.1)}
    block = slayer.block.sigma_delta

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(
                [
                    block.Input(q),
                    block.Conv(cnn, 3, 6, 3, stride=2, weight_scale=2, weight_norm=True),
                    block.Flatten(),
                    block.Dense(dense, 54, 10, weight_scale=2, weight_norm=True),
                    block.Output(dense, 10, 1, weight_scale=2, weight_norm=True),
                ]
            )

        def forward(self, x):
            cost, count = 0, []
            for b in self.blocks:
                x = b(x)
                if hasattr(b, "neuron"):
                    cost = cost + torch.relu(x.abs().mean() - 0.01) ** 2
                    count.append(torch.sum((x[..., 1:] > 0).to(x.dtype)).item())
            return x, cost, torch.FloatTensor(count).reshape(1, -1)

    torch.manual_seed(0)
    net: Any = Network()
    frames = torch.rand(4, 3, 8, 8, 6)
    target = frames[:, 0, :4].mean((1, 2))
    stats = slayer.utils.LearningStats(accuracy_str="ignored")
    assistant = slayer.utils.Assistant(
        net,
        lambda output, target: torch.nn.functional.mse_loss(output.flatten(), target.flatten()),
        torch.optim.RAdam(net.parameters(), lr=0.03),
        stats,
        count_log=True,
        lam=0.01,
    )
    for _ in range(25):
        output, count = assistant.train(frames, target)
        _, _ = assistant.test(frames, target)
        stats.update()
    assert output.shape == (4, 1, 6)
    assert count.shape == (1, 4)
    assert present(stats.training.loss_log[-1]) < 0.8 * present(stats.training.loss_log[0])
    assert stats.testing.min_loss == min(map(present, stats.testing.loss_log))
    assert stats.testing.accuracy_log[-1] == 0
    conv = net.blocks[1]
    assert tuple(conv.shape) == (6, 3, 3)
    assert conv.synapse.out_channels == 6
    assert conv.synapse.kernel_size[:2] == (3, 3)
    assert conv.synapse.stride[:2] == (2, 2)
