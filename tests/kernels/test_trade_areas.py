"""S4 v2: trade areas, dispersed sites, fill, guard."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import gcd

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.errors import ContractError
from seg1b.kernels.philox import draw_below
from seg1b.kernels.streams import country_stream, pair_stream
from seg1b.kernels.systematic import RunCurve
from seg1b.kernels.trade_areas import (
    CountryAllocation,
    allocate_country,
    enforce_guard,
    golden_stride,
    sample_each_pair,
)

Weights = list[int]
Ints = npt.NDArray[np.int64]


def curve_of(weights: Weights) -> RunCurve:
    """One piece a tile, tile ids descending so that curve order and tile order differ."""
    weight = np.array(weights, dtype=np.int64)
    tile0 = np.arange(1000, 1000 - len(weights), -1)
    return RunCurve(tile0, np.ones(len(weights), np.int32), weight, np.cumsum(weight) - weight)


def allocate(
    weights: Weights, sizes: list[int], seed: int = 42, m: int = 8, ppm: int = 4000
) -> CountryAllocation:
    """Allocation of merchants 1, 2, 3, ... of a country with those tile weights."""
    return allocate_country(
        curve_of(weights), sum(weights), np.arange(1, len(sizes) + 1, dtype=np.uint64), np.array(sizes),
        seed=seed, country_iso="GB", sites_per_area=m, dispersed_ppm=ppm, guard_soft=0.2,
    )  # fmt: skip


def slow_allocation(weights: Weights, sizes: list[int], seed: int, m: int, f: int) -> list[int]:
    """Tile of every site, straight from the text, in big integers."""
    total, n_c = sum(weights), sum(sizes)
    owner = [1000 - i for i, w in enumerate(weights) for _ in range(w)]

    def draw(label: str, bound: int) -> int:
        return draw_below(country_stream(seed, label, "GB"), bound)

    m_c = -(-n_c // m)
    u0, phase, start = draw("trade_area", total), draw("dispersed", 10**6), draw("alloc_start", m_c)
    areas = [owner[(u0 + k * total) // m_c] for k in range(m_c)]
    nearest = round(m_c * (5**0.5 - 1) / 2)
    g = next(
        c
        for d in range(m_c + 1)
        for c in (nearest - d, nearest + d)
        if c >= 1 and (gcd(c, m_c) == 1 or m_c == 1)
    )
    dispersed = [((i + 1) * f + phase) // 10**6 > (i * f + phase) // 10**6 for i in range(n_c)]
    u1, count = draw("dispersed_start", total), sum(dispersed)
    far = iter([owner[(u1 + k * total) // count] for k in range(count)])
    near = iter([areas[(j + start) % m_c * g % m_c] for j in range(n_c - count)])
    return [next(far) if d else next(near) for d in dispersed]


@settings(max_examples=150)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.integers(0, 2**64 - 1),
    st.integers(1, 9),
    st.sampled_from([0, 4000, 250_000, 10**6]),
)
def test_the_plan_is_the_text(weights: Weights, sizes: list[int], seed: int, m: int, ppm: int) -> None:
    """Site by site and row by row equal to a slow version; diagnostics follow from the rows."""
    plan = allocate(weights, sizes, seed, m, ppm)
    expected = slow_allocation(weights, sizes, seed, m, ppm)
    assert plan.site_tile.tolist() == expected
    bounds = np.cumsum([0, *sizes])
    rows = [
        (p, tile, count)
        for p in range(len(sizes))
        for tile, count in sorted(Counter(expected[bounds[p] : bounds[p + 1]]).items())
    ]
    assert list(zip(plan.pair.tolist(), plan.tile.tolist(), plan.count.tolist(), strict=True)) == rows
    assert plan.guard_moves == 0
    assert len(plan.area_tile) == -(-sum(sizes) // m)
    for p, n in enumerate(sizes):
        counts = [c for q, _, c in rows if q == p]
        assert plan.top1_share[p] == max(counts) / n
        assert plan.hhi[p] == pytest.approx(sum(c * c for c in counts) / n**2)
        assert plan.active_tiles[p] == len(counts)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 10**6), st.integers(1, 9))
def test_every_area_gets_floor_or_ceil_and_no_pair_crowds_one(sizes: list[int], seed: int, m: int) -> None:
    """With one tile an area, loads differ by at most one and a pair has at most ceil(n/m_c) on one."""
    areas = -(-sum(sizes) // m)
    plan = allocate([7] * areas, sizes, seed, m, 0)
    loads = Counter(plan.site_tile.tolist())
    assert len(loads) == areas
    assert max(loads.values()) - min(loads.values()) <= 1
    for p, n in enumerate(sizes):
        assert int(plan.count[plan.pair == p].max()) <= -(-n // areas)


@pytest.mark.parametrize(("areas", "stride"), [(1, 1), (2, 1), (3, 2), (5, 3), (10, 7), (13, 8), (1000, 617)])
def test_golden_stride_by_hand(areas: int, stride: int) -> None:
    """m/phi: 10 -> 6 (shares 2) -> 5 (shares 5) -> 7; 1000 -> 618 (even) -> 617."""
    assert golden_stride(areas) == stride


@given(st.integers(2, 10**12))
def test_golden_stride_is_coprime_and_close(areas: int) -> None:
    """A permutation, and near m/phi."""
    stride = golden_stride(areas)
    assert gcd(stride, areas) == 1
    assert abs(Fraction(stride) - Fraction(areas) * Fraction(618033988749895, 10**15)) < 60


def test_seeds_move_sites_and_keep_totals() -> None:
    """Two seeds choose other tiles; the number of sites is the same."""
    one, two = (allocate([1] * 500, [40, 30, 20], seed) for seed in (1, 2))
    assert sorted(one.area_tile.tolist()) != sorted(two.area_tile.tolist())
    assert one.count.sum() == two.count.sum() == 90


def test_the_guard_moves_hostile_sites_to_the_next_area_with_room() -> None:
    """Ten sites of one pair on one of five areas: two stay, the rest goes round the curve."""
    area = np.array([3] * 10 + [0, -1, 0], dtype=np.int64)
    moves = enforce_guard(area, np.array([0, 10, 13]), 5, 1, 5)
    assert moves == 8 + 1
    assert area[:10].tolist() == [3, 3, 4, 4, 0, 0, 1, 1, 2, 2]
    assert area[10:].tolist() == [0, -1, 1]


def test_each_pair_samples_on_its_own() -> None:
    """systematic_pps: a pair's tiles are its own systematic sample from its own start."""
    weights, sizes = [3, 0, 5, 2, 9, 1], [4, 1, 25]
    plan = sample_each_pair(
        curve_of(weights), 20, np.array([5, 6, 2**63 + 1], dtype=np.uint64), np.array(sizes),
        seed=9, country_iso="FR",
    )  # fmt: skip
    owner = [1000 - i for i, w in enumerate(weights) for _ in range(w)]
    expected = []
    for merchant, n in zip((5, 6, 2**63 + 1), sizes, strict=True):
        u0 = draw_below(pair_stream(9, "alloc_pair", "FR", merchant), 20)
        expected += [owner[(u0 + k * 20) // n] for k in range(n)]
    assert plan.site_tile.tolist() == expected
    assert plan.count.sum() == 30
    assert len(plan.area_tile) == 0


def test_bad_inputs_are_named() -> None:
    """No tiles E403, weights or sites E402, order of merchants E408."""
    merchants, sizes = np.array([1, 2], dtype=np.uint64), np.array([1, 1])

    def code(
        weights: tuple[int, ...] = (1, 2), total: int = 3, merchants: npt.NDArray[np.uint64] = merchants,
        sizes: Ints = sizes, m: int = 8,
    ) -> str:  # fmt: skip
        with pytest.raises(ContractError) as caught:
            allocate_country(
                curve_of([*weights]), total, merchants, sizes,
                seed=1, country_iso="GB", sites_per_area=m, dispersed_ppm=0, guard_soft=0.2,
            )  # fmt: skip
        return caught.value.code

    assert code(weights=()) == "E403"
    assert code(total=1) == code(total=2) == code(total=4) == code(m=0) == "E402"
    assert code(sizes=np.array([1, 0])) == "E402"
    assert code(merchants=np.array([2, 2], dtype=np.uint64)) == "E408"
