"""When a change made something worse: results against stored baselines. Pure functions.

A baseline holds no seconds. Counters are what a call does (operators, loops, buffers, bytes) and do
not depend on the machine: any growth fails. Ratios compare with something measured in the same run
(the loop in torch, a copy); they depend on the machine, so they are judged on the kind of machine
that the baseline is from, and there with a tolerance.
"""

from dataclasses import dataclass, field
from typing import Any

# How far ratios may fall below the baseline's; bench/README.md says how the number was found.
TOLERANCE = 0.3
RATIOS = ("speedup", "bandwidth_share")
CEILING = {"bandwidth_share": 1.0}  # as fast as a copy is enough; beyond, caches decide
ATTEMPTS = 3  # a ratio fails only if it fell in all of so many measurements


@dataclass(frozen=True)
class Result:
    """What one case gave."""

    counters: dict[str, int] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)


def grown(result: Result, baseline: dict[str, Any]) -> list[str]:
    """Return a sentence for each counter that is larger than in the baseline of its case."""
    known = baseline.get("counters", {})
    return [
        f"{name} grew from {known[name]} to {value}"
        for name, value in result.counters.items()
        if value > known.get(name, value)
    ]


def narrowed(narrowest: dict[str, int], baseline: dict[str, Any]) -> list[str]:
    """Return a sentence for each kind of access that became narrower, in bytes a thread."""
    known = baseline.get("narrowest", {})
    return [
        f"the narrowest {kind} shrank from {known[kind]} to {value} bytes"
        for kind, value in narrowest.items()
        if value < known.get(kind, value)
    ]


def fallen(result: Result, baseline: dict[str, Any], tolerance: float = TOLERANCE) -> list[str]:
    """Return a sentence for each ratio if all of them fell by more than the tolerance.

    Work that became slower lowers all of them. Memory that became faster, because other programs
    leave it alone, lowers the share of a copy's bandwidth, not the other.
    """
    known = baseline.get("ratios", {})
    judged = {name: value for name, value in result.ratios.items() if name in known}
    if not all(value < known[name] * (1 - tolerance) for name, value in judged.items()):
        return []
    return [
        f"{name} fell from {known[name]:.3g} to {value:.3g}, by more than {tolerance:.0%}"
        for name, value in judged.items()
    ]


def best(results: list[Result]) -> Result:
    """Join several measurements of a case: the best of each ratio."""
    ratios = {n: max(r.ratios[n] for r in results) for n in results[0].ratios}
    return Result(results[0].counters, ratios)


def same_machine(machine: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether ratios of two machines may be compared."""
    return all(machine.get(key) == other.get(key) for key in ("processor", "threads"))


def baselines(
    results: dict[str, Result], machine: dict[str, Any], known: dict[str, Any]
) -> dict[str, Any]:
    """Return what is stored as the baselines of these results; other cases stay as they are known.

    What is known of another kind of machine is forgotten.
    """
    cases = dict(known.get("cases", {})) if same_machine(machine, known.get("machine", {})) else {}
    for case, result in results.items():
        ratios = {
            name: float(f"{min(value, CEILING.get(name, value)):.3g}")
            for name, value in result.ratios.items()
        }
        cases[case] = {"counters": result.counters, "ratios": ratios}
    return {"machine": machine, "cases": dict(sorted(cases.items()))}
