"""Convolutions on tensor cores against float64: bit for bit where sums are exact, else as float32.

The kernels run in Triton's interpreter, which is chosen for a whole process: in one of their own.
There every address is watched (tests/guarded.py). tests/ptx runs what they compile to.
"""

import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch
from known import present
from lapilli.blocks import convolution, cuba, rf, tensor_cores
from lapilli.blocks.synapse import Conv
from lapilli.blocks.tensor_cores import GradientProducts
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof import catalogue
from lapilli.kernels.proof.aot import (
    TARGETS,
    can_compile,
    compile_launch,
    convolution_launches,
    resources,
)
from lapilli.kernels.proof.standin import stand_in
from lapilli.kernels.synapses import tiled_convolution
from lapilli.neurons.cuba import Neuron
from torch.testing import assert_close

from lapilli import gradient_products, set_gradient_products

interpreted = pytest.mark.skipif(BACKEND != "interpret", reason="needs the interpreter")
compiled = pytest.mark.skipif(BACKEND != "auto", reason="kernels are compiled for a GPU")
slow = pytest.mark.slow
pytestmark = pytest.mark.turns


@dataclass(frozen=True)
class Case:
    """A convolution, or its transpose, of ``[batch, channels, *size, steps]``."""

    channels: int
    outputs: int
    kernel: int
    size: tuple[int, int]
    batch: int = 1
    steps: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    transposed: bool = False

    def options(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation,
                "groups": self.groups, "transposed": self.transposed}  # fmt: skip

    def weight_shape(self):
        ends = self.outputs, self.channels // self.groups
        if self.transposed:
            ends = self.channels, self.outputs // self.groups
        return *ends, self.kernel, self.kernel

    def input_shape(self):
        return self.batch, self.steps, self.channels, *self.size

    def convolve(self, x, w):
        """Run the map of blocks on rows ``[N, T, C, H, W]``, which it takes as a view."""
        (y,) = convolution.convolve(
            x.movedim(1, -1), w, product="dense", step=1.0, **self.options()
        )
        return y

    def expected(self, x, w):
        options = list(self.stride), list(self.padding), list(self.dilation), self.transposed
        return torch.convolution(x.flatten(0, 1), w, None, *options, [0, 0], self.groups)


SOON = [
    Case(1, 3, 3, (5, 4), 3, 2, padding=(1, 1)),
    Case(17, 5, 3, (4, 5), stride=(2, 1), padding=(1, 0), transposed=True),
    Case(6, 34, 1, (3, 3), 1, 9, groups=2),
    Case(3, 17, 5, (9, 8), dilation=(1, 2), stride=(2, 2), padding=(2, 3)),
]
LATE = [
    Case(5, 1, 1, (1, 1)),
    Case(33, 33, 1, (3, 5), 3, 2),
    Case(16, 3, 3, (5, 4), 1, 2, padding=(1, 1)),
    Case(33, 17, 3, (3, 3), 1, 2, padding=(1, 1)),
    Case(5, 5, 5, (7, 6), 3, 1, stride=(2, 2), padding=(2, 2)),
    Case(3, 3, 3, (7, 7), 1, 9, dilation=(2, 2), padding=(2, 1)),
    Case(10, 15, 3, (5, 5), 3, 1, groups=5, padding=(1, 1), stride=(1, 2)),
    Case(1, 33, 5, (5, 6), 1, 2),
    Case(5, 3, 3, (4, 3), 3, 2, transposed=True),
    Case(3, 17, 5, (3, 4), 1, 2, stride=(2, 2), padding=(2, 1), transposed=True),
    Case(18, 6, 3, (3, 3), 1, 1, groups=3, stride=(2, 1), transposed=True),
    Case(2, 2, 3, (4, 4), 1, 2, dilation=(2, 1), stride=(1, 2), padding=(1, 1), transposed=True),
]
CASES = [pytest.param(c, id=str(k)) for k, c in enumerate(SOON)]
CASES += [pytest.param(c, id=str(k + len(SOON)), marks=slow) for k, c in enumerate(LATE)]


