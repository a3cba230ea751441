"""A world on disk: read, compared with its digests, and checked against its format.

A world is a directory of four Parquet files and `world.json`. One ships inside the package (`data/`); a user
may build another one with `seg1b.world.custom`. Reading needs numpy and pyarrow only.

Codes raised here (`InputError`): W101 missing file, W102 not a world, W103 newer format, W104 file altered,
W105 table breaks the format, W106 raster missing, W107 raster altered.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.world.content import CountryTable, Polygons, RasterReference, Settlements, World
from seg1b.world.regions import MACRO_REGIONS

FORMAT_VERSION: Final = 1
EMBEDDED_DIRECTORY: Final = Path(__file__).parent / "data"
MANIFEST_NAME: Final = "world.json"


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


SCHEMAS: Final[dict[str, pa.Schema]] = {
    "countries.parquet": _schema(
        iso=pa.string(),
        name=pa.string(),
        population=pa.int64(),
        population_source=pa.string(),
        gdp_per_head=pa.float64(),
        gdp_source=pa.string(),
        area_km2=pa.float64(),
        subregion=pa.string(),
        macro_region=pa.string(),
        eligible=pa.bool_(),
        exclusion_reason=pa.string(),
    ),
    "rings.parquet": _schema(country=pa.int16(), vertices=pa.int32()),
    "vertices.parquet": _schema(lon=pa.float64(), lat=pa.float64()),
    "settlements.parquet": _schema(
        country=pa.int16(),
        geonameid=pa.int32(),
        lon_e5=pa.int32(),
        lat_e5=pa.int32(),
        population=pa.int32(),
        name=pa.string(),
    ),
}
"""File name -> Arrow schema. No column may hold a null: "NA" is Namibia, never a missing value."""


def world_digest(file_sha256: dict[str, str], raster: RasterReference | None) -> str:
    """Return SHA-256 (hex) over the canonical JSON of the file digests, the raster header and the format."""
    content = {
        "files": file_sha256,
        "format_version": FORMAT_VERSION,
        "raster": None if raster is None else {**raster.header(), "file_name": ""},
    }
    return hashlib.sha256(canonical_json(content)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Serialise with sorted keys and without spaces, in UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Serialise `world.json` as it is written: one form for one content."""
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def load_world(
    path: Path | None = None, *, raster_path: Path | None = None, raster_required: bool = True
) -> World:
    """Load the embedded world, or the user world in directory `path`.

    Every file is compared with the SHA-256 that `world.json` records as it is read; those of the embedded world,
    which is loaded once per process, when somebody asks for what is in them. A world with a raster looks for it beside
    `world.json`, else at `raster_path`; if it is not required and not there, its reference has no `path`.

    Raises `InputError` W101 to W107, see the module.
    """
    if path is None:
        return _embedded_world()
    return _load(Path(path), raster_path, raster_required)


@functools.lru_cache(maxsize=1)
def _embedded_world() -> World:
    return _load(EMBEDDED_DIRECTORY, None, True)


class _EmbeddedWorld(World):
    """The embedded world; polygons and settlements are read, and compared with their digests, when they are asked for,
    since what only counts outlets needs neither.
    """

    @classmethod
    def of(cls, **read: Any) -> World:
        """The world with these fields: all but polygons and settlements."""
        world: World = object.__new__(cls)
        world.__dict__.update(read)
        return world

    def __getattr__(self, name: str) -> Any:
        read = {"polygons": _read_polygons, "settlements": _read_settlements}.get(name)
        if read is None:
            raise AttributeError(f"a world has no attribute {name!r}")
        value = read(EMBEDDED_DIRECTORY, self.provenance, len(self.countries))
        self.__dict__[name] = value
        return value


def _load(directory: Path, raster_path: Path | None, raster_required: bool) -> World:
    manifest = _read_manifest(directory)
    countries = _countries(_read_table(directory, "countries.parquet", manifest), directory)
    raster = _raster(manifest.get("raster"), directory, raster_path, raster_required)
    digest = world_digest({name: manifest["files"][name]["sha256"] for name in SCHEMAS}, raster)
    if digest != manifest["digest"]:
        raise _altered(directory / MANIFEST_NAME, "its digest is not that of the files it lists")
    if directory == EMBEDDED_DIRECTORY:
        return _EmbeddedWorld.of(
            countries=countries, provenance=manifest, digest=digest, raster=raster, directory=None
        )
    polygons = _read_polygons(directory, manifest, len(countries))
    settlements = _read_settlements(directory, manifest, len(countries))
    return World(countries, polygons, settlements, manifest, digest, raster, directory)


