"""Products of torch in float32, whatever the user has asked torch for."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def _precision(device: str, kind: str) -> tuple[Any, str, Any, Any]:
    """Return the switch of a product's precision, its name, and its values for float32 and less."""
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):
        if device == "cpu":
            return getattr(backends.mkldnn, kind), "fp32_precision", "ieee", "ieee"
        switch = backends.cuda.matmul if kind == "matmul" else backends.cudnn.conv
        return switch, "fp32_precision", "ieee", "tf32"
    return backends.cuda.matmul if kind == "matmul" else backends.cudnn, "allow_tf32", False, True


_PRECISION = {(d, k): _precision(d, k) for d in ("cpu", "gpu") for k in ("matmul", "conv")}


_AS_IT_IS = contextlib.nullcontext()


def true_float32(
    device: torch.device, kind: str, unless: bool = False
) -> contextlib.AbstractContextManager[None]:
    """Keep autocast out, and devices from rounding inputs to TF32, which cuDNN does unless told.

    Neither has the bits of graded events and of gradients. ``kind`` of the product is ``matmul`` or
    ``conv``; ``unless`` asks for TF32 on GPUs instead. torch's switches are those of the process:
    they are touched only where they are not as wanted.
    """
    if device.type == "meta":
        return _AS_IT_IS
    place = "cpu" if device.type == "cpu" else "gpu"
    switch, name, exact, less = _PRECISION[place, kind]
    before, wanted = getattr(switch, name), less if unless else exact
    kept = before == wanted or (before == "none" and wanted == "ieee")  # nobody asked for less
    cast = torch.is_autocast_enabled(device.type)
    if kept and not cast:
        return _AS_IT_IS
    return _switched(device.type, cast, switch, name, before, before if kept else wanted)


@contextlib.contextmanager
def _switched(
    device: str, cast: bool, switch: Any, name: str, before: Any, wanted: Any
) -> Iterator[None]:
    if before != wanted:
        setattr(switch, name, wanted)
    try:
        with torch.autocast(device, enabled=False) if cast else _AS_IT_IS:
            yield
    finally:
        if before != wanted:
            setattr(switch, name, before)
