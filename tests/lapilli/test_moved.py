"""Modules and classes are found where they were before the rooms were made."""

import importlib
import pickle

import pytest

from lapilli import export, moved, slayer

# one of each package, as scripts import them, and where they are now
MODULES = {
    "lapilli.kernels.cuba": "lapilli.kernels.recurrences.cuba",
    "lapilli.export.writer": "lapilli.export.network.saving",
    "lapilli.export.reader": "lapilli.export.file.reader",
    "lapilli.export.interchange": "lapilli.export.exchange",
    "lapilli.cli": "lapilli.program.cli",
    "lapilli.own": "lapilli.recordings.own",
    "lapilli.assistant": "lapilli.slayer.utils.assistant",
    "lapilli.shifts": "lapilli.slayer.utils.time.shift",
    "lapilli.utilities": "lapilli.slayer.utils.utils",
}

# what pickles of whole modules name
CLASSES = (
    "lapilli.assistant Assistant",
    "lapilli.auto SequentialNetwork",
    "lapilli.blocks.base AbstractRecurrent",
    "lapilli.blocks.cuba Dense",
    "lapilli.blocks.recurrent AbstractKWTA",
    "lapilli.blocks.synapse Dense",
    "lapilli.blocks.synapse GenericLayer",
    "lapilli.blocks.synapse _SplitWeight",
    "lapilli.data Samples",
    "lapilli.export.build Grid",
    "lapilli.export.build Network",
    "lapilli.export.chip Chip",
    "lapilli.io Event",
    "lapilli.loss SpikeRate",
    "lapilli.neurons.base FixedPointNeuron",
    "lapilli.recordings Recordings",
    "lapilli.stats LearningStats",
)


@pytest.mark.parametrize("old", MODULES)
def test_old_paths_give_the_modules_themselves(old):
    assert importlib.import_module(old) is importlib.import_module(MODULES[old])


def test_every_entry_leads_to_a_module():
    assert len(moved._FINDER.now) > 50
    for old, new in moved._FINDER.now.items():
        assert importlib.import_module(old) is importlib.import_module(new)


@pytest.mark.parametrize("name", CLASSES)
def test_pickles_find_their_classes(name):
    module, _, attribute = name.partition(" ")
    found = pickle.loads(f"c{module}\n{attribute}\n.".encode())  # protocol 0
    assert found.__name__ == attribute.removeprefix("_")


def test_other_names_are_missing():
    with pytest.raises(ModuleNotFoundError, match=r"lapilli\.kernels\.no_such"):
        importlib.import_module("lapilli.kernels.no_such")


def test_facades_are_the_modules():
    assert slayer.block.base is importlib.import_module("lapilli.blocks.base")
    assert slayer.synapse.layer is importlib.import_module("lapilli.blocks.synapse")
    assert export.load.__module__ == "lapilli.export.network.build"
