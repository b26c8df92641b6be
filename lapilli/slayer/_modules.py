"""What of lapilli stands under which of lava-dl's names, and how it gets there."""

import importlib
import pkgutil
import sys
import types

# A module of lava-dl, below slayer, to the module of lapilli that it is (with all its submodules),
# or to the names that it holds and the modules that they come from. ``module:name`` is a name of
# its own. Where a package holds a name like that of a submodule, the attribute is the name.
MODULES: dict[str, str | dict[str, str]] = {
    "auto": "lapilli.auto",
    "axon": {
        "delay": "lapilli.shifts",
        "Delay": "lapilli.blocks.delay",
        "Delta": "lapilli.neurons.delta",
    },
    "axon.delay": {"delay": "lapilli.shifts", "Delay": "lapilli.blocks.delay"},
    "axon.delta": "lapilli.neurons.delta",
    "block": "lapilli.blocks",
    "classifier": "lapilli.classifier",
    "dendrite": {"Sigma": "lapilli.neurons.sigma"},
    "dendrite.sigma": "lapilli.neurons.sigma",
    "io": "lapilli.io",
    "loss": "lapilli.loss",
    "neuron": "lapilli.neurons",
    "spike": "lapilli.spike",
    "synapse": {
        "Conv": "lapilli.blocks.synapse",
        "ConvTranspose": "lapilli.blocks.synapse",
        "Dense": "lapilli.blocks.synapse",
        "Pool": "lapilli.blocks.synapse",
        "Unpool": "lapilli.blocks.synapse",
    },
    "synapse.complex": "lapilli.blocks.complex_synapse",
    "synapse.layer": "lapilli.blocks.synapse",
    "utils": {
        "Assistant": "lapilli.assistant",
        "LearningStat": "lapilli.stats",
        "LearningStats": "lapilli.stats",
        "QUANTIZE_MODE": "lapilli.kernels.quantize:QuantizeMode",
        "diagonal_mask": "lapilli.utilities",
        "dotdict": "lapilli.utilities",
        "event_rate": "lapilli.utilities",
        "quantize": "lapilli.kernels.quantize",
        "quantize_hook_fx": "lapilli.kernels.quantize",
        "staticproperty": "lapilli.utilities",
    },
    "utils.assistant": "lapilli.assistant",
    "utils.filter": {
        "FIR": "lapilli.filter",
        "FIRBank": "lapilli.filter",
        "conv": "lapilli.filter",
        "corr": "lapilli.filter",
    },
    "utils.filter.conv": {"conv": "lapilli.filter", "corr": "lapilli.filter"},
    "utils.filter.fir": {"FIR": "lapilli.filter", "FIRBank": "lapilli.filter"},
    "utils.int_utils": {
        "Q2Zero": "lapilli.utilities",
        "right_shift_to_zero": "lapilli.utilities",
    },
    "utils.quantize": {
        "MODE": "lapilli.kernels.quantize:QuantizeMode",
        "quantize": "lapilli.kernels.quantize",
        "quantize_hook_fx": "lapilli.kernels.quantize",
    },
    "utils.recurrent": "lapilli.recurrent",
    "utils.stats": "lapilli.stats",
    "utils.time": {"replicate": "lapilli.shifts", "shift": "lapilli.shifts"},
    "utils.time.replicate": {"replicate": "lapilli.shifts"},
    "utils.time.shift": {"shift": "lapilli.shifts"},
    "utils.utils": {
        "diagonal_mask": "lapilli.utilities",
        "dotdict": "lapilli.utilities",
        "event_rate": "lapilli.utilities",
        "staticproperty": "lapilli.utilities",
    },
}


def install(package: str) -> dict[str, types.ModuleType]:
    """Put all modules under ``package`` into ``sys.modules``; return the top ones by name."""
    top = {}
    for path, home in sorted(MODULES.items()):  # packages before their modules
        full = f"{package}.{path}"
        if isinstance(home, str):
            module = sys.modules[full] = importlib.import_module(home)
            _install_submodules(full, module)
        else:
            module = sys.modules[full] = _collect(full, home)
        parent, _, name = path.rpartition(".")
        if not parent:
            top[name] = module
        elif name not in MODULES[parent]:
            holder = sys.modules[f"{package}.{parent}"]
            setattr(holder, name, module)
            holder.__all__.append(name)
    return top


def _install_submodules(full: str, module: types.ModuleType) -> None:
    """Let the submodules of a package be found under its other name as well."""
    for part in pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}."):
        other = part.name.replace(module.__name__, full, 1)
        sys.modules[other] = importlib.import_module(part.name)


def _collect(full: str, names: dict[str, str]) -> types.ModuleType:
    """Make a module that holds names of other modules."""
    module = types.ModuleType(full, "Names of lava-dl; see lapilli/slayer/_modules.py.")
    module.__path__ = []  # a package, of which sys.modules holds all submodules
    module.__all__ = sorted(names)
    for name, home in names.items():
        source, _, original = home.partition(":")
        setattr(module, name, getattr(importlib.import_module(source), original or name))
    return module
