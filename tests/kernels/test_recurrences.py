"""Every recurrence against its oracle, and the laws that hold whatever the oracle says."""

import dataclasses
import itertools

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known import present
from problems import (
    SLOW,
    Problem,
    assert_equal_answers,
    assert_same_bits,
    expanded,
    fixed_problem,
    problems,
    shared_parameters,
    strided,
)
from recurrences import ALIKE, FULL, PAIRS, RAGGED, TABLE
from torch.autograd.graph import saved_tensors_hooks
from turns import soon

pytestmark = pytest.mark.turns

# a problem takes the oracle up to 0.1 s
thorough = hypothesis.settings(max_examples=100 if SLOW else 15)
brief = hypothesis.settings(max_examples=40 if SLOW else 8)

AT_ONCE = [r for r in TABLE if r.name not in ALIKE]  # the others have fixed problems at once
each = pytest.mark.parametrize("recurrence", soon(AT_ONCE, TABLE), ids=repr)
each_variant = pytest.mark.parametrize(("recurrence", "choices"), PAIRS)


def each_with(*features):
    """Run a test for the recurrences that have these features."""
    return each_that(lambda r: r.features.issuperset(features))


def each_that(condition):
    """Run a test for the recurrences that satisfy a condition."""
    rows = soon(AT_ONCE, filter(condition, TABLE))
    return pytest.mark.parametrize("recurrence", rows, ids=repr)


def plain(recurrence, **choices) -> Problem:
    """Return a fixed problem of which only the parameters, one for all channels, are used."""
    return shared_parameters(fixed_problem(recurrence, **choices))


@each_variant
def test_fixed_problem_equals_oracle(recurrence, choices, device):
    problem = fixed_problem(recurrence, **choices)
    outputs, _, _ = problem.oracle()
    share = (outputs[-1] != 0).float().mean().item()
    if recurrence.options and problem.spiking:
        assert 0 < share < 1, "some spike, and some do not"
    assert share > 0
    assert_equal_answers(problem, device)


@each
def test_fixed_problem_of_several_programs_equals_oracle(recurrence, device):
    problem = plain(recurrence, train=True, learn=bool(recurrence.parameters))
    assert_equal_answers(dataclasses.replace(problem, batch=2, shape=(7, 19), steps=3), device)


@each
@pytest.mark.parametrize(
    ("batch", "shape", "steps"),
    [(1, (1,), 1), (1, (3,), 1), (3, (2, 2), 1), (1, (5,), 2), (2, (3,), 9), (1, (2,), 33)],
    ids=str,
)
def test_small_problem_equals_oracle(recurrence, batch, shape, steps, device):
    learn = "learn" in recurrence.features
    problem = plain(recurrence, train="train" in recurrence.features, learn=learn)
    assert_equal_answers(
        dataclasses.replace(problem, batch=batch, shape=shape, steps=steps), device
    )


@pytest.mark.slow
@pytest.mark.parametrize(("recurrence", "choices"), FULL)
@pytest.mark.parametrize(("batch", "channels", "steps"), RAGGED, ids=str)
def test_ragged_problem_equals_oracle(recurrence, choices, batch, channels, steps, device):
    problem = fixed_problem(recurrence, **choices)
    columns = (itertools.islice(itertools.cycle(p), channels) for p in problem.parameters)
    changed = dataclasses.replace(
        problem, batch=batch, shape=(channels,), steps=steps, parameters=tuple(map(list, columns))
    )
    assert_equal_answers(changed, device)


@thorough
@given(data=st.data())
@each
def test_random_problem_equals_oracle(recurrence, data):
    problem = data.draw(problems(recurrence))
    # each compiles loops of its own; test_time_last.py has series and gradients of every layout
    ways = [torch.randn, expanded, strided] if SLOW else [torch.randn]
    upstream = data.draw(st.sampled_from(ways))
    assert_equal_answers(problem, upstream=upstream)


@brief
@given(data=st.data())
@each_that(lambda r: r.spikes is not None and r.states)
def test_chunks_equal_one_run(recurrence, data):
    flags = [name for name in ("graded", "cum_error") if name in recurrence.features and SLOW]
    choices = {"train": True} | {name: data.draw(st.booleans(), label=name) for name in flags}
    problem = data.draw(problems(recurrence, choices, exact_states=True))
    cut = data.draw(st.integers(1, max(1, problem.steps - 1)))
    inputs, parameters, state = problem.tensors()

    def run(first, last, before):
        chunk = [x[..., first:last] for x in inputs]
        (y,), after = problem.call(chunk, parameters, before, return_state=True)
        return y, after

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
    problem = data.draw(problems(recurrence, choices={}))
    inputs, parameters, _ = problem.tensors()
    whole, _ = problem.call(inputs, parameters)
    for n in range(problem.batch):
        alone, _ = problem.call([x[n : n + 1] for x in inputs], parameters)
        assert_same_bits([y[n : n + 1] for y in whole], alone)


