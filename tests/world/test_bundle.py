"""The embedded world: what is in it, that it is right on the map, and that damage to it is noticed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.world import bundle
from seg1b.world.build import area_km2
from seg1b.world.bundle import EMBEDDED_DIRECTORY, SCHEMAS, load_world, world_digest
from seg1b.world.content import World
from seg1b.world.regions import MACRO_REGIONS, SUBREGION_TO_MACRO_REGION, macro_region


@pytest.fixture(scope="module")
def world() -> World:
    """Return the embedded world."""
    return load_world()


@pytest.fixture(scope="module")
def geometries(world: World) -> NDArray[Any]:
    """Return the country polygons as shapely geometries, by even-odd over their rings."""
    polygons = world.polygons
    shapes = []
    for country in range(len(world.countries)):
        rings = []
        for ring in polygons.country_rings(country):
            part = slice(polygons.ring_start[ring], polygons.ring_start[ring + 1])
            rings.append(shapely.linearrings(np.column_stack([polygons.lon[part], polygons.lat[part]])))
        shapes.append(shapely.build_area(shapely.geometrycollections(rings)))
    return np.array(shapes, object)


def owners(geometries: NDArray[Any], world: World, lon: float, lat: float) -> list[str]:
    """Return the codes of the countries that hold a point."""
    return [
        world.countries.iso[i] for i in np.flatnonzero(shapely.contains_xy(geometries, lon, lat)).tolist()
    ]


def test_the_embedded_world_is_parsed_when_it_is_asked_for() -> None:
    """Countries at once, rings and towns later; a pickled copy and one with a field replaced are the same world."""
    script = (
        "import pickle, sys, dataclasses; from seg1b.world.bundle import load_world; w = load_world();"
        "assert not {'polygons', 'settlements'} & set(vars(w)), 'parsed too early';"
        "c = pickle.loads(pickle.dumps(w)); r = dataclasses.replace(w, digest='x');"
        "assert (len(c.settlements), c.polygons.lon.tolist()) == (len(w.settlements), w.polygons.lon.tolist());"
        "assert (r.digest, len(r.settlements), len(r.countries)) == ('x', len(w.settlements), 250);"
        "assert vars(w)['polygons'] is w.polygons; assert not hasattr(w, 'rivers')"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted where Linux lists them")
def test_reading_the_world_starts_no_thread() -> None:
    """A thread of Arrow's that lets go of Python's bytes while the interpreter ends aborts the process: one quick
    error in twenty did.
    """
    script = (
        "import os; from seg1b.world.bundle import load_world; count = lambda: len(os.listdir('/proc/self/task'));"
        "before = count(); world = load_world(); world.polygons, world.settlements; assert count() == before"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_embedded_world_is_loaded_once(world: World) -> None:
    """States may call load_world as often as they like."""
    assert load_world() is world


def test_sizes(world: World) -> None:
    """250 countries, 246 of them eligible, all settlements of the source, and under 12 MB on disk."""
    assert len(world.countries) == 250
    assert int(world.countries.eligible.sum()) == 246
    assert len(world.settlements) == 234_908
    assert world.raster is None
    assert sum(path.stat().st_size for path in EMBEDDED_DIRECTORY.iterdir()) < 12_000_000


def test_namibia_is_a_country_and_not_a_missing_value(world: World) -> None:
    """The code NA survives every reader and writer."""
    index = world.countries.index_of["NA"]
    assert world.countries.iso[index] == "NA"
    assert world.countries.name[index] == "Namibia"
    assert world.countries.population[index] == 2_494_530
    assert (world.settlements.country == index).sum() > 50
    table = pq.read_table(EMBEDDED_DIRECTORY / "countries.parquet")
    assert table.column("iso").null_count == 0


def test_uninhabited_territories_are_excluded_with_a_reason(world: World) -> None:
    """Antarctica, Bouvet, Heard and the US minor islands have no residents; all others are eligible."""
    countries = world.countries
    excluded = np.flatnonzero(~countries.eligible).tolist()
    assert [countries.iso[i] for i in excluded] == ["AQ", "BV", "HM", "UM"]
    assert all("nobody lives there" in countries.exclusion_reason[i] for i in excluded)
    assert countries.population[excluded].tolist() == [0, 0, 0, 0]
    assert (countries.population[countries.eligible] > 0).all()
    assert (countries.gdp_per_head[countries.eligible] > 0).all()
    recorded = world.provenance["decisions"]["excluded_countries"]
    assert {entry["iso"]: entry["source_population"] for entry in recorded} == {
        "AQ": 4490,
        "BV": 0,
        "HM": 0,
        "UM": 300,
    }


def test_north_america_has_mexico_central_america_and_the_caribbean(world: World) -> None:
    """Defect D-38: "Latin America" must not swallow them."""
    region = dict(zip(world.countries.iso, world.countries.macro_region, strict=True))
    north = {iso for iso, name in region.items() if name == "North America"}
    south = {iso for iso, name in region.items() if name == "South America"}
    assert north >= {"MX", "GT", "BZ", "SV", "HN", "NI", "CR", "PA", "CU", "JM", "HT", "DO", "PR", "TT", "GP"}
    assert north >= {"MQ", "BQ", "AW", "US", "CA", "GL", "BM", "PM"}
    assert south == {
        "BR",
        "AR",
        "BO",
        "CL",
        "CO",
        "EC",
        "FK",
        "GF",
        "GY",
        "PE",
        "PY",
        "SR",
        "UY",
        "VE",
        "GS",
        "BV",
    }


def test_every_country_has_a_real_region(world: World) -> None:
    """No "Seven seas": the macro-region follows from a UN M49 subregion."""
    countries = world.countries
    assert set(countries.macro_region) == set(MACRO_REGIONS)
    for subregion, name in zip(countries.subregion, countries.macro_region, strict=True):
        assert macro_region(subregion) == name == SUBREGION_TO_MACRO_REGION[subregion]
    region = dict(zip(countries.iso, countries.macro_region, strict=True))
    expected = {"MV": "Asia", "MU": "Africa", "SC": "Africa", "SH": "Africa", "IO": "Africa", "TF": "Africa"}
    expected |= {"CC": "Oceania", "CX": "Oceania", "RE": "Africa", "YT": "Africa", "SJ": "Europe"}
    assert {iso: region[iso] for iso in expected} == expected
    with pytest.raises(InputError, match="unknown subregion 'Seven seas"):
        macro_region("Seven seas (open ocean)")


@pytest.mark.parametrize(
    ("place", "lon", "lat", "expected"),
    [
        ("Paris", 2.35, 48.86, ["FR"]),
        ("Clipperton", -109.22, 10.295, ["FR"]),
        ("Cayenne", -52.40, 4.85, ["GF"]),
        ("Basse-Terre", -61.70, 16.10, ["GP"]),
        ("Marie-Galante", -61.27, 15.94, ["GP"]),
        ("Martinique", -61.00, 14.65, ["MQ"]),
        ("Reunion", 55.50, -21.10, ["RE"]),
        ("Mayotte", 45.15, -12.82, ["YT"]),
        ("Spitsbergen", 22.768, 77.745, ["SJ"]),
        ("Bear Island", 19.00, 74.45, ["SJ"]),
        ("Jan Mayen", -8.40, 71.02, ["SJ"]),
        ("Bouvet", 3.42, -54.42, ["BV"]),
        ("Tromso", 19.20, 69.50, ["NO"]),
        ("Bonaire", -68.27, 12.20, ["BQ"]),
        ("Saba", -63.235, 17.63, ["BQ"]),
        ("Utrecht", 5.12, 52.09, ["NL"]),
        ("Atafu", -172.4849, -8.564, ["TK"]),
        ("Chatham Islands", -176.50, -44.00, ["NZ"]),
        ("Christmas Island", 105.65, -10.48, ["CX"]),
        ("Cocos", 96.8302, -12.166, ["CC"]),
        ("Akrotiri", 32.95, 34.60, ["CY"]),
        ("Dhekelia", 33.75, 35.00, ["CY"]),
        ("Kyrenia", 33.32, 35.30, ["CY"]),
        ("Guantanamo Bay base", -75.12, 19.93, ["CU"]),
        ("Hargeisa", 44.06, 9.56, ["SO"]),
        ("Baikonur", 63.30, 45.96, ["KZ"]),
        ("Pristina", 21.16, 42.66, ["XK"]),
        ("Windhoek", 17.08, -22.57, ["NA"]),
        ("Chukotka, west of 180", 178.00, 67.00, ["RU"]),
        ("Chukotka, east of 180", -175.00, 67.00, ["RU"]),
        ("Taveuni, Fiji", -179.98, -16.80, ["FJ"]),
        ("South pole", 10.00, -89.90, ["AQ"]),
        ("Bir Tawil", 33.80, 21.88, []),
        ("Scarborough Reef", 117.76, 15.13, []),
        ("Gulf of Guinea", 0.0, 0.0, []),
    ],
)
def test_places_lie_in_their_country(
    world: World, geometries: NDArray[Any], place: str, lon: float, lat: float, expected: list[str]
) -> None:
    """Split parts, military bases, the date line and the pole, one point each."""
    assert owners(geometries, world, lon, lat) == expected, place


def test_no_two_countries_share_land(world: World, geometries: NDArray[Any]) -> None:
    """Splitting and merging leave borders in common and no overlap at all."""
    first, second = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    pair = first < second
    shared = shapely.intersection(geometries[first[pair]], geometries[second[pair]])
    assert pair.sum() > 300
    assert shapely.area(shared).max() == 0.0
    assert shapely.is_valid(geometries).all()


def test_recorded_areas_are_those_of_the_polygons(world: World, geometries: NDArray[Any]) -> None:
    """The even-odd geometry has the area in the table, and the countries together are the Earth's land."""
    for country in (world.countries.index_of[iso] for iso in ("FR", "NO", "CY", "RU", "EG", "VA", "AQ")):
        assert area_km2(geometries[country]) == world.countries.area_km2[country]
    assert world.countries.area_km2.sum() == pytest.approx(146.8e6, rel=1e-3)


