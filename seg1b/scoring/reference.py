"""What scoring needs to know about a population surface: computed once per surface, used by every seed.

Three things per country: the share of its people within reach of a city, its people per cell of one degree,
and the distribution of its people over tile densities (for the probability integral transform, PIT). All sums
are integers (micro-persons); nothing is held per tile.

"Within reach" asks whether a tile's centre lies within the radius of a settlement: each disc is cut into one
span of columns per row, spans are merged, and the merged spans are intersected with the surface's runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.errors import InputError
from seg1b.kernels.jit import njit
from seg1b.kernels.sphere import EARTH_RADIUS_M
from seg1b.scoring.densities import Densities
from seg1b.world.dense_surface import Surface

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]


class GridLike(Protocol):
    """What is needed of `seg1b.world.grid.Grid`."""

    @property
    def ncols(self) -> int:
        """Tiles along a parallel."""

    @property
    def nrows(self) -> int:
        """Tiles from pole to pole."""

    @property
    def tiles_per_degree(self) -> int:
        """Tiles along one degree."""

    def row_area_cm2(self) -> IntArray:
        """Area of a tile of each row in cm2, int64[nrows]."""

    def tile_of(self, lon: FloatArray, lat: FloatArray) -> IntArray:
        """The tiles in which points stand, int64[n] of float64[n] degrees."""


SurfaceLike: TypeAlias = Surface
"""A population surface in whatever form it is held: runs or dense."""


@dataclass(frozen=True, eq=False)
class SurfaceReference:
    """A named surface as scoring sees it. C countries; populations in micro-persons.

    population int64[C]; near_city int64[C], of them within reach of a city. Cells: country int16[K], cell
    int32[K], people int64[K], sorted by (country, cell), only where people live.
    """

    name: str
    tiles_per_cell: int
    population: IntArray
    near_city: IntArray
    cell_country: npt.NDArray[np.int16]
    cell: npt.NDArray[np.int32]
    cell_people: IntArray
    densities: Densities

    def near_city_share(self) -> FloatArray:
        """Share of each country's people within reach of a city, float64[C]; 0 where nobody lives."""
        return self.near_city / np.maximum(self.population, 1)


def tiles_per_cell(grid: GridLike, cell_deg: float) -> int:
    """Tiles along the edge of a cell of `cell_deg` degrees. Raises InputError E_SCORE_CELL if not a whole
    number.
    """
    tiles = grid.tiles_per_degree * cell_deg
    if tiles < 1 or tiles != int(tiles):
        raise InputError(
            "E_SCORE_CELL",
            f"a cell of {cell_deg!r} degrees is {tiles!r} tiles wide, which is not a whole number",
            where="gates.yaml: counter_metric_parameters.correlation_cell_deg",
            next_step=f"use a multiple of 1/{grid.tiles_per_degree} degree",
        )
    return int(tiles)


