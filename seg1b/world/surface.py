"""The population surface: how many people live in every tile, as runs of equal value along the rows.

People of listed settlements lie round their settlement (`kernels/surface.py`). The rest of a country's people
live scattered, evenly by area, in the inhabited blocks. Their share of the country is bounded below (no
settlement list is that complete) and above: beyond the bound the listed settlements are taken to be undercounted
and are scaled up together. Where no block is inhabited, they live everywhere, evenly by area. A country with
neither settlements nor people has a surface of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels import surface as kernel
from seg1b.kernels.jit import read_only
from seg1b.world.content import World
from seg1b.world.grid import Grid
from seg1b.world.tile_index import TileIndex

IntArray = NDArray[np.int64]

_KM_PER_DEGREE = 111.195
_SUBTILES_SQUARED = 64 * 64


class SurfaceParameters(Protocol):
    """The knobs of the bundled surface, as the S2 policy has them."""

    @property
    def urban_peak_density_per_km2(self) -> float:
        """People per km2 in a settlement's middle."""
        ...

    @property
    def min_radius_km(self) -> float:
        """Smallest radius of a settlement."""
        ...

    @property
    def rural_share_min(self) -> float:
        """Least share of people who live scattered."""
        ...

    @property
    def rural_share_max(self) -> float:
        """Largest such share."""
        ...

    @property
    def rural_block_tiles(self) -> int:
        """Edge of an inhabited block, in tiles."""
        ...

    @property
    def rural_halo_blocks(self) -> int:
        """Blocks around a settled block that are inhabited too."""
        ...


class Runs(NamedTuple):
    """Runs of a country: `tile0` int64[n] first tile ids, `length` int32[n] tiles, `population` int64[n] of each."""

    tile0: IntArray
    length: NDArray[np.int32]
    population: IntArray


@dataclass(frozen=True)
class PopulationSurface:
    """Runs of micro-persons per tile, row-major within a country, covering all its tiles, the empty ones too.

    `start`: C + 1 offsets; `tile0` (N,) first tile ids, `length` (N,) tiles, `population` (N,) micro-persons.
    """

    grid: Grid
    start: IntArray
    tile0: IntArray
    length: NDArray[np.int32]
    population: IntArray

    def population_at(self, country: NDArray[np.int16], tile_id: IntArray) -> IntArray:
        """Micro-persons of each (country, tile); 0 where the country has no such tile. n queries, n values."""
        run = kernel.run_lookup(
            self.start, self.tile0, self.length, country.astype(np.int64), read_only(tile_id)
        )
        return np.where(run >= 0, self.population[np.maximum(run, 0)], 0)

    @cached_property
    def totals(self) -> IntArray:
        """Micro-persons per country, (C,)."""
        cumulative = self._cumulative
        return np.asarray(cumulative[self.start[1:]] - cumulative[self.start[:-1]])

    @cached_property
    def _cumulative(self) -> IntArray:
        """Micro-persons before each run, (N + 1,)."""
        cumulative = np.zeros(len(self.tile0) + 1, np.int64)
        np.cumsum(self.population * self.length, out=cumulative[1:])
        return cumulative

    def batches(self, country: int) -> Iterator[Runs]:
        """One country's runs, row by row; nothing for a country without tiles."""
        part = slice(int(self.start[country]), int(self.start[country + 1]))
        if part.start < part.stop:
            yield Runs(self.tile0[part], self.length[part], self.population[part])

    def runs_of(self, country: int) -> Runs:
        """All of one country's runs."""
        part = slice(int(self.start[country]), int(self.start[country + 1]))
        return Runs(self.tile0[part], self.length[part], self.population[part])

    def tiles_of(self, country: int) -> tuple[IntArray, NDArray[np.int32]]:
        """One country's tiles, whoever lives there: first tile ids and numbers of tiles, row by row."""
        return self.runs_of(country)[:2]

    def southern_share(self) -> NDArray[np.float64]:
        """Share of each country's people south of the equator, (C,); by area where nobody lives."""
        equator = self.grid.nrows // 2 * self.grid.ncols
        shares = []
        for country in range(len(self.start) - 1):
            first, last = int(self.start[country]), int(self.start[country + 1])
            south = first + int(np.searchsorted(self.tile0[first:last], equator))
            if self.totals[country]:
                total, southern = self.totals[country], self._cumulative[last] - self._cumulative[south]
            else:
                row = self.tile0[first:last] // self.grid.ncols
                area = self.grid.row_area_cm2()[row] * self.length[first:last]
                total, southern = area.sum(), area[south - first :].sum()
            shares.append(int(southern) / int(total) if total else 0.0)
        return np.array(shares)


