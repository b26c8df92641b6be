"""Products over events against the dense ones: exact where sums are exact, else close."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known import present
from lapilli.kernels.executors.layout import to_rows
from lapilli.kernels.synapses import event_convolution, event_products
from lapilli.kernels.synapses import events as kernel
from lapilli.kernels.synapses.event_products import gather, scatter
from lapilli.kernels.synapses.events import events_of
from tolerances import FLOAT32
from torch.testing import assert_close
from turns import soon

CODES = 32  # weights are whole numbers of 1 / 32


def spikes(shape, density, graded=False, as_rows=True, seed=0):
    """Return ``[N, neurons..., T]``, as a user gives it or as a layer does."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=generator) < density).float()
    if graded:
        x = x * torch.randint(-500, 500, shape, generator=generator) / 4096
    return x.movedim(-1, 1).contiguous().movedim(1, -1) if as_rows else x


def weight(outputs, inputs):
    return torch.randint(-128, 128, (outputs, inputs)) / CODES


def matrix(x):
    return to_rows(x).flatten(0, 1)


SHAPES = [
    (1, 1, 1), (2, 31, 3), (2, 32, 5), (3, 33, 17), (1, 100, 16), (2, 45, 50), (2, 3, 5, 7, 9),
    (2, 512, 4), (1, 1100, 20),
]  # fmt: skip


