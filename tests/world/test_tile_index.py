"""S1's index: worlds of one-degree tiles by hand, rescue tiles, poles, and the real world's golden counts."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
from small_worlds import Tiles, bits, box, small_world, tiles_of_spans

from seg1b.errors import InputError
from seg1b.kernels.scanline import boundary_spans, polygon_spans
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.models import TileIndexPolicy
from seg1b.states import s1_tile_index
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.grid import Grid
from seg1b.world.tile_index import TileIndex, build_tile_index, integer_polygons

DEGREE = Grid(3600)


def index_of(**rings: list[list[tuple[float, float]]]) -> TileIndex:
    """The index of a small world on tiles of one degree."""
    return build_tile_index(small_world(rings), DEGREE)


def tiles_of(index: TileIndex, country: int = 0) -> Tiles:
    """(row, column) of a country's tiles."""
    return tiles_of_spans(np.stack(index.spans.of(country), axis=1))


def degrees(west: int, south: int, east: int, north: int) -> Tiles:
    """(row, column) of the tiles of a box of whole degrees; east may be beyond 180."""
    return {(r, c % 360) for r in range(90 - north, 90 - south) for c in range(west + 180, east + 180)}


def tile_id(west: int, north: int) -> int:
    """The tile with this north-western corner."""
    return (90 - north) * 360 + west + 180


def test_boxes_of_whole_degrees() -> None:
    """Two countries with a common border: tiles, counts, and which of them the border runs through."""
    index = index_of(AA=[box(0, 0, 10, 5)], BB=[box(10, 0, 12, 5)])
    assert tiles_of(index, 0) == degrees(0, 0, 10, 5)
    assert tiles_of(index, 1) == degrees(10, 0, 12, 5)
    assert index.tiles.tolist() == [50, 10]
    assert len(index.rescue_tile) == 0
    asked = np.array([tile_id(5, 3), tile_id(0, 3), tile_id(10, 3), tile_id(11, 3)])
    first = np.zeros(4, np.int16)
    assert index.spans.contains(first, asked, 360).tolist() == [True, True, False, False]
    assert index.centre_inside(first, asked).tolist() == [True, True, False, False]
    assert index.centre_inside(first + 1, asked).tolist() == [False, False, True, True]


def test_area_is_that_of_the_tiles() -> None:
    """Ten tiles of one row; twenty of both sides of the equator are the same."""
    index = index_of(AA=[box(0, 0, 10, 1)], BB=[box(0, -1, 10, 0)])
    area = index.area_km2()
    assert area[0] == 10 * DEGREE.row_area_cm2()[89] / 1e10
    assert area[0] == area[1]
    assert area[0] == pytest.approx(10 * 110.574 * 111.3, rel=1e-3)


def test_a_country_smaller_than_a_tile_gets_the_tile_that_holds_it() -> None:
    """No centre is inside; the one tile is known as a rescue tile, and its centre as abroad."""
    index = index_of(AA=[box(5.1, 5.1, 5.2, 5.2)], BB=[box(0, 0, 10, 10)])
    assert tiles_of(index) == degrees(5, 5, 6, 6)
    assert (index.rescue_country.tolist(), index.rescue_tile.tolist()) == ([0], [tile_id(5, 6)])
    tile = index.rescue_tile
    assert not index.centre_inside(np.zeros(1, np.int16), tile).any()
    assert index.centre_inside(np.ones(1, np.int16), tile).all()


def test_the_rescue_tile_has_the_largest_part() -> None:
    """One part in ten in the west, nine in the east."""
    index = index_of(AA=[box(4.99, 5.1, 5.09, 5.2)])
    assert index.rescue_tile.tolist() == [tile_id(5, 6)]
    index = index_of(AA=[box(4.91, 5.1, 5.01, 5.2)])
    assert index.rescue_tile.tolist() == [tile_id(4, 6)]


