"""A user's raster: its pixels on the tiles, equal to the truth and to the bundled surface that made it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import shapely
from rasterio.env import getenv
from rasterio.transform import from_origin
from small_worlds import as_runs, bits

from seg1b.errors import InputError
from seg1b.policy.load import default_policies
from seg1b.policy.models import TileMix
from seg1b.world import raster
from seg1b.world.content import World
from seg1b.world.custom import build_user_world
from seg1b.world.dense_surface import Surface
from seg1b.world.grid import Grid
from seg1b.world.raster_surface import build_raster_surface
from seg1b.world.surface import PopulationSurface, build_surface
from seg1b.world.tile_index import TileIndex, build_tile_index
from seg1b.world.weights import build_weights

TILE = 1 / 120
NODATA = -99999.0
GRID = Grid(30)
ROW, COL = 119 * 120, 200 * 120
PEOPLE = TileMix(uniform=0.0, area=0.0, population=1.0)


def save_raster(path: Path, values: npt.NDArray[np.floating], row: int = ROW, col: int = COL) -> Path:
    """Write a GeoTIFF of persons whose north-western pixel is a tile."""
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1}
    origin = from_origin(col * TILE - 180, 90 - row * TILE, TILE, TILE)
    with rasterio.open(
        path, "w", dtype=values.dtype, crs="EPSG:4326", transform=origin, nodata=NODATA, **profile
    ) as out:
        out.write(values, 1)
    return path


def two_countries(directory: Path, raster: Path | None) -> World:
    """Namibia, 4 x 3 tiles at 20 east and 29 south, and South Africa, the 4 x 5 tiles next to it."""
    boxes = [shapely.box(20, -29 - 4 * TILE, 20 + 3 * TILE, -29)]
    boxes += [shapely.box(20 + 3 * TILE, -29 - 4 * TILE, 20 + 8 * TILE, -29)]
    shapes = gpd.GeoDataFrame({"country_iso": ["NA", "ZA"]}, geometry=boxes, crs="EPSG:4326")
    shapes.to_file(directory / "shapes.gpkg", driver="GPKG")
    return build_user_world(directory / "shapes.gpkg", raster, directory / "world")


def dense(surface: Surface, country: int) -> npt.NDArray[np.int64]:
    """Micro-persons of the 4 x 8 tiles; -1 outside the country's runs."""
    values = np.full((4, 8), -1, np.int64)
    runs = (column.tolist() for column in surface.runs_of(country))
    for tile0, length, people in zip(*runs, strict=True):
        row, col = divmod(tile0, GRID.ncols)
        assert (values[row - ROW, col - COL : col - COL + length] == -1).all()
        values[row - ROW, col - COL : col - COL + length] = people
    return values


def test_pixels_lie_on_their_tiles(tmp_path: Path) -> None:
    """Six of eight columns are covered; nodata and the rest are nobody; equal neighbours make one run."""
    values = np.array(
        [[1, 1, 2, 2, 2, 0], [0, 0, 0, 5, 5, 6], [NODATA, 3.25, 3, 1e-6, 7, 7], [4, 4, 4, 4, 4, 4]],
        np.float64,
    )
    world = two_countries(tmp_path, save_raster(tmp_path / "p.tif", values))
    surface = build_raster_surface(world, build_tile_index(world, GRID))
    truth = np.zeros((4, 8))
    truth[:, :6] = np.where(values == NODATA, 0, values)
    micro = np.rint(truth * 1e6).astype(np.int64)
    assert np.array_equal(dense(surface, 0)[:, :3], micro[:, :3])
    assert np.array_equal(dense(surface, 1)[:, 3:], micro[:, 3:])
    assert (dense(surface, 0)[:, 3:] == -1).all()
    assert (dense(surface, 1)[:, :3] == -1).all()
    assert surface.runs_of(0).length.tolist() == [2, 1, 3, 1, 1, 1, 3]
    assert surface.runs_of(1).length.tolist() == [2, 3, 2, 1, 2, 1, 2, 2, 3, 2]
    assert surface.totals.tolist() == [micro[:, :3].sum(), micro[:, 3:].sum()]
    assert [column.dtype.name for column in surface.runs_of(0)] == ["int64", "int32", "int64"]
    assert surface.persons.dtype == np.float64
    assert surface.persons.tolist().count(0.0) == (truth == 0).sum()


@pytest.mark.parametrize("threads", [1, 2])
def test_strips_and_threads_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """One row at a time or all at once, by one thread or two."""
    values = np.random.default_rng(1).integers(0, 3, (4, 8)).astype(np.float32)
    world = two_countries(tmp_path, save_raster(tmp_path / "p.tif", values))
    index = build_tile_index(world, GRID)
    expected = build_raster_surface(world, index)
    monkeypatch.setattr("seg1b.world.raster._PIXELS_PER_STRIP", 2)
    monkeypatch.setattr("seg1b.kernels.jit.threads", lambda: threads)
    found = build_raster_surface(world, index)
    assert bits(found) == bits(expected)


