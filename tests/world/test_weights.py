"""Tile weights: sums, order, mixtures, fallbacks, and the sampling order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.errors import InputError
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.models import TileMix
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface
from seg1b.world.weights import Pieces, TileWeights, build_weights

GRID = Grid(3600)
PEOPLE = TileMix(uniform=0.0, area=0.0, population=1.0)
Run = tuple[int, int, int]


def surface_of(*countries: list[Run]) -> PopulationSurface:
    """A surface of runs (first tile, tiles, micro-persons per tile) by country."""
    runs = np.array([run for country in countries for run in country], np.int64).reshape(-1, 3)
    start = np.cumsum([0, *(len(country) for country in countries)]).astype(np.int64)
    return PopulationSurface(GRID, start, runs[:, 0].copy(), runs[:, 1].astype(np.int32), runs[:, 2].copy())


def by_tile(weights: TileWeights, country: int) -> dict[int, int]:
    """Weight of every tile."""
    part = slice(weights.start[country], weights.start[country + 1])
    runs = zip(*(a[part].tolist() for a in (weights.tile0, weights.length, weights.weight)), strict=True)
    return {t + k: w for t, n, w in runs for k in range(n)}


# By hand


def test_weights_are_shares_of_people() -> None:
    """1, 2 and 5 of 8 people."""
    weights = build_weights(surface_of([(0, 1, 1), (1, 1, 2), (2, 1, 5)]), PEOPLE, 6)
    assert by_tile(weights, 0) == {0: 125_000, 1: 250_000, 2: 625_000}
    assert weights.total == 10**6
    assert weights.zero_mass.tolist() == [False]


def test_the_last_units_split_a_run() -> None:
    """Three equal tiles share a million: 333,334 goes to the first; its run is cut there."""
    weights = build_weights(surface_of([(7, 3, 5)], [(3, 2, 1)]), PEOPLE, 6)
    assert by_tile(weights, 0) == {7: 333_334, 8: 333_333, 9: 333_333}
    assert (weights.tile0.tolist(), weights.length.tolist()) == ([7, 8, 3], [1, 2, 2])
    assert weights.start.tolist() == [0, 2, 3]


def test_three_components_by_hand() -> None:
    """Half uniform, a quarter area, a quarter people, on two tiles of one row and their equals in the south."""
    surface = surface_of([(0, 2, 0), (179 * 360, 2, 4)])
    weights = by_tile(build_weights(surface, TileMix(uniform=0.5, area=0.25, population=0.25), 8), 0)
    assert weights == {0: 18_750_000, 1: 18_750_000, 64_440: 31_250_000, 64_441: 31_250_000}


def test_each_component_alone() -> None:
    """Uniform ignores everything; area follows the row; population leaves empty tiles empty."""
    surface = surface_of([(0, 1, 9), (90 * 360, 1, 0)])
    area = GRID.row_area_cm2()[[0, 90]]
    assert by_tile(build_weights(surface, TileMix(uniform=1, area=0, population=0), 6), 0) == {
        0: 500_000,
        32_400: 500_000,
    }
    polar = by_tile(build_weights(surface, TileMix(uniform=0, area=1, population=0), 9), 0)[0]
    assert polar == pytest.approx(1e9 * area[0] / area.sum(), abs=1)
    assert by_tile(build_weights(surface, PEOPLE, 6), 0) == {0: 10**6, 32_400: 0}


def test_a_country_without_people_follows_area_and_says_so() -> None:
    """Whatever the mix; a country without tiles has no weights and nothing to say."""
    empty = [(0, 3, 0), (90 * 360, 2, 0)]
    for mix in (PEOPLE, TileMix(uniform=0, area=0.5, population=0.5)):
        weights = build_weights(surface_of([(5, 1, 1)], empty, []), mix, 9)
        assert weights.zero_mass.tolist() == [False, True, False]
        assert weights.start.tolist()[-2:] == [len(weights.tile0)] * 2
        shares = by_tile(weights, 1)
        area = GRID.row_area_cm2()
        assert shares[32_400] == pytest.approx(1e9 * area[90] / (3 * area[0] + 2 * area[90]), abs=1)


def test_too_few_digits() -> None:
    """A million units are for ten thousand tiles; the error names the smallest dp that will do."""
    full = surface_of([(0, 10_000, 1)])
    assert by_tile(build_weights(full, PEOPLE, 6), 0)[0] == 100
    with pytest.raises(InputError) as caught:
        build_weights(surface_of([(0, 10_001, 1)]), PEOPLE, 6)
    assert caught.value.code == "E103_DP_TOO_SMALL"
    assert caught.value.next_step == "raise dp to at least 7"
    assert caught.value.where == "s2.tile_weights.yaml: dp"


def test_pieces_leave_out_what_cannot_be_drawn() -> None:
    """Runs of weight 0 are gone, cumulative weights start at 0 in every country."""
    weights = build_weights(surface_of([(0, 2, 0), (2, 2, 3)], [], [(400, 4, 1)]), PEOPLE, 6)
    pieces = weights.pieces(3)
    assert pieces.start.tolist() == [0, 2, 2, 4]
    assert sorted(zip(pieces.tile0.tolist(), pieces.length.tolist(), strict=True)) == [
        (2, 1),
        (3, 1),
        (400, 2),
        (402, 2),
    ]
    assert pieces.cum[[0, 2]].tolist() == [0, 0]


# Properties

runs = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 10**12)), min_size=1, max_size=30)
"""No more than the 360 tiles of one row: a run never crosses the end of a row."""
mixes = (
    st.tuples(*[st.integers(0, 10)] * 3)
    .filter(any)
    .map(lambda m: TileMix(uniform=m[0] / sum(m), area=m[1] / sum(m), population=m[2] / sum(m)))
)


def laid_out(lengths: list[tuple[int, int]]) -> list[Run]:
    """Runs one after the other."""
    ends = np.cumsum([n for n, _ in lengths]).tolist()
    return [(end - n, n, people) for end, (n, people) in zip(ends, lengths, strict=True)]


@settings(max_examples=100)
@given(first=runs, second=runs, mix=mixes, dp=st.integers(6, 15))
def test_every_country_sums_to_k(
    first: list[tuple[int, int]], second: list[tuple[int, int]], mix: TileMix, dp: int
) -> None:
    """Exactly, with the tiles of the surface in its order; runs are cut once at most."""
    weights = build_weights(surface_of(laid_out(first), laid_out(second)), mix, dp)
    for country, source in enumerate((first, second)):
        shares = by_tile(weights, country)
        assert list(shares) == list(range(sum(n for n, _ in source)))
        assert sum(shares.values()) == 10**dp
        assert min(shares.values()) >= 0
        assert weights.start[country + 1] - weights.start[country] <= len(source) + 1


@settings(max_examples=100)
@given(source=runs, dp=st.integers(6, 15))
def test_more_people_never_weigh_less(source: list[tuple[int, int]], dp: int) -> None:
    """Monotone in population, and within one unit of the exact quota."""
    weights = by_tile(build_weights(surface_of(laid_out(source)), PEOPLE, dp), 0)
    people = [p for n, p in source for _ in range(n)]
    total = sum(people)
    if not total:
        return
    for tile, share in weights.items():
        assert abs(share * total - people[tile] * 10**dp) < total
    order = sorted(weights, key=lambda t: (people[t], -t))
    shares = [weights[t] for t in order]
    assert shares == sorted(shares)


@settings(max_examples=50)
@given(source=runs, mix=mixes, cut=st.integers(0, 10**6))
def test_how_runs_are_cut_does_not_matter(source: list[tuple[int, int]], mix: TileMix, cut: int) -> None:
    """Dense, tile by tile, or as runs: the same weights."""
    whole = laid_out(source)
    dense = [(t + k, 1, p) for t, n, p in whole for k in range(n)]
    t, n, p = whole[cut % len(whole)]
    at = cut % n
    halves = [r for r in whole if r[0] < t] + [r for r in ((t, at, p), (t + at, n - at, p)) if r[1]]
    halves += [r for r in whole if r[0] > t]
    expected = by_tile(build_weights(surface_of(whole), mix, 9), 0)
    assert by_tile(build_weights(surface_of(dense), mix, 9), 0) == expected
    assert by_tile(build_weights(surface_of(halves), mix, 9), 0) == expected


# The real world


def sums_by_country(start: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> list[int]:
    """Sum of values between offsets."""
    cumulative = np.concatenate(([0], np.cumsum(values)))
    return (cumulative[start[1:]] - cumulative[start[:-1]]).tolist()  # type: ignore[no-any-return]


def test_the_real_world_sums_to_k(world_stage: WorldStage) -> None:
    """All 251 countries, as runs and as pieces in curve order."""
    world = world_stage.world
    assert isinstance(world.weights, TileWeights)
    assert isinstance(world.pieces, Pieces)
    for source in (world.weights, world.pieces):
        sums = sums_by_country(source.start, source.weight * source.length)
        assert set(sums) == {10**12}
    assert [world.iso[c] for c in np.flatnonzero(world.weights.zero_mass)] == ["AQ", "BV", "HM", "UM"]
    assert (world.pieces.weight > 0).all()
    assert (world.pieces.cum[world.pieces.start[:-1]] == 0).all()
