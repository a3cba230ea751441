"""S1's result: which tiles belong to which country, as row spans.

Nothing is kept per tile, and which tiles a border runs through is kept nowhere: it follows from the edges
(`kernels.containment.tiles_on_border`). A country without a tile centre (an atoll, an enclave) gets one *rescue
tile*: the tile with the largest part of the country in it, ties to the smallest id. Its centre may lie abroad.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.kernels import scanline
from seg1b.kernels.containment import EdgeIndex, build_edge_index, tile_overlap_length
from seg1b.world.content import Polygons, World
from seg1b.world.grid import Grid

IntArray = NDArray[np.int64]
SpanArray = NDArray[np.int32]


@dataclass(frozen=True)
class CountrySpans:
    """Row spans [col0, col1) of C countries: `start` has C + 1 offsets, the others S entries each."""

    start: IntArray
    row: SpanArray
    col0: SpanArray
    col1: SpanArray

    @classmethod
    def from_list(cls, spans: list[SpanArray]) -> CountrySpans:
        """Join the (S, 3) arrays of all countries."""
        start = np.zeros(len(spans) + 1, np.int64)
        np.cumsum([len(s) for s in spans], out=start[1:])
        joined = np.concatenate(spans) if spans else np.empty((0, 3), np.int32)
        columns = [np.ascontiguousarray(joined[:, k]) for k in range(3)]
        return cls(start, columns[0], columns[1], columns[2])

    def of(self, country: int) -> tuple[SpanArray, SpanArray, SpanArray]:
        """Row, first column and column after the last of one country's spans."""
        part = slice(self.start[country], self.start[country + 1])
        return self.row[part], self.col0[part], self.col1[part]

    def contains(self, country: NDArray[np.int16], tile_id: IntArray, columns: int) -> NDArray[np.bool_]:
        """Whether each (country, tile) lies in the spans; n queries, n booleans."""
        return scanline.span_lookup(
            self.start, self.row, self.col0, self.col1, country.astype(np.int64), tile_id, columns
        )


@dataclass(frozen=True)
class IntegerPolygons:
    """Country polygons in integer world units: closed rings, `ring_start` (R + 1) offsets, `ring_country` (R,)."""

    x: IntArray
    y: IntArray
    ring_start: IntArray
    ring_country: NDArray[np.int16]

    def of(self, country: int) -> tuple[IntArray, IntArray, IntArray]:
        """Vertices and ring offsets of one country."""
        first, last = np.searchsorted(self.ring_country, [country, country + 1])
        a, b = self.ring_start[first], self.ring_start[last]
        return self.x[a:b], self.y[a:b], self.ring_start[first : last + 1] - a

    def edge_index(self, countries: int, grid: Grid) -> EdgeIndex:
        """The edges of all countries by row of tiles, for exact point-in-country tests."""
        return build_edge_index(
            self.x, self.y, self.ring_start, self.ring_country, countries, grid.ncols, grid.nrows
        )


@dataclass(frozen=True)
class TileIndex:
    """Tiles of every country on one grid: spans, and the countries saved by a rescue tile."""

    grid: Grid
    spans: CountrySpans
    rescue_country: NDArray[np.int16]
    rescue_tile: IntArray

    @cached_property
    def tiles(self) -> IntArray:
        """Number of tiles per country, (C,)."""
        length = (self.spans.col1 - self.spans.col0).astype(np.int64)
        cumulative = np.concatenate(([0], np.cumsum(length)))
        return np.asarray(cumulative[self.spans.start[1:]] - cumulative[self.spans.start[:-1]])

    def area_km2(self) -> NDArray[np.float64]:
        """Area of every country's tiles, (C,) km2."""
        length = (self.spans.col1 - self.spans.col0).astype(np.int64)
        area_cm2 = length * self.grid.row_area_cm2()[self.spans.row]
        cumulative = np.concatenate(([0], np.cumsum(area_cm2)))
        return np.asarray((cumulative[self.spans.start[1:]] - cumulative[self.spans.start[:-1]]) / 1e10)

    def centre_inside(self, country: NDArray[np.int16], tile_id: IntArray) -> NDArray[np.bool_]:
        """Whether each tile's centre lies in the country: true of every tile but the rescue tiles."""
        inside = self.spans.contains(country, tile_id, self.grid.ncols)
        for rescued, tile in zip(self.rescue_country, self.rescue_tile, strict=True):
            inside &= ~((country == rescued) & (tile_id == tile))
        return inside


def integer_polygons(polygons: Polygons, grid: Grid) -> IntegerPolygons:
    """Snap vertices to 2**-32 tile, longitudes modulo 360 degrees.

    The kernels take every edge the short way round. Edges for which that is not what the degrees say get
    intermediate vertices.
    """
    scale = float(grid.tiles_per_degree << 32)
    lon, lat, ring_start = _without_long_edges(polygons)
    x = np.rint((lon + 180.0) * scale).astype(np.int64) % (grid.ncols << 32)
    y = np.rint((90.0 - lat) * scale).astype(np.int64)
    return IntegerPolygons(x, y, ring_start, polygons.ring_country)


