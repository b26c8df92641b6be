"""The quick form of the suite does not grow unseen."""

import loop_count
import torch
from lapilli.kernels.executors import dispatch
from lapilli.kernels.executors.loops import cpu_loop


@cpu_loop
def _fourfold_loop(first, last, x, out):
    for i in range(first, last):
        out[i] = x[i] + x[i] + x[i] + x[i]


def test_a_loop_counts_once():
    before = set(loop_count.LOOPS)
    x, out = torch.tensor([1.0, 2.0]), torch.empty(2)
    for _ in range(2):
        dispatch.run_loop(cpu_loop(_fourfold_loop.fn), 2, 2, (x, out))
        assert out.tolist() == [4.0, 8.0]
    assert len(loop_count.LOOPS - before) == 1


def test_more_than_the_limit_is_told():
    assert not loop_count.verdict(7, 7)
    assert "compile 8 CPU loops, at most 7" in loop_count.verdict(8, 7)
