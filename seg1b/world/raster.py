"""A user's population GeoTIFF: persons per tile on the 30 arc-second grid, read in windows.

Nodata counts as nobody; 0 is a value; anything else must be a finite number that is not negative. Every value
is checked when the world is built, and again whenever it is read.

Codes raised here (`InputError`): W301 file, W302 coordinate system, W303 no nodata, W304 grid, W305 value,
W306 bands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from seg1b.errors import ContractError, InputError
from seg1b.kernels.jit import inline, njit
from seg1b.world.bundle import file_sha256
from seg1b.world.content import RasterReference
from seg1b.world.grid import Grid

RASTER_RESOLUTION_ARCSEC: Final = 30
ALIGNMENT_TOLERANCE_TILES: Final = 0.01
"""How far any pixel corner may lie from its tile corner: decimals cut off in a header, not a shifted grid."""

MAX_PERSONS_PER_TILE: Final = 1e10
"""More than live on Earth: a raster in other units."""

_PIXELS_PER_STRIP: Final = 1 << 23
_CACHE_MB: Final = 64


def describe_raster(path: Path) -> RasterReference:
    """Check a population GeoTIFF, header and every value, and return its reference (with `path`).

    Reads strip by strip in bounded memory. Raises `InputError` W301 to W306.
    """
    if not path.is_file():
        raise InputError("W301", "no such population raster", where=str(path), next_step="check the path")
    sha256 = file_sha256(path)
    with _open(path) as dataset:
        row0, col0 = _check_header(dataset, path)
        reference = RasterReference(
            file_name=path.name,
            sha256=sha256,
            bytes=path.stat().st_size,
            rows=dataset.height,
            cols=dataset.width,
            row0=row0,
            col0=col0,
            resolution_arcsec=RASTER_RESOLUTION_ARCSEC,
            nodata=repr(float(dataset.nodata)),
            dtype=str(dataset.dtypes[0]),
            path=path,
        )
        for top, values in _strips(dataset, path):
            check_persons(reference, values, top, 0)
    return reference


def read_raster_strips(reference: RasterReference) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row on the tile grid, values as they are stored) of the raster from north to south, in strips.

    A value is a number of persons or nodata (`is_nobody`); nothing is checked. Raises InputError W301 and
    ContractError W307.
    """
    if reference.path is None:
        raise ContractError("W307", "the raster reference has no path", next_step="load it with load_world")
    with _open(reference.path) as dataset:
        for top, values in _strips(dataset, reference.path):
            yield reference.row0 + top, values


