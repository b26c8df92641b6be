"""The CPU loop that is made from a Triton kernel."""

import pytest
import torch
from known import present
from lapilli.kernels.executors.dispatch import execute, run_loop
from lapilli.kernels.executors.loops import loop_of
from lapilli.kernels.toolkit import (
    jit,
    lanes,
    load_or_zero,
    load_rows,
    store_row,
    tl,
    walk_backward,
    walk_forward,
)


def rows_of(step):
    """Make a kernel ``y = f(x)`` of a function of rows."""

    @jit
    def _kernel(
        x_ptr, y_ptr, decay_ptr, sum0_ptr, sum1_ptr, per, scale, T, C, M, SHIFT: tl.constexpr,
        BACK: tl.constexpr, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        j, base, at, c = lanes(T, C, BLOCK)
        live = j < M
        decay = load_or_zero(decay_ptr, c // per, live, 0.0)
        rest = tl.zeros([BLOCK], tl.float32)
        first = load_or_zero(sum0_ptr, j, live, rest)
        walk = walk_backward if BACK else walk_forward
        last, _ = walk(
            step, (first, rest), (x_ptr, y_ptr), (decay, scale), base, at, live, T, C,
            (SHIFT,), U, STAGES,
        )  # fmt: skip
        store_row(sum1_ptr, 0, j, last, live)

    return _kernel


def run(kernel, x, decay=None, sum0=None, wants_last=False, shift=False, back=False, scale=1.0):
    N, T, C = x.shape
    y = torch.full_like(x, -1.0)
    last = torch.empty(N, C) if wants_last else None
    decay = torch.tensor([0.5]) if decay is None else decay
    args = (x, y, decay, sum0, last, C // decay.numel(), scale, N, T, C)
    tiles = N * -(-C // 1024)
    run_loop(loop_of(kernel), tiles, x.numel(), args, (shift, back))
    return y, last


@jit
def _decaying(carry, ptrs, fixed, base, at, live, t, C, flags, U: tl.constexpr):
    y, last = carry
    decay, scale = fixed
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        y = decay * y + xs[i] * scale
        out = y
        if flags[0]:
            out = last
        store_row(ptrs[1], base, at + i * C, out, live)
        last = y
    return y, last


decaying = rows_of(_decaying)


def expected(x, decay, y, scale=1.0):
    ys = []
    for x_t in x.unbind(1):
        y = decay * y + x_t * scale
        ys.append(y)
    return torch.stack(ys, 1)


@pytest.mark.parametrize("C", [1, 6, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("T", [1, 2, 9])
def test_a_walk(C, T):
    torch.manual_seed(0)
    x = torch.randn(3, T, C)
    y, _ = run(decaying, x)
    assert torch.equal(y, expected(x, torch.tensor(0.5), torch.zeros(3, C)))


@pytest.mark.parametrize("channels", [1, 2, 1500])
def test_parameters_of_channels_and_states(channels):
    torch.manual_seed(0)
    x, sum0, decay = torch.randn(3, 7, 3000), torch.randn(3, 3000), torch.rand(channels)
    y, last = run(decaying, x, decay, sum0, wants_last=True, scale=0.3)
    again = expected(x, decay.repeat_interleave(3000 // channels), sum0, 0.3)
    assert torch.equal(y, again)
    assert torch.equal(present(last), again[:, -1])


@pytest.mark.parametrize("T", [1, 2, 9])
def test_a_spike_that_is_kept_for_a_step_is_written_a_row_later(T):
    torch.manual_seed(0)
    x = torch.randn(2, T, 1300)
    y, _ = run(decaying, x, shift=True)
    plain, _ = run(decaying, x)
    assert torch.equal(y[:, 1:], plain[:, :-1])
    assert not y[:, 0].any()


@jit
def _difference(carry, ptrs, fixed, base, at, live, t, C, flags, U: tl.constexpr):
    total, later = carry
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U - 1, -1, -1):
        store_row(ptrs[1], base, at + i * C, xs[i] - later, live)
        later = xs[i]
    return total, later


def test_a_row_that_is_kept_for_a_step_is_read_where_it_lies():
    x = torch.randn(2, 6, 40)
    kernel = rows_of(_difference)
    y, _ = run(kernel, x, back=True)
    after = torch.cat([x[:, 1:], torch.zeros(2, 1, 40)], 1)
    assert torch.equal(y, x - after)
    text = loop_of(kernel).text([], {"BACK": True})
    assert "carry_" not in text
    assert "x[n, t + 1, c0:c1] if t + 1 < T else x_none" in text


def test_what_no_tensor_asks_for_is_not_computed():
    text = loop_of(decaying).text(["y"], {"BACK": False})
    assert "x[n" in text  # the last state
    assert " y[" not in text
    one = loop_of(rows_of(_difference)).text(["y"], {"BACK": True})
    assert "x[n" not in one


def test_one_loop_serves_with_a_shift_and_without():
    loop = loop_of(rows_of(_decaying))
    found = {id(loop.specialise((False,) * 10, loop.divided((s, False))[1])) for s in (0, 1)}
    assert len(found) == 1


@jit
def _branching(carry, ptrs, fixed, base, at, live, t, C, flags, U: tl.constexpr):
    y, last = carry
    xs = load_rows(ptrs[0], base, at, C, live, U)
    if xs[0] > 0.0:
        y = y + xs[0]
    store_row(ptrs[1], base, at, y, live)
    return y, last


@jit
def _shifting(carry, ptrs, fixed, base, at, live, t, C, flags, U: tl.constexpr):
    y, last = carry
    xs = load_rows(ptrs[0], base, at, C, live, U)
    y = y + xs[0]
    if flags[0]:
        y = y * 2.0
    store_row(ptrs[1], base, at, y, live)
    return y, last


@jit
def _sorting(carry, ptrs, fixed, base, at, live, t, C, flags, U: tl.constexpr):
    y, last = carry
    xs = load_rows(ptrs[0], base, at, C, live, U)
    store_row(ptrs[1], base, at, tl.sort(xs[0]), live)
    return y, last


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (_branching, TypeError, "a kernel branches on a number"),
        (_shifting, NotImplementedError, "with SHIFT a kernel"),
        (_sorting, AttributeError, "tl.sort is not among"),
    ],
)
def test_what_a_cpu_cannot_run_is_refused(step, error, message):
    with pytest.raises(error, match=message):
        run(rows_of(step), torch.ones(1, 2, 3))


@jit
def _counting(carry, ptrs, fixed, base, at, live, t, C, flags, U: tl.constexpr):
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        store_row(ptrs[1], base, at + i * C, xs[i] + tl.where(t & fixed > 0, 1.0, 0.0), live)
    return carry


@jit
def _masked_kernel(
    x_ptr, y_ptr, bits, T, C, M, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, _ = lanes(T, C, BLOCK)
    walk_forward(_counting, 0.0, (x_ptr, y_ptr), bits, base, at, j < M, T, C, (), U, STAGES)


@jit
def _scaling(carry, ptrs, fixed, base, at, live, t, C, flags, U: tl.constexpr):
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        store_row(ptrs[1], base, at + i * C, xs[i] * fixed, live)
    return carry


@jit
def _limited_kernel(
    x_ptr, y_ptr, limit, T, C, M, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    j, base, at, _ = lanes(T, C, BLOCK)
    walk_forward(_scaling, 0.0, (x_ptr, y_ptr), limit, base, at, j < M, T, C, (), U, STAGES)


def test_a_number_is_what_it_is_given_as_whatever_its_name():
    x = torch.zeros(2, 4, 3)
    y = torch.empty_like(x)
    execute(_masked_kernel, (2, 4, 3), (x, y, 2))
    assert y[0, :, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    x.fill_(1.0)
    for limit in (0.5, 3):  # a name of a whole number, in lapilli
        execute(_limited_kernel, (2, 4, 3), (x, y, limit))
        assert (y == limit).all()
    whole = loop_of(_limited_kernel).whole((torch.Tensor, torch.Tensor, int))
    assert whole == ("limit",)
    assert loop_of(_limited_kernel).whole((torch.Tensor, torch.Tensor, float)) == ()
