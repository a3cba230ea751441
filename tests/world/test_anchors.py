"""The settlement in a tile: the largest of the country, ties by GeoNames id, nothing elsewhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import box, small_world

from seg1b.lanes.world_stage import WorldStage
from seg1b.world.anchors import build_anchors
from seg1b.world.grid import Grid
from seg1b.world.surface import settlement_coordinates

GRID = Grid(3600)
RINGS = {"AA": [box(0, 0, 10, 10)], "BB": [box(10, 0, 20, 10)]}
QUARTER, HALF = 1 << 30, 1 << 31
Place = tuple[str, float, float, int]


def at(places: list[Place], country: int, lon: float, lat: float) -> tuple[int, int]:
    """Fractions of the anchor of the tile at a point."""
    anchors = build_anchors(small_world(RINGS, places), GRID)
    x, y = anchors.at(np.array([country], np.int16), GRID.tile_of([lon], [lat]))
    assert x.dtype == y.dtype == np.int64
    return int(x[0]), int(y[0])


def test_fractions_of_a_tile() -> None:
    """A quarter from the west, half from the north."""
    assert at([("AA", 3.25, 4.5, 9)], 0, 3.9, 4.1) == (QUARTER, HALF)


def test_the_largest_settlement_wins() -> None:
    """Whatever the order of the list."""
    places: list[Place] = [("AA", 3.5, 4.5, 9), ("AA", 3.25, 4.5, 10), ("AA", 3.75, 4.5, 3)]
    assert at(places, 0, 3.5, 4.5) == (QUARTER, HALF)
    assert at(places[::-1], 0, 3.5, 4.5) == (QUARTER, HALF)


def test_a_tie_goes_to_the_smaller_geonames_id() -> None:
    """Ids number the places in the order given."""
    places: list[Place] = [("AA", 3.25, 4.5, 9), ("AA", 3.5, 4.5, 9)]
    assert at(places, 0, 3.5, 4.5) == (QUARTER, HALF)
    assert at(places[::-1], 0, 3.5, 4.5) == (HALF, HALF)


def test_neighbours_settlements_do_not_count() -> None:
    """A tile that two countries share has an anchor for each, and none where the country has none."""
    places: list[Place] = [("AA", 3.25, 4.5, 9), ("BB", 3.5, 4.5, 99)]
    assert at(places, 0, 3.5, 4.5) == (QUARTER, HALF)
    assert at(places, 1, 3.5, 4.5) == (HALF, HALF)
    assert at(places, 1, 4.5, 4.5) == (-1, -1)
    assert at(places, 0, 179.5, -89.5) == (-1, -1)


def test_a_world_without_settlements() -> None:
    """No anchors, as many answers as questions."""
    anchors = build_anchors(small_world(RINGS), GRID)
    x, y = anchors.at(np.zeros(3, np.int16), np.arange(3))
    assert x.tolist() == y.tolist() == [-1, -1, -1]
    assert x is not y


def test_the_edges_of_the_world() -> None:
    """Longitude 180 is the western edge of column 0; the south pole the last unit of the last row."""
    places: list[Place] = [("AA", 180.0, -90.0, 9)]
    assert at(places, 0, -180.0, -90.0) == (0, (1 << 32) - 1)


coordinate = st.integers(0, 399).map(lambda v: v / 100)


@given(
    st.lists(st.tuples(st.sampled_from(["AA", "BB"]), coordinate, coordinate, st.integers(0, 3)), max_size=30)
)
def test_anchors_equal_a_search(places: list[Place]) -> None:
    """Every tile of a corner of the world, both countries, one by one."""
    world = small_world(RINGS, places)
    x, y = settlement_coordinates(world, GRID)
    listed = world.settlements
    anchors = build_anchors(world, GRID)
    assert (np.diff(anchors.key) > 0).all()
    for country in range(2):
        for tile in GRID.tile_of(*np.meshgrid(np.arange(5) + 0.5, np.arange(5) - 0.5)).ravel():
            here = [
                k
                for k in range(len(listed))
                if listed.country[k] == country and (y[k] >> 32) * 360 + (x[k] >> 32) == tile
            ]
            found = anchors.at(np.array([country], np.int16), np.array([tile]))
            if here:
                best = max(here, key=lambda k: (listed.population[k], -listed.geonameid[k]))
                assert (int(found[0][0]), int(found[1][0])) == (x[best] % (1 << 32), y[best] % (1 << 32))
            else:
                assert (int(found[0][0]), int(found[1][0])) == (-1, -1)


def test_every_settlement_of_the_real_world_has_an_anchor_in_its_tile(world_stage: WorldStage) -> None:
    """The tile of any settlement has an anchor for its country, and in the tile of the largest it is that one."""
    world = world_stage.world
    settlements = world.settlements
    tile = world.grid.tile_of(settlements.lon_e5 / 1e5, settlements.lat_e5 / 1e5)
    x, _ = world.anchors.at(settlements.country, tile)
    assert (x >= 0).mean() > 0.9999
    largest = int(np.argmax(settlements.population))
    lon = settlements.lon_e5[largest] / 1e5
    west = world.grid.bounds(tile[largest : largest + 1])[0][0]
    assert abs((lon - west) * 120 - x[largest] / 2**32) < 1e-6
