"""A user's own world: own country polygons, an own population raster, or both, checked and written.

What the user does not bring comes from the embedded world: polygons, country attributes, settlements. The
result is a directory that `load_world` reads. On any error nothing is left behind.

Codes raised here (`InputError`): W204 unknown country code, W208 overlapping countries, W209 attribute value,
W210 output directory exists, W211 nothing to build from; and those of `polygon_file` (W2nn) and `raster`
(W3nn).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import shapely

from seg1b.errors import InputError
from seg1b.world.build import area_km2, assemble_polygons, polygon_parts, write_world
from seg1b.world.bundle import file_sha256, load_world
from seg1b.world.content import CountryTable, Polygons, Settlements, World
from seg1b.world.polygon_file import PolygonRow, read_polygons
from seg1b.world.raster import describe_raster
from seg1b.world.regions import macro_region

USER_ASSIGNED_CODE: Final = re.compile(r"AA|Q[M-Z]|X[A-Z]|ZZ")
"""Codes that ISO 3166-1 leaves to users: for a country that the embedded world does not know."""

OVERLAP_TOLERANCE_KM2: Final = 1.0
"""About one tile. Digitising leaves slivers along borders; more than that is two owners of one place."""


def build_user_world(
    polygons: Path | None,
    population: Path | None,
    out_dir: Path,
    *,
    country_column: str = "country_iso",
    layer: str | None = None,
    overlap_tolerance_km2: float = OVERLAP_TOLERANCE_KM2,
) -> World:
    """Build a world in the new directory `out_dir` from polygons, a population raster, or both; return it.

    polygons: GeoParquet or GeoPackage in EPSG:4326 with a column of ISO 3166-1 alpha-2 codes
    (`country_column`).
        Rows of one code are united. Optional columns `name`, `population` (persons), `gdp_per_head` (US
        dollars) and `subregion` (UN M49) take the place of the embedded world's values; a user-assigned code
        needs the last three. None: the embedded polygons.
    population: GeoTIFF in EPSG:4326 on the 30 arc-second grid, persons per pixel, with nodata. It is copied
    into
        the world. None: population comes from settlements.

    Raises `InputError`; see the module.
    """
    if polygons is None and population is None:
        step = "give a polygon file, a population raster or both"
        raise InputError(
            "W211", "nothing to build a world from", where="--polygons, --population", next_step=step
        )
    out_dir = Path(out_dir)
    if out_dir.exists():
        step = "choose a new directory"
        raise InputError("W210", "the output directory exists", where=str(out_dir), next_step=step)
    embedded = load_world()
    decisions: dict[str, Any] = {}
    sources: dict[str, Any] = {
        "embedded_world": {"digest": embedded.digest, **embedded.provenance["sources"]}
    }
    if polygons is None:
        countries, rings, settlements = embedded.countries, embedded.polygons, embedded.settlements
    else:
        polygons = Path(polygons)
        sources["polygons"] = {
            "file": polygons.name,
            "sha256": file_sha256(polygons) if polygons.is_file() else "",
        }
        rows = read_polygons(polygons, country_column, layer)
        groups = _group_by_code(rows)
        _check_codes(groups, embedded.countries, polygons, country_column)
        geometries = _unite(groups, decisions)
        _check_overlaps(list(groups), geometries, overlap_tolerance_km2, polygons)
        countries = _countries(groups, geometries, embedded.countries, polygons)
        rings = assemble_polygons(geometries)
        settlements = _settlements(embedded, countries)
        decisions["overlap_tolerance_km2"] = overlap_tolerance_km2
    raster = None
    if population is not None:
        raster = describe_raster(Path(population))
        sources["population"] = {"file": raster.file_name, "sha256": raster.sha256}
    provenance = {
        "title": "seg1b user world",
        "sources": sources,
        "decisions": decisions,
        "counts": {
            "countries": len(countries),
            "eligible_countries": int(countries.eligible.sum()),
            "settlements": len(settlements),
        },
    }
    write_world(
        out_dir,
        countries=countries,
        polygons=Polygons(rings.lon, rings.lat, rings.ring_start, rings.ring_country),
        settlements=settlements,
        provenance=provenance,
        raster=raster,
    )
    return load_world(out_dir)


def _group_by_code(rows: Sequence[PolygonRow]) -> dict[str, list[PolygonRow]]:
    groups: dict[str, list[PolygonRow]] = {}
    for row in sorted(rows, key=lambda row: (row.iso, row.row)):
        groups.setdefault(row.iso, []).append(row)
    return groups


def _check_codes(
    groups: dict[str, list[PolygonRow]], embedded: CountryTable, path: Path, country_column: str
) -> None:
    for iso, rows in groups.items():
        if iso in embedded.index_of:
            continue
        where = f"{path}, row {rows[0].row}, column {country_column}"
        if not USER_ASSIGNED_CODE.fullmatch(iso):
            step = "use an ISO 3166-1 code, or a user-assigned one: AA, QM to QZ, XA to XZ, ZZ"
            raise InputError("W204", f"unknown country code {iso!r}", where=where, next_step=step)
        given = {name for row in rows for name in row.attributes}
        lacking = [name for name in ("population", "gdp_per_head", "subregion") if name not in given]
        if lacking:
            what = f"user-assigned code {iso!r} has no {', '.join(lacking)}"
            raise InputError("W204", what, where=where, next_step="add these columns to the polygon file")


def _unite(groups: dict[str, list[PolygonRow]], decisions: dict[str, Any]) -> list[Any]:
    """Return one geometry per code; a single row keeps its vertices and rings exactly as they are."""
    geometries = []
    for iso, rows in groups.items():
        if len(rows) == 1:
            geometries.append(rows[0].geometry)
            continue
        geometries.append(shapely.multipolygons(polygon_parts(shapely.union_all([r.geometry for r in rows]))))
        decisions.setdefault("united_rows", []).append({"iso": iso, "rows": [row.row for row in rows]})
    return geometries


def _check_overlaps(isos: list[str], geometries: list[Any], tolerance_km2: float, path: Path) -> None:
    shapes = np.array(geometries, object)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    found = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        if a < b:
            area = area_km2(shapely.intersection(shapes[a], shapes[b]))
            if area > tolerance_km2:
                found.append((-area, isos[a], isos[b]))
    if found:
        listed = "; ".join(f"{a} and {b} share {-area:g} km2" for area, a, b in sorted(found)[:5])
        raise InputError(
            "W208",
            f"{len(found)} pairs of countries overlap: {listed}",
            where=str(path),
            next_step=f"cut the overlaps out; up to {tolerance_km2:g} km2 a pair is tolerated",
        )


def _countries(
    groups: dict[str, list[PolygonRow]], geometries: list[Any], embedded: CountryTable, path: Path
) -> CountryTable:
    columns: dict[str, list[Any]] = {name: [] for name in CountryTable.__dataclass_fields__}
    for (iso, rows), geometry in zip(groups.items(), geometries, strict=True):
        for name, value in _attributes(iso, rows, embedded, path).items():
            columns[name].append(value)
        columns["iso"].append(iso)
        columns["area_km2"].append(area_km2(geometry))
    return CountryTable(
        iso=tuple(columns["iso"]),
        name=tuple(columns["name"]),
        population=np.array(columns["population"], np.int64),
        population_source=tuple(columns["population_source"]),
        gdp_per_head=np.array(columns["gdp_per_head"], np.float64),
        gdp_source=tuple(columns["gdp_source"]),
        area_km2=np.array(columns["area_km2"], np.float64),
        subregion=tuple(columns["subregion"]),
        macro_region=tuple(columns["macro_region"]),
        eligible=np.array(columns["eligible"], np.bool_),
        exclusion_reason=tuple(columns["exclusion_reason"]),
    )


def _attributes(iso: str, rows: list[PolygonRow], embedded: CountryTable, path: Path) -> dict[str, Any]:
    """Return the attributes of one country: the user's where given, else those of the embedded world."""
    known = embedded.index_of.get(iso)
    values: dict[str, Any] = {"name": iso, "population": 0, "gdp_per_head": 0.0, "subregion": ""}
    sources = {"population": "user", "gdp_per_head": "user"}
    if known is not None:
        values = {name: getattr(embedded, name)[known] for name in values}
        sources = {
            "population": embedded.population_source[known],
            "gdp_per_head": embedded.gdp_source[known],
        }
    for name in values:
        given = [(row.row, row.attributes[name]) for row in rows if name in row.attributes]
        if given:
            values[name] = _combined(name, given, path)
            sources[name] = "user"
    reason = ""
    if values["population"] == 0:
        reason = "nobody lives there: population 0"
        if known is not None and sources["population"] != "user":
            reason = embedded.exclusion_reason[known]
    return {
        "name": str(values["name"]),
        "population": int(values["population"]),
        "population_source": sources["population"],
        "gdp_per_head": float(values["gdp_per_head"]),
        "gdp_source": sources["gdp_per_head"],
        "subregion": values["subregion"],
        "macro_region": macro_region(values["subregion"]),
        "eligible": not reason,
        "exclusion_reason": reason,
    }