def test_a_tie_goes_to_the_smallest_tile() -> None:
    """A square round the common corner of four tiles; also where the smallest id is east of the antimeridian."""
    assert index_of(AA=[box(4.9, 4.9, 5.1, 5.1)]).rescue_tile.tolist() == [tile_id(4, 6)]
    halves = [box(179.9, 4.9, 180, 5.1), box(-180, 4.9, -179.9, 5.1)]
    assert index_of(AA=halves).rescue_tile.tolist() == [tile_id(-180, 6)]


def test_a_country_that_fills_no_line_of_a_tile_has_no_tile() -> None:
    """An area of nothing cannot be placed anywhere, and nothing breaks."""
    index = index_of(AA=[[(5.1, 5.1), (5.2, 5.1), (5.3, 5.1)]], BB=[box(0, 0, 1, 1)])
    assert index.tiles.tolist() == [0, 1]
    assert len(index.rescue_tile) == 0


def test_a_world_without_any_tile_is_refused_by_name() -> None:
    """As of polygons in another unit than degrees: what they span, in which file, and what to do."""
    world = small_world({"AA": [[(5.1, 5.1), (5.2, 5.1), (5.3, 5.1)]]})
    with pytest.raises(InputError) as caught:
        build_tile_index(world, DEGREE)
    assert caught.value.code == "E001_GEO_INVALID"
    assert "none of the 1 countries holds a tile of 3600 arc-seconds" in caught.value.message
    assert "span 0.2 degrees" in caught.value.message
    assert "EPSG:4326" in caught.value.next_step
    with pytest.raises(InputError) as caught:
        build_tile_index(dataclasses.replace(world, directory=Path("mine")), DEGREE)
    assert caught.value.where == "mine/vertices.parquet"


def test_cut_at_the_antimeridian_or_not() -> None:
    """Fiji as one ring across 180 degrees and as two halves: the same spans."""
    whole = [(178.0, -20.0), (-178.0, -20.0), (-178.0, -16.0), (178.0, -16.0)]
    halves = [box(178, -20, 180, -16), box(-180, -20, -178, -16)]
    expected = degrees(178, -20, 182, -16)
    assert tiles_of(index_of(FJ=[whole])) == tiles_of(index_of(FJ=halves)) == expected


@pytest.mark.parametrize("step", [10, 90, 180, 360])
def test_polar_caps(step: int) -> None:
    """GeoJSON's way round a pole: up the antimeridian and along the pole, in steps of any length."""
    south = [(float(lon), -80.0) for lon in range(-180, 181, 10)]
    pole = [(float(lon), -90.0) for lon in range(180, -181, -step)]
    north = [(lon, -lat) for lon, lat in [*south, *pole]]
    assert tiles_of(index_of(AQ=[[*south, *pole]])) == degrees(-180, -90, 180, -80)
    assert tiles_of(index_of(AR=[north])) == degrees(-180, 80, 180, 90)
    assert tiles_of(index_of(AR=[north[::-1]])) == degrees(-180, 80, 180, 90)


def test_a_sector_at_the_north_pole() -> None:
    """An edge of 340 degrees along the pole must not take the short way."""
    arc = [(float(lon), 80.0) for lon in range(-170, 171, 10)]
    assert tiles_of(index_of(AR=[[*arc, (170.0, 90.0), (-170.0, 90.0)]])) == degrees(-170, 80, 170, 90)


def test_the_whole_world_and_its_halves() -> None:
    """Edges of exactly 180 or 360 degrees have a direction that integers alone do not know."""
    assert tiles_of(index_of(AA=[box(-180, -90, 180, 90)])) == degrees(-180, -90, 180, 90)
    east, west = box(0, -40, 180, 50), box(-180, -40, 0, 50)
    index = index_of(EE=[east], WW=[west])
    assert tiles_of(index, 0) == degrees(0, -40, 180, 50)
    assert tiles_of(index, 1) == degrees(-180, -40, 0, 50)
    slanted = [(0.0, 0.0), (180.0, 40.0), (180.0, 50.0), (0.0, 10.0)]
    assert set(tiles_of(index_of(EE=[slanted]))) == set(tiles_of(index_of(EE=[slanted[::-1]])))
    assert len(tiles_of(index_of(EE=[slanted]))) == 1800


