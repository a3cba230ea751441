"""A user's own world: 3 x 3 degrees that a reader can check, every error code, and nothing left on error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import from_origin

from seg1b.errors import ContractError, InputError
from seg1b.world.bundle import load_world
from seg1b.world.content import RasterReference
from seg1b.world.custom import build_user_world
from seg1b.world.raster import describe_raster, read_raster_window

TILE = 1 / 120
NODATA = -99999.0


def frame(**columns: list[Any]) -> gpd.GeoDataFrame:
    """Return Namibia and South Africa as two boxes of one degree that share a border, plus columns."""
    data: dict[str, list[Any]] = {"country_iso": ["ZA", "NA"]}
    boxes = [shapely.box(21, -30, 22, -29), shapely.box(20, -30, 21, -29)]
    geometry = columns.pop("geometry", boxes)
    return gpd.GeoDataFrame(data | columns, geometry=geometry, crs="EPSG:4326")


def save(shapes: gpd.GeoDataFrame, path: Path) -> Path:
    """Write a frame as GeoParquet or GeoPackage, by suffix."""
    if path.suffix == ".parquet":
        shapes.to_parquet(path)
    else:
        shapes.to_file(path, driver="GPKG", layer="countries")
    return path


def save_raster(path: Path, values: NDArray[Any] | None = None, **options: Any) -> Path:
    """Write a GeoTIFF of 4 x 6 tiles at 20 east, 29 south."""
    if values is None:
        values = np.arange(24, dtype=np.float32).reshape(4, 6)
        values[1, 2] = NODATA
    settings: dict[str, Any] = {
        "driver": "GTiff",
        "height": values.shape[-2],
        "width": values.shape[-1],
        "count": 1,
        "dtype": values.dtype,
        "crs": "EPSG:4326",
        "transform": from_origin(20, -29, TILE, TILE),
        "nodata": NODATA,
    }
    with rasterio.open(path, "w", **(settings | options)) as dataset:
        for band in range(1, dataset.count + 1):
            dataset.write(values, band)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg"])
def test_polygons_make_a_world(tmp_path: Path, suffix: str) -> None:
    """Two countries, sorted by code, with attributes and settlements of the embedded world."""
    path = save(frame(), tmp_path / f"shapes{suffix}")
    world = build_user_world(path, None, tmp_path / "world")
    embedded = load_world()
    assert world.countries.iso == ("NA", "ZA")
    namibia = embedded.countries.index_of["NA"]
    assert world.countries.name[0] == "Namibia"
    assert world.countries.population[0] == embedded.countries.population[namibia]
    assert world.countries.gdp_per_head[0] == embedded.countries.gdp_per_head[namibia]
    assert world.countries.macro_region == ("Africa", "Africa")
    assert world.countries.eligible.tolist() == [True, True]
    assert world.polygons.ring_start.tolist() == [0, 5, 10]
    assert world.polygons.lon[:5].min() == 20.0
    assert world.polygons.lon[5:].min() == 21.0
    places = embedded.settlements.country == namibia
    assert (world.settlements.country == 0).sum() == places.sum()
    expected = embedded.settlements.geonameid[places]
    assert np.array_equal(world.settlements.geonameid[world.settlements.country == 0], expected)
    assert world.raster is None
    recorded = world.provenance["sources"]["polygons"]
    assert recorded == {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert str(tmp_path) not in (tmp_path / "world" / "world.json").read_text()


def test_both_formats_give_the_same_world(tmp_path: Path) -> None:
    """The digest depends on the polygons, not on the file that brought them, nor on the order of its rows."""
    digests = set()
    for name, shapes in {"a.parquet": frame(), "b.gpkg": frame(), "c.parquet": frame()[::-1]}.items():
        world = build_user_world(save(shapes, tmp_path / name), None, tmp_path / f"world_{name}")
        digests.add(world.digest)
    assert len(digests) == 1


def test_columns_take_the_place_of_embedded_values(tmp_path: Path) -> None:
    """Where the file says something it counts; a null falls back; population 0 excludes a country."""
    shapes = frame(
        name=["Cape", None],
        population=[0, 1234],
        gdp_per_head=[None, 77.5],
        subregion=["Caribbean", "Southern Africa"],
    )
    world = build_user_world(save(shapes, tmp_path / "p.parquet"), None, tmp_path / "world")
    countries, embedded = world.countries, load_world().countries
    assert countries.name == ("Namibia", "Cape")
    assert countries.population.tolist() == [1234, 0]
    assert countries.population_source == ("user", "user")
    assert countries.gdp_per_head.tolist() == [77.5, embedded.gdp_per_head[embedded.index_of["ZA"]]]
    assert countries.macro_region == ("Africa", "North America")
    assert countries.eligible.tolist() == [True, False]
    assert countries.exclusion_reason == ("", "nobody lives there: population 0")


def test_a_user_assigned_code_brings_its_own_attributes(tmp_path: Path) -> None:
    """XA is nobody's code in ISO 3166-1: usable when the file says all that a country needs."""
    shapes = frame(
        country_iso=["XA", "NA"],
        population=[5000.0, None],
        gdp_per_head=[100.0, None],
        subregion=["Polynesia", None],
    )
    world = build_user_world(save(shapes, tmp_path / "p.gpkg"), None, tmp_path / "world")
    assert world.countries.iso == ("NA", "XA")
    assert world.countries.name == ("Namibia", "XA")
    assert world.countries.macro_region == ("Africa", "Oceania")
    assert (world.settlements.country == 0).all()


