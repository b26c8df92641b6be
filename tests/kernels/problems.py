"""Problems for recurrences: inputs, parameters and options; and how two answers are compared."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from recurrences import KERNELS, ORACLES, Recurrence, soon
from tolerances import FLOAT32
from torch import Tensor
from torch.testing import assert_close

SLOW = os.environ.get("LAPILLI_SLOW") == "1"

SHAPES = [(1,), (3,), (7,), (2, 3), (2, 3, 2), (1024,), (1025,)]  # CPU tiles have 1024 neurons
DECAYS = st.one_of(st.sampled_from([0, 1, 4095, 4096, 0.5, 1.5, 2048.5]), st.integers(0, 4096))


class Kind(NamedTuple):
    """One parameter or a pair: for each its values of five channels; and how one is drawn."""

    fixed: tuple[tuple[float, ...], ...]
    draw: Callable[[float], st.SearchStrategy]  # of the largest input; a value of each


def _turn(quarter, length):
    """Sine and cosine of a part of a quarter turn, with what is left of the length."""
    angle = quarter * math.pi / 2
    return 4096 * length * math.sin(angle), 4096 * length * math.cos(angle)


_TURNS = st.builds(
    _turn,
    st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
    st.sampled_from([1.0, 0.95, 0.3, 0.0]),
)

KINDS = {
    "decay": Kind(((410.0, 300.0, 0.0, 4096.0, 50.0),), lambda _: st.tuples(DECAYS)),
    "decays": Kind(
        ((410.0, 300.0, 0.0, 4096.0, 50.0), (164.0, 1000.0, 4096.0, 0.0, 50.0)),
        lambda _: st.tuples(DECAYS, DECAYS),
    ),
    "rotation": Kind(
        ((2607.0, 1000.4, 0.0, 4000.0, 2896.3), (2607.0, 3900.6, 4096.0, 0.0, 2896.3)),
        lambda _: _TURNS,
    ),
    "threshold": Kind(
        ((0.5, 0.1, 1.0, 0.25, 1.5),),
        lambda largest: st.tuples(st.sampled_from([0.01, 0.3, 1, 3])).map(
            lambda shares: (shares[0] * largest,)
        ),
    ),
    "bias": Kind(
        ((0.25, -0.125, 0.0, 0.5, -1.0),),
        lambda largest: st.tuples(st.sampled_from([-1, 0, 0.01, 2])).map(
            lambda shares: (shares[0] * largest,)
        ),
    ),
    "delay": Kind(
        ((0.0, 3.0, 5.99, 80.0, 14.0),),
        lambda _: st.tuples(st.one_of(st.integers(-2, 90), st.floats(-1, 100, width=32))),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """All that a recurrence is called with; inputs are bounded so that no state overflows."""

    recurrence: Recurrence
    batch: int = 3
    shape: tuple[int, ...] = (5,)
    steps: int = 15  # a chunk of eight rows, and one each of four, two and one
    scale: int = 4096
    amplitude: float = 1.0  # largest input
    rows: Any = None  # inputs [batch][steps] in place of random ones
    threshold: float = 1.0
    threshold_step: float = 0.25
    tau_rho: float = 1.0
    parameters: tuple[Any, ...] = ()  # a number or a list of one for each channel
    train: bool = False
    learn: bool = False
    state: bool = False
    dynamics: bool = False
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def spiking(self) -> bool:
        return self.recurrence.spikes is not None and not self.dynamics

    @property
    def launches(self) -> int:
        """Kernels that run it, forward and, where a gradient is wanted, backward."""
        parts = 1 if self.spiking else self.recurrence.dynamics_parts
        return parts + (self.train or self.learn)

    @property
    def thresholds(self) -> tuple[float, ...]:
        step = (self.threshold_step,) if self.recurrence.adapts else ()
        return self.threshold, *step

    def tensors(self, device="cpu"):
        """Return inputs, parameters and, where there is one, the state before the first step."""
        generator = torch.Generator().manual_seed(self.seed)

        def uniform(*shape):
            return (torch.rand(shape, generator=generator) * 2 - 1) * self.amplitude

        if self.rows is None:
            one = (self.batch, *self.shape, self.steps)
            inputs = [uniform(*one) for _ in range(self.recurrence.inputs)]
        else:
            x = torch.tensor(self.rows).unsqueeze(1)
            inputs = [x, -x.roll(1, -1)][: self.recurrence.inputs]
        state = [uniform(self.batch, *self.shape) for _ in range(self.recurrence.states)]
        parameters = [torch.tensor(p, dtype=torch.float32).reshape(-1) for p in self.parameters]
        inputs, parameters, state = (
            [t.to(device) for t in ts] for ts in (inputs, parameters, state)
        )
        for x in inputs:
            x.requires_grad_(self.train)
        for p in parameters:
            p.requires_grad_(self.learn)
        return inputs, parameters, tuple(state) if self.state else None

    def call(self, inputs, parameters, state=None, *, package=KERNELS, return_state=False):
        """Return outputs and, if asked for, the states after the last step."""
        options: dict[str, Any] = {}
        if self.recurrence.states:
            options["state"] = state
        if self.spiking:
            options |= {"tau_rho": self.tau_rho, **self.options}
            if self.recurrence.states:
                options["return_state"] = return_state
        return self.recurrence.run(package, self, inputs, parameters, self.dynamics, **options)

    def run(self, package, device="cpu", upstream=torch.randn):
        """Return outputs, states after the last step, and gradients of inputs and parameters."""
        inputs, parameters, state = self.tensors(device)
        outputs, after = self.call(
            inputs, parameters, state, package=package, return_state=self.state
        )
        wanted = [t for t in (*inputs, *parameters) if t.requires_grad]
        seeds = zip(outputs, self.upstreams(outputs, upstream), strict=True)
        seeds = [(y, g.to(device)) for y, g in seeds if y.requires_grad]
        if not seeds:  # the first step does not depend on the decays
            return outputs, after, [torch.zeros_like(t) for t in wanted]
        ends, gradients = zip(*seeds, strict=True)
        return outputs, after, torch.autograd.grad(ends, wanted, gradients, materialize_grads=True)

    def upstreams(self, outputs, upstream=torch.randn):
        """Return a gradient for each of the outputs."""
        torch.manual_seed(self.seed)
        return [upstream(y.shape) for y in outputs]

    def oracle(self, **kwargs):
        return self.run(ORACLES, **kwargs)

    def fast(self, **kwargs):
        return self.run(KERNELS, **kwargs)


def with_choices(problem: Problem, choices: dict[str, Any]) -> Problem:
    """Return a problem with some of its fields set, and its options."""
    names = {f.name for f in fields(Problem)}
    own = {k: v for k, v in choices.items() if k in names}
    options = {k: v for k, v in choices.items() if k not in names}
    return replace(problem, **own, options=problem.options | options)


def fixed_problem(recurrence: Recurrence, **choices: Any) -> Problem:
    """Return a problem in which some neurons spike and some do not, for one of ``VARIANTS``."""
    parameters = (values for kind in recurrence.parameters for values in KINDS[kind].fixed)
    problem = Problem(recurrence, threshold=0.5, parameters=tuple(map(list, parameters)))
    return with_choices(problem, choices)


def shared_parameters(problem: Problem) -> Problem:
    """Return the problem with the first channel's parameters for all."""
    return replace(problem, parameters=tuple(values[0] for values in problem.parameters))