def test_polygons_are_closed_rings_grouped_by_country(world: World) -> None:
    """The invariants that the scan line relies on, and no edge that jumps over the date line."""
    polygons = world.polygons
    first, last = polygons.ring_start[:-1], polygons.ring_start[1:] - 1
    assert np.array_equal(polygons.lon[first], polygons.lon[last])
    assert np.array_equal(polygons.lat[first], polygons.lat[last])
    assert (np.diff(polygons.ring_country) >= 0).all()
    step = np.abs(np.diff(polygons.lon))
    step[last[:-1]] = 0
    assert step.max() < 180
    assert [len(polygons.country_rings(i)) > 0 for i in range(250)] == [True] * 250
    assert polygons.lon.max() == 180.0
    assert polygons.lon.min() == -180.0
    assert polygons.lat.min() == -90.0


@pytest.mark.parametrize("iso", ["RU", "FJ", "AQ"])
def test_countries_meet_themselves_at_the_date_line(world: World, iso: str) -> None:
    """Both sides of the seam span the same latitudes to 200 m, exactly at +-180 (the source is 9e-14 off)."""
    polygons = world.polygons
    rings = polygons.country_rings(world.countries.index_of[iso])
    part = slice(polygons.ring_start[rings.start], polygons.ring_start[rings.stop])
    lon, lat = polygons.lon[part], polygons.lat[part]
    east, west = lat[lon == 180.0], lat[lon == -180.0]
    assert east.size
    assert west.min() == pytest.approx(east.min(), abs=2e-3)
    assert west.max() == pytest.approx(east.max(), abs=2e-3)
    assert not ((np.abs(lon) > 180.0 - 1e-6) & (np.abs(lon) < 180.0)).any()