def test_rows_of_one_code_are_united(tmp_path: Path) -> None:
    """Touching parts lose their common border, populations add up, and the union is recorded."""
    boxes = [shapely.box(20, -30, 21, -29), shapely.box(21, -30, 22, -29), shapely.box(24, -30, 25, -29)]
    shapes = frame(country_iso=["NA", "NA", "NA"], population=[1, 2, 4], geometry=boxes)
    world = build_user_world(save(shapes, tmp_path / "p.parquet"), None, tmp_path / "world")
    assert world.countries.population.tolist() == [7]
    assert world.polygons.ring_country.tolist() == [0, 0]
    assert world.countries.area_km2[0] == pytest.approx(3 * 10_760, rel=5e-3)
    assert world.provenance["decisions"]["united_rows"] == [{"iso": "NA", "rows": [0, 1, 2]}]


def test_the_country_column_can_be_named(tmp_path: Path) -> None:
    """ISO columns have many names."""
    shapes = frame().rename(columns={"country_iso": "ISO_A2"})
    path = save(shapes, tmp_path / "p.gpkg")
    world = build_user_world(path, None, tmp_path / "world", country_column="ISO_A2", layer="countries")
    assert world.countries.iso == ("NA", "ZA")


def test_a_sliver_is_tolerated_and_the_tolerance_recorded(tmp_path: Path) -> None:
    """Digitised borders are never perfect; 0.1 km2 of overlap is less than a tile."""
    boxes = [shapely.box(21 - 1e-5, -30, 22, -29), shapely.box(20, -30, 21, -29)]
    world = build_user_world(save(frame(geometry=boxes), tmp_path / "p.gpkg"), None, tmp_path / "world")
    assert world.provenance["decisions"]["overlap_tolerance_km2"] == 1.0


def test_a_raster_makes_a_world_with_the_embedded_polygons(tmp_path: Path) -> None:
    """The raster is copied beside world.json and known by digest and grid header."""
    raster = save_raster(tmp_path / "population.tif")
    world = build_user_world(None, raster, tmp_path / "world")
    assert world.countries.iso == load_world().countries.iso
    assert np.array_equal(world.polygons.lon, load_world().polygons.lon)
    assert world.raster == RasterReference(
        file_name="population.tif",
        sha256=hashlib.sha256(raster.read_bytes()).hexdigest(),
        bytes=raster.stat().st_size,
        rows=4,
        cols=6,
        row0=119 * 120,
        col0=200 * 120,
        resolution_arcsec=30,
        nodata="-99999.0",
        dtype="float32",
        path=tmp_path / "world" / "population.tif",
    )
    assert world.digest != load_world().digest


