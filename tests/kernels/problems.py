"""Problems for recurrences: inputs, parameters and options; and how two answers are compared."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from hypothesis import strategies as st
from tolerances import FLOAT32
from torch import Tensor
from torch.testing import assert_close

SHAPES = [(1,), (3,), (7,), (2, 3), (2, 3, 2), (1024,), (1025,)]  # CPU tiles have 1024 neurons
DECAYS = [0, 1, 4095, 4096, 0.5, 1.5, 2048.5]


@dataclass(frozen=True)
class Problem:
    """All that a recurrence is called with; inputs are bounded so that no state overflows."""

    recurrence: Any
    batch: int = 3
    shape: tuple[int, ...] = (5,)
    steps: int = 15  # a chunk of eight rows, and one each of four, two and one
    scale: int = 4096
    amplitude: float = 1.0  # largest input
    threshold: float = 1.0
    tau_rho: float = 1.0
    decays: tuple[Any, ...] = ()  # a number or a list of one for each channel
    train: bool = False
    learn: bool = False
    state: bool = False
    dynamics: bool = False
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def neurons(self) -> int:
        return math.prod(self.shape)

    def tensors(self, device="cpu"):
        """Return inputs, decays and, where there is one, the state before the first step."""
        generator = torch.Generator().manual_seed(self.seed)

        def uniform(*shape):
            return (torch.rand(shape, generator=generator) * 2 - 1) * self.amplitude

        inputs = [
            uniform(self.batch, *self.shape, self.steps) for _ in range(self.recurrence.inputs)
        ]
        state = [uniform(self.batch, *self.shape) for _ in range(self.recurrence.states)]
        decays = [torch.tensor(d, dtype=torch.float32).reshape(-1) for d in self.decays]
        inputs, decays, state = ([t.to(device) for t in ts] for ts in (inputs, decays, state))
        for x in inputs:
            x.requires_grad_(self.train)
        for d in decays:
            d.requires_grad_(self.learn)
        return inputs, decays, tuple(state) if self.state else None

    def run(self, module, device="cpu", upstream=torch.randn):
        """Return outputs, states after the last step, and gradients of inputs and decays."""
        inputs, decays, state = self.tensors(device)
        if self.dynamics:
            outputs = self.recurrence.dynamics(
                module, inputs, decays, self.threshold, self.scale, state=state
            )
            after = ()
        else:
            spikes, after = self.recurrence.spikes(
                module, inputs, decays, self.threshold, self.scale,
                state=state, return_state=True, tau_rho=self.tau_rho, **self.options,
            )  # fmt: skip
            outputs = (spikes,)
        wanted = [t for t in (*inputs, *decays) if t.requires_grad]
        gradients = [torch.zeros_like(t) for t in wanted]
        if any(y.requires_grad for y in outputs):  # the first step does not depend on the decays
            torch.manual_seed(self.seed)
            upstreams = [upstream(y.shape).to(device) for y in outputs]
            gradients = torch.autograd.grad(outputs, wanted, upstreams, materialize_grads=True)
        return outputs, after, gradients

    def oracle(self, **kwargs):
        return self.run(self.recurrence.oracle, **kwargs)

    def fast(self, **kwargs):
        return self.run(self.recurrence.kernels, **kwargs)


def fixed_problem(recurrence, scale=4096, train=False, learn=False, state=False, dynamics=False,
                  **options):  # fmt: skip
    """Return a problem in which some neurons spike and some do not, for one of ``VARIANTS``."""
    decays = [(410.0, 300.0, 0.0, 4096.0, 50.0), (164.0, 1000.0, 4096.0, 0.0, 50.0)]
    return Problem(
        recurrence, scale=scale, train=train, learn=learn, state=state, dynamics=dynamics,
        decays=tuple(list(decays[k % 2]) for k in range(recurrence.decays)), options=options,
    )  # fmt: skip


@st.composite
def problems(draw, recurrence, exact_states=False, **fixed):
    """Draw a problem; with ``exact_states`` all states survive a trip through float32."""
    shape = draw(st.sampled_from(SHAPES), label="shape")
    steps = draw(st.integers(1, 40 if math.prod(shape) < 100 else 9), label="steps")
    scale = draw(st.sampled_from([4096] if exact_states else [4096, 64, 1 << 14, 640, 6400]))
    # worst case: every input adds up, through every filter, and so does the state
    growth = steps + 1 if recurrence.integrators == 1 else (steps + 1) * (steps + 2)
    largest = 2.0 ** (24 if exact_states else 30) / growth / scale
    amplitude = largest * draw(st.sampled_from([1, 0.1, 1e-2, 1e-4]), label="share of the range")
    reach = draw(st.sampled_from([0.01, 0.5, 1, 5]), label="threshold, in largest inputs")
    threshold = max(1, round(min(amplitude * reach * scale, 2**30))) / scale
    one = st.one_of(st.sampled_from(DECAYS), st.integers(0, 4096))
    if draw(st.booleans(), label="per channel"):
        one = st.lists(one, min_size=shape[0], max_size=shape[0]) if shape[0] < 10 else one
    train = draw(st.booleans())
    problem = Problem(
        recurrence,
        batch=draw(st.integers(1, 3)),
        shape=shape,
        steps=steps,
        scale=scale,
        amplitude=amplitude,
        threshold=threshold,
        tau_rho=threshold * draw(st.sampled_from([0.5, 1, 100])),
        decays=tuple(draw(one) for _ in range(recurrence.decays)),
        train=train,
        learn=draw(st.booleans()),
        state=draw(st.booleans()),
        dynamics=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
        options={"graded": draw(st.booleans()), "shift": draw(st.booleans())},
    )
    return replace(problem, **fixed)


def assert_same_bits(got, want):
    for g, w in zip(got, want, strict=True):
        assert_close(g.cpu(), w.cpu(), rtol=0, atol=0, equal_nan=False)


def assert_equal_answers(problem: Problem, device="cpu", upstream=torch.randn) -> None:
    """Integer states: outputs equal bit for bit. Gradients are sums in float32: close."""
    outputs, after, gradients = problem.fast(device=device, upstream=upstream)
    learning = replace(problem, train=problem.train or problem.learn)
    expected, expected_after, expected_gradients = learning.oracle(upstream=upstream)
    assert_same_bits(outputs, expected)
    assert_same_bits(after, expected_after)

    count = problem.recurrence.inputs
    g_inputs, g_decays = expected_gradients[:count], expected_gradients[count:]
    if problem.train:
        for got, want in zip(gradients[:count], g_inputs, strict=True):
            # sums cancel, so small entries are not sharper than the largest
            assert_close(got.cpu(), want, rtol=0, atol=FLOAT32["rtol"] * _largest(want) + 1e-30)
    if problem.learn:
        atol = FLOAT32["rtol"] * _decay_gradient_terms(learning, g_inputs) + 1e-30
        for got, want in zip(gradients[-len(g_decays) :], g_decays, strict=True):
            assert_close(got.cpu(), want, rtol=0, atol=atol)


def _largest(x: Tensor) -> float:
    return x.abs().max().item()


def _decay_gradient_terms(problem: Problem, g_inputs) -> float:
    """Bound the sum of magnitudes that a decay gradient adds up; it can cancel to any extent."""
    inputs, decays, state = problem.tensors()
    states = problem.recurrence.dynamics(
        problem.recurrence.oracle, inputs, decays, problem.threshold, problem.scale, state=state
    )
    gradient = sum(g.norm().item() for g in g_inputs)
    bound = gradient * sum(y.detach().norm().item() for y in states)
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
