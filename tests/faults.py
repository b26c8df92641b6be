"""What a release of torch, or the Triton that it brings, cannot do: tests skip it, docs say it.

docs/pytorch.md prints the table; tests/torch/test_pytorch_page.py holds it there.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch


@dataclass(frozen=True)
class Fault:
    """A fault of torch: in which releases, what fails, why, and what a user does."""

    releases: str
    gone: str  # the first release that was seen without it
    fails: str
    why: str
    instead: str

    @property
    def is_possible(self) -> bool:
        """Whether the torch at hand may have it."""
        return torch.__version__ < self.gone

    def skip(self) -> None:
        """Skip the test that runs, for this reason."""
        assert self.is_possible, f"torch {torch.__version__} is not meant to have this: {self.why}"
        pytest.skip(f"torch {torch.__version__}: {self.why}")


ADDS_UP = Fault(
    "2.7", "2.11", "gradients of FSDP2 on CPUs are too large by the number of processes",
    "gloo adds gradients up where FSDP2 asks for their mean, with plain torch layers too",
    "use DDP, or divide each `grad` by the number of processes",
)  # fmt: skip
HIDES_ERRORS = Fault(
    "2.7", "2.11", "an error that a block raises while a graph is made of it has no text",
    "Dynamo says `Observed exception`, and in which line, whatever was raised",
    "call the block directly, once, or look at that line",
)  # fmt: skip
ABSENT_POINTERS = Fault(
    "2.7", "2.11", "`Recurrent` and `KWTA` blocks on a GPU end in a `CompilationError`",
    "Triton 3.3 compiles no kernel that puts an absent tensor into a tuple",
    "train such blocks on the CPU, or with a later torch",
)  # fmt: skip
FAULTS = [ADDS_UP, HIDES_ERRORS, ABSENT_POINTERS]


@contextlib.contextmanager
def compiling_recurrent_layers() -> Iterator[None]:
    """Skip where Triton cannot compile their kernels."""
    from triton.compiler.errors import CompilationError  # not everywhere where torch is

    try:
        yield
    except CompilationError as error:
        if "'NoneType' object has no attribute 'type'" not in str(error):
            raise
        ABSENT_POINTERS.skip()


@contextlib.contextmanager
def raises_in_a_graph(match: str) -> Iterator[None]:
    """Expect an error while a graph is made, with a text that matches."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (its text is compared below)
        yield
    if HIDES_ERRORS.is_possible and "Observed exception" in str(caught.value):
        HIDES_ERRORS.skip()
    caught.match(match)


def table() -> list[str]:
    """Return the lines of the table: a row for each fault."""
    rows = [(f.releases, f.fails, f.why, f.instead) for f in FAULTS]
    return [
        "| " + " | ".join(row) + " |"
        for row in [("torch", "what fails", "why", "what to do"), ("---",) * 4, *rows]
    ]
