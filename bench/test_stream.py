"""One step a call, with a state that persists: the prepared way of a block beside the usual one."""

import time

import pytest
import torch
from lapilli.blocks import cuba

from lapilli.benchmark.counters import OneThread

CALLS, ROUNDS = 50, 30
LEAST = 4  # times as quick as the usual way; about 8 were measured
NEURON = {
    "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "persistent_state": True,
}  # fmt: skip
BLOCKS = {
    "Dense": lambda: cuba.Dense(NEURON, 128, 128),
    "Dense, weight norm": lambda: cuba.Dense(NEURON, 128, 128, weight_norm=True),
    "Dense, delay": lambda: cuba.Dense(NEURON, 128, 128, delay=True),
    "Recurrent": lambda: cuba.Recurrent(NEURON, 128, 128),
}


@pytest.mark.parametrize("name", BLOCKS)
@torch.no_grad()
def test_step_of_a_stream(name, benchmark, shown):
    torch.manual_seed(0)
    x = (torch.rand(1, 128, 1) < 0.2).float()
    block, usual = BLOCKS[name](), BLOCKS[name]()
    usual.__dict__["_streamed"] = lambda x, forward: forward(x)
    best = dict.fromkeys((block, usual), float("inf"))

    def both():
        for each in best:
            start = time.process_time()
            for _ in range(CALLS):
                each(x)
            best[each] = min(best[each], (time.process_time() - start) / CALLS)

    with OneThread():
        benchmark.pedantic(both, rounds=ROUNDS)
    times = best[usual] / best[block]
    benchmark.extra_info["microseconds"] = best[block] * 1e6
    benchmark.extra_info["times_as_quick"] = times
    shown(f"a step of {name}: {best[block] * 1e6:.0f} us, {times:.1f} times as quick")
    assert times >= LEAST