def _combined(name: str, given: list[tuple[int, Any]], path: Path) -> Any:
    """Combine a user's values of one country: populations add up, everything else must agree."""
    for row, value in given:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good = {
            "population": number and math.isfinite(value) and value >= 0 and value == int(value),
            "gdp_per_head": number and math.isfinite(value) and value >= 0,
            "name": isinstance(value, str) and bool(value),
            "subregion": isinstance(value, str),
        }[name]
        if not good:
            step = "persons: a whole number; US dollars: a number; neither negative"
            where = f"{path}, row {row}, column {name}"
            raise InputError("W209", f"{value!r} is not a {name}", where=where, next_step=step)
    if name == "population":
        return sum(int(value) for _, value in given)
    if any(value != given[0][1] for _, value in given):
        what = f"rows {', '.join(str(row) for row, _ in given)} of one country disagree"
        raise InputError("W209", what, where=f"{path}, column {name}", next_step="give them one value")
    return given[0][1]


def _settlements(embedded: World, countries: CountryTable) -> Settlements:
    """Return the embedded settlements of the user's countries, renumbered; the order stays valid."""
    number = np.full(len(embedded.countries), -1, np.int16)
    for position, iso in enumerate(countries.iso):
        if iso in embedded.countries.index_of:
            number[embedded.countries.index_of[iso]] = position
    all_places = embedded.settlements
    keep = np.flatnonzero(number[all_places.country] >= 0)
    return Settlements(
        lon_e5=all_places.lon_e5[keep],
        lat_e5=all_places.lat_e5[keep],
        population=all_places.population[keep],
        country=number[all_places.country[keep]],
        geonameid=all_places.geonameid[keep],
        name=all_places.name.take(pa.array(keep)),
    )
