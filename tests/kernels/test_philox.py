"""Philox blocks and the 128-bit products."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.bootstrap_statistics import word_stream
from seg1b.kernels.philox import (
    block,
    block_4x64,
    compare_products,
    fill,
    fill_at,
    multiply_divide,
    multiply_high,
    u01,
)

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


def slow_block_4x64(counter: list[int], key: list[int]) -> list[int]:
    """The definition of the four-word variant, in Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(right >> 64) ^ c[1] ^ k[0], right % 2**64, (left >> 64) ^ c[3] ^ k[1], left % 2**64]
        k = [(k[0] + 0x9E3779B97F4A7C15) % 2**64, (k[1] + 0xBB67AE8584CAA73B) % 2**64]
    return c


def test_the_published_vectors_of_four_words() -> None:
    """Of the authors' `kat_vectors`: the definition here is theirs."""
    ones = 2**64 - 1
    assert slow_block_4x64([0] * 4, [0] * 2) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip
    assert slow_block_4x64([ones] * 4, [ones] * 2) == [
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0,
    ]  # fmt: skip


@given(st.integers(0, 2**63), WORD, WORD)
def test_a_block_of_four_words_is_ten_rounds_and_what_numpy_draws(counter: int, upper: int, key: int) -> None:
    """Compiled, on big integers, and from numpy's own generator, which goes on with the next block."""
    blocks = [slow_block_4x64([counter + i, 0, upper, 0], [key, 0]) for i in range(2)]
    assert list(block_4x64(np.uint64(counter), np.uint64(upper), np.uint64(key))) == blocks[0]
    assert word_stream(key, upper, counter).random_raw(8).tolist() == blocks[0] + blocks[1]


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