def _without_long_edges(polygons: Polygons) -> tuple[NDArray[np.float64], NDArray[np.float64], IntArray]:
    """Vertices and ring offsets, with edges cut into quarters that have no short way round or must not take it.

    The first measure exactly 180 degrees; the second run along the north pole (at the south pole nothing depends
    on it). Both directions of an edge are cut at the same points.
    """
    lon, lat, ring_start = polygons.lon, polygons.lat, polygons.ring_start.astype(np.int64)
    length = np.abs(np.diff(lon))
    length[ring_start[1:-1] - 1] = 0.0
    polar = (lat[:-1] == 90.0) & (lat[1:] == 90.0)
    long = np.flatnonzero((length == 180.0) | (polar & (length > 180.0)))
    if not len(long):
        return lon, lat, ring_start
    eastwards = (lon[long] < lon[long + 1])[:, None]
    west = np.where(eastwards[:, 0], long, long + 1)
    east = 2 * long + 1 - west
    share = np.where(eastwards, [0.25, 0.5, 0.75], [0.75, 0.5, 0.25])
    place = np.repeat(long + 1, 3)
    cut_lon, cut_lat = (v[west][:, None] + (v[east] - v[west])[:, None] * share for v in (lon, lat))
    return (
        np.insert(lon, place, cut_lon.ravel()),
        np.insert(lat, place, cut_lat.ravel()),
        ring_start + 3 * np.searchsorted(long, ring_start),
    )


def build_tile_index(world: World, grid: Grid) -> TileIndex:
    """Index the tiles of every country of `world`.

    Raises InputError E001_GEO_INVALID if a country's rings do not close on a row of tiles, or if no country
    holds a tile.
    """
    polygons = integer_polygons(world.polygons, grid)
    spans: list[SpanArray] = []
    rescued: list[tuple[int, int]] = []
    for country, iso in enumerate(world.countries.iso):
        x, y, ring_start = polygons.of(country)
        found, closed = scanline.polygon_spans(x, y, ring_start, grid.ncols, grid.nrows)
        if not closed:
            raise InputError(
                "E001_GEO_INVALID",
                f"the polygons of {iso} do not close on every row of tiles",
                where=f"country {iso}",
                next_step="repair the geometry (closed rings, no gap at the antimeridian) and rebuild the world",
            )
        if not len(found) and len(x):
            tile = _rescue_tile(x, y, ring_start, grid)
            if tile >= 0:
                rescued.append((country, tile))
                row, column = divmod(tile, grid.ncols)
                found = np.array([[row, column, column + 1]], np.int32)
        spans.append(found)
    if not any(len(found) for found in spans):
        raise _no_tiles(world, grid)
    return TileIndex(
        grid,
        CountrySpans.from_list(spans),
        np.array([c for c, _ in rescued], np.int16),
        np.array([t for _, t in rescued], np.int64),
    )


def _no_tiles(world: World, grid: Grid) -> InputError:
    """What to say of polygons of which nothing is left on the grid."""
    polygons = world.polygons
    degrees = max(float(np.ptp(polygons.lon)), float(np.ptp(polygons.lat))) if len(polygons.lon) else 0.0
    return InputError(
        "E001_GEO_INVALID",
        f"none of the {len(world.countries)} countries holds a tile of {grid.resolution_arcsec} arc-seconds: "
        f"all polygons together span {degrees:.3g} degrees",
        where=str(world.directory / "vertices.parquet") if world.directory else "the world's polygons",
        next_step="give polygons in degrees of EPSG:4326, longitude first, and build the world again",
    )


def _rescue_tile(x: IntArray, y: IntArray, ring_start: IntArray, grid: Grid) -> int:
    """The tile with the largest part of a country that holds no tile centre, or -1 if no tile has any.

    The part is measured as the containment kernel measures it: by the length of 4,096 lines through the tile.
    """
    rings = np.zeros(len(ring_start) - 1, np.int16)
    edges = build_edge_index(x, y, ring_start, rings, 1, grid.ncols, grid.nrows)
    border = scanline.boundary_spans(x, y, ring_start, grid.ncols, grid.nrows)
    if not len(border):
        return -1
    tiles = np.concatenate(
        [row * grid.ncols + np.arange(a, b, dtype=np.int64) for row, a, b in border.tolist()]
    )
    outside = np.zeros(len(tiles), np.bool_)
    length = tile_overlap_length(edges, np.zeros(len(tiles), np.int16), tiles, outside)
    return int(tiles[np.argmax(length)]) if length.max() > 0 else -1
