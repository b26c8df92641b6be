"""Faults planted in AMD's assembly of kernels are found, each by what watches for it."""

import functools
import re

import pytest
from known import present
from lapilli.kernels.numbers.language import BACKEND
from lapilli.kernels.proof.aot import can_compile
from lapilli.kernels.proof.calls import RECURRENCES
from ptx.launcher import program_of
from ptx.memory import Fault
from ptx.work import SCHEDULES, listed

TARGET = "gfx942"
pytestmark = pytest.mark.skipif(
    BACKEND != "auto" or not can_compile(TARGET), reason="kernels are compiled for this GPU"
)
kernels = pytest.mark.parametrize("kernel", ["fwd", pytest.param("bwd", marks=pytest.mark.slow)])

# the second program is not full; seven chunks, and four, two and one rows are left
CUBA = listed(RECURRENCES["cuba"], "learned", (2, 65, 63))


@functools.cache
def ran(kernel):
    """Return a launch of the kernel."""
    launched = CUBA.check(TARGET, SCHEDULES[0]).launched
    (one,) = [each for each in launched if each.name.endswith(f"{kernel}_kernel")]
    return one


def text_of(kernel):
    return ran(kernel).text


@functools.cache
def places(kernel, pattern):
    """Return the numbers of the instructions that fit a pattern and run."""
    never = {int(text.partition(":")[0]) for text in ran(kernel).counts.never}
    code = program_of(text_of(kernel)).kernel.code
    first = [i.op for i in code].index("s_branch")  # arguments are loaded before it
    return [
        k for k, i in enumerate(code)
        if k > first and k not in never and re.fullmatch(pattern, i.text)
    ]  # fmt: skip


def found_by(kernel, number, pattern, change):
    """Name what finds a change of an instruction: the kind of fault, or wrong results."""

    def edit(text):
        if f"\n_cuba_{kernel}_kernel:" not in text:
            return text
        wanted = program_of(text).kernel.code[number].text
        lines, seen = text.split("\n"), -1
        for k, line in enumerate(lines):
            plain = " ".join(line.partition(";")[0].split())
            seen += bool(re.fullmatch(r"(v|s|global|ds)_\w+.*", plain))
            if seen == number:
                assert plain == wanted
                lines[k] = "\t" + re.sub(pattern, change, plain)
                return "\n".join(lines)
        raise AssertionError(number)

    for schedule in SCHEDULES:
        try:
            CUBA.check(TARGET, schedule, edit=edit)
        except Fault as fault:
            return fault.kind
        except AssertionError:
            return "results"
    return None


def found(kernel, pattern, change, every=1):
    """Return what finds a change, for every so many of its places."""
    some = places(kernel, pattern)
    assert some
    return [found_by(kernel, k, pattern, change) for k in some[::every]]


@pytest.mark.slow
@kernels
def test_every_wait_is_needed(kernel):
    assert set(found(kernel, r"s_waitcnt (.*)", "s_nop 0")) == {"in flight"}


@kernels
def test_waits_for_one_access_too_few_are_found(kernel):
    for k in places(kernel, r"s_waitcnt vmcnt\(\d+\)"):
        text = program_of(text_of(kernel)).kernel.code[k].text
        one_more = f"s_waitcnt vmcnt({int(present(re.search(r'[0-9]+', text))[0]) + 1})"
        assert found_by(kernel, k, r"s_waitcnt.*", one_more) == "in flight"


# What is planted, and how many of its places are tried. Not seen is what changes nothing, as a mask
# around the decay that all neurons share, and what moves a sum by less than its tolerance.
CHANGES = {
    "mask": (r"s_and_saveexec_b64 (s\[\S+\]), \S+", r"s_mov_b64 \1, exec", 12),
    "place of a store": (r"(global_store_dword .*), off", r"\1, off offset:4", 10),
    "place of a load": (r"(global_load_dword .*), off", r"\1, off offset:4", 8),
    "loop": (r"s_cbranch_scc0 (.*)", r"s_cbranch_scc1 \1", 1),
    "branch": (r"s_cbranch_execz (.*)", r"s_cbranch_execnz \1", 12),
    "comparison": (r"v_cmp_gt_i32_e(\d\d) (.*)", r"v_cmp_le_i32_e\1 \2", 6),
    "sum": (r"v_add_u32_e32 (.*)", r"v_sub_u32_e32 \1", 14),
}


@pytest.mark.slow
@kernels
@pytest.mark.parametrize("what", CHANGES)
def test_changes_are_found(what, kernel):
    kinds = found(kernel, *CHANGES[what])
    assert set(kinds) <= {"outside", "race", "results", "unwritten", "endless", "in flight", None}
    assert kinds.count(None) <= 1 < len(kinds)


def test_barriers_are_needed():
    """Of the forward kernel, whose programs agree on whether all numbers fit."""
    assert set(found("fwd", r"s_barrier", "s_nop 0")) == {"race"}
