"""Fixed-point arithmetic against exact fractions, compiled as the CPU loops compile it."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from lapilli.kernels.executors import scalar_ops
from lapilli.kernels.executors.loops import lift
from lapilli.kernels.numbers import fixed_point
from lapilli.kernels.numbers.threshold import lowest_spiking
from lapilli.kernels.recurrences.adaptive_threshold import threshold_reach
from lapilli.kernels.recurrences.cuba import cuba_gain
from lapilli.kernels.recurrences.resonator_steps import turning_gain
from lapilli.kernels.reference import fixed as oracle

INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)

EDGES = [INT32_MIN, INT32_MIN + 1, -4097, -4096, -4095, -1, 0, 1, 4095, 4096, 4097, INT32_MAX]

int32s = st.one_of(st.sampled_from(EDGES), st.integers(INT32_MIN, INT32_MAX))
keeps = st.one_of(st.sampled_from([0, 1, 4095, 4096]), st.integers(0, 4096))
scales = st.sampled_from([1, 64, 640, 4096, 6400, 1 << 20])

decay = lift(fixed_point.decay)
to_fixed = lift(fixed_point.to_fixed)
to_float = lift(fixed_point.to_float)
through_float = lift(fixed_point.through_float)
round_even = lift(fixed_point.round_even)
keep_of = lift(fixed_point.keep_of)
fraction_of = lift(fixed_point.fraction_of)


@given(y=int32s, keep=keeps)
def test_decay_rounds_toward_zero(y, keep):
    got = decay(np.int32(y), np.int32(keep))
    assert got == math.trunc(Fraction(y * keep, 4096))
    assert isinstance(got, int)


@pytest.mark.parametrize("keep", [0, 1, 4095, 4096])
@pytest.mark.parametrize("y", EDGES)
def test_decay_rounds_toward_zero_at_the_edges(y, keep):
    assert decay(np.int32(y), np.int32(keep)) == math.trunc(Fraction(y * keep, 4096))


@given(x=st.floats(-1e5, 1e5, width=32), scale=scales)
@example(x=-0.9999999, scale=1)
def test_to_fixed_rounds_the_product_and_truncates(x, scale):
    product = np.float32(x) * np.float32(scale)
    if abs(product) < 2**31:
        assert to_fixed(np.float32(x), np.float32(scale)) == math.trunc(float(product))


@given(y=int32s, scale=scales)
def test_to_float_rounds_like_the_oracle(y, scale):
    exact = fixed_point.is_power_of_two(scale)
    want = oracle.to_float(torch.tensor([y], dtype=torch.float64), scale)
    got = to_float(np.int32(y), np.float32(scale), exact)
    assert got == want.item()
    assert got == to_float(np.int32(y), np.float32(scale), False)


@given(y=st.integers(-(2**24), 2**24), bits=st.integers(0, 20))
def test_states_of_24_bits_survive_float32(y, bits):
    scale = np.float32(1 << bits)
    assert to_fixed(to_float(np.int32(y), scale, True), scale) == y
    assert through_float(np.int32(y), scale, True) == y
    assert through_float(np.int32(y), scale, False) == y


@given(y=st.integers(-(2**30), 2**30), scale=scales)
def test_stages_hand_over_float32(y, scale):
    exact = fixed_point.is_power_of_two(scale)
    want = oracle.between_stages(torch.tensor([y], dtype=torch.float64), scale)
    assert through_float(np.int32(y), np.float32(scale), exact) == want.item()


@given(x=st.floats(-(2.0**21), 2.0**21, width=32))
@example(x=0.5)
@example(x=1.5)
@example(x=-2.5)
def test_round_even_rounds_half_to_even(x):
    assert round_even(np.float32(x)) == round(x)


@given(d=st.floats(-5000, 9000, width=32))
@example(d=0.5)
@example(d=4095.5)
def test_keep_stays_in_range(d):
    want = min(max(4096 - round(d), 0), 4096)
    assert keep_of(np.float32(d)) == want
    assert fraction_of(np.int32(want)) == want / 4096


@given(scale=st.one_of(st.integers(-4, 10_000), st.floats(0.1, 9000)))
def test_power_of_two(scale):
    assert fixed_point.is_power_of_two(scale) == (scale in [1 << k for k in range(14)])


@given(units=st.integers(1, 2**26), scale=st.sampled_from([64, 640, 4096, 6400]))
def test_threshold_is_exceeded_by_one_unit(units, scale):
    threshold = units / scale
    theta = lowest_spiking(threshold, scale)
    assert Fraction(theta, scale) > Fraction(units, scale)
    assert theta - 1 == units


def test_exp2_is_accurate_to_float32():
    x = np.linspace(-126, 0, 1_000_001, dtype=np.float32)
    got = _exp2_of(x)
    want = np.exp2(x.astype(np.float64))
    assert np.abs(got / want - 1).max() < 3e-7
    assert _exp2_of(np.array([0, -1, -126], np.float32)).tolist() == [1, 0.5, 2.0**-126]
    assert _exp2_of(np.array([-127, -1000, -np.inf], np.float32)).tolist() == [2.0**-126] * 3


def _exp2_of(x):
    from numba import njit

    exp2 = scalar_ops.exp2

    @njit
    def loop(x):
        y = np.empty_like(x)
        for i in range(x.size):
            y[i] = exp2(x[i])
        return y

    return loop(x)


# The bounds of states that let a kernel leave the rule for what does not fit out: never too small

bound_of_cuba, bound_of_turning = lift(cuba_gain), lift(turning_gain)
bound_of_threshold = lift(threshold_reach)
lengths = st.sampled_from([1, 2, 7, 100, 400])
inputs = st.sampled_from([1, 3, 4097, 1 << 20])


def kept(y, keep):
    return math.trunc(Fraction(y * keep, 4096))


@given(keep_u=keeps, keep_v=keeps, steps=lengths, x=inputs, first=st.booleans())
@example(keep_u=4096, keep_v=4096, steps=400, x=1 << 20, first=True)
def test_current_and_voltage_stay_below_their_bound(keep_u, keep_v, steps, x, first):
    bound = (1 + first) * x * bound_of_cuba(np.int32(keep_u), np.int32(keep_v), np.int32(steps))
    u = v = x * first
    for _ in range(steps):
        u = kept(u, keep_u) + x
        v = kept(v, keep_v) + u
        assert max(u, v) <= bound


@given(angle=st.floats(0, math.pi / 2), length=st.floats(0, 1), steps=lengths, x=inputs)
@example(angle=0.3, length=1.0, steps=400, x=1 << 20)
@example(angle=0.0, length=1.0, steps=400, x=1 << 20)
def test_both_parts_of_a_resonator_stay_below_their_bound(angle, length, steps, x):
    sin, cos = (round(4096 * length * f(angle)) for f in (math.sin, math.cos))
    bound = x * bound_of_turning(np.int32(sin), np.int32(cos), np.int32(steps))
    re = im = x
    for _ in range(steps):  # each input in the direction that the state has, to make it longer
        turned_re, turned_im = kept(re, cos) - kept(im, sin), kept(re, sin) + kept(im, cos)
        re = turned_re + (x if turned_re >= 0 else -x)
        im = turned_im + (x if turned_im >= 0 else -x)
        assert max(abs(turned_re), abs(turned_im), abs(re), abs(im)) <= bound


def test_a_rotation_that_grows_has_no_bound():
    gain = bound_of_turning
    assert math.isinf(gain(np.int32(4096), np.int32(4096), np.int32(100)))
    assert math.isfinite(gain(np.int32(4096), np.int32(60), np.int32(100)))  # by rounding alone


@given(
    keep_th=keeps, keep_r=keeps, steps=lengths, theta=inputs, step=st.integers(-5000, 5000),
    first=st.sampled_from([0, 1 << 16, -(1 << 16)]),
)  # fmt: skip
def test_an_adaptive_threshold_stays_below_its_bound(keep_th, keep_r, steps, theta, step, first):
    at_first = (np.float32(first), np.float32(first))
    numbers = (np.int32(n) for n in (theta, step, keep_th, keep_r))
    bound = bound_of_threshold(*at_first, *numbers, np.float32(1.0), np.int32(steps))
    th, r = first, first
    for _ in range(steps):  # a spike at each of them
        th, r = kept(th - theta, keep_th) + theta, kept(r, keep_r)
        assert max(abs(th), abs(r), abs(th + r)) <= bound
        th, r = th + step, r + 2 * th
    assert max(abs(th), abs(r)) <= bound


@pytest.mark.parametrize("keep", [0, 3000, 4095, 4096])
def test_bounds_are_not_far_too_large(keep):
    """Or the rule would be followed where nothing is the matter, three times as slowly."""
    x, steps, y = 1 << 20, 700, 0
    for _ in range(steps):
        y = kept(y, keep) + x
    assert x * lift(fixed_point.gathered)(np.int32(keep), np.int32(steps)) <= 1.1 * y
