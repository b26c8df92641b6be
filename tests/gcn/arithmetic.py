"""What instructions compute that touch no memory and no other lane, on arrays of all lanes.

``VECTOR`` and ``SCALAR`` list every one of them by its name without ``_e32`` and ``_e64``; what is
not listed is unknown. No subnormal is lost unless an instruction says so. What is not a number has
the bits that the CPU gives it: those of a GPU differ by its kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptx.arithmetic import _larger, _smaller, _to_integer, fused

Array = NDArray[Any]

TYPES: dict[str, Any] = {
    "u32": np.uint32, "i32": np.int32, "f32": np.float32, "u64": np.uint64, "i64": np.int64,
    "mask": np.bool_,
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """A function of arrays with the types of its results and operands."""

    results: tuple[str, ...]
    operands: tuple[str, ...]
    function: Callable[..., Any]
    approximate: bool = False  # off by less than a unit in the last place; gives float64
    reads_vcc: bool = False


VECTOR: dict[str, Operation] = {}
SCALAR: dict[str, Operation] = {}  # the last result is the condition bit, if it is a mask


def _vector(op: str, results: str, operands: str, function: Callable[..., Any], **how: Any) -> None:
    VECTOR[op] = Operation(tuple(results.split()), tuple(operands.split()), function, **how)


def _scalar(op: str, results: str, operands: str, function: Callable[..., Any]) -> None:
    SCALAR[op] = Operation(tuple(results.split()), tuple(operands.split()), function)


def low24(a: Array) -> Array:
    """Return the lower 24 bits with their sign, or without for an unsigned type."""
    return (a << 8) >> 8


def _high(a: Array, b: Array) -> Array:
    """Return the upper half of a product."""
    wide = np.int64 if a.dtype.kind == "i" else np.uint64
    return ((a.astype(wide) * b.astype(wide)) >> wide(32)).astype(a.dtype)


def _reversed(a: Array) -> Array:
    bits = np.unpackbits(np.atleast_1d(a)[..., None].view(np.uint8), axis=-1, bitorder="little")
    return np.packbits(bits, axis=-1, bitorder="big").view(">u4")[..., 0].astype(np.uint32)


# Integers wrap around

_vector("v_add_u32", "u32", "u32 u32", np.add)
_vector("v_sub_u32", "u32", "u32 u32", np.subtract)
_vector("v_subrev_u32", "u32", "u32 u32", lambda a, b: b - a)
_vector("v_add3_u32", "u32", "u32 u32 u32", lambda a, b, c: a + b + c)
_vector("v_mul_lo_u32", "u32", "u32 u32", np.multiply)
_vector("v_mul_hi_u32", "u32", "u32 u32", _high)
_vector("v_mul_hi_i32", "i32", "i32 i32", _high)
_vector("v_mul_i32_i24", "i32", "i32 i32", lambda a, b: low24(a) * low24(b))
for t in ("i32", "u32"):
    _vector(f"v_mad_{t}_{t[0]}24", t, f"{t} {t} {t}", lambda a, b, c: low24(a) * low24(b) + c)
    _vector(f"v_max_{t}", t, f"{t} {t}", np.maximum)
    _vector(f"v_min_{t}", t, f"{t} {t}", np.minimum)
_vector("v_max3_i32", "i32", "i32 i32 i32", lambda a, b, c: np.maximum(np.maximum(a, b), c))
_vector("v_med3_i32", "i32", "i32 i32 i32",
        lambda a, b, c: np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)))  # fmt: skip


def _multiply_add(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return ``a b + c`` in 64 bits, and whether it has a carry."""
    total = a.astype(np.uint64) * b.astype(np.uint64) + c
    return total, total < c


_vector("v_mad_u64_u32", "u64 mask", "u32 u32 u64", _multiply_add)

# Bits; amounts of shifts count modulo the width

