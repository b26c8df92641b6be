"""Fixed-point arithmetic against exact fractions, compiled as the CPU loops compile it."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from lapilli.kernels import fixed_point, scalar_ops
from lapilli.kernels.lift import lift
from lapilli.kernels.reference import fixed as oracle
from lapilli.kernels.threshold import lowest_spiking

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
    assert _exp2_of(np.float32([0, -1, -126])).tolist() == [1, 0.5, 2.0**-126]
    assert _exp2_of(np.float32([-127, -1000, -np.inf])).tolist() == [2.0**-126] * 3


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