@st.composite
def problems(draw, recurrence, choices=None, exact_states=False):
    """Draw a problem; with ``exact_states`` all states survive a trip through float32.

    ``choices`` are those of a variant, compiled for the fixed problems already, unless given.
    """
    if choices is None:
        variants = recurrence.variants()
        names = list(variants) if SLOW else soon(recurrence)
        choices = variants[draw(st.sampled_from(names), label="variant")]
    choices = dict(choices)
    odd = bool(choices.pop("scale", False)) and not exact_states
    shape = draw(st.sampled_from(SHAPES), label="shape")
    steps = draw(st.integers(1, 40 if math.prod(shape) < 100 else 9), label="steps")
    scale = draw(
        st.sampled_from([640, 6400] if odd else [4096] if exact_states else [4096, 64, 1 << 14])
    )
    # worst case: every input adds up, through every filter, and so does the state
    largest = 2.0 ** (24 if exact_states else 30) / recurrence.growth(steps) / scale
    amplitude = largest * draw(st.sampled_from([1, 0.1, 1e-2, 1e-4]), label="share of the range")
    reach = draw(st.sampled_from([0.01, 0.5, 1, 5]), label="threshold, in largest inputs")
    threshold = max(1, round(min(amplitude * reach * scale, 2**30))) / scale
    step = draw(st.sampled_from([-0.25, 0, 0.5, 1]), label="threshold step, in thresholds")
    columns = []
    channels = shape[0] if shape[0] < 10 and draw(st.booleans(), label="per channel") else None
    for kind in recurrence.parameters:
        one = KINDS[kind].draw(amplitude)
        if channels is None:
            columns += draw(one, label=kind)
        else:
            rows = draw(st.lists(one, min_size=channels, max_size=channels), label=kind)
            columns += map(list, zip(*rows, strict=True))
    problem = Problem(
        recurrence,
        batch=draw(st.integers(1, 3)),
        shape=shape,
        steps=steps,
        scale=scale,
        amplitude=amplitude,
        threshold=threshold,
        threshold_step=round(step * threshold * scale) / scale,
        tau_rho=threshold * draw(st.sampled_from([0.5, 1, 100])),
        parameters=tuple(columns),
        seed=draw(st.integers(0, 1000)),
    )
    return with_choices(problem, choices)


