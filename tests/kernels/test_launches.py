"""Launches past Triton's own way, with a driver that records in the place of a GPU's."""

import threading

import pytest
import torch
from cells import KINDS, NEURONS, each_cell, events, make
from known import present
from lapilli.blocks import convolution, linear
from lapilli.kernels.executors import again, dispatch, operators
from lapilli.kernels.numbers import language
from lapilli.kernels.proof.standin import stand_in
from lapilli.kernels.recurrences import cuba, sigma
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

pytestmark = pytest.mark.skipif(
    language.BACKEND != "auto", reason="a backend was chosen that does not launch"
)


@triton.jit
def _sum_kernel(x_ptr, y_ptr, z_ptr, n, factor, flag, C: tl.constexpr, D: tl.constexpr):
    at = tl.arange(0, C)
    value = tl.load(x_ptr + at) * factor + n
    if y_ptr is not None:
        value += tl.load(y_ptr + at).to(tl.float32)
    if flag:
        value += D
    tl.store(z_ptr + at, value, mask=at < n)


def _whole(dtype=torch.float32):
    return torch.zeros(64, dtype=dtype)


def _given(name):
    """Arguments and constants of a launch, each of which Triton compiles for apart."""
    x, y, z, n, factor, flag, constants = _whole(), _whole(), _whole(), 7, 0.5, True, (16, 2)
    if name == "an address off 16 bytes":
        x = x[1:]
    elif name == "another off 16 bytes":
        z = z[3:]
    elif name == "an address on 16 bytes inside":
        x = x[4:]
    elif name == "no tensor":
        y = None
    elif name == "integers of another type":
        y = _whole(torch.int32)
    elif name == "bfloat16":
        y = _whole(torch.bfloat16)
    elif name == "a parameter":
        x = torch.nn.Parameter(x)
    elif name == "one":
        n = 1
    elif name == "a multiple of 16":
        n = 48
    elif name == "zero":
        n = 0
    elif name == "below zero":
        n = -7
    elif name == "another number":
        factor = -3.0
    elif name == "not a number":
        factor = float("nan")
    elif name == "an integer for a number":
        factor = 3
    elif name == "false":
        flag = False
    elif name == "other constants":
        constants = (32, 2)
    elif name == "another constant":
        constants = (16, 1)
    else:
        assert name == "plain", name
    return (x, y, z, n, factor, flag), constants


VARIANTS = (
    "plain", "an address off 16 bytes", "another off 16 bytes", "an address on 16 bytes inside",
    "no tensor", "integers of another type", "bfloat16", "a parameter", "one", "a multiple of 16",
    "zero", "below zero", "another number", "not a number", "an integer for a number", "false",
    "other constants", "another constant",
)  # fmt: skip


def _same(got, want):
    assert (got.name, got.grid, got.stream) == (want.name, want.grid, want.stream)
    assert (got.function, got.metadata) == (want.function, want.metadata)
    assert len(got.args) == len(want.args)
    for a, b in zip(got.args, want.args, strict=True):
        assert type(a) is type(b)
        if isinstance(a, torch.Tensor):
            assert a is b or a.data_ptr() == b.data_ptr()
        elif a is not None:
            assert a is b or a == b


def _both_ways(gpu, call):
    """Launches of a call by Triton, and of the same call after it."""
    found = []
    for again_too in (False, True):
        gpu.launches.clear()
        with pytest.MonkeyPatch.context() as patch:
            if not again_too:
                patch.setattr(again, "launched", lambda *args: False)
            else:
                patch.setattr(
                    triton.runtime.jit.JITFunction, "run", lambda *a, **k: pytest.fail("Triton's")
                )
            call()
        found.append(list(gpu.launches))
    return found


def test_a_driver_gets_what_triton_would_give_it():
    # each variant twice in two orders: none may be taken for another
    with stand_in() as gpu:
        expected = {}
        for name in VARIANTS:
            args, constants = _given(name)
            (want,), (got,) = _both_ways(
                gpu, lambda a=args, c=constants: dispatch.launch(_sum_kernel, (3, 2), a, c, 128)
            )
            _same(got, want)
            expected[name] = args, constants, want
        assert got.grid == (3, 2, 1)
        gpu.stream = 8
        for name in reversed(VARIANTS):
            args, constants, want = expected[name]
            present(gpu.launches).clear()
            dispatch.launch(_sum_kernel, (5,), args, constants, 128)
            (got,) = present(gpu.launches)
            assert (got.function, got.metadata) == (want.function, want.metadata), name
            assert got.grid == (5, 1, 1)
            assert got.stream == 8
    kinds = {e[2].function for e in expected.values()}
    assert len(kinds) >= 11, "Triton compiles most of them apart"