def test_reading_takes_room_for_a_row_of_blocks(tmp_path: Path) -> None:
    """GDAL's own share of the machine's memory could be more than the raster: 64 MB do, or a larger row of blocks."""
    path = save_raster(tmp_path / "p.tif", np.ones((4, 8), np.float32))
    with raster._open(path) as dataset:
        assert dataset.block_shapes[0] == (4, 8)
        assert getenv()["GDAL_CACHEMAX"] == 64
    profile = {
        "driver": "GTiff",
        "height": 8192,
        "width": 6000,
        "count": 1,
        "dtype": "float64",
        "tiled": True,
    }
    with rasterio.open(tmp_path / "q.tif", "w", blockxsize=2048, blockysize=4096, sparse_ok=True, **profile):
        pass
    with raster._open(tmp_path / "q.tif"):
        assert getenv()["GDAL_CACHEMAX"] == 6000 * 4096 * 8 // 2**20 * 5 // 4


def test_a_country_outside_the_raster_has_a_surface_of_zeros(tmp_path: Path) -> None:
    """Its weights follow area, and say so."""
    world = two_countries(tmp_path, save_raster(tmp_path / "p.tif", np.full((4, 3), 2.0, np.float32)))
    surface = build_raster_surface(world, build_tile_index(world, GRID))
    assert surface.totals.tolist() == [24_000_000, 0]
    weights = build_weights(surface, PEOPLE, 6)
    assert weights.zero_mass.tolist() == [False, True]
    assert weights.runs_of(1).weight.sum() == 10**6


def test_the_tile_grid_must_be_the_rasters(tmp_path: Path) -> None:
    """W308 names both resolutions and the file to change; also without any raster."""
    world = two_countries(tmp_path, save_raster(tmp_path / "p.tif", np.ones((4, 8), np.float32)))
    with pytest.raises(
        InputError, match="60 arc-seconds, the world has a raster of 30 arc-seconds"
    ) as caught:
        build_raster_surface(world, build_tile_index(world, Grid(60)))
    assert caught.value.code == "W308_RASTER_RESOLUTION"
    assert caught.value.where == "s1.tile_index.yaml: resolution_arcsec"
    with pytest.raises(InputError, match="the world has no raster"):
        build_raster_surface(dataclasses.replace(world, raster=None), build_tile_index(world, GRID))


def test_a_raster_in_another_unit_is_noticed(tmp_path: Path) -> None:
    """More people than 64 bits of micro-persons can hold: an error instead of wrapped sums."""
    world = two_countries(tmp_path, save_raster(tmp_path / "p.tif", np.full((4, 8), 1e10)))
    index = build_tile_index(world, GRID)
    assert build_raster_surface(world, index).totals.sum() == 32 * 10**16
    many = np.full((12, 12), 1e10)
    shape = gpd.GeoDataFrame(
        {"country_iso": ["NA"]}, geometry=[shapely.box(20, -30, 21, -29)], crs="EPSG:4326"
    )
    shape.to_file(tmp_path / "one.gpkg", driver="GPKG")
    big = save_raster(tmp_path / "q.tif", many)
    world = build_user_world(tmp_path / "one.gpkg", big, tmp_path / "big")
    with pytest.raises(InputError) as caught:
        build_raster_surface(world, build_tile_index(world, GRID))
    assert (caught.value.code, caught.value.where) == ("W309_RASTER_TOTAL", "q.tif")


def test_runs_and_raster_give_equal_weights(tmp_path: Path, real_world: World) -> None:
    """Liechtenstein's and Malta's bundled surface, written as a raster and read back."""
    shapes = gpd.GeoDataFrame(
        {"country_iso": ["LI", "MT"]}, geometry=[_shape(real_world, c) for c in ("LI", "MT")], crs="EPSG:4326"
    )
    shapes.to_file(tmp_path / "shapes.gpkg", driver="GPKG")
    bundled_world = build_user_world(tmp_path / "shapes.gpkg", None, tmp_path / "bundled")
    index = build_tile_index(bundled_world, GRID)
    bundled = build_surface(bundled_world, index, default_policies().tile_weights.surface)
    raster = _as_raster(bundled, index, tmp_path / "p.tif")
    world = build_user_world(tmp_path / "shapes.gpkg", raster, tmp_path / "with_raster")
    found = build_raster_surface(world, build_tile_index(world, GRID))
    assert bits(as_runs(found)) == bits(bundled)
    for mix in (PEOPLE, TileMix(uniform=0.25, area=0.25, population=0.5)):
        ours, theirs = build_weights(bundled, mix, 12), build_weights(found, mix, 12)
        for country in range(2):
            runs, tiles = ours.runs_of(country), theirs.runs_of(country)
            assert np.repeat(runs.weight, runs.length).tolist() == tiles.weight.tolist()
    assert (bundled.population > 0).sum() > 100


def _shape(world: World, iso: str) -> shapely.MultiPolygon:
    polygons = world.polygons
    parts = []
    for ring in polygons.country_rings(world.countries.index_of[iso]):
        part = slice(polygons.ring_start[ring], polygons.ring_start[ring + 1])
        parts.append(shapely.Polygon(np.stack([polygons.lon[part], polygons.lat[part]], axis=1)))
    return shapely.MultiPolygon(parts)


def _as_raster(surface: PopulationSurface, index: TileIndex, path: Path) -> Path:
    top, bottom = int(index.spans.row.min()), int(index.spans.row.max()) + 1
    left, right = int(index.spans.col0.min()), int(index.spans.col1.max())
    micro = np.zeros((bottom - top, right - left), np.int64)
    for tile0, length, people in zip(surface.tile0, surface.length, surface.population, strict=True):
        row, col = divmod(int(tile0), GRID.ncols)
        micro[row - top, col - left : col - left + length] += people
    return save_raster(path, micro / 1e6, top, left)
