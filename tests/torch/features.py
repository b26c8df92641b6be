"""What torch does with a module, as a table: each feature is tried on each cell.

A feature's ``check`` runs a cell with and without it, and compares outputs and gradients bit for
bit. Where a cell cannot work, ``refused`` says why, and the error that the user gets is matched.
docs/pytorch.md prints the table.
"""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass

import torch
from cells import KINDS, events, make, same
from tolerances import FLOAT32
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from lapilli import reset_state

_TRAINED = {"requires_grad": True}
_OPTIONS = {
    "Dense": {"weight_norm": True, "delay": True, "count_log": True},
    "Conv": {"weight_norm": True, "delay": True},
    "ConvT": {"delay": True},
    "Recurrent": {"weight_norm": True, "delay": True},
    "Pool": {"weight_norm": True},
}
LINEAR = ("Flatten", "Average", "TimeDecimation", "Output")


@dataclass(frozen=True)
class Feature:
    """A feature of torch: its name in the table, how it is tried, where it is refused and why."""

    name: str
    check: Callable[[str, str], None]
    refuses: Callable[[str, str], bool] = lambda family, kind: False
    error: str = ""  # that the user gets, a regular expression
    reason: str = ""  # in the table


def trained(family, kind, persistent=False, **options):
    """Return a block with everything that can be learned, already called once."""
    neuron = _TRAINED | ({"persistent_state": True} if persistent else {})
    block = make(family, kind, neuron, **_OPTIONS.get(kind, {}) | options)
    block(events(kind))
    reset_state(block)
    return block


def outputs(result):
    """Return the first output of a block, and the whole of what else it returns."""
    return result if isinstance(result, tuple) else (result, None)


def gradients(result, block, x):
    """Return the gradients of the input and the parameters for one that is drawn."""
    y, _ = outputs(result)
    torch.manual_seed(3)
    leaves = [p for p in (x, *block.parameters()) if p.requires_grad]
    for leaf in leaves:
        leaf.grad = None
    y.backward(torch.randn(y.shape))
    return [leaf.grad for leaf in leaves]


def compared(block, call, x, check=same):
    """Compare outputs and gradients of ``call`` with those of the block as it is."""
    x = x.requires_grad_()
    want = block(x)
    wanted = gradients(want, block, x)
    reset_state(block)
    got = call(x)
    same(outputs(got), outputs(want))
    for found, expected in zip(gradients(got, block, x), wanted, strict=True):
        check(found, expected)


def _compiled(backend, dynamic=None):
    def check(family, kind):
        torch._dynamo.reset()
        block = trained(family, kind)
        compiled = torch.compile(block, fullgraph=True, backend=backend, dynamic=dynamic)
        compared(block, compiled, events(kind))
        compared(block, compiled, events(kind, 3, 40))

    return check


def _compiled_with_state(family, kind):
    torch._dynamo.reset()
    block, twin = (trained(family, kind, persistent=True) for _ in range(2))
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    for part in events(kind).split((8, 4, 12), -1):
        same(outputs(compiled(part)), outputs(twin(part)))


def _compiled_and_called_again(family, kind):
    """Call twice before a backward pass: as two graphs, in one, and with a look in between."""
    block = trained(family, kind)
    x, other = events(kind).requires_grad_(), events(kind, 3).requires_grad_()
    leaves = [p for p in (x, other, *block.parameters()) if p.requires_grad]

    def call(x):
        return outputs(block(x))[0]

    def both(x, other):
        return call(x).sum() + 2 * call(other).sum()

    def apart(x, other):
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        first = compiled(x).sum()
        with torch.no_grad():
            compiled(other)
        return first + 2 * compiled(other).sum()

    want = torch.autograd.grad(both(x, other), leaves)
    for calls in (torch.compile(both, fullgraph=True, backend="aot_eager"), apart):
        torch._dynamo.reset()
        found = torch.autograd.grad(calls(x, other), leaves)
        for got, expected in zip(found, want, strict=True):
            close(got, expected)