def assert_same_bits(got, want, equal_nan=False):
    for g, w in zip(got, want, strict=True):
        assert_close(g.cpu(), w.cpu(), rtol=0, atol=0, equal_nan=equal_nan)


def assert_equal_answers(
    problem: Problem, device="cpu", upstream=torch.randn, equal_nan: bool = False
) -> None:
    """Integer states: outputs equal bit for bit. Gradients are sums in float32: close."""
    outputs, after, gradients = problem.fast(device=device, upstream=upstream)
    learning = replace(problem, train=problem.train or problem.learn)
    expected, expected_after, expected_gradients = learning.oracle(upstream=upstream)
    assert_same_bits(outputs, expected, equal_nan)
    assert_same_bits(after, expected_after, equal_nan)

    count = problem.recurrence.inputs
    g_inputs, g_parameters = expected_gradients[:count], expected_gradients[count:]
    learned = gradients[count * problem.train :]
    if problem.train:
        for got, want in zip(gradients[:count], g_inputs, strict=True):
            # sums cancel, so small entries are not sharper than the largest
            atol = FLOAT32["rtol"] * _largest(want) + 1e-30
            assert_close(got.cpu(), want, rtol=0, atol=atol, equal_nan=equal_nan)
    if problem.learn:
        upstreams = problem.upstreams(expected, upstream)
        terms = _parameter_gradient_terms(learning, g_inputs, upstreams)
        atol = FLOAT32["rtol"] * (0.0 if math.isnan(terms) else terms) + 1e-30
        for got, want in zip(learned, g_parameters, strict=True):
            assert_close(got.cpu(), want, rtol=0, atol=atol, equal_nan=equal_nan)


def _largest(x: Tensor) -> float:
    return x.nan_to_num(0.0).abs().max().item()


def _parameter_gradient_terms(problem: Problem, g_inputs, upstreams) -> float:
    """Bound the sum of magnitudes that a parameter's gradient adds up; it can cancel entirely."""
    inputs, parameters, state = problem.tensors()
    if problem.recurrence.dynamics is None:  # encoders and delays: gradient times change
        changes = sum(x.detach().diff(dim=-1).abs().sum(-1).max().item() for x in inputs)
        changes += 2 * problem.amplitude * (1 + problem.steps * problem.state)
        reach = min(p.detach().abs().min().item() for p in parameters[:1])
        kind = problem.recurrence.parameters[0]
        factor = 1 + changes / reach if kind == "threshold" else 2 * problem.amplitude
        return factor * sum(g.abs().sum().item() for g in upstreams)
    states, _ = replace(problem, dynamics=True).call(inputs, parameters, state, package=ORACLES)
    # in float64: squares of small gradients would be 0
    gradient = sum(g.double().norm().item() for g in g_inputs)
    bound = gradient * sum(y.detach().double().norm().item() for y in states)
    if problem.scale & (problem.scale - 1):
        # kernels rebuild the current from the voltage, which hands it over in float32: a unit is
        # lost or gained where the scale is not a power of two
        bound += gradient * math.sqrt(inputs[0].numel()) / problem.scale / FLOAT32["rtol"]
    return bound


def expanded(shape: torch.Size) -> Tensor:
    """Upstream gradient that is the same over time and takes no memory for it."""
    return torch.randn(*shape[:-1], 1).expand(shape)


def strided(shape: torch.Size) -> Tensor:
    """Upstream gradient that is every other element of a larger one."""
    return torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]
