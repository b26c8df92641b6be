"""The list of kernels is complete, and what it says of each is what the machine code does."""

import importlib
import pkgutil

import lapilli.kernels
import pytest
from lapilli.kernels.numbers.language import BACKEND, is_jit
from lapilli.kernels.proof import aot, calls, catalogue, machine_code

pytestmark = [
    pytest.mark.skipif(BACKEND != "auto", reason="launches are those of a GPU"),
    pytest.mark.turns,
]


def every_kernel():
    names = set()
    for module in pkgutil.walk_packages(lapilli.kernels.__path__, "lapilli.kernels."):
        loaded = importlib.import_module(module.name)
        names |= {n for n, v in vars(loaded).items() if n.endswith("_kernel") and is_jit(v)}
    return names


def test_every_kernel_is_listed():
    listed = list(catalogue.entries(*catalogue.names()))
    assert {entry.launch.kernel.__name__ for entry in listed} == every_kernel()
    assert len({str(entry) for entry in listed}) == len(listed)
    assert {entry.name.partition(" ")[0] for entry in listed} == set(catalogue.names())


def entries_of(name):
    return {entry.mode: entry for entry in catalogue.entries(name)}


def test_modes_and_bytes():
    # x and spikes; in training also v; backward: gradient of the spikes, v, gradient of x
    modes = {m: e.bytes for m, e in entries_of("cuba").items()}
    assert modes == {
        "inference": 8, "training": 12, "backward": 12, "backward, fast_sigmoid": 12,
        # and two float32 a neuron and sample, for 300 steps
        "backward, learned": pytest.approx(12 + 8 / 300),
    }  # fmt: skip
    assert {m: e.bytes for m, e in entries_of("sigma").items()} == {"inference": 8, "backward": 8}


def accessed(entry, target):
    code = machine_code.read(aot.compile_launch(entry.launch, target))
    warps = entry.launch.threads // aot.TARGETS[target].warp_size
    trace = code.passes(entry.products // warps, entry.is_step)
    return sum(i.load + i.store for i in trace) * entry.launch.threads / entry.lanes / entry.chunk


# bytes a neuron-step that are read again: the gradient of a delay compares two steps of the input
AGAIN = {"channel_delay, backward, learned": 4}


def check(name, target):
    if not aot.can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    for entry in catalogue.entries(name):
        series = round(entry.bytes * 8) // 8  # without what is there once a sequence
        found = accessed(entry, target) - AGAIN.get(str(entry), 0)
        assert found >= series
        if not entry.products:  # in recurrent layers R can stream through
            # 4 bytes: a chunk may read a row of the one before; 1/2: sigma_delta keeps bits, and a
            # thread accesses 4 bytes of them a chunk
            assert found <= entry.bytes + 4 / entry.chunk + 0.5


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_main_loop_moves_the_bytes_of_the_tensors(target):
    check("sigma", target)


@pytest.mark.slow  # the gate compares what is accessed on the other architectures
@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
@pytest.mark.parametrize("name", [*calls.RECURRENCES, "quantize", "recurrent"])
def test_every_main_loop_moves_the_bytes_of_the_tensors(name, target):
    check(name, target)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("sm_90", ("cuda", 90, 32)), ("sm_103", ("cuda", 103, 32)), ("gfx950", ("hip", "gfx950", 64)),
     ("gfx1100", ("hip", "gfx1100", 32))],
)  # fmt: skip
def test_architectures(name, gpu):
    found = aot.architecture(name)
    assert (found.backend, found.arch, found.warp_size) == gpu