def _checkpointed_and_compiled(family, kind):
    torch._dynamo.reset()
    block = trained(family, kind)
    again = lambda x: checkpoint(block, x, use_reentrant=False)  # noqa: E731
    compared(block, torch.compile(again, fullgraph=True, backend="aot_eager"), events(kind))


def _checkpointed(**options):
    def check(family, kind):
        block = trained(family, kind)
        compared(block, lambda x: checkpoint(block, x, **options), events(kind))

    return check


def _keep_synapses(ctx, op, *args, **kwargs):
    wanted = op in (torch.ops.lapilli.linear_fwd.bare, torch.ops.lapilli.convolution_fwd.bare)
    return CheckpointPolicy.MUST_SAVE if wanted else CheckpointPolicy.PREFER_RECOMPUTE


def _selective():
    return create_selective_checkpoint_contexts(_keep_synapses)


def _in_half_precision(family, kind):
    block, x = trained(family, kind), events(kind).requires_grad_()
    want = block(x)
    wanted = gradients(want, block, x)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            got = block(x)
            found = gradients(got, block, x)  # which torch advises against
        same(outputs(got), outputs(want))
        same(found, wanted)


def _on_cpu(family, kind):
    block = trained(family, kind)

    def call(x):
        with torch.autograd.graph.save_on_cpu():
            return block(x)

    compared(block, call, events(kind))


