"""What instructions compute that touch no memory and no other thread, on arrays of all threads.

``OPERATIONS`` lists every one of them; what is not listed is unknown. ``SHUFFLES`` and
``REDUCTIONS`` are what lanes of a warp read of each other. Registers are bits: a result
that is not a number has the bits that PTX gives it, 0x7fffffff, and no subnormal is lost unless
``.ftz`` says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TYPES: dict[str, Any] = {
    "pred": np.bool_,
    "b8": np.uint8, "u8": np.uint8, "s8": np.int8,
    "b16": np.uint16, "u16": np.uint16, "s16": np.int16, "bf16": np.uint16,
    "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "f32": np.float32, "bf16x2": np.uint32,
    "b64": np.uint64, "u64": np.uint64, "s64": np.int64,
}  # fmt: skip
NAN = np.uint32(0x7FFFFFFF)


@dataclass(frozen=True)
class Operation:
    """A function of arrays with the types of its result and operands."""

    result: str
    operands: tuple[str, ...]
    function: Callable[..., Any]
    approximate: bool = False  # the result may be off by the units in the last place that ISA names


OPERATIONS: dict[str, Operation] = {}


def _define(op: str, result: str, operands: str, function: Callable[..., Any], **more: Any) -> None:
    OPERATIONS[op] = Operation(result, tuple(operands.split()), function, **more)


# Integers wrap around


def _divide(a: Array, b: Array) -> Array:
    """Divide toward zero; what a division by zero gives is not specified."""
    x, y = a.astype(np.int64), np.where(b == 0, 1, b).astype(np.int64)
    q = np.abs(x) // np.abs(y)
    return np.where(b == 0, -1, np.where((x < 0) != (y < 0), -q, q)).astype(a.dtype)


def _left(a: Array, b: Array) -> Array:
    bits = 8 * a.itemsize
    shifted = a << np.minimum(b, bits - 1).astype(a.dtype)
    return np.where(b >= bits, a.dtype.type(0), shifted)


def _right(a: Array, b: Array) -> Array:
    """Shift right; amounts beyond the width leave copies of the sign, or zeros."""
    bits = 8 * a.itemsize
    shifted = a >> np.minimum(b, bits - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.where(b >= bits, a.dtype.type(0), shifted)


def _extract(a: Array, at: Array, length: Array) -> Array:
    """Bit field of ``length`` bits from ``at``; of a signed type with its sign extended."""
    at, length = at.astype(np.int64) & 255, length.astype(np.int64) & 255
    value = a.astype(np.int64)
    if a.dtype.kind == "u":
        return ((value >> np.minimum(at, 63)) & ((1 << np.minimum(length, 32)) - 1)).astype(a.dtype)
    top = np.minimum(at + length - 1, 31)  # its bit is repeated above
    kept = (value >> np.minimum(at, 31)) & ((1 << np.clip(top - at + 1, 0, 32)) - 1)
    sign = (value >> np.clip(top, 0, 31)) & 1
    width = np.clip(top - at + 1, 0, 32)
    return np.where(length == 0, 0, kept - ((sign << width) * (width < 32))).astype(a.dtype)


def _permute(a: Array, b: Array, selector: Array) -> Array:
    """Four bytes out of eight, each with its sign repeated where the selector's top bit says so."""
    both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    result = np.zeros(np.broadcast(a, b, selector).shape, np.uint32)
    for k in range(4):
        pick = (selector >> np.uint32(4 * k)) & np.uint32(15)
        byte = (both >> ((pick & np.uint32(7)).astype(np.uint64) * np.uint64(8))) & np.uint64(255)
        sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
        byte = np.where(pick & np.uint32(8), sign, byte)
        result = result | (byte.astype(np.uint32) << np.uint32(8 * k))
    return result


for t in ("s32", "s64"):
    _define(f"add.{t}", t, f"{t} {t}", np.add)
    _define(f"mul.lo.{t}", t, f"{t} {t}", np.multiply)
    _define(f"mad.lo.{t}", t, f"{t} {t} {t}", lambda a, b, c: a * b + c)
_define("sub.s32", "s32", "s32 s32", np.subtract)
for t in ("s32", "u32"):
    _define(f"div.{t}", t, f"{t} {t}", _divide)