@pytest.fixture
def tensor_cores_here(monkeypatch):
    """Let the CPU be a device with tensor cores, of any number of rows; record the launches."""
    launched = []

    def record(kernel, *rest):
        launched.append(kernel.fn.__name__)
        launch(kernel, *rest)

    launch = tiled_convolution.launch
    monkeypatch.setattr(tiled_convolution, "launch", record)
    monkeypatch.setattr(tensor_cores, "convolutions_usable", lambda device: True)
    monkeypatch.setattr(tensor_cores, "_LEAST_ROWS", 1)
    before = gradient_products()
    yield launched
    set_gradient_products(before)


ALL = ["_convolve_kernel", "_convolve_kernel", "_convolve_weight_kernel"]


def whole(shape, most):
    return torch.randint(-most, most + 1, shape).float()


def checked(case, launched, x, w, most_of_gradient=0):
    """Return outputs and gradients, and the same in float64; whole gradients up to a number."""
    results = []
    for kind in (torch.float32, torch.float64):
        leaves = [v.to(kind).requires_grad_() for v in (x, w)]
        y = (case.convolve if kind is torch.float32 else case.expected)(*leaves)
        if not results:
            g = whole(y.shape, most_of_gradient) if most_of_gradient else torch.randn(y.shape)
        results.append([y.detach(), *torch.autograd.grad(y, leaves, g.to(kind))])
    assert launched == ALL
    launched.clear()
    return *results, g


def terms_of(case, positions):
    """Most terms of the sums: of an output, an input's gradient, a weight's gradient."""
    return max(case.outputs, case.channels) // case.groups * case.kernel**2, positions


