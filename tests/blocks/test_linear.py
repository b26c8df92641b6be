"""How a synapse multiplies is chosen by what is quicker and changes no result."""

import itertools

import pytest
import torch
from known import present
from lapilli.blocks import crossover, cuba, linear, maps, rf
from lapilli.blocks.complex_synapse import Dense as ComplexDense
from lapilli.blocks.synapse import Conv, Dense
from lapilli.kernels.synapses.normalize import normalized_weight
from tolerances import FLOAT32
from torch.testing import assert_close

CUBA = {"threshold": 0.5, "current_decay": 0.5, "voltage_decay": 0.25, "tau_grad": 0.1}
RF = {"threshold": 0.25, "period": 8, "decay": 0.1}


def rare(*shape, density=0.05):
    return (torch.rand(shape) < density).float()


def saved_bytes(synapse, x):
    """Return the result, and the bytes that are kept for backward besides the weight."""
    kept = {}

    def note(tensor):
        if tensor.data_ptr() != synapse.weight.data_ptr():
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        result = synapse(x)
    return result, sum(kept.values())


def result_and_gradients(block, x):
    """Return the result, and the gradients of the input and of the parameters."""
    block.zero_grad()
    leaf = x.clone().requires_grad_()
    y = block(leaf)
    torch.manual_seed(0)
    y.backward(torch.randn(y.shape))
    return y.detach(), leaf.grad, *(p.grad for p in block.parameters())


KINDS = {
    "Dense": (lambda m, p: m.Dense(p, 100, 80, delay_shift=False), (100,)),
    "Conv": (lambda m, p: m.Conv(p, 8, 16, 3, padding=1, delay_shift=False), (8, 10, 10)),
    "masked": (lambda m, p: m.Dense(p, 100, 80, mask=torch.eye(80, 100), delay=True), (100,)),
    "groups": (lambda m, p: m.Conv(p, 8, 16, 3, groups=2), (8, 10, 10)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [(cuba, CUBA), (rf, RF)], ids=["real", "complex"])
@pytest.mark.parametrize("density", [0, 0.05, 1])
def test_events_give_the_result_of_the_dense_product(family, density, kind):
    make, shape = KINDS[kind]
    block = make(*family)
    x = rare(3, *shape, 20, density=density)
    block(x)  # draws the delays
    results = []
    for product in ("dense", "events"):
        block.synapse.product = product
        results.append(result_and_gradients(block, x))
    assert_close(results[0][0], results[1][0], rtol=0, atol=0)
    for dense, events in zip(results[0][1:], results[1][1:], strict=True):
        if dense is not None:
            largest = dense.abs().max().item()
            assert_close(events, dense, rtol=0, atol=FLOAT32["rtol"] * largest + 1e-30)


@pytest.mark.parametrize("family", [(cuba, CUBA), (rf, RF)], ids=["real", "complex"])
@pytest.mark.parametrize("density", [0.2, 1])
def test_products_of_eight_bits_give_the_result_of_float32(monkeypatch, family, density):
    module, params = family
    block = module.Dense(params, 300, 128, delay_shift=False, synapse="dense")
    x = rare(3, 300, 80, density=density)
    called = []
    multiply = linear.codes.multiply
    monkeypatch.setattr(
        linear.codes, "multiply", lambda *a: called.append(a[0].dtype) or multiply(*a)
    )
    results = []
    for usable in (True, False):
        monkeypatch.setattr(linear.codes, "usable", lambda usable=usable: usable)
        results.append(result_and_gradients(block, x))
    assert set(called) == {torch.int8}
    for got, want in zip(*results, strict=True):
        if want is not None:
            assert_close(got, want, rtol=0, atol=0)
    called.clear()
    monkeypatch.setattr(linear.codes, "usable", lambda: True)
    block(x * 0.5)  # graded
    assert not called


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.float16], ids=str)
@pytest.mark.parametrize("density", [0.02, 0.5])
def test_spikes_of_any_type_give_the_result_of_float32(density, dtype):
    dense = cuba.Dense(CUBA, 300, 128)
    conv = cuba.Conv(CUBA, 4, 32, 5)
    for block, shape in ((dense, (300,)), (conv, (4, 12, 12))):
        x = rare(3, *shape, 80, density=density)
        assert_close(block(x.to(dtype)), block(x), rtol=0, atol=0)


