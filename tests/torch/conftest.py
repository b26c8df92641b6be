import pytest
from two_processes import TwoProcesses


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Call a function in two processes."""
    pair = TwoProcesses(tmp_path_factory.mktemp("both"))
    yield pair
    pair.stop()