def test_long_edges_are_cut_alike_from_both_sides() -> None:
    """Ring offsets follow the new vertices, and both neighbours get the same ones."""
    line = [(0.0, 10.0), (180.0, 30.0)]
    upper = [*line, (180.0, 60.0), (90.0, 60.0), (0.0, 60.0)]
    lower = [line[1], line[0], (0.0, 0.0), (90.0, 0.0), (180.0, 0.0)]
    found = integer_polygons(small_world({"LO": [lower, box(-9, 0, -8, 1)], "UP": [upper]}).polygons, DEGREE)
    assert found.ring_start.tolist() == [0, 9, 14, 23]
    lo, up = found.of(0), found.of(1)
    assert list(zip(lo[0][:5], lo[1][:5], strict=True)) == list(zip(up[0][:5], up[1][:5], strict=True))[::-1]
    index = build_tile_index(small_world({"LO": [lower], "UP": [upper]}), DEGREE)
    assert tiles_of(index, 0) | tiles_of(index, 1) == degrees(0, 0, 180, 60)
    assert not tiles_of(index, 0) & tiles_of(index, 1)


def test_an_open_ring_is_an_error() -> None:
    """The bundle never holds one; if it did, the country is named."""
    world = small_world({"AA": [box(0, 0, 1, 1)], "BB": [box(3, 3, 9, 9)]})
    world.polygons.lat[-1] = 7.0
    world.polygons.lon[-1] = 5.0
    with pytest.raises(InputError) as caught:
        build_tile_index(world, DEGREE)
    assert caught.value.code == "E001_GEO_INVALID"
    assert caught.value.where == "country BB"


def test_translation_by_whole_tiles() -> None:
    """An irregular country, moved round the world in steps of tiles, keeps its shape."""
    ring = [(0.3, 0.2), (7.9, 2.5), (5.5, 9.1), (3.2, 4.4), (-2.7, 6.6)]
    expected = tiles_of(index_of(AA=[ring]))
    centres = {(r, c): (c - 179.5, 89.5 - r) for r in range(75, 95) for c in range(170, 195)}
    shape = shapely.Polygon(ring)
    assert expected == {key for key, (lon, lat) in centres.items() if shapely.contains_xy(shape, lon, lat)}
    for shift in (100, 176, 178, 180, 185, 300):
        moved = [((lon + shift + 180.0) % 360.0 - 180.0, lat) for lon, lat in ring]
        found = tiles_of(index_of(AA=[moved]))
        assert found == {(r, (c + shift) % 360) for r, c in expected}


# The real world


@pytest.mark.parametrize(
    ("resolution", "tiles", "without_antarctica"),
    [(60, 77_135_181, 55_356_841), (120, 19_283_624, 13_839_004)],
)
def test_golden_tile_counts(real_world: World, resolution: int, tiles: int, without_antarctica: int) -> None:
    """Counts of the embedded world, once looked at and kept."""
    index = build_tile_index(real_world, Grid(resolution))
    antarctica = real_world.countries.index_of["AQ"]
    assert int(index.tiles.sum()) == tiles
    assert int(index.tiles.sum() - index.tiles[antarctica]) == without_antarctica
    assert (index.tiles > 0).all()


def test_golden_tile_count_at_30_seconds(world_stage: WorldStage) -> None:
    """221 million tiles and Antarctica; the Vatican is the only country without a centre, and it is rescued."""
    index, iso = world_stage.world.index, world_stage.world.iso
    assert int(index.tiles.sum()) == 308_540_913
    assert int(index.tiles.sum() - index.tiles[iso.index("AQ")]) == 221_427_122
    assert [iso[c] for c in index.rescue_country] == ["VA"]
    assert index.rescue_tile.tolist() == Grid(30).tile_of([12.4534], [41.9029]).tolist()
    assert index.tiles[iso.index("VA")] == 1
    land_km2 = index.area_km2().sum() - index.area_km2()[iso.index("AQ")]
    assert land_km2 == pytest.approx(134.5e6, rel=0.01)


