"""Kernels of the kinds that Triton's tutorials show, on the executor; none is lapilli's own."""

import pytest
import torch
import triton
import triton.language as tl
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof.aot import Launch
from torch.testing import assert_close

from ptx.launcher import launch_on
from ptx.schedule import Schedule

pytestmark = pytest.mark.skipif(BACKEND != "auto", reason="kernels are compiled for a GPU")
targets = pytest.mark.parametrize(
    "target", ["sm_90", *(pytest.param(t, marks=pytest.mark.slow) for t in ("sm_80", "sm_120"))]
)
schedules = pytest.mark.parametrize(
    "schedule", [Schedule(), Schedule("backward", "early", 2)], ids=["late", "early"]
)


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    x = tl.load(x_ptr + at, mask=inside)
    tl.store(out_ptr + at, x + tl.load(y_ptr + at, mask=inside), mask=inside)


@triton.jit
def softmax_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    at = tl.program_id(0) * columns + column
    x = tl.load(x_ptr + at, mask=column < columns, other=-float("inf"))
    e = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + at, e / tl.sum(e, axis=0), mask=column < columns)


@triton.jit
def product_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        a = tl.load(
            a_ptr + row[:, None] * K + k[None, :],
            mask=(row < M)[:, None] & (k < K)[None, :], other=0.0,
        )  # fmt: skip
        b = tl.load(
            b_ptr + k[:, None] * N + column[None, :],
            mask=(k < K)[:, None] & (column < N)[None, :], other=0.0,
        )  # fmt: skip
        total = tl.dot(a, b, total)
    tl.store(
        c_ptr + row[:, None] * N + column[None, :], total,
        mask=(row < M)[:, None] & (column < N)[None, :],
    )  # fmt: skip


@targets
@schedules
@pytest.mark.parametrize("n", [1, 127, 1000])
def test_addition_of_vectors(target, schedule, n):
    x, y, out = torch.randn(n), torch.randn(n), torch.empty(n)
    launch_on(target, schedule, Launch(add_kernel, (x, y, out, n), (256,)), (-(-n // 256),))
    assert_close(out, x + y, rtol=0, atol=0)


@targets
@schedules
@pytest.mark.parametrize("columns", [1, 100, 256])
def test_softmax_of_rows(target, schedule, columns):
    x, out = torch.randn(3, columns) * 10, torch.empty(3, columns)
    launch_on(target, schedule, Launch(softmax_kernel, (x, out, columns), (256,)), (3,))
    # exponential and division are approximate on a GPU
    assert_close(out, x.softmax(1), rtol=2e-6, atol=1e-9)


@targets
@schedules
@pytest.mark.parametrize("sizes", [(32, 32, 64), (17, 40, 50)], ids=str)
def test_product_of_matrices(target, schedule, sizes):
    M, N, K = sizes
    a, b = torch.randn(M, K).bfloat16(), torch.randn(K, N).bfloat16()
    out = torch.empty(M, N)
    launch_on(
        target, schedule, Launch(product_kernel, (a, b, out, M, N, K), (16, 32, 32)),
        (-(-M // 16), -(-N // 32)),
    )  # fmt: skip
    assert_close(out, a.float() @ b.float(), rtol=1e-5, atol=1e-5)