def _exported(family, kind):
    block = trained(family, kind)
    x = events(kind)
    sizes = {0: torch.export.Dim("N", min=2, max=64), x.ndim - 1: torch.export.Dim("T", min=5)}
    program = torch.export.export(block, (x,), dynamic_shapes=(sizes,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file)
    for given in (x, events(kind, 5, 33)):
        want = outputs(block(given))
        for each in (program, again):
            same(outputs(each.module()(given)), want)


def _traced(family, kind):
    block = trained(family, kind)
    x = events(kind, 7)  # as many as nothing else, or torch takes both for one size
    for options in ({}, {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True}):
        graph = make_fx(block, **options)(x)
        for given in (x, *([events(kind, 5, 33)] if options else [])):
            same(outputs(graph(given)), outputs(block(given)))


def _loss(block, kind):
    torch.manual_seed(3)
    weights = torch.randn(outputs(block(events(kind, 1)))[0].shape)

    def loss(parameters, x):
        result = torch.func.functional_call(block, parameters, (x.unsqueeze(0),))
        return (outputs(result)[0] * weights).sum()

    return loss


def close(got, want):
    assert_close(got, want, rtol=0, atol=FLOAT32["rtol"] * want.abs().max().item())


def _traced_by_jit(family, kind):
    block = trained(family, kind)
    for with_gradients in (True, False):
        with torch.set_grad_enabled(with_gradients):
            program = torch.jit.trace(block, events(kind))
        compared(block, program, events(kind))


def _per_sample(family, kind):
    block = trained(family, kind)
    x, loss = events(kind, 3), _loss(block, kind)
    learned = {n: p for n, p in block.named_parameters() if p.requires_grad}
    gradient = torch.func.grad(loss, argnums=(0, 1))
    each, g_x = torch.func.vmap(gradient, in_dims=(None, 0))(learned, x)
    for k, sample in enumerate(x):
        one, g_sample = gradient(learned, sample)
        leaf = sample.clone().requires_grad_()
        value = loss(learned, leaf)
        wanted = (*learned.values(), leaf)
        want = torch.autograd.grad(value, wanted) if value.requires_grad else ()
        same((*one.values(), g_sample), want)
        # products of one sample and of three may add up in another order
        for name in learned:
            close(each[name][k], one[name])
        close(g_x[k], g_sample)


def _jacobian(family, kind):
    block = trained(family, kind)
    x = events(kind, 1, 6)

    def first(x):
        return outputs(block(x))[0].flatten()[:4]

    jacobian = torch.func.jacrev(first)(x)
    leaf = x.clone().requires_grad_()
    for row, value in zip(jacobian, first(leaf), strict=True):
        (want,) = torch.autograd.grad(value, leaf, retain_graph=True)
        close(row, want)


def _forward_mode(family, kind):
    block = trained(family, kind)
    x = events(kind)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(outputs(block(dual))[0]).tangent
    same(tangent, outputs(block(torch.ones_like(x)))[0])


def _second_derivatives(family, kind):
    block = trained(family, kind)
    x = events(kind).requires_grad_()
    (first,) = torch.autograd.grad(outputs(block(x))[0].square().sum() / 2, x, create_graph=True)
    torch.manual_seed(4)
    direction = torch.randn(x.shape)
    (got,) = torch.autograd.grad(first, x, direction)
    # of half the square of a linear map: the gradient once more
    other = direction.clone().requires_grad_()
    (want,) = torch.autograd.grad(outputs(block(other))[0].square().sum() / 2, other)
    close(got, want)


def _without_memory(family, kind):
    block = trained(family, kind)
    x = events(kind)
    y, _ = outputs(block(x))
    on_meta, _ = outputs(copy.deepcopy(block).to("meta")(x.to("meta")))
    fake = torch._subclasses.FakeTensorMode()
    with fake:
        faked, _ = outputs(make(family, kind, _TRAINED)(fake.from_tensor(x)))
    for found in (on_meta, faked):
        assert found.shape == y.shape
        assert found.stride() == y.stride()


def _sparse(family, kind):
    trained(family, kind)(events(kind).to_sparse())


_NEURON = "the gradient of a spike is a surrogate, which has no derivative of its own"
_STATE = "an exported program has no attributes that change"
_always = lambda family, kind: True  # noqa: E731

FEATURES = [
    Feature("compile", _compiled("aot_eager")),
    Feature("compile, dynamic", _compiled("aot_eager", dynamic=True)),
    Feature("compile, state", _compiled_with_state),
    Feature("compile, two calls", _compiled_and_called_again),
    Feature("compile, checkpoint", _checkpointed_and_compiled),
    Feature("checkpoint", _checkpointed(use_reentrant=False)),
    Feature("checkpoint, selective", _checkpointed(use_reentrant=False, context_fn=_selective)),
    Feature("checkpoint, reentrant", _checkpointed(use_reentrant=True)),
    Feature("save_on_cpu", _on_cpu),
    Feature("autocast", _in_half_precision),
    Feature("export", _exported),
    Feature("make_fx", _traced),
    Feature("jit.trace", _traced_by_jit),
    Feature("func.grad, vmap", _per_sample),
    Feature("func.jacrev", _jacobian),
    Feature(
        "forward mode", _forward_mode, lambda family, kind: kind != "Flatten",
        "no derivative in forward mode", "use reverse mode: vjp, grad, jacrev",
    ),
    Feature(
        "second derivatives", _second_derivatives, lambda family, kind: kind not in LINEAR,
        "cannot be differentiated", _NEURON,
    ),
    Feature("meta, FakeTensor", _without_memory),
    Feature("sparse input", _sparse, _always, "dense", "blocks take dense tensors: x.to_dense()"),
]  # fmt: skip


def table():
    """Return the lines of the table: a row for each feature, a column for each kind of block."""
    lines = [
        "| " + " | ".join(["feature", *KINDS, "refused, because"]) + " |",
        "| " + " | ".join(["---"] * (len(KINDS) + 2)) + " |",
    ]
    for feature in FEATURES:
        cells = []
        for kind, cell in KINDS.items():
            refused = {feature.refuses(family, kind) for family in cell.families}
            assert len(refused) == 1, "families of one kind are alike"
            cells.append("-" if refused == {True} else "x")
        lines.append("| " + " | ".join([feature.name, *cells, feature.reason]) + " |")
    return lines