def test_spans_of_the_real_world_are_ascending(world_stage: WorldStage) -> None:
    """Per country, by row and column, disjoint, none adjacent."""
    spans = world_stage.world.index.spans
    country = np.repeat(np.arange(len(spans.start) - 1), np.diff(spans.start))
    assert (spans.col0 < spans.col1).all()
    assert spans.col1.max() <= 43_200
    end = (country * 21_600 + spans.row) * 43_201 + spans.col1
    assert (np.diff(end) > 0).all()
    assert (((country * 21_600 + spans.row) * 43_201 + spans.col0)[1:] > end[:-1]).all()


@pytest.mark.parametrize("iso", ["FJ", "RU", "VA", "AQ"])
def test_border_tiles_of_the_real_world(world_stage: WorldStage, iso: str) -> None:
    """The edges of a country, asked of every tile near its border, know what the scan-line knows of all at once."""
    world, country = world_stage.world, world_stage.world.country_index[iso]
    columns = world.grid.ncols
    met = boundary_spans(*world.polygons.of(country), columns, world.grid.nrows).astype(np.int64)
    length = met[:, 2] - met[:, 1]
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    tile = np.repeat(met[:, 0] * columns + met[:, 1], length) + within
    near = np.unique(np.concatenate([tile, tile - 1, tile + 1, tile - columns, tile + columns]))
    near = near[(near >= 0) & (near < world.grid.n_tiles)]
    found = world.on_boundary(np.full(len(near), country, np.int16), near)
    assert np.array_equal(near[found], tile)
    assert world.on_boundary(world.index.rescue_country, world.index.rescue_tile).all()


@pytest.mark.parametrize("iso", ["FJ", "RU", "NZ", "LS", "ZA", "VA", "CA"])
def test_border_tiles_of_the_real_world_agree_with_shapely(world_stage: WorldStage, iso: str) -> None:
    """Antimeridian, enclave, hole and fjords: the centres of tiles on the border, against another library."""
    world = world_stage.world
    polygons, country = world.polygons, world.country_index[iso]
    grid = world.grid
    boundary = boundary_spans(*polygons.of(country), grid.ncols, grid.nrows).T
    width = grid.ncols * grid.unit
    rng = np.random.default_rng(7)
    picked = rng.integers(0, len(boundary[0]), 400)
    row, col0, col1 = (part[picked].astype(np.int64) for part in boundary)
    col = rng.integers(col0, col1)
    x, y, start = polygons.of(country)
    rings = []
    for a, b in pairwise(start.tolist()):
        ring_x = x[a:b] + np.concatenate(([0], np.cumsum(_turns(np.diff(x[a:b]), width))))
        rings.append(shapely.Polygon(np.stack([ring_x, y[a:b]], axis=1)))
    centre_x, centre_y = (col * 2 + 1) << 31, (row * 2 + 1) << 31
    expected = np.zeros(len(col), np.bool_)
    for ring in rings:
        shapely.prepare(ring)
        for turn in (-width, 0, width):
            expected ^= shapely.contains_xy(ring, centre_x + turn, centre_y)
    asked = np.full(len(col), country, np.int16)
    found = world.index.centre_inside(asked, row * grid.ncols + col)
    assert np.array_equal(found, expected)


