"""The folder of the CPU loops that were compiled.

A loop and its constants are one small Python module, in a folder named by the hash of
its text: what the compiler sees can be read there, Numba's on-disk cache works for it, and no edit
of any helper can leave stale machine code behind. Compilation happens at the first call.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import logging
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Releases of Numba that look at the time of a module, not at its text, compile again where it has
# another one, as in a copy: all have this one, the first that a zip file can hold
_WRITTEN = 315532800.0
_READ = (  # what the compiler reads beside the text of a loop
    "llvm_arrays", "llvm_code", "loop_ops", "scalar_ops", "vector_bits", "vector_sums",
    "vector_transpose", "vectors",
)  # fmt: skip
_PATIENCE = 60  # seconds for which a process waits for another one, which may have been stopped


def cache_folder() -> Path:
    """Folder of the compiled CPU loops: LAPILLI_CACHE_DIR, or a folder in the user's cache.

    One that cannot be written to is read; what it lacks is then compiled by every process.
    """
    chosen = os.environ.get("LAPILLI_CACHE_DIR")
    return Path(chosen) if chosen else _own_cache()


def _own_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lapilli"


def _write(text: str, name: str) -> Path:
    """Write the module where it can be cached; else in a temporary folder, without caching."""
    from numba import __version__ as numba_version

    modules = (importlib.import_module(f".{name}", __package__) for name in _READ)
    called = map(inspect.getsource, modules)
    key = "\n".join((text, *called, numba_version, sys.version))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        folder, cache = cache_folder() / digest, True
        if (folder / f"{name}.py").exists() and not os.access(folder, os.W_OK):
            folder = _copied(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(folder)
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written
        folder, cache = Path(tempfile.mkdtemp(prefix="lapilli-")), False
    path = folder / f"{name}.py"
    if not path.exists():
        # another process may be doing the same: never let it read half a file
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False) as file:
            file.write(text.replace("{cache}", str(cache)))
        os.replace(file.name, path)
    if cache and path.stat().st_mtime != _WRITTEN:
        with contextlib.suppress(OSError):  # another user's
            os.utime(path, (_WRITTEN, _WRITTEN))
    return path


def _copied(folder: Path) -> Path:
    """Copy a folder of the cache that cannot be written to, in which Numba would not read."""
    base = _own_cache()
    target = base / folder.name
    if not target.exists():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as scratch:
            copy = shutil.copytree(folder, Path(scratch) / folder.name, copy_function=shutil.copy)
            for entry in (copy, *copy.rglob("*")):
                entry.chmod(entry.stat().st_mode | stat.S_IWUSR)
            with contextlib.suppress(OSError):  # another process was faster
                copy.rename(target)
    return target


def load(text: str, function: str) -> Callable[..., Any]:
    """Return a function of a module, which is written to the folder if it is not there."""
    path = _write(text, function.lstrip("_"))
    logging.getLogger(__name__).info("%s is prepared from %s", function, path)
    # Numba's cache imports the module by name, so the name must be the same in every process
    name = f"_lapilli_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)


@contextlib.contextmanager
def one_after_another(function: Callable[..., Any]) -> Iterator[None]:
    """Let no two processes compile a function at once: the second finds what the first has written.

    Where files cannot be locked, as on Windows, both compile it.
    """
    path = Path(function.__code__.co_filename).with_name("lock")
    try:
        file = path.open("a")
    except OSError:  # a folder that can only be read
        yield
        return
    with file:  # whose end is that of the lock
        _wait_for_lock(file)
        yield


def _wait_for_lock(file: IO[str]) -> None:
    if fcntl is None:
        return
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            # not flock, whose locks a forked process keeps
            return fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # another process has it
            time.sleep(0.01)
        except OSError:  # a system of files without locks
            return
