"""The network of a user: ``FILE.py:FUNCTION``, made, run once and checked."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from lapilli.recordings.errors import RecordingError

Network = Callable[[tuple[int, ...], int], torch.nn.Module]


def network_of_file(given: str) -> Network:
    """Load ``FILE.py:FUNCTION``: from the shape of a sample and the number of classes to a network.

    Raises
    ------
    RecordingError
        If there is no such file or function, or the file raises.
    """
    import importlib.util

    name, colon, function = given.rpartition(":")
    path = Path(name)
    if not colon or path.suffix != ".py":
        raise RecordingError(f"--net is {given!r}; expected FILE.py:FUNCTION, as my_net.py:make")
    if not path.is_file():
        raise RecordingError(f"--net is {given!r}, and there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecordingError(f"--net {given}: {_said(error)}") from None
    make = getattr(module, function, None)
    if not callable(make):
        raise RecordingError(f"--net {given}: {path.name} has no function {function!r}")
    return cast(Network, make)


def checked(
    make: Network, given: str, sample: torch.Tensor, classes: int, streams: bool = False
) -> torch.nn.Sequential:
    """Make the network of a user and run it on a sample ``[1, channels..., T]``.

    Unless it ``streams``, its states may not go on from one call to the next.

    Raises
    ------
    RecordingError
        If it cannot be made, is no chain, keeps its states, or gives something else than
        ``[1, classes, T]``.
    """
    shape = tuple(sample.shape[1:-1])
    try:
        net = make(shape, classes)
        if not isinstance(net, torch.nn.Sequential):
            raise TypeError(f"it returned {net!r:.80}; expected a torch.nn.Sequential")
        kept = [n for n, m in net.named_modules() if getattr(m, "persistent_state", False)]
        if kept and not streams:
            raise ValueError(
                f"{', '.join(kept)}: keeps its state from one call to the next, which here would "
                "be other samples; build it with persistent_state=False"
            )
        net.to(sample.device)
        with torch.no_grad():
            output = net.eval()(sample)
        net.train()
    except Exception as error:
        raise RecordingError(
            f"--net {given}, called with {shape} and {classes}: {_said(error)}"
        ) from None
    if output.ndim != 3 or output.shape[1] != classes:
        raise RecordingError(
            f"--net {given}: the network gives {tuple(output.shape)} for {tuple(sample.shape)}; "
            f"expected [1, {classes}, time]"
        )
    return net


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
