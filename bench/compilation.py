"""Measure how long neurons' kernels take to compile, and with the passes that lapilli leaves out.

python -m bench.compilation            cuba, alif, rf and adrf, for sm_90: the table of docs/gpu.md
python -m bench.compilation leaky      others

Processor time to compile a forward kernel in training and its backward kernel, each once, for few
neurons (chunks in flight) and for many; without Triton's cache.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

TARGET = "sm_90"


def seconds(compile_it: Callable[[], Any]) -> float:
    """Return the processor time of this process for a call."""
    begun = time.process_time()
    compile_it()
    return time.process_time() - begun


def main(wanted: list[str]) -> None:
    """Print a row of the table for each neuron."""
    os.environ["TRITON_ALWAYS_COMPILE"] = "1"
    from lapilli.kernels.executors.dispatch import FULL
    from lapilli.kernels.proof.aot import compile_kernel, compile_launch, signature
    from lapilli.kernels.proof.catalogue import entries

    for name in wanted:
        uses = [e.launch for e in entries(name) if e.mode in ("training", "backward")]
        row = []
        for lanes in (FULL - 1, FULL):
            given = [replace(launch, lanes=lanes) for launch in uses]
            row.append(sum(seconds(lambda g=g: compile_launch(g, TARGET)) for g in given))
            row.append(
                sum(
                    seconds(
                        lambda g=g: compile_kernel(
                            g.kernel, *signature(g, TARGET), TARGET, g.threads
                        )
                    )
                    for g in given
                )
            )
        print(f"| {name} | " + " | ".join(f"{s:.1f} s" for s in row) + " |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:] or ["cuba", "alif", "rf", "adrf"])