def test_windows_of_the_raster_by_hand(tmp_path: Path) -> None:
    """Nodata and everything that the raster does not cover are 0; 0 is a value; the rest is as written."""
    polygons = save(frame(), tmp_path / "p.gpkg")
    world = build_user_world(polygons, save_raster(tmp_path / "population.tif"), tmp_path / "world")
    assert world.raster is not None
    top, left = world.raster.row0, world.raster.col0
    inside = read_raster_window(world.raster, top, top + 4, left, left + 6)
    expected = np.arange(24.0).reshape(4, 6)
    expected[1, 2] = 0.0
    assert inside.dtype == np.float64
    assert np.array_equal(inside, expected)
    beyond = read_raster_window(world.raster, top - 1, top + 2, left + 4, left + 8)
    assert beyond.tolist() == [[0, 0, 0, 0], [4, 5, 0, 0], [10, 11, 0, 0]]
    assert read_raster_window(world.raster, 0, 3, 0, 2).tolist() == [[0, 0]] * 3
    assert read_raster_window(world.raster, 5, 5, 0, 2).shape == (0, 2)
    with pytest.raises(ContractError) as caught:
        read_raster_window(world.raster, 0, 21_601, 0, 1)
    assert caught.value.code == "W307"


@pytest.mark.parametrize(("dtype", "nodata"), [(np.int16, -1), (np.float64, float("nan")), (np.uint8, 255)])
def test_other_types_and_nodata_values(tmp_path: Path, dtype: type[np.generic], nodata: float) -> None:
    """NaN may be nodata; integers are as good as floats."""
    values = np.array([[1, nodata], [0, 7]], dtype)
    reference = describe_raster(save_raster(tmp_path / "p.tif", values, nodata=nodata))
    window = read_raster_window(
        reference, reference.row0, reference.row0 + 2, reference.col0, reference.col0 + 2
    )
    assert window.tolist() == [[1, 0], [0, 7]]


def test_the_digest_follows_the_raster(tmp_path: Path) -> None:
    """One changed value is another world; another file name is not."""
    digests = []
    polygons = save(frame(), tmp_path / "p.gpkg")
    for name, person in (("a.tif", 1.0), ("b.tif", 1.0), ("c.tif", 2.0)):
        raster = save_raster(tmp_path / name, np.full((2, 2), person, np.float32))
        digests.append(build_user_world(polygons, raster, tmp_path / f"world_{name}").digest)
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_a_world_notices_that_its_raster_changed(tmp_path: Path) -> None:
    """Missing W106, another one W107; one elsewhere can be named."""
    raster = save_raster(tmp_path / "population.tif")
    build_user_world(save(frame(), tmp_path / "p.gpkg"), raster, tmp_path / "world")
    copy = tmp_path / "world" / "population.tif"
    copy.unlink()
    with pytest.raises(InputError) as caught:
        load_world(tmp_path / "world")
    assert caught.value.code == "W106"
    world = load_world(tmp_path / "world", raster_path=raster)
    assert world.raster is not None
    assert world.raster.path == raster
    save_raster(copy, np.ones((4, 6), np.float32))
    with pytest.raises(InputError) as caught:
        load_world(tmp_path / "world")
    assert caught.value.code == "W107"


