"""Every recurrence against its oracle, and the laws that hold whatever the oracle says."""

import dataclasses
import os

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import (
    Problem,
    assert_equal_answers,
    assert_same_bits,
    expanded,
    fixed_problem,
    problems,
    strided,
)
from recurrences import TABLE, VARIANTS

# a problem takes the oracle up to 0.1 s
thorough = hypothesis.settings(max_examples=1000 if os.environ.get("LAPILLI_SLOW") else 50)
brief = hypothesis.settings(max_examples=25)

each = pytest.mark.parametrize("recurrence", TABLE, ids=repr)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@each_variant
@each
def test_fixed_problem_equals_oracle(recurrence, variant, device):
    problem = fixed_problem(recurrence, **VARIANTS[variant])
    outputs, _, _ = problem.oracle()
    share = (outputs[0] != 0).float().mean().item()
    assert 0 < share <= 1 if problem.dynamics else 0 < share < 1, "some spike, and some do not"
    assert_equal_answers(problem, device)


@each
def test_fixed_problem_of_several_programs_equals_oracle(recurrence, device):
    problem = fixed_problem(recurrence, train=True, learn=True)
    shared = tuple(decay[0] for decay in problem.decays)
    problem = dataclasses.replace(problem, batch=2, shape=(7, 19), steps=3, decays=shared)
    assert_equal_answers(problem, device)


@thorough
@given(data=st.data())
@each
def test_random_problem_equals_oracle(recurrence, data):
    problem = data.draw(problems(recurrence))
    upstream = data.draw(st.sampled_from([torch.randn, expanded, strided]))
    assert_equal_answers(problem, upstream=upstream)


@brief
@given(data=st.data())
@each
def test_chunks_equal_one_run(recurrence, data):
    problem = data.draw(problems(recurrence, exact_states=True, dynamics=False))
    cut = data.draw(st.integers(1, max(1, problem.steps - 1)))
    inputs, decays, state = problem.tensors()
    options = problem.options | {"shift": False}

    def run(first, last, before):
        return recurrence.spikes(
            recurrence.kernels, [x[..., first:last] for x in inputs], decays, problem.threshold,
            problem.scale, state=before, return_state=True, **options,
        )  # fmt: skip

    whole, after = run(0, problem.steps, state)
    head, between = run(0, cut, state)
    assert_same_bits([whole[..., :cut]], [head])
    if cut < problem.steps:
        tail, end = run(cut, problem.steps, between)
        assert_same_bits([whole[..., cut:], *after], [tail, *end])


@brief
@given(data=st.data())
@each
def test_samples_do_not_affect_each_other(recurrence, data):
    problem = data.draw(problems(recurrence, dynamics=False, state=False))
    inputs, decays, _ = problem.tensors()
    arguments = decays, problem.threshold, problem.scale
    whole = recurrence.spikes(recurrence.kernels, inputs, *arguments, **problem.options)
    for n in range(problem.batch):
        sample = [x[n : n + 1] for x in inputs]
        alone = recurrence.spikes(recurrence.kernels, sample, *arguments, **problem.options)
        assert_same_bits([whole[n : n + 1]], [alone])


@brief
@given(data=st.data())
@each
def test_shift_delays_by_one_step(recurrence, data):
    problem = data.draw(problems(recurrence, dynamics=False))
    graded = problem.options["graded"]
    shifted, prompt = (
        dataclasses.replace(problem, options={"graded": graded, "shift": shift}).fast()
        for shift in (True, False)
    )
    by_hand = torch.nn.functional.pad(prompt[0][0], (1, 0))[..., :-1]
    assert_same_bits(shifted[0], [by_hand])
    assert_same_bits(shifted[1], prompt[1])


@each
def test_backward_repeats_itself(recurrence):
    problem = Problem(
        recurrence, batch=7, shape=(3, 1025), steps=9, train=True, learn=True,
        decays=([100.0, 200.0, 300.0],) * recurrence.decays,
    )  # fmt: skip
    first = problem.fast()
    for _ in range(100):
        again = problem.fast()
        assert_same_bits(again[2], first[2])


@each
def test_threshold_itself_does_not_spike(recurrence, device):
    inputs = [torch.zeros(1, 1, 3, device=device) for _ in range(recurrence.inputs)]
    inputs[0][..., 0] = 1.0  # on the threshold
    inputs[0][..., 2] = 1.0 + 1 / 4096  # one unit above
    decays = [torch.tensor([4096.0], device=device)] * recurrence.decays
    spikes = recurrence.spikes(recurrence.kernels, inputs, decays, 1.0, 4096)
    assert_same_bits([spikes], [torch.tensor([[[0.0, 0.0, 1.0]]])])


@each
def test_decays_learn_from_a_gradient_that_skips_the_input(recurrence):
    assert_equal_answers(fixed_problem(recurrence, train=False, learn=True))


@each
def test_inference_saves_nothing(recurrence):
    problem = fixed_problem(recurrence)
    inputs, decays, _ = problem.tensors()
    arguments = recurrence.kernels, inputs, decays, 1.0, 4096
    assert recurrence.spikes(*arguments).grad_fn is None
    for x in inputs:
        x.requires_grad_()
    with torch.no_grad():
        assert recurrence.spikes(*arguments).grad_fn is None
    assert recurrence.spikes(*arguments).grad_fn is not None


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.bool], ids=str)
def test_other_types_are_float32_inside(recurrence, dtype):
    inputs = [(torch.randn(2, 3, 9) * 2).to(dtype) for _ in range(recurrence.inputs)]
    decays = [torch.tensor([1000.0])] * recurrence.decays
    got = recurrence.spikes(recurrence.kernels, inputs, decays, 1.0, 4096)
    want = recurrence.spikes(recurrence.kernels, [x.float() for x in inputs], decays, 1.0, 4096)
    assert got.dtype == torch.float32
    assert_same_bits([got], [want])


@each
def test_output_is_rows_underneath(recurrence):
    inputs = [torch.randn(2, 3, 4, 9) for _ in range(recurrence.inputs)]
    decays = [torch.tensor([1000.0])] * recurrence.decays
    spikes = recurrence.spikes(recurrence.kernels, inputs, decays, 1.0, 4096)
    assert spikes.shape == inputs[0].shape
    assert spikes.movedim(-1, 1).is_contiguous(), "the next layer would copy"


@each
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5)], ids=str)
def test_nothing_in_nothing_out(recurrence, shape):
    inputs = [torch.zeros(shape, requires_grad=True) for _ in range(recurrence.inputs)]
    decays = [torch.tensor([1000.0], requires_grad=True) for _ in range(recurrence.decays)]
    spikes = recurrence.spikes(recurrence.kernels, inputs, decays, 1.0, 4096)
    assert spikes.shape == shape
    spikes.sum().backward()
    assert inputs[0].grad.shape == shape
    assert_same_bits([d.grad for d in decays], [torch.zeros(1)] * recurrence.decays)


@each
def test_decays_that_fit_no_channels_raise(recurrence):
    inputs = [torch.zeros(1, 3, 5) for _ in range(recurrence.inputs)]
    decays = [torch.zeros(2)] * recurrence.decays
    with pytest.raises(ValueError, match="2 values of a parameter for 3 neurons"):
        recurrence.spikes(recurrence.kernels, inputs, decays, 1.0, 4096)
