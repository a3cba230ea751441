"""Read country polygons that a user brings: GeoParquet (`.parquet`) or GeoPackage (`.gpkg`).

Codes raised here (`InputError`): W201 file, W202 coordinate system, W203 column, W204 country code, W205 not
a polygon or empty, W206 invalid polygon, W207 coordinates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray

from seg1b.errors import InputError

ATTRIBUTES: Final = ("name", "population", "gdp_per_head", "subregion")
"""Optional columns: they take the place of the embedded world's values."""

LON_LAT_SYSTEMS: Final = ("EPSG:4326", "OGC:CRS84")


@dataclass(frozen=True, eq=False)
class PolygonRow:
    """One row of the user's file: number (from 0), country code, valid polygon, attributes it has."""

    row: int
    iso: str
    geometry: Any
    attributes: dict[str, Any]


def read_polygons(path: Path, country_column: str, layer: str | None = None) -> list[PolygonRow]:
    """Read and check every row of a polygon file. `layer` names one of a GeoPackage with several.

    Raises `InputError` W201 to W207, naming the row.
    """
    if not path.is_file():
        raise InputError("W201", "no such polygon file", where=str(path), next_step="check the path")
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".geoparquet"):
        geometry, columns = _read_geoparquet(path, country_column)
    elif suffix == ".gpkg":
        geometry, columns = _read_geopackage(path, country_column, layer)
    else:
        raise InputError(
            "W201",
            f"cannot read polygons from a {suffix or 'nameless'} file",
            where=str(path),
            next_step="convert it: ogr2ogr -t_srs EPSG:4326 countries.gpkg <file>",
        )
    if len(geometry) == 0:
        raise InputError("W201", "the polygon file has no rows", where=str(path), next_step="give it rows")
    rows = []
    for row, shape in enumerate(geometry):
        where = f"{path}, row {row}"
        iso = _country_code(columns[country_column][row], country_column, where)
        _check_geometry(shape, where)
        attributes = {name: columns[name][row] for name in ATTRIBUTES if name in columns}
        rows.append(PolygonRow(row, iso, shape, {k: v for k, v in attributes.items() if not _missing(v)}))
    return rows


def _read_geoparquet(path: Path, country_column: str) -> tuple[NDArray[np.object_], dict[str, list[Any]]]:
    try:
        file = pq.ParquetFile(path)
        metadata = json.loads((file.schema_arrow.metadata or {})[b"geo"])
        primary = metadata["primary_column"]
        geo = metadata["columns"][primary]
    except (pa.ArrowException, OSError) as error:
        step = "check the path, or write the file again"
        raise InputError("W201", f"cannot read Parquet: {error}", where=str(path), next_step=step) from error
    except (KeyError, ValueError) as error:
        step = "write it as GeoParquet, for example with geopandas: frame.to_parquet(path)"
        raise InputError("W201", "the file is not GeoParquet", where=str(path), next_step=step) from error
    if geo.get("encoding") != "WKB":
        step = "write the geometry as WKB, the default of GeoParquet"
        what = f"geometry is encoded as {geo.get('encoding')!r}, not WKB"
        raise InputError("W201", what, where=str(path), next_step=step)
    if geo.get("edges", "planar") != "planar":
        raise _wrong_system(path, "edges are spherical, not planar")
    if "crs" in geo:  # an absent system means OGC:CRS84
        _check_system(geo["crs"], path)
    names = file.schema_arrow.names
    _check_columns(names, country_column, path)
    table = file.read(columns=[primary, *_wanted(names, country_column)])
    columns = {name: table.column(name).to_pylist() for name in table.schema.names if name != primary}
    return _from_wkb(table.column(primary).to_pylist(), path), columns


def _read_geopackage(
    path: Path, country_column: str, layer: str | None
) -> tuple[NDArray[np.object_], dict[str, list[Any]]]:
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if layer is None and len(layers) != 1:
            step = f"name one with `layer`: {', '.join(layers)}"
            raise InputError("W201", f"the file has {len(layers)} layers", where=str(path), next_step=step)
        meta, _, geometry, values = pyogrio.raw.read(path, layer=layer or layers[0])
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        step = "check the path and the layer, or write the file again"
        what = f"cannot read GeoPackage: {error}"
        raise InputError("W201", what, where=str(path), next_step=step) from error
    if geometry is None:
        raise InputError(
            "W201", "the layer has no geometry", where=str(path), next_step="choose another layer"
        )
    _check_system(meta["crs"], path)
    names = [str(name) for name in meta["fields"]]
    _check_columns(names, country_column, path)
    wanted = _wanted(names, country_column)
    columns = {name: values[names.index(name)].tolist() for name in wanted}
    return _from_wkb(list(geometry), path), columns


