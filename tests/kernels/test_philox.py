"""Philox blocks and the 128-bit products."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.philox import (
    block,
    compare_products,
    fill,
    fill_at,
    multiply_divide,
    multiply_high,
    u01,
)
from seg1b.kernels.philox_arrays import blocks

WORD = st.integers(0, 2**64 - 1)
SIGNED = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1])


def slow_block(lo: int, hi: int, key: int) -> tuple[int, int]:
    """The definition, in Python integers."""
    for _ in range(10):
        product = 0xD2B74407B1CE6E93 * lo
        lo, hi = (product >> 64) ^ key ^ hi, product % 2**64
        key = (key + 0x9E3779B97F4A7C15) % 2**64
    return lo, hi


@given(WORD, WORD, WORD)
def test_a_block_is_ten_rounds_of_the_definition(lo: int, hi: int, key: int) -> None:
    """Compiled block and big-integer definition agree."""
    assert tuple(block(np.uint64(lo), np.uint64(hi), np.uint64(key))) == slow_block(lo, hi, key)


@given(st.lists(WORD, max_size=20), WORD, WORD)
def test_blocks_of_arrays_are_blocks(lows: list[int], hi: int, key: int) -> None:
    """Array arithmetic without a compiler gives the definition, in memory of its own or in memory given, poisoned."""
    counter = np.array(lows, np.uint64)
    expected = [slow_block(low, hi, key) for low in lows]
    for work in (None, np.full((6, len(lows)), 0xDEADBEEF, np.uint64)):
        x0, x1 = blocks(counter, hi, key, work)
        assert list(zip(x0.tolist(), x1.tolist(), strict=True)) == expected
    assert counter.tolist() == lows


@given(WORD, WORD)
def test_multiply_high_is_the_upper_word(a: int, b: int) -> None:
    """The upper 64 bits of the product."""
    assert multiply_high(np.uint64(a), np.uint64(b)) == a * b >> 64


@given(SIGNED, SIGNED, SIGNED, SIGNED)
def test_products_compare_exactly(a: int, b: int, c: int, d: int) -> None:
    """The sign of a*b - c*d, where neither product fits in 64 bits."""
    difference = a * b - c * d
    assert compare_products(a, b, c, d) == (difference > 0) - (difference < 0)
    assert compare_products(a, b, a, b) == 0


@given(st.integers(0, 2**50), st.integers(1, 2**61), st.integers(0, 2**61 - 1), st.booleans())
def test_multiply_divide_is_exact_up_to_its_bound(q: int, c: int, r: int, edge: bool) -> None:
    """Quotients up to 2^50 and divisors up to 2^61, remainders at both ends included."""
    r = c - 1 if edge else r % c
    a, b = q, c
    assert tuple(multiply_divide(a, b, c)) == divmod(a * b, c)
    a = min(c, 2**61)
    b = min(q, 2**50)
    assert tuple(multiply_divide(a, b, c)) == divmod(a * b, c)
    b = max(1, q)
    a = (q * c + r) // b
    if a < 2**63 and a * b // c <= 2**50:
        assert tuple(multiply_divide(a, b, c)) == divmod(a * b, c)


def test_fill_carries_into_the_upper_counter() -> None:
    """The 128-bit counter goes on after 2^64 - 1."""
    x0, x1 = np.zeros(3, dtype=np.uint64), np.zeros(3, dtype=np.uint64)
    fill(np.uint64(2**64 - 2), np.uint64(5), np.uint64(9), x0, x1)
    counters = [(2**64 - 2, 5), (2**64 - 1, 5), (0, 6)]
    assert [(int(a), int(b)) for a, b in zip(x0, x1, strict=True)] == [slow_block(*c, 9) for c in counters]


def test_fill_at_takes_an_address_per_element() -> None:
    """Counters and keys are given per element."""
    address = np.array([1, 2, 2**64 - 1], dtype=np.uint64)
    x0, x1 = np.zeros(3, dtype=np.uint64), np.zeros(3, dtype=np.uint64)
    fill_at(address, address[::-1].copy(), address, x0, x1)
    assert int(x0[2]) == slow_block(2**64 - 1, 1, 2**64 - 1)[0]
    assert int(x1[0]) == slow_block(1, 2**64 - 1, 1)[1]


@given(WORD)
def test_uniforms_are_open_and_monotone(x: int) -> None:
    """0 < u < 1, and a larger word never gives a smaller u."""
    u = u01(np.uint64(x))
    assert 0.0 < u < 1.0
    assert u01(np.uint64(x // 2)) <= u
