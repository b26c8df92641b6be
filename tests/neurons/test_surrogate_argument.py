"""The surrogate of a neuron: argument, attribute, and what copies, files and tools make of it."""

import copy
import io
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from lapilli.kernels.numbers.formula import on_tensors
from lapilli.kernels.numbers.surrogate import SURROGATES
from table import ROWS, each, each_sort
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint
from turns import soon

import lapilli
from lapilli import export, slayer

KERNELS = Path(__file__).parents[1] / "kernels"
sys.path.insert(0, str(KERNELS))
from surrogates_of_users import gaussian  # noqa: E402 (the folder has to be known first)

CUBA: dict[str, Any] = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}
# those that the tests of kernels compile; of a neuron that is not named, any
_OF_KERNELS = {
    "cuba": "gaussian", "alif": "sigmoid", "rf": "triangle", "rf_iz": "boxcar",
    "adrf": "fast_sigmoid", "adrf_iz": "gaussian", "sigma_delta": "sigmoid",
}  # fmt: skip
KINDS = {row.name: _OF_KERNELS.get(row.name, "gaussian") for row in ROWS}
NEVER_SPIKES = [row for row in ROWS if row.name == "sigma_delta"]


def gradients(row, neuron, x=None):
    x = row.input(2, 3, 12) if x is None else x
    learned = [p for p in neuron.parameters() if p.requires_grad]
    torch.manual_seed(0)
    y = neuron(x)
    g = torch.randn(y.shape)
    return torch.autograd.grad(y, [*row.parts(x), *learned], g, materialize_grads=True)


def differs(a, b):
    return any(not torch.equal(x, y) for x, y in zip(a, b, strict=True))


@each_sort
def test_argument_attribute_and_function_say_the_same(row):
    kind, learn = KINDS[row.name], {"requires_grad": row in NEVER_SPIKES}
    default = row.make(**learn)
    assert default.surrogate == "exponential"
    wanted = row.make(surrogate=kind, **learn)
    assert wanted.surrogate == kind
    found = gradients(row, wanted)
    assert differs(found, gradients(row, default))
    default.surrogate = kind
    assert not differs(found, gradients(row, default))
    default.surrogate = gaussian
    assert default.surrogate == "gaussian"


@each
def test_default_is_exponential_to_the_bit(row):
    named = row.make(requires_grad=True, surrogate="exponential")
    assert not differs(gradients(row, row.make(requires_grad=True)), gradients(row, named))


@each
@pytest.mark.parametrize("wrong", ["boxcars", None, 3, lambda z: 1.0])
def test_an_unknown_surrogate_is_refused_where_it_is_given(row, wrong):
    with pytest.raises(ValueError, match="surrogate is"):
        row.make(surrogate=wrong)
    neuron = row.make()
    with pytest.raises(ValueError, match="surrogate is"):
        neuron.surrogate = wrong
    assert neuron.surrogate == "exponential"


SPIKING = [r for r in ROWS if r not in NEVER_SPIKES]