_define("abs.s32", "s32", "s32", np.abs)
_define("neg.s32", "s32", "s32", np.negative)
for t in ("s32", "u32"):
    w = t[0] + "64"
    d = TYPES[w]
    _define(f"mul.wide.{t}", w, f"{t} {t}", lambda a, b, d=d: a.astype(d) * b.astype(d))
    _define(f"mad.wide.{t}", w, f"{t} {t} {w}", lambda a, b, c, d=d: a.astype(d) * b.astype(d) + c)
    _define(f"mul.hi.{t}", t, f"{t} {t}", lambda a, b, d=d: (a.astype(d) * b.astype(d)) >> d(32))
    _define(f"min.{t}", t, f"{t} {t}", np.minimum)
    _define(f"max.{t}", t, f"{t} {t}", np.maximum)
    _define(f"shr.{t}", t, f"{t} u32", _right)
    _define(f"bfe.{t}", t, f"{t} u32 u32", _extract)
_define("mul.lo.s16", "s16", "s16 s16", np.multiply)
_define("min.s16", "s16", "s16 s16", np.minimum)
_define("shr.u16", "u16", "u16 u32", _right)
for t in ("b16", "b32", "b64"):
    _define(f"shl.{t}", t, f"{t} u32", _left)
for t in ("b16", "b32", "b64", "pred"):
    _define(f"and.{t}", t, f"{t} {t}", np.bitwise_and)
    _define(f"or.{t}", t, f"{t} {t}", np.bitwise_or)
    _define(f"xor.{t}", t, f"{t} {t}", np.bitwise_xor)
    _define(f"not.{t}", t, t, np.invert)
_define("prmt.b32", "b32", "b32 b32 b32", _permute)

# Moves, choices and comparisons

for t in ("b16", "u16", "b32", "u32", "b64", "pred"):
    _define(f"mov.{t}", t, t, lambda a: a)
for t in ("b16", "b32", "f32"):
    bits = t.replace("f", "b")  # what is not a number passes as it is
    _define(f"selp.{t}", bits, f"{bits} {bits} pred", lambda a, b, p: np.where(p, a, b))
for t in ("b16", "b32", "b64"):
    _define(f"setp.eq.{t}", "pred", f"{t} {t}", np.equal)
    _define(f"setp.ne.{t}", "pred", f"{t} {t}", np.not_equal)
_ORDER = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
for name, function in _ORDER.items():
    for t in ("s32", "u32", "s64", "u64"):
        _define(f"setp.{name}.{t}", "pred", f"{t} {t}", function)
for name, function in (_ORDER | {"eq": np.equal, "ne": np.not_equal}).items():
    _define(
        f"setp.{name}.f32", "pred", "f32 f32",
        lambda a, b, f=function: f(a, b) & (a == a) & (b == b),
    )  # fmt: skip
    _define(
        f"setp.{name}u.f32", "pred", "f32 f32",
        lambda a, b, f=function: f(a, b) | (a != a) | (b != b),
    )  # fmt: skip
_define("setp.num.f32", "pred", "f32 f32", lambda a, b: (a == a) & (b == b))
_define("setp.nan.f32", "pred", "f32 f32", lambda a, b: (a != a) | (b != b))

# float32, rounded to nearest even


def canonical(x: Array) -> Array:
    """Give every result that is not a number the bits that PTX gives it."""
    x = np.atleast_1d(x)
    missing = x != x
    if missing.any():
        x.view(np.uint32)[missing] = NAN
    return x


