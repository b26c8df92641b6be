"""Norms of gradients: ``python -m bench.gradients`` writes a table and a picture.

Every block with something to learn runs forward and backward from a random start, with the gradient
of the sum of its output, and the norm of the gradient of each parameter is noted against steps,
batch, neurons, the rate of the input and the arguments of the surrogate gradient. The sum is the
worst case: what many steps say adds up.
"""

import argparse
import importlib
import json
import math
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
STEPS = (10, 30, 100, 300, 1000)
SEEDS = (0, 1, 2, 3)  # the gradient of a single decay is a sum that cancels
LEAKY = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}
TURNS = {"threshold": 1.0, "period": 10, "decay": 0.05}
ADAPTS = {"threshold_step": 0.125, "threshold_decay": 0.2, "refractory_decay": 0.5}
NEURONS: dict[str, dict[str, Any]] = {
    "cuba": LEAKY,
    "alif": LEAKY | ADAPTS,
    "rf": TURNS,
    "rf_iz": TURNS,
    "adrf": TURNS | ADAPTS,
    "adrf_iz": TURNS | ADAPTS,
    "sigma_delta": {"threshold": 0.125, "activation": torch.nn.functional.relu},
}
EVERY = tuple(NEURONS)
SPIKING = EVERY[:-1]
_MAPS = {"in_features": 2, "out_features": 4, "kernel_size": 3, "weight_scale": 2}
# kind: families, channels of the input for so many neurons, arguments for so many neurons
KINDS: dict[str, tuple[tuple[str, ...], Any, Any]] = {
    "Input": (EVERY, lambda n: (n,), lambda n: {"weight": 1.5, "bias": 0.25}),
    "Dense": (EVERY, lambda n: (20,), lambda n: _dense(n)),
    "Affine": (("cuba", "rf", "rf_iz"), lambda n: (20,), lambda n: _dense(n)),
    "Output": (("sigma_delta",), lambda n: (20,), lambda n: _dense(n)),
    "Recurrent": (SPIKING, lambda n: (20,), lambda n: _dense(n)),
    "KWTA": (SPIKING, lambda n: (20,), lambda n: _dense(n) | {"num_winners": max(1, n // 8)}),
    "Conv": (EVERY, lambda n: (2, 6, 6), lambda n: _MAPS),
    "ConvT": (EVERY, lambda n: (2, 2, 2), lambda n: _MAPS),
    "Pool": (EVERY, lambda n: (2, 8, 8), lambda n: {"kernel_size": 2}),
    "Unpool": (EVERY, lambda n: (2, 4, 4), lambda n: {"kernel_size": 2}),
}
CELLS = [(family, kind) for kind, (families, _, _) in KINDS.items() for family in families]


def _dense(neurons: int) -> dict[str, Any]:
    return {"in_neurons": 20, "out_neurons": neurons, "weight_scale": 2}


def norms(
    family: str, kind: str, steps: int = 100, batch: int = 4, neurons: int = 64,
    rate: float = 0.3, seed: int = 0, gradient: str | None = None, **surrogate: float,
) -> dict[str, float]:  # fmt: skip
    """Return the norm of the gradient of each learned parameter of a block by its name."""
    torch.manual_seed(seed)
    _, channels, arguments = KINDS[kind]
    options = dict(arguments(neurons)) | ({} if gradient is None else {"gradient": gradient})
    params = NEURONS[family] | {"requires_grad": True} | surrogate
    block = getattr(importlib.import_module(f"lapilli.blocks.{family}"), kind)(params, **options)
    x = (torch.rand(batch, *channels(neurons), steps) < rate).float()
    y = block(x)
    total: Any = sum(part.sum() for part in (y if isinstance(y, tuple) else (y,)))
    total.backward()
    # what is learned of a decay has the gradient of the decay, and is not listed twice
    return {
        name: float(p.grad.norm())
        for name, p in block.named_parameters()
        if p.grad is not None and not name.endswith("_update")
    }


def growth(by_steps: dict[int, float]) -> float:
    """Return the exponent with which a norm grows from the last but two number of steps on."""
    first, *_, last = sorted(by_steps)[-3:]
    if not by_steps[first] or not by_steps[last]:
        return 0.0
    return math.log(by_steps[last] / by_steps[first]) / math.log(last / first)


def against_steps(
    cells: list[tuple[str, str]], steps: tuple[int, ...] = STEPS, **options: Any
) -> Iterator[tuple[str, str, str, dict[int, float]]]:
    """Yield family, kind, parameter, and its norm by the number of steps, of all seeds together."""
    for family, kind in cells:
        found = {t: [norms(family, kind, t, seed=s, **options) for s in SEEDS] for t in steps}
        for name in found[steps[0]][0]:
            yield family, kind, name, {t: math.hypot(*(f[name] for f in found[t])) for t in steps}


# argument of ``norms``: its values; the others are at their defaults
SWEEPS: dict[str, tuple[float, ...]] = {
    "batch": (1, 4, 16),
    "neurons": (16, 64, 256),
    "rate": (0.03, 0.1, 0.3),
    "tau_grad": (0.01, 0.1, 1.0),
    "scale_grad": (0.1, 1.0, 10.0),
}


def sweeps(kinds: tuple[str, ...] = ("Dense", "Recurrent")) -> list[dict[str, Any]]:
    """Return the norm of each weight's gradient against everything but the steps."""
    rows = []
    for argument, values in SWEEPS.items():
        for family, kind in CELLS:
            if kind not in kinds:
                continue
            each: list[dict[str, Any]] = [{argument: v} for v in values]
            found = [norms(family, kind, **one) for one in each]
            rows += [
                {"family": family, "kind": kind, "parameter": name, "argument": argument,
                 "norms": {str(v): f[name] for v, f in zip(values, found, strict=True)}}
                for name in found[0] if "weight" in name
            ]  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the norms against steps as a table in Markdown."""
    steps = list(rows[0]["norms"])
    lines = [
        "| block | parameter | " + " | ".join(f"T = {t}" for t in steps) + " | exponent |",
        "|---|---|" + "---|" * (len(steps) + 1),
    ]
    lines += [
        f"| {row['family']}.{row['kind']} | {row['parameter']} | "
        + " | ".join(f"{v:.2g}" for v in row["norms"].values())
        + f" | {row['exponent']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the norms of the weights of Dense, Recurrent and KWTA against steps."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    kinds = ("Dense", "Recurrent", "KWTA")
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 3, sharey=True), kinds, strict=True):
        for color, family in enumerate(EVERY):
            own = [r for r in rows if r["kind"] == kind and r["family"] == family]
            for row in [r for r in own if "weight" in r["parameter"]][:2]:
                dashed = ":" if "imag" in row["parameter"] else "-"
                axes.loglog(
                    [int(t) for t in row["norms"]], list(row["norms"].values()), dashed,
                    color=f"C{color}", linewidth=3.2 - 0.35 * color,  # equal lines are all seen
                )  # fmt: skip
        axes.set_title(kind)
        axes.set_xlabel("steps")
    figure.axes[0].set_ylabel("norm of the weight's gradient")
    marks = [Line2D([], [], color=f"C{color}", label=name) for color, name in enumerate(EVERY)]
    marks.append(Line2D([], [], color="grey", linestyle=":", label="imaginary part"))
    figure.legend(handles=marks, loc="outside right center")
    figure.savefig(path)


def main() -> None:
    """Measure, and write ``gradients.json``, ``gradients.md`` and ``gradients.svg``."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.gradients")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the results go")
    folder = parser.parse_args().folder
    rows = [
        {"family": f, "kind": k, "parameter": name, "exponent": growth(found),
         "norms": {str(t): value for t, value in found.items()}}
        for f, k, name, found in against_steps(CELLS)
    ]  # fmt: skip
    result = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "steps": rows,
        "sweeps": sweeps(),
    }
    (folder / "gradients.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "gradients.md").write_text(f"# Gradients, measured\n\n{table(rows)}\n")
    picture(rows, folder / "gradients.svg")
    worst = max(rows, key=lambda row: row["exponent"])
    print(table(rows))  # noqa: T201 (a program)
    print(f"{len(rows)} gradients; the steepest grows as T ** {worst['exponent']:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
