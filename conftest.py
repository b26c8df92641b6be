"""``pytest --benchmark``: run the benchmarks of bench/ instead of the tests."""

from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"


def pytest_addoption(parser):
    """Add the options; most of pytest-benchmark's begin with the same word."""
    group = parser.getgroup("benchmark")
    for name, text in (
        ("--benchmark", "Run bench/ instead of the tests and judge it against its baselines."),
        ("--benchmark-short", "The same with fewer shapes and rounds."),
        ("--benchmark-update", "The same, and store what is measured as the new baselines."),
        ("--peers", "The same, and measure other libraries where they are installed."),
    ):
        group.addoption(name, action="store_true", default=False, help=text)
    group.addoption(
        "--benchmark-tolerance", type=float, metavar="SHARE",
        help="How far ratios may fall below their baselines, above 0 and below 1.",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Collect bench/ and let pytest-benchmark measure."""
    option = config.option
    names = "benchmark", "benchmark_short", "benchmark_update", "peers"
    option.benchmark = any(getattr(option, name) for name in names)
    if option.benchmark_short and option.benchmark_update:
        raise pytest.UsageError(
            "--benchmark-short measures on one thread, which makes no baselines; leave one of "
            "--benchmark-short and --benchmark-update out (-k chooses cases)"
        )
    tolerance = option.benchmark_tolerance
    if tolerance is not None and not 0 < tolerance < 1:
        raise pytest.UsageError(
            f"--benchmark-tolerance is {tolerance}; expected a share above 0 and below 1"
        )
    if option.benchmark:
        option.benchmark_enable = True  # pyproject.toml turns it off for the tests
        option.benchmark_quiet = True  # bench/ prints its own table
        if config.args_source is not config.ArgsSource.ARGS:
            config.args = [str(BENCH)]