@interpreted
@pytest.mark.parametrize("case", CASES)
def test_whole_numbers_are_exact(case, tensor_cores_here):
    x = (torch.rand(case.input_shape()) < 0.4).float()
    w = torch.randint(-128, 128, case.weight_shape()).float() / 32
    terms, _ = terms_of(case, 0)
    got, want, _ = checked(case, tensor_cores_here, x, w, 2**24 // (terms * 128) - 1)
    for one, right in zip(got, want, strict=True):
        assert_close(one.double(), right, rtol=0, atol=0)
    graded = whole(case.input_shape(), 2**24 // (terms * 8) - 1) / 4096
    got, want, _ = checked(case, tensor_cores_here, graded, whole(w.shape, 7) / 4, 7)
    for one, right in zip(got, want, strict=True):
        assert_close(one.double(), right, rtol=0, atol=0)


@interpreted
@pytest.mark.parametrize("case", CASES)
def test_other_numbers_are_as_near_as_in_float32(case, tensor_cores_here):
    """Of n terms, a sum in any order is off by at most n 2**-24 of the sum without signs."""
    x = torch.randn(case.input_shape())
    w = torch.randint(-128, 128, case.weight_shape()).float() / 32
    got, want, g = checked(case, tensor_cores_here, x, w)
    leaves = [v.abs().double().requires_grad_() for v in (x, w)]
    y = case.expected(*leaves)
    without_signs = [y.detach(), *torch.autograd.grad(y, leaves, g.abs().double())]
    ones = [torch.ones_like(v).double().requires_grad_() for v in (x, w)]
    count = case.expected(*ones)
    counts = [count.detach(), *torch.autograd.grad(count, ones, torch.ones_like(g).double())]
    for one, right, most, n in zip(got, want, without_signs, counts, strict=True):
        # three parts are the whole; of six products of parts the rest is 3 / 2**24 of a term
        assert ((one.double() - right).abs() <= (n + 4) * 2**-24 * most).all()


@interpreted
def test_the_proof_of_a_device_holds_and_can_fail(monkeypatch):
    cpu = torch.device("cpu")
    assert tensor_cores.convolutions_are_exact(cpu)
    convolve, gradient = tiled_convolution.convolve, tiled_convolution.gradient_of_weight

    def two_parts(x):
        first = x.bfloat16().float()
        return first + (x - first).bfloat16().float()

    with monkeypatch.context() as patch:
        patch.setattr(tiled_convolution, "convolve", lambda x, *a: convolve(two_parts(x), *a))
        assert not tensor_cores.convolutions_are_exact(cpu)
    with monkeypatch.context() as patch:
        patch.setattr(
            tiled_convolution, "gradient_of_weight",
            lambda g, x, *a: gradient(g, x.bfloat16().float(), *a),
        )  # fmt: skip
        assert not tensor_cores.convolutions_are_exact(cpu)


def blocks():
    neuron = {"threshold": 0.5, "current_decay": 0.5, "voltage_decay": 0.25}
    resonator = {"threshold": 0.25, "period": 8, "decay": 0.1}
    yield "Conv", cuba.Conv(neuron, 3, 4, 3, padding=1, delay=True), 1
    yield "ConvT", cuba.ConvT(neuron, 3, 4, 2, stride=2), 1
    yield "complex", rf.Conv(resonator, 3, 4, 3), 2


@interpreted
@pytest.mark.parametrize(
    "name", ["Conv", *(pytest.param(n, marks=slow) for n in ("ConvT", "complex"))]
)
def test_blocks_are_the_same_on_tensor_cores(name, tensor_cores_here, monkeypatch):
    block, weights = next((b, n) for other, b, n in blocks() if other == name)
    x = (torch.rand(2, 3, 5, 5, 3) < 0.4).float()
    results = []
    runs: list[tuple[bool, GradientProducts]]
    runs = [(True, "split3"), (True, "strict"), (True, "tf32"), (False, "split3")]
    for here, mode in runs:
        monkeypatch.setattr(tensor_cores, "convolutions_usable", lambda device, here=here: here)
        set_gradient_products(mode)
        tensor_cores_here.clear()
        leaf = x.clone().requires_grad_()
        y = block(leaf)
        torch.manual_seed(0)
        learned = [p for p in block.synapse.parameters() if p.requires_grad]
        results.append(
            [y.detach(), *torch.autograd.grad(y, [leaf, *learned], torch.randn(y.shape))]
        )
        count = weights * (len(ALL) if mode == "split3" else 1)
        assert len(tensor_cores_here) == (count if here else 0)
    for others in results[:-1]:
        assert_close(others[0], results[-1][0], rtol=0, atol=0)
        for got, want in zip(others[1:], results[-1][1:], strict=True):
            assert_close(got, want, rtol=0, atol=1e-6 * want.abs().max().item())


@interpreted
def test_what_is_not_a_number_stays_so(tensor_cores_here):
    case = replace(SOON[0], batch=1)
    x = torch.zeros(case.input_shape())
    x[0, 1, 0, 2, 2] = math.nan
    w = torch.ones(case.weight_shape())
    y = case.convolve(x, w)
    assert torch.equal(y.isnan(), case.expected(x, w).isnan())


@interpreted
def test_weights_of_any_layout_and_no_frames(tensor_cores_here):
    case = SOON[0]
    w = torch.randint(-128, 128, case.weight_shape()).float()
    x = (torch.rand(case.input_shape()) < 0.4).float()
    turned = w.movedim(0, -1).contiguous().movedim(-1, 0)
    assert_close(case.convolve(x, turned), case.convolve(x, w), rtol=0, atol=0)
    nothing = replace(case, batch=0)
    leaves = [torch.zeros(nothing.input_shape()).requires_grad_(), w.requires_grad_()]
    y = nothing.convolve(*leaves)
    assert y.shape == (0, 3, 5, 4)
    y.sum().backward()
    assert_close(w.grad, torch.zeros_like(w), rtol=0, atol=0)


@pytest.mark.slow
def test_in_the_interpreter():
    if BACKEND != "auto":
        pytest.skip("for the usual backend")
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q"),
        *("--tb=short", __file__),
    ]
    done = subprocess.run(
        command, env=os.environ | {"LAPILLI_BACKEND": "interpret"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    every = os.environ.get("LAPILLI_SLOW") == "1"
    expected = 2 * len(CASES) + 7 if every else 2 * len(SOON) + 5
    assert int(present(re.search(r"(\d+) passed", done.stdout))[1]) == expected


def test_few_rows_and_large_offsets_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(tensor_cores, "convolutions_usable", lambda device: True)

    def frames(*shape):
        return torch.empty(1).expand(shape)

    w = frames(8, 3, 3, 3)
    assert tensor_cores.convolves(frames(4, 3, 9, 9), w, (7, 7), False, 1)
    assert not tensor_cores.convolves(frames(4, 3, 9, 9), w[:7], (7, 7), False, 1)
    assert not tensor_cores.convolves(frames(4, 8, 7, 7), w, (9, 9), True, 1)
    assert not tensor_cores.convolves(frames(4, 3, 9, 9).to("meta"), w, (7, 7), False, 1)
    # positions, and the offset within the frames of a tile
    assert not tensor_cores.convolves(frames(1 << 26, 3, 9, 9), w, (7, 7), False, 1)
    assert not tensor_cores.convolves(frames(1, 1 << 20, 64, 64), w, (62, 62), False, 1)
    assert tensor_cores.adds_up(frames(4, 8, 7, 7), frames(4, 3, 9, 9), 1)
    assert not tensor_cores.adds_up(frames(4, 8, 7, 7), frames(4, 4, 9, 9), 2)
    assert not tensor_cores.adds_up(frames(1 << 26, 8, 7, 7), frames(1 << 26, 3, 9, 9), 1)


# bytes of shared memory of a program on the smallest of each vendor (test_limits.py)
SHARED = {"cuda": 99 << 10, "hip": 64 << 10}


def forms():
    """Launches with what takes registers: entries out of order, strides that divide, 64 rows."""
    for inner, rows, kernel, stride in ((16, 32, 3, 1), (2, 32, 5, 2), (40, 64, 3, 2)):
        frames, made = torch.empty(2, inner, 16, 16), torch.empty(2, rows, 16, 16)
        w = torch.empty(rows, inner, kernel, kernel)
        steps, one = (stride, stride), (1, 1)
        yield lambda f=frames, w=w, s=steps, one=one: tiled_convolution.convolve(
            f, w, (8, 8), s, one, one, 1, False, True
        )
        yield lambda f=made, w=w, s=steps, one=one: tiled_convolution.convolve(
            f, w, (32, 32), s, one, one, 1, True, False
        )
        for turned in (False, True):
            yield (
                lambda g=made, x=frames, k=kernel, s=steps, one=one, t=turned: (
                    tiled_convolution.gradient_of_weight(g, x, (k, k), s, one, one, 1, t)
                )
            )


def checked_resources(launch, target):
    used = resources(compile_launch(launch, target))
    amd = TARGETS[target].backend == "hip"
    assert used.registers <= (256 if amd else 128)
    assert used.spills == 0
    assert used.shared <= SHARED[TARGETS[target].backend]
    assert used.doubles == 0
    assert set(used.loads) == set(used.stores) == {4}


@compiled
@pytest.mark.parametrize(
    "target", [pytest.param(t, marks=() if t == "sm_90" else slow) for t in TARGETS]
)
def test_kernels_compile_within_their_registers(target):
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    for entry in catalogue.entries("convolution"):
        checked_resources(entry.launch, target)


@compiled
@slow
@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_other_forms_compile_within_their_registers(target):
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    for call in forms():
        (launch,) = convolution_launches(call)
        checked_resources(launch, target)


@compiled
def test_a_block_launches_them_as_triton_launches():
    x = (torch.rand(2, 3, 5, 5, 3) < 0.4).float().requires_grad_()
    with stand_in() as gpu:
        synapse = Conv(3, 8, 3, pre_hook_fx=Neuron(1.0, 0.5, 0.5).quantize_8bit)
        synapse(x).sum().backward()
        names = [launch.name for launch in present(gpu.launches)]
    # the gradient of the input has three rows, which are too few
    assert [n for n in names if n in ALL] == [ALL[0], ALL[2]]


@compiled
def test_sizes_compile_nothing_again():
    launches = [convolution_launches(call)[0] for call in forms()]
    for launch in launches:
        given = zip(launch.kernel.params, launch.args, strict=False)
        numbers = [p for p, value in given if isinstance(value, int)]
        assert numbers
        assert all(p.do_not_specialize for p in numbers)