@pytest.mark.parametrize("steps", [1, 2, 8, 17])
@each_with("shift")
def test_shift_delays_by_one_step(recurrence, steps):
    shifted, prompt = (
        dataclasses.replace(fixed_problem(recurrence, train=True, **options), steps=steps).fast()
        for options in ({"shift": True}, {})
    )
    by_hand = torch.nn.functional.pad(prompt[0][0], (1, 0))[..., :-1]
    assert_same_bits(shifted[0], [by_hand])


@each_with("train")
def test_backward_repeats_itself(recurrence):
    problem = plain(recurrence, train=True, learn="learn" in recurrence.features)
    problem = dataclasses.replace(problem, batch=4, shape=(1030,), steps=17)  # several threads
    inputs, parameters, _ = problem.tensors()
    outputs, _ = problem.call(inputs, parameters)
    wanted = [t for t in (*inputs, *parameters) if t.requires_grad]
    upstreams = problem.upstreams(outputs)

    def gradients():
        return torch.autograd.grad(outputs, wanted, upstreams, retain_graph=True)

    first = gradients()
    for _ in range(100 if SLOW else 25):
        assert all(map(torch.equal, gradients(), first))


# one state unit below, on and above the threshold of 1; the state is gone a step later
UNIT = 1 / 4096
APPROACH = torch.tensor([0.0, 1 - UNIT, 0.0, 1.0, 0.0, 1 + UNIT])
TURN = torch.tensor([-1.0, 1.0]).repeat(3)


@each_that(lambda r: "graded" in r.features)
def test_threshold_itself(recurrence, device):
    def spikes(*inputs):
        values = [value for kind in recurrence.parameters for value in FORGETS[kind]]
        problem = Problem(recurrence, threshold=1.0)
        inputs = [x.view(1, 1, -1).to(device) for x in inputs]
        (y,), _ = problem.call(inputs, [torch.tensor([v], device=device) for v in values])
        return y.flatten().tolist()

    reached = [0, 0, 0, not recurrence.strict, 0, 1]
    if recurrence.inputs == 1:
        assert spikes(APPROACH) == reached
    elif recurrence.name.endswith("iz"):
        assert spikes(APPROACH.roll(1), APPROACH) == reached
    else:  # where the imaginary part turns from negative to not
        assert spikes(APPROACH, TURN) == reached
        assert spikes(APPROACH.roll(1), TURN) == [0] * 6


@pytest.mark.parametrize("change", [0.5 - UNIT, 0.5, 0.5 + UNIT, -0.5 + UNIT, -0.5, -0.5 - UNIT])
@each_that(lambda r: "cum_error" in r.features)
def test_change_that_equals_the_threshold_is_sent(recurrence, change):
    x = torch.tensor([[[change, 0.0]]])
    problem = Problem(recurrence, options={"relu": False} if "relu" in recurrence.features else {})
    parameters = [torch.tensor([0.5]), torch.tensor([0.0])][: len(recurrence.parameters)]
    (y,), _ = problem.call([x], parameters)
    assert y[0, 0, 0] == (change if abs(change) >= 0.5 else 0)


# inputs that drive states to both ends of an int32, where a step forgets and where it keeps the
# state; the first is the last float32 before 2**31 units
TOP = 2.0**19 - 2.0**-5
JUMPS = [
    [TOP, 0.0, -TOP, 0.0, TOP], [-TOP, 0.0, TOP, 0.0, -TOP], [1.0, 0.0, -TOP, TOP, -1.0],
]  # fmt: skip
CLIMBS = [
    [TOP / 2, TOP / 2, 0.0, 0.0, 0.0], [-TOP / 2, -TOP / 2, 0.0, 0.0, 0.0],
    [TOP / 4, -TOP / 2, 0.0, TOP / 4, 0.0], [-TOP / 4, 0.0, TOP / 4, TOP / 4, TOP / 4],
]  # fmt: skip
FORGETS = {"decay": [4096.0], "decays": [4096.0] * 2, "rotation": [0.0] * 2}
KEEPS = {"decay": [0.0], "decays": [0.0] * 2, "rotation": [0.0, 4096.0]}


