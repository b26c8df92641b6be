"""Packages that only some commands need, imported where they are used."""

import importlib
from types import ModuleType

__all__ = ["MissingExtraError", "require"]


class MissingExtraError(ImportError):
    """A package of an extra is not installed."""


def require(module: str, package: str, extra: str = "demo") -> ModuleType:
    """Import a module of an extra.

    Parameters
    ----------
    module
        Dotted name of the module.
    package
        Name under which it is installed.
    extra
        Extra of lapilli that holds the package.

    Raises
    ------
    MissingExtraError
        If the package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # it is installed, and something it needs is not
        raise MissingExtraError(
            f"{package} is not installed; get it with: pip install {package} (or in a clone of "
            f"lapilli, with all that such commands need: pip install '.[{extra}]')"
        ) from None