def cell_of(tile_id: IntArray, grid: GridLike, edge_tiles: int) -> npt.NDArray[np.int32]:
    """Number of the cell, int32[n], that holds each tile: cells are counted in rows from the north-west."""
    cells_per_row = -(-grid.ncols // edge_tiles)
    row, col = np.divmod(tile_id, grid.ncols)
    cell: npt.NDArray[np.int32] = (row // edge_tiles * cells_per_row + col // edge_tiles).astype(np.int32)
    return cell


def build_reference(
    name: str,
    grid: GridLike,
    surface: SurfaceLike,
    city_lon_deg: FloatArray,
    city_lat_deg: FloatArray,
    radius_km: float,
    cell_deg: float = 1.0,
) -> SurfaceReference:
    """The reference of one surface; cities are the settlements that count as such (degrees, float64 each)."""
    edge = tiles_per_cell(grid, cell_deg)
    cover = disc_spans(grid, city_lon_deg, city_lat_deg, radius_km * 1000.0)
    near_city, cell_country, cell, cell_people = _near_and_cells(grid, surface, edge, *cover)
    population = np.zeros(len(near_city), np.int64)  # everybody lives in a cell
    np.add.at(population, cell_country, cell_people)
    return SurfaceReference(
        name=name,
        tiles_per_cell=edge,
        population=population,
        near_city=near_city,
        cell_country=cell_country,
        cell=cell,
        cell_people=cell_people,
        densities=Densities(surface, grid.row_area_cm2(), grid.ncols),
    )


def _near_and_cells(
    grid: GridLike, surface: SurfaceLike, edge: int, cover_first: IntArray, cover_end: IntArray
) -> tuple[IntArray, npt.NDArray[np.int16], npt.NDArray[np.int32], IntArray]:
    """People of each country in the tiles that the ranges cover; country, cell and people of the cells where people
    live. The runs are gone through once.
    """
    countries = len(surface.start) - 1
    near_city = np.zeros(countries, np.int64)
    per_row = -(-grid.ncols // edge)
    people = np.zeros(per_row * -(-grid.nrows // edge), np.int64)
    country, cell, cell_people = [], [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for c in range(countries):
        rows = [0, -1]  # of cells, the first and the last that the country reaches
        for runs in surface.batches(c):
            first, last = (runs.tile0[[0, -1]] // grid.ncols // edge).tolist()
            rows = [first if rows[1] < 0 else rows[0], last]
            cover_from = int(np.searchsorted(cover_end, runs.tile0[0], side="right"))
            near_city[c] += _covered_people(*runs, cover_first, cover_end, cover_from)
            _cell_people(*runs, grid.ncols, edge, per_row, people)
        band = slice(rows[0] * per_row, (rows[1] + 1) * per_row)
        found = np.flatnonzero(people[band]) + band.start
        country.append(np.full(len(found), c, np.int16))
        cell.append(found.astype(np.int32))
        cell_people.append(people[found])
        people[found] = 0
    return near_city, np.concatenate(country), np.concatenate(cell), np.concatenate(cell_people)


# Discs


def disc_spans(
    grid: GridLike, lon_deg: FloatArray, lat_deg: FloatArray, radius_m: float
) -> tuple[IntArray, IntArray]:
    """Tiles whose centre lies within `radius_m` of any point, as disjoint ascending [first, end) ranges of
    tile ids.
    """
    angle = radius_m / EARTH_RADIUS_M
    rows = 2 * int(math.degrees(angle) * grid.tiles_per_degree) + 3
    first = np.empty(2 * rows * len(lon_deg), np.int64)
    end = np.empty(2 * rows * len(lon_deg), np.int64)
    lon, lat = np.ascontiguousarray(lon_deg, np.float64), np.ascontiguousarray(lat_deg, np.float64)
    spans = _discs(lon, lat, angle, grid.tiles_per_degree, grid.ncols, grid.nrows, first, end)
    return _merged(first[:spans], end[:spans])


@njit
def _half_width_deg(row_lat: float, lat: float, angle: float) -> float:
    """Half the longitude range of a disc on a parallel, by the spherical law of cosines (arguments in
    radians).
    """
    excess = math.cos(angle) - math.sin(row_lat) * math.sin(lat)
    denominator = math.cos(row_lat) * math.cos(lat)
    if excess >= denominator:
        return 0.0
    if excess <= -denominator:
        return 180.0
    return math.degrees(math.acos(excess / denominator))


@njit
def _discs(
    lon_deg: Any, lat_deg: Any, angle: float, per_degree: Any, ncols: Any, nrows: Any, firsts: Any, ends: Any
) -> int:
    """One or, over the antimeridian, two ranges of tiles per disc and row; returns their number."""
    spans = 0
    reach = math.degrees(angle) * per_degree
    for i in range(lon_deg.shape[0]):
        centre = (90.0 - lat_deg[i]) * per_degree - 0.5
        middle = (lon_deg[i] + 180.0) * per_degree - 0.5
        for row in range(
            max(0, int(np.ceil(centre - reach))), min(nrows - 1, int(np.floor(centre + reach))) + 1
        ):
            row_lat = math.radians(90.0 - (row + 0.5) / per_degree)
            half_width = _half_width_deg(row_lat, math.radians(lat_deg[i]), angle) * per_degree
            first = int(np.ceil(middle - half_width))
            end = int(np.floor(middle + half_width)) + 1
            if end - first >= ncols:
                first, end = 0, ncols
            if first < 0:
                first, end = first + ncols, end + ncols
            elif first >= ncols:
                first, end = first - ncols, end - ncols
            firsts[spans] = row * ncols + first
            ends[spans] = row * ncols + min(end, ncols)
            spans += 1
            if end > ncols:
                firsts[spans] = row * ncols
                ends[spans] = row * ncols + end - ncols
                spans += 1
    return spans


def _merged(first: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
    keep = end > first
    first, end = first[keep], end[keep]
    order = np.argsort(first, kind="stable")
    first, end = first[order], np.maximum.accumulate(end[order])
    if not len(first):
        return first, end
    opens = np.concatenate(([True], first[1:] > end[:-1]))
    closes = np.concatenate((opens[1:], [True]))
    return first[opens], end[closes]


@njit
def _covered_people(
    tile0: Any, length: Any, population: Any, cover_first: Any, cover_end: Any, cover_from: Any
) -> Any:
    """Micro-persons in tiles that the ranges cover: ascending runs and ranges are walked together.

    `cover_from`: the first range that ends beyond the first tile.
    """
    people = np.int64(0)
    cover = cover_from
    for run in range(len(tile0)):
        first = tile0[run]
        end = first + length[run]
        while cover < cover_end.shape[0] and cover_end[cover] <= first:
            cover += 1
        k = cover
        while k < cover_first.shape[0] and cover_first[k] < end:
            covered = min(end, cover_end[k]) - max(first, cover_first[k])
            people += covered * population[run]
            k += 1
    return people


# Cells


@njit
def _cell_people(
    tile0: Any, length: Any, population: Any, ncols: Any, edge: Any, per_row: Any, people: Any
) -> None:
    """Add one country's micro-persons to int64[cells]; a run is cut where a cell or a row ends."""
    row_start, row_cell = np.int64(-ncols), np.int64(0)
    cell, cell_end = (
        np.int64(0),
        np.int64(0),
    )  # the cell that the last tile lay in, and where its row of it ends
    tile_before = np.int64(-1)
    for run in range(len(tile0)):
        if population[run] == 0:
            continue
        tile = tile0[run]
        left = np.int64(length[run])
        while left > 0:
            if not row_start <= tile < row_start + ncols:
                row = tile // ncols
                row_start = row * ncols
                row_cell = row // edge * per_row
                cell_end = np.int64(0)
            if not tile_before <= tile < cell_end:
                col = tile - row_start
                cell = row_cell + col // edge
                cell_end = row_start + min(np.int64(ncols), (col // edge + 1) * edge)
            tile_before = tile
            step = min(left, cell_end - tile)
            people[cell] += step * population[run]
            tile += step
            left -= step


def tile_density(people: IntArray, tile_id: IntArray, grid: GridLike) -> FloatArray:
    """Density in micro-persons per cm2, float64[n]: one division of integers, so equal tiles are exactly
    equal.
    """
    return people / grid.row_area_cm2()[tile_id // grid.ncols]
