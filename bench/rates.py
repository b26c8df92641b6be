"""Rates of layers before and after ``init_rates_``: ``python -m bench.rates`` prints the table.

A network 64-64-10 of each family reads scikit-learn's digits (bench/learning), one seed; what is
shown are the hidden and the last layer on the 360 test samples.
"""

import torch

import lapilli
from bench.learning import networks, runs, training
from lapilli.benchmark import results

from . import report

STORE = report.BENCH / "results" / "rates.json"
RATE, RATE_BY_PHASE = 0.05, 0.01  # a neuron that spikes by phase spikes at most once a period
ALIKE = {"period": 12}  # of all resonators, so that their rates compare
GAIN = 20.0  # from rates to logits
README = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03}
NEURONS = {"cuba, as in the README": ("cuba", README | {"scale_grad": 3})} | {
    family: (family, neuron | (ALIKE if family in networks.RESONATORS else {}))
    for family, neuron in networks.NEURONS.items()
    if family != "sigma_delta"  # its readout does not spike
}


def measure(name: str, start: bool) -> dict[str, object]:
    """Train one network; return its layers before and after, and its accuracy."""
    family, neuron = NEURONS[name]
    task = runs.TASKS["digits"]()
    form = networks.form(family, "Dense")
    torch.manual_seed(0)
    dense = getattr(lapilli.slayer.block, family).Dense
    net = torch.nn.Sequential(dense(neuron, 64, 64), dense(neuron, 64, 10))
    first = training.take(task.train[form], torch.arange(runs.FIRST))
    if start:
        lapilli.init_rates_(net, first, RATE_BY_PHASE if family in networks.PHASE else RATE)

    def layers() -> list[list[float]]:
        with lapilli.Activity(net) as activity, torch.no_grad():
            net(task.test[form])
        return [[layer.rate, layer.silent] for layer in activity.layers()]

    before = layers()
    budget = training.BUDGETS["digits"]
    found = training.train(net, task, form, budget, GAIN, 0, lambda net: None, False)
    return {"before": before, "after": layers(), "score": found["score"]}


def table(document: dict) -> list[str]:
    """Return the lines of the table."""
    lines = [
        "| neuron | weights | hidden layer, first | last layer, first | hidden layer, trained | "
        "accuracy |",
        "|" + " --- |" * 6,
    ]
    for key, row in document["cases"].items():
        name, weights = key.split(" / ")
        (h0, o0), (h1, _) = row["before"], row["after"]
        lines.append(
            f"| {name} | {weights} | {h0[0]:.3f}, {h0[1]} of 64 | {o0[0]:.3f}, {o0[1]} of 10 | "
            f"{h1[0]:.3f}, {h1[1]} of 64 | {100 * row['score']:.1f} |"
        )
    return lines


def main() -> None:
    """Measure, store and print."""
    torch.set_num_threads(1)
    rows = {}
    for name in NEURONS:
        for start in (False, True):
            rows[f"{name} / {'scaled' if start else 'as drawn'}"] = measure(name, start)
    head = {"machine": results.machine(torch.device("cpu")), "versions": results.versions()}
    document = head | {"command": "python -m bench.rates", "cases": rows}
    results.write(STORE, document)
    print("\n".join(table(document)))  # noqa: T201


if __name__ == "__main__":
    main()