def test_options_are_told_apart():
    args, constants = _given("plain")
    with stand_in() as gpu:
        for _ in range(2):
            for threads in (32, 64, 128):
                dispatch.launch(_sum_kernel, (1,), args, constants, threads)
        assert [x.metadata[0] for x in present(gpu.launches)] == [1, 2, 4] * 2


def _step(family):
    block = make(family, "Dense")
    x = events("Dense").requires_grad_()
    upstream = torch.zeros_like(block(x))
    return lambda: block(x).backward(upstream)


@pytest.mark.parametrize(
    "family", [f if f == "cuba" else pytest.param(f, marks=pytest.mark.slow) for f in NEURONS]
)
def test_steps_of_training_launch_the_same(family):
    # no memory is given back meanwhile, so that each launch gets an address of its own
    with stand_in() as gpu:
        step = _step(family)
        step()
        want, got = _both_ways(gpu, step)
    assert len(want) == len(got) > 4
    for a, b in zip(got, want, strict=True):
        assert (a.name, a.grid, a.function, a.metadata) == (b.name, b.grid, b.function, b.metadata)
        assert [type(v) for v in a.args] == [type(v) for v in b.args]
        numbers = [[v for v in x.args if not isinstance(v, torch.Tensor)] for x in (a, b)]
        assert numbers[0] == numbers[1]


def _launch_plain():
    args, constants = _given("plain")
    return lambda: dispatch.launch(_sum_kernel, (1,), args, constants, 128)


@pytest.fixture
def by_triton(monkeypatch):
    """Count the launches that go Triton's own way."""
    calls = []
    run = triton.runtime.jit.JITFunction.run
    monkeypatch.setattr(
        triton.runtime.jit.JITFunction, "run", lambda *a, **k: calls.append(a) or run(*a, **k)
    )
    return calls


def test_profilers_hear_of_every_launch(by_triton):
    heard = []
    launch = _launch_plain()
    with stand_in():
        launch()
        launch()
        assert len(by_triton) == 1
        runtime = getattr(getattr(triton, "knobs", None), "runtime", None)
        holder = runtime or triton.compiler.CompiledKernel
        before = holder.launch_enter_hook
        try:
            if hasattr(before, "add"):
                before.add(heard.append)
            else:
                holder.launch_enter_hook = heard.append
            launch()
            launch()
        finally:
            if hasattr(before, "remove"):
                before.remove(heard.append)
            else:
                holder.launch_enter_hook = before
        assert len(by_triton) == 3
        assert len(heard) == 2
        launch()
        assert len(by_triton) == 3


def test_a_hook_before_a_kernel_is_called(by_triton):
    heard = []
    launch = _launch_plain()
    with stand_in():
        launch()
        _sum_kernel.add_pre_run_hook(lambda *args, **kwargs: heard.append(args))
        try:
            launch()
        finally:
            _sum_kernel.pre_run_hooks.clear()
    assert len(heard) == 1
    assert len(by_triton) == 2


def test_what_is_not_known_goes_the_way_of_triton(by_triton, monkeypatch):
    args, constants = _given("plain")
    large = (*args[:3], 1 << 40, *args[4:])
    launch = _launch_plain()
    with stand_in() as gpu:
        for _ in range(2):
            dispatch.launch(_sum_kernel, (1,), large, constants, 128)
        assert len(by_triton) == 2
        assert {x.args[3] for x in present(gpu.launches)} == {1 << 40}
        monkeypatch.setattr(again, "_hooks", None)  # another version of Triton
        for _ in range(2):
            launch()
        assert len(by_triton) == 4
        monkeypatch.undo()


def test_versions_of_triton_that_are_not_known_are_left_alone(monkeypatch):
    assert again._hooks_of_triton() is not None
    for version in ("3.2.0", "3.8.0", "4.0.0+git1"):
        monkeypatch.setattr(triton, "__version__", version)
        assert again._hooks_of_triton() is None, version


def test_few_compiled_kernels_are_kept(monkeypatch):
    monkeypatch.setattr(again, "_MOST", 3)
    with stand_in() as gpu:
        for _ in range(2):
            for name in VARIANTS[:8]:
                args, constants = _given(name)
                dispatch.launch(_sum_kernel, (1,), args, constants, 128)
                assert len(again._known) <= 3
        assert len(present(gpu.launches)) == 16


