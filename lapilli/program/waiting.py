"""How the threads of torch wait for each other, which is settled when torch is imported."""

import os
import sys


def sleep_while_waiting() -> None:
    """Let threads of torch that wait for another sleep, unless the environment says how to wait.

    They would spin, and beside other busy programs keep the processor from the thread that they
    wait for (``python -m bench.neighbours`` measures it). Does nothing where torch is imported
    already.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
