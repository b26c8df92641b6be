"""lava-dl's own name for the facade, for scripts that must not change at all."""

import importlib
import importlib.util
import pkgutil
import sys
import types

_FACADE = "lapilli.slayer"
_PACKAGES = ("lava", "lava.lib", "lava.lib.dl")
_NAME = "lava.lib.dl.slayer"


def install_alias() -> None:
    """Let ``import lava.lib.dl.slayer`` give ``lapilli.slayer``, in this process.

    Call it before the first such import. Calling it again does nothing.

    Raises
    ------
    RuntimeError
        If a real Lava is installed: its packages would be hidden.

    Examples
    --------
    >>> from lapilli import slayer
    >>> slayer.install_alias()  # doctest: +SKIP
    >>> import lava.lib.dl.slayer  # doctest: +SKIP
    """
    if sys.modules.get(_NAME) is sys.modules[_FACADE]:
        return
    if "lava" in sys.modules or importlib.util.find_spec("lava") is not None:
        raise RuntimeError(
            "a package called lava is installed, and the alias would hide it. Use "
            "`import lapilli.slayer as slayer` instead, or an environment without lava-nc."
        )
    inner = sys.modules[_FACADE]
    # all of them now: what Python finds later under the other name would be a second module
    for module in pkgutil.walk_packages(inner.__path__, f"{_FACADE}."):
        importlib.import_module(module.name)
    for name in reversed(_PACKAGES):
        package = types.ModuleType(name, "Holds lapilli.slayer under lava-dl's name.")
        package.__path__ = []
        child = "slayer" if inner is sys.modules[_FACADE] else inner.__name__.rpartition(".")[2]
        setattr(package, child, inner)
        sys.modules[name] = inner = package
    for name, module in list(sys.modules.items()):
        if name == _FACADE or name.startswith(f"{_FACADE}."):
            sys.modules[name.replace(_FACADE, _NAME, 1)] = module
