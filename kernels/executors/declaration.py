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
import sys
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from lapilli.kernels.numbers.fixed_point import is_power_of_two
from lapilli.kernels.numbers.language import tl
from lapilli.kernels.numbers.surrogate import surrogate_named
from torch import Tensor

from .dispatch import execute, is_time_last  # noqa: F401 (launch functions call execute)
from .layout import gradient_rows, neurons_a_parameter
from .memory import empty
from .operators import Operator, define_op, differentiable, is_absent

_OUTPUT = re.compile(r"\[([^\]]+)\]( int32)?( zeros)?(?: if (.+))?")
_DERIVED = {"unit": "1 / scale", "EXACT": "is_power_of_two(scale)",
            "SHAPE": "surrogate_named(surrogate).shape"}  # fmt: skip
_OF_WALKS = ("T", "C", "M", "U", "STAGES", "BLOCK")  # arguments that ``execute`` adds
_SCOPE = {
    "empty": empty, "is_power_of_two": is_power_of_two,
    "neurons_a_parameter": neurons_a_parameter, "surrogate_named": surrogate_named,
    "float32": torch.float32, "int32": torch.int32,
}  # fmt: skip


def empty_as(shape: tuple[int, ...], like: Tensor, time_last: bool) -> Tensor:
    """Return an uninitialised float32 tensor ``[N, T, C]``, which may lie time last."""
    if not time_last:
        return empty(shape, torch.float32, like)
    N, T, C = shape
    return empty((N, C, T), torch.float32, like).transpose(1, 2)


_SCOPE["empty_as"] = empty_as