@pytest.mark.parametrize(
    "recurrence",
    # each compiles a careful loop of its own
    soon([r for r in TABLE if r.name in ("cuba", "rf")],
         [r for r in TABLE if r.features.issuperset({"scale", "train"})]),
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize(
    ("rows", "values"), [(JUMPS, FORGETS), (CLIMBS, KEEPS)], ids=["jumps", "climbs"]
)
@pytest.mark.parametrize("graded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_states_up_to_the_end_of_their_range(recurrence, rows, values, graded):
    if graded and "graded" not in recurrence.features:
        pytest.skip("its spikes are always graded")
    if values is KEEPS and recurrence.parameters[0] == "decays":
        rows = [[x / 8 for x in row] for row in rows]  # the second filter adds up the first
    values = values | {"threshold": [1.0], "bias": [0.5]}
    problem = fixed_problem(recurrence, train=True, **({"graded": True} if graded else {}))
    parameters = tuple(v for kind in recurrence.parameters for v in values[kind])
    assert_equal_answers(dataclasses.replace(problem, rows=rows, parameters=parameters))


@each_with("train")
@pytest.mark.parametrize("learn", [False, True], ids=["frozen", "learned"])
def test_bytes_kept_for_backward_are_those_declared(recurrence, learn):
    batch, neurons, steps = 2, 48, 64  # steps: a multiple of 32, whose masks share a word
    problem = plain(recurrence, train=True, learn=learn and "learn" in recurrence.features)
    problem = dataclasses.replace(problem, batch=batch, shape=(neurons,), steps=steps)
    inputs, parameters, _ = problem.tensors()
    kept = {}

    def pack(tensor):
        if tensor.numel() > batch * neurons:  # no parameter
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        problem.call(inputs, parameters)
    assert sum(kept.values()) == recurrence.kept[learn] * batch * neurons * steps


@each_with("learn")
def test_parameters_learn_from_a_gradient_that_skips_the_input(recurrence):
    assert_equal_answers(fixed_problem(recurrence, train=False, learn=True))


@each
def test_inference_saves_nothing(recurrence):
    problem = plain(recurrence)
    inputs, parameters, _ = problem.tensors()

    def differentiable():
        outputs, _ = problem.call(inputs, parameters)
        return any(y.requires_grad for y in outputs)

    assert not differentiable()
    for x in inputs:
        x.requires_grad_()
    with torch.no_grad():
        assert not differentiable()
    assert differentiable() == ("train" in recurrence.features)


@each
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool], ids=str
)
def test_other_types_are_float32_inside(recurrence, dtype):
    problem = plain(recurrence)
    inputs, parameters, _ = problem.tensors()
    inputs = [(x * 3).to(dtype) for x in inputs]
    got, _ = problem.call(inputs, parameters)
    want, _ = problem.call([x.float() for x in inputs], parameters)
    assert {y.dtype for y in got} == {torch.float32}
    assert_same_bits(got, want)


@each
def test_autocast_changes_nothing(recurrence):
    problem = plain(recurrence, train="train" in recurrence.features)
    want, _, gradients = problem.fast()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _, gradients_got = problem.fast()
    assert_same_bits(got, want)
    assert_same_bits(gradients_got, gradients)


@each
def test_output_is_rows_underneath(recurrence):
    problem = dataclasses.replace(plain(recurrence), shape=(3, 4))
    inputs, parameters, _ = problem.tensors()
    outputs, _ = problem.call(inputs, parameters)
    for y in outputs:
        assert y.shape == inputs[0].shape
        assert y.movedim(-1, 1).is_contiguous(), "the next layer would copy"


@each
def test_strides_of_the_input_do_not_matter(recurrence):
    problem = dataclasses.replace(plain(recurrence), shape=(3, 4))
    inputs, parameters, _ = problem.tensors()
    want, _ = problem.call(inputs, parameters)

    def strange(x):
        rows = x.movedim(-1, 1).contiguous().movedim(1, -1)
        every_other = torch.stack([x, torch.full_like(x, torch.nan)], -1).flatten(-2)[..., ::2]
        return rows, every_other, x.transpose(1, 2).contiguous().transpose(1, 2)

    for strided_inputs in zip(*map(strange, inputs), strict=True):
        got, _ = problem.call(list(strided_inputs), parameters)
        assert_same_bits(got, want)


@each
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5)], ids=str)
def test_nothing_in_nothing_out(recurrence, shape):
    problem = plain(recurrence, train="train" in recurrence.features)
    problem = dataclasses.replace(problem, learn="learn" in recurrence.features)
    _, parameters, _ = problem.tensors()
    inputs = [torch.zeros(shape, requires_grad=problem.train) for _ in range(recurrence.inputs)]
    outputs, _ = problem.call(inputs, parameters)
    assert {y.shape for y in outputs} == {shape}
    if problem.train:
        torch.stack([y.sum() for y in outputs]).sum().backward()
        assert present(inputs[0].grad).shape == shape
    if problem.learn:
        assert_same_bits([p.grad for p in parameters], [torch.zeros(1)] * len(parameters))


@each_that(lambda r: r.parameters)
def test_parameters_that_fit_no_channels_raise(recurrence):
    problem = plain(recurrence)
    _, parameters, _ = problem.tensors()
    inputs = [torch.zeros(1, 3, 5) for _ in range(recurrence.inputs)]
    with pytest.raises(ValueError, match="2 values of a parameter for 3 neurons"):
        problem.call(inputs, [p.expand(2).contiguous() for p in parameters])


@each_that(lambda r: "rotation" in r.parameters or "decays" in r.parameters)
def test_parameters_of_different_sizes_raise(recurrence):
    problem = plain(recurrence)
    inputs, parameters, _ = problem.tensors()
    parameters[0] = parameters[0].expand(5).contiguous()
    with pytest.raises(ValueError, match="different sizes"):
        problem.call(inputs, parameters)
