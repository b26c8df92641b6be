"""Draw the surrogate gradients, as the functions of lapilli compute them.

python -m bench.surrogates --plot docs/surrogates.svg
"""

import argparse
from pathlib import Path

import torch
from lapilli.kernels.numbers.surrogate import BUILT_IN
from lapilli.kernels.recurrences.spike import spike
from torch import Tensor

from lapilli.extras import require

REACH = 4.0  # widths on each side of the threshold
POINTS = 1601


def curve(name: str, graded: bool) -> tuple[Tensor, Tensor]:
    """Return distances from the threshold in widths, and the gradients of a spike there."""
    distance = torch.linspace(-REACH, REACH, POINTS).requires_grad_()
    scale = 1.0 if graded else 2.0  # of height 1
    spikes = spike(
        distance, 0.0, tau_rho=1.0, scale_rho=scale, surrogate=name, graded=graded,
        fires=torch.ones_like(distance, dtype=torch.bool),
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(spikes.sum(), distance)
    return distance.detach(), gradient


def plot(path: Path) -> None:
    """Draw the surrogates of binary and graded spikes, side by side."""
    pyplot = require("matplotlib.pyplot", "matplotlib")
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for axis, graded in zip(axes, (False, True), strict=True):
        for name in BUILT_IN:
            distance, gradient = curve(name, graded)
            axis.plot(distance, gradient, label=name, linewidth=2 if name == BUILT_IN[0] else 1.2)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title("graded spikes" if graded else "binary spikes")
        axis.set_xlabel("distance from the threshold, in widths")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("gradient, relative to its height")
    axes[1].legend(fontsize="small")
    with pyplot.rc_context({"svg.hashsalt": "lapilli"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    """Draw them into the file that is named."""
    parser = argparse.ArgumentParser(prog="python -m bench.surrogates", description=__doc__)
    parser.add_argument("--plot", type=Path, required=True, help="file, .svg or .png")
    plot(parser.parse_args().plot)


if __name__ == "__main__":
    main()
