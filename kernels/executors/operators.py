"""Operators of ``torch.library``: how a launch becomes one, and when a call may go past torch.

torch's dispatcher takes longer than a single step of a small layer. It is needed to trace, to
transform, to profile, and for tensors that are not torch's own; ``is_observed`` tells.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack, unwrap_if_dead
from torch.autograd import forward_ad

from .dispatch import OWN
from .order import is_time_last

_library = torch.library.Library("lapilli", "DEF")
OPERATORS: dict[str, "Operator"] = {}  # all that are registered, by name
_NOTHING = torch.empty(0)  # what stands for an absent output
BEFORE_TRACES: list[Callable[[], None]] = []  # called whenever an operator is traced
if hasattr(torch.compiler.config, "cache_key_tag"):
    # graphs that torch keeps on disk call the operators of one version, and hold its derivatives
    torch.compiler.config.cache_key_tag += f"lapilli {sys.modules['lapilli'].__version__}"
# compilers pass arguments with the strides that they had: rows are read in order, without a copy
_STRIDES = getattr(torch.Tag, "needs_exact_strides", torch.Tag.needs_fixed_stride_order)


class Operator:
    """A registered operator, called past torch's dispatcher where nobody but the kernel listens."""

    def __init__(
        self, launch: Callable[..., Any], op: Any, bare: Any, schema: str, samples: str,
        any_layout: str,
    ):  # fmt: skip
        self.launch = launch
        self.schema = schema  # as torch reads it, without the name
        self.op = op
        self.bare = bare  # the same below autograd: what stands in a compiled graph
        self.recorded: Any = None  # torch.autograd.Function, where there is a derivative
        self.record: Any = None  # its ``apply`` without a look at what transforms have left
        self.__name__ = launch.__name__
        self.__doc__ = launch.__doc__
        parameters = list(inspect.signature(launch, eval_str=True).parameters.values())
        self.names = [p.name for p in parameters]
        self.outputs: list[str] = []  # their names, where they have some (declaration.py)
        self.takes_time_last = False  # a loop made from a kernel turns it tile by tile
        self.of_samples = samples.split()
        self._floats = [k for k, p in enumerate(parameters) if p.annotation is float]
        self._samples = [n in self.of_samples for n in self.names]
        self._tensors = [
            k for k, p in enumerate(parameters) if p.annotation in (Tensor, Tensor | None)
        ]
        self.tensors = [self.names[k] for k in self._tensors]
        self.in_order = [  # positions of the tensors that come contiguous
            k for k in self._tensors if parameters[k].name not in any_layout.split()
        ]
        self._save: Callable[..., None] = lambda ctx, inputs, output: None
        self._backward: Callable[..., Any] = self._has_no_derivative
        self.transformed = self._function(
            "transformed_",
            forward=lambda *args: self.op(*args),
            setup_context=lambda ctx, inputs, output: self._save(ctx, inputs, output),
            backward=lambda ctx, *gradients: self._backward(ctx, *gradients),
            jvp=self._has_no_tangent,
            vmap=self.over_batch,
        )
        self.traced = self._function(
            "traced_",
            forward=self._forward_of(self._below_autograd),
            backward=lambda ctx, *gradients: self._backward(ctx, *gradients),
        )

    def __call__(self, *args: Any) -> Any:
        """Call the operator, or its launch function."""
        if len(args) not in (len(self.names), len(self.names) + self.takes_time_last):
            raise TypeError(
                f"{self.__name__} takes {len(self.names)} arguments, {', '.join(self.names)}; got "
                f"{len(args)}"
            )
        recording = False
        values = list(args)
        for k in self._tensors:  # written out: this comes before every launch
            a = values[k]
            if a is not None:
                if type(a) not in OWN:
                    return self._observed(args)
                recording = recording or a.requires_grad
        recording = recording and torch.is_grad_enabled()
        if is_observed(()) or (recording and not self.recorded):
            return self._observed(args)
        for k in self._floats:  # as the dispatcher does: kernels are compiled by type
            values[k] = float(values[k])
        if not recording:
            return self.launch(*values)
        for k in self._tensors:
            if values[k] is not None:
                values[k] = unwrap_if_dead(values[k])
        return self.record(*values)

    def _function(self, kind: str = "", **methods: Callable[..., Any]) -> Any:
        static = {name: staticmethod(method) for name, method in methods.items()}
        return type(kind + self.__name__, (torch.autograd.Function,), static)

    def _forward_of(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return the forward of an autograd function; a setup_context would bind by name.

        To the function that saves, an empty tensor stands for an output that is None.
        """

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = run(*inputs)
            seen = output
            if type(output) is tuple:
                seen = tuple([_NOTHING if o is None else o for o in output])
            self._save(ctx, inputs, seen)
            return output

        return forward

    def with_autograd(self, *args: Any) -> Any:
        """Run the operator for torch's dispatcher."""
        return self.traced.apply(*args) if is_recorded(args) else self._below_autograd(*args)

    def _below_autograd(self, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return self.bare(*args)

    def _observed(self, args: Sequence[Any]) -> Any:
        if torch.compiler.is_compiling() or not (is_transformed() or _has_tangents()):
            return self.op(*args)
        return self.transformed.apply(*args)  # torch's registration knows neither

    def implementation(self, *args: Any) -> Any:
        """Return the outputs of the launch function; an empty tensor in place of None."""
        outputs = self._in_order(*args)
        if isinstance(outputs, Tensor):
            return outputs
        like = args[0]
        if like is None:
            like = next(a for a in args if isinstance(a, Tensor))
        return tuple([like.new_empty(0) if o is None else o for o in outputs])

    def _in_order(self, *args: Any) -> Any:
        """Return the outputs of the launch function, whose tensors come contiguous."""
        for k in self.in_order:
            a = args[k]
            if a is None or a.is_contiguous():
                continue
            if not (self.takes_time_last and is_time_last(a)):
                args = (*args[:k], a.contiguous(), *args[k + 1 :])
        return self.launch(*args)

    def without_memory(self, *args: Any) -> Any:
        """Return outputs without memory, while a graph is traced, which may become a compiled one.

        There, operators that follow each other are joined.
        """
        for prepare in BEFORE_TRACES:
            prepare()
        return self.implementation(*args)

    def _has_no_derivative(self, ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(
            f"lapilli::{self.__name__} cannot be differentiated. The gradient of a neuron is that "
            "of a surrogate, which has no derivative of its own: there are no second derivatives "
            "through neurons. Take them of synapses, delays and averages alone, or leave "
            "create_graph=True out."
        )

    def _has_no_tangent(self, ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            f"lapilli::{self.__name__} has no derivative in forward mode (jvp, jacfwd, "
            "torch.autograd.forward_ad). Use reverse mode: torch.func.vjp, grad or jacrev."
        )

    def over_batch(self, info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        """Run under ``torch.vmap``: once where only samples are batched, else once an entry."""
        size = info.batch_size
        dims = [d if isinstance(a, Tensor) else None for a, d in zip(args, in_dims, strict=True)]
        each = list(zip(args, dims, self._samples[: len(args)], strict=True))
        if all(dim is None or of_samples for _, dim, of_samples in each):
            outputs = self._observed([_joined(a, dim, size) if s else a for a, dim, s in each])
            stacked = [
                o if is_absent(o) else o.unflatten(0, (size, o.shape[0] // size))
                for o in _as_tuple(outputs)
            ]
        else:
            calls = [
                self._observed([a if dim is None else a.select(dim, k) for a, dim, _ in each])
                for k in range(size)
            ]
            outputs = calls[0]
            several = zip(*map(_as_tuple, calls), strict=True)
            stacked = [o[0] if is_absent(o[0]) else torch.stack(o) for o in several]
        out_dims = tuple(None if is_absent(o) else 0 for o in stacked)
        return (
            (tuple(stacked), out_dims) if isinstance(outputs, tuple) else (stacked[0], out_dims[0])
        )


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def is_absent(output: Tensor) -> bool:
    """Whether an output of an operator stands for None."""
    return output.dim() == 1 and output.shape == (0,)


def _joined(x: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """Join the batch of ``torch.vmap`` with the samples; each gets what has no batch."""
    if x is None:
        return None
    whole = x.unsqueeze(0).expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    return whole.flatten(0, 1)


def is_observed(args: tuple[Any, ...]) -> bool:
    """Whether anything but the kernel and autograd has to know of a call with these arguments."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or is_transformed()
        or _has_tangents()
        # torch says so nowhere else
        or torch.autograd._profiler_enabled()  # pyright: ignore[reportPrivateImportUsage]
    ):
        return True
    for a in args:  # noqa: SIM110 (any() takes longer, and this comes before every launch)
        if isinstance(a, Tensor) and type(a) not in OWN:
            return True
    return False


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` is at work."""
    return peek_interpreter_stack() is not None


def _dynamo_exports() -> bool:
    """Whether Dynamo traces for ``torch.export``, asked before torch 2.13.

    There ``is_exporting`` is True in whatever Dynamo traces, and False to what it calls meanwhile.
    """
    convert = sys.modules.get("torch._dynamo.symbolic_convert")
    tracer = None if convert is None else getattr(convert.tls, "current_tx", None)
    return torch.compiler.is_exporting() or (tracer is not None and tracer.export)


# called while Dynamo traces, not traced; torch.compiler.assume_constant_result would import Dynamo
_dynamo_exports._dynamo_marked_constant = True  # type: ignore[attr-defined]
# whether the graph that is being made is one of ``torch.export``
is_exported = torch.compiler.is_exporting if torch.__version__ >= "2.13" else _dynamo_exports


def _has_tangents() -> bool:
    """Whether derivatives are taken in forward mode."""
    return forward_ad._current_level >= 0


def is_recorded(args: tuple[Any, ...]) -> bool:
    """Whether autograd records a call with these arguments."""
    if torch.is_grad_enabled():
        for a in args:
            if isinstance(a, Tensor) and a.requires_grad:
                return True
    return False


def is_learned(*tensors: Tensor | None) -> bool:
    """Whether a gradient of one of the tensors may be asked for.

    Under the transforms of ``torch.func`` a tensor does not tell, and a trace of ``torch.jit``
    serves calls with gradients and without.
    """
    if torch._C._get_tracing_state() is not None:
        return True
    if not torch.compiler.is_compiling() and is_transformed():
        return torch.is_grad_enabled()
    return is_recorded(tensors)


@overload
def define_op(
    launch: Callable[..., Any], *, samples: str = "", any_layout: str = ""
) -> Operator: ...
@overload
def define_op(
    launch: None = None, *, samples: str = "", any_layout: str = ""
) -> Callable[[Callable[..., Any]], Operator]: ...
def define_op(
    launch: Callable[..., Any] | None = None, *, samples: str = "", any_layout: str = ""
) -> Operator | Callable[[Callable[..., Any]], Operator]:
    """Register ``lapilli::<name>`` for every device, with the schema of its annotations.

    ``launch`` makes its outputs and calls ``execute``, which does nothing while a graph is traced,
    so it gives the shapes as well. An output that is not wanted is None; torch's operators cannot
    return that, so from them it is an empty tensor.

    Parameters
    ----------
    launch
        Function of tensors (or None) and numbers.
    samples
        Names of the arguments whose first dimension is the samples', which do not affect each
        other. All outputs then have as many, and ``torch.vmap`` over these arguments is one call.
    any_layout
        Names of the tensors that ``launch`` takes with any strides; others come contiguous.

    Raises
    ------
    ValueError
        If another module has an operator of that name; of those of lapilli itself, none is in the
        way: torch knows an operator from outside as ``own__<name>``. In the same module, as when a
        cell of a notebook runs again, the new operator takes the place of the old one; if its
        schema is another, torch knows it as ``<name>_2``.
    """
    if launch is None:
        return functools.partial(define_op, samples=samples, any_layout=any_layout)
    own = name = launch.__name__.lstrip("_")
    if not launch.__module__.startswith("lapilli."):
        name = f"own__{own}"
    first = name
    schema = torch.library.infer_schema(launch, mutates_args=())
    versions = 1
    while (known := OPERATORS.get(name)) is not None:
        if known.launch.__module__ != launch.__module__:
            raise ValueError(
                f"{launch.__module__} defines an operator {own!r}, and so does "
                f"{known.launch.__module__}. Operators of all modules have names of their own: "
                "give the function another one."
            )
        if known.schema == schema:  # torch calls what this object holds
            known.__init__(launch, known.op, known.bare, schema, samples, any_layout)
            return known
        versions += 1  # torch cannot take back a schema
        name = f"{first}_{versions}"
    for known_as in (name, f"{name}.bare"):
        _library.define(known_as + schema, tags=(torch.Tag.pt2_compliant_tag, _STRIDES))
    packet = getattr(torch.ops.lapilli, name)
    operator = Operator(launch, packet.default, packet.bare, schema, samples, any_layout)
    for known_as in (name, f"{name}.bare"):
        _library.impl(known_as, operator.implementation, "CompositeExplicitAutograd")
        torch.library.register_fake(f"lapilli::{known_as}", operator.without_memory, lib=_library)
    _library.impl(name, operator.with_autograd, "Autograd")
    _library.impl(f"{name}.bare", torch.library.fallthrough_kernel, "Autograd")
    OPERATORS[name] = operator
    return operator


def differentiable(
    operator: Operator, backward: Callable[..., Any], save: Callable[..., None]
) -> None:
    """Give a registered operator its derivative.

    ``save(ctx, inputs, output)`` keeps what ``backward(ctx, *gradients)`` needs.
    """
    operator._save, operator._backward = save, backward
    operator.recorded = operator._function(
        forward=operator._forward_of(operator._in_order), backward=backward
    )
    parent: Any = super(torch.autograd.Function, operator.recorded)
    operator.record = parent.apply


def define_sequence(run: Callable[..., Any]) -> None:
    """Register ``lapilli::sequence``, which stands for several operators in a compiled graph."""
    schema = "(Tensor[] tensors, SymInt[] sizes, str text) -> Tensor[]"
    _library.define(f"sequence{schema}", tags=(torch.Tag.pt2_compliant_tag, _STRIDES))
    _library.impl("sequence", run, "CompositeExplicitAutograd")
    _library.impl("sequence", torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake("lapilli::sequence", run, lib=_library)
