"""Operators of one kernel each, declared: what they make, and what backward keeps of that.

A kernel says in its signature what it takes, in which order. An operator that calls its arguments
and outputs as the kernel does needs no body: ``kernel_op`` writes the launch function, once, when
the module is imported. ``derivative`` joins two such operators, forward and backward: what of the
first the second takes by name is kept for it, and gradients are given by the argument's name.
"""

import ast
import inspect
import linecache
import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from lapilli.kernels.numbers.fixed_point import is_power_of_two
from lapilli.kernels.numbers.language import tl
from lapilli.kernels.numbers.surrogate import surrogate_named
from torch import Tensor

from .dispatch import execute
from .layout import contiguous_rows, neurons_a_parameter
from .memory import empty
from .operators import Operator, define_op, differentiable, is_absent

_OUTPUT = re.compile(r"\[([^\]]+)\]( int32)?( zeros)?(?: if (.+))?")
_DERIVED = {"unit": "1 / scale", "EXACT": "is_power_of_two(scale)",
            "SHAPE": "surrogate_named(surrogate).shape"}  # fmt: skip
_OF_WALKS = ("T", "C", "M", "U", "STAGES", "BLOCK")  # arguments that ``execute`` adds
_SCOPE = {
    "empty": empty, "execute": execute, "is_power_of_two": is_power_of_two,
    "neurons_a_parameter": neurons_a_parameter, "surrogate_named": surrogate_named,
    "float32": torch.float32, "int32": torch.int32,
}  # fmt: skip


def kernel_op(
    kernel: Any, *, samples: str, outputs: dict[str, str], values: dict[str, str] | None = None
) -> Callable[[Callable[..., Any]], Operator]:
    """Register an operator that runs a kernel; the function under it has a signature and no body.

    The kernel's tensors, numbers and flags (in small letters) are the operator's arguments and
    outputs of the same names. Some follow from these: ``per``, how many neurons share an entry of
    the parameters, ``per_<name>``, of one of them, ``unit``, ``EXACT`` and ``SHAPE``.

    Parameters
    ----------
    kernel
        Triton kernel that walks over time.
    samples
        Names of the tensors whose first dimension is the samples'; the others are parameters.
    outputs
        Of each output, or of several, its shape, for ``N`` samples, ``T`` steps and ``C`` neurons,
        ``int32`` if it is that, ``zeros`` if the kernel adds to it, and when it is wanted:
        ``{"spikes": "[N, T, C]", "saved": "[N, T, C] int32 if save"}``.
    values
        Of what the kernel calls in another way, or computes with, an expression.

    Raises
    ------
    TypeError
        If the kernel takes what is neither an argument nor an output, or an expression names such.
    """

    def define(declared: Callable[..., Any]) -> Operator:
        each = {n: text for several, text in outputs.items() for n in several.split()}
        launch = _launch_function(declared, kernel, samples.split(), each, values or {})
        operator = define_op(launch, samples=samples)
        operator.outputs = list(each)
        return operator

    return define