@pytest.mark.parametrize("as_rows", [True, False], ids=["rows", "series"])
@pytest.mark.parametrize("graded", [False, True], ids=["binary", "graded"])
@pytest.mark.parametrize("density", [0, 0.05, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_events_are_what_is_not_zero(shape, density, graded, as_rows):
    x = spikes(shape, density, graded, as_rows)
    events = present(events_of(x))
    dense = torch.zeros(events.shape)
    counts = events.starts.diff()
    rows = torch.arange(len(counts)).repeat_interleave(counts)
    columns = events.columns.long() & 0xFFFF
    dense[rows, columns] = torch.ones(len(columns)) if events.values is None else events.values
    assert_close(dense, matrix(x), rtol=0, atol=0)
    is_graded = bool(((x != 0) & (x != 1)).any())
    assert (events.values is not None) == is_graded


VIEWS = {
    "one step": lambda x: x[..., 3:4],
    "every other step": lambda x: x[..., ::2],
    "a step again and again": lambda x: x[..., 3:4].expand(*x.shape[:-1], 5),
    "every other sample": lambda x: x[::2],
    "one number": lambda x: x[:1, :1, :1].expand(3, 40, 7),
    "half of a complex": lambda x: torch.complex(x, x).real,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("most", [1.0, 0.9])
@pytest.mark.parametrize("graded", [False, True], ids=["binary", "graded"])
def test_views_have_the_events_of_their_copies(view, most, graded):
    x = view(spikes((4, 40, 8), 0.3, graded, as_rows=False))
    got, want = events_of(x, most), events_of(x.clone(memory_format=torch.contiguous_format), most)
    if want is None:
        assert got is None
        return
    assert got is not None
    assert torch.equal(got.columns, want.columns)
    assert torch.equal(got.starts, want.starts)
    assert got.values is want.values is None or torch.equal(
        present(got.values), present(want.values)
    )


@given(data=st.data())
def test_products_equal_the_dense_ones(data):
    shape = (
        data.draw(st.integers(1, 3)), data.draw(st.integers(1, 200)), data.draw(st.integers(1, 40))
    )  # fmt: skip
    density = data.draw(st.sampled_from([0, 0.01, 0.1, 0.5, 1]))
    graded = data.draw(st.booleans())
    x = spikes(shape, density, graded, data.draw(st.booleans()), data.draw(st.integers(0, 99)))
    outputs = data.draw(st.sampled_from([1, 7, 16, 48, 64, 130, 256]))
    w, g = weight(outputs, shape[1]), torch.randn(shape[0] * shape[2], outputs)
    events = present(events_of(x))
    for step in (0.0, 1 / CODES):
        assert_close(gather(events, w, step), matrix(x) @ w.t(), rtol=0, atol=0)
    want = (g.double().t() @ matrix(x).double()).float()
    largest = (g.double().abs().t() @ matrix(x).double().abs()).max().item()
    assert_close(scatter(events, g), want, rtol=0, atol=largest * FLOAT32["rtol"] + 1e-30)


@pytest.mark.parametrize("step", [0.0, 1 / CODES], ids=["numbers", "codes"])
def test_sums_are_exact_in_the_worst_column(step):
    inputs = 1 << 13
    x = torch.ones(1, inputs, 3).movedim(-1, 1).contiguous().movedim(1, -1)
    for code in (-128, 127):
        for outputs in (64, 144, 3):
            w = torch.full((outputs, inputs), code / CODES)
            y = gather(present(events_of(x)), w, step)
            assert_close(y, torch.full((3, outputs), inputs * code / CODES), rtol=0, atol=0)


def test_many_inputs_need_wide_columns():
    inputs = (1 << 16) + 40
    x = torch.zeros(1, inputs, 4)
    x[0, [0, 1 << 15, (1 << 16) - 1, inputs - 1], [0, 1, 2, 3]] = 1
    w = torch.randint(-128, 128, (16, inputs)) / CODES
    for most in (x, x[:, : 1 << 16]):
        events = present(events_of(most.contiguous()))
        used = w[:, : most.shape[1]]
        assert_close(gather(events, used), matrix(most) @ used.t(), rtol=0, atol=0)


@pytest.mark.parametrize("as_rows", [True, False], ids=["rows", "series"])
@pytest.mark.parametrize(
    "dtype", soon((torch.bool, torch.int8), (torch.bool, torch.uint8, torch.int8)), ids=str
)
def test_inputs_of_a_byte_are_read_as_they_are(dtype, as_rows):
    for shape in SHAPES:
        x = spikes(shape, 0.2, as_rows=as_rows).to(dtype)
        x = x if dtype == torch.bool else x * torch.tensor(100, dtype=dtype)
        got, want = present(events_of(x)), present(events_of(x.float()))
        assert_close((got.columns, got.starts), (want.columns, want.starts), rtol=0, atol=0)
        assert_close(got.values, want.values, rtol=0, atol=0) if want.values is not None else None
        assert (got.values is None) == (want.values is None)


def test_weights_that_are_no_codes_are_added_as_they_are():
    x = spikes((2, 100, 30), 0.1)
    for odd in (0.3, float("nan"), 5.0):  # 5 is 160 steps
        w = weight(64, 100)
        w[3, 7] = odd
        y = gather(present(events_of(x)), w, 1 / CODES)
        assert_close(y, gather(present(events_of(x)), w), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("inputs", [40, 700, (1 << 16) + 40])
@pytest.mark.parametrize("density", [0.01, 0.3, 1.0])
def test_a_thread_lists_what_is_its_own(monkeypatch, inputs, density):
    x = spikes((1, inputs, 70), density)
    want = present(events_of(x))
    run_loop = kernel.run_loop

    def backwards(loop, tiles, work, args):
        """Run one tile after another, the last first: each may write to what is its own alone."""
        if loop is not kernel._list_cpu:
            return run_loop(loop, tiles, work, args)
        given = [
            None if a is None else a.numpy() if isinstance(a, torch.Tensor) else a for a in args
        ]
        compiled = loop.for_call(tuple(type(a) for a in args), ())
        for tile in reversed(range(tiles)):
            compiled(tile, tile + 1, *(np.int32(a) if isinstance(a, int) else a for a in given
                                       if a is not None))  # fmt: skip

    monkeypatch.setattr(kernel, "run_loop", backwards)
    got = present(events_of(x))
    assert torch.equal(got.columns, want.columns)
    rows = torch.repeat_interleave(torch.arange(70), want.starts.diff())
    columns = want.columns.to(torch.int64) & kernel.column_bits(want)
    assert torch.equal(torch.stack((rows, columns), 1), matrix(x).nonzero())


def test_too_many_events_are_none():
    assert events_of(spikes((2, 64, 40), 0.5), most=0.1) is None
    busy_later = torch.zeros(1, 64, 4096)
    busy_later[..., torch.arange(4096) % 1024 >= 256] = 1  # what is looked at first is silent
    assert events_of(busy_later, most=0.1) is None
    assert events_of(spikes((2, 64, 40), 0.05), most=0.1) is not None


@pytest.mark.parametrize("graded", [False, True], ids=["binary", "graded"])
@pytest.mark.parametrize("outputs", [5, 16, 96, 200])
@pytest.mark.parametrize(("inputs", "density"), [(70, 0.4), (700, 0.04)], ids=["many", "few"])
def test_gradients_of_many_frames_are_those_of_the_dense_product(
    monkeypatch, inputs, density, outputs, graded
):
    monkeypatch.setattr(event_products, "_IN_FIRST_CACHE", 0)
    monkeypatch.setattr(event_products, "_scatter_cpu", None)  # sorted, in chunks of two lengths
    x = spikes((4, inputs, 250), density, graded)
    g = torch.randn(4 * 250, outputs)
    want = g.double().t() @ matrix(x).double()
    largest = (g.double().abs().t() @ matrix(x).double().abs()).max().item()
    got = scatter(present(events_of(x)), g)
    assert_close(got, want.float(), rtol=0, atol=largest * FLOAT32["rtol"])


@pytest.mark.parametrize(
    ("shape", "density"), [((4, 512, 128), 0.1), ((4, 512, 128), 0.01), ((2, 40, 2000), 0.6)]
)
def test_results_do_not_depend_on_the_threads(monkeypatch, shape, density):
    monkeypatch.setattr(event_products, "_IN_FIRST_CACHE", 0)
    x, w = spikes(shape, density), torch.randn(256, shape[1])
    g = torch.randn(shape[0] * shape[2], 256)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):  # 7: more than parts of the outputs
            torch.set_num_threads(threads)
            events = present(events_of(x))
            results.append((gather(events, w), scatter(events, g)))
    finally:
        torch.set_num_threads(before)
    for y, g_w in results[1:]:
        assert_close(y, results[0][0], rtol=0, atol=0)
        assert_close(g_w, results[0][1], rtol=0, atol=0)


@pytest.mark.parametrize("density", [0.002, 0.1])
def test_results_do_not_depend_on_the_cache(monkeypatch, density):
    x, w = spikes((2, 700, 1700), density), weight(256, 700)
    g = torch.randn(2 * 1700, 256)
    events, results = present(events_of(x)), []
    for size in (1 << 18, 1 << 19, 1 << 21, 1 << 23):
        monkeypatch.setattr(event_products, "second_level_cache", lambda size=size: size)
        results.append((gather(events, w, 1 / CODES), gather(events, w), scatter(events, g)))
    for others in results[1:]:
        assert_close(others, results[0], rtol=0, atol=0)


def test_rows_that_many_events_read_stay_in_the_cache(monkeypatch):
    taken = []
    run_loop = event_products.run_loop
    monkeypatch.setattr(event_products, "run_loop", lambda *a: (taken.append(a), run_loop(*a)))
    events = present(events_of(spikes((2, 2000, 1200), 0.02)))
    for size in (1 << 19, 1 << 21):
        monkeypatch.setattr(event_products, "second_level_cache", lambda size=size: size)
        gather(events, weight(512, 2000), 1 / CODES)
        *_, inputs, _, width, _ = taken.pop()[3]
        assert inputs * width <= size < 4 * inputs * width


def test_not_a_number_passes_through():
    x = torch.zeros(1, 40, 3)
    x[0, 5, 1] = float("nan")
    y = gather(present(events_of(x)), torch.ones(16, 40))
    assert y[1].isnan().all()
    assert not y[[0, 2]].isnan().any()


# Channels, height and width of a frame; outputs; kernel, stride, padding, dilation.
CONVOLUTIONS = [
    ((1, 5, 5), 1, (3, 3), (1, 1), (0, 0), (1, 1)),
    ((3, 7, 9), 20, (3, 2), (1, 1), (1, 2), (1, 1)),
    ((3, 12, 9), 17, (3, 2), (2, 3), (1, 0), (2, 1)),
    ((2, 9, 9), 16, (3, 3), (1, 1), (1, 1), (2, 2)),
    ((2, 9, 8), 33, (5, 5), (2, 1), (4, 4), (1, 1)),
    ((16, 6, 6), 32, (6, 6), (1, 1), (0, 0), (1, 1)),
    ((2, 20, 20), 48, (1, 1), (3, 3), (0, 0), (1, 1)),
    ((3, 9, 11), 64, (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 11, 9), 32, (3, 2), (2, 1), (1, 1), (1, 2)),
    ((1, 1, 3), 32, (1, 5), (1, 1), (0, 2), (1, 1)),
]


@pytest.mark.parametrize("graded", [False, True], ids=["binary", "graded"])
@pytest.mark.parametrize("density", [0, 0.2, 1])
# numbers of outputs have loops of their own
@pytest.mark.parametrize("convolution", soon(CONVOLUTIONS[::8], CONVOLUTIONS), ids=str)
def test_convolutions_equal_the_dense_ones(monkeypatch, convolution, density, graded):
    frame, outputs, kernel, *options = convolution
    x = spikes((2, *frame, 3), density, graded)
    frames = x.movedim(-1, 1).flatten(0, 1)
    w = (torch.randint(-128, 128, (outputs, frame[0], *kernel)) / CODES).requires_grad_()
    dense = torch.nn.functional.conv2d(frames, w, None, *options)
    g = torch.randn(dense.shape)
    geometry = event_convolution.Geometry(frame, w.shape, *options)
    events = present(events_of(x))
    monkeypatch.setattr(event_convolution, "_WORTH_CODES", 0)
    for step in (0.0, 1 / CODES):
        y = event_convolution.gather(events, w.detach(), geometry, step)
        assert_close(y, dense.detach(), rtol=0, atol=0)
    (want,) = torch.autograd.grad(dense, w, g)
    got = event_convolution.scatter(events, g, geometry)
    assert_close(got, want, rtol=0, atol=FLOAT32["rtol"] * (want.abs().max().item() + 1e-30) * 4)


@pytest.mark.parametrize("channels", [255, 256, 300])
@pytest.mark.parametrize("code", [-128, 127])
def test_convolutions_are_exact_in_the_worst_place(monkeypatch, code, channels):
    monkeypatch.setattr(event_convolution, "_WORTH_CODES", 0)
    x = torch.ones(1, channels, 4, 5, 2).movedim(-1, 1).contiguous().movedim(1, -1)
    w = torch.full((32, channels, 1, 1), code / CODES)
    geometry = event_convolution.Geometry((channels, 4, 5), w.shape, (1, 1), (0, 0), (1, 1))
    y = event_convolution.gather(present(events_of(x)), w, geometry, 1 / CODES)
    assert_close(y, torch.full((2, 32, 4, 5), channels * code / CODES), rtol=0, atol=0)


def test_gradients_of_convolutions_do_not_depend_on_the_threads():
    x = spikes((4, 3, 16, 16, 30), 0.1)
    geometry = event_convolution.Geometry((3, 16, 16), (32, 3, 3, 3), (1, 1), (1, 1), (1, 1))
    g = torch.randn(120, 32, 16, 16)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(event_convolution.scatter(present(events_of(x)), g, geometry))
    finally:
        torch.set_num_threads(before)
    assert_close(results[1], results[0], rtol=0, atol=0)
    assert_close(results[2], results[0], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names a processor of this kind")
def test_processors_without_the_widest_vectors_find_the_same(tmp_path):
    code = """if True:
        import torch
        from lapilli.kernels.synapses.event_products import gather, scatter
        from lapilli.kernels.synapses.events import events_of
        torch.manual_seed(0)
        x, w, g = (torch.rand(3, 700, 40) < 0.1).float(), torch.randn(48, 700), torch.randn(120, 48)
        for given in (x, x.movedim(-1, 1).contiguous().movedim(1, -1)):
            events, rows = events_of(given), x.movedim(-1, 1).flatten(0, 1)
            assert torch.equal(events.columns.long(), rows.nonzero()[:, 1])
        torch.testing.assert_close(gather(events, w), rows @ w.t(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(scatter(events, g), g.t() @ rows, rtol=1e-4, atol=1e-4)
        codes = torch.randint(-128, 128, (48, 700)) / 32
        assert torch.equal(gather(events, codes, 1 / 32), rows @ codes.t())
    """
    cpu = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+popcnt,+bmi"}
    environment = os.environ | cpu | {"LAPILLI_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
