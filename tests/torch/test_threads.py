"""Gradients do not depend on the number of threads: decays never, weights where it is asked for."""

import pytest
import torch
from cells import NEURONS
from lapilli.blocks import alif, cuba, rf, sigma_delta
from torch.testing import assert_close

TRAINED = {"requires_grad": True}
CUBA = NEURONS["cuba"] | TRAINED
SD = NEURONS["sigma_delta"] | TRAINED
NETS = {  # blocks, and the shape of a sample
    "dense": (
        lambda: (cuba.Dense(CUBA, 300, 200, weight_norm=True), cuba.Dense(CUBA, 200, 10)),
        (300,),
    ),
    "convolution": (
        lambda: (
            cuba.Conv(CUBA, 2, 16, 3, padding=1), cuba.Pool(CUBA, 2), cuba.Flatten(),
            cuba.Dense(CUBA, 16 * 8 * 8, 10),
        ),
        (2, 16, 16),
    ),
    "recurrent": (lambda: (cuba.Recurrent(CUBA, 100, 64),), (100,)),
    "sigma-delta": (
        lambda: (sigma_delta.Dense(SD, 300, 200), sigma_delta.Output(SD, 200, 10)),
        (300,),
    ),
    "rf": (lambda: (rf.Dense(NEURONS["rf"] | TRAINED, 300, 200),), (300,)),
    "alif": (lambda: (alif.Dense(NEURONS["alif"] | TRAINED, 300, 200),), (300,)),
}  # fmt: skip


@pytest.fixture
def threads():
    """Set the number of threads; put it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def deterministic():
    """Switch determinism; put it back."""
    before = torch.are_deterministic_algorithms_enabled()
    yield lambda wanted: torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.use_deterministic_algorithms(before, warn_only=True)


def results(name):
    make, shape = NETS[name]
    torch.manual_seed(0)
    net = torch.nn.Sequential(*make())
    x = (torch.rand(16, *shape, 60) < 0.3).float().requires_grad_()
    y = net(x)
    y.backward(torch.randn(y.shape))
    return {"y": y, "x": x.grad} | {n: p.grad for n, p in net.named_parameters()}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("asked", [True, False])
def test_threads_change_no_gradient(name, asked, threads, deterministic):
    deterministic(asked)
    found = []
    for number in (1, 2):
        threads(number)
        found.append(results(name))
        assert torch.get_num_threads() == number
    for one, two in zip(found[0].items(), found[1].items(), strict=True):
        if asked or not one[0].endswith("weight"):
            assert_close(two[1], one[1], rtol=0, atol=0, msg=f"{one[0]} differs")