_vector("v_and_b32", "u32", "u32 u32", np.bitwise_and)
_vector("v_or_b32", "u32", "u32 u32", np.bitwise_or)
_vector("v_xor_b32", "u32", "u32 u32", np.bitwise_xor)
_vector("v_or3_b32", "u32", "u32 u32 u32", lambda a, b, c: a | b | c)
_vector("v_bfrev_b32", "u32", "u32", _reversed)
_vector("v_lshlrev_b32", "u32", "u32 u32", lambda n, a: a << (n & 31))
_vector("v_lshrrev_b32", "u32", "u32 u32", lambda n, a: a >> (n & 31))
_vector("v_ashrrev_i32", "i32", "u32 i32", lambda n, a: a >> (n & 31).astype(np.int32))
_vector("v_lshlrev_b64", "u64", "u32 u64", lambda n, a: a << (n & 63).astype(np.uint64))
_vector("v_lshl_or_b32", "u32", "u32 u32 u32", lambda a, n, c: (a << (n & 31)) | c)
_vector("v_lshl_add_u32", "u32", "u32 u32 u32", lambda a, n, c: (a << (n & 31)) + c)
_vector(
    "v_lshl_add_u64", "u64", "u64 u32 u64", lambda a, n, c: (a << (n & 7).astype(np.uint64)) + c
)

# Moves, choices and comparisons

_vector("v_mov_b32", "u32", "u32", lambda a: a)
_vector("v_mov_b64", "u64", "u64", lambda a: a)
_vector("v_cndmask_b32", "u32", "u32 u32 mask", lambda a, b, p: np.where(p, b, a))
_ORDER = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip
for name, f in _ORDER.items():
    for t in ("i32", "u32"):
        _vector(f"v_cmp_{name}_{t}", "mask", f"{t} {t}", f)
        _scalar(f"s_cmp_{name.replace('ne', 'lg')}_{t}", "mask", f"{t} {t}", f)
    if name != "ne":
        _vector(f"v_cmp_{name}_f32", "mask", "f32 f32", f)
        opposite = "neq" if name == "eq" else f"n{name}"
        _vector(f"v_cmp_{opposite}_f32", "mask", "f32 f32", lambda a, b, f=f: ~f(a, b))
_vector("v_cmp_o_f32", "mask", "f32 f32", lambda a, b: (a == a) & (b == b))
_vector("v_cmp_u_f32", "mask", "f32 f32", lambda a, b: (a != a) | (b != b))

# float32, rounded to nearest even


def _median(a: Array, b: Array, c: Array) -> Array:
    """Return the median; the least if one is no number."""
    middle = _larger(_smaller(a, b), _smaller(_larger(a, b), c))
    return np.where((a == a) & (b == b) & (c == c), middle, _smaller(_smaller(a, b), c))


def _exponent(x: Array) -> Array:
    return ((x.view(np.uint32) >> 23) & 255).astype(np.int32)


def _is_subnormal(x: Array) -> Array:
    return (np.abs(x) < np.float32(2.0**-126)) & (x != 0)


def scale_for_division(a: Array, below: Array, above: Array) -> tuple[Array, Array]:
    """Scale ``a``, one of denominator ``below`` and numerator ``above``, so that steps are exact.

    The mask says that the quotient has to be scaled back.
    """
    a, below, above = np.broadcast_arrays(*map(np.atleast_1d, (a, below, above)))
    a, below, above = map(np.ascontiguousarray, (a, below, above))
    distance = _exponent(above) - _exponent(below)
    inverse = np.float64(1) / below.astype(np.float64)
    small = np.abs(inverse) < 2.0**-126
    tiny = np.abs(above.astype(np.float64) * inverse) < 2.0**-126
    is_below, is_above = a == below, a == above
    up, down = a * np.float32(2.0**64), a * np.float32(2.0**-64)
    value = [np.float32(np.nan), np.where(is_below, up, a), up, np.where(is_below, up, a), down,
             np.where(is_above, up, a), up]  # fmt: skip
    cases = [(below == 0) | (above == 0), distance >= 96, _is_subnormal(below), small & tiny, small,
             tiny, _exponent(above) <= 23]  # fmt: skip
    back = np.select(cases, [False, True, False, True, False, True, False], False)
    return np.select(cases, value, a).astype(np.float32), back


