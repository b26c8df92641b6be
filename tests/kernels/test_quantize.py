"""Quantised weights: every level, every tie, both ends, and what passes through."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from known import present
from lapilli.kernels.reference import quantize as oracle
from lapilli.kernels.synapses.quantize import quantize_8bit, quantize_hook_fx
from torch.testing import assert_close
from turns import soon


def weights(scale):
    """Levels, ties and their neighbours, from beyond one end to beyond the other."""
    ties = torch.arange(-300, 301) / scale
    near = torch.nextafter(ties, ties + 1), torch.nextafter(ties, ties - 1)
    odd = torch.tensor([1e30, -1e30, 0.0, 1e-30])
    return torch.cat((ties, *near, odd))


@pytest.mark.parametrize("descale", [False, True])
@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("scale", [64, 32, 100])
def test_quantisation_equals_oracle(scale, bits, descale):
    x = weights(scale).requires_grad_()
    upstream = torch.randn(x.shape)
    answers = []
    for function in (quantize_hook_fx, oracle.quantize_hook_fx):
        y = function(x, scale, bits, descale)
        answers.append((y.detach(), *torch.autograd.grad(y, x, upstream)))
    assert_close(answers[0], answers[1], rtol=0, atol=0)


def test_eight_bits_are_even_integers():
    units = quantize_8bit(weights(64), 64, descale=True)
    assert set(units.tolist()) == set(range(-256, 256, 2))


def test_what_is_not_a_number_stays_so_and_infinity_is_clipped():
    nan, inf = float("nan"), float("inf")
    y = quantize_8bit(torch.tensor([nan, 1.0, inf, -inf]))
    assert y.isnan().tolist() == [True, False, False, False]
    assert y[1:].tolist() == [1.0, 254 / 64, -4.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_types(dtype):
    x = torch.randn(2, 3, 5, dtype=dtype, requires_grad=True)
    y = quantize_8bit(x)
    assert y.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert_close(y.float(), quantize_8bit(x.detach().float()), rtol=0, atol=0)
    y.sum().backward()
    assert present(x.grad).dtype == dtype


def test_strides_and_nothing():
    x = torch.randn(6, 8).t()[::2]
    assert_close(quantize_8bit(x), quantize_8bit(x.contiguous()), rtol=0, atol=0)
    assert quantize_8bit(torch.empty(0, 3)).shape == (0, 3)


def test_only_the_weight_itself_is_kept():
    kept = []
    x = torch.randn(100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        quantize_8bit(x)
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


@pytest.mark.slow
def test_kernel_in_the_interpreter():
    if os.environ.get("LAPILLI_BACKEND") == "interpret":
        pytest.skip("this is the interpreter")
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q"),
        *("test_quantize.py", "-k", "oracle or number or nothing"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 passed" in done.stdout


@pytest.mark.parametrize("backend", soon(("auto",), ("auto", "interpret")))
def test_a_gradient_that_is_expanded_reaches_every_weight(backend):
    script = (
        "import torch; from lapilli.kernels.synapses.quantize import quantize_8bit\n"
        "w = torch.linspace(-1, 1, 300).requires_grad_()\n"
        "quantize_8bit(w).sum().backward()\n"
        "assert torch.equal(w.grad, torch.ones(300)), w.grad\n"
        "x = torch.tensor([0.26]).expand(300)\n"
        "assert torch.equal(quantize_8bit(x), torch.full((300,), 0.25)), quantize_8bit(x)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LAPILLI_BACKEND": backend}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
