"""Recurrent layers over all time steps: the operator and the function to call.

Equations and step functions: recurrent_steps.py. What runs them: recurrent_triton.py on a GPU, with
the kernels of recurrent_kernels.py; on a CPU recurrent_numba.py forward and recurrent_dense.py
backward, which GPUs take for large layers whose weights are not quantised. The gradient of R is one
matrix product over all steps.
"""

from typing import Any

import torch
from lapilli.kernels.executors.dispatch import executor, has_no_memory, with_reference
from lapilli.kernels.executors.layout import (
    contiguous_rows,
    from_rows,
    neurons_a_parameter,
    results,
    state_rows,
    to_rows,
)
from lapilli.kernels.executors.memory import empty
from lapilli.kernels.executors.operators import define_op, differentiable, is_learned
from lapilli.kernels.executors.precision import true_float32
from lapilli.kernels.executors.workers import in_one_order
from lapilli.kernels.numbers.fixed_point import is_power_of_two, rule_of, units_of
from lapilli.kernels.numbers.surrogate import (
    DEFAULT,
    complex_surrogate_constants,
    surrogate_constants,
    surrogate_named,
)
from lapilli.kernels.numbers.threshold import EPSILON, lowest_spiking
from torch import Tensor

from . import recurrent_dense, recurrent_numba, recurrent_triton
from .adaptive_threshold import NO_CHIP_RULE
from .decays import decay_gradients, decay_sign

GRADIENTS = ("lava-dl", "full", "bounded")

Parts = Tensor | tuple[Tensor | None, Tensor | None]  # of resonators (real, imaginary)


# The operator


