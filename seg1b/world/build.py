"""The part of building a world that the embedded bundle and a user's own world share.

Geometry to rings, attribute fallbacks, and writing a world directory that is either complete or not there.
shapely is imported by callers; here geometries are only taken apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.world.bundle import FORMAT_VERSION, MANIFEST_NAME, SCHEMAS, file_sha256, world_digest
from seg1b.world.content import CountryTable, Polygons, RasterReference, Settlements

WGS84_SEMI_MAJOR_M: Final = 6378137.0
WGS84_INVERSE_FLATTENING: Final = 298.257223563


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Share `total` >= 0 out in proportion to integer `weights`; the sum is exact, ties go to the first.

    Raises ValueError unless the weights have a positive sum.
    """
    mass = sum(weights)
    if mass <= 0:
        raise ValueError("weights must have a positive sum")
    quotas = [divmod(total * weight, mass) for weight in weights]
    shares = [quotient for quotient, _ in quotas]
    order = sorted(range(len(weights)), key=lambda i: (-quotas[i][1], i))
    for i in order[: total - sum(shares)]:
        shares[i] += 1
    return shares


def subregion_median(values: Mapping[str, float], subregion: Mapping[str, str], iso: str) -> float:
    """Return the median of the known `values` (code -> GDP per head) in the subregion of `iso`.

    Falls back to the median of all when the subregion has none.
    """
    known = [value for code, value in values.items() if subregion[code] == subregion[iso]]
    return float(np.median(known or list(values.values())))


def polygon_parts(geometry: Any) -> list[Any]:
    """Return the polygons of a geometry; lines and points (left by a repair) are dropped."""
    parts: list[Any] = []
    for part in shapely.get_parts(geometry):
        kind = shapely.get_type_id(part)
        if kind == shapely.GeometryType.POLYGON:
            parts.append(part)
        elif kind in (shapely.GeometryType.MULTIPOLYGON, shapely.GeometryType.GEOMETRYCOLLECTION):
            parts.extend(polygon_parts(part))
    return parts


def assemble_polygons(geometries: Sequence[Any]) -> Polygons:
    """Turn one geometry per country (by ascending index) into rings, exterior first, in the given order."""
    coordinates: list[NDArray[np.float64]] = []
    ring_country: list[int] = []
    for country, geometry in enumerate(geometries):
        for part in polygon_parts(geometry):
            for ring in shapely.get_rings(part):
                coordinates.append(shapely.get_coordinates(ring))
                ring_country.append(country)
    vertices = np.concatenate(coordinates)
    lengths = np.array([len(ring) for ring in coordinates], np.int64)
    return Polygons(
        lon=np.ascontiguousarray(vertices[:, 0]),
        lat=np.ascontiguousarray(vertices[:, 1]),
        ring_start=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        ring_country=np.array(ring_country, np.int16),
    )


def area_km2(geometry: Any) -> float:
    """Return the area of a lon/lat geometry on WGS84 in km2, to six significant digits.

    Line integral of the area function between parallels along each ring (exact for edges along parallels and
    meridians). It describes a country; nothing is decided by it.
    """
    total = 0.0
    for part in polygon_parts(geometry):
        rings = shapely.get_rings(part)
        areas = [abs(_ring_integral(shapely.get_coordinates(ring))) for ring in rings]
        total += areas[0] - sum(areas[1:])
    return float(f"{total / 1e6:.6g}")


def _ring_integral(ring: NDArray[np.float64]) -> float:
    flattening = 1.0 / WGS84_INVERSE_FLATTENING
    eccentricity = np.sqrt(flattening * (2.0 - flattening))
    sine = np.sin(np.radians(ring[:, 1]))
    authalic = sine / (1.0 - (eccentricity * sine) ** 2) + np.arctanh(eccentricity * sine) / eccentricity
    semi_minor = WGS84_SEMI_MAJOR_M * (1.0 - flattening)
    width = np.diff(np.radians(ring[:, 0]))
    return float(np.sum(width * (authalic[1:] + authalic[:-1]) / 2.0) * semi_minor**2 / 2.0)