def _float(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *operands: canonical(function(*operands))


def _both(function: Callable[..., Any]) -> Callable[..., Any]:
    """Work on the two float32 of each register."""

    def packed(*operands: Array) -> Array:
        halves = [np.atleast_1d(x).view(np.float32) for x in operands]
        return canonical(function(*halves)).view(np.uint64)

    return packed


def flushed(x: Array) -> Array:
    """Replace subnormal numbers by a zero of their sign."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def fused(a: Array, b: Array, c: Array) -> Array:
    """Return ``a b + c`` rounded once.

    The product is exact in float64. Where the sum is not, its last bit is set (rounding to odd), so
    that the second rounding sees that something was lost (Boldo and Melquiond, 2008).
    """
    product, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = np.atleast_1d(product + c)
    other = total - product
    lost = (product - (total - other)) + (c - other)
    inexact = np.isfinite(total) & (lost != 0) & (total.view(np.int64) & 1 == 0)
    toward = np.where(lost > 0, np.inf, -np.inf)
    return np.where(inexact, np.nextafter(total, toward), total).astype(np.float32)


def _smaller(a: Array, b: Array) -> Array:
    least = np.fmin(a, b)
    return np.where(a == b, np.where(np.signbit(a), a, b), least)  # of two zeros -0


def _larger(a: Array, b: Array) -> Array:
    most = np.fmax(a, b)
    return np.where(a == b, np.where(np.signbit(a), b, a), most)


def _largest(a: Array, b: Array) -> Array:
    return np.where((a != a) | (b != b), np.float32(np.nan), _larger(a, b))


def neighbour(x: Array, steps: int) -> Array:
    """Return the float32 that lies so many steps above (below) each finite, normal one."""
    bits = np.atleast_1d(x).view(np.int32)
    normal = np.isfinite(x) & (np.abs(x) >= np.float32(2.0**-125))
    return (
        np.where(normal, bits + np.where(bits < 0, -steps, steps), bits)
        .astype(np.int32)
        .view(np.float32)
    )


def _power_of_two(x: Array) -> Array:
    return flushed(np.exp2(flushed(x).astype(np.float64)).astype(np.float32))


_define("add.rn.f32", "f32", "f32 f32", _float(np.add))
_define("sub.rn.f32", "f32", "f32 f32", _float(np.subtract))
_define("mul.rn.f32", "f32", "f32 f32", _float(np.multiply))
_define("div.rn.f32", "f32", "f32 f32", _float(np.divide))
_define("div.full.f32", "f32", "f32 f32", _float(np.divide), approximate=True)
_define("fma.rn.f32", "f32", "f32 f32 f32", _float(fused))
for name, function in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply)):
    _define(f"{name}.rn.f32x2", "b64", "b64 b64", _both(function))
_define("fma.rn.f32x2", "b64", "b64 b64 b64", _both(fused))
_define("min.f32", "f32", "f32 f32", _float(_smaller))
_define("max.f32", "f32", "f32 f32", _float(_larger))
_define("max.NaN.f32", "f32", "f32 f32", _float(_largest))
# since sm_100
_define("max.NaN.f32, three", "f32", "f32 f32 f32",
        _float(lambda a, b, c: _largest(_largest(a, b), c)))  # fmt: skip
_define("abs.f32", "f32", "f32", _float(np.abs))
# the sign comes first
_define("copysign.f32", "f32", "f32 f32", lambda a, b: np.copysign(b, a))
_define("ex2.approx.ftz.f32", "f32", "f32", _float(_power_of_two), approximate=True)
_define(
    "ex2.approx.f32", "f32", "f32",
    _float(lambda x: np.exp2(x.astype(np.float64)).astype(np.float32)), approximate=True,
)  # fmt: skip

# Conversions


def _to_integer(kind: Any) -> Callable[[Array], Array]:
    """Convert toward zero; what does not fit becomes the nearest that does, no number 0."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max

    def convert(x: Array) -> Array:
        whole = np.clip(np.trunc(x.astype(np.float64)), low, high)
        return np.where(x != x, 0, whole).astype(kind)

    return convert


def to_bfloat16(x: Array) -> Array:
    """Round float32 to bfloat16, ties to even."""
    bits = np.atleast_1d(x).view(np.uint32).astype(np.uint64)
    rounded = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(x != x, np.uint64(0x7FFF), rounded).astype(np.uint16)


def from_bfloat16(bits: Array) -> Array:
    """Return bfloat16 as float32."""
    return (np.atleast_1d(bits).astype(np.uint32) << np.uint32(16)).view(np.float32)


def _pair(high: Array, low: Array) -> Array:
    return (to_bfloat16(high).astype(np.uint32) << np.uint32(16)) | to_bfloat16(low)


for t in ("s16", "s32"):
    _define(f"cvt.rzi.{t}.f32", t, "f32", _to_integer(TYPES[t]))
for t in ("s16", "s32", "u32"):
    _define(f"cvt.rn.f32.{t}", "f32", t, lambda x: x.astype(np.float32))
for pair in (
    "s16.s8", "s8.s32", "s32.s16", "s64.s32", "u16.u32", "u32.u16", "u32.u64", "u64.u32",
):  # fmt: skip
    to, of = pair.split(".")
    _define(f"cvt.{pair}", to, of, lambda x, d=TYPES[to]: x.astype(d))
_define("cvt.rmi.ftz.f32.f32", "f32", "f32", _float(lambda x: np.floor(flushed(x))))
_define("cvt.f32.bf16", "f32", "bf16", from_bfloat16)
_define("cvt.rn.bf16.f32", "bf16", "f32", to_bfloat16)
_define("cvt.rn.bf16x2.f32", "bf16x2", "f32 f32", _pair)

REDUCTIONS = {"redux.sync.max.s32": np.max, "redux.sync.min.s32": np.min}
SHUFFLES: dict[str, Callable[..., Any]] = {
    "shfl.sync.up.b32": lambda own, b, last, _: (own - b, own - b >= last),
    "shfl.sync.down.b32": lambda own, b, last, _: (own + b, own + b <= last),
    "shfl.sync.bfly.b32": lambda own, b, last, _: (own ^ b, (own ^ b) <= last),
    "shfl.sync.idx.b32": lambda own, b, last, segment: (
        (own & segment) | (b & ~segment), ((own & segment) | (b & ~segment)) <= last,
    ),
}  # fmt: skip
