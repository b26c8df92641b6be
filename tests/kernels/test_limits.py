"""What a device refuses and a CPU does not: shared memory beyond its limit, offsets, alignment."""

import contextlib
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from faults import compiling_recurrent_layers
from known import present
from lapilli.kernels.executors import dispatch
from lapilli.kernels.executors.dispatch import FULL
from lapilli.kernels.proof import catalogue
from lapilli.kernels.proof.aot import (
    TARGETS,
    can_compile,
    compile_launch,
    recurrent_launches,
    signature,
)
from lapilli.kernels.proof.standin import stand_in
from lapilli.kernels.recurrences import recurrent_triton
from lapilli.kernels.recurrences.cuba import cuba
from lapilli.kernels.recurrences.recurrent import recurrent
from lapilli.kernels.synapses.quantize import quantize_8bit
from recurrent_layers import Layer
from triton._C.libtriton import llvm
from triton.backends.amd.compiler import HIPBackend
from triton.backends.nvidia.compiler import CUDABackend

pytestmark = pytest.mark.turns

# Bytes of shared memory that a program can have: CUDA's programming guide, "Technical
# specifications per compute capability"; AMD's LDS is 64 KiB a workgroup on all of these.
SHARED = {
    "sm_75": 64 << 10, "sm_80": 163 << 10, "sm_86": 99 << 10, "sm_89": 99 << 10,
    "sm_90": 227 << 10, "sm_100": 227 << 10, "sm_120": 99 << 10,
    "gfx90a": 64 << 10, "gfx942": 64 << 10, "gfx1100": 64 << 10,
}  # fmt: skip
# every form of the feedback: resident at its largest, split over programs, one product a step
LAYERS = [
    ("cuba", 64, True), ("cuba", 128, True), ("cuba", 256, True), ("cuba", 512, True),
    ("alif", 128, True), ("adrf", 64, True), ("adrf", 128, True), ("cuba", 64, False),
    ("cuba", 520, False), ("adrf", 1024, True),
]  # fmt: skip
SOON = [("sm_75", LAYERS[1]), ("sm_75", LAYERS[0]), ("sm_86", LAYERS[1])]


# Triton compiles alike for these up to what it allocates: of each group one is compiled
ALIKE = {"sm_80": "sm_8x", "sm_86": "sm_8x", "sm_89": "sm_8x"}
# The tightest of those whose code is the same where nothing is chosen by the size of the memory.
TIGHTEST = ("sm_75", "sm_86", "sm_120", "gfx90a")
_known = {}  # bytes of launches that were compiled


def _no_text(*args):
    """Stand for the last stages; the name of the kernel is read from their text."""
    next(a for a in args if isinstance(a, dict))["name"] = ""
    return ""


def _nothing(*args):
    return b""


@contextlib.contextmanager
def without_machine_code(text=False):
    """Let Triton compile as far as text, or as far as memory is allocated, which is quicker."""
    with contextlib.ExitStack() as patches:
        for backend, stages in (
            (CUDABackend, ("make_ptx", "make_cubin")), (HIPBackend, ("make_amdgcn", "make_hsaco")),
        ):  # fmt: skip
            for stage, stand in list(zip(stages, (_no_text, _nothing), strict=True))[text:]:
                patches.enter_context(mock.patch.object(backend, stage, staticmethod(stand)))
        if not text:
            patches.enter_context(mock.patch.object(llvm, "optimize_module", _nothing))
        yield


def shared_of(launch, target):
    """Bytes of shared memory of a launch."""
    types, constants = signature(launch, target)
    key = (
        launch.kernel.__name__, launch.threads, ALIKE.get(target, target),
        tuple(types.items()), tuple(constants.items()),
    )  # fmt: skip
    if key not in _known:
        with without_machine_code():
            _known[key] = compile_launch(launch, target).metadata.shared
    return _known[key]


def launches_of(layer, target, gradient, monkeypatch):
    """Distinct launches of a step of training of a recurrent layer on a device."""
    room = SHARED[target] if target.startswith("sm_") else 0
    monkeypatch.setattr(recurrent_triton, "_shared_memory", lambda device: room)
    monkeypatch.setattr(recurrent_triton, "_multiplies_narrow", lambda device: target != "sm_75")
    name, neurons, exact = layer
    options: dict[str, Any] = {} if exact else {"quantum": 0.0}
    made = Layer(name, neurons, 16, 3, gradient=gradient, shift=True, **options)
    recorded = recurrent_launches(lambda: made.call(recurrent)[0].sum().backward())
    return {(id(x.kernel), x.constants): x for x in recorded}.values()


