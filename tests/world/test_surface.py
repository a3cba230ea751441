"""The bundled population surface: people conserved, on their country's tiles, scattered within bounds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_worlds import box, small_world

from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies
from seg1b.policy.models import SurfacePolicy
from seg1b.world.content import World
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface, build_surface, rural_people, settlement_coordinates
from seg1b.world.tile_index import TileIndex, build_tile_index

GRID = Grid(360)
MICRO = 1_000_000
POLICY = default_policies().tile_weights.surface


def surface_of(world: World, policy: SurfacePolicy = POLICY) -> tuple[TileIndex, PopulationSurface]:
    """Index and surface on tiles of a tenth of a degree."""
    index = build_tile_index(world, GRID)
    return index, build_surface(world, index, policy)


def policy_with(**changes: float) -> SurfacePolicy:
    """The default surface policy, changed."""
    return SurfacePolicy(**(POLICY.model_dump() | changes))


def expanded(surface: PopulationSurface, country: int) -> dict[int, int]:
    """Micro-persons by tile."""
    part = slice(surface.start[country], surface.start[country + 1])
    runs = zip(*(a[part].tolist() for a in (surface.tile0, surface.length, surface.population)), strict=True)
    return {t + k: people for t, n, people in runs for k in range(n)}


def tile_at(lon: float, lat: float) -> int:
    """Tile id at a point."""
    return int(GRID.tile_of([lon], [lat])[0])


# By hand


def test_a_village_and_its_country() -> None:
    """1,000 people known, 600 listed in the middle of a tile: 600 there, 400 scattered in nine blocks."""
    world = small_world({"AA": [box(0, 0, 9, 9)]}, [("AA", 4.55, 4.45, 600)], {"AA": 1000})
    index, surface = surface_of(world)
    people = expanded(surface, 0)
    assert len(people) == index.tiles[0] == 8100
    home = tile_at(4.55, 4.45)
    scattered = {t: p for t, p in people.items() if p and t != home}
    assert len(scattered) == 899
    assert {t // GRID.ncols for t in scattered} == set(range(840, 870))
    assert {t % GRID.ncols for t in scattered} == set(range(1830, 1860))
    per_tile = set(scattered.values())
    assert len(per_tile) == 30
    assert max(per_tile) - min(per_tile) < 0.004 * max(per_tile)
    assert people[home] == 600 * MICRO + people[home + 1]
    assert 0 <= 1000 * MICRO - surface.totals[0] < 900


def test_scattered_people_follow_area() -> None:
    """Two tiles of different rows hold people in proportion to their areas, to the micro-person."""
    world = small_world({"AA": [box(0, 50, 3, 53)]}, [("AA", 1.55, 51.55, 100)], {"AA": 181})
    _, surface = surface_of(world)
    people, area = expanded(surface, 0), GRID.row_area_cm2()
    north, south = tile_at(0.05, 52.95), tile_at(0.05, 50.05)
    ratio = area[north // GRID.ncols] / area[south // GRID.ncols]
    assert people[north] == pytest.approx(people[south] * ratio, abs=2)


def test_known_people_without_listed_settlements_live_everywhere() -> None:
    """A new country code brings its people and no settlement: all of them, evenly by area."""
    world = small_world({"XA": [box(0, 0, 1, 1)], "ZZ": [box(3, 0, 4, 1)]}, [], {"XA": 5000})
    index, surface = surface_of(world)
    assert index.tiles.tolist() == [100, 100]
    assert 0 <= 5000 * MICRO - surface.totals[0] < 100
    assert min(expanded(surface, 0).values()) > 49 * MICRO
    assert surface.totals[1] == 0


def test_people_scatter_everywhere_if_all_settlements_lie_off_the_coast() -> None:
    """No inhabited block touches the country: the listed people go ashore, the others are not lost."""
    world = small_world({"AA": [box(0, 0, 1, 1)]}, [("AA", 8.0, 0.5, 60)], {"AA": 100})
    _, surface = surface_of(world)
    assert 0 <= 100 * MICRO - surface.totals[0] < 100
    people = expanded(surface, 0)
    assert people[tile_at(0.95, 0.55)] > 60 * MICRO
    assert min(people.values()) > 0


def test_nobody_lives_in_an_empty_country() -> None:
    """Neither settlements nor people: zeros on every tile, one run a row."""
    _, surface = surface_of(small_world({"AQ": [box(0, -90, 5, -89)]}))
    assert surface.totals.tolist() == [0]
    assert surface.length.tolist() == [50] * 10
    assert set(expanded(surface, 0).values()) == {0}


def test_more_people_listed_than_known() -> None:
    """Listed people are never scaled down; the least rural share comes on top."""
    world = small_world({"AA": [box(0, 0, 9, 9)]}, [("AA", 4.55, 4.45, 970)], {"AA": 500})
    _, surface = surface_of(world)
    assert 0 <= 990 * MICRO - surface.totals[0] < 900
    assert expanded(surface, 0)[tile_at(4.55, 4.45)] > 970 * MICRO


def test_undercounted_settlements_are_scaled_up_together() -> None:
    """100 of 1,000 people listed: at most 45 % are scattered, so the listed ones count 5.5 times."""
    places = [("AA", 1.55, 1.45, 60), ("AA", 7.55, 7.45, 40)]
    _, surface = surface_of(small_world({"AA": [box(0, 0, 9, 9)]}, places, {"AA": 1000}))
    people = expanded(surface, 0)
    for lon, lat, settled in ((1.55, 1.45, 330), (7.55, 7.45, 220)):
        home = tile_at(lon, lat)
        assert people[home] - people[home + 1] == settled * MICRO
    assert 0 <= 1000 * MICRO - surface.totals[0] < 2000


def test_halo_and_coast_across_the_antimeridian() -> None:
    """A settlement at 179.95 E: blocks on both sides are inhabited, cut at the date line or not."""
    halves = [box(178, 0, 180, 2), box(-180, 0, -178, 2)]
    world = small_world({"FJ": halves}, [("FJ", 179.95, 0.45, 55)], {"FJ": 100})
    _, surface = surface_of(world)
    people = expanded(surface, 0)
    assert people[tile_at(-179.95, 0.45)] > 0
    assert people[tile_at(-179.05, 1.95)] > 0
    assert people[tile_at(-178.95, 0.45)] == 0
    east_only = small_world({"FJ": [box(178, 0, 179, 2)]}, [("FJ", -179.0, 0.45, 55)], {"FJ": 57})
    _, surface = surface_of(east_only)
    people = expanded(surface, 0)
    assert max(people, key=lambda t: people[t]) == tile_at(178.95, 0.45)
    assert people[tile_at(178.95, 0.45)] >= 55 * MICRO


@pytest.mark.parametrize(
    ("settled", "known", "expected"),
    [
        (600, 1000, 400),
        (985, 1000, 21),
        (999, 1000, 21),
        (970, 0, 20),
        (100, 1000, 450),
        (0, 70, 70),
        (0, 0, 0),
    ],
)
def test_rural_people(settled: int, known: int, expected: int) -> None:
    """The gap, at least 2 % of the whole, at most 45 %; everybody where nothing is listed."""
    assert rural_people(settled, known, POLICY) == expected


@given(settled=st.integers(1, 10**9), known=st.integers(0, 10**9))
def test_the_rural_share_keeps_its_bounds(settled: int, known: int) -> None:
    """Of the country as it then is: never below 2 %, and above 45 % of the known only by that."""
    rural = rural_people(settled, known, POLICY)
    urban = max(known - rural, settled)
    assert rural >= 0.0199999 * (rural + settled)
    assert rural <= max(0.45 * known, math.ceil(settled * 0.02 / 0.98))
    assert urban >= settled


def test_coordinates_are_exact() -> None:
    """1e-5 degrees to units without a double; the date line is column 0, the south pole in the last row."""
    places = [("AA", 12.34567, -45.6789, 1), ("AA", 180.0, -90.0, 1), ("AA", -180.0, 90.0, 1)]
    world = small_world({"AA": [box(0, 0, 1, 1)]}, places)
    for resolution in (1, 30, 3600):
        grid = Grid(resolution)
        unit = grid.tiles_per_degree << 32
        x, y = settlement_coordinates(world, grid)
        assert int(x[0]) == (1_234_567 + 18_000_000) * unit // 100_000
        assert int(y[0]) == (9_000_000 + 4_567_890) * unit // 100_000
        assert x[1:].tolist() == [0, 0]
        assert y[1:].tolist() == [(grid.nrows << 32) - 1, 0]


def test_southern_share() -> None:
    """By people where there are some, by area where there are none."""
    rings = {"AA": [box(0, -1, 1, 1)], "BB": [box(3, -1, 4, 1)], "CC": [box(6, -3, 7, -1)]}
    _, surface = surface_of(small_world(rings, [("AA", 0.55, -0.55, 98)], {"AA": 100, "CC": 5}))
    shares = surface.southern_share()
    assert shares[0] == pytest.approx(1 - 0.02 / 2, abs=1e-6)
    assert shares[1] == 0.5
    assert shares[2] == 1.0


def test_lookup_of_people() -> None:
    """Any tile of any country; 0 abroad."""
    rings = {"AA": [box(0, 0, 1, 1)], "BB": [box(1, 0, 2, 1)]}
    _, surface = surface_of(small_world(rings, [("AA", 0.55, 0.45, 600), ("BB", 1.55, 0.45, 10)]))
    every = np.arange(tile_at(-0.95, 1.95), tile_at(2.95, -0.95), dtype=np.int64)
    for country in range(2):
        people = expanded(surface, country)
        found = surface.population_at(np.full(len(every), country, np.int16), every)
        assert found.tolist() == [people.get(t, 0) for t in every.tolist()]


# Properties

places = st.lists(
    st.tuples(
        st.sampled_from(["AA", "BB"]),
        st.integers(-1_000_000, 1_000_000).map(lambda v: v / 1e5),
        st.integers(-500_000, 500_000).map(lambda v: v / 1e5),
        st.integers(0, 30_000_000),
    ),
    max_size=6,
)


@settings(max_examples=40)
@given(places, st.integers(0, 10**8), st.integers(1, 13), st.integers(0, 3))
def test_people_are_conserved(
    listed: list[tuple[str, float, float, int]], known: int, block: int, halo: int
) -> None:
    """All of max(known, listed + least rural), less one micro-person a tile and one person a settlement."""
    rings = {"AA": [box(-3, -3, 3, 2)], "BB": [box(3, -3, 4, 2), box(-9, 0, -8, 3)]}
    policy = policy_with(rural_block_tiles=block, rural_halo_blocks=halo)
    index, surface = surface_of(small_world(rings, listed, {"AA": known}), policy)
    for country, iso in enumerate(("AA", "BB")):
        people = expanded(surface, country)
        row, col0, col1 = index.spans.of(country)
        spans = zip(row.tolist(), col0.tolist(), col1.tolist(), strict=True)
        assert list(people) == [r * GRID.ncols + c for r, a, b in spans for c in range(a, b)]
        settled = sum(p for code, _, _, p in listed if code == iso)
        known_here = known if iso == "AA" else 0
        expected = max(known_here, settled + rural_people(settled, known_here, policy)) * MICRO
        lost = expected - int(surface.totals[country])
        assert 0 <= lost <= len(people) + MICRO * sum(code == iso for code, *_ in listed)
        assert int(surface.totals[country]) == sum(people.values())


# The real world


def test_the_real_world_has_its_people(world_stage: WorldStage, real_world: World) -> None:
    """Every known person lives somewhere in the country; nobody where nobody lives."""
    world = world_stage.world
    totals = world.surface.totals
    known = real_world.countries.population
    assert (
        totals >= (known - np.bincount(real_world.settlements.country, minlength=len(known))) * MICRO - 1e9
    ).all()
    empty = [world.iso[c] for c in np.flatnonzero(totals == 0)]
    assert empty == ["AQ", "BV", "HM", "UM"]
    assert 7.6e15 < totals.sum() < 8.1e15
    tiles = np.array([world.surface.tiles_of(c)[1].sum(dtype=np.int64) for c in range(len(world.iso))])
    assert np.array_equal(tiles, world.index.tiles)


def test_runs_of_the_real_world_follow_the_spans(world_stage: WorldStage) -> None:
    """Runs and spans cover the same tiles in the same order, and runs are never cut without need."""
    surface, spans = world_stage.world.surface, world_stage.world.index.spans
    assert isinstance(surface, PopulationSurface)
    ncols = surface.grid.ncols
    span0 = spans.row.astype(np.int64) * ncols + spans.col0
    starts_span = np.zeros(len(surface.tile0), np.bool_)
    run_country = np.repeat(np.arange(len(surface.start) - 1), np.diff(surface.start))
    span_country = np.repeat(np.arange(len(spans.start) - 1), np.diff(spans.start))
    key = run_country * surface.grid.n_tiles + surface.tile0
    where = np.searchsorted(key, span_country * surface.grid.n_tiles + span0)
    assert np.array_equal(surface.tile0[where], span0)
    starts_span[where] = True
    follows = np.flatnonzero(~starts_span)
    assert np.array_equal(surface.tile0[follows], surface.tile0[follows - 1] + surface.length[follows - 1])
    assert (surface.population[follows] != surface.population[follows - 1]).all()


def test_capitals_stand_where_they_are(world_stage: WorldStage) -> None:
    """Their own tile is about as dense as a city is, whatever else is near."""
    world = world_stage.world
    for iso, lon, lat in (
        ("JP", 139.69, 35.69),
        ("GB", -0.13, 51.51),
        ("KE", 36.82, -1.28),
        ("CL", -70.65, -33.45),
    ):
        country = np.full(1, world.country_index[iso], np.int16)
        tile = world.grid.tile_of([lon], [lat])
        density = (
            world.surface.population_at(country, tile)
            / MICRO
            / (world.grid.row_area_cm2()[tile // 43_200] / 1e10)
        )
        assert 2500 < density[0] < 30_000


def test_population_surface_is_frozen() -> None:
    """A surface is a value."""
    _, surface = surface_of(small_world({"AA": [box(0, 0, 1, 1)]}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        surface.start = surface.start  # type: ignore[misc]
