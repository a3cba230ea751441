"""The population surface of a user's raster: the raster's own value of every tile, and nothing else.

A raster is dense, neighbours differ, and runs would cost six times what the values do. So the values themselves are
kept, in the raster's type, span after span of S1's tiles; populations and weights are derived from them where they are
asked for, exactly as runs have them (`seg1b.kernels.dense`). Everything that runs answer, this answers equally.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels import dense as kernel
from seg1b.kernels.jit import in_chunks, read_only
from seg1b.world.grid import Grid
from seg1b.world.surface import IntArray, PopulationSurface, Runs
from seg1b.world.tile_index import TileIndex

_TILES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class DenseSurface:
    """Persons of every tile of C countries: S1's spans, and the values of their tiles one after the other.

    `tiles`: them, in the raster's type, 0 for nobody; `people` int64[S]: micro-persons of each span. All read-only.
    """

    grid: Grid
    tiles: kernel.DenseTiles
    people: IntArray

    @property
    def start(self) -> IntArray:
        """First span of each country, int64[C + 1]."""
        return self.tiles.start

    @property
    def persons(self) -> NDArray[Any]:
        """Persons of each tile, (T,)."""
        return self.tiles.persons

    def population_at(self, country: NDArray[np.int16], tile_id: IntArray) -> IntArray:
        """Micro-persons of each (country, tile); 0 where the country has no such tile. n queries, n values."""
        found = np.empty(len(tile_id), np.int64)
        tiles = self.tiles
        kernel.people_at(
            tiles.start, tiles.row, tiles.col0, tiles.col1, tiles.before, tiles.persons,
            country.astype(np.int64), read_only(tile_id), tiles.columns, found,
        )  # fmt: skip
        return found

    @cached_property
    def totals(self) -> IntArray:
        """Micro-persons per country, (C,)."""
        return _between(self.people, self.start[:-1], self.start[1:])

    def southern_share(self) -> NDArray[np.float64]:
        """Share of each country's people south of the equator, (C,); by area where nobody lives."""
        tiles, equator = self.tiles, self.grid.nrows // 2
        starts = zip(tiles.start[:-1].tolist(), tiles.start[1:].tolist(), strict=True)
        south = [a + int(np.searchsorted(tiles.row[a:b], equator)) for a, b in starts]
        area = tiles.area_cm2[tiles.row] * (tiles.col1 - tiles.col0)
        shares = []
        for country, total in enumerate(self.totals.tolist()):
            values = self.people if total else area
            own = values[tiles.start[country] : tiles.start[country + 1]]
            southern = values[south[country] : tiles.start[country + 1]]
            shares.append(int(southern.sum()) / int(own.sum()) if len(own) else 0.0)
        return np.array(shares)

    def batches(self, country: int) -> Iterator[Runs]:
        """One country's runs of equal micro-persons, row by row, about a million tiles at once."""
        tiles, before = self.tiles, self.tiles.before
        begin, end = int(self.start[country]), int(self.start[country + 1])
        while begin < end:
            last = int(np.searchsorted(before, before[begin] + _TILES_AT_ONCE, side="right")) - 1
            part = slice(begin, min(max(last, begin + 1), end))
            size = int(before[part.stop] - before[begin])
            tile0, length, people = (
                np.empty(size, np.int64),
                np.empty(size, np.int32),
                np.empty(size, np.int64),
            )
            runs = kernel.runs_of_spans(
                tiles.row[part], tiles.col0[part], tiles.col1[part], tiles.before[part], tiles.persons, tiles.columns,
                tile0, length, people,
            )  # fmt: skip
            yield Runs(read_only(tile0[:runs]), read_only(length[:runs]), read_only(people[:runs]))
            begin = part.stop

    def runs_of(self, country: int) -> Runs:
        """All of one country's runs: 20 bytes a tile."""
        parts = [
            Runs(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)),
            *self.batches(country),
        ]
        return Runs(
            np.concatenate([part.tile0 for part in parts]),
            np.concatenate([part.length for part in parts]),
            np.concatenate([part.population for part in parts]),
        )

    def tiles_of(self, country: int) -> tuple[IntArray, NDArray[np.int32]]:
        """One country's tiles, whoever lives there: first tile ids and numbers of tiles, row by row."""
        tiles, part = self.tiles, slice(int(self.start[country]), int(self.start[country + 1]))
        tile0 = tiles.row[part].astype(np.int64) * tiles.columns + tiles.col0[part]
        return tile0, tiles.col1[part] - tiles.col0[part]


Surface: TypeAlias = PopulationSurface | DenseSurface


def first_tiles(index: TileIndex) -> IntArray:
    """Number of the first tile of each span where all tiles lie one after the other, and of all: int64[S + 1]."""
    first = np.zeros(len(index.spans.row) + 1, np.int64)
    np.cumsum(index.spans.col1 - index.spans.col0, out=first[1:], dtype=np.int64)
    return first


def dense_surface(index: TileIndex, persons: NDArray[Any]) -> DenseSurface:
    """The surface of the persons (T,) of `index`'s tiles, span after span; the arrays become read-only."""
    spans = index.spans
    tiles = kernel.DenseTiles(
        spans.start, spans.row, spans.col0, spans.col1, first_tiles(index), persons,
        index.grid.row_area_cm2(), index.grid.ncols,
    )  # fmt: skip
    for array in (tiles.start, tiles.row, tiles.col0, tiles.col1, tiles.before, persons):
        array.setflags(write=False)
    people = np.empty(len(spans.row), np.int64)

    def add_up(low: int, high: int) -> None:
        part = slice(low, high)
        kernel.people_of_spans(tiles.col0[part], tiles.col1[part], tiles.before[part], persons, people[part])

    in_chunks(add_up, len(people), tiles.before)
    people.setflags(write=False)
    return DenseSurface(index.grid, tiles, people)


def _between(values: IntArray, start: IntArray, end: IntArray) -> IntArray:
    """Sums of consecutive values between offsets."""
    before = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=before[1:])
    return np.asarray(before[end] - before[start])