def test_populations_of_split_features_keep_their_sum(world: World) -> None:
    """France, the Netherlands, Norway, New Zealand and the Indian Ocean Territories lose nobody."""
    population = dict(zip(world.countries.iso, world.countries.population.tolist(), strict=True))
    for feature in world.provenance["decisions"]["split_features"]:
        shares = {iso: entry["population"] for iso, entry in feature["countries"].items()}
        assert sum(shares.values()) == feature["population"]
        assert {iso: population[iso] for iso in shares} == shares
    assert len(world.provenance["decisions"]["split_features"]) == 5
    assert population["SO"] == 15_008_154
    assert population["AU"] == 25_364_307 + 4
    assert population["CY"] == 1_198_575 + 2 * 7_850


def test_settlements_are_sorted_and_on_earth(world: World) -> None:
    """Sorted by country and id; the stray British bases belong to Cyprus now."""
    places = world.settlements
    key = places.country.astype(np.int64) * 2**32 + places.geonameid
    assert (np.diff(key) > 0).all()
    assert np.abs(places.lon_e5).max() <= 18_000_000
    assert np.abs(places.lat_e5).max() <= 9_000_000
    assert len(places.name) == len(places)
    assert np.unique(places.country).size == 246
    dhekelia = int(np.flatnonzero(places.geonameid == 12_196_125)[0])
    assert places.name[dhekelia].as_py() == "Dhekelia"
    assert world.countries.iso[places.country[dhekelia]] == "CY"


