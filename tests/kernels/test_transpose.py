"""Transposed copies: every element in its place, on the quick way and on torch's."""

import pytest
import torch
from lapilli.kernels.executors.layout import to_rows
from lapilli.kernels.executors.transpose import transpose
from torch.testing import assert_close

SHAPES = [
    (1, 64, 64), (1, 64, 65), (3, 65, 64), (2, 127, 131), (1, 16, 256), (1, 256, 16), (1, 17, 300),
    (5, 15, 400), (5, 400, 15), (0, 64, 64), (2, 0, 64), (1, 1000, 1),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transpose_equals_torch(shape):
    x = torch.randn(shape)
    y = transpose(x)
    assert y.is_contiguous()
    assert_close(y, x.transpose(1, 2).contiguous(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bool], ids=str)
def test_other_types_keep_their_type(dtype):
    x = (torch.randn(2, 70, 80) * 100).to(dtype)
    assert_close(transpose(x), x.transpose(1, 2).contiguous(), rtol=0, atol=0)


def test_bits_are_not_changed():
    x = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]).repeat(64 * 64 // 4).view(1, 64, 64)
    got, want = transpose(x), x.transpose(1, 2).contiguous()
    assert_close(got.view(torch.int32), want.view(torch.int32), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 70, 80), (2, 3, 30, 80), (2, 7, 5, 3, 80)], ids=str)
def test_series_become_rows_and_gradients_come_back(shape):
    x = torch.randn(shape, requires_grad=True)
    rows = to_rows(x)
    assert_close(rows, x.detach().movedim(-1, 1).flatten(2).contiguous(), rtol=0, atol=0)
    upstream = torch.randn(rows.shape)
    rows.backward(upstream)
    want = upstream.view(shape[0], shape[-1], *shape[1:-1]).movedim(1, -1)
    assert_close(x.grad, want, rtol=0, atol=0, check_stride=False)