def test_the_choice_follows_the_density(monkeypatch):
    chosen = []
    monkeypatch.setattr(
        linear, "events_of", lambda x, most: chosen.append(most) or linear_events_of(x, most)
    )
    synapse = Dense(1000, 80)
    used = []
    monkeypatch.setattr(linear, "gather", lambda *a: used.append("events") or linear_gather(*a))
    synapse(rare(4, 1000, 30, density=0.02))
    assert used == ["events"]
    synapse(rare(4, 1000, 30, density=0.5))
    assert used == ["events"]
    synapse(rare(4, 1000, 1, density=0.02))
    assert used == ["events"], "too little to be worth it"
    Dense(1000, 8)(rare(40, 1000, 30, density=0.02))
    assert used == ["events"], "too few outputs to be worth it"
    synapse.product = "events"
    synapse(rare(4, 1000, 1, density=0.5))
    assert used == ["events", "events"]
    synapse.product = "dense"
    synapse(rare(4, 1000, 30, density=0.02))
    assert used == ["events", "events"]
    some = crossover.limit("float32", 80, True, 1000)
    assert chosen == [some, some, 1.0]


def test_weight_norm_has_the_derivative_of_its_equation():
    direction = torch.randn(5, 3, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    length = torch.rand(5, 1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(normalized_weight, (direction, length))
    assert torch.autograd.gradgradcheck(normalized_weight, (direction, length))
    with torch.no_grad():
        direction[2] = 0  # masked out
    got = torch.autograd.grad(
        normalized_weight(direction, length * 1e-300).sum(), (direction, length)
    )
    assert all(g.isfinite().all() for g in got)


linear_events_of, linear_gather = linear.events_of, linear.gather


def test_events_are_kept_in_place_of_spikes():
    synapse = Dense(1000, 80)
    x = rare(4, 1000, 50, density=0.02)
    synapse.product = "dense"
    _, dense = saved_bytes(synapse, x)
    synapse.product = "events"
    _, events = saved_bytes(synapse, x)
    assert dense >= x.numel() * 4
    an_event, a_row = 2, 4
    assert events <= int(x.count_nonzero()) * an_event + (4 * 50 + 1) * a_row


@pytest.mark.parametrize("shape", [(0, 100, 5), (1, 100, 1), (2, 100, 1)], ids=str)
def test_nothing_and_one_step_work(shape):
    synapse = Dense(100, 80)
    synapse.product = "events"
    x = rare(*shape).requires_grad_()
    y = synapse(x)
    y.sum().backward()
    assert y.shape == (shape[0], 80, shape[2])
    assert present(x.grad).shape == x.shape


def test_frozen_weights_keep_nothing_of_the_input():
    synapse = Dense(100, 80).requires_grad_(False)
    x = rare(2, 100, 30).requires_grad_()
    y, kept = saved_bytes(synapse, x)
    assert kept == 0
    y.sum().backward()
    assert synapse.weight.grad is None


@pytest.mark.parametrize("synapse", [Dense(4, 4), ComplexDense(4, 4)], ids=["real", "complex"])
def test_an_unknown_product_raises(synapse):
    assert synapse.product == "auto"
    with pytest.raises(ValueError, match="product must be one of 'auto', 'dense', 'events'"):
        synapse.product = "sparse"


BLOCKS = {
    "Dense": ((4, 4), "synapse"),
    "Affine": ((4, 4), "synapse"),
    "Conv": ((4, 4, 3), "synapse"),
    "ConvT": ((4, 4, 3), "synapse"),
    "Recurrent": ((4, 4), "input_synapse"),
    "KWTA": ((4, 4, 2), "synapse"),
}


@pytest.mark.parametrize("family", [(cuba, CUBA), (rf, RF)], ids=["real", "complex"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_takes_the_product_of_its_synapse(name, family):
    module, params = family
    arguments, attribute = BLOCKS[name]
    make = getattr(module, name)
    assert getattr(make(params, *arguments), attribute).product == "auto"
    for product in maps.PRODUCTS:
        block = make(params, *arguments, synapse=product)
        assert getattr(block, attribute).product == product
    with pytest.raises(ValueError, match="synapse must be one of 'auto', 'dense', 'events'"):
        make(params, *arguments, synapse="sparse")


@pytest.mark.parametrize("dense", crossover.limits())
@pytest.mark.parametrize("learning", [False, True], ids=["forward", "training"])
def test_limits_lie_between_those_of_the_table(dense, learning):
    table = crossover.limits()[dense]
    known = list(table)
    for terms in known:
        assert crossover.limit(dense, terms, learning) == pytest.approx(table[terms][learning])
    for low, high in itertools.pairwise(known):
        between = crossover.limit(dense, low * 5 // 4, learning)
        ends = sorted((table[low][learning], table[high][learning]))
        assert ends[0] - 1e-9 <= between <= ends[1] + 1e-9
    assert crossover.limit(dense, known[0] - 1, learning) == 0
    assert crossover.limit(dense, 2 * known[-1], learning) == table[known[-1]][learning]


def test_few_inputs_are_sooner_dense_in_training():
    table = crossover.limits()["codes"][128]
    for inputs, share in ((10, 0), (96, 0.5), (4800, 0.99)):
        limits = [crossover.limit("codes", 128, learning, inputs) for learning in (False, True)]
        assert limits == pytest.approx([table[0], share * table[1]])


def test_a_call_that_learns_has_another_limit(monkeypatch):
    chosen = []
    monkeypatch.setattr(linear, "events_of", lambda x, most: chosen.append(most))
    synapse, x = Dense(1000, 80), rare(4, 1000, 30, density=0.5)
    synapse(x)
    with torch.no_grad():
        synapse(x)
    synapse.requires_grad_(False)(x.requires_grad_())
    learning, not_learning = (crossover.limit("float32", 80, k, 1000) for k in (True, False))
    assert chosen == [learning, not_learning, not_learning]
    assert learning != not_learning


def test_a_network_keeps_at_most_twelve_bytes_a_neuron_step():
    sizes, steps, batch = (500, 128, 128, 64), 50, 4
    net = torch.nn.Sequential(
        *(cuba.Dense(CUBA | {"threshold": 2.0}, a, b) for a, b in itertools.pairwise(sizes))
    )
    x = rare(batch, sizes[0], steps, density=0.01)
    held = {t.untyped_storage().data_ptr() for t in (x, *net.parameters())}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        net(x)
    weights = sum(a * b * 4 for a, b in itertools.pairwise(sizes))  # quantised
    neuron_steps = batch * steps * sum(sizes[1:])
    assert sum(kept.values()) - weights <= 12 * neuron_steps


@pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="this torch cannot round on CPUs"
)
@pytest.mark.parametrize("kind", ["matmul", "conv"])
def test_products_do_not_round_where_others_may(monkeypatch, kind):
    switch = getattr(torch.backends.mkldnn, kind)
    name = {"matmul": "mm", "conv": "convolution"}[kind]
    multiply, seen = getattr(torch, name), []

    def record(*args, **options):
        seen.append(switch.fp32_precision)
        return multiply(*args, **options)

    monkeypatch.setattr(torch, name, record)
    layer = Dense(6, 4) if kind == "matmul" else Conv(2, 3, 3)
    before, switch.fp32_precision = switch.fp32_precision, "bf16"
    try:
        with torch.autocast("cpu"):
            y = layer(torch.rand(2, 6, 5) if kind == "matmul" else torch.rand(2, 2, 5, 5, 4))
        assert switch.fp32_precision == "bf16"
    finally:
        switch.fp32_precision = before
    assert y.dtype == torch.float32
    assert seen == ["ieee"]
