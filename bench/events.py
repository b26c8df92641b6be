"""Event-driven products beside the dense ones: ``python -m bench.events`` prints a table.

Processor time of one thread, the least of several calls, both in the same run.
"""

import sys
import time
from collections.abc import Callable

import torch
from lapilli.kernels import event_convolution, events
from lapilli.kernels.event_convolution import Geometry

DENSITIES = (0.005, 0.01, 0.03, 0.1, 0.3, 1.0)
PRODUCTS = ((2400, 2312, 512), (2400, 512, 512), (9600, 512, 512))  # frames, inputs, outputs
CONVOLUTIONS = ((200, 16, 32, 32), (200, 32, 64, 16))  # frames, channels, outputs, side; 3 x 3
HEADER = ("layer", "density", "find", "forward", "dense", "ratio", "gradient", "dense", "ratio")


def least(call: Callable[[], object], calls: int = 7) -> float:
    """Return the least processor time of a call, in milliseconds."""
    call()
    times = []
    for _ in range(calls):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times) * 1e3


def spikes(density: float, *shape: int) -> torch.Tensor:
    """Return frames of spikes ``shape`` as a layer gives them, ``[1, neurons..., T]``."""
    return (torch.rand(shape) < density).float().unsqueeze(0).movedim(1, -1)


def row(name: str, density: float, find: Callable, forward: Callable, gradient: Callable,
        dense: tuple[float, float]) -> None:  # fmt: skip
    """Print a row; the ratio of the forward pass counts the finding of events."""
    found, gathered, scattered = least(find), least(forward), least(gradient)
    cells = (
        name, f"{density:.1%}", f"{found:.2f}",
        f"{gathered:.2f}", f"{dense[0]:.1f}", f"{dense[0] / (found + gathered):.1f}",
        f"{scattered:.2f}", f"{dense[1]:.1f}", f"{dense[1] / scattered:.1f}",
    )  # fmt: skip
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


def main() -> None:
    """Measure all layers at all densities."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sys.stdout.write(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}\n")
    for frames, inputs, outputs in PRODUCTS:
        w = torch.randint(-128, 128, (outputs, inputs)) / 32
        g, x = torch.randn(frames, outputs), torch.rand(frames, inputs).round()
        dense = least(lambda: x @ w.t()), least(lambda: g.t() @ x)  # noqa: B023 (called at once)
        for density in DENSITIES:
            x_t = spikes(density, frames, inputs)
            listed = events.events_of(x_t)
            row(
                f"Dense {inputs}->{outputs}, {frames} frames", density,
                lambda: events.events_of(x_t), lambda: events.gather(listed, w),  # noqa: B023
                lambda: events.scatter(listed, g), dense,  # noqa: B023
            )  # fmt: skip
    for frames, channels, outputs, side in CONVOLUTIONS:
        w = torch.randint(-128, 128, (outputs, channels, 3, 3)) / 32
        x, g = torch.rand(frames, channels, side, side), torch.randn(frames, outputs, side, side)
        options = [1, 1], [1, 1], [1, 1]
        geometry = Geometry((channels, side, side), w.shape, *options)
        dense = (
            least(lambda: torch.conv2d(x, w, None, *options)),  # noqa: B023
            least(lambda: torch.ops.aten.convolution_backward(
                g, x, w, None, *options, False, [0, 0], 1, [False, True, False])),  # noqa: B023
        )  # fmt: skip
        for density in DENSITIES:
            x_t = spikes(density, frames, channels, side, side)
            listed = events.events_of(x_t)
            row(
                f"Conv 3x3 {channels}->{outputs} on {side}x{side}, {frames} frames", density,
                lambda: events.events_of(x_t),  # noqa: B023
                lambda: event_convolution.gather(listed, w, geometry),  # noqa: B023
                lambda: event_convolution.scatter(listed, g, geometry), dense,  # noqa: B023
            )  # fmt: skip


if __name__ == "__main__":
    main()