def kernel_op(
    kernel: Any, *, samples: str, outputs: dict[str, str],
    values: dict[str, str] | None = None, where: dict[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Operator]:  # fmt: skip
    """Register an operator that runs a kernel; the function under it has a signature and no body.

    The kernel's tensors, numbers and flags (in small letters) are the operator's arguments and
    outputs of the same names. Some follow from these: ``per``, how many neurons share an entry of
    the parameters, ``per_<name>``, of one of them, ``unit``, ``EXACT`` and ``SHAPE``. With a last
    argument ``time_last``, False if not given, float32 outputs ``[N, T, C]`` lie as ``[N, C, T]``.

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
    where
        Names that the expressions use, each an expression of the arguments.

    Raises
    ------
    TypeError
        If the kernel takes what is neither an argument nor an output, or an expression names such.
    """

    def define(declared: Callable[..., Any]) -> Operator:
        each = {n: text for several, text in outputs.items() for n in several.split()}
        launch = _launch_function(
            declared, kernel, samples.split(), each, values or {}, where or {}
        )
        operator = define_op(launch, samples=samples)
        operator.outputs = list(each)
        operator.names.remove("time_last")  # declared by nobody, given by ``derivative`` alone
        operator.takes_time_last = True
        return operator

    return define


def _launch_function(
    declared: Callable[..., Any], kernel: Any, samples: list[str], outputs: dict[str, str],
    values: dict[str, str], where: dict[str, str],
) -> Callable[..., Any]:  # fmt: skip
    """Write the launch function of an operator."""
    name = declared.__name__
    given = inspect.signature(declared, eval_str=True).parameters
    tensors = {n: p.annotation is Tensor for n, p in given.items()
               if p.annotation in (Tensor, Tensor | None)}  # fmt: skip
    if not samples or not tensors.keys() >= set(samples):
        raise TypeError(
            f"{name}: samples are of {samples}; expected some of {[*tensors]}, its tensors"
        )
    parameters = {n: present for n, present in tensors.items() if n not in samples}
    scope = dict(_SCOPE)
    known = {*given, *outputs, *where, "N", "T", "C"}

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
        if short.startswith("per_") and short[4:] in own:
            return sharing({short[4:]: parameters[short[4:]]})
        place = short if short in known else short.lower()
        if place not in known or (argument != short and place not in (*tensors, *outputs)):
            raise TypeError(
                f"the kernel of {name} takes {argument}, which is neither an argument nor an "
                "output of it; call one so, or say in values what it is"
            )
        return place

    like = next((n for n in samples if tensors[n]), None)
    lines = [f"def {name}({', '.join(given)}, time_last=False):"]
    if like is None:
        like = "like"
        lines.append(f" like = {' '.join(f'{n} if {n} is not None else' for n in samples)} None")
    lines.append(f" N, T, C = {like}.shape")
    lines += [f" {n} = {expression(text)}" for n, text in where.items()]
    for output, text in outputs.items():
        if output in given:
            raise TypeError(f"{name}: an output and an argument are both called {output!r}")
        lines.append(f" {output} = {_allocation(name, text, like, expression)}")
    args, flag_values = (
        "".join(f"{source(a)}, " for a in names)
        for names in ([a for a in arguments if a not in flags], flags)
    )
    lines.append(f" here.execute(kernel, (N, T, C), ({args}), ({flag_values}))")
    lines.append(f" return {', '.join(outputs)}")
    text, file = "\n".join(lines), f"<{declared.__module__}.{name}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file  # for tracebacks
    # looked up at each call: kernels are counted and compiled by what takes the place of execute
    scope |= {"kernel": kernel, "here": sys.modules[__name__]}
    exec(compile(text, file, "exec"), scope)
    launch = scope[name]
    returned = Tensor if len(outputs) == 1 else tuple[(Tensor,) * len(outputs)]
    annotations = {n: p.annotation for n, p in given.items()}
    launch.__annotations__ = {**annotations, "time_last": bool, "return": returned}
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
    if len(sizes) not in (2, 3) or (sizes[0], sizes[-1]) != ("N", "C"):
        raise TypeError(
            f"{name}: an output is [{shape}]; a kernel that walks over time writes [N, T, C] or "
            "[N, C]: samples first, neurons last"
        )
    kind = "int32" if whole else "float32"
    if zeros or len(sizes) < 3:
        of_kind = ", dtype=int32" if whole else ""
        made = f"{like}.new_{'zeros' if zeros else 'empty'}(({expression(shape)}){of_kind})"
    else:
        same = f"{like}.shape" if sizes == ["N", "T", "C"] else f"({expression(shape)})"
        made = f"empty({same}, {kind}, {like})"
        if same.endswith(".shape") and not whole:
            made = f"empty_as({same}, {like}, time_last)"
    return f"{made} if {expression(condition)} else None" if condition else made


class Backward:
    """One call of ``derivative``'s function: what was kept, by name, as attributes."""

    __slots__ = ("_ctx", "_kept", "_plan")

    def __init__(self, plan: "_Plan", ctx: Any, kept: tuple[Any, ...]):
        self._plan, self._ctx, self._kept = plan, ctx, kept

    def __getattr__(self, name: str) -> Any:
        return self._kept[self._plan.places[name]]

    def wants(self, *names: str) -> bool:
        """Whether the gradient of one of the arguments is asked for."""
        wanted, places = self._ctx.needs_input_grad, self._plan.arguments
        for name in names:  # noqa: SIM110 (any() takes longer)
            if wanted[places[name]]:
                return True
        return False

    def run(self, **given: Any) -> Any:
        """Return the outputs of the backward operator; its arguments are ``given`` or kept."""
        plan = self._plan
        arrange = plan.arrangements.get(tuple(given)) or plan.arrange(tuple(given))
        args = arrange((*self._kept, *given.values()))
        outputs = plan.backward(*args, True) if self._ctx.time_last else plan.backward(*args)
        if type(outputs) is tuple:
            return [None if o is None or is_absent(o) else o for o in outputs]
        return outputs


class _Plan:
    """Where what a backward pass needs stands among what it is given."""

    def __init__(self, forward: Operator, backward: Operator, further: list[str]):
        outputs = {n: k for k, n in enumerate(forward.outputs)}
        self.backward = backward
        self.arguments = {n: k for k, n in enumerate(forward.names)}
        named = [n for n in backward.names if n[:2] == "g_" and n[2:] in outputs]
        of_gradients = named or backward.names[:1]
        self.series = [outputs[n[2:]] for n in named] or [0]  # outputs that have a gradient
        names = [n for n in backward.names if n not in of_gradients]
        names += [n for n in further if n not in names]
        self.kept_outputs = [outputs[n] for n in names if n in outputs]
        of_inputs = [n for n in names if n in forward.tensors]
        numbers = [n for n in names if n in self.arguments and n not in forward.tensors]
        of_samples = [n for n in forward.tensors if n in forward.of_samples]
        self.sequences = _taker([self.arguments[n] for n in of_samples])
        self.kept_inputs = _taker([self.arguments[n] for n in of_inputs])
        self.kept_numbers = _taker([self.arguments[n] for n in numbers])
        tensors = of_inputs + [n for n in names if n in outputs]
        self.places = {n: k for k, n in enumerate((*of_gradients, *tensors, *numbers))}
        self.arrangements: dict[tuple[str, ...], Callable[[Any], Any]] = {}

    def arrange(self, given: tuple[str, ...]) -> Callable[[Any], Any]:
        """Return what takes the arguments of the backward operator from kept and given values."""
        places = self.places | {n: len(self.places) + k for k, n in enumerate(given)}
        self.arrangements[given] = found = _taker([places[n] for n in self.backward.names])
        return found


def _taker(places: list[int]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that takes what stands at some places."""
    if len(places) > 1:
        return itemgetter(*places)  # quicker than a list
    return lambda values: tuple([values[k] for k in places])


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
    series, first, count = plan.series, plan.series[0], len(forward.names)
    keeps = eval(f"lambda {', '.join(forward.names)}: {keep_outputs}")
    always = keep_outputs == "True"
    places = range(len(forward.outputs))
    beside_first = _taker([k for k in places if k != first])
    beside_others = _taker([k for k in places if k not in series[1:]])
    alone = (None,) * (len(series) - 1)

    def save(ctx: Any, given: Any, output: Any) -> None:
        if type(output) is not tuple:
            output = (output,)
        ctx.of_first = not (alone and is_absent(output[first]))
        ctx.mark_non_differentiable(*(beside_first if ctx.of_first else beside_others)(output))
        ctx.set_materialize_grads(False)
        outputs = [output[k] for k in plan.kept_outputs]
        if outputs:
            made = always or keeps(*given)
            outputs = [o if made and not is_absent(o) else None for o in outputs]
        ctx.time_last = any(is_time_last(a) for a in plan.sequences(given) if a is not None)
        ctx.save_for_backward(*plan.kept_inputs(given), *outputs)
        ctx.numbers = plan.kept_numbers(given)

    def define(gradients: Callable[[Backward], dict[str, Any]]) -> None:
        def back(ctx: Any, *g_outputs: Tensor | None) -> Any:
            result: list[Tensor | None] = [None] * count
            if ctx.of_first:
                g = g_outputs[first]
                if g is None:
                    return tuple(result)
                found = (gradient_rows(g), *alone)
            else:
                some = [
                    g if g is None else gradient_rows(g)
                    for g in map(g_outputs.__getitem__, series[1:])
                ]
                one = next((g for g in some if g is not None), None)
                if one is None:
                    return tuple(result)
                found = (None, *[torch.zeros_like(one) if g is None else g for g in some])
            kept = (*found, *ctx.saved_tensors, *ctx.numbers)
            for name, g in gradients(Backward(plan, ctx, kept)).items():
                result[plan.arguments[name]] = g
            return tuple(result)

        differentiable(forward, back, save)

    return define
