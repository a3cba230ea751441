"""Philox2x64-10 over whole arrays, without compiled code: for commands that end before a compiler has been loaded.

The same function as `philox.block`, block for block; 128-bit products by 32-bit limbs.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint64]

_ROUNDS = 10
_MULTIPLIER, _KEY_INCREMENT = 0xD2B74407B1CE6E93, 0x9E3779B97F4A7C15
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_FACTOR = np.uint64(_MULTIPLIER)
_FACTOR_LOW, _FACTOR_HIGH = np.uint64(_MULTIPLIER & 0xFFFFFFFF), np.uint64(_MULTIPLIER >> 32)


def blocks(counter_lo: Words, counter_hi: int, key: int, work: Words | None = None) -> tuple[Words, Words]:
    """(x0, x1), uint64[n]: one block for each of the low counter words, uint64[n], under one high word and one key.

    `work`: uint64[6, n] that is overwritten, and whose rows the results may be; memory that is asked for again and
    again costs more than the arithmetic.
    """
    lo, hi, a, b, c, d = np.empty((6, len(counter_lo)), np.uint64) if work is None else work
    lo[:], hi[:] = counter_lo, counter_hi
    for number in range(_ROUNDS):
        round_key = np.uint64((key + number * _KEY_INCREMENT) % (1 << 64))
        np.bitwise_and(lo, _LOW, out=a)
        np.right_shift(lo, _SHIFT, out=b)
        np.multiply(a, _FACTOR_LOW, out=c)
        np.right_shift(c, _SHIFT, out=c)
        np.multiply(b, _FACTOR_LOW, out=d)
        np.add(c, d, out=c)  # below 2^64: (2^32 - 1)^2 + 2^32 - 1
        np.multiply(a, _FACTOR_HIGH, out=a)
        np.bitwise_and(c, _LOW, out=d)
        np.add(a, d, out=a)
        np.right_shift(a, _SHIFT, out=a)
        np.right_shift(c, _SHIFT, out=c)
        np.multiply(b, _FACTOR_HIGH, out=b)
        np.add(b, c, out=b)
        np.add(b, a, out=b)  # upper half of lo * MULTIPLIER
        np.bitwise_xor(b, hi, out=b)
        np.bitwise_xor(b, round_key, out=b)
        np.multiply(lo, _FACTOR, out=lo)
        lo, hi, b = b, lo, hi
    return lo, hi
