"""Settings that steered lava-dl's compiler; scripts may still assign them.

Attributes
----------
TORCH_CUDA_ARCH_LIST : str or None
    Ignored: Triton compiles for the device that is present. Assigning a value warns once.
VERBOSE : bool
    True logs every CPU loop at its first use, as a message of ``lapilli.kernels`` to stderr.
"""

import logging
import sys
import types
import warnings
from typing import Any

TORCH_CUDA_ARCH_LIST: str | None = None
VERBOSE = False

_warned = False


class _Settings(types.ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "TORCH_CUDA_ARCH_LIST" and value is not None:
            _warn()
        elif name == "VERBOSE":
            _log_compilations(bool(value))


def _warn() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "jitconfig.TORCH_CUDA_ARCH_LIST is ignored: kernels are compiled for the device that "
            "is present",
            UserWarning,
            stacklevel=3,
        )


def _log_compilations(on: bool) -> None:
    log = logging.getLogger("lapilli.kernels")
    log.setLevel(logging.INFO if on else logging.NOTSET)
    if on and not log.hasHandlers():
        log.addHandler(logging.StreamHandler())


sys.modules[__name__].__class__ = _Settings
