"""Worlds and polygons that a reader can check by hand, and slow references for the kernels that index them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg1b.world.content import CountryTable, Polygons, Settlements, World
from seg1b.world.dense_surface import DenseSurface, dense_surface
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface
from seg1b.world.tile_index import CountrySpans, TileIndex

UNIT = 1 << 32
STEPS = 4
"""Lattice steps of a tile axis in tests: corners, centres and quarters of tiles are lattice points."""

Ring = Sequence[tuple[int, int]]
Tiles = set[tuple[int, int]]
IntArray = npt.NDArray[np.int64]


def on_lattice(rings: Iterable[Ring], columns: int) -> tuple[IntArray, IntArray, IntArray]:
    """Vertices (x, y) and ring offsets, in units, of lattice rings; x modulo the world. Rings get closed."""
    closed = [[*ring, ring[0]] for ring in rings]
    x = np.array([v[0] % (columns * STEPS) for ring in closed for v in ring], np.int64) * (UNIT // STEPS)
    y = np.array([v[1] for ring in closed for v in ring], np.int64) * (UNIT // STEPS)
    return x, y, np.cumsum([0, *(len(ring) for ring in closed)]).astype(np.int64)


def tiles_of_spans(spans: npt.NDArray[np.int32]) -> Tiles:
    """The (row, column) pairs in spans; fails if the spans are not ascending and disjoint."""
    listed = [(r, c) for r, a, b in spans.tolist() for c in range(a, b)]
    assert (spans[:, 1] < spans[:, 2]).all()
    assert all(p < q for p, q in pairwise(listed))
    same_row = spans[1:, 0] == spans[:-1, 0]
    assert (spans[1:, 1] > spans[:-1, 2])[same_row].all()
    return set(listed)


def short_way(x0: int, x1: int, width: int) -> int:
    """x1 unwrapped so that the edge from x0 takes the short way round."""
    step = x1 - x0
    return x1 - width if step > width // 2 else x1 + width if step < -(width // 2) else x1


def inside(rings: Iterable[Ring], px: Fraction, py: Fraction, columns: int) -> bool:
    """Even-odd parity of a lattice point, along its meridian from the north pole, in exact fractions.

    The point is moved a little east and much less south, which is what "an edge through it lies west, or north,
    of it" means.
    """
    px += Fraction(1, 10**4)
    py += Fraction(1, 10**9)
    width = columns * STEPS
    parity = False
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            a = x0 % width
            b = short_way(a, x1 % width, width)
            for turn in (-width, 0, width):
                if (a + turn <= px) != (b + turn <= px):
                    parity ^= y0 + (px - a - turn) * (y1 - y0) / (b - a) < py
    return parity


def tiles_inside(rings: Sequence[Ring], columns: int, rows: int) -> Tiles:
    """Tiles whose centre is inside, one by one."""
    half = Fraction(STEPS, 2)
    return {
        (r, c)
        for r in range(rows)
        for c in range(columns)
        if inside(rings, c * STEPS + half, r * STEPS + half, columns)
    }


def box(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    """A ring of degrees."""
    return [(west, south), (east, south), (east, north), (west, north)]


def small_world(
    rings: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    settlements: Sequence[tuple[str, float, float, int]] = (),
    people: Mapping[str, int] | None = None,
) -> World:
    """A world of rings in degrees by country, settlements (country, lon, lat, population) and known people.

    GeoNames ids number the settlements from 1 in the order given.
    """
    iso = tuple(sorted(rings))
    count = len(iso)
    closed = [[*ring, ring[0]] for code in iso for ring in rings[code]]
    vertices = np.array([v for ring in closed for v in ring], np.float64)
    polygons = Polygons(
        vertices[:, 0].copy(),
        vertices[:, 1].copy(),
        np.cumsum([0, *(len(ring) for ring in closed)]).astype(np.int64),
        np.array([k for k, code in enumerate(iso) for _ in rings[code]], np.int16),
    )
    places = sorted((iso.index(s[0]), number + 1, s) for number, s in enumerate(settlements))
    table = CountryTable(
        iso=iso,
        name=iso,
        population=np.array([(people or {}).get(code, 0) for code in iso], np.int64),
        population_source=("test",) * count,
        gdp_per_head=np.full(count, 1000.0),
        gdp_source=("test",) * count,
        area_km2=np.ones(count),
        subregion=("",) * count,
        macro_region=("Africa",) * count,
        eligible=np.ones(count, np.bool_),
        exclusion_reason=("",) * count,
    )
    listed = Settlements(
        lon_e5=np.array([round(s[1] * 1e5) for _, _, s in places], np.int32),
        lat_e5=np.array([round(s[2] * 1e5) for _, _, s in places], np.int32),
        population=np.array([s[3] for _, _, s in places], np.int32),
        country=np.array([c for c, _, _ in places], np.int16),
        geonameid=np.array([g for _, g, _ in places], np.int32),
        name=pa.array([f"place {g}" for _, g, _ in places], pa.string()),
    )
    return World(table, polygons, listed, {}, "0" * 64)


def as_runs(surface: DenseSurface) -> PopulationSurface:
    """The same surface as runs of equal values."""
    parts = [surface.runs_of(country) for country in range(len(surface.start) - 1)]
    start = np.cumsum([0, *(len(part.tile0) for part in parts)]).astype(np.int64)
    return PopulationSurface(
        surface.grid,
        start,
        np.concatenate([part.tile0 for part in parts]),
        np.concatenate([part.length for part in parts]),
        np.concatenate([part.population for part in parts]),
    )


def dense_of(
    grid: Grid, countries: Sequence[Sequence[tuple[int, int, int]]], persons: npt.NDArray[Any]
) -> DenseSurface:
    """A dense surface of spans (row, first column, end) by country and the persons of their tiles."""
    spans = [np.array(sorted(own), np.int32).reshape(-1, 3) for own in countries]
    none = np.empty(0, np.int64)
    index = TileIndex(grid, CountrySpans.from_list(spans), none.astype(np.int16), none)
    return dense_surface(index, persons)


def bits(value: Any) -> str:
    """SHA-256 over every array, type and number of a (nested) dataclass."""
    state = hashlib.sha256()
    _feed(state, value)
    return state.hexdigest()


def _feed(state: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        state.update(f"{value.dtype}{value.shape}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _feed(state, getattr(value, field.name))
    else:
        plain = sorted(value.items()) if isinstance(value, dict) else value
        state.update(repr(plain).encode())