def _strips(dataset: Any, path: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, values) in strips of whole blocks of the file, so that no block is decoded twice."""
    block = int(dataset.block_shapes[0][0])
    rows = max(1, _PIXELS_PER_STRIP // dataset.width)
    rows = max(block, rows // block * block) if block * dataset.width <= 2 * _PIXELS_PER_STRIP else rows
    for top in range(0, dataset.height, rows):
        yield top, _read(dataset, Window(0, top, dataset.width, min(rows, dataset.height - top)), path)


@inline
def is_nobody(value: Any, nodata: Any) -> Any:
    """Whether a stored value is the nodata value (given in the raster's own type)."""
    return value == nodata or (value != value and nodata != nodata)


def check_persons(reference: RasterReference, values: NDArray[Any], row: int, col: int) -> None:
    """Raise InputError W305 if a stored value is neither nodata nor a number of persons.

    `row`, `col` is the raster position of the first value.
    """
    nodata = values.dtype.type(float(reference.nodata))
    if _first_bad(values.reshape(-1), nodata, MAX_PERSONS_PER_TILE) >= 0:
        _persons(values, float(reference.nodata), row, col, reference.path or Path(reference.file_name))


@njit
def _first_bad(values: Any, nodata: Any, most: Any) -> Any:
    for i in range(len(values)):
        if not (values[i] >= 0 and values[i] <= most) and not is_nobody(values[i], nodata):
            return i
    return -1


def read_raster_window(
    reference: RasterReference, row0: int, row1: int, col0: int, col1: int
) -> NDArray[np.float64]:
    """Return persons per tile of rows [row0, row1) and columns [col0, col1) of the tile grid, float64.

    Nodata and tiles that the raster does not cover are 0. Raises `InputError` W301 (unreadable), W305 (bad
    value) and `ContractError` W307 for a window outside the grid.
    """
    grid = Grid(reference.resolution_arcsec)
    if not (0 <= row0 <= row1 <= grid.nrows and 0 <= col0 <= col1 <= grid.ncols):
        raise ContractError("W307", f"window [{row0}, {row1}) x [{col0}, {col1}) is not on the grid")
    if reference.path is None:
        raise ContractError("W307", "the raster reference has no path", next_step="load it with load_world")
    persons = np.zeros((row1 - row0, col1 - col0))
    top, bottom = max(row0, reference.row0), min(row1, reference.row0 + reference.rows)
    left, right = max(col0, reference.col0), min(col1, reference.col0 + reference.cols)
    if top >= bottom or left >= right:
        return persons
    raster_row, raster_col = top - reference.row0, left - reference.col0
    with _open(reference.path) as dataset:
        window = Window(raster_col, raster_row, right - left, bottom - top)
        values = _read(dataset, window, reference.path)
    persons[top - row0 : bottom - row0, left - col0 : right - col0] = _persons(
        values, float(reference.nodata), raster_row, raster_col, reference.path
    )
    return persons


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The raster, with room in memory for one row of its blocks; what GDAL takes by itself grows with the machine."""
    try:
        dataset = rasterio.open(path, num_threads="ALL_CPUS")
    except rasterio.errors.RasterioIOError as error:
        raise _unreadable(path, str(error)) from error
    row_bytes = dataset.block_shapes[0][0] * dataset.width * np.dtype(dataset.dtypes[0]).itemsize
    with dataset, rasterio.Env(GDAL_CACHEMAX=max(_CACHE_MB, (row_bytes >> 20) * 5 // 4)):
        yield dataset


def _read(dataset: Any, window: Window, path: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = dataset.read(1, window=window)
    except rasterio.errors.RasterioIOError as error:
        raise _unreadable(path, str(error)) from error
    return values


def _unreadable(path: Path, what: str) -> InputError:
    step = "give a GeoTIFF; convert others with gdal_translate -of GTiff"
    return InputError("W301", f"cannot read the population raster: {what}", where=str(path), next_step=step)


def _check_header(dataset: Any, path: Path) -> tuple[int, int]:
    """Return (row0, col0), the tile of the north-west pixel."""
    if dataset.driver not in ("GTiff", "COG"):
        raise _unreadable(path, f"its format is {dataset.driver}, not GeoTIFF")
    if dataset.count != 1 or dataset.scales[0] != 1.0 or dataset.offsets[0] != 0.0:
        what = f"{dataset.count} bands; one band of unscaled persons per pixel is needed"
        step = "gdal_translate -b 1 -unscale <raster> population.tif"
        raise InputError("W306", what, where=str(path), next_step=step)
    if np.dtype(dataset.dtypes[0]).kind not in "fiu":
        step = "gdal_translate -ot Float32 <raster> population.tif"
        what = f"values of type {dataset.dtypes[0]} are no numbers"
        raise InputError("W306", what, where=str(path), next_step=step)
    if dataset.crs is None or dataset.crs.to_epsg() != 4326:
        found = "not recorded" if dataset.crs is None else str(dataset.crs)
        what = f"the coordinate reference system is {found}; EPSG:4326 is needed"
        raise InputError("W302", what, where=str(path), next_step=_warp(dataset, path))
    if dataset.nodata is None:
        what = "the header names no nodata value, so empty pixels cannot be told from bad ones"
        step = f"name it, for example: gdal_edit.py -a_nodata -99999 {path.name}"
        raise InputError("W303", what, where=str(path), next_step=step)
    return _grid_position(dataset, path)


def _grid_position(dataset: Any, path: Path) -> tuple[int, int]:
    grid = Grid(RASTER_RESOLUTION_ARCSEC)
    transform, per_degree = dataset.transform, grid.tiles_per_degree
    rotated = transform.b != 0.0 or transform.d != 0.0
    west, north = (transform.c + 180.0) * per_degree, (90.0 - transform.f) * per_degree
    east, south = (
        west + dataset.width * transform.a * per_degree,
        north - dataset.height * transform.e * per_degree,
    )
    if rotated or not all(math.isfinite(v) for v in (west, north, east, south)):
        raise _off_grid(dataset, path, "it is rotated")
    col0, row0 = round(west), round(north)
    corners = (west - col0, north - row0, east - col0 - dataset.width, south - row0 - dataset.height)
    worst = max(abs(corner) for corner in corners)
    if worst > ALIGNMENT_TOLERANCE_TILES:
        raise _off_grid(dataset, path, f"a corner is {worst:.4g} tiles away from where it should be")
    if col0 < 0 or row0 < 0 or col0 + dataset.width > grid.ncols or row0 + dataset.height > grid.nrows:
        raise _off_grid(dataset, path, "it reaches beyond [-180, 180] x [-90, 90]")
    return row0, col0


def _off_grid(dataset: Any, path: Path, what: str) -> InputError:
    return InputError(
        "W304",
        f"the raster is not on the {RASTER_RESOLUTION_ARCSEC} arc-second tile grid: {what}",
        where=str(path),
        next_step=_warp(dataset, path),
    )


def _warp(dataset: Any, path: Path) -> str:
    """Return the gdalwarp command that puts the raster on the grid and keeps its sum."""
    if dataset.crs is not None and dataset.crs.to_epsg() == 4326 and all(map(math.isfinite, dataset.bounds)):
        west, south, east, north = dataset.bounds
        extent = f"-te {max(-180, math.floor(west))} {max(-90, math.floor(south))} "
        extent += f"{min(180, math.ceil(east))} {min(90, math.ceil(north))}"
    else:
        extent = "-te <west> <south> <east> <north, whole degrees>"
    source = "" if dataset.crs is not None else "-s_srs <its system> "
    size = repr(1.0 / 120.0)
    nodata = -99999 if dataset.nodata is None else dataset.nodata
    return (
        f"gdalwarp {source}-t_srs EPSG:4326 {extent} -tr {size} {size} -r sum -dstnodata {nodata:g} "
        f"{path.name} population_30s.tif"
    )


def _persons(values: NDArray[Any], nodata: float, row: int, col: int, path: Path) -> NDArray[np.float64]:
    """Return values as persons with nodata as 0. `row`, `col` is the raster position of the first value."""
    empty = np.isnan(values) if math.isnan(nodata) else values == values.dtype.type(nodata)
    persons = values.astype(np.float64)
    persons[empty] = 0.0
    bad = ~((persons >= 0.0) & (persons <= MAX_PERSONS_PER_TILE))
    if bad.any():
        bad_row, bad_col = (int(index[0]) for index in np.nonzero(bad))
        raise InputError(
            "W305",
            f"{values[bad_row, bad_col]} is not a number of persons (nodata is {nodata:g})",
            where=f"{path}, row {row + bad_row}, column {col + bad_col}",
            next_step="set it to nodata or correct it",
        )
    return persons
