"""Modules under the names that they had before the rooms were made.

A package that has moved its modules into rooms says so with ``install``. From then on ``import
package.old`` gives the module itself from its room, and a pickle finds its classes there.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping
from types import ModuleType

__all__ = ["install"]


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the module that has moved under its old name."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}  # where the module of this name is now

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.now:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(self.now[module.__name__])


_FINDER = _Moved()


def install(package: str, rooms: Mapping[str, str]) -> None:
    """Let the modules of a package be found under their old names.

    Parameters
    ----------
    package
        Name of the package in which they were, such as ``lapilli.kernels``.
    rooms
        Of each room, its name within the package, the names of its modules, with blanks between
        them. ``old=new`` is a module that has changed its name as well; the room ``""`` is the
        package itself.
    """
    for room, names in rooms.items():
        for entry in names.split():
            old, _, new = entry.partition("=")
            path = filter(None, (package, room, new or old))
            _FINDER.now[f"{package}.{old}"] = ".".join(path)
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