def _fused_for_division(a: Array, b: Array, c: Array, back: Array) -> Array:
    found = fused(a, b, c)
    factor = np.where(_exponent(np.atleast_1d(c)) > 127, np.float32(2.0**64), np.float32(2.0**-64))
    return np.where(back, found * factor, found)


def _fix_quotient(a: Array, below: Array, above: Array) -> Array:
    """Return the quotient ``a``, or what a division gives where that cannot be."""
    minus = np.signbit(below) != np.signbit(above)
    none = np.zeros(np.broadcast(a, below, above).shape, np.float32)
    infinite, missing = none + np.float32(np.inf), none + np.float32(np.nan)
    distance = _exponent(np.atleast_1d(above)) - _exponent(np.atleast_1d(below))
    cases = [
        (below != below) | (above != above) | ((below == 0) & (above == 0))
        | (np.isinf(below) & np.isinf(above)),
        (below == 0) | np.isinf(above), np.isinf(below) | (above == 0), distance < -150,
    ]  # fmt: skip
    found = np.select(cases, [missing, infinite, none, none], np.abs(a))
    return np.where(minus, -found, found).astype(np.float32)


def _power_of_two(a: Array) -> Array:
    """Return ``2 ** a``; 0 below the normal numbers."""
    found = np.exp2(a.astype(np.float64))
    return np.where(found < 2.0**-126, 0.0, found)


def rounded(x: Array, way: int) -> Array:
    """Round float64 to float32: up (1), down (-1), or to nearest."""
    nearest = x.astype(np.float32)
    off = (nearest < x) if way > 0 else (nearest > x)
    beyond = np.nextafter(nearest, np.float32(way * np.inf)) if way else nearest
    return np.where(off & np.isfinite(nearest), beyond, nearest)


_vector("v_add_f32", "f32", "f32 f32", np.add)
_vector("v_sub_f32", "f32", "f32 f32", np.subtract)
_vector("v_subrev_f32", "f32", "f32 f32", lambda a, b: b - a)
_vector("v_mul_f32", "f32", "f32 f32", np.multiply)
_vector("v_fma_f32", "f32", "f32 f32 f32", fused)
_vector("v_max_f32", "f32", "f32 f32", _larger)
_vector("v_min_f32", "f32", "f32 f32", _smaller)
_vector("v_med3_f32", "f32", "f32 f32 f32", _median)
_vector("v_floor_f32", "f32", "f32", np.floor)
_vector("v_rcp_f32", "f32", "f32", lambda a: 1 / a.astype(np.float64), approximate=True)
_vector("v_rcp_iflag_f32", "f32", "f32", lambda a: 1 / a.astype(np.float64), approximate=True)
_vector("v_exp_f32", "f32", "f32", _power_of_two, approximate=True)
_vector("v_div_scale_f32", "f32 mask", "f32 f32 f32", scale_for_division)
_vector("v_div_fmas_f32", "f32", "f32 f32 f32", _fused_for_division, reads_vcc=True)
_vector("v_div_fixup_f32", "f32", "f32 f32 f32", _fix_quotient)
_vector("v_cvt_f32_i32", "f32", "i32", lambda a: a.astype(np.float32))
_vector("v_cvt_f32_u32", "f32", "u32", lambda a: a.astype(np.float32))
_vector("v_cvt_i32_f32", "i32", "f32", _to_integer(np.int32))
_vector("v_cvt_u32_f32", "u32", "f32", _to_integer(np.uint32))

PACKED: dict[str, Callable[..., Any]] = {"v_pk_add_f32": np.add, "v_pk_mul_f32": np.multiply}

