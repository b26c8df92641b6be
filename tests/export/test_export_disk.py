"""A save that is killed or runs out of room leaves the file that was there."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from export_networks import network, settled_dense
from known import opened

from lapilli import export

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent)))}


def kills(folder, number):
    done = subprocess.run(
        [sys.executable, HERE / "kill_saves.py", folder, str(number)],
        capture_output=True, text=True, timeout=300, check=False, env=ENVIRONMENT,
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the size of files")
def test_no_room(tmp_path):
    path = tmp_path / "a.net"
    export.save([settled_dense()], path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=120,
        check=False, env=ENVIRONMENT,
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


def old_file(tmp_path):
    path = tmp_path / "a.net"
    export.save([settled_dense()], path)
    return path, path.read_bytes()


@pytest.mark.parametrize("where", ["file_image", "read_back", "os.fsync", "os.replace"])
def test_a_failure_leaves_the_old_file(where, tmp_path, monkeypatch):
    path, before = old_file(tmp_path)

    def fail(*_args):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(f"lapilli.export.network.saving.{where}", fail)
    with pytest.raises(OSError, match="no space left"):
        export.save([settled_dense(delay=True)], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch):
    path, before = old_file(tmp_path)
    write = h5py.Group.__setitem__

    def corrupt(group, name, value):
        write(group, name, value + 2 if name == "weight" else value)

    monkeypatch.setattr(h5py.Group, "__setitem__", corrupt)
    with pytest.raises(OSError, match="layer 0: weight did not reach the disk"):
        export.save([settled_dense()], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_open_elsewhere_is_replaced(tmp_path):
    path, _ = old_file(tmp_path)
    with opened(path) as held:
        export.save([settled_dense(delay=True)], path)
        assert "delay" not in held["layer/0"]
    with opened(path) as file:
        assert "delay" in file["layer/0"]


def test_new_files_have_the_usual_permissions(tmp_path):
    path, _ = old_file(tmp_path)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    path, before = old_file(tmp_path)
    (tmp_path / "link.net").symlink_to(path)
    export.save([settled_dense(delay=True)], tmp_path / "link.net")
    assert (tmp_path / "link.net").is_symlink()
    assert path.read_bytes() != before


def test_folders_that_cannot_take_the_file(tmp_path, monkeypatch):
    net = [settled_dense()]
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        export.save(net, tmp_path / "absent" / "a.net")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        export.save(net, tmp_path)

    def refuse(*_args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("lapilli.export.network.saving.os.open", refuse)  # root may write anywhere
    with pytest.raises(PermissionError, match=f"cannot write into the folder.*{tmp_path.name}"):
        export.save(net, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
