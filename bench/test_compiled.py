"""Steps of training of whole networks: their time, and that a compiled one is not slower."""

import itertools
import shutil
import statistics
import time

import pytest
import torch
from lapilli.blocks import cuba

from lapilli import loss
from lapilli.benchmark.counters import OneThread

ROUNDS = 15
NOISE = 0.05  # what medians of the same call differ by
NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03}
NETS = {  # sizes, samples, steps, options of the blocks; what share of the inputs spikes
    "digits": ((64, 128, 10), 72, 32, {"weight_norm": True, "delay": True}, 0.2),
    "small": ((64, 128, 10), 8, 16, {"weight_norm": True, "delay": True}, 0.2),
    "MLP": ((2312, 512, 512, 10), 8, 300, {}, 0.006),
}

compilers = any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def step_of(sizes, batch, steps, options, density, compiled):
    """Return a step of training: forward, loss, backward and optimiser."""
    torch.manual_seed(0)
    pairs = itertools.pairwise(sizes)
    net = torch.nn.Sequential(*(cuba.Dense(NEURON, a, b, **options) for a, b in pairs))
    x = (torch.rand(batch, sizes[0], steps) < density).float()
    label = torch.randint(0, sizes[-1], (batch,))
    rates = loss.SpikeRate(true_rate=0.2, false_rate=0.03)
    net(x)  # layers learn their shapes
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def forward(x, label):
        return rates(net(x), label) / batch

    run = torch.compile(forward, fullgraph=True) if compiled else forward

    def step():
        optimiser.zero_grad()
        run(x, label).backward()
        optimiser.step()

    return step


@pytest.mark.parametrize("name", NETS)
def test_step_of_training(name, benchmark, shown):
    step = step_of(*NETS[name], compiled=False)
    for _ in range(3):
        step()
    calls, found = 1 if name == "MLP" else 10, []

    def several():
        start = time.process_time()
        for _ in range(calls):
            step()
        found.append((time.process_time() - start) / calls)

    with OneThread():
        benchmark.pedantic(several, rounds=ROUNDS)
    milliseconds = statistics.median(found) * 1e3
    benchmark.extra_info["milliseconds"] = milliseconds
    shown(f"a step of training, {name}: {milliseconds:.2f} ms")


@pytest.mark.skipif(not compilers, reason="torch's default backend needs a C++ compiler")
@pytest.mark.parametrize("name", NETS)
def test_compiled_step_is_not_slower(name, run, benchmark, shown):
    if run.short:
        pytest.skip("the short form leaves out what the C++ compiler is needed for")
    torch._dynamo.reset()
    eager, compiled = (step_of(*NETS[name], compiled=c) for c in (False, True))
    seconds = {eager: [], compiled: []}
    for step in (*(eager,) * 3, *(compiled,) * 3):
        step()

    def both():
        for step, found in seconds.items():
            start = time.perf_counter()
            for _ in range(10 if name != "MLP" else 1):
                step()
            found.append(time.perf_counter() - start)

    with OneThread():
        benchmark.pedantic(both, rounds=ROUNDS)
    times = statistics.median(seconds[eager]) / statistics.median(seconds[compiled])
    benchmark.extra_info["times_as_quick"] = times
    shown(f"compiled, {name}: {times:.2f} times as quick as eager")
    assert times >= 1 - NOISE
