"""What all tests share: memory that was never written is visible, and chance repeats itself."""

import gc
import os
import random
from collections import Counter
from typing import Any

import loop_count
import numpy as np
import pytest
import torch
from guarded import guard
from hastened import hasten
from hypothesis import HealthCheck, settings
from lapilli.blocks import crossover
from lapilli.kernels.executors import memory
from lapilli.kernels.numbers import language
from turns import divided

# A kernel that leaves an element unwritten must not find zeros there: NaN as a float32, 2143289344
# as an int32.
_UNWRITTEN = np.uint32(0x7FC00000)

# the first call compiles, so no deadline; derandomized, so that a failure repeats
settings.register_profile(
    "lapilli", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lapilli")

# tests ask for the same on every processor, and for nothing that `lapilli tune` stored on this one
alike = crossover.alike_everywhere()
alike.__enter__()


def devices() -> list[str]:
    """Devices that tests run on; the backends for debugging know the CPU only."""
    gpu = torch.cuda.is_available() and os.environ.get("LAPILLI_BACKEND", "auto") == "auto"
    return ["cpu", "cuda"] if gpu else ["cpu"]


@pytest.fixture(params=devices())
def device(request):
    return torch.device(request.param)


def pytest_configure(config):
    loop_count.begin()
    if hasattr(config, "workerinput"):  # of several: one thread each, and for what they start
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")


# long files with few tests: begun last, they would leave one process alone
_FIRST = (
    "torch/test_features.py", "tests/test_backends.py", "kernels/test_aot.py",
    "kernels/test_catalogue.py", "kernels/test_interpreter.py", "gcn/test_kernels.py",
    "ptx/test_kernels.py", "kernels/test_limits.py", "torch/test_parallel_modules.py",
    "torch/test_compile.py", "torch/test_state.py",
)  # fmt: skip


# reasons why tests are not run, and of how many; not skipped, for thousands of skips take a while
_LEFT_OUT: Counter[str] = Counter()


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: "/".join(item.path.parts[-2:]) not in _FIRST)
    items[:], left, reasons = divided(items, os.environ)
    _LEFT_OUT.update(reasons)
    if left:
        config.hook.pytest_deselected(items=left)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Add what one of several processes compiled; each has collected all tests."""
    found = getattr(node, "workeroutput", {})
    loop_count.LOOPS.update(found.get("loops", ()))
    _LEFT_OUT.update(found.get("left out", {}) if not _LEFT_OUT else {})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        session.config.workeroutput["loops"] = sorted(loop_count.LOOPS)
        session.config.workeroutput["left out"] = dict(_LEFT_OUT)
    elif loop_count.is_quick_form(session.config) and loop_count.verdict(len(loop_count.LOOPS)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for reason, count in sorted(_LEFT_OUT.items()):
        terminalreporter.line(f"{count} left out, {reason}")
    if loop_count.is_quick_form(config):
        found = len(loop_count.LOOPS)
        terminalreporter.line(loop_count.verdict(found) or f"{found} CPU loops in the quick form")


def pytest_collection_finish():
    gc.freeze()  # what is imported and collected stays: not to be looked at again and again


@pytest.fixture(autouse=True)
def _seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _unwritten_memory():
    """Fill what ``torch.empty`` and the pool of large buffers return."""
    take = memory._Pool.take

    def take_filled(pool, size):
        mapping = take(pool, size)
        np.frombuffer(mapping, np.uint32)[:] = _UNWRITTEN
        return mapping

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory._Pool, "take", take_filled)
        patch.setattr(memory, "keep_memory", lambda: False)  # the processes of tests live long
        # turns the next line on; use_deterministic_algorithms would import torch's compiler
        torch.set_deterministic_debug_mode("warn")
        switches: Any = torch.utils.deterministic
        switches.fill_uninitialized_memory = True
        yield
        torch.set_deterministic_debug_mode("default")


@pytest.fixture(autouse=True, scope="session")
def _guarded_memory():
    """Watch every address of the kernels that Triton's interpreter runs."""
    if language.BACKEND != "interpret":
        yield
        return
    with guard(), hasten():
        yield
