"""Dense and runs are two forms of one thing: every question has the same answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_worlds import as_runs, bits, dense_of

from seg1b.errors import InputError
from seg1b.kernels.largest_remainder import rank_by_weight
from seg1b.kernels.systematic import take
from seg1b.policy.models import TileMix
from seg1b.scoring.densities import Densities
from seg1b.scoring.reference import build_reference, tile_density
from seg1b.world import dense_surface as module
from seg1b.world.dense_surface import DenseSurface
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface
from seg1b.world.weights import build_weights

GRID = Grid(3600)
PEOPLE = TileMix(uniform=0.0, area=0.0, population=1.0)
MIXED = TileMix(uniform=0.25, area=0.25, population=0.5)


@st.composite
def surfaces(draw: st.DrawFn) -> DenseSurface:
    """Up to four countries of up to six spans on the degree grid, some rows twice; few values, so many ties."""
    countries = []
    for _ in range(draw(st.integers(0, 3))):
        rows = draw(st.lists(st.integers(80, 99), max_size=6, unique=True))
        spans = []
        for row in rows:
            ends = sorted(draw(st.sets(st.integers(150, 210), min_size=4, max_size=4)))
            spans += [(row, ends[0], ends[1]), (row, ends[2], ends[3])][: draw(st.integers(1, 2))]
        countries.append(spans)
    countries.append([(100, 170, 173)])  # so that there is a tile
    tiles = sum(end - first for spans in countries for _, first, end in spans)
    kind = draw(st.sampled_from(["f4", "f8", "u1", "i2", "u4"]))
    values = draw(st.sampled_from([[0], [0, 1], [0, 0, 0, 5, 7], [1, 2, 3, 200]]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    persons = rng.choice(np.array(values), tiles).astype(kind)
    if kind in ("f4", "f8"):
        persons = (persons * draw(st.sampled_from([1.0, 1 / 3, 1e6]))).astype(kind)
    return dense_of(GRID, countries, persons)


def tile_by_tile(runs: Any) -> list[tuple[int, int]]:
    """(tile, value) of runs (first tile, length, value)."""
    return [
        (t + k, v) for t, n, v in zip(*(column.tolist() for column in runs), strict=True) for k in range(n)
    ]


# Populations


@settings(max_examples=60)
@given(surfaces(), st.sampled_from([1, 100, 1 << 20]))
def test_people_are_the_same(dense: DenseSurface, at_once: int) -> None:
    """Totals, the southern share, look-ups inside and outside, and tiles; whatever the size of a batch."""
    runs = as_runs(dense)
    assert dense.totals.tolist() == runs.totals.tolist()
    assert dense.southern_share().tolist() == runs.southern_share().tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TILES_AT_ONCE", at_once)
        assert bits(as_runs(dense)) == bits(runs)
        for country in range(len(dense.start) - 1):
            sizes = [int(batch.length.sum()) for batch in dense.batches(country)]
            assert all(size <= max(at_once, 60) for size in sizes)
    everywhere = np.arange(80 * 360, 101 * 360)
    for country in range(len(dense.start) - 1):
        asked = np.full(len(everywhere), country, np.int16)
        found = dense.population_at(asked, everywhere)
        assert found.tolist() == runs.population_at(asked, everywhere).tolist()
        covered = [
            t for first, n in zip(*dense.tiles_of(country), strict=True) for t in range(first, first + n)
        ]
        assert covered == [tile for tile, _ in tile_by_tile(runs.runs_of(country))]
        assert found.sum() == dense.totals[country]


# Weights


@settings(max_examples=80)
@given(
    surfaces(),
    st.sampled_from([PEOPLE, MIXED]),
    st.integers(6, 15),
    st.integers(1, 40),
    st.integers(0, 10**6),
)
def test_weights_are_the_same(dense: DenseSurface, mix: TileMix, dp: int, block: int, u0: int) -> None:
    """Tile by tile; who has no mass; and the tiles that systematic samples hit along the curve."""
    ours, theirs = build_weights(dense, mix, dp), build_weights(as_runs(dense), mix, dp)
    assert ours.zero_mass.tolist() == theirs.zero_mass.tolist()
    assert ours.total == theirs.total
    pieces, run_pieces = ours.pieces(block), theirs.pieces(block)
    for country in range(len(dense.start) - 1):
        weights = tile_by_tile(ours.runs_of(country))
        assert weights == tile_by_tile(theirs.runs_of(country))
        curve, run_curve = pieces.curve(country), run_pieces.curve(country)
        assert curve.total == run_curve.total == sum(weight for _, weight in weights)
        if weights:
            start = u0 % curve.total
            assert take(97, start, curve).tolist() == take(97, start, run_curve).tolist()
            ranks = rank_by_weight(*ours.runs_of(country)), rank_by_weight(*theirs.runs_of(country))
            per_tile = [np.repeat(rank.weight, np.diff(rank.before)).tolist() for rank in ranks]
            assert per_tile[0] == per_tile[1]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_show(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums, cuts and pieces of nine countries, one of them empty."""
    rng = np.random.default_rng(1)
    countries = [[(r, 10 * c, 10 * c + 9) for r in range(30)] if c != 4 else [] for c in range(9)]
    persons = rng.integers(0, 9, 8 * 30 * 9).astype(np.float32) / 7
    expected = dense_of(GRID, countries, persons)
    weights = build_weights(expected, PEOPLE, 9)
    monkeypatch.setattr("seg1b.kernels.jit.threads", lambda: threads)
    found = dense_of(GRID, countries, persons)
    assert bits(found) == bits(expected)
    assert bits(build_weights(found, PEOPLE, 9)) == bits(weights)
    assert bits(build_weights(found, PEOPLE, 9).pieces(7)) == bits(weights.pieces(7))


