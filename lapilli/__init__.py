"""lapilli: train spiking networks for Loihi with fused, bit-exact kernels.

``from lapilli import slayer`` gives the blocks and neurons under lava-dl's names. Submodules are
imported when they are first used.

    kernels, neurons, blocks, export   links to the folders of these names
    slayer                             lava-dl's names, and what exists for them alone
    loss, classifier, filter           from spikes to a number, or to a class
    encode, io, data, recordings       from numbers and files to spikes
    training, graphs, processes        a loop over epochs; a step as a CUDA graph; several processes
    activity, plot                     how much layers spike, and pictures
    program, benchmark                 the command line, and what holds speed
    spike                              thresholds alone
    errors, extras, moved              exceptions; packages that may be absent; old paths

Short names that recur: ``net`` is a network, ``x`` its input and ``spikes`` its output, ``[N,
neurons..., T]`` of N samples and T steps; a ``rate`` is a share of outputs that are not zero; an
``event`` is a spike with its place and time, as files hold them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import moved

if TYPE_CHECKING:  # what ``__getattr__`` imports
    from . import blocks, classifier, encode, export, io, loss, neurons, plot, slayer, spike
    from .activity import (
        Activity,
        LayerActivity,
        LayerStart,
        SilentNeuronsWarning,
        init_rates_,
    )
    from .blocks.tensor_cores import gradient_products, set_gradient_products
    from .graphs import graphed
    from .kernels.executors.memory import keep_memory
    from .kernels.numbers.formula import surrogate, surrogates
    from .kernels.recurrences.decays import decay_gradient, set_decay_gradient
    from .neurons.state import reset_state

__version__ = "0.1.0"

__all__ = [
    "Activity",
    "LayerActivity",
    "LayerStart",
    "SilentNeuronsWarning",
    "__version__",
    "blocks",
    "classifier",
    "decay_gradient",
    "encode",
    "export",
    "gradient_products",
    "graphed",
    "init_rates_",
    "io",
    "keep_memory",
    "loss",
    "neurons",
    "plot",
    "reset_state",
    "set_decay_gradient",
    "set_gradient_products",
    "slayer",
    "spike",
    "surrogate",
    "surrogates",
]

_NAMES = {
    "Activity": "lapilli.activity",
    "LayerActivity": "lapilli.activity",
    "LayerStart": "lapilli.activity",
    "SilentNeuronsWarning": "lapilli.activity",
    "decay_gradient": "lapilli.kernels.recurrences.decays",
    "gradient_products": "lapilli.blocks.tensor_cores",
    "graphed": "lapilli.graphs",
    "init_rates_": "lapilli.activity",
    "keep_memory": "lapilli.kernels.executors.memory",
    "reset_state": "lapilli.neurons.state",
    "set_decay_gradient": "lapilli.kernels.recurrences.decays",
    "set_gradient_products": "lapilli.blocks.tensor_cores",
    "surrogate": "lapilli.kernels.numbers.formula",
    "surrogates": "lapilli.kernels.numbers.formula",
}

# where modules were before there were rooms
moved.install(
    __name__,
    {
        "program": (
            "arguments checkpoints cli completion kernel_page kernel_report profiling recipes "
            "report report_page"
        ),
        "io": "io_pictures=pictures",
        "recordings": "own",
        "slayer": "auto",
        "slayer.utils": "assistant recurrent stats utilities=utils",
        "slayer.utils.time": "shifts=shift",
    },
)


if not TYPE_CHECKING:  # or checkers would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if name in _NAMES:
            return getattr(importlib.import_module(_NAMES[name]), name)
        if name in __all__:
            return importlib.import_module(f"lapilli.{name}")
        raise AttributeError(f"module 'lapilli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