# Scalars, one a wave; the condition bit says whether a result of bits is not zero


def _with_bit(function: Callable[..., Any]) -> Callable[..., Any]:
    def both(*operands: Array) -> tuple[Array, Array]:
        found = function(*operands)
        return found, found != 0

    return both


def _overflow(function: Callable[..., Any]) -> Callable[..., Any]:
    def both(a: Array, b: Array) -> tuple[Array, Array]:
        found, exact = function(a, b), function(a.astype(np.int64), b.astype(np.int64))
        return found, found != exact

    return both


def _carry(a: Array, b: Array, bit: Array | int = 0) -> tuple[Array, Array]:
    total = a.astype(np.uint64) + b.astype(np.uint64) + np.asarray(bit, np.uint64)
    return total.astype(np.uint32), total > np.uint64(0xFFFFFFFF)


def _field(a: Array, where: Array) -> Array:
    """Return a bit field with its sign: its place in the lower bits, its width from bit 16 on."""
    at, width = where & 31, np.minimum(where >> 16 & 127, 32)
    value = (a.astype(np.int64) >> at) & ((np.int64(1) << width) - 1)
    sign = np.where(width > 0, (np.int64(1) << np.maximum(width, 1)) >> 1, 0)
    return ((value ^ sign) - sign).astype(np.int32)


_scalar("s_add_i32", "i32 mask", "i32 i32", _overflow(np.add))
_scalar("s_sub_i32", "i32 mask", "i32 i32", _overflow(np.subtract))
_scalar("s_add_u32", "u32 mask", "u32 u32", _carry)
_scalar("s_addc_u32", "u32 mask", "u32 u32 condition", _carry)
_scalar("s_mul_i32", "i32", "i32 i32", np.multiply)
_scalar("s_mul_hi_i32", "i32", "i32 i32", _high)
_scalar("s_mul_hi_u32", "u32", "u32 u32", _high)
_scalar("s_min_i32", "i32 mask", "i32 i32", lambda a, b: (np.minimum(a, b), a < b))
_scalar("s_abs_i32", "i32 mask", "i32", _with_bit(np.abs))
for w in ("32", "64"):
    t = f"u{w}"
    _scalar(f"s_mov_b{w}", t, t, lambda a: a)
    _scalar(f"s_and_b{w}", f"{t} mask", f"{t} {t}", _with_bit(np.bitwise_and))
    _scalar(f"s_andn2_b{w}", f"{t} mask", f"{t} {t}", _with_bit(lambda a, b: a & ~b))
    _scalar(f"s_or_b{w}", f"{t} mask", f"{t} {t}", _with_bit(np.bitwise_or))
    _scalar(f"s_xor_b{w}", f"{t} mask", f"{t} {t}", _with_bit(np.bitwise_xor))
    _scalar(f"s_cselect_b{w}", t, f"{t} {t} condition", lambda a, b, bit: np.where(bit, a, b))
_scalar("s_lshl_b32", "u32 mask", "u32 u32", _with_bit(lambda a, n: a << (n & 31)))
_scalar("s_lshr_b32", "u32 mask", "u32 u32", _with_bit(lambda a, n: a >> (n & 31)))
_scalar("s_lshl_b64", "u64 mask", "u64 u32",
        _with_bit(lambda a, n: a << (n & 63).astype(np.uint64)))  # fmt: skip
_scalar("s_ashr_i32", "i32 mask", "i32 u32",
        _with_bit(lambda a, n: a >> (n & 31).astype(np.int32)))  # fmt: skip
_scalar("s_bfe_i32", "i32 mask", "i32 u32", _with_bit(_field))
_scalar("s_brev_b32", "u32", "u32", _reversed)
_scalar("s_bitcmp0_b32", "mask", "u32 u32", lambda a, n: (a >> (n & 31)) & 1 == 0)
_scalar("s_bitcmp1_b32", "mask", "u32 u32", lambda a, n: (a >> (n & 31)) & 1 == 1)
