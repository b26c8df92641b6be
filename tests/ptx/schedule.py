"""Of a launch: what hardware is free to choose, what is counted, and how memory is addressed."""

from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]
Mask = Array | None  # None: all threads

WARP = 32
SHARED_BASE = 1024  # of the addresses of shared memory
TENSOR_BITS = 36  # of an address that are the offset in an allocation
LONGEST = 1 << 18  # branches that are taken, beyond which a kernel is taken to run forever


@dataclass(frozen=True)
class Schedule:
    """What hardware is free to choose."""

    warps: Literal["together", "forward", "backward", "shuffled"] = "together"
    copies: Literal["early", "late"] = "late"
    steps: int = 0  # by which approximate results lie beside the correctly rounded ones


@dataclass
class Counts:
    """What a launch did, exactly."""

    instructions: int = 0  # of warps; of all of them, and by their names
    loaded: int = 0  # bytes of global memory
    stored: int = 0
    sectors: int = 0  # of 32 bytes that the accesses of warps touch
    conflicts: int = 0  # passes of shared memory beyond the first, for want of other banks
    operations: dict[str, int] = field(default_factory=dict)
    never: list[str] = field(default_factory=list)  # texts of instructions that did not run, AMD's
    # with their place