def _read_polygons(directory: Path, manifest: dict[str, Any], countries: int) -> Polygons:
    rings, vertices = (
        _read_table(directory, name, manifest) for name in ("rings.parquet", "vertices.parquet")
    )
    return _polygons(rings, vertices, countries, directory)


def _read_settlements(directory: Path, manifest: dict[str, Any], countries: int) -> Settlements:
    return _settlements(_read_table(directory, "settlements.parquet", manifest), countries, directory)


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            "W101",
            f"cannot read the world's manifest: {error.strerror}",
            where=str(path),
            next_step="give the directory that holds world.json",
        ) from error
    except ValueError as error:
        raise _not_a_world(path, f"not JSON: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format_version"), int):
        raise _not_a_world(path, "no integer `format_version`")
    if manifest["format_version"] != FORMAT_VERSION:
        raise InputError(
            "W103",
            f"world format {manifest['format_version']}, this seg1b reads format {FORMAT_VERSION}",
            where=str(path),
            next_step="upgrade seg1b, or build the world again with this version",
        )
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not all(isinstance(listed.get(name), dict) for name in SCHEMAS):
        raise _not_a_world(path, f"`files` does not list {', '.join(SCHEMAS)}")
    if not isinstance(manifest.get("digest"), str):
        raise _not_a_world(path, "no `digest`")
    return manifest


def _read_verified(directory: Path, name: str, manifest: dict[str, Any]) -> bytes:
    path = directory / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            "W101",
            f"cannot read a file of the world: {error.strerror}",
            where=str(path),
            next_step="restore the file or build the world again",
        ) from error
    if hashlib.sha256(content).hexdigest() != manifest["files"][name].get("sha256"):
        raise _altered(path, "its SHA-256 is not the one in world.json")
    return content


def _read_table(directory: Path, name: str, manifest: dict[str, Any]) -> pa.Table:
    path, content = directory / name, _read_verified(directory, name, manifest)
    try:
        # no threads of Arrow's: one that lets go of Python's bytes while the interpreter ends aborts the process
        table = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False).read(use_threads=False)
    except pa.ArrowException as error:
        raise _breaks_format(path, f"not readable as Parquet: {error}") from error
    expected = SCHEMAS[name]
    if table.schema.names != expected.names or table.schema.types != expected.types:
        raise _breaks_format(path, f"columns {table.schema.names} are not {expected.names} with their types")
    for column in expected.names:
        if table.column(column).null_count:
            raise _breaks_format(path, f"column {column!r} holds nulls")
    return table


