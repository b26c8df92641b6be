"""Everything that users call, by the paths by which they import it."""

import enum
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, get_origin

import torch

from lapilli import slayer

MODULES = (
    *(m.name for m in pkgutil.walk_packages(slayer.__path__, "lapilli.slayer.")),
    "lapilli",
    "lapilli.export",
    "lapilli.plot",
)


def public() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Yield module, name and object of every class and function with a signature."""
    for path in MODULES:
        module = importlib.import_module(path)
        own = (
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        )
        for name in getattr(module, "__all__", own):
            thing = getattr(module, name)
            is_alias = get_origin(thing) is not None  # of types: nobody calls it
            if name.startswith("_") or is_alias or not callable(thing):
                continue
            no_arguments = (enum.Enum, torch.autograd.Function, dict, Exception)
            if not (isinstance(thing, type) and issubclass(thing, no_arguments)):
                yield path, name, thing


def parameters(thing: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be given by name."""
    star = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in inspect.signature(thing).parameters.values() if p.kind not in star]
