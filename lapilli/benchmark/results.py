"""Files of results and baselines, and where they are from."""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from lapilli.kernels.executors.processor import processor


def machine(device: torch.device) -> dict[str, Any]:
    """Describe where the results are from."""
    name = processor()
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
    return {"processor": name, "threads": torch.get_num_threads(), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Versions of what the speed depends on."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
    if "triton" in sys.modules:
        found["triton"] = sys.modules["triton"].__version__
    return found


def label(device: torch.device) -> str:
    """Return the name of the files of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name().lower().replace(" ", "-")
    return device.type


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, of which each case is a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cases = content["cases"]
    head = {k: v for k, v in content.items() if k != "cases"}
    lines = ",\n".join(f"    {json.dumps(c)}: {json.dumps(v)}" for c, v in cases.items())
    opening = json.dumps(head, indent=2).removesuffix("\n}")
    path.write_text(f'{opening},\n  "cases": {{\n{lines}\n  }}\n}}\n')