def _array(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as a read-only array without pyarrow's `to_numpy`, which would import pandas."""
    column = table.column(name)
    if column.type == pa.bool_() or not column.num_chunks:
        array: NDArray[Any] = np.array(column.to_pylist(), np.dtype(str(column.type).replace("double", "f8")))
    else:
        flat = pa.concat_arrays(column.chunks)
        dtype = np.dtype(str(flat.type).replace("double", "float64"))
        array = np.frombuffer(flat.buffers()[1], dtype, len(flat), flat.offset * dtype.itemsize)
    array.setflags(write=False)
    return array


def _countries(table: pa.Table, directory: Path) -> CountryTable:
    path = directory / "countries.parquet"
    values: dict[str, Any] = {}
    for field in fields(CountryTable):
        column = table.column(field.name)
        text = column.type == pa.string()
        values[field.name] = tuple(column.to_pylist()) if text else _array(table, field.name)
    countries = CountryTable(**values)
    if not countries.iso or list(countries.iso) != sorted(set(countries.iso)):
        raise _breaks_format(path, "`iso` is empty, not ascending or not unique")
    if len(countries) > np.iinfo(np.int16).max:
        raise _breaks_format(path, "more countries than an int16 index can name")
    if not set(countries.macro_region) <= set(MACRO_REGIONS):
        raise _breaks_format(path, f"`macro_region` outside {', '.join(MACRO_REGIONS)}")
    if (countries.population < 0).any() or not (countries.gdp_per_head >= 0).all():
        raise _breaks_format(path, "negative or undefined `population` or `gdp_per_head`")
    if any(
        bool(reason) == bool(ok)
        for reason, ok in zip(countries.exclusion_reason, countries.eligible, strict=True)
    ):
        raise _breaks_format(path, "`exclusion_reason` must be set exactly where `eligible` is false")
    return countries


def _polygons(rings: pa.Table, vertices: pa.Table, n_countries: int, directory: Path) -> Polygons:
    path = directory / "rings.parquet"
    ring_country = _array(rings, "country")
    lengths = _array(rings, "vertices").astype(np.int64)
    ring_start = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    lon, lat = _array(vertices, "lon"), _array(vertices, "lat")
    if (lengths < 4).any() or ring_start[-1] != lon.size:
        raise _breaks_format(path, "ring lengths do not fit the vertices")
    if np.unique(ring_country).tolist() != list(range(n_countries)) or (np.diff(ring_country) < 0).any():
        raise _breaks_format(path, "rings are not grouped by ascending country, or a country has none")
    if not ((np.abs(lon) <= 180.0).all() and (np.abs(lat) <= 90.0).all()):
        raise _breaks_format(directory / "vertices.parquet", "a vertex lies outside [-180, 180] x [-90, 90]")
    first, last = ring_start[:-1], ring_start[1:] - 1
    if not (np.array_equal(lon[first], lon[last]) and np.array_equal(lat[first], lat[last])):
        raise _breaks_format(path, "a ring is not closed")
    ring_start.setflags(write=False)
    return Polygons(lon, lat, ring_start, ring_country)


def _settlements(table: pa.Table, n_countries: int, directory: Path) -> Settlements:
    path = directory / "settlements.parquet"
    columns = {name: _array(table, name) for name in SCHEMAS[path.name].names if name != "name"}
    names = pa.concat_arrays(table.column("name").chunks) if len(table) else pa.array([], pa.string())
    settlements = Settlements(name=names, **columns)
    country = settlements.country.astype(np.int64)
    if country.size and (country.min() < 0 or country.max() >= n_countries):
        raise _breaks_format(path, "`country` names no country")
    if (np.diff((country << 32) + settlements.geonameid) <= 0).any():
        raise _breaks_format(path, "rows are not ascending by (country, geonameid)")
    if (settlements.population < 0).any():
        raise _breaks_format(path, "negative `population`")
    lon_ok = (np.abs(settlements.lon_e5) <= 18_000_000).all()
    if not (lon_ok and (np.abs(settlements.lat_e5) <= 9_000_000).all()):
        raise _breaks_format(path, "a settlement lies outside [-180, 180] x [-90, 90]")
    return settlements


def _raster(header: Any, directory: Path, raster_path: Path | None, required: bool) -> RasterReference | None:
    if header is None:
        return None
    if not isinstance(header, dict) or "path" in header:
        raise _not_a_world(directory / MANIFEST_NAME, "`raster` is no header, or says where the raster lies")
    try:
        reference = RasterReference(**header)
    except TypeError as error:
        raise _not_a_world(directory / MANIFEST_NAME, f"`raster`: {error}") from error
    beside = directory / Path(reference.file_name).name
    path = beside if beside.is_file() else raster_path
    if path is None or not path.is_file():
        if not required:
            return reference
        raise InputError(
            "W106",
            f"the world's population raster {reference.file_name!r} is missing",
            where=str(path or beside),
            next_step="put it beside world.json, or name it with `raster_path`",
        )
    if path.stat().st_size != reference.bytes or file_sha256(path) != reference.sha256:
        raise InputError(
            "W107",
            "the population raster is not the one that the world was built with",
            where=str(path),
            next_step="restore the raster or build the world again",
        )
    return RasterReference(**header, path=path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _not_a_world(path: Path, what: str) -> InputError:
    step = "give the directory that holds world.json"
    return InputError("W102", f"not a seg1b world: {what}", where=str(path), next_step=step)


def _altered(path: Path, what: str) -> InputError:
    return InputError(
        "W104",
        f"the world was altered after it was built: {what}",
        where=str(path),
        next_step="restore the file or build the world again; reinstalling seg1b restores the embedded world",
    )


def _breaks_format(path: Path, what: str) -> InputError:
    step = "build the world again; do not write these files by hand"
    return InputError("W105", f"the world breaks its format: {what}", where=str(path), next_step=step)
