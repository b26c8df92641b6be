"""Operators of one kernel each, declared: what they make.

A kernel says in its signature what it takes, in which order. An operator that calls its arguments
and outputs as the kernel does needs no body: ``kernel_op`` writes the launch function, once, when
the module is imported. derivation.py joins two such operators, forward and backward.
"""

import ast
import inspect
import linecache
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from lapilli.kernels.numbers.fixed_point import is_power_of_two
from lapilli.kernels.numbers.language import tl
from lapilli.kernels.numbers.surrogate import surrogate_named
from torch import Tensor

from .dispatch import execute  # noqa: F401 (launch functions call it)
from .given import check_call, without_steps  # noqa: F401 (as these)
from .layout import neurons_a_parameter
from .memory import empty
from .operators import Operator, define_op
from .order import in_either_order

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


_SCOPE |= {"empty_as": empty_as, "in_either_order": in_either_order}


def kernel_op(
    kernel: Any, *, samples: str, outputs: dict[str, str],
    values: dict[str, str] | None = None, where: dict[str, str] | None = None,
    at_rest: dict[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Operator]:  # fmt: skip
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
    where
        Names that the expressions use, each an expression of the arguments.
    at_rest
        Of states after the last step, as ``threshold1``, that are not 0 at rest, an expression.
        Where there are no steps, such a state is the one before, ``threshold0``, or at rest.

    Raises
    ------
    TypeError
        If the kernel takes what is neither an argument nor an output, if an expression names such,
        or if there is an output or an expression that nothing uses. An operator from outside of
        lapilli raises at a call with an argument of another type, dtype or device.
    ValueError
        At such a call for a tensor of another shape.
    """
    if not callable(getattr(kernel, "fn", None)):
        raise TypeError(
            f"the kernel is {kernel!r}; expected a function decorated with jit of "
            "lapilli.kernels.toolkit"
        )
    for name, given, kind in (
        ("samples", samples, str), ("outputs", outputs, dict), ("values", values or {}, dict),
        ("where", where or {}, dict), ("at_rest", at_rest or {}, dict),
    ):  # fmt: skip
        if not isinstance(given, kind):
            raise TypeError(
                f"{name} of the operator of {kernel.fn.__name__} is {given!r}; expected a "
                f"{kind.__name__}, as in the docstring of kernel_op"
            )

    def define(declared: Callable[..., Any]) -> Operator:
        each = {n: text for several, text in outputs.items() for n in several.split()}
        launch = _launch_function(
            declared, kernel, samples.split(), each, values or {}, where or {}, at_rest or {}
        )
        operator = define_op(launch, samples=samples)
        operator.outputs = list(each)
        operator.names.remove("time_last")  # declared by nobody, given by ``derivative`` alone
        operator.takes_time_last = True
        return operator

    return define


def _launch_function(
    declared: Callable[..., Any], kernel: Any, samples: list[str], outputs: dict[str, str],
    values: dict[str, str], where: dict[str, str], at_rest: dict[str, str],
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
    used: set[str] = set()  # of all that is declared

    def expression(text: str) -> str:
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, TypeError) as problem:
            raise TypeError(f"{name}: {text!r} is no expression: {problem}") from None
        for n in (node.id for node in ast.walk(tree) if isinstance(node, ast.Name)):
            if n in known or n in scope:
                used.add(n)
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
            used.add(short)
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
        used.add(place)
        return place

    like = next((n for n in samples if tensors[n]), None)
    lines = [f"def {name}({', '.join(given)}, time_last=False):"]
    if like is None:
        like = "like"
        lines.append(f" like = {' '.join(f'{n} if {n} is not None else' for n in samples)} None")
    if not declared.__module__.startswith("lapilli."):  # whose functions make what they hand on
        shown = ", ".join(f"{n!r}: {n}" for n in given)
        lines.append(f" here.check_call({name!r}, kinds, samples, {like}, {{{shown}}})")
        lines += [f" {n} = in_either_order({n})" for n in tensors]
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
    lines.append(f" if here.execute(kernel, (N, T, C), ({args}), ({flag_values})):")
    for output in outputs:
        before = f"{output[:-1]}0" if output.endswith("1") and f"{output[:-1]}0" in given else None
        rest = expression(at_rest[output]) if output in at_rest else "0"
        lines.append(f"  here.without_steps({output}, {before}, {rest})")
    lines.append(f" return {', '.join(outputs)}")
    for kind, names in (
        ("values", values.keys() - used), ("where", where.keys() - used),
        ("outputs", outputs.keys() - used), ("at_rest", at_rest.keys() - outputs),
    ):  # fmt: skip
        for n in sorted(names):
            raise TypeError(
                f"{name}: {kind} names {n!r}, which nothing uses. The kernel takes "
                f"{', '.join(a.removesuffix('_ptr') for a in arguments)}; the outputs are "
                f"{', '.join(outputs)}. Correct the name, or leave it out."
            )
    text, file = "\n".join(lines), f"<{declared.__module__}.{name}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file  # for tracebacks
    # looked up at each call: kernels are counted and compiled by what takes the place of execute
    scope |= {"kernel": kernel, "here": sys.modules[__name__], "samples": samples}
    scope["kinds"] = {n: p.annotation for n, p in given.items()}
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
