"""Derivatives of declared operators: what backward keeps, and gradients by the names of arguments.

``derivative`` joins two operators of ``kernel_op`` (declaration.py), forward and backward. What of
the first the second takes by name is kept for it.
"""

import ast
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from .layout import gradient_rows
from .operators import Operator, differentiable, is_absent
from .order import is_time_last


class Backward:
    """One call of ``derivative``'s function: what was kept, by name, as attributes."""

    __slots__ = ("_ctx", "_kept", "_plan")

    def __init__(self, plan: "_Plan", ctx: Any, kept: tuple[Any, ...]):
        self._plan, self._ctx, self._kept = plan, ctx, kept

    def __getattr__(self, name: str) -> Any:
        try:
            return self._kept[self._plan.places[name]]
        except KeyError:
            raise AttributeError(
                f"backward of {self._plan.forward.__name__} keeps no {name!r}; it keeps "
                f"{', '.join(self._plan.places)}. Name it in keep of derivative, if it is an "
                "argument."
            ) from None

    def wants(self, *names: str) -> bool:
        """Whether the gradient of one of the arguments is asked for."""
        wanted, places = self._ctx.needs_input_grad, self._plan.arguments
        for name in names:
            if wanted[places[name] if name in places else self._plan.position(name)]:
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
        self.forward, self.backward = forward, backward
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
        name, names = self.backward.__name__, self.backward.names
        for n in given:
            if n not in names:
                raise TypeError(
                    f"run is given {n!r}, which {name} does not take; it takes {', '.join(names)}"
                )
        for n in names:
            if n not in places:
                raise TypeError(
                    f"{name} takes {n!r}, which is neither an argument nor an output of "
                    f"{self.forward.__name__}; give it to run: back.run({n}=...)"
                )
        self.arrangements[given] = found = _taker([places[n] for n in names])
        return found

    def position(self, name: str) -> int:
        """Return where an argument of the forward operator stands."""
        if name not in self.arguments:
            raise TypeError(
                f"{self.forward.__name__} has no argument {name!r} whose gradient could be wanted "
                f"or given; its tensors are {', '.join(self.forward.tensors)}"
            )
        return self.arguments[name]

    def refuse_left_out(self, found: Any, wanted: tuple[bool, ...]) -> None:
        """Raise unless ``found`` has, by name, all gradients that are wanted."""
        name = self.forward.__name__
        if not isinstance(found, dict):
            raise TypeError(
                f"the function under derivative of {name} returns {type(found).__name__}; expected "
                "a dict of gradients by the names of arguments"
            )
        for n in self.forward.tensors:
            if wanted[self.arguments[n]] and n not in found:
                raise TypeError(
                    f"the function under derivative of {name} returns gradients of "
                    f"{', '.join(map(str, found)) or 'nothing'}, and that of {n!r} is wanted. "
                    f"Return it too, or {n!r}: None if {name} has none, and give {n}.detach()."
                )


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
    for operator in (forward, backward):
        if not isinstance(operator, Operator) or not operator.outputs:
            raise TypeError(
                f"derivative joins two operators that kernel_op declared; got {operator!r}. "
                "Others have differentiable, of lapilli.kernels.toolkit."
            )
    names = (n.id for n in ast.walk(ast.parse(keep_outputs)) if isinstance(n, ast.Name))
    for what, n in (*(("keep", n) for n in keep.split()), *(("keep_outputs", n) for n in names)):
        if n not in forward.names:
            raise TypeError(
                f"{what} of the derivative of {forward.__name__} names {n!r}; expected some of its "
                f"arguments {', '.join(forward.names)}"
            )
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
            by_name = gradients(Backward(plan, ctx, kept))
            plan.refuse_left_out(by_name, ctx.needs_input_grad)
            for name, g in by_name.items():
                result[plan.position(name)] = g
            return tuple(result)

        differentiable(forward, back, save)

    return define
