"""``pytest --benchmark``: run the benchmarks of bench/ instead of the tests."""

from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"


def pytest_addoption(parser):
    """Add the options; pytest-benchmark's begin with the same word."""
    group = parser.getgroup("benchmark")
    for name, text in (
        ("--benchmark", "Run bench/ instead of the tests and judge it against its baselines."),
        ("--benchmark-short", "The same with fewer shapes and rounds."),
        ("--benchmark-update", "The same, and store what is measured as the new baselines."),
    ):
        group.addoption(name, action="store_true", default=False, help=text)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Collect bench/ and let pytest-benchmark measure."""
    option = config.option
    option.benchmark = option.benchmark or option.benchmark_short or option.benchmark_update
    if option.benchmark:
        option.benchmark_enable = True  # pyproject.toml turns it off for the tests
        option.benchmark_quiet = True  # bench/ prints its own table
        if config.args_source is not config.ArgsSource.ARGS:
            config.args = [str(BENCH)]
