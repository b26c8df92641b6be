"""A save that is killed or runs out of room leaves the file that was there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from export_networks import network, settled_dense

from lapilli import export

HERE = Path(__file__).parent


def kills(folder, number):
    done = subprocess.run(
        [sys.executable, HERE / "kill_saves.py", folder, str(number)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return sorted(p.suffix for p in folder.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share a start")
def test_many_kills(tmp_path):
    left = kills(tmp_path, 100)
    assert ".tmp" in left, "no kill met a save under way: the test shows nothing"


LIMITED = """
import resource, sys
import h5py, torch  # what they load counts
from export_networks import network
from lapilli import export
net, _ = network("conv")
for room in (30000, 4096, 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        export.save(net, sys.argv[1])
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the size of files")
def test_no_room(tmp_path):
    path = tmp_path / "a.net"
    export.save([settled_dense()], path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=120,
        check=False, env=os.environ | {"PYTHONPATH": str(HERE)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"[Errno 27] cannot write: File too large: '{path}'"] * 3
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_written_has_reached_the_disk(tmp_path, monkeypatch):
    """The file is synced before it is renamed, and the folder after."""
    net, _ = network("mlp")
    steps = []
    sync, replace = os.fsync, os.replace

    def synced(handle):
        steps.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    def replaced(source, target):
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    export.save(net, tmp_path / "a.net")
    file, rename, folder = steps
    assert (Path(file).suffix, rename, folder) == (".tmp", "rename", str(tmp_path))