@pytest.mark.parametrize("gradient", ["lava-dl", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("target", "layer"),
    [
        pytest.param(
            target, layer, marks=() if (target, layer) in SOON else pytest.mark.slow,
            id=f"{target}-{layer[0]}-{layer[1]}-{'codes' if layer[2] else 'float32'}",
        )
        for target in SHARED for layer in LAYERS
    ],
)  # fmt: skip
@compiling_recurrent_layers()
def test_recurrent_layers_fit_every_architecture(target, layer, gradient, monkeypatch, tmp_path):
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # what is not whole is not kept
    for launch in launches_of(layer, target, gradient, monkeypatch):
        assert shared_of(launch, target) <= SHARED[target]


@pytest.mark.slow
@pytest.mark.parametrize("target", TIGHTEST)
@pytest.mark.parametrize("name", [n for n in catalogue.names() if n != "recurrent"])
def test_other_kernels_fit_every_architecture(name, target, monkeypatch, tmp_path):
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for entry in catalogue.entries(name):
        launch = entry.launch
        if launch.lanes is not None:  # with chunks in flight; test_aot.py has those without
            launch = replace(launch, lanes=FULL - 1)
        assert shared_of(launch, target) <= SHARED[target], entry


@pytest.mark.slow
@pytest.mark.parametrize("target", [t for t in SHARED if t not in TARGETS])
def test_kernels_become_text_for_every_architecture(target, monkeypatch, tmp_path):
    """For those of TARGETS, test_aot.py compiles them whole."""
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found = [entry.launch for entry in catalogue.entries("cuba", "rf", "terms")]
    found += launches_of(("cuba", 128, True), target, "lava-dl", monkeypatch)
    stage = "ptx" if target.startswith("sm_") else "amdgcn"
    with without_machine_code(text=True):
        for launch in found:
            compiled = compile_launch(launch, target)
            assert launch.kernel.__name__ in compiled.asm[stage]
            assert compiled.metadata.shared <= SHARED[target]


def test_devices_without_narrow_products_multiply_float32(monkeypatch):
    known = recurrent_triton._multiplies_narrow.__wrapped__
    for capability, narrow in (((7, 0), False), ((7, 5), False), ((8, 0), True), ((12, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert known(torch.device("cuda", 0)) is narrow
        monkeypatch.setattr(recurrent_triton, "_multiplies_narrow", known)
        operand = recurrent_triton._operand(torch.int8, 1 / 32, torch.device("cuda", 0))
        assert operand == (torch.int8 if narrow else torch.float32)
    assert known(torch.device("cpu"))


def test_grids_are_within_their_limits():
    # up to 2**31 - 1 programs in the first dimension, 65535 in the second
    grids = []
    found = mock.patch.object(
        recurrent_triton, "launch", lambda kernel, grid, *rest: grids.append(grid)
    )
    with stand_in(compiles=False), found:
        for name, neurons, _ in LAYERS:
            Layer(name, neurons, 16, 3, shift=True).call(recurrent)
        assert max(y for _, y in grids) == 1024 // 64
        grids.clear()
        recurrent_triton._launcher(
            None, (1, 1, recurrent_triton.LARGEST), (False,), recurrent_triton.SPLIT, torch.int8
        )()
        assert grids == [(1, 512)]


def test_samples_count_in_64_bits(monkeypatch):
    grids = []
    monkeypatch.setattr(dispatch, "launch", lambda kernel, grid, *rest, **k: grids.append(grid))
    with stand_in(compiles=False):
        dispatch.execute(None, (2**20, 1, 2**12), (torch.zeros(()),))
        assert grids == [(2**25,)]
        # the offset from the first sample of a program is an int32
        with pytest.raises(ValueError, match="must have fewer than"):
            dispatch.execute(None, (1, 2**30, 1), (torch.zeros(()),))


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4])
def test_views_off_16_bytes_are_compiled_for(first):
    """Odd offsets, as of ``x[1:]`` with an odd number of neurons: no access of 16 bytes there."""
    decay = torch.tensor([410.0])
    whole = torch.zeros(6, 4, 3)
    with stand_in() as gpu:
        cuba(whole[first:].movedim(1, -1), decay, decay, 1.0, 4096)
        quantize_8bit(torch.zeros(40)[first:])
        functions = [launch.function for launch in present(gpu.launches)]
        starts = [launch.args[0].data_ptr() % 16 for launch in present(gpu.launches)]
        present(gpu.launches).clear()
        cuba(whole.movedim(1, -1), decay, decay, 1.0, 4096)
        quantize_8bit(torch.zeros(40))
        aligned = [launch.function for launch in present(gpu.launches)]
    assert starts == [first * 48 % 16, first * 4 % 16]
    assert functions[0] == aligned[0]
    assert (functions[1] == aligned[1]) is (first % 4 == 0)
