"""A golden case as a module and its calls.

``run`` builds and calls the module of a case, ``compare`` holds the results against lava-dl's.
"""

import operator
from typing import Any

import torch
from golden_cases import CPU, Case, decode, find, is_leaky_decay
from known import present
from lapilli.kernels.recurrences.decays import decay_gradient, set_decay_gradient
from torch import Tensor, nn


def construct(target: str, kwargs: dict[str, Any], arrays: dict[str, Tensor] | None = None) -> Any:
    """Build the module of a target from encoded constructor arguments."""
    return present(find(target))(**decode(kwargs, arrays or {}))


class Network(nn.Module):
    """The blocks of an export case, under the names that its state dict has."""

    def __init__(self, blocks: list[nn.Module]):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def build(case: Case, device: torch.device = CPU, *, warm: bool = True) -> Any:
    """Build the module of a case and set it up; without ``warm``, skip the warm-up call."""
    if case.kind == "export":
        module = Network([construct(b["target"], b["kwargs"]) for b in case.blocks])
    else:
        module = construct(case.target, case.arguments, case.arrays)
    module.to(device)
    for step in case.setup:
        if step == "warmup_zeros":
            if warm:
                with torch.no_grad():
                    module(_one([torch.zeros_like(x) for x in case.input(0, device)]))
        elif step == "load_state":
            state = {k.removeprefix("state/"): case.arrays[k] for k in case.of_role("parameter")}
            module.load_state_dict(state, strict=True)
        elif step != "refresh_weight_norm":  # lapilli normalises a weight whenever it uses it
            getattr(module, step["call"])(case.arrays[step["array"]].to(device))
    return module.train(case.mode == "train")


def _one(tensors: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """A pair for complex neurons, else a tensor."""
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def _call(case: Case, module: Any, x: Any, fused: bool) -> dict[str, Tensor | None]:
    """Call a module once and return its outputs by name."""
    if case.method == "forward" or fused:
        y = module(x)
        if case.kind == "neuron":
            return {"spike": y}
        return {"y": y[0], "count": y[1]} if isinstance(y, tuple) else {"y": y}
    states = dict(zip(case.outputs, module.dynamics(x), strict=True))
    if case.method == "dynamics":
        return states
    return states | {"spike": module.spike(*(states[name] for name in case.spike_args))}


def _watch(case: Case, module: Any, results: dict[str, Any], i: int) -> list[Any]:
    """Record the intermediate values of call ``i``, which tell where an error begins."""

    def watch(submodule: nn.Module, *names: str) -> Any:
        def hook(_module: Any, _args: Any, y: Any) -> None:
            values = y if isinstance(y, tuple) else (y,)
            results.update(zip((f"c{i}/mid/{n}" for n in names), values, strict=True))

        return submodule.register_forward_hook(hook)

    if case.kind == "export":
        return [watch(block, f"block{k}") for k, block in enumerate(module.blocks)]
    wanted = [key.rsplit("/", 1)[1] for key in case.of_role("intermediate") if f"c{i}/" in key]
    return [watch(module.synapse, *wanted)] if wanted and hasattr(module, "synapse") else []


def run(
    case: Case,
    device: torch.device = CPU,
    *,
    fused: bool = False,
    sign: str = "lava-dl",
    warm: bool = True,
) -> tuple[Any, dict[str, Any]]:
    """Build and call the module of a case; return it and the results by their keys.

    ``fused`` calls ``forward()`` where the case calls ``dynamics()`` and ``spike()``; ``sign`` is
    the mode of ``set_decay_gradient``.
    """
    module = build(case, device, warm=warm)
    results: dict[str, Any] = {}
    before = decay_gradient()
    set_decay_gradient(sign)
    try:
        with torch.set_grad_enabled(not case.no_grad):
            for i in range(case.calls):
                inputs = [x.requires_grad_(not case.no_grad) for x in case.input(i, device)]
                hooks = _watch(case, module, results, i)
                outputs = _call(case, module, _one(inputs), fused)
                for hook in hooks:
                    hook.remove()
                results |= {f"c{i}/out/{name}": y for name, y in outputs.items()}
                results |= {f"c{i}/in/{n}": x for n, x in zip(case.inputs, inputs, strict=True)}
        seeds = list(case.of_role("grad_seed"))
        if seeds:
            outputs = [results[key.replace("/grad_out/", "/out/")] for key in seeds]
            torch.autograd.backward(outputs, [case.arrays[key].to(device) for key in seeds])
    finally:
        set_decay_gradient(before)
    for key in [*results]:
        if "/in/" in key:
            results[key.replace("/in/", "/grad_in/")] = results.pop(key).grad
    learned = {name: p.grad for name, p in module.named_parameters()}
    for name in [n for n in learned if n.endswith("_update")]:  # of a decay, as its own gradient
        update, decay = learned.pop(name), learned[name.removesuffix("_update")]
        if update is not None:  # the functions of a neuron know the decay alone
            torch.testing.assert_close(update, decay, rtol=0, atol=0)
    results |= {f"grad/{name}": gradient for name, gradient in learned.items()}
    return module, results


def compare(
    case: Case, module: nn.Module, results: dict[str, Any], *, fused: bool = False, sign: str
) -> None:
    """Hold the results of ``run``, called with the same arguments, against lava-dl's."""
    deviation = case.deviation
    roles = ("intermediate", "output", "after", "grad_input", "grad_parameter")
    for key in sorted(case.of_role(*roles), key=lambda k: roles.index(case.entries[k]["role"])):
        role = case.entries[key]["role"]
        name = key.rsplit("/", 1)[1]
        if fused and role == "output" and name in case.outputs:
            continue
        if role == "intermediate" and key not in results:
            continue  # a fused block computes it inside a kernel
        want = case.arrays[key]
        if deviation.expected is not None:
            want = deviation.expected(case, key, want)
        if role == "grad_parameter" and is_leaky_decay(key) and sign == "descent":
            want = -want
        got = operator.attrgetter(name)(module) if role == "after" else results[key]
        assert got is not None, f"{case.name}: {key} is None"
        tolerance: Any = deviation.tolerances.get(key, case.entries[key]["tolerance"])
        if tolerance == "exact":
            tolerance = {"rtol": 0.0, "atol": 0.0}
        torch.testing.assert_close(
            got.detach().cpu(), want, **tolerance,
            msg=lambda m, key=key: f"{case.name}: {key} differs from lava-dl's. {m}",
        )  # fmt: skip
    # zeros, which DDP asks for, are the same to an optimizer
    learning = {
        k for k, g in results.items() if k.startswith("grad/") and g is not None and g.any()
    }
    for key in case.grad_none:
        assert key not in learning, f"{case.name}: {key} has a gradient; lava-dl's is None"
    learnt = set(case.of_role("grad_parameter"))
    if any(case.of_role("grad_seed")):
        extra = learning - learnt
        assert not extra, f"{case.name}: {sorted(extra)} have gradients, in lava-dl they have none"
