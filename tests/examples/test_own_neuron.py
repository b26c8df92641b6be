"""The neuron of examples/own_neuron.py, written outside of the package, runs as others do."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from known import present
from lapilli.kernels.numbers.language import BACKEND, HAS_TRITON

from lapilli import export, slayer

FILE = Path(__file__).parents[2] / "examples" / "own_neuron.py"


@pytest.fixture(scope="module")
def own():
    spec = present(importlib.util.spec_from_file_location("own_neuron", FILE))
    # torch.compile imports the modules of the functions that it reads
    module = sys.modules["own_neuron"] = importlib.util.module_from_spec(spec)
    present(spec.loader).exec_module(module)
    return module


class Spike(torch.autograd.Function):
    """The surrogate gradient of lava-dl, written down again."""

    @staticmethod
    def forward(ctx, above, width):
        ctx.save_for_backward(above)
        ctx.width = width
        return (above >= 0).to(above.dtype)

    @staticmethod
    def backward(ctx, g):
        (above,) = ctx.saved_tensors
        return g * torch.exp(-above.abs() / ctx.width) / (2 * ctx.width), None


def expected(x, beta, threshold=1.0, width=0.5):
    w, spikes = torch.zeros_like(x[..., 0]), []
    for x_t in x.unbind(-1):
        v = beta * w + x_t
        s = Spike.apply(v - threshold, width)
        w = v - threshold * s.detach()
        spikes.append(s)
    return torch.stack(spikes, -1)


@pytest.mark.parametrize("shape", [(2, 5, 40), (3, 2, 3, 4, 17), (1, 1200, 3), (2, 3, 1)])
@pytest.mark.parametrize("channels", [False, True])
def test_it_computes_its_equations(own, shape, channels):
    torch.manual_seed(0)
    neuron = own.LIF()
    if channels:
        neuron.beta = torch.nn.Parameter(torch.linspace(0.2, 0.95, shape[1]))
    x = (torch.rand(shape) * 1.6).requires_grad_()
    g = torch.randn(shape)
    spikes = neuron(x)
    found = torch.autograd.grad(spikes, (x, neuron.beta), g)
    beta = neuron.beta.detach().clone().requires_grad_()
    wide = beta.view(-1, *[1] * (len(shape) - 3)) if channels else beta
    again = expected(x, wide)
    assert 0 < spikes.mean() < 1
    assert torch.equal(spikes, again)
    torch.testing.assert_close(found, torch.autograd.grad(again, (x, beta), g))


def test_it_learns(own, capsys):
    own.main()
    assert "right 100%" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.skipif(BACKEND != "auto", reason="torch.compile reads no interpreter")
def test_it_compiles_in_one_graph(own):
    net = torch.nn.Sequential(slayer.synapse.Dense(4, 6), own.LIF())
    x = torch.rand(2, 4, 9)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), net(x))


@pytest.mark.skipif(not HAS_TRITON, reason="kernels are compiled by Triton")
@pytest.mark.skipif(BACKEND != "auto", reason="launches are those of a GPU")
def test_its_kernels_compile_for_a_gpu(own):
    from lapilli.kernels.proof import aot

    def step():
        own.LIF()(torch.rand(2, 300, 20)).sum().backward()

    launches = aot.launches(step)
    assert [launch.kernel.fn.__name__ for launch in launches] == [
        "lif_fwd_kernel",
        "lif_bwd_kernel",
    ]
    for launch in launches:
        assert aot.compile_launch(launch, "sm_90").asm["cubin"]


def test_no_file_holds_it(own, tmp_path):
    cuba = slayer.block.cuba.Dense(
        {"threshold": 1, "current_decay": 0.2, "voltage_decay": 0.1}, 4, 6
    )
    net = torch.nn.Sequential(cuba, own.LIF())
    net(torch.rand(2, 4, 9))
    with pytest.raises(TypeError, match="is a LIF: neither a block of lapilli"):
        export.save(net, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
