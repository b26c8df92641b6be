"""The tests see memory that nobody wrote."""

import torch
from lapilli.kernels.executors.memory import empty


def test_unwritten_memory_is_not_a_number():
    small = (torch.empty(3), torch.ones(2).new_empty(3), torch.empty_like(torch.ones(3)))
    like = torch.ones(1)
    used = empty((1 << 19,), torch.float32, like).zero_().data_ptr()
    pooled = empty((1 << 19,), torch.float32, like)
    assert pooled.data_ptr() == used, "expected the buffer that was just given back"
    assert all(x.isnan().all() for x in (*small, pooled))
    assert (empty((1 << 19,), torch.int32, like) > 2**30).all()
