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


def _operand(value: int) -> Words:
    """A word as an array without dimensions: numpy takes longer to look at a scalar than at an array."""
    return np.array(value, np.uint64)


_LOW, _SHIFT = _operand(0xFFFFFFFF), _operand(32)
_FACTOR = _operand(_MULTIPLIER)
_FACTOR_LOW, _FACTOR_HIGH = _operand(_MULTIPLIER & 0xFFFFFFFF), _operand(_MULTIPLIER >> 32)


def blocks(counter_lo: Words, counter_hi: int, key: int, work: Words | None = None) -> tuple[Words, Words]:
    """(x0, x1), uint64[n]: one block for each of the low counter words, uint64[n], under one high word and one key.

    `work`: uint64[6, n] that is overwritten, and whose rows the results may be; memory that is asked for again and
    again costs more than the arithmetic.
    """
    lo, hi, a, b, c, d = np.empty((6, len(counter_lo)), np.uint64) if work is None else work
    lo[:] = counter_lo
    for number in range(_ROUNDS):
        round_key = (key + number * _KEY_INCREMENT) % (1 << 64)
        np.bitwise_and(lo, _LOW, a)
        np.right_shift(lo, _SHIFT, b)
        np.multiply(a, _FACTOR_LOW, c)
        np.right_shift(c, _SHIFT, c)
        np.multiply(b, _FACTOR_LOW, d)
        np.add(c, d, c)  # below 2^64: (2^32 - 1)^2 + 2^32 - 1
        np.multiply(a, _FACTOR_HIGH, a)
        np.bitwise_and(c, _LOW, d)
        np.add(a, d, a)
        np.right_shift(a, _SHIFT, a)
        np.right_shift(c, _SHIFT, c)
        np.multiply(b, _FACTOR_HIGH, b)
        np.add(b, c, b)
        np.add(b, a, b)  # upper half of lo * MULTIPLIER
        if number == 0:  # the upper word of every counter is the same
            np.bitwise_xor(b, _operand(round_key ^ counter_hi), b)
        else:
            np.bitwise_xor(b, hi, b)
            np.bitwise_xor(b, _operand(round_key), b)
        np.multiply(lo, _FACTOR, lo)
        lo, hi, b = b, lo, hi
    return lo, hi