def settlement_coordinates(world: World, grid: Grid) -> tuple[IntArray, IntArray]:
    """Settlements in integer world units, exactly: x, y (n,) int64."""
    settlements = world.settlements
    x = _units(settlements.lon_e5.astype(np.int64) + 18_000_000, grid)
    y = _units(9_000_000 - settlements.lat_e5.astype(np.int64), grid)
    return x % (grid.ncols << 32), np.clip(y, 0, (grid.nrows << 32) - 1)


def _units(angle_e5: IntArray, grid: Grid) -> IntArray:
    """Angles in 1e-5 degrees in units, rounded down; the product is split, for it may exceed 64 bits."""
    degree = (
        grid.tiles_per_degree << 27
    )  # one degree is tiles_per_degree * 2**32 = degree * 10**5 / 3125 units
    quotient, rest = np.divmod(angle_e5, np.int64(3125))
    return np.asarray(quotient * degree + rest * degree // 3125)


def build_surface(world: World, index: TileIndex, policy: SurfaceParameters) -> PopulationSurface:
    """The bundled population surface on `index`'s tiles."""
    grid = index.grid
    x, y = settlement_coordinates(world, grid)
    countries = len(world.countries.iso)
    settlement_start = np.searchsorted(world.settlements.country, np.arange(countries + 1))
    block = policy.rural_block_tiles
    inhabited = np.zeros((-(-grid.nrows // block), -(-grid.ncols // block)), np.bool_)
    parts = []
    for country in range(countries):
        part = slice(settlement_start[country], settlement_start[country + 1])
        people = world.settlements.population[part].astype(np.int64)
        known = int(world.countries.population[country])
        parts.append(_country_runs(x[part], y[part], people, known, country, index, policy, inhabited))
    start = np.zeros(countries + 1, np.int64)
    np.cumsum([len(p[0]) for p in parts], out=start[1:])
    return PopulationSurface(
        grid,
        start,
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
    )


def rural_people(settled: int, known: int, policy: SurfaceParameters) -> int:
    """Persons of a country that live scattered, of `known` people with `settled` in listed settlements."""
    if settled == 0:
        return known
    least = math.ceil(settled * policy.rural_share_min / (1.0 - policy.rural_share_min))
    most = math.floor(known * policy.rural_share_max)
    return max(least, min(known - settled, most))


def _country_runs(
    x: IntArray,
    y: IntArray,
    people: IntArray,
    known: int,
    country: int,
    index: TileIndex,
    policy: SurfaceParameters,
    inhabited: NDArray[np.bool_],
) -> tuple[IntArray, NDArray[np.int32], IntArray]:
    """One country's runs; `inhabited` are the blocks of the whole grid, all False before and after."""
    grid = index.grid
    row, col0, col1 = index.spans.of(country)
    if not len(row):
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    tiles_per_km = grid.tiles_per_degree / _KM_PER_DEGREE
    squared_subtiles_per_km2 = _SUBTILES_SQUARED * (tiles_per_km * tiles_per_km)
    scattered = rural_people(int(people.sum()), known, policy)
    listed = int(people.sum())
    if listed:
        people = np.floor(people * (max(known - scattered, listed) / listed)).astype(np.int64)
    tiles, values = kernel.settlement_contributions(
        x, y, people,
        int(policy.min_radius_km * policy.min_radius_km * squared_subtiles_per_km2),
        2.0 / (math.pi * policy.urban_peak_density_per_km2) * squared_subtiles_per_km2,
        row, col0, col1, grid.ncols, grid.row_cos_q30(),
    )  # fmt: skip
    tiles, values = kernel.merge_by_tile(tiles, values)
    block = policy.rural_block_tiles
    kernel.mark_inhabited_blocks(x, y, block, policy.rural_halo_blocks, inhabited)
    area = kernel.inhabited_area(row, col0, col1, inhabited, block, grid.row_area_cm2())
    everywhere = scattered > 0 and not area
    if everywhere:
        inhabited[:] = True
        area = kernel.inhabited_area(row, col0, col1, inhabited, block, grid.row_area_cm2())
    first, last = int(row[0]), int(row[-1]) + 1
    rural_micro = np.zeros(grid.nrows, np.int64)
    if scattered:
        per_cm2 = scattered * kernel.MICRO / area
        rural_micro[first:last] = np.floor(grid.row_area_cm2()[first:last] * per_cm2).astype(np.int64)
    runs = kernel.population_runs(row, col0, col1, tiles, values, rural_micro, inhabited, block, grid.ncols)
    if everywhere:
        inhabited[:] = False
    elif len(y):
        rows = (np.array([y.min(), y.max()]) >> 32) // block + [
            -policy.rural_halo_blocks,
            policy.rural_halo_blocks + 1,
        ]
        inhabited[max(int(rows[0]), 0) : int(rows[1])] = False
    return runs
