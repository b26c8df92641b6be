"""The watch over the memory of kernels finds what it is there to find.

The interpreter is chosen for a whole process, so the tests run in one of their own; every other
test that runs there is watched as well (tests/conftest.py).
"""

import os
import re
import subprocess
import sys

import pytest
import torch
from guarded import Guarded, OutOfBounds
from known import present
from lapilli.kernels.numbers.language import BACKEND, jit, tl

in_the_interpreter = pytest.mark.skipif(BACKEND != "interpret", reason="needs the interpreter")


@pytest.mark.slow
def test_in_the_interpreter():
    if BACKEND == "interpret":
        pytest.skip("this is the interpreter")
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q"),
        __file__,
    ]
    done = subprocess.run(
        command, env=os.environ | {"LAPILLI_BACKEND": "interpret"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(present(re.search(r"(\d+) passed", done.stdout))[1]) == len(FAULTS) + 4


@jit
def _copy_kernel(x_ptr, y_ptr, first, last, C, BLOCK: tl.constexpr):
    """Copy; ``first`` and ``last`` move the ends of what is live."""
    j = tl.arange(0, BLOCK) + first
    live = (j >= first) & (j < C + last)
    tl.store(y_ptr + j, tl.load(x_ptr + j, mask=live, other=0), mask=live)


@jit
def _neighbour_kernel(x_ptr, y_ptr, by, C, BLOCK: tl.constexpr):
    """Copy from ``by`` entries further on; what is read is thrown away."""
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + j + by, mask=j < C, other=0)
    tl.store(y_ptr + j, tl.where(j < C - by, x, 0), mask=j < C)


@jit
def _count_kernel(y_ptr, at):
    tl.atomic_add(y_ptr + at, 1)


def copied(first, last, sizes=(5, 5), dtype=torch.float32):
    x, y = torch.arange(sizes[0]).to(dtype), torch.zeros(sizes[1], dtype=dtype)
    _copy_kernel[(1,)](x, y, first, last, 5, 16)
    return x, y


FAULTS = {
    "in front": (lambda: copied(-1, 0), "_copy_kernel reads 1 of 6 entries .* -4 bytes"),
    "behind": (lambda: copied(0, 2), "_copy_kernel reads 2 of 7 entries .* 0 bytes"),
    "the output is too short": (
        lambda: copied(0, 0, (5, 4)), "_copy_kernel writes 1 of 5 entries .* 0 bytes",
    ),
    "bytes": (
        lambda: copied(0, 1, dtype=torch.int8), "_copy_kernel reads 1 of 6 entries .* 0 bytes",
    ),
    "far away": (
        lambda: _neighbour_kernel[(1,)](torch.zeros(5), torch.zeros(5), 1 << 20, 5, 16),
        "_neighbour_kernel reads 5 of 5 entries",
    ),
    "unused": (
        lambda: _neighbour_kernel[(1,)](torch.zeros(5), torch.zeros(5), 1, 5, 16),
        "_neighbour_kernel reads 1 of 5 entries .* 0 bytes",
    ),
    "atomic": (
        lambda: _count_kernel[(1,)](torch.zeros(2, dtype=torch.int32), 2),
        "_count_kernel changes 1 of 1 entries .* 0 bytes",
    ),
    "expanded": (
        lambda: _copy_kernel[(1,)](torch.zeros(1).expand(5), torch.zeros(5), 0, 0, 5, 16),
        r"_copy_kernel is given strides \(0,\)",
    ),
}  # fmt: skip


@in_the_interpreter
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault):
    run, message = FAULTS[fault]
    with pytest.raises((OutOfBounds, AssertionError), match=message):
        run()


@in_the_interpreter
def test_what_is_right_passes():
    x, y = copied(0, 0)
    assert torch.equal(y, x)
    part = torch.arange(7.0)[1:6]  # begins within another allocation
    _copy_kernel[(1,)](part, y[:5], 0, 0, 5, 16)
    assert torch.equal(y, part)


@in_the_interpreter
def test_a_tensor_that_is_given_twice_stays_one():
    x = torch.arange(5.0)
    _copy_kernel[(1,)](x, x, 0, 0, 5, 16)
    assert torch.equal(x, torch.arange(5.0))


@in_the_interpreter
def test_what_surrounds_a_tensor_is_no_number():
    moved = Guarded("kernel")
    inner = moved.move(torch.zeros(3))
    whole = moved.moved[next(iter(moved.moved))][1]
    around = torch.cat([whole[:4096], whole[-4096:]]).view(torch.float32)
    assert around.isnan().all()
    inner.fill_(1.0)
    whole[4095] = 0
    with pytest.raises(OutOfBounds, match="wrote around"):
        moved.give_back()


@in_the_interpreter
def test_what_lies_between_rows_is_watched():
    moved = Guarded("kernel")
    rows = torch.zeros(3, 8)[:, :5]
    moved.move(rows).fill_(2.0)
    moved.give_back()
    assert torch.equal(rows, torch.full((3, 5), 2.0))
    whole = moved.moved[next(iter(moved.moved))][1]
    whole[4096 + 4 * 6] += 1
    with pytest.raises(OutOfBounds, match="wrote around"):
        moved.give_back()
