"""A step of training beside other busy processes, by how torch's threads wait for each other.

python -m bench.neighbours            prints the table of docs/speed.md
python -m bench.neighbours --json     writes bench/results/neighbours.json, from which it is made

Threads of torch (OpenMP) spin while they wait for one that has not finished, so that it may go on
at once. Where that one waits for a processor which another program has, those who spin keep it
waiting. With ``OMP_WAIT_POLICY=PASSIVE`` they sleep. Each measurement is a process of its own, as
the variable is read when torch is imported; the ways take turns, and the medians are kept.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lapilli.benchmark.results import processor, read, versions, write

RESULTS = Path(__file__).parent / "results" / "neighbours.json"
NEIGHBOURS = (0, 1, 2)
WAYS = {
    "spinning": {},
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
NETWORKS = {  # layers, samples, steps
    "64-256-10, 72 samples, 32 steps": ((64, 256, 10), 72, 32),
    "2312-512-10, 8 samples, 300 steps": ((2312, 512, 10), 8, 300),
}
_OWN = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_ROUNDS, _STEPS = 3, 10


def step_of_training(name: str, steps: int) -> float:
    """Return the milliseconds of a step, in the process that this is called in."""
    import itertools

    import torch

    import lapilli
    from lapilli import slayer

    neuron = {
        "threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03,
        "scale_grad": 3,
    }  # fmt: skip
    layers, samples, T = NETWORKS[name]
    lapilli.keep_memory()
    torch.manual_seed(0)
    pairs = itertools.pairwise(layers)
    net = torch.nn.Sequential(*(slayer.block.cuba.Dense(neuron, a, b) for a, b in pairs))
    x = (torch.rand(samples, layers[0], T) < 0.1).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        net(x).mean().backward()
        optimizer.step()

    for _ in range(3):
        step()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begun) / steps * 1e3


def in_a_process(name: str, way: str, steps: int) -> float:
    """Return the milliseconds of a step in a process whose threads wait in a way."""
    environment = {k: v for k, v in os.environ.items() if k not in _OWN} | WAYS[way]
    command = [sys.executable, "-m", "bench.neighbours", "--one", name, str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep as many processes busy."""
    idle = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in idle:
            process.kill()
            process.wait()


def measured(neighbours: int, rounds: int = _ROUNDS, steps: int = _STEPS) -> dict[str, Any]:
    """Return the median of each network and way beside so many busy processes."""
    found: dict[str, dict[str, list[float]]] = {n: {w: [] for w in WAYS} for n in NETWORKS}
    with busy(neighbours):
        for _ in range(rounds):
            for name, ways in found.items():
                for way, times in ways.items():
                    times.append(in_a_process(name, way, steps))
    return {
        f"{name}; {neighbours} busy": {
            way: round(statistics.median(t), 2) for way, t in ways.items()
        }
        for name, ways in found.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return the table of docs/speed.md, in milliseconds a step."""
    lines = ["| network | busy processes beside it | " + " | ".join(WAYS) + " |"]
    lines.append("| --- |" + " --- |" * (1 + len(WAYS)))
    for case in sorted(results["cases"], key=lambda case: list(NETWORKS).index(case.split(";")[0])):
        name, _, beside = case.partition("; ")
        times = (f"{results['cases'][case][way]:.1f} ms" for way in WAYS)
        lines.append(f"| {name} | {beside.removesuffix(' busy')} | {' | '.join(times)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.neighbours", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name} too")
    parser.add_argument(
        "--busy", type=int, choices=NEIGHBOURS, nargs="*", default=NEIGHBOURS,
        help="how many busy processes; others stay in the file as they are",
    )  # fmt: skip
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "STEPS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write(f"{step_of_training(asked.one[0], int(asked.one[1]))}\n")
        return
    cases = read(RESULTS).get("cases", {})
    for count in asked.busy:
        cases |= measured(count)
    head = {"processor": processor(), "processors": os.cpu_count(), "versions": versions()}
    results = {**head, "command": "python -m bench.neighbours --json", "cases": cases}
    if asked.json:
        write(RESULTS, results)
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
