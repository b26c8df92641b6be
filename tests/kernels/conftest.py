import pytest

_compiled = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[_compiled] = []


@pytest.fixture
def compiled_kernels(pytestconfig):
    """Rows of the table of compiled kernels."""
    return pytestconfig.stash[_compiled]


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[_compiled]
    if not rows:
        return
    terminalreporter.section("kernels compiled ahead of time")
    terminalreporter.line(
        "| kernel | variant | target | registers | spills | shared | loads | stores | loop | late |"
    )
    terminalreporter.line("|" + " --- |" * 10)
    for name, variant, target, used in sorted(rows, key=lambda row: row[:3]):
        loads, stores = (
            ", ".join(f"{n} x {size} B" for size, n in sorted(widths.items()))
            for widths in (used.loads, used.stores)
        )
        late = "" if used.late_loads is None else used.late_loads
        terminalreporter.line(
            f"| {name} | {variant} | {target} | {used.registers} | {used.spills} | {used.shared} "
            f"| {loads} | {stores} | {used.loop} | {late} |"
        )
