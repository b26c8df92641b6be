"""Inputs that no kernel reads, such as sparse and nested tensors, are refused by name."""

import pytest
import torch
from cells import CELLS, each_cell, events, in_turn, make
from lapilli.blocks.delay import Delay
from lapilli.neurons import delta, sigma

from lapilli import neurons

ODD = {
    "numpy": (lambda x: x.numpy(), "got ndarray"),
    "sparse": (lambda x: x.to_sparse(), r"layout torch.sparse_coo. Use x.to_dense\(\)"),
    "nested": (lambda x: torch.nested.nested_tensor(list(x)), "got a nested tensor"),
    "jagged": (
        lambda x: torch.nested.nested_tensor(list(x.flatten(1, -2)), layout=torch.jagged),
        "got a nested tensor",
    ),
    "quantised": (
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), r"Use x.dequantize\(\)"
    ),
    "masked": (
        lambda x: torch.masked.masked_tensor(x, x > 0), r"MaskedTensor. Use x.to_tensor\(0.0\)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@each_cell
@pytest.mark.filterwarnings("ignore")
def test_blocks_refuse_odd_inputs(family, kind, odd):
    change, message = ODD[odd]
    with pytest.raises(TypeError, match=message):
        make(family, kind)(change(events(kind, 4)))  # not as many samples as a pair has parts


@each_cell
def test_symbolic_traces_are_refused(family, kind):
    with pytest.raises(TypeError, match=r"Use torch.export.export, or a torch.fx.Tracer whose"):
        torch.fx.symbolic_trace(make(family, kind))


@pytest.mark.parametrize("lone", [True, False])
@each_cell
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_scripts_are_refused(family, kind, lone):
    block = make(family, kind)
    with pytest.raises(TypeError, match=r"use torch.compile, torch.export.export or torch.jit"):
        torch.jit.script(block if lone else torch.nn.Sequential(block))


@pytest.mark.parametrize("family", ["rf", "adrf"])
def test_inputs_of_complex_neurons_are_one_tensor_or_a_pair(family):
    block, x = make(family, "Input"), events("Input", 4)
    with pytest.raises(ValueError, match=r"or a pair \(real, imaginary\); got 3 parts"):
        block((x,) * 3)
    for wrong in ({"x": x}, None):
        with pytest.raises(TypeError, match=f"must be a torch.Tensor; got {type(wrong).__name__}"):
            block(wrong)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.filterwarnings("ignore")
def test_modules_refuse_odd_inputs(odd):
    change, message = ODD[odd]
    x = torch.rand(2, 3, 5)
    modules = (
        neurons.cuba.Neuron(1.0, 0.5, 0.5), neurons.sigma_delta.Neuron(1.0, None),
        delta.Delta(1.0), sigma.Sigma(), Delay(), neurons.norm.MeanOnlyBatchNorm(),
        neurons.norm.WgtScaleBatchNorm(),
    )  # fmt: skip
    for module in modules:
        with pytest.raises(TypeError, match=message):
            module(change(x))
    with pytest.raises(TypeError, match=message):
        neurons.rf.Neuron(1.0, 8, 0.1)((x, change(x)))


@in_turn(c for c in CELLS if c[1] in ("Dense", "Conv", "Recurrent"))
def test_parameters_of_another_type_are_refused(family, kind):
    """As FSDP makes them where it is told to compute in bfloat16."""
    block = make(family, kind)
    halved = {name: p.bfloat16() for name, p in block.named_parameters()}
    with pytest.raises(TypeError, match="leave param_dtype of FSDP's MixedPrecisionPolicy at None"):
        torch.func.functional_call(block, halved, (events(kind),))