def write_world(
    out_dir: Path,
    *,
    countries: CountryTable,
    polygons: Polygons,
    settlements: Settlements,
    provenance: Mapping[str, Any],
    raster: RasterReference | None = None,
    replace: bool = False,
) -> str:
    """Write a world directory and return its digest; on any error nothing is left behind.

    `provenance` becomes part of `world.json` (sources, licences, decisions). A raster with a `path` is copied
    beside it. An existing `out_dir` is an error (`InputError` W210) unless `replace`.
    """
    with new_directory(Path(out_dir), replace=replace) as staging:
        files: dict[str, dict[str, Any]] = {}
        for name, table in _tables(countries, polygons, settlements).items():
            content = _parquet_bytes(table)
            _write_bytes(staging / name, content)
            files[name] = {
                "bytes": len(content),
                "rows": table.num_rows,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        if raster is not None and raster.path is not None:
            copy = staging / raster.file_name
            shutil.copyfile(raster.path, copy)
            if file_sha256(copy) != raster.sha256:
                step = "build again when nothing writes to it"
                raise InputError(
                    "W107", "the raster changed while it was read", where=str(raster.path), next_step=step
                )
        digest = world_digest({name: entry["sha256"] for name, entry in files.items()}, raster)
        manifest = {
            **provenance,
            "digest": digest,
            "files": files,
            "format_version": FORMAT_VERSION,
            "raster": None if raster is None else raster.header(),
        }
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        _write_bytes(staging / MANIFEST_NAME, text.encode() + b"\n")
    return digest


def _tables(countries: CountryTable, polygons: Polygons, settlements: Settlements) -> dict[str, pa.Table]:
    columns: dict[str, dict[str, Any]] = {
        "countries.parquet": {f.name: list(getattr(countries, f.name)) for f in fields(CountryTable)},
        "rings.parquet": {"country": polygons.ring_country, "vertices": np.diff(polygons.ring_start)},
        "vertices.parquet": {"lon": polygons.lon, "lat": polygons.lat},
        "settlements.parquet": {f.name: getattr(settlements, f.name) for f in fields(Settlements)},
    }
    tables = {}
    for name, schema in SCHEMAS.items():
        arrays = [pa.array(columns[name][field.name], type=field.type) for field in schema]
        tables[name] = pa.Table.from_arrays(arrays, schema=schema)
    return tables


def _parquet_bytes(table: pa.Table) -> bytes:
    """Encode one table, with everything off that would put a second copy or a guess into the file."""
    if any(column.null_count for column in table.columns):
        raise ValueError("a world table must not hold nulls")
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        column_encoding={f.name: _ENCODINGS[f.type] for f in table.schema if f.type in _ENCODINGS},
        row_group_size=max(1, table.num_rows),
        data_page_size=1 << 30,
    )
    return sink.getvalue()


_ENCODINGS: Final[dict[pa.DataType, str]] = {
    pa.int16(): "DELTA_BINARY_PACKED",
    pa.int32(): "DELTA_BINARY_PACKED",
    pa.string(): "DELTA_LENGTH_BYTE_ARRAY",
}


@contextlib.contextmanager
def new_directory(out_dir: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a staging directory beside `out_dir` that becomes `out_dir` on success and vanishes on error.

    Raises InputError W210 if `out_dir` exists and is not to be replaced.
    """
    if out_dir.exists() and not replace:
        raise InputError(
            "W210", "the output directory exists", where=str(out_dir), next_step="choose a new directory"
        )
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    try:
        yield staging
        staging.chmod(0o755)
        _sync_directory(staging)
        if out_dir.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.old.", dir=out_dir.parent))
            os.replace(out_dir, retired)
            os.replace(staging, out_dir)
            shutil.rmtree(retired)
        else:
            os.replace(staging, out_dir)
        _sync_directory(out_dir.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