@pytest.mark.parametrize(
    "row", soon([r for r in SPIKING if r.name in ("cuba", "rf")], SPIKING), ids=repr
)
@pytest.mark.parametrize("graded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_stages_and_one_kernel_agree(row, graded):
    neuron = row.make(surrogate=KINDS[row.name], graded_spike=graded, tau_grad=0.01)
    x = row.input(2, 3, 12)
    together = gradients(row, neuron, x)
    torch.manual_seed(0)
    y = neuron.spike(*neuron._tested(neuron.dynamics(x)))
    apart = torch.autograd.grad(y, row.parts(x), torch.randn(y.shape))
    for a, b in zip(together, apart, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6 * b.abs().max().item())


def test_norms_take_the_surrogate_along():
    x = torch.randn(4, 3, 20).requires_grad_()

    def gradient(kind):
        torch.manual_seed(0)
        neuron = slayer.neuron.cuba.Neuron(
            **CUBA, surrogate=kind, tau_grad=0.01, norm=slayer.neuron.norm.MeanOnlyBatchNorm
        )
        return torch.autograd.grad(neuron(x).sum(), x)[0]

    assert not torch.equal(gradient("arctan"), gradient("exponential"))


# widths and scales


@each
def test_tau_grad_and_scale_grad_can_be_set(row):
    neuron = row.make(requires_grad=True)
    assert (neuron.tau_grad, neuron.scale_grad) == (1, 1)
    neuron.tau_grad, neuron.scale_grad = 0.5, 3.0
    assert (neuron.tau_grad, neuron.scale_grad) == (0.5, 3.0)
    wanted = row.make(requires_grad=True, tau_grad=0.5, scale_grad=3.0)
    found = gradients(row, neuron)
    assert not differs(found, gradients(row, wanted))
    assert differs(found, gradients(row, row.make(requires_grad=True)))
    assert (neuron.tau_rho, neuron.scale_rho) == (wanted.tau_rho, wanted.scale_rho)


BAD = [
    ("tau_grad", 0), ("tau_grad", -1), ("tau_grad", float("nan")), ("tau_grad", float("inf")),
    ("tau_grad", "wide"), ("tau_grad", None), ("scale_grad", float("nan")),
    ("scale_grad", float("inf")), ("scale_grad", [1]),
]  # fmt: skip


@each
@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_widths_and_scales_are_refused(row, name, value):
    with pytest.raises(ValueError, match=name):
        row.make(**{name: value})
    neuron = row.make()
    for attribute in (name, name.replace("grad", "rho")):
        before = getattr(neuron, attribute)
        with pytest.raises((ValueError, AttributeError), match=attribute):
            setattr(neuron, attribute, value)
        assert getattr(neuron, attribute) == before


# copies, files


def network(kind="gaussian") -> Any:
    torch.manual_seed(0)
    params = CUBA | {"surrogate": kind, "tau_grad": 0.01}
    return torch.nn.Sequential(
        slayer.block.cuba.Dense(params, 6, 8),
        slayer.block.cuba.Recurrent(params, 8, 5),
    )


def spikes():
    generator = torch.Generator().manual_seed(1)
    return (torch.rand((3, 6, 15), generator=generator) < 0.4).float()


def weight_gradients(net, call=None):
    call = call or net
    y = call(spikes())
    learned = [p for p in net.parameters() if p.requires_grad]
    return torch.autograd.grad((y * torch.arange(5.0)[:, None]).sum(), learned)


def test_blocks_take_it_in_their_neuron_params():
    net = network()
    assert [block.neuron.surrogate for block in net] == ["gaussian"] * 2
    assert differs(weight_gradients(net), weight_gradients(network("exponential")))


def test_copies_and_pickles_keep_it():
    net = network()
    want = weight_gradients(net)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    copies: Any = (
        copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(file, weights_only=False)
    )  # fmt: skip
    for other in copies:
        assert other[0].neuron.surrogate == "gaussian"
        assert not differs(weight_gradients(other), want)


def test_the_state_dict_does_not_hold_it():
    net = network()
    assert net.state_dict().keys() == network("exponential").state_dict().keys()
    net.load_state_dict(network("exponential").state_dict())
    assert net[0].neuron.surrogate == "gaussian"


def test_a_network_file_does_not_hold_it(tmp_path):
    net = torch.nn.Sequential(network()[0]).eval()
    net(spikes())
    export.save(net, tmp_path / "a.net")
    again = export.load(tmp_path / "a.net")
    assert torch.equal(again(spikes()), net(spikes()))
    (neuron,) = (m for m in again.modules() if hasattr(m, "surrogate") and hasattr(m, "tau_rho"))
    assert neuron.surrogate == "exponential"


@pytest.mark.slow
def test_a_pickle_wants_the_surrogate_to_be_defined(tmp_path):
    (tmp_path / "net.pickle").write_bytes(pickle.dumps(network()))
    script = """
        import pickle, sys, torch, lapilli
        net = pickle.load(open(sys.argv[1], "rb"))
        assert net[0].neuron.surrogate == "gaussian"
        try:
            net(torch.ones(1, 6, 4))
        except ValueError as error:
            assert "surrogate is 'gaussian'" in str(error), error
            assert "import the module" in str(error), error
        else:
            raise SystemExit("it ran")
        import surrogates_of_users
        net(torch.ones(1, 6, 4)).sum().backward()
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "net.pickle")],
        env=os.environ | {"PYTHONPATH": str(KERNELS)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# torch's tools


def test_checkpoints_compute_the_same():
    net = network()
    got = weight_gradients(net, lambda x: checkpoint(net, x, use_reentrant=False))
    assert not differs(got, weight_gradients(net))


def test_func_computes_the_same():
    net = network()
    weight_gradients(net)  # sizes
    params = dict(net.named_parameters())

    def loss(params):
        y = torch.func.functional_call(net, params, (spikes(),))
        return (y * torch.arange(5.0)[:, None]).sum()

    found = torch.func.grad(loss)(params)
    learned = [found[n] for n, p in params.items() if p.requires_grad]
    assert not differs(learned, weight_gradients(net))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager"])
def test_compiled_graphs_compute_the_same(backend):
    net = network()
    want = weight_gradients(net)
    torch._dynamo.reset()
    assert not differs(weight_gradients(net, torch.compile(net, backend=backend)), want)
    net[0].neuron.surrogate = net[1].neuron.surrogate = "exponential"
    changed = weight_gradients(net, torch.compile(net, backend=backend))
    assert not differs(changed, weight_gradients(net))
    assert differs(changed, want)


def test_exported_programs_hold_it():
    net = network().eval()
    net(spikes())
    program = torch.export.export(net, (spikes(),))
    assert torch.equal(program.module()(spikes()), net(spikes()))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file)
    assert torch.equal(again.module()(spikes()), net(spikes()))
    assert "gaussian" in str(again.graph)


def test_samples_of_vmap_are_those_of_a_batch():
    neuron = slayer.neuron.rf.Neuron(0.5, 8, 0.1, surrogate="triangle")
    row = next(r for r in ROWS if r.name == "rf")
    x = row.input(4, 3, 12)
    neuron(x)
    (real, imag) = (part.detach() for part in x)

    def total(real, imag):
        return neuron((real[None], imag[None])).sum()

    found = torch.func.vmap(torch.func.grad(total, argnums=(0, 1)))(real, imag)
    want = torch.autograd.grad(neuron(x).sum(), x)
    for a, b in zip(found, want, strict=True):
        assert_close(a, b, rtol=0, atol=0)


def test_slayer_spikes_take_it():
    voltage = torch.linspace(-3, 3, 31).requires_grad_()
    y = lapilli.spike.Spike.apply(voltage, 0.0, 1.0, 2.0, False, 0, 1, "gaussian")
    (found,) = torch.autograd.grad(y.sum(), voltage)
    shape = on_tensors(SURROGATES["gaussian"].shape.fn)
    assert torch.equal(found, shape(voltage, voltage.abs(), 1.0).detach())