def test_provenance_names_sources_licences_and_attribution(world: World) -> None:
    """CC BY 4.0 asks for attribution; every file has its size and digest."""
    sources = world.provenance["sources"]
    assert sources["natural_earth"]["licence"] == "Public domain"
    assert sources["geonames"]["licence"] == "CC-BY-4.0"
    assert "GeoNames" in sources["geonames"]["attribution"]
    for name, entry in world.provenance["files"].items():
        content = (EMBEDDED_DIRECTORY / name).read_bytes()
        assert len(content) == entry["bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_digest_is_that_of_the_file_digests(world: World) -> None:
    """Content only: it follows from the files and the format, not from where they lie."""
    digests = {name: entry["sha256"] for name, entry in world.provenance["files"].items()}
    assert world.digest == world_digest(digests, None) == world.provenance["digest"]
    text = '{"files":{"a":"b"},"format_version":1,"raster":null}'
    assert world_digest({"a": "b"}, None) == hashlib.sha256(text.encode()).hexdigest()


def test_loading_needs_no_geometry_library() -> None:
    """numpy and pyarrow only: a worker starts without shapely, GDAL or pandas."""
    code = (
        "import sys; from seg1b.world.bundle import load_world; load_world();"
        "print([m for m in ('shapely', 'pandas', 'geopandas', 'rasterio', 'pyogrio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_arrays_cannot_be_changed(world: World) -> None:
    """The world is shared by every state of a process."""
    with pytest.raises(ValueError, match="read-only"):
        world.countries.population[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        world.polygons.lon[0] = 1.0


def rewrite(directory: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a table and make the manifest agree with it: only the format check can notice."""
    path = directory / name
    pq.write_table(change(pq.read_table(path)), path)
    manifest = json.loads((directory / "world.json").read_text())
    manifest["files"][name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["digest"] = world_digest({n: e["sha256"] for n, e in manifest["files"].items()}, None)
    (directory / "world.json").write_text(json.dumps(manifest))


def edit_manifest(directory: Path, **values: Any) -> None:
    """Overwrite entries of world.json."""
    manifest = json.loads((directory / "world.json").read_text())
    (directory / "world.json").write_text(json.dumps({**manifest, **values}))


def with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """Replace a column, nullable."""
    index = table.schema.get_field_index(name)
    kind = table.schema.field(name).type
    return table.set_column(index, pa.field(name, kind), pa.array(values, kind))


def flip_byte(directory: Path, name: str) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(bytes(content))


def namibia_as_null(table: pa.Table) -> pa.Table:
    """What a careless CSV reader does to the code NA."""
    return with_column(table, "iso", [None if v == "NA" else v for v in table.column("iso").to_pylist()])


def swapped_codes(table: pa.Table) -> pa.Table:
    """Swap the first two codes."""
    codes = table.column("iso").to_pylist()
    return with_column(table, "iso", [codes[1], codes[0], *codes[2:]])


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing file": ("W101", lambda d: (d / "rings.parquet").unlink()),
    "missing manifest": ("W101", lambda d: (d / "world.json").unlink()),
    "manifest is not JSON": ("W102", lambda d: (d / "world.json").write_text("{")),
    "manifest is a list": ("W102", lambda d: (d / "world.json").write_text("[]")),
    "manifest lists no files": ("W102", lambda d: edit_manifest(d, files={})),
    "manifest has no digest": ("W102", lambda d: edit_manifest(d, digest=None)),
    "newer format": ("W103", lambda d: edit_manifest(d, format_version=2)),
    "altered table": ("W104", lambda d: flip_byte(d, "settlements.parquet")),
    "truncated table": ("W104", lambda d: (d / "rings.parquet").write_bytes(b"PAR1")),
    "altered digest": ("W104", lambda d: edit_manifest(d, digest="0" * 64)),
    "Namibia lost": ("W105", lambda d: rewrite(d, "countries.parquet", namibia_as_null)),
    "unsorted countries": ("W105", lambda d: rewrite(d, "countries.parquet", swapped_codes)),
    "country dropped": ("W105", lambda d: rewrite(d, "countries.parquet", lambda t: t.slice(0, 249))),
    "column dropped": ("W105", lambda d: rewrite(d, "rings.parquet", lambda t: t.drop_columns(["country"]))),
    "vertex dropped": ("W105", lambda d: rewrite(d, "vertices.parquet", lambda t: t.slice(1))),
    "ring not closed": (
        "W105",
        lambda d: rewrite(
            d, "vertices.parquet", lambda t: with_column(t, "lat", [0.5, *t.column("lat").to_pylist()[1:]])
        ),
    ),
    "vertex off the Earth": (
        "W105",
        lambda d: rewrite(
            d, "vertices.parquet", lambda t: with_column(t, "lon", [999.0, *t.column("lon").to_pylist()[1:]])
        ),
    ),
    "settlements unsorted": (
        "W105",
        lambda d: rewrite(d, "settlements.parquet", lambda t: pa.concat_tables([t.slice(1), t.slice(0, 1)])),
    ),
    "raster listed but missing": (
        "W106",
        lambda d: edit_manifest(
            d,
            raster={
                "file_name": "population.tif",
                "sha256": "0" * 64,
                "bytes": 1,
                "rows": 1,
                "cols": 1,
                "row0": 0,
                "col0": 0,
                "resolution_arcsec": 30,
                "nodata": "-1.0",
                "dtype": "float32",
            },
        ),
    ),
    "raster header incomplete": ("W102", lambda d: edit_manifest(d, raster={"file_name": "population.tif"})),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_noticed(kind: str, tmp_path: Path) -> None:
    """Every kind of damage has its code, names the file and says what to do."""
    directory = tmp_path / "world"
    shutil.copytree(EMBEDDED_DIRECTORY, directory)
    code, damage = DAMAGE[kind]
    damage(directory)
    with pytest.raises(InputError) as caught:
        load_world(directory)
    assert caught.value.code == code
    assert str(directory) in caught.value.where
    assert caught.value.next_step


def test_damage_to_the_embedded_world_is_noticed_by_who_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts countries needs no settlements; whoever asks for them is not given damaged ones, ever."""
    directory = tmp_path / "data"
    shutil.copytree(EMBEDDED_DIRECTORY, directory)
    flip_byte(directory, "settlements.parquet")
    monkeypatch.setattr(bundle, "EMBEDDED_DIRECTORY", directory)
    damaged = load_world(directory)
    assert len(damaged.polygons.lon) > 0
    for _ in range(2):
        with pytest.raises(InputError, match="W104"):
            _ = damaged.settlements


def test_a_copy_is_the_same_world(tmp_path: Path, world: World) -> None:
    """The digest does not know where the files lie."""
    shutil.copytree(EMBEDDED_DIRECTORY, tmp_path / "elsewhere")
    copy = load_world(tmp_path / "elsewhere")
    assert copy.digest == world.digest
    assert copy.countries.iso == world.countries.iso


def test_every_column_of_the_format_is_not_null() -> None:
    """No reader has to guess what a null means."""
    assert all(not field.nullable for schema in SCHEMAS.values() for field in schema)