def _launch_function(
    declared: Callable[..., Any], kernel: Any, samples: list[str], outputs: dict[str, str],
    values: dict[str, str],
) -> Callable[..., Any]:  # fmt: skip
    """Write the launch function of an operator."""
    name = declared.__name__
    given = inspect.signature(declared, eval_str=True).parameters
    tensors = {n: p.annotation is Tensor for n, p in given.items()
               if p.annotation in (Tensor, Tensor | None)}  # fmt: skip
    parameters = {n: present for n, present in tensors.items() if n not in samples}
    scope = dict(_SCOPE)
    known = {*given, *outputs, "N", "T", "C"}

    def expression(text: str) -> str:
        names = (node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name))
        for n in names:
            if n in known or n in scope:
                continue
            if n not in declared.__globals__:
                raise TypeError(
                    f"{name}: {text!r} names {n!r}, which is neither an argument nor an output of "
                    "it nor a name of its module"
                )
            scope[n] = declared.__globals__[n]
        return text

    def sharing(names: dict[str, bool]) -> str:
        if all(names.values()):
            return f"neurons_a_parameter(C, {', '.join(names)})"
        if len(names) == 1:
            (one,) = names
            return f"1 if {one} is None else neurons_a_parameter(C, {one})"
        return f"neurons_a_parameter(C, *[p for p in ({', '.join(names)}) if p is not None])"

    taken = inspect.signature(kernel.fn).parameters
    arguments = [p for p in taken if p not in _OF_WALKS]
    flags = [p for p in arguments if taken[p].annotation is tl.constexpr]
    own = [n for n in parameters if f"per_{n}" in arguments]

    def source(argument: str) -> str:
        short = argument.removesuffix("_ptr")
        if short in values:
            return expression(values[short])
        if short in _DERIVED:
            return expression(_DERIVED[short])
        if short == "per":
            return sharing({n: present for n, present in parameters.items() if n not in own})
        if short.removeprefix("per_") in own:
            return sharing({short.removeprefix("per_"): parameters[short.removeprefix("per_")]})
        place = short if short in known else short.lower()
        if place not in known or (argument != short and place not in (*tensors, *outputs)):
            raise TypeError(
                f"the kernel of {name} takes {argument}, which is neither an argument nor an "
                "output of it; call one so, or say in values what it is"
            )
        return place

    like = next((n for n in samples if tensors[n]), None)
    lines = [f"def {name}({', '.join(given)}):"]
    if like is None:
        like = "like"
        lines.append(f" like = {' '.join(f'{n} if {n} is not None else' for n in samples)} None")
    lines.append(f" N, T, C = {like}.shape")
    for output, text in outputs.items():
        if output in given:
            raise TypeError(f"{name}: an output and an argument are both called {output!r}")
        lines.append(f" {output} = {_allocation(name, text, like, expression)}")
    args, flag_values = (
        "".join(f"{source(a)}, " for a in names)
        for names in ([a for a in arguments if a not in flags], flags)
    )
    lines.append(f" execute(kernel, (N, T, C), ({args}), ({flag_values}))")
    lines.append(f" return {', '.join(outputs)}")
    text, file = "\n".join(lines), f"<{declared.__module__}.{name}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file  # for tracebacks
    scope["kernel"] = kernel
    exec(compile(text, file, "exec"), scope)
    launch = scope[name]
    returned = Tensor if len(outputs) == 1 else tuple[(Tensor,) * len(outputs)]
    annotations = {n: p.annotation for n, p in given.items()}
    launch.__annotations__ = {**annotations, "return": returned}
    launch.__module__, launch.__doc__ = declared.__module__, declared.__doc__
    return launch


def _allocation(name: str, text: str, like: str, expression: Callable[[str], str]) -> str:
    found = _OUTPUT.fullmatch(text)
    if found is None:
        raise TypeError(
            f"{name}: an output is {text!r}; expected a shape as '[N, T, C]', then 'int32', "
            "'zeros' and 'if ...' where they are so"
        )
    shape, whole, zeros, condition = found.groups()
    sizes = shape.split(", ")
    kind = "int32" if whole else "float32"
    if zeros or len(sizes) < 3:
        of_kind = ", dtype=int32" if whole else ""
        made = f"{like}.new_{'zeros' if zeros else 'empty'}(({expression(shape)}){of_kind})"
    else:
        same = f"{like}.shape" if sizes == ["N", "T", "C"] else f"({expression(shape)})"
        made = f"empty({same}, {kind}, {like})"
    return f"{made} if {expression(condition)} else None" if condition else made


class Backward:
    """One call of ``derivative``'s function: what was kept, by name, as attributes."""

    __slots__ = ("_ctx", "_kept", "_plan")

    def __init__(self, plan: "_Plan", ctx: Any, gradients: list[Tensor | None]):
        self._plan, self._ctx = plan, ctx
        self._kept = (*gradients, *ctx.saved_tensors, *ctx.numbers)

    def __getattr__(self, name: str) -> Any:
        return self._kept[self._plan.places[name]]

    def wants(self, *names: str) -> bool:
        """Whether the gradient of one of the arguments is asked for."""
        wanted, places = self._ctx.needs_input_grad, self._plan.arguments
        return True in [wanted[places[n]] for n in names]

    def run(self, **given: Any) -> Any:
        """Return the outputs of the backward operator; its arguments are ``given`` or kept."""
        plan = self._plan
        arrange = plan.arrangements.get(tuple(given)) or plan.arrange(tuple(given))
        outputs = plan.backward(*arrange((*self._kept, *given.values())))
        if type(outputs) is tuple:
            return [None if o is None or is_absent(o) else o for o in outputs]
        return outputs