@define_op(samples="z z_im a0 b0 c0 d0 s0")
def recurrent_fwd(
    z: Tensor, z_im: Tensor | None, feedback: Tensor | None, feedback_im: Tensor | None,
    decay_a: Tensor, decay_b: Tensor, decay_c: Tensor | None, decay_d: Tensor | None,
    a0: Tensor | None, b0: Tensor | None, c0: Tensor | None, d0: Tensor | None, s0: Tensor | None,
    bias: float, quantum: float, scale: float, theta: int, step: int, phase: bool,
    save: bool, learning: bool, final: bool, graded: bool, shift: bool,
    offset: float, height: float, excess: float, rate: float, surrogate: str,
    gradient: int, decay_sign: float, care: int, count: bool,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """Return spikes, two slopes, two states over time, four last states, last spikes, misfits.

    Training wants the slopes: the surrogate gradients, the first for ``phase`` alone. Learned
    decays want the states before each spike.
    """
    N, T, C = z.shape
    turns, adapt = z_im is not None, decay_c is not None
    spikes = empty(z.shape, torch.float32, z)
    wanted = save and phase, save, learning, learning
    rows = [empty(z.shape, torch.float32, z) if w else None for w in wanted]
    last = [z.new_empty(N, C) if w else None for w in (True, True, adapt, adapt, True)]
    lost = z.new_zeros(N, C, dtype=torch.int32) if count else None
    # None where it is not wanted, see define_op
    outputs = (spikes, *rows, *(last if final else [None] * 5), lost)
    if has_no_memory(z) or N * C == 0:
        return outputs  # pyright: ignore[reportReturnType]
    decays = decay_a, decay_b, decay_c, decay_d
    numbers = (
        neurons_a_parameter(C, *(d for d in decays if d is not None)), int(shift),
        *((0.0, bias) if turns and not phase else (bias, 0.0)),
        scale, 1 / scale, theta, step, offset, height, excess, rate,
    )  # fmt: skip
    at_rest = (a0, 0.0), (b0, 0.0), (c0, theta / scale), (d0, 0.0), (s0, 0.0)
    state = [
        z.new_full((N, C), rest) if given is None and used is not None else given
        for (given, rest), used in zip(at_rest, last, strict=True)
    ]
    if T == 0:
        for after, before in zip(last, state, strict=True):
            if after is not None and before is not None:
                after.copy_(before)
        return outputs  # pyright: ignore[reportReturnType]
    on_cpu = executor(z.device) == "numba"
    forward = recurrent_numba.forward if on_cpu else recurrent_triton.forward
    forward(
        (z, z_im), (feedback, feedback_im), (spikes, *rows), decays, state, last, lost, numbers,
        (turns, phase, adapt, graded, is_power_of_two(scale), surrogate_named(surrogate).shape,
         care),
        quantum, s0 is not None,
    )  # fmt: skip
    return outputs  # pyright: ignore[reportReturnType]


@define_op(samples="g_spikes slope_re slope series_a series_b")
def recurrent_bwd(
    g_spikes: Tensor, feedback: Tensor | None, feedback_im: Tensor | None,
    slope_re: Tensor | None, slope: Tensor, series_a: Tensor | None, series_b: Tensor | None,
    decay_a: Tensor, decay_b: Tensor,
    quantum: float, turns: bool, phase: bool, shift: bool, gradient: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of the input and the partial gradients of the first two decays."""
    N, T, C = g_spikes.shape
    gx = [empty(g_spikes.shape, torch.float32, g_spikes) for _ in range(1 + turns)]
    learning = series_a is not None
    partials = [g_spikes.new_empty(N, C) for _ in range(2 * learning)]
    if not (has_no_memory(g_spikes) or N * T * C == 0):
        parts = [feedback, feedback_im][: 1 + turns]
        bounded = GRADIENTS[gradient] == "bounded"
        arguments = (
            g_spikes, parts,
            [f for f in (slope_re, slope) if f is not None],
            [y for y in (series_a, series_b) if y is not None],
            [decay_a, decay_b], gx, partials,
            recurrent_dense.room_for(parts, [decay_a, decay_b], C) if bounded else None,
            phase, shift, GRADIENTS[gradient] != "lava-dl",
        )  # fmt: skip
        on_cpu = executor(g_spikes.device) == "numba"
        if on_cpu or not recurrent_triton.backward(*arguments, quantum):
            with true_float32(g_spikes.device, "matmul"):
                recurrent_dense.backward(*arguments)
    outputs = *gx, *(None,) * (1 - turns), *(partials or (None, None))
    return outputs  # pyright: ignore[reportReturnType]


def _save(ctx, inputs, output):
    feedback, decays, s0 = inputs[2:4], inputs[4:8], inputs[12]
    _, quantum, _, _, _, phase, _, _, _, _, shift, *_, gradient, sign, _, _ = inputs[13:]
    spikes, *kept = output[:5]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    kept = [k if k.numel() else None for k in kept]
    learns = any(ctx.needs_input_grad[2:4])
    ctx.save_for_backward(spikes if learns else None, *kept, *feedback, *decays, s0)
    ctx.turns, ctx.constants = inputs[1] is not None, (phase, shift, gradient)
    ctx.quantum, ctx.decay_sign = quantum, sign


def _backward(ctx, g_spikes, *_others):
    spikes, *kept, feedback, feedback_im, decay_a, decay_b, decay_c, decay_d, s0 = ctx.saved_tensors
    slope_re, slope, series_a, series_b = kept
    phase, shift, gradient = ctx.constants
    *gx, p_a, p_b = recurrent_bwd(
        contiguous_rows(g_spikes), feedback, feedback_im, slope_re, slope, series_a, series_b,
        decay_a, decay_b, ctx.quantum, ctx.turns, phase, shift, gradient,
    )  # fmt: skip
    g_feedback = (
        feedback_bwd(g, spikes, s0, shift) if wanted else None
        for g, wanted in zip(gx, ctx.needs_input_grad[2:4], strict=True)
    )
    if series_a is not None:
        sign = 1.0 if ctx.turns else ctx.decay_sign
        g_decays = decay_gradients(sign, (decay_a, p_a), (decay_b, p_b), wanted=True)
    else:
        g_decays = _zeros((decay_a, decay_b), ctx.needs_input_grad[4:6])
    # the threshold is not differentiated; its decays get zeros, as in lava-dl
    g_threshold = _zeros((decay_c, decay_d), ctx.needs_input_grad[6:8])
    gx[1] = gx[1] if ctx.turns else None
    return *gx, *g_feedback, *g_decays, *g_threshold, *(None,) * 25


def _zeros(parameters: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> list[Tensor | None]:
    return [torch.zeros_like(p) if w else None for p, w in zip(parameters, wanted, strict=True)]


@define_op
def feedback_bwd(gx: Tensor, spikes: Tensor, s0: Tensor | None, shift: bool) -> Tensor:
    """Sum ``gx[t]^T s[t-1]`` over steps and samples: one product over all rows."""
    if gx.numel() == 0:
        return gx.new_zeros(gx.shape[2], gx.shape[2])
    with true_float32(gx.device, "matmul"), in_one_order(gx.device):
        if shift:  # the spikes already are those of the step before
            total = torch.mm(gx.flatten(0, 1).t(), spikes.flatten(0, 1))
        else:
            total = torch.mm(gx.flatten(0, 1)[1:].t(), spikes.flatten(0, 1)[:-1])
            # a sample's first step stands behind the last one of another sample
            total.addmm_(gx[1:, 0].t(), spikes[:-1, -1], alpha=-1)
        return total if s0 is None else total.addmm_(gx[:, 0].t(), s0)


differentiable(recurrent_fwd, _backward, _save)


def _pair(parts: Parts) -> tuple[Tensor | None, Tensor | None]:
    if isinstance(parts, Tensor):
        return parts, None
    real, imaginary = parts
    return real, imaginary


@with_reference
def recurrent(
    z: Tensor | tuple[Tensor, Tensor],
    feedback: Parts,
    decays: tuple[Tensor, ...],
    threshold: float,
    scale: int,
    *,
    phase: bool = False,
    threshold_step: float = 0.0,
    bias: float = 0.0,
    quantum: float | None = None,
    tau_rho: float = 1.0,
    scale_rho: float = 1.0,
    surrogate: str = DEFAULT,
    graded: bool = False,
    shift: bool = False,
    state: tuple[Tensor, ...] | None = None,
    spikes: Tensor | None = None,
    return_state: bool = False,
    gradient: str = "lava-dl",
    overflow: str = "saturate",
    count: bool = False,
) -> Any:
    """Run a layer of neurons whose spikes come back through ``feedback``, over all time steps.

    Parameters
    ----------
    z
        Weighted input ``[N, neurons..., T]``, in real units (1 is ``scale`` state units); of
        resonators a pair (real, imaginary).
    feedback
        Weight ``[neurons, neurons]`` (to, from); of resonators a pair, where None feeds nothing
        back to that part.
    decays
        Two, or four if the threshold adapts, each ``[1]`` or one value a channel, 0..4096: current
        and voltage decay, of resonators sine and cosine; then threshold and refractory decay.
    threshold
        Threshold (at rest), a multiple of ``1 / scale``.
    scale
        Number of state units in a value of 1.
    phase
        Resonators spike by their phase (RF, ADRF) and not by their imaginary part.
    threshold_step
        What a spike adds to the threshold, where that adapts.
    bias
        Added to the input of every step; of resonators to the part that the threshold tests.
    quantum
        Step of ``feedback`` if it is an integer from -128 to 127 times this number, which lets a
        GPU multiply integers; None if it is not.
    tau_rho, scale_rho
        Width and height of the surrogate gradient, both above 0; the formula is that of the neuron
        alone, such as ``lapilli.kernels.recurrences.cuba.cuba``.
    surrogate
        Its shape, see ``lapilli.kernels.recurrences.cuba.cuba``.
    graded
        Spikes carry the state that is tested instead of 1.
    shift
        Delay the output by one step; the first is 0 and the last is dropped.
    state
        States ``[N, neurons...]`` before the first step, as many as ``decays``; rest if None.
    spikes
        Spikes ``[N, neurons...]`` before the first step; none if None.
    return_state
        Also return the states and the spikes of the last step, detached.
    gradient
        How the gradient gets from a step to the step before. ``"lava-dl"``: through ``feedback``
        alone, and the decays get a gradient of zero. ``"full"``: through the states as well.
        ``"bounded"``: through both, but what comes back through ``feedback`` is weakened so that
        it at most doubles the gradient.
    overflow, count
        See ``lapilli.kernels.recurrences.cuba.cuba``; ``"loihi"`` for two decays only.

    Returns
    -------
    Tensor
        Spikes, of the shape of each part of ``z``; with ``return_state`` also the states, and the
        last spikes; with ``count`` also how many steps of each neuron did not fit.

    Raises
    ------
    ValueError
        For a ``feedback`` of another shape, an unknown ``gradient`` or ``overflow``, and for
        ``"loihi"`` where the threshold adapts.

    Examples
    --------
    >>> import torch
    >>> from lapilli.kernels.recurrences.recurrent import recurrent
    >>> half = torch.tensor([2048.0])  # of 4096
    >>> x = torch.tensor([[[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    >>> feedback = torch.tensor([[0.0, 0.0], [2.0, 0.0]])  # from the first neuron to the second
    >>> recurrent(x, feedback, (half, half), threshold=1.0, scale=4096)
    tensor([[[1., 0., 0., 0.],
             [0., 1., 0., 0.]]])
    """
    if gradient not in GRADIENTS:
        raise ValueError(
            f"gradient is {gradient!r}; expected one of {', '.join(map(repr, GRADIENTS))}"
        )
    z, z_im = (z, None) if isinstance(z, Tensor) else z
    weights, shape = _pair(feedback), z.shape
    rows = to_rows(z), None if z_im is None else to_rows(z_im)
    neurons = rows[0].shape[2]
    for weight in weights:
        if weight is not None and weight.shape != (neurons, neurons):
            raise ValueError(
                f"feedback of {neurons} neurons must have shape ({neurons}, {neurons}); got "
                f"{tuple(weight.shape)}"
            )
    turns, adapts = z_im is not None, len(decays) == 4
    care = rule_of(overflow)
    if adapts and overflow == "loihi":
        raise ValueError(NO_CHIP_RULE)
    if turns and phase:
        height, excess, rate = complex_surrogate_constants(tau_rho, scale_rho, graded, surrogate)
    else:
        height, rate = surrogate_constants(tau_rho, scale_rho, graded, surrogate)
        excess = 0.0
    theta, offset = units_of(threshold, scale), 0.0
    if not turns and not adapts:
        theta = lowest_spiking(threshold, scale)
        offset = (1 - EPSILON) / scale  # from the lowest state that spikes to the threshold
    learned = *decays, *(x for x in (*weights, z, z_im) if x is not None)
    saving = is_learned(*learned)
    learning = gradient != "lava-dl" and is_learned(*decays[:2])
    initial = [None if s is None else state_rows(s) for s in state or ()]
    out, _, _, _, _, *last, lost = recurrent_fwd(
        *rows, *weights, *decays, *(None,) * (4 - len(decays)),
        *initial, *(None,) * (4 - len(initial)), state_rows(spikes),
        bias, quantum or 0.0, scale, theta, units_of(threshold_step, scale), phase,
        saving, learning, return_state, graded, shift,
        offset, height, excess, rate, surrogate, GRADIENTS.index(gradient), decay_sign(), care,
        count,
    )  # fmt: skip
    others: list[Any] = []
    if return_state:
        *states, last_spikes = (
            s.view(shape[:-1]) if s is not None and s.numel() else s for s in last
        )
        others += tuple(states[: len(decays)]), last_spikes
    return results(from_rows(out, shape[1:-1]), *others, lost.view(shape[:-1]) if count else None)
