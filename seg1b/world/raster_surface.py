"""The population surface of a user's raster: its own pixels on the tiles of every country, row by row.

A raster is dense, so runs are short; but they are the same runs, and everything downstream is the same. Memory is
bounded by a strip of rows, one stored value per tile of a country, and the runs themselves. A country without any
people in the raster keeps a surface of zeros (its weights then follow area, and say so).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.kernels.jit import in_chunks, inline, njit
from seg1b.kernels.surface import MICRO
from seg1b.world.content import RasterReference, World
from seg1b.world.raster import check_persons, is_nobody, read_raster_strips
from seg1b.world.surface import PopulationSurface
from seg1b.world.tile_index import TileIndex

IntArray = NDArray[np.int64]
_MOST_PERSONS = 1e12  # more would not fit into 64 bits as micro-persons


def build_raster_surface(world: World, index: TileIndex) -> PopulationSurface:
    """People of the world's raster on `index`'s tiles.

    Raises InputError W308_RASTER_RESOLUTION if the tile grid is not the raster's, W309_RASTER_TOTAL if it holds
    more people than can be counted, and the raster's own codes.
    """
    reference = _reference(world, index)
    tile_start = np.zeros(len(index.spans.row) + 1, np.int64)
    np.cumsum(index.spans.col1 - index.spans.col0, out=tile_start[1:], dtype=np.int64)
    value, nodata = _values_of_tiles(reference, index, tile_start)
    countries = len(index.spans.start) - 1
    start = np.zeros(countries + 1, np.int64)

    def spans(country: int) -> tuple[Any, ...]:
        part = slice(index.spans.start[country], index.spans.start[country + 1])
        columns = index.spans.row[part], index.spans.col0[part], index.spans.col1[part]
        return (*columns, tile_start[part], value, nodata, index.grid.ncols)

    def count(first: int, last: int) -> None:
        for country in range(first, last):
            start[country + 1] = _count_runs(*spans(country))

    work = tile_start[index.spans.start]
    in_chunks(count, countries, work)
    np.cumsum(start, out=start)
    total = int(start[-1])
    tile0, length, people = np.empty(total, np.int64), np.empty(total, np.int32), np.empty(total, np.int64)

    def fill(first: int, last: int) -> None:
        for country in range(first, last):
            own = slice(start[country], start[country + 1])
            arguments: tuple[Any, ...] = (*spans(country), tile0[own], length[own], people[own])
            _fill_runs(*arguments)

    in_chunks(fill, countries, work)
    return PopulationSurface(index.grid, start, tile0, length, people)


def _values_of_tiles(
    reference: RasterReference, index: TileIndex, tile_start: IntArray
) -> tuple[NDArray[Any], Any]:
    """The raster's value of every tile of every span, one after the other, in the raster's type, and its nodata.

    A tile that the raster does not cover has the nodata value.
    """
    kind = np.dtype(reference.dtype).type
    nodata = kind(float(reference.nodata))
    value = np.full(int(tile_start[-1]), nodata, kind)
    persons = 0
    for top, values in read_raster_strips(reference):
        check_persons(reference, values, top - reference.row0, 0)
        for _, low, high in _countries_in_rows(index, top, top + len(values)):
            spans = slice(low, high)
            persons += _copy_spans(
                index.spans.row[spans], index.spans.col0[spans], index.spans.col1[spans], tile_start[spans],
                values, top, reference.col0, nodata, value,
            )  # fmt: skip
            if persons > _MOST_PERSONS:
                raise _not_persons(reference)
    return value, nodata


@njit
def _copy_spans(
    row: Any, col0: Any, col1: Any, tile_start: Any, values: Any, top: Any, left: Any, nodata: Any, out: Any
) -> Any:
    """Copy a strip's values of some spans; returns their sum in persons, each rounded down."""
    persons = np.int64(0)
    for s in range(len(row)):
        for c in range(max(col0[s], left), min(col1[s], left + values.shape[1])):
            v = values[row[s] - top, c - left]
            out[tile_start[s] + c - col0[s]] = v
            if not is_nobody(v, nodata):
                persons += np.int64(v)
    return persons


@inline
def _micro(value: Any, nodata: Any) -> Any:
    """Micro-persons of a stored value, to the nearest."""
    return np.int64(0) if is_nobody(value, nodata) else np.int64(np.rint(np.float64(value) * MICRO))


@njit
def _count_runs(
    row: Any, col0: Any, col1: Any, tile_start: Any, value: Any, nodata: Any, columns: Any
) -> Any:
    """Number of runs of equal micro-persons of one country."""
    runs = np.int64(0)
    for s in range(len(row)):
        before = np.int64(-1)
        for k in range(tile_start[s], tile_start[s] + col1[s] - col0[s]):
            micro = _micro(value[k], nodata)
            runs += micro != before
            before = micro
    return runs


@njit
def _fill_runs(
    row: Any, col0: Any, col1: Any, tile_start: Any, value: Any, nodata: Any, columns: Any,
    tile0: Any, length: Any, people: Any,
) -> None:  # fmt: skip
    """The runs that `_count_runs` counts."""
    run = np.int64(-1)
    for s in range(len(row)):
        before = np.int64(-1)
        first = tile_start[s]
        tile = np.int64(row[s]) * columns + col0[s]
        for k in range(first, first + col1[s] - col0[s]):
            micro = _micro(value[k], nodata)
            if micro != before:
                run += 1
                tile0[run] = tile + k - first
                length[run] = 0
                people[run] = micro
                before = micro
            length[run] += 1


def _reference(world: World, index: TileIndex) -> RasterReference:
    reference = world.raster
    if reference is None or reference.resolution_arcsec != index.grid.resolution_arcsec:
        found = "no raster" if reference is None else f"a raster of {reference.resolution_arcsec} arc-seconds"
        raise InputError(
            "W308_RASTER_RESOLUTION",
            f"the tile grid has {index.grid.resolution_arcsec} arc-seconds, the world has {found}",
            where="s1.tile_index.yaml: resolution_arcsec",
            next_step="set resolution_arcsec to the raster's, or resample the raster",
        )
    return reference


def _not_persons(reference: RasterReference) -> InputError:
    return InputError(
        "W309_RASTER_TOTAL",
        f"the raster holds more than {_MOST_PERSONS:.0e} people",
        where=reference.file_name,
        next_step="give persons per pixel, not another unit",
    )


def _countries_in_rows(index: TileIndex, top: int, bottom: int) -> list[tuple[int, int, int]]:
    """(country, first span, span after the last) of every country with spans in rows [top, bottom)."""
    found = []
    for country in range(len(index.spans.start) - 1):
        begin, end = int(index.spans.start[country]), int(index.spans.start[country + 1])
        rows = index.spans.row[begin:end]
        low, high = np.searchsorted(rows, [top, bottom])
        if low < high:
            found.append((country, begin + int(low), begin + int(high)))
    return found