def test_launches_go_to_the_device_of_their_tensors(monkeypatch):
    # two devices: one that is current, and one that has to be made so
    entered = []

    class Device:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            entered.append(self.device)

        def __exit__(self, *_):
            entered.append(None)

    class Module:
        device = Device

    class Tensor(torch.Tensor):
        device = torch.device("cuda", 1)

    launched = []
    monkeypatch.setattr(torch, "get_device_module", lambda device: Module)
    monkeypatch.setattr(dispatch, "_launch_here", lambda *args: launched.append(entered[-1:]))
    with stand_in() as gpu:
        x = torch.zeros(3).as_subclass(Tensor)
        dispatch.launch(_sum_kernel, (1,), (x,), ())
        monkeypatch.setattr(gpu, "get_current_device", lambda: 1)
        dispatch.launch(_sum_kernel, (1,), (x,), ())
    assert launched == [[torch.device("cuda", 1)], [None]]
    assert len(entered) == 2


def test_streams_are_those_of_the_launching_thread():
    # autograd's thread of a device has a current stream of its own, which it sets
    streams = threading.local()
    seen = []
    with stand_in() as gpu:
        gpu.get_current_stream = lambda device: getattr(streams, "handle", 0)
        x = torch.zeros(2, 5, 3).movedim(1, -1).requires_grad_()
        decay = torch.tensor([410.0])

        def work(handle):
            streams.handle = handle
            for _ in range(2):
                y = cuba.cuba(x, decay, decay, 1.0, 4096)
                torch.autograd.grad(y, x, torch.zeros_like(y))

        work(3)
        other = threading.Thread(target=work, args=(5,))
        other.start()
        other.join()
        seen = [launch.stream for launch in present(gpu.launches)]
    assert seen == [3] * 4 + [5] * 4


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0)], ids=str)
def test_nothing_is_launched_on_nothing(shape):
    with stand_in() as gpu:
        x = torch.zeros(shape).requires_grad_()
        decay = torch.tensor([410.0])
        y = cuba.cuba(x, decay, decay, 1.0, 4096)
        torch.autograd.grad(y, x, torch.zeros_like(y))
        sigma.sigma(x.detach())
        assert not gpu.launches


# Operators after which the processor knows what is on the device: it has waited
WAITS = (
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique",
    "_unique2", "unique_dim", "bincount", "item", "histc", "repeat_interleave", "allclose",
)  # fmt: skip


class Waiting(TorchDispatchMode):
    """Fails where the processor waits for the device, which is meta."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op._schema.name.removeprefix("aten::")
        assert name not in WAITS, f"{op} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            masks = [t for t in args[1] if t is not None and t.dtype in (torch.bool, torch.uint8)]
            assert not masks, f"{op} counts a mask, and waits for the device"
        outputs = op(*args, **(kwargs or {}))
        # a number may come from the processor; what has a dimension is copied, which waits
        found = tree_leaves((args, kwargs, outputs))
        places = {t.device.type for t in found if isinstance(t, torch.Tensor) and t.ndim}
        assert len(places) < 2, f"{op} copies between devices, and waits for the device"
        return outputs


def _nothing_waits(step):
    with pytest.MonkeyPatch.context() as patch, stand_in(compiles=False):
        step()
        for module in (operators, linear, convolution):
            patch.setattr(module, "is_observed", lambda args: False)
        with Waiting():
            step()


LEARNED = {"requires_grad": True}
PERSISTS = {"persistent_state": True}


@pytest.mark.parametrize("neuron", [{}, LEARNED | PERSISTS], ids=["plain", "learned"])
@each_cell
def test_a_step_of_training_never_waits_for_the_device(family, kind, neuron):
    if not KINDS[kind].neuron and neuron:
        pytest.skip("it has no neuron")
    block = make(family, kind, neuron).to("meta")
    x = events(kind).to("meta").requires_grad_()

    def step():
        y = block(x)
        y.backward(torch.zeros_like(y))

    _nothing_waits(step)


def test_what_waits_is_seen():
    x = torch.zeros(3)
    for wait in (
        x.sum().item, lambda: bool(x.any()), x.nonzero, lambda: torch.equal(x, x),
        lambda: x[x > 0], lambda: float(x[0]), lambda: x.to("meta"),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="waits for the device"), Waiting():
            wait()
