"""Inputs that no kernel reads, such as sparse and nested tensors, are refused by name."""

import pytest
import torch
from cells import CELLS, events, make
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
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("family", "kind"), CELLS, ids=str)
@pytest.mark.filterwarnings("ignore")
def test_blocks_refuse_odd_inputs(family, kind, odd):
    change, message = ODD[odd]
    with pytest.raises(TypeError, match=message):
        make(family, kind)(change(events(kind)))


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
