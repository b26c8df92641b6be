import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Folder of compiled loops, empty at first."""
    monkeypatch.setenv("LAPILLI_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def note_kernel(record_property):
    """Put a compiled kernel into the table that is printed at the end."""

    def note(name, variant, target, used):
        # through the report: the process that prints may be another one
        row = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(used).items()}
        record_property("kernel", (name, variant, target, row))

    return note


def pytest_terminal_summary(terminalreporter):
    rows = [
        row
        for report in terminalreporter.stats.get("passed", [])
        for key, row in getattr(report, "user_properties", [])
        if key == "kernel" and report.when == "call"
    ]
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
            for widths in (used["loads"], used["stores"])
        )
        late = "" if used["late_loads"] is None else used["late_loads"]
        numbers = [used[key] for key in ("registers", "spills", "shared")]
        cells = [name, variant, target, *numbers, loads, stores, used["loop"], late]
        terminalreporter.line(f"| {' | '.join(map(str, cells))} |")
