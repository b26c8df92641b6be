"""Recurrent layers against their oracle, and the laws that hold whatever the oracle says."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from known import present
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof.aot import (
    TARGETS,
    can_compile,
    compile_launch,
    recurrent_launches,
    resources,
    signature,
)
from lapilli.kernels.recurrences import recurrent_kernels, recurrent_triton
from lapilli.kernels.recurrences.recurrent import recurrent
from operator_calls import record_gradients
from recurrent_layers import FAMILIES, Layer, assert_equals_oracle, oracle
from torch.testing import assert_close
from turns import soon

pytestmark = pytest.mark.turns

each = pytest.mark.parametrize("name", FAMILIES)
# what does not fit takes loops of its own
each_with_care = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "cuba" else pytest.mark.slow) for n in FAMILIES]
)


def spoilt(name, value, **options):
    """Return a layer in which two neurons of a sample get ``value``."""
    layer = Layer(name, neurons=9, **options)
    with torch.no_grad():
        for part in layer.z[:1]:
            part[1, 2, 4] = value
            part[1, 3, 6:9] = value
    return layer


@each_with_care
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, 4e7, -3e5, 300.0], ids=str)
def test_what_does_not_fit_equals_oracle(name, value, device):
    assert_equals_oracle(spoilt(name, value, device=device), equal_nan=True)


@each_with_care
@pytest.mark.parametrize("gradient", ["lava-dl", "full"])
def test_not_a_number_reaches_all_neurons_one_step_later(name, gradient, device):
    layer = spoilt(name, math.nan, gradient=gradient, device=device)
    (y, *states), gradients = layer.run(recurrent)
    assert y[1, 2, 4].isnan()
    assert y[1, :2, 4].isfinite().all()
    assert y[1, :, 5:].isnan().all()
    assert y[[0, 2]].isfinite().all()
    assert all(s[1].isnan().all() and s[[0, 2]].isfinite().all() for s in states)
    for g in gradients[: layer.family.parts]:
        assert g[[0, 2]].isfinite().all()
    assert gradients[layer.family.parts - 1][1].isnan().all()


@each_with_care
def test_a_weight_that_is_not_a_number_needs_no_spike(name, device):
    layer = Layer(name, device=device)
    with torch.no_grad():
        layer.z[0].fill_(-0.25)  # no spike
        present(layer.r[0])[3, 1] = math.nan
    y, _, _ = layer.call(recurrent)
    assert y[:, 3].isnan().all()
    assert y[:, :3, 0].isfinite().all()


@each_with_care
@pytest.mark.parametrize("which", range(4))
def test_a_decay_that_is_not_finite_is_not_a_number(name, which, device):
    layer = Layer(name, device=device)
    if which < len(layer.decays):
        with torch.no_grad():
            layer.decays[which][2] = math.inf
        y, states, _ = layer.call(recurrent)
        assert y[:, 2].isnan().all()
        assert y[:, :2, 0].isfinite().all()
        assert all(s.isnan().all() for s in states)


def test_backward_gives_one_gradient_for_each_argument(monkeypatch):
    y, *_ = Layer("cuba").call(recurrent)
    recorded = record_gradients(y, monkeypatch)
    y.sum().backward()
    # the other one brings the input into rows
    assert {op for op, *_ in recorded} == {"lapilli::recurrent_fwd", "lapilli::turned"}
    for op, gradients, arguments in recorded:
        assert gradients == arguments, op


VARIANTS = {
    "lava_dl": {"shift": True},
    "state": {"state": True},
    "full": {"gradient": "full", "learn": True, "shift": True},
    "full_state": {"gradient": "full", "learn": True, "state": True},
    "bounded": {"gradient": "bounded", "learn": True, "shift": True},
    "zeros": {"learn": True},
    "image": {"shape": (5, 1, 1)},
}
GRADED = {"coarse": 2.0, "graded": True, "gradient": "full", "learn": True}


@pytest.mark.parametrize("variant", VARIANTS)
@each
def test_equals_oracle(name, variant, device):
    assert_equals_oracle(Layer(name, device=device, **VARIANTS[variant]))


@pytest.mark.parametrize("name", soon(("cuba",), ("cuba", "rf")))
def test_graded_equals_oracle(name, device):
    assert_equals_oracle(Layer(name, device=device, **GRADED))


@pytest.mark.slow
def test_scale_that_is_no_power_of_two_equals_oracle(device):
    assert_equals_oracle(Layer("cuba", device=device, scale=640))


@pytest.mark.parametrize("only", [0, 1])
@pytest.mark.parametrize("name", ["rf", "rf_iz"])
def test_feedback_to_one_part_equals_oracle(name, only, device):
    assert_equals_oracle(Layer(name, device=device, only=only, gradient="full"))


@pytest.mark.parametrize("neurons", [1, 7, 8, 9, 33])
@pytest.mark.parametrize("batch", [1, 17])
def test_sizes_equal_oracle(neurons, batch, device):
    assert_equals_oracle(Layer("cuba", neurons, batch, steps=40, device=device, shift=True))


@pytest.mark.skipif(BACKEND != "interpret", reason="the forms of the GPU run in the interpreter")
@pytest.mark.parametrize("form", ["SPLIT", "OUTSIDE"])
@pytest.mark.parametrize("name", ["cuba", "adrf"])
def test_forms_equal_oracle(name, form, monkeypatch):
    """Of 70 neurons, which are those of two programs."""
    monkeypatch.setattr(recurrent_triton, "_form", lambda *_sizes: getattr(recurrent_triton, form))
    for variant in ("state", "full", "bounded", "lava_dl"):
        assert_equals_oracle(Layer(name, neurons=70, steps=7, coarse=4.0, **VARIANTS[variant]))
    for value in (math.nan, math.inf, -3e5):
        assert_equals_oracle(spoilt(name, value, gradient="full"), equal_nan=True)


@pytest.mark.skipif(BACKEND != "interpret", reason="the forms of the GPU run in the interpreter")
@pytest.mark.parametrize("form", ["RESIDENT", "SPLIT", "OUTSIDE"])
def test_first_spikes_that_are_not_numbers_equal_oracle(form, monkeypatch):
    """Of a delayed layer they are no output of this call."""
    monkeypatch.setattr(recurrent_triton, "_form", lambda *_sizes: getattr(recurrent_triton, form))
    layer = Layer("cuba", state=True, shift=True, steps=3)
    layer.options["spikes"][1, 2] = math.nan
    y, states, last = layer.call(recurrent)
    want, want_states, want_last = layer.call(oracle)
    assert y[1, :, 0].eq(0).all()
    assert last[1].isnan().all()
    for got, right in zip((y, *states, last), (want, *want_states, want_last), strict=True):
        assert_close(got, right, rtol=0, atol=0, equal_nan=True)


@pytest.mark.skipif(BACKEND != "interpret", reason="the forms of the GPU run in the interpreter")
@pytest.mark.parametrize("value", [0.25, math.nan, 4e7, -3e5], ids=str)
@pytest.mark.parametrize("name", ["alif", "adrf"])
def test_a_scan_in_place_of_a_watch_equals_oracle(name, value, monkeypatch):
    """As layers of many neurons with four states do it."""
    monkeypatch.setattr(recurrent_kernels, "_WATCHED", 8)
    assert_equals_oracle(spoilt(name, value, gradient="full"), equal_nan=True)


@pytest.mark.slow
def test_gpu_kernels_equal_oracle_in_the_interpreter():
    wanted = "lava_dl or full_state or bounded or graded and cuba or to_one_part and rf-0"
    forms = "forms_equal or first_spikes"
    spoilt = "(reaches or needs_no) and (cuba or adrf_iz) or fit and cuba and (nan or 300000)"
    command = [
        *(sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "--tb=short"),
        *(__file__, "-k", f"{forms} or scan or equals_oracle and ({wanted}) or {spoilt}"),
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=os.environ | {"LAPILLI_BACKEND": "interpret"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(present(re.search(r"(\d+) passed", done.stdout))[1]) == 3 * len(FAMILIES) + 15 + 10


@each
def test_chunks_equal_one_run(name):
    layer = Layer(name, state=True)
    whole, *after = layer.call(recurrent)
    state, spikes = layer.options["state"], layer.options["spikes"]
    parts = []
    for first, last in ((0, 1), (1, 12), (12, 17)):
        z = [part[..., first:last] for part in layer.z]
        y, state, spikes = layer.call(recurrent, z, state=state, spikes=spikes)
        parts.append(y)
    assert_close(torch.cat(parts, -1), whole, rtol=0, atol=0)
    assert_close((state, spikes), tuple(after), rtol=0, atol=0)


@each
def test_samples_do_not_affect_each_other(name):
    layer = Layer(name)
    whole, _, _ = layer.call(recurrent)
    alone, _, _ = layer.call(recurrent, [part[1:2] for part in layer.z])
    assert_close(alone, whole[1:2], rtol=0, atol=0)


def test_shift_delays_by_one_step():
    prompt, late = (Layer("cuba", shift=shift).call(recurrent)[0] for shift in (False, True))
    assert_close(late, torch.nn.functional.pad(prompt, (1, 0))[..., :-1], rtol=0, atol=0)


def test_backward_repeats_itself():
    layer = Layer("cuba", 50, 20, 30, gradient="full", learn=True)
    first = layer.run(recurrent)
    for _ in range(10):
        assert_close(layer.run(recurrent), first, rtol=0, atol=0)


def test_the_full_gradient_is_another():
    default, full = (Layer("cuba", gradient=g).run(recurrent)[1][0] for g in ("lava-dl", "full"))
    assert (default - full).abs().max() > 0.01 * full.abs().max()


def test_inference_saves_nothing():
    layer = Layer("cuba")
    with torch.no_grad():
        assert layer.call(recurrent)[0].grad_fn is None


@pytest.mark.parametrize("shape", [(0, 5, 17), (3, 5, 0)], ids=str)
def test_nothing_in_nothing_out(shape):
    layer = Layer("cuba")
    layer.z = [torch.zeros(shape, requires_grad=True)]
    y, _, _ = layer.call(recurrent)
    assert y.shape == shape
    y.sum().backward()
    assert present(present(layer.r[0]).grad).abs().sum() == 0


def test_wrong_arguments_raise():
    with pytest.raises(
        ValueError, match="gradient is 'half'; expected one of 'lava-dl', 'full', 'bounded'"
    ):
        Layer("cuba", gradient="half").call(recurrent)
    layer = Layer("cuba")
    layer.r = [torch.zeros(5, 4)]
    with pytest.raises(ValueError, match=r"must have shape \(5, 5\); got \(5, 4\)"):
        layer.call(recurrent)


@pytest.mark.parametrize("name", ["cuba", "adrf"])
def test_operators_are_well_defined(name):
    layer = Layer(name, learn=True, gradient="full")
    seen = []

    def record(*args):
        seen.append(args)
        return torch.ops.lapilli.recurrent_fwd(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lapilli.kernels.recurrences.recurrent.recurrent_fwd", record)
        layer.call(recurrent)
    torch.library.opcheck(torch.ops.lapilli.recurrent_fwd.default, seen[0])


# Registers and spills of the kernels as they are compiled: forward resident to 256 neurons, or to
# 128 where two parts have feedback; backward to half of that.
COMPILED = [
    # family, neurons, gradient, most registers of forward and backward
    ("cuba", 128, "lava-dl", 168, 168),
    ("cuba", 256, "lava-dl", 128, 128),
    ("alif", 256, "lava-dl", 128, 128),
    ("adrf", 128, "lava-dl", 255, 168),
    ("cuba", 128, "full", 255, 255),
]
SPILLS = {("adrf", "gfx942"): 8}  # scalar registers, before the loop and behind it
SOON = {("cuba", 256, "sm_90"), ("cuba", 256, "gfx942")}


@pytest.mark.parametrize(
    ("name", "neurons", "gradient", "forward", "backward", "target"),
    [
        pytest.param(
            *row, target, marks=() if (*row[:2], target) in SOON else pytest.mark.slow,
            id=f"{row[0]}-{row[1]}-{row[2]}-{target}",
        )
        for row in COMPILED for target in ("sm_80", "sm_90", "gfx942")
    ],
)  # fmt: skip
def test_kernels_compile_without_spills(
    name, neurons, gradient, forward, backward, target, note_kernel
):
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    layer = Layer(name, neurons, 16, 3, gradient=gradient, shift=True)
    recorded = recurrent_launches(lambda: layer.call(recurrent)[0].sum().backward())
    quick, careful, *_, back = recorded
    assert careful.args == quick.args, "the same again, where it is wanted"
    for launch, most in ((quick, forward), (back, backward)):
        used = resources(compile_launch(launch, target))
        note_kernel(launch.kernel.__name__, f"{name} {neurons}", target, used)
        assert used.spills <= SPILLS.get((name, target), 0)
        assert used.registers <= (512 if TARGETS[target].backend == "hip" else most)
        assert used.shared <= (65536 if TARGETS[target].backend == "hip" else 164 * 1024)
        assert used.doubles == 0
        assert used.long_products == 0


def steps_of(name, neurons, gradient, **options):
    """Launches of a layer that is split over programs, by what they are compiled for."""
    layer = Layer(name, neurons, 16, 3, gradient=gradient, shift=True, **options)
    recorded = recurrent_launches(lambda: layer.call(recurrent)[0].sum().backward())
    assert {used_form(one) for one in recorded} == {recurrent_triton.SPLIT.value}
    assert len(recorded) == 6, "three steps, forward and back"
    found = {}
    for launch in recorded:
        types, constants = signature(launch, "sm_90")
        found[(launch.kernel.__name__, *types.items(), *constants.items())] = launch
    return found


@pytest.mark.parametrize("name", ["cuba", "adrf"])
def test_layers_of_all_sizes_are_split_by_the_same_kernels(name):
    """What is compiled for one of them, and has no spills, is what runs for all."""
    first, *others = (steps_of(name, n, "full", learn=True) for n in (257, 320, 384, 768, 1024))
    assert len(first) == 4, "the first step, one between, the last, and back"
    for other in others:
        assert other.keys() == first.keys()


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_120", "gfx942"])
@pytest.mark.parametrize("gradient", ["lava-dl", "bounded"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow
def test_layers_are_split_without_spills(name, gradient, target, note_kernel):
    if not can_compile(target):
        pytest.skip(f"this Triton cannot compile for {target} on its own")
    for launch in steps_of(name, 257, gradient, learn=gradient != "lava-dl").values():
        compiled = compile_launch(launch, target)
        used = resources(compiled)
        note_kernel(launch.kernel.__name__, f"{name}, split, {gradient}", target, used)
        if TARGETS[target].backend == "hip":  # scalar registers go to lanes of vector registers
            assert re.search(r"\.vgpr_spill_count: +0\b", compiled.asm["amdgcn"])
        else:
            assert used.spills == 0
        assert used.registers <= (256 if TARGETS[target].backend == "hip" else 255)
        assert used.shared <= 64 << 10, "what the least of them has"
        assert used.doubles == 0
        assert used.long_products == 0


@pytest.mark.parametrize("target", soon(("sm_90",), ("sm_80", "sm_90")))
@pytest.mark.parametrize("gradient", ["lava-dl", "full"])
@pytest.mark.parametrize(
    ("name", "neurons"), [("cuba", 256), pytest.param("adrf", 128, marks=pytest.mark.slow)]
)
def test_backward_stays_where_there_is_room(
    name, neurons, target, gradient, monkeypatch, note_kernel
):
    monkeypatch.setattr(recurrent_triton, "_shared_memory", lambda device: 163 << 10)
    layer = Layer(name, neurons, 16, 3, gradient=gradient, shift=True)
    _, _, launch = recurrent_launches(lambda: layer.call(recurrent)[0].sum().backward())
    assert used_form(launch) == 1
    used = resources(compile_launch(launch, target))
    note_kernel(launch.kernel.__name__, f"{name} {neurons}, room", target, used)
    assert used.spills == 0
    assert used.shared <= recurrent_triton._ROOM


def test_layers_beyond_a_program_take_a_launch_a_step():
    for neurons, quantum, form, launches in (
        (256, 1 / 32, recurrent_triton.RESIDENT, 2),
        (257, 1 / 32, recurrent_triton.SPLIT, 3),
        (1040, 1 / 32, recurrent_triton.SPLIT, 3),
        (65, None, recurrent_triton.OUTSIDE, 3),
    ):
        layer = Layer("cuba", neurons, 2, 3, quantum=quantum)
        recorded = recurrent_launches(lambda layer=layer: layer.call(recurrent))
        assert [used_form(one) for one in recorded] == [form.value] * launches


def used_form(launch):
    return launch.constants[-6]
