"""Philox2x64-10, Philox4x64-10 for the bootstrap, and the 128-bit products that exact kernels need.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11). numpy's `Philox` is the 4x64
variant, from which code without a compiler can draw as well. Outside compiled code, wrap arguments of 2^63 and more in
`np.uint64`: a bare Python int is taken for an int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from seg1b.kernels.jit import njit
from seg1b.kernels.streams import Stream

ROUNDS = 10
MULTIPLIER = np.uint64(0xD2B74407B1CE6E93)
KEY_INCREMENT = np.uint64(0x9E3779B97F4A7C15)

_MULTIPLIERS_4 = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_KEY_INCREMENTS_4 = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_ONE = np.uint64(1)
_WORDS = 1 << 64
_U01_SCALE = 2.0**-64
_LARGEST_BELOW_ONE = 1.0 - 2.0**-53


def _multiply_high_lowering(_typing: Any, _a: Any, _b: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        a, b = (builder.zext(value, wide) for value in arguments)
        return builder.trunc(builder.lshr(builder.mul(a, b), ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


def _compare_products_lowering(_typing: Any, _a: Any, _b: Any, _c: Any, _d: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide, narrow = ir.IntType(128), ir.IntType(64)
        a, b, c, d = (builder.sext(value, wide) for value in arguments)
        left, right = builder.mul(a, b), builder.mul(c, d)
        above = builder.zext(builder.icmp_signed(">", left, right), narrow)
        below = builder.zext(builder.icmp_signed("<", left, right), narrow)
        return builder.sub(above, below)

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


_multiply_high = cast(Callable[[Any, Any], Any], intrinsic(_multiply_high_lowering))
_compare_products = cast(Callable[[Any, Any, Any, Any], Any], intrinsic(_compare_products_lowering))


@njit
def multiply_high(a: Any, b: Any) -> Any:
    """Upper 64 bits of the 128-bit product of two uint64 values."""
    return _multiply_high(np.uint64(a), np.uint64(b))


@njit
def compare_products(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Sign (-1, 0, 1) of `a*b - c*d` for int64 values, exact: both products are formed in 128 bits."""
    return _compare_products(np.int64(a), np.int64(b), np.int64(c), np.int64(d))


@njit
def multiply_divide(a: Any, b: Any, c: Any) -> Any:
    """Exact quotient and remainder of `a*b / c` for int64 values >= 0 whose product may exceed 64 bits.

    Holds for quotients up to 2^50 and c up to 2^61: the binary64 estimate is then off by less than one,
    and the remainder it leaves, in [-c, 2c), is exact in wrapping 64-bit arithmetic and tells how to
    correct it.
    """
    quotient = np.int64(np.float64(a) * np.float64(b) / np.float64(c))
    remainder = np.int64(a) * np.int64(b) - quotient * np.int64(c)
    if remainder < 0:
        quotient -= 1
        remainder += c
    elif remainder >= c:
        quotient += 1
        remainder -= c
    return quotient, remainder


@njit
def block(counter_lo: Any, counter_hi: Any, key: Any) -> Any:
    """One Philox2x64-10 block: the two uint64 outputs (x0, x1) of a 128-bit counter and a 64-bit key."""
    lo = np.uint64(counter_lo)
    hi = np.uint64(counter_hi)
    k = np.uint64(key)
    for _ in range(ROUNDS):
        high = _multiply_high(MULTIPLIER, lo)
        low = MULTIPLIER * lo
        lo = high ^ k ^ hi
        hi = low
        k = k + KEY_INCREMENT
    return lo, hi


@njit
def block_4x64(counter: Any, counter_upper: Any, key: Any) -> Any:
    """One Philox4x64-10 block, four uint64, of the counter (counter, 0, counter_upper, 0) and the key (key, 0)."""
    c0, c1, c2, c3 = np.uint64(counter), np.uint64(0), np.uint64(counter_upper), np.uint64(0)
    k0, k1 = np.uint64(key), np.uint64(0)
    for _ in range(ROUNDS):
        high0, low0 = _multiply_high(_MULTIPLIERS_4[0], c0), _MULTIPLIERS_4[0] * c0
        high1, low1 = _multiply_high(_MULTIPLIERS_4[1], c2), _MULTIPLIERS_4[1] * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _KEY_INCREMENTS_4[0], k1 + _KEY_INCREMENTS_4[1]
    return c0, c1, c2, c3


@njit
def u01(x: Any) -> Any:
    """A uint64 as binary64 in the open interval (0, 1): `(x + 1) * 2^-64`, 1.0 replaced by 1 - 2^-53."""
    u = (np.float64(np.uint64(x)) + 1.0) * _U01_SCALE
    if u >= 1.0:
        return _LARGEST_BELOW_ONE
    return u


@njit
def fill(counter_lo: Any, counter_hi: Any, key: Any, x0: Any, x1: Any) -> None:
    """Fill x0, x1 (uint64[n]) with n successive blocks; the 128-bit counter advances by one per block."""
    lo = np.uint64(counter_lo)
    hi = np.uint64(counter_hi)
    for i in range(x0.shape[0]):
        x0[i], x1[i] = block(lo, hi, key)
        lo = lo + _ONE
        if lo == np.uint64(0):
            hi = hi + _ONE


@njit
def fill_at(counter_lo: Any, counter_hi: Any, key: Any, x0: Any, x1: Any) -> None:
    """Fill x0, x1 (uint64[n]) with the blocks at counters and keys given per element (uint64[n] each)."""
    for i in range(x0.shape[0]):
        x0[i], x1[i] = block(counter_lo[i], counter_hi[i], key[i])


def draw_below(stream: Stream, bound: int) -> int:
    """Uniform integer in [0, bound), 1 <= bound <= 2^64, by rejection: no modulo bias.

    Raises ValueError for another bound.
    """
    if not 1 <= bound <= _WORDS:
        raise ValueError(f"bound must be in [1, 2^64], got {bound}")
    limit = _WORDS - _WORDS % bound
    attempt = 0
    while True:
        lo, hi = stream.counter_after(attempt)
        x0 = int(block(np.uint64(lo), np.uint64(hi), np.uint64(stream.key))[0])
        if x0 < limit:
            return x0 % bound
        attempt += 1