def _turns(step: np.ndarray[tuple[int], np.dtype[np.int64]], width: int) -> list[int]:
    return [-width if s > width // 2 else width if s < -(width // 2) else 0 for s in step.tolist()]


DIGEST_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from small_worlds import bits
from seg1b.world.bundle import load_world
from seg1b.world.grid import Grid
from seg1b.world.tile_index import build_tile_index
print(bits(build_tile_index(load_world(), Grid(300))))
"""


def test_threads_and_processes_give_the_same_bits(real_world: World) -> None:
    """Two threads at once, and another process with another thread count and hash seed."""
    grid = Grid(300)
    expected = bits(build_tile_index(real_world, grid))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: bits(build_tile_index(real_world, grid)), range(4)))
    assert set(found) == {expected}
    script = DIGEST_SCRIPT.format(tests=os.path.dirname(os.path.dirname(__file__)))
    environment = os.environ | {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
    output = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert output.stdout.strip() == expected


# -- 3 arc-seconds: 93 billion tiles, ids beyond 32 bits --------------------------------------------------------------

FINE = Grid(3)
VECTORS = Path(__file__).parents[1] / "vectors" / "tile_index_3s.txt"


def tiles_by_crossings(world: World, iso: str) -> Tiles:
    """Tiles whose centre has an odd number of edges to its west, one by one, in Python's integers."""
    x, y, ring_start = integer_polygons(world.polygons, FINE).of(world.countries.index_of[iso])
    edges = [
        (int(x[k]), int(y[k]), int(x[k + 1]), int(y[k + 1]))
        for a, b in pairwise(ring_start.tolist())
        for k in range(a, b - 1)
    ]
    half = FINE.unit // 2
    found = set()
    for row in range(int(y.min()) >> 32, (int(y.max()) >> 32) + 1):
        cy = row * FINE.unit + half
        level = [edge for edge in edges if (edge[1] <= cy) != (edge[3] <= cy)]
        for col in range(int(x.min()) >> 32, (int(x.max()) >> 32) + 1):
            cx = col * FINE.unit + half
            west = 0
            for x0, y0, x1, y1 in level:
                side = (cy - y0) * (x1 - x0) - (cx - x0) * (y1 - y0)
                west += (side if y1 > y0 else -side) <= 0
            if west % 2:
                found.add((row, col))
    return found


@pytest.mark.parametrize("iso", ["MC", "VA"])
def test_small_countries_at_three_seconds(real_world: World, iso: str) -> None:
    """Row, first column and column after the last, as recorded; and the record is what counting edges gives."""
    country = real_world.countries.index_of[iso]
    polygons = integer_polygons(real_world.polygons, FINE)
    spans, closed = polygon_spans(*polygons.of(country), FINE.ncols, FINE.nrows)
    assert closed
    recorded = [line.split() for line in VECTORS.read_text().splitlines() if line.startswith(iso)]
    assert spans.tolist() == [[int(value) for value in line[1:]] for line in recorded]
    assert tiles_of_spans(spans) == tiles_by_crossings(real_world, iso)


def test_the_last_tiles_of_the_finest_grid(tmp_path: Path) -> None:
    """A box in the south-eastern corner, through the store: columns up to 432,000, tile ids near 9.3e10."""
    world = small_world({"AA": [box(179.9, -90.0, 180.0, -89.95)]})
    store = Store.open(tmp_path / "store")
    key = state_key("s1", 1, None, {}, {}, None)
    s1_tile_index.run(store, key, world, TileIndexPolicy(resolution_arcsec=3, predicate="center"))
    index = s1_tile_index.load(store, key, 1)
    assert index.spans.row.tolist() == list(range(215_940, 216_000))
    assert set(index.spans.col0.tolist()) == {431_880}
    assert set(index.spans.col1.tolist()) == {432_000}
    assert index.tiles.tolist() == [60 * 120]
    last = FINE.n_tiles - 1
    asked = np.array([last, last - 119, last - 120, last - 60 * FINE.ncols])
    assert last > 9e10
    assert index.spans.contains(np.zeros(4, np.int16), asked, FINE.ncols).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert index.centre_inside(np.zeros(1, np.int16), asked[:1]).all()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_whole_world_at_three_seconds() -> None:
    """31 billion tiles in a process that may take 1 GB; counted once and kept."""
    program = """
from seg1b.world.bundle import load_world
from seg1b.world.grid import Grid
from seg1b.world.tile_index import build_tile_index
index = build_tile_index(load_world(), Grid(3))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(index.tiles.sum(), len(index.rescue_tile), peak.split()[1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    tiles, rescued, peak_kb = (int(word) for word in done.stdout.split())
    assert (tiles, rescued) == (30_854_101_220, 0)
    assert peak_kb < 1_000_000