def _wanted(names: list[str], country_column: str) -> list[str]:
    return [country_column, *(name for name in ATTRIBUTES if name in names and name != country_column)]


def _check_columns(names: list[str], country_column: str, path: Path) -> None:
    if country_column not in names:
        raise InputError(
            "W203",
            f"no column {country_column!r} with ISO 3166-1 alpha-2 codes; the file has {', '.join(names)}",
            where=str(path),
            next_step="rename the column or name it with `country_column`",
        )


def _check_system(system: Any, path: Path) -> None:
    """Accept WGS84 longitude/latitude given as an authority code, as PROJJSON or as WKT; nothing else."""
    if system is None:
        raise _wrong_system(path, "the coordinate reference system is not recorded")
    if isinstance(system, dict):
        identifier = system.get("id") or {}
        if f"{identifier.get('authority')}:{identifier.get('code')}" in LON_LAT_SYSTEMS:
            return
        system = json.dumps(system)
    if system in LON_LAT_SYSTEMS:
        return
    try:
        code = rasterio.crs.CRS.from_user_input(system).to_epsg()
    except rasterio.errors.CRSError as error:
        raise _wrong_system(path, f"unknown coordinate reference system: {error}") from error
    if code != 4326:
        raise _wrong_system(
            path, f"the coordinate reference system is {f'EPSG:{code}' if code else 'unnamed'}"
        )


def _wrong_system(path: Path, what: str) -> InputError:
    return InputError(
        "W202",
        f"{what}; EPSG:4326 is needed",
        where=str(path),
        next_step="reproject it: ogr2ogr -t_srs EPSG:4326 countries.gpkg <file>",
    )


def _from_wkb(values: list[Any], path: Path) -> NDArray[np.object_]:
    try:
        geometry: NDArray[np.object_] = shapely.from_wkb(np.array(values, object))
    except shapely.errors.ShapelyError as error:
        step = "write the geometry as WKB, the default of GeoParquet"
        what = f"a geometry is not WKB: {error}"
        raise InputError("W201", what, where=str(path), next_step=step) from error
    return geometry


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _country_code(value: Any, country_column: str, where: str) -> str:
    if not isinstance(value, str) or len(value) != 2 or not (value.isascii() and value.isupper()):
        raise InputError(
            "W204",
            f"{value!r} is not an ISO 3166-1 alpha-2 code",
            where=f"{where}, column {country_column}",
            next_step="use two capital letters; if NA (Namibia) became a null on the way here, restore it",
        )
    return value


def _check_geometry(geometry: Any, where: str) -> None:
    if geometry is None or shapely.is_empty(geometry):
        raise InputError(
            "W205", "the geometry is empty", where=where, next_step="remove the row or give it one"
        )
    if geometry.geom_type not in ("Polygon", "MultiPolygon"):
        what = f"the geometry is a {geometry.geom_type}, not a polygon"
        raise InputError("W205", what, where=where, next_step="keep polygons only")
    coordinates = shapely.get_coordinates(geometry)
    if not (np.abs(coordinates) <= [180.0, 90.0]).all():
        step = "give degrees, longitude first, cut at the date line: ogr2ogr -wrapdateline"
        what = "a vertex is not finite or outside [-180, 180] x [-90, 90]"
        raise InputError("W207", what, where=where, next_step=step)
    if not shapely.is_valid(geometry):
        what = f"the polygon is not valid: {shapely.is_valid_reason(geometry)}"
        raise InputError(
            "W206", what, where=where, next_step="repair it: ogr2ogr -makevalid, or shapely.make_valid"
        )
    for part in shapely.get_parts(geometry):
        for ring in shapely.get_rings(part):
            step = np.diff(shapely.get_coordinates(ring), axis=0)
            pole = np.abs(shapely.get_coordinates(ring)[1:, 1]) == 90.0
            if (np.abs(step[:, 0]) > 180.0)[~(pole & (step[:, 1] == 0))].any():
                what = "an edge is longer than 180 degrees: the polygon crosses the date line"
                raise InputError("W207", what, where=where, next_step="cut it there: ogr2ogr -wrapdateline")