def test_too_few_digits() -> None:
    """As of runs: the error names the smallest dp that will do."""
    dense = dense_of(GRID, [[(r, 0, 100) for r in range(101)]], np.ones(10_100, np.uint8))
    with pytest.raises(InputError) as caught:
        build_weights(dense, PEOPLE, 6)
    assert (caught.value.code, caught.value.next_step) == ("E103_DP_TOO_SMALL", "raise dp to at least 7")


def test_one_value_a_tile_is_all_there_is() -> None:
    """A million tiles of float32: surface and weights take 4 bytes each, pieces of 60 tiles half a byte more."""
    countries = [[(r, 0, 1000) for r in range(c, 180, 2)] for c in range(2)]
    grid = Grid(1200)
    dense = dense_of(grid, countries, np.random.default_rng(2).random(180_000, np.float32))
    weights = build_weights(dense, PEOPLE, 12)
    assert weights.surface.persons.nbytes == 4 * 180_000
    rest: list[npt.NDArray[Any]] = [
        dense.tiles.before,
        dense.people,
        weights.rule,
        weights.cut,
        weights.zero_mass,
    ]
    assert sum(array.nbytes for array in rest) < 4000
    pieces = weights.pieces(60)
    own: list[npt.NDArray[Any]] = [pieces.tile0, pieces.length, pieces.number, pieces.cum]
    assert sum(array.nbytes for array in own) < 0.55 * 180_000
    assert np.shares_memory(pieces.tiles.persons, dense.persons)


# What scoring asks


@settings(max_examples=40)
@given(surfaces(), st.integers(0, 2**32))
def test_scoring_sees_the_same(dense: DenseSurface, seed: int) -> None:
    """Cells, people near cities, and who lives less densely than whom: for tiles of the country and for any density."""
    runs = as_runs(dense)
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-30, 30, 3), rng.uniform(-10, 10, 3)
    ours, theirs = (reference(s, lon, lat) for s in (dense, runs))
    for name in ("population", "near_city", "cell_country", "cell", "cell_people"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist(), name
    for country in range(len(dense.start) - 1):
        own = runs.runs_of(country)
        densities = tile_density(own.population, own.tile0, GRID)
        asked = np.concatenate(
            (rng.permutation(np.repeat(densities, 2)), [0.0, densities.max(initial=1.0) * 2, 1e-9])
        )
        found, expected = (r.densities.below_and_tied(country, asked) for r in (ours, theirs))
        assert [part.tolist() for part in found] == [part.tolist() for part in expected]
        people = own.population * own.length
        for density, below, tied in zip(asked.tolist(), *(part.tolist() for part in found), strict=True):
            assert below == people[densities < density].sum()
            assert tied == people[densities == density].sum()


def reference(surface: DenseSurface | PopulationSurface, lon: npt.NDArray[Any], lat: npt.NDArray[Any]) -> Any:
    """The reference of a surface with cities of 300 km round them, in cells of 5 degrees."""
    return build_reference("s", GRID, surface, lon, lat, 300.0, 5.0)


def test_nobody_asks() -> None:
    """No density, no answer, whatever the country holds."""
    dense = dense_of(GRID, [[(90, 0, 5)], []], np.ones(5, np.float32))
    for country in range(2):
        below, tied = Densities(dense, GRID.row_area_cm2(), GRID.ncols).below_and_tied(country, np.empty(0))
        assert (below.tolist(), tied.tolist()) == ([], [])
