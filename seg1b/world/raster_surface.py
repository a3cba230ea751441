"""Read a user's raster onto the tiles of every country.

Memory is bounded by a strip of rows and one stored value per tile of a country. A country without any people in the
raster keeps a surface of zeros (its weights then follow area, and say so).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.kernels.jit import njit
from seg1b.world.content import RasterReference, World
from seg1b.world.dense_surface import DenseSurface, dense_surface, first_tiles
from seg1b.world.raster import check_persons, is_nobody, read_raster_strips
from seg1b.world.tile_index import TileIndex

_MOST_PERSONS = 1e12  # more would not fit into 64 bits as micro-persons


def build_raster_surface(world: World, index: TileIndex) -> DenseSurface:
    """People of the world's raster on `index`'s tiles.

    Raises InputError W308_RASTER_RESOLUTION if the tile grid is not the raster's, W309_RASTER_TOTAL if it holds
    more people than can be counted, and the raster's own codes.
    """
    return dense_surface(index, _persons_of_tiles(_reference(world, index), index))


def _persons_of_tiles(reference: RasterReference, index: TileIndex) -> NDArray[Any]:
    """Persons of every tile of every span, one after the other, in the raster's type.

    Nodata and tiles that the raster does not cover are 0.
    """
    first = first_tiles(index)
    kind = np.dtype(reference.dtype).type
    nodata = kind(float(reference.nodata))
    value = np.zeros(int(first[-1]), kind)
    persons = 0
    for top, values in read_raster_strips(reference):
        check_persons(reference, values, top - reference.row0, 0)
        for _, low, high in _countries_in_rows(index, top, top + len(values)):
            spans = slice(low, high)
            persons += _copy_spans(
                index.spans.row[spans], index.spans.col0[spans], index.spans.col1[spans], first[spans],
                values, top, reference.col0, nodata, value,
            )  # fmt: skip
            if persons > _MOST_PERSONS:
                raise _not_persons(reference)
    return value


@njit
def _copy_spans(
    row: Any, col0: Any, col1: Any, first: Any, values: Any, top: Any, left: Any, nodata: Any, out: Any
) -> Any:
    """Copy a strip's values of some spans; returns their sum in persons, each rounded down."""
    persons = np.int64(0)
    for s in range(len(row)):
        for c in range(max(col0[s], left), min(col1[s], left + values.shape[1])):
            v = values[row[s] - top, c - left]
            if not is_nobody(v, nodata):
                out[first[s] + c - col0[s]] = v
                persons += np.int64(v)
    return persons


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
