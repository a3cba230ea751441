"""Gini and top shares: values a reader can work out, and the laws they obey."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.inequality import exact_dot, gini, top_count, top_share

COUNTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5], 0.0),
        ([3, 3, 3], 0.0),
        ([0, 1], 1 / 2),
        ([1, 3], 1 / 4),
        ([0, 0, 0, 8], 3 / 4),
        ([1, 2, 3, 4], 1 / 4),
    ],
)
def test_gini_by_hand(counts: list[int], expected: float) -> None:
    """Small lists, exact results."""
    assert gini(counts) == expected


@pytest.mark.parametrize("counts", [[], [0], [0, 0]])
def test_nothing_is_not_equality(counts: list[int]) -> None:
    """No sites: None, which no gate can take for a perfect 0."""
    counts_array = np.array(counts, np.int64)
    assert gini(counts_array) is None
    assert top_share(counts_array, 1) is None


def test_floats_and_negative_counts_are_refused() -> None:
    """Shares are not counts."""
    with pytest.raises(TypeError, match="must be a list of integers, got float64"):
        gini([0.5, 0.5])
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        gini([3, -1])


@pytest.mark.parametrize(
    ("n", "percent", "expected"),
    [(1, 1, 1), (100, 1, 1), (101, 1, 2), (20, 5, 1), (21, 5, 2), (246, 10, 25), (30, 10, 3)],
)
def test_top_count_rounds_up_in_integers(n: int, percent: int, expected: int) -> None:
    """A tenth of 30 is 3, although 0.1 * 3 is not 0.3."""
    assert top_count(n, percent) == expected


def test_top_share_by_hand() -> None:
    """The larger of two countries is the top 1 %; of forty countries two are the top 5 %."""
    assert top_share([1, 3], 1) == 0.75
    assert top_share([1] * 38 + [10, 12], 5) == 22 / 60


@given(COUNTS)
def test_gini_equals_the_mean_absolute_difference(counts: list[int]) -> None:
    """The textbook definition over all pairs, as an exact fraction."""
    total = sum(counts)
    if total == 0:
        assert gini(counts) is None
        return
    pairs = sum(abs(a - b) for a in counts for b in counts)
    assert gini(counts) == float(Fraction(pairs, 2 * len(counts) * total))


@given(COUNTS, st.integers(1, 1000), st.sampled_from([1, 5, 10]))
def test_scaling_and_order_change_nothing(counts: list[int], factor: int, percent: int) -> None:
    """Twice the sites everywhere, or another order of countries: the same numbers, bit for bit."""
    scaled = [factor * c for c in reversed(counts)]
    assert gini(scaled) == gini(counts)
    assert top_share(scaled, percent) == top_share(counts, percent)


@given(COUNTS)
def test_gini_is_twice_the_area_above_the_lorenz_curve(counts: list[int]) -> None:
    """The geometric definition, by trapezia under the cumulative shares."""
    value = gini(counts)
    cumulative = np.concatenate(([0], np.cumsum(sorted(counts))))
    if cumulative[-1] == 0:
        assert value is None
        return
    assert value is not None
    area = float(np.trapezoid(cumulative / cumulative[-1], dx=1 / len(counts)))
    assert math.isclose(value, 1.0 - 2.0 * area, abs_tol=1e-9)


@given(
    st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62)), max_size=30),
    st.integers(0, 62),
)
def test_sums_of_products_are_exact(pairs: list[tuple[int, int]], shift: int) -> None:
    """From numbers of which many fit into one sum of 64 bits, to such that not even one product does."""
    a, b = ([pair[side] >> shift for pair in pairs] for side in (0, 1))
    assert exact_dot(np.array(a, np.int64), np.array(b, np.int64)) == sum(
        x * y for x, y in zip(a, b, strict=True)
    )


def test_long_sums_are_taken_in_pieces() -> None:
    """Each product fits into 64 bits, three of them do not: no piece may overflow."""
    large = np.full(1001, 2**31, np.int64)
    assert exact_dot(large, large) == 1001 * 2**62
    assert gini(np.array([0] * 999 + [2**62])) == float(Fraction(999, 1000))


def test_counts_beyond_a_signed_word_are_refused() -> None:
    """Not wrapped around."""
    with pytest.raises(ValueError, match="must fit into 64 bits with a sign"):
        gini(np.array([1, 2**63], np.uint64))
