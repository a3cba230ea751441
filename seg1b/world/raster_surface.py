"""The population surface of a user's raster: its own pixels on the tiles of every country, row by row.

A raster is dense, so runs are short; but they are the same runs, and everything downstream is the same. Memory is
bounded by a strip of rows and the runs themselves. A country without any people in the raster keeps a surface of zeros
(its weights then follow area, and say so).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.kernels.jit import njit
from seg1b.kernels.surface import MICRO
from seg1b.world.content import RasterReference, World
from seg1b.world.raster import read_raster_window
from seg1b.world.surface import PopulationSurface
from seg1b.world.tile_index import TileIndex

IntArray = NDArray[np.int64]
_STRIP_ROWS = 256
_MOST_PERSONS = 1e12  # more would not fit into 64 bits as micro-persons


@njit
def _runs_of_strip(row: Any, col0: Any, col1: Any, people: Any, top: Any, columns: Any) -> Any:
    """Runs of equal value of one country's spans within a strip: tile0, length, micro-persons."""
    total = np.int64(0)
    for s in range(len(row)):
        total += col1[s] - col0[s]
    tile0 = np.empty(total, np.int64)
    length = np.empty(total, np.int32)
    value = np.empty(total, np.int64)
    used = 0
    for s in range(len(row)):
        first_of_span = used
        for c in range(col0[s], col1[s]):
            micro = people[row[s] - top, c]
            if used > first_of_span and value[used - 1] == micro:
                length[used - 1] += 1
            else:
                tile0[used] = np.int64(row[s]) * columns + c
                length[used] = 1
                value[used] = micro
                used += 1
    return tile0[:used].copy(), length[:used].copy(), value[:used].copy()


def build_raster_surface(world: World, index: TileIndex) -> PopulationSurface:
    """People of the world's raster on `index`'s tiles.

    Raises InputError W308_RASTER_RESOLUTION if the tile grid is not the raster's, W309_RASTER_TOTAL if it holds
    more people than can be counted, and the raster's own codes.
    """
    reference = _reference(world, index)
    grid = index.grid
    countries = len(index.spans.start) - 1
    parts: list[list[tuple[IntArray, NDArray[np.int32], IntArray]]] = [[] for _ in range(countries)]
    total = 0.0
    for top in range(0, grid.nrows, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, grid.nrows)
        here = _countries_in_rows(index, top, bottom)
        if not here:
            continue
        persons = read_raster_window(reference, top, bottom, 0, grid.ncols)
        total += float(persons.sum())
        if total > _MOST_PERSONS:
            raise _not_persons(reference)
        people = np.rint(persons * MICRO).astype(np.int64)
        for country, low, high in here:
            spans = slice(low, high)
            parts[country].append(
                _runs_of_strip(
                    index.spans.row[spans],
                    index.spans.col0[spans],
                    index.spans.col1[spans],
                    people,
                    top,
                    grid.ncols,
                )
            )
    start = np.zeros(countries + 1, np.int64)
    np.cumsum([sum(len(p[0]) for p in strips) for strips in parts], out=start[1:])
    flat = [strip for strips in parts for strip in strips]
    return PopulationSurface(
        grid,
        start,
        np.concatenate([strip[0] for strip in flat]),
        np.concatenate([strip[1] for strip in flat]),
        np.concatenate([strip[2] for strip in flat]),
    )


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
