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
from seg1b.world.tile_index import CountrySpans, TileIndex

_TILES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class DenseSurface:
    """Persons of every tile of C countries: S1's spans, and the values of their tiles one after the other.

    `first` int64[S + 1]: number of each span's first tile, and the end; `persons` (T,) in the raster's type, 0 for
    nobody; `people` int64[S]: micro-persons of each span.
    """

    grid: Grid
    spans: CountrySpans
    first: IntArray
    persons: NDArray[Any]
    people: IntArray

    @property
    def start(self) -> IntArray:
        """First span of each country, int64[C + 1]."""
        return self.spans.start

    @cached_property
    def tiles(self) -> kernel.DenseTiles:
        """As kernels take it."""
        spans = self.spans
        return kernel.DenseTiles(
            read_only(spans.start), read_only(spans.row), read_only(spans.col0), read_only(spans.col1),
            read_only(self.first[:-1]), read_only(self.persons), read_only(self.grid.row_area_cm2()), self.grid.ncols,
        )  # fmt: skip

    def population_at(self, country: NDArray[np.int16], tile_id: IntArray) -> IntArray:
        """Micro-persons of each (country, tile); 0 where the country has no such tile. n queries, n values."""
        found = np.empty(len(tile_id), np.int64)
        tiles = self.tiles
        kernel.people_at(
            tiles.start, tiles.row, tiles.col0, tiles.col1, tiles.first, tiles.persons,
            country.astype(np.int64), read_only(tile_id), tiles.columns, found,
        )  # fmt: skip
        return found

    @cached_property
    def totals(self) -> IntArray:
        """Micro-persons per country, (C,)."""
        return _between(self.people, self.start[:-1], self.start[1:])

    def southern_share(self) -> NDArray[np.float64]:
        """Share of each country's people south of the equator, (C,); by area where nobody lives."""
        spans, equator = self.spans, self.grid.nrows // 2
        starts = zip(spans.start[:-1].tolist(), spans.start[1:].tolist(), strict=True)
        south = np.array([a + np.searchsorted(spans.row[a:b], equator) for a, b in starts], np.int64)
        area = self.grid.row_area_cm2()[spans.row] * (spans.col1 - spans.col0)
        shares = []
        for country, total in enumerate(self.totals.tolist()):
            values = self.people if total else area
            own = values[spans.start[country] : spans.start[country + 1]]
            southern = values[south[country] : spans.start[country + 1]]
            shares.append(int(southern.sum()) / int(own.sum()) if len(own) else 0.0)
        return np.array(shares)

    def batches(self, country: int) -> Iterator[Runs]:
        """One country's runs of equal micro-persons, row by row, about a million tiles at once."""
        tiles = self.tiles
        begin, end = int(self.start[country]), int(self.start[country + 1])
        while begin < end:
            last = int(np.searchsorted(self.first, self.first[begin] + _TILES_AT_ONCE, side="right")) - 1
            part = slice(begin, min(max(last, begin + 1), end))
            size = int(self.first[part.stop] - self.first[begin])
            tile0, length, people = (
                np.empty(size, np.int64),
                np.empty(size, np.int32),
                np.empty(size, np.int64),
            )
            runs = kernel.runs_of_spans(
                tiles.row[part], tiles.col0[part], tiles.col1[part], tiles.first[part], tiles.persons, tiles.columns,
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
        row, col0, col1 = self.spans.of(country)
        return row.astype(np.int64) * self.grid.ncols + col0, col1 - col0


Surface: TypeAlias = PopulationSurface | DenseSurface


def first_tiles(index: TileIndex) -> IntArray:
    """Number of the first tile of each span where all tiles lie one after the other, and of all: int64[S + 1]."""
    first = np.zeros(len(index.spans.row) + 1, np.int64)
    np.cumsum(index.spans.col1 - index.spans.col0, out=first[1:], dtype=np.int64)
    return first


def dense_surface(index: TileIndex, persons: NDArray[Any]) -> DenseSurface:
    """The surface of the persons (T,) of `index`'s tiles, span after span."""
    spans, first = index.spans, first_tiles(index)
    people = np.empty(len(spans.row), np.int64)
    col0, col1, begin, persons = (read_only(a) for a in (spans.col0, spans.col1, first[:-1], persons))

    def add_up(low: int, high: int) -> None:
        part = slice(low, high)
        kernel.people_of_spans(col0[part], col1[part], begin[part], persons, people[part])

    in_chunks(add_up, len(people), first)
    return DenseSurface(index.grid, spans, first, persons, people)


def _between(values: IntArray, start: IntArray, end: IntArray) -> IntArray:
    """Sums of consecutive values between offsets."""
    before = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=before[1:])
    return np.asarray(before[end] - before[start])