class _Plan:
    """Where what a backward pass needs stands among what it is given."""

    def __init__(self, forward: Operator, backward: Operator, kept: list[str]):
        self.backward = backward
        self.arguments = {n: k for k, n in enumerate(forward.names)}
        of_gradients = [n for n in backward.names if n.removeprefix("g_") in forward.outputs]
        of_gradients = [n for n in of_gradients if n.startswith("g_")] or backward.names[:1]
        self.series = [  # of the outputs that have a gradient, their places
            0 if n == "g" else forward.outputs.index(n.removeprefix("g_")) for n in of_gradients
        ]
        names = [n for n in backward.names if n not in of_gradients]
        names += [n for n in kept if n not in names]
        tensors = [n for n in names if n in forward.outputs or n in forward.tensors]
        numbers = [n for n in names if n in self.arguments and n not in tensors]
        self.inputs = [self.arguments[n] for n in tensors if n in self.arguments]
        self.outputs = [forward.outputs.index(n) for n in tensors if n in forward.outputs]
        tensors.sort(key=lambda n: n in forward.outputs)
        self.numbers = [self.arguments[n] for n in numbers]
        self.places = {n: k for k, n in enumerate((*of_gradients, *tensors, *numbers))}
        self.arrangements: dict[tuple[str, ...], Callable[[Any], Any]] = {}

    def arrange(self, given: tuple[str, ...]) -> Callable[[Any], Any]:
        """Return what takes the arguments of the backward operator from kept and given values."""
        places = self.places | {n: len(self.places) + k for k, n in enumerate(given)}
        self.arrangements[given] = found = itemgetter(*[places[n] for n in self.backward.names])
        return found


def derivative(
    forward: Operator, backward: Operator, *, keep: str = "", keep_outputs: str = "True"
) -> Callable[[Callable[[Backward], dict[str, Any]]], None]:
    """Give an operator its derivative: the function below returns gradients by argument.

    It is handed a ``Backward``. The backward operator's arguments are, by name, arguments and
    outputs of the forward operator and, as ``g_<output>``, gradients (``g``: of the first); what
    else it takes is given to ``run``. An output that was not wanted is None. Of the outputs that
    have a gradient the first is differentiated where it is wanted, else the others, of which a
    gradient that nobody gives is zero; all others are not differentiable.

    Parameters
    ----------
    forward, backward
        Operators of ``kernel_op``.
    keep
        Further arguments of the forward operator that the function reads. Parameters and
        ``decay_sign`` are kept anyway.
    keep_outputs
        Expression of arguments: whether outputs are kept.
    """
    kept = [n for n in forward.names if n in keep.split() or n == "decay_sign"
            or (n in forward.tensors and n not in forward.of_samples)]  # fmt: skip
    plan = _Plan(forward, backward, kept)
    series, inputs, outputs, numbers = plan.series, plan.inputs, plan.outputs, plan.numbers
    keeps = eval(f"lambda {', '.join(forward.names)}: {keep_outputs}")
    always = keep_outputs == "True"
    count = len(forward.names)

    def save(ctx: Any, given: Any, output: Any) -> None:
        if type(output) is not tuple:
            output = (output,)
        live = series[:1] if len(series) == 1 or not is_absent(output[series[0]]) else series[1:]
        ctx.mark_non_differentiable(*[o for k, o in enumerate(output) if k not in live])
        ctx.set_materialize_grads(False)
        made = always or keeps(*given)
        ctx.save_for_backward(
            *[given[k] for k in inputs],
            *[output[k] if made and not is_absent(output[k]) else None for k in outputs],
        )
        ctx.numbers = [given[k] for k in numbers]
        ctx.live = live

    def define(gradients: Callable[[Backward], dict[str, Any]]) -> None:
        def back(ctx: Any, *g_outputs: Tensor | None) -> Any:
            found: list[Any] = [g_outputs[k] for k in series]
            found = [g if g is None else contiguous_rows(g) for g in found]
            result: list[Tensor | None] = [None] * count
            one = next((g for g in found if g is not None), None)
            if one is None:
                return tuple(result)
            if len(ctx.live) > 1:
                found = [
                    torch.zeros_like(one) if g is None and k in ctx.live else g
                    for k, g in zip(series, found, strict=True)
                ]
            for name, g in gradients(Backward(plan, ctx, found)).items():
                result[plan.arguments[name]] = g
            return tuple(result)

        differentiable(forward, back, save)

    return define
