"""The comparison with other libraries: what is compared, how, and what happens without them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import peers
from bench.libraries import PEERS, Lapilli, LavaDl, OverTime
from bench.peers import Side
from lapilli import slayer

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TOP = ("lava", "snntorch", "spikingjelly", "norse")  # packages of the libraries


def test_names_of_cases_differ():
    names = list(map(str, peers.cases()))
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("peer", PEERS, ids=lambda p: p.name)
def test_every_library_has_a_neuron_and_the_networks(peer):
    works = {(c.work, c.mode) for c in peers.cases() if c.peer is peer}
    assert {("neuron cuba", "forward"), ("neuron cuba", "training")} < works
    left_out = {work for work in peers.NETWORKS if (work, "training") not in works}
    assert left_out == (set() if peer.equal else set(peers.OF_LAVA_DL))


SMALL = [c for c in peers.cases() if c.peer.equal and not c.work.startswith("MLP")]
SOON = ("neuron cuba", "neuron cuba, time last", "Dense 200-512 at 10%")


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=str(c), marks=() if c.work in SOON else pytest.mark.slow) for c in SMALL],
)
def test_work_is_the_same_on_both_sides(case):
    ours, theirs = (case.build(adapter(slayer), CPU) for adapter in (Lapilli, LavaDl))
    torch.testing.assert_close(ours.output, theirs.output, rtol=0, atol=0)
    assert ours.activity == theirs.activity
    assert 0 < ours.activity[-1] < 0.5
    before = ours.call()
    if case.mode == "training" and case.work.startswith("neuron"):
        for gradient in before:
            assert gradient.shape == (32, 512, 300)
            assert gradient.count_nonzero()


def test_training_changes_the_weights():
    network = Lapilli(slayer).layers(6, 5)
    side = peers.network(Lapilli(slayer), CPU, network, (2, 20, 6), 0.5, 3.0)
    before = [p.clone() for p in network.parameters()]
    side.call()
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


class Sum(torch.nn.Module):
    def forward(self, x, state):
        state = x if state is None else x + state
        return state, state


def test_steps_are_called_over_time():
    x = torch.randn(7, 2, 3).requires_grad_()
    y = OverTime(Sum())(x)
    torch.testing.assert_close(y, x.cumsum(0))
    y[-1].sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(7, 2, 3))


def test_rounds_alternate_and_the_first_does_not_count(monkeypatch):
    now, order = [0.0], []

    def work(name, seconds):
        def call():
            order.append(name)
            now[0] += 100.0 if len(order) <= 2 else next(seconds)

        return call

    monkeypatch.setattr(peers, "clock_of", lambda device: lambda: now[0])
    nothing: Any = None  # an output that nobody compares
    ours = Side(work("a", iter([1.0, 2.0, 1.0])), nothing, [])
    theirs = Side(work("b", iter([3.0, 8.0, 5.0])), nothing, [])
    found = peers.compare(ours, theirs, CPU, rounds=3)
    assert order == list("baabbaab")
    assert found["lapilli_clock_s"] == 1.0
    assert found["peer_clock_s"] == 5.0
    assert found["clock_ratio"] == 4.0  # the median of 3, 4 and 5
    assert found["clock_ratios"] == [3.0, 5.0]


def run(tmp_path, *options):
    """Run the comparison where no library can be imported."""
    for top in TOP:
        (tmp_path / f"{top}.py").write_text("raise ImportError('broken')")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider"], cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_libraries_that_are_absent_are_listed_with_how_to_get_them(tmp_path):
    path = ROOT / "bench" / "results" / "peers-cpu.json"
    before = path.read_bytes()
    done = run(tmp_path, "--peers", "-k", "test_peers")
    assert done.returncode == 0, done.stdout + done.stderr
    for peer in PEERS:
        assert f"{peer.name} is absent" in done.stdout
        assert f"pip install {peer.install}" in done.stdout
    assert "was not written" in done.stdout
    assert path.read_bytes() == before
