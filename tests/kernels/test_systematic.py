"""Systematic PPS sampling: inclusion, exact points, the three ways to look tiles up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.systematic import RunCurve, systematic_points, take, take_each


def pieces(runs: list[tuple[int, int]]) -> RunCurve:
    """The curve of runs (length, weight); tile ids from 100, one id left out between."""
    length = np.array([k for k, _ in runs], dtype=np.int64)
    weight = np.array([w for _, w in runs], dtype=np.int64)
    tile0 = 100 + np.concatenate([[0], np.cumsum(length + 1)[:-1]])
    cum = np.concatenate([[0], np.cumsum(length * weight)])
    return RunCurve(tile0.astype(np.int64), length.astype(np.int32), weight, cum[:-1].astype(np.int64))


RUNS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=7).filter(
    lambda runs: any(w for _, w in runs)
)


@given(RUNS, st.integers(1, 12))
def test_inclusion_is_proportional_to_weight_over_all_starts(runs: list[tuple[int, int]], n: int) -> None:
    """Over every u0 in [0, K) a tile is taken exactly n*w times, each time floor or ceil of n*w/K."""
    curve = pieces(runs)
    tile0, total = curve.tile0, curve.total
    weight_of = {
        int(t): int(w)
        for first, (length, w) in zip(tile0, runs, strict=True)
        for t in range(first, first + length)
    }
    taken = dict.fromkeys(weight_of, 0)
    for u0 in range(total):
        tiles, counts = np.unique(take(n, u0, curve), return_counts=True)
        here = dict(zip(tiles.tolist(), counts.tolist(), strict=True))
        for tile, w in weight_of.items():
            assert n * w // total <= here.get(tile, 0) <= -(-n * w // total)
            taken[tile] += here.get(tile, 0)
    assert taken == {tile: n * w for tile, w in weight_of.items()}


@given(st.integers(1, 10**9), st.integers(1, 10**15), st.integers(0, 10**15), st.integers(0, 10**9))
def test_points_are_exact_for_a_thousand_million_sites(n: int, total: int, u0: int, first: int) -> None:
    """n up to 1e9 and K up to 1e15: n*K has 80 bits, the points are those of big integers."""
    u0, first = u0 % total, first % n
    count = min(50, n - first)
    expected = [(u0 + k * total) // n for k in range(first, first + count)]
    assert systematic_points(n, u0, total, first, count).tolist() == expected


def test_points_are_exact_at_the_bounds() -> None:
    """n = 2^40 and K = 2^62, last point included."""
    n, total = 2**40, 2**62
    u0 = total - 1
    points = systematic_points(n, u0, total, n - 3, 3).tolist()
    assert points == [(u0 + k * total) // n for k in (n - 3, n - 2, n - 1)]
    assert points[-1] < total


@given(RUNS, st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10**6)), min_size=1, max_size=5))
def test_both_look_ups_agree_with_a_linear_search(
    runs: list[tuple[int, int]], samples: list[tuple[int, int]]
) -> None:
    """Galloping and guide table find the tile that encloses the point."""
    curve = pieces(runs)
    tile0, total = curve.tile0, curve.total
    owner = [t for f, (k, w) in zip(tile0, runs, strict=True) for t in range(f, f + k) for _ in range(w)]
    n = np.array([s[0] for s in samples], dtype=np.int64)
    u0 = np.array([s[1] % total for s in samples], dtype=np.int64)
    together = take_each(n, u0, curve).tolist()
    expected = [[owner[(b + k * total) // a] for k in range(a)] for a, b in zip(n, u0, strict=True)]
    assert together == [t for sample in expected for t in sample]
    alone = [take(int(a), int(b), curve).tolist() for a, b in zip(n, u0, strict=True)]
    assert alone == expected


def test_few_points_on_many_pieces_and_many_on_few() -> None:
    """The gallop and the guide table also agree at sizes where both really jump."""
    rng = np.random.default_rng(5)
    curve = pieces([(int(k), int(w)) for k, w in rng.integers((1, 0), (20, 90), (3000, 2))])
    tile0, weight, cum, total = curve.tile0, curve.weight, curve.cum, curve.total
    n = np.array([1, 2, 7, 20_000], dtype=np.int64)
    u0 = rng.integers(0, total, 4)
    together = take_each(n, u0, curve)
    bounds = np.concatenate([[0], np.cumsum(n)])
    for i, (a, b) in enumerate(pairwise(bounds)):
        points = systematic_points(int(n[i]), int(u0[i]), total)
        piece = np.searchsorted(cum, points, side="right") - 1
        expected = tile0[piece] + (points - cum[piece]) // weight[piece]
        assert np.array_equal(together[a:b], expected)
        assert np.array_equal(take(int(n[i]), int(u0[i]), curve), expected)


@pytest.mark.parametrize(("n", "u0", "total"), [(0, 0, 5), (1, 5, 5), (1, -1, 5), (1, 0, 0), (2**41, 0, 5)])
def test_impossible_samples_are_refused(n: int, u0: int, total: int) -> None:
    """A start outside [0, K), no points or a total out of range."""
    with pytest.raises(ValueError, match="out of range"):
        systematic_points(n, u0, total)
