"""Packages that only the demos need, imported where they are used."""

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """A package of the ``demo`` extra is not installed."""


def require(module: str, package: str) -> ModuleType:
    """Import a module of the ``demo`` extra.

    Parameters
    ----------
    module
        Dotted name of the module.
    package
        Name under which it is installed.

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
            f"{package} is not installed; get it with: pip install 'lapilli[demo]'"
        ) from None
