"""The devices that are present, and the one that a command uses."""

from typing import Any

from lapilli import processes
from lapilli.errors import UsageError


def devices_here() -> dict[str, str]:
    """Devices that are present, and what each is."""
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads"}
    accelerator = torch.accelerator
    present = accelerator.current_accelerator() if accelerator.is_available() else None
    if present is not None:
        kind = present.type
        module = torch.get_device_module(kind)
        for i in range(accelerator.device_count()):
            name = module.get_device_name(i) if hasattr(module, "get_device_name") else kind
            found[f"{kind}:{i}"] = name
    return found


def device_called(name: str) -> tuple[Any, str]:
    """Return the device called ``name`` and its executor."""
    import torch
    from lapilli.kernels.executors.dispatch import executor

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        return device, executor(device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a missing backend
        reason = str(error).partition("\n")[0].rstrip(".")
        if reason.startswith("Expected one of"):  # a list of all that torch was ever built for
            reason = "torch knows no device of this name"
        available = ", ".join(devices_here())
        raise UsageError(
            f"device {name!r} cannot be used ({reason}); available: {available}"
        ) from None


def own_device(name: str, group: processes.Processes) -> str:
    """Name of the device of this process, where several share those of a machine."""
    kind, _, number = name.partition(":")
    if group.size == 1 or kind == "cpu":
        return name
    if number:
        raise UsageError(
            f"device {name!r} is one for {group.size} processes; leave the number out, and each "
            f"process takes its own"
        )
    present = sum(found.startswith(f"{kind}:") for found in devices_here())
    if 0 < present < group.local_size:
        raise UsageError(
            f"{group.local_size} processes on this machine, which has {present} x {kind}; start at "
            f"most {present} with --nproc-per-node"
        )
    return f"{kind}:{group.local_rank}"
