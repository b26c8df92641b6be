"""A gate for work of your own: a model, a loss, a training step."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import judge, results
from .counters import OneThread, clock_of, counters

UPDATE = "LAPILLI_BENCHMARK_UPDATE"
_ROUNDS = 7
_ROUND_SECONDS = 0.01  # at least, so that a short call is repeated
_COPIED = 1 << 22  # float32
_SIDE = 512  # of the matrices of the product


def gate(
    call: Callable[[], Any],
    name: str,
    baselines: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    tolerance: float = judge.TOLERANCE,
    update: bool | None = None,
) -> judge.Result:
    """Fail if a call does more, or is slower, than when its baseline was stored.

    It does more if a counter grew: operators that write, bytes that they return, loops over
    neurons, large buffers, bytes kept for backward. Counters do not depend on the machine. It is
    slower if its speed fell in three measurements, each beside a copy and beside a product of
    matrices in the same run, and beside both; this is judged on the kind of machine that the
    baselines are from, by processor time on the CPU.

    Parameters
    ----------
    call
        The work, without arguments; every call must do the same.
    name
        Name of the baseline.
    baselines
        JSON file with the baselines of any number of calls, to be kept with the code.
    device
        Where the call works.
    tolerance
        How far the speed may fall, above 0 and below 1.
    update
        Store what is measured as the new baseline, and judge nothing. None: if the environment
        variable ``LAPILLI_BENCHMARK_UPDATE`` is 1.

    Returns
    -------
    Result
        Counters and ratios that were measured.

    Raises
    ------
    AssertionError
        If the call does more or is slower; says what and by how much.
    LookupError
        If the file has no baseline of that name; says how to store one.
    ValueError
        For a tolerance out of range.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; expected a share above 0 and below 1")
    if update is None:
        update = os.environ.get(UPDATE) == "1"
    device, path = torch.device(device), Path(baselines)
    known = results.read(path)
    cases: dict[str, Any] = known.get("cases", {})
    baseline: dict[str, Any] = cases.get(name, {})
    if name not in cases and not update:
        raise LookupError(
            f"{path} has no baseline {name!r}; run once with {UPDATE}=1 to store it, and keep the "
            "file with the code"
        )
    machine = results.machine(device)
    for _ in range(2):  # compiles, and touches all memory
        call()
    counted = counters(call)  # before the clock decides how many calls there are
    measured = [judge.Result(counted, _ratios(call, device))]
    if update:
        stored = judge.baselines({name: measured[0]}, machine, known)
        results.write(path, stored)
        return measured[0]
    judged = judge.same_machine(machine, known["machine"])
    while (
        judged
        and judge.fallen(measured[-1], baseline, tolerance)
        and len(measured) < judge.ATTEMPTS
    ):
        measured.append(judge.Result(counted, _ratios(call, device)))
    found = judge.best(measured)
    worse = judge.grown(found, baseline)
    if judged:
        worse += judge.fallen(found, baseline, tolerance)
    if worse:
        raise AssertionError(
            f"{name}: {'; '.join(worse)} ({path}). If that is meant, store it with {UPDATE}=1."
        )
    return found


def _ratios(call: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Return the speed of the fastest round over that of each yardstick."""
    clock = clock_of(device)
    source, target = torch.randn(2, _COPIED, device=device)
    matrix = torch.randn(_SIDE, _SIDE, device=device)
    yardsticks = {
        "speed_beside_a_copy": lambda: target.copy_(source),
        "speed_beside_a_product": lambda: matrix @ matrix,
    }

    def seconds(work: Callable[[], Any], calls: int = 1) -> float:
        start = clock()
        for _ in range(calls):
            work()
        return (clock() - start) / calls

    calls = max(1, math.ceil(_ROUND_SECONDS / max(seconds(call), 1e-6)))
    fastest, fastest_of = math.inf, dict.fromkeys(yardsticks, math.inf)
    for _ in range(_ROUNDS):
        fastest = min(fastest, seconds(call, calls))
        with OneThread():
            for name, work in yardsticks.items():
                fastest_of[name] = min(fastest_of[name], seconds(work))
    return {name: spent / fastest for name, spent in fastest_of.items()}