def geoparquet_with(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write GeoParquet and change its `geo` metadata."""
    frame().to_parquet(path)
    table = pq.read_table(path)
    geo = json.loads(table.schema.metadata[b"geo"])
    change(geo)
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)
    return path


def plain_parquet(path: Path) -> Path:
    """Write Parquet that is not GeoParquet."""
    pq.write_table(pa.table({"country_iso": ["NA"]}), path)
    return path


def text_file(path: Path) -> Path:
    """Write something else."""
    path.write_text("not what it seems")
    return path


def two_layers(path: Path) -> Path:
    """Write a GeoPackage with two layers."""
    save(frame(), path)
    frame().to_file(path, driver="GPKG", layer="others")
    return path


def saved(file_name: str = "p.gpkg", /, **columns: list[Any]) -> Callable[[Path], Path]:
    """Return a function that saves a frame with other columns."""
    return lambda directory: save(frame(**columns), directory / file_name)


BOW_TIE = shapely.Polygon([(20, -30), (21, -29), (21, -30), (20, -29)])
WORLD_WIDE = shapely.Polygon([(-179, 10), (179, 10), (179, 11), (-179, 11)])
GOOD = shapely.box(20, -30, 21, -29)

BAD_POLYGONS: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "no file": ("W201", "no such polygon file", lambda d: d / "none.gpkg"),
    "shapefile": ("W201", "cannot read polygons from a .shp file", lambda d: text_file(d / "a.shp")),
    "not a geopackage": ("W201", "cannot read GeoPackage", lambda d: text_file(d / "a.gpkg")),
    "not parquet": ("W201", "cannot read Parquet", lambda d: text_file(d / "a.parquet")),
    "plain parquet": ("W201", "the file is not GeoParquet", lambda d: plain_parquet(d / "a.parquet")),
    "geoarrow encoding": (
        "W201",
        "encoded as 'multipolygon', not WKB",
        lambda d: geoparquet_with(
            d / "a.parquet", lambda g: g["columns"]["geometry"].update(encoding="multipolygon")
        ),
    ),
    "two layers": ("W201", "the file has 2 layers", lambda d: two_layers(d / "a.gpkg")),
    "no rows": ("W201", "no rows", lambda d: save(frame()[:0], d / "a.parquet")),
    "spherical edges": (
        "W202",
        "edges are spherical",
        lambda d: geoparquet_with(
            d / "a.parquet", lambda g: g["columns"]["geometry"].update(edges="spherical")
        ),
    ),
    "unknown system": (
        "W202",
        "not recorded",
        lambda d: geoparquet_with(d / "a.parquet", lambda g: g["columns"]["geometry"].update(crs=None)),
    ),
    "web mercator": ("W202", "EPSG:3857", lambda d: save(frame().to_crs(3857), d / "a.gpkg")),
    "mercator parquet": ("W202", "EPSG:3857", lambda d: save(frame().to_crs(3857), d / "a.parquet")),
    "another datum": ("W202", "EPSG:4267", lambda d: save(frame().to_crs(4267), d / "a.gpkg")),
    "no column": (
        "W203",
        "no column 'country_iso'",
        lambda d: save(frame().rename(columns={"country_iso": "iso"}), d / "a.gpkg"),
    ),
    "Namibia as a null": ("W204", "None is not an ISO 3166-1", saved(country_iso=["ZA", None])),
    "three letters": ("W204", "'NAM' is not an ISO 3166-1", saved(country_iso=["ZA", "NAM"])),
    "small letters": ("W204", "'na' is not an ISO 3166-1", saved(country_iso=["ZA", "na"])),
    "a number": ("W204", "710 is not an ISO 3166-1", saved(country_iso=[710, 516])),
    "unknown code": ("W204", "unknown country code 'UK'", saved(country_iso=["ZA", "UK"])),
    "bare user code": (
        "W204",
        "'XA' has no population, gdp_per_head, subregion",
        saved(country_iso=["ZA", "XA"]),
    ),
    "empty": ("W205", "the geometry is empty", saved("a.parquet", geometry=[GOOD, shapely.Polygon()])),
    "null geometry": ("W205", "the geometry is empty", saved("a.parquet", geometry=[GOOD, None])),
    "line": (
        "W205",
        "a LineString",
        saved("a.parquet", geometry=[GOOD, shapely.LineString([(0, 0), (1, 1)])]),
    ),
    "bow tie": ("W206", "Self-intersection", saved(geometry=[GOOD, BOW_TIE])),
    "lon 0 to 360": ("W207", "outside", saved(geometry=[GOOD, shapely.box(200, 0, 201, 1)])),
    "over the date line": ("W207", "crosses the date line", saved(geometry=[GOOD, WORLD_WIDE])),
    "overlap": ("W208", "NA and ZA share", saved(geometry=[shapely.box(20.5, -30, 22, -29), GOOD])),
    "same twice": ("W208", "NA and ZA share 10", saved(geometry=[GOOD, GOOD])),
    "half a person": ("W209", "0.5 is not a population", saved(population=[1.0, 0.5])),
    "negative people": ("W209", "-1 is not a population", saved(population=[1, -1])),
    "infinite wealth": ("W209", "inf is not a gdp_per_head", saved("a.parquet", gdp_per_head=[1.0, np.inf])),
    "text for a number": ("W209", "'many' is not a population", saved(population=["few", "many"])),
    "unknown subregion": ("W108", "unknown subregion 'Wakanda'", saved(subregion=[None, "Wakanda"])),
    "rows disagree": (
        "W209",
        "rows 0, 1 of one country disagree",
        saved(country_iso=["NA", "NA"], name=["South West Africa", "Namibia"]),
    ),
}


@pytest.mark.parametrize("kind", BAD_POLYGONS)
def test_bad_polygons_are_refused(tmp_path: Path, kind: str) -> None:
    """Each fault has its code and its words, and leaves nothing behind."""
    code, words, make = BAD_POLYGONS[kind]
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        build_user_world(path, None, tmp_path / "world")
    assert caught.value.code == code
    assert words in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_error_names_the_row_and_the_column(tmp_path: Path) -> None:
    """The exact text of one error, from code to next step."""
    path = save(frame(country_iso=["ZA", None]), tmp_path / "p.gpkg")
    with pytest.raises(InputError) as caught:
        build_user_world(path, None, tmp_path / "world")
    assert str(caught.value) == (
        "W204: None is not an ISO 3166-1 alpha-2 code\n"
        f"  where: {path}, row 1, column country_iso\n"
        "  next:  use two capital letters; if NA (Namibia) became a null on the way here, restore it"
    )


def with_value(value: float, dtype: type[np.generic] = np.float32) -> Callable[[Path], Path]:
    """Return a function that saves a raster with one odd value at row 2, column 3."""

    def make(directory: Path) -> Path:
        values = np.ones((4, 6), dtype)
        values[2, 3] = dtype(value)
        return save_raster(directory / "p.tif", values)

    return make


def raster_with(**options: Any) -> Callable[[Path], Path]:
    """Return a function that saves a raster with another header."""
    return lambda directory: save_raster(directory / "p.tif", **options)


def scaled(directory: Path) -> Path:
    """Write a raster whose header scales its values."""
    path = save_raster(directory / "p.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (0.1,)
    return path


BAD_RASTERS: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "no file": ("W301", "no such population raster", lambda d: d / "none.tif"),
    "not a raster": ("W301", "cannot read the population raster", lambda d: text_file(d / "a.tif")),
    "png": (
        "W301",
        "its format is PNG",
        lambda d: save_raster(d / "a.png", np.ones((2, 2), np.uint8), driver="PNG", nodata=0),
    ),
    "mercator": ("W302", "EPSG:3857", raster_with(crs="EPSG:3857")),
    "no system": ("W302", "not recorded", raster_with(crs=None)),
    "no nodata": ("W303", "names no nodata", raster_with(nodata=None)),
    "shifted": ("W304", "0.15 tiles", raster_with(transform=from_origin(20 - 0.15 * TILE, -29, TILE, TILE))),
    "coarser": ("W304", "tile grid", raster_with(transform=from_origin(20, -29, 5 * TILE, 5 * TILE))),
    "drifting": ("W304", "0.06 tiles", raster_with(transform=from_origin(20, -29, 1.01 * TILE, TILE))),
    "south up": ("W304", "tile grid", raster_with(transform=rasterio.Affine(TILE, 0, 20, 0, TILE, -29))),
    "rotated": ("W304", "rotated", raster_with(transform=rasterio.Affine(TILE, 1e-4, 20, 0, -TILE, -29))),
    "beyond 180": ("W304", "reaches beyond", raster_with(transform=from_origin(180 - TILE, 0, TILE, TILE))),
    "negative": ("W305", "row 2, column 3", with_value(-1.0)),
    "not a number": ("W305", "row 2, column 3", with_value(float("nan"))),
    "infinite": ("W305", "row 2, column 3", with_value(float("inf"))),
    "too many": ("W305", "row 2, column 3", with_value(1e12)),
    "two bands": ("W306", "2 bands", raster_with(count=2)),
    "complex": ("W306", "complex64", lambda d: save_raster(d / "p.tif", np.ones((2, 2), np.complex64))),
    "scaled": ("W306", "unscaled", scaled),
}


@pytest.mark.parametrize("kind", BAD_RASTERS)
def test_bad_rasters_are_refused(tmp_path: Path, kind: str) -> None:
    """Each fault has its code and its words, and leaves nothing behind, the polygons' half included."""
    code, words, make = BAD_RASTERS[kind]
    path = make(tmp_path)
    polygons = save(frame(), tmp_path / "good.gpkg")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        build_user_world(polygons, path, tmp_path / "world")
    assert caught.value.code == code
    assert words in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_raster_off_the_grid_says_how_to_warp_it(tmp_path: Path) -> None:
    """WorldPop's mosaic starts west of -180: the command keeps the sum and lands on whole degrees."""
    transform = from_origin(20 - 0.15 * TILE, -29, TILE, TILE)
    path = save_raster(tmp_path / "ppp_2020_1km.tif", transform=transform)
    with pytest.raises(InputError) as caught:
        describe_raster(path)
    size = "0.008333333333333333"
    assert caught.value.next_step == (
        f"gdalwarp -t_srs EPSG:4326 -te 19 -30 21 -29 -tr {size} {size} -r sum -dstnodata -99999 "
        "ppp_2020_1km.tif population_30s.tif"
    )


def test_rounded_pixel_sizes_are_still_aligned(tmp_path: Path) -> None:
    """0.0083333333 in a header is a rounded 1/120, not another grid."""
    transform = from_origin(20, -29, 0.0083333333, 0.0083333333)
    reference = describe_raster(save_raster(tmp_path / "p.tif", transform=transform))
    assert (reference.row0, reference.col0) == (119 * 120, 200 * 120)


def test_values_are_checked_strip_by_strip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in a later strip is found and named by its place in the whole raster."""
    monkeypatch.setattr("seg1b.world.raster._PIXELS_PER_STRIP", 7)
    with pytest.raises(InputError, match="row 2, column 3"):
        describe_raster(with_value(-5.0)(tmp_path))


def test_a_raster_damaged_later_is_noticed_when_read(tmp_path: Path) -> None:
    """The reader checks again what the writer checked."""
    reference = describe_raster(save_raster(tmp_path / "p.tif"))
    with_value(-3.0)(tmp_path)
    with pytest.raises(InputError, match=r"W305: -3.0 is not a number of persons \(nodata is -99999\)"):
        read_raster_window(
            reference, reference.row0 + 1, reference.row0 + 4, reference.col0, reference.col0 + 6
        )


def test_nothing_to_build_from(tmp_path: Path) -> None:
    """The embedded world needs no building."""
    with pytest.raises(InputError) as caught:
        build_user_world(None, None, tmp_path / "world")
    assert caught.value.code == "W211"


def test_an_existing_directory_is_kept(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    (tmp_path / "world").mkdir()
    with pytest.raises(InputError) as caught:
        build_user_world(save(frame(), tmp_path / "p.gpkg"), None, tmp_path / "world")
    assert caught.value.code == "W210"
    assert list((tmp_path / "world").iterdir()) == []


def test_the_driver_reads_what_we_wrote() -> None:
    """GeoPackage support is part of every pyogrio wheel."""
    assert "GPKG" in pyogrio.list_drivers()
