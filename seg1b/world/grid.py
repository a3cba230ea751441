"""Grid arithmetic: tiles, rows, integer coordinates, and the two per-row tables (area, cosine of latitude).

A tile is `resolution_arcsec` seconds wide and high. `tile_id = row * ncols + col`; row 0 touches the north
pole, column 0 starts at longitude -180. Inside a tile each axis has `UNIT` = 2**32 steps, so that a point on
Earth is a pair of integers X = (lon + 180) * D * UNIT (east) and Y = (90 - lat) * D * UNIT (south), D tiles
per degree. Integers decide; degrees are read out with one correctly rounded division.

The per-row tables come from Python integers alone (fixed point, 160 fractional bits), so no libm and no CPU
has a say in them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg1b.errors import InputError

UNIT: Final = 1 << 32
"""Steps of a tile axis."""

WGS84_SEMI_MAJOR_CM: Final = 637_813_700
WGS84_INVERSE_FLATTENING_E9: Final = 298_257_223_563
"""1/f = 298.257223563, as an integer times 1e-9."""

_BITS: Final = 160
_ONE: Final = 1 << _BITS


@dataclass(frozen=True)
class Grid:
    """The global tile grid of one resolution, which must divide a degree (3600 arc-seconds)."""

    resolution_arcsec: int

    def __post_init__(self) -> None:
        if self.resolution_arcsec < 1 or 3600 % self.resolution_arcsec:
            raise InputError(
                "W001",
                f"a resolution of {self.resolution_arcsec} arc-seconds does not divide a degree",
                where="resolution_arcsec",
                next_step="use a divisor of 3600, such as 30, 15, 10 or 3",
            )

    @property
    def tiles_per_degree(self) -> int:
        """Tiles along one degree, D."""
        return 3600 // self.resolution_arcsec

    @property
    def ncols(self) -> int:
        """Tiles along a parallel."""
        return 360 * self.tiles_per_degree

    @property
    def nrows(self) -> int:
        """Tiles from pole to pole."""
        return 180 * self.tiles_per_degree

    @property
    def n_tiles(self) -> int:
        """Tiles on Earth."""
        return self.nrows * self.ncols

    @property
    def unit(self) -> int:
        """Integer steps of a tile axis (2**32)."""
        return UNIT

    @property
    def units_per_degree(self) -> int:
        """Integer steps of one degree, D * 2**32."""
        return self.tiles_per_degree * UNIT

    def to_units(self, lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (X, Y) int64 of coordinates in degrees, rounded to the nearest step.

        Longitude 180 gives X = width (not 0): a polygon's edge along the date line stays on its side. Inverts
        `to_degrees` exactly. Raises `InputError` W002 for coordinates that are not finite or out of range.
        """
        lon_deg, lat_deg = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
        if not ((np.abs(lon_deg) <= 180.0).all() and (np.abs(lat_deg) <= 90.0).all()):
            raise InputError(
                "W002",
                "a coordinate is not finite or outside [-180, 180] x [-90, 90]",
                where="lon, lat",
                next_step="give degrees on WGS84, longitude first",
            )
        scale = float(self.units_per_degree)
        x = np.rint(lon_deg * scale).astype(np.int64) + 180 * self.units_per_degree
        y = 90 * self.units_per_degree - np.rint(lat_deg * scale).astype(np.int64)
        return x, y

    def to_degrees(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (lon, lat) float64 degrees of integer coordinates: one correctly rounded division each."""
        scale = float(self.units_per_degree)
        lon = (np.asarray(x, np.int64) - 180 * self.units_per_degree) / scale
        lat = (90 * self.units_per_degree - np.asarray(y, np.int64)) / scale
        return np.asarray(lon), np.asarray(lat)

    def tile_of(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.int64]:
        """Return the tile ids of points in degrees. A tile owns its northern and western edge.

        Longitude 180 is longitude -180 (column 0); the south pole belongs to the last row.
        """
        x, y = self.to_units(lon, lat)
        col = (x // UNIT) % self.ncols
        row = np.minimum(y // UNIT, self.nrows - 1)
        return np.asarray(row * self.ncols + col)

    def row_col(self, tile_id: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (row, col) int64 of tile ids."""
        row, col = np.divmod(np.asarray(tile_id, np.int64), np.int64(self.ncols))
        return np.asarray(row), np.asarray(col)

    def tile_id(self, row: ArrayLike, col: ArrayLike) -> NDArray[np.int64]:
        """Return the tile ids of rows and columns."""
        return np.asarray(np.asarray(row, np.int64) * self.ncols + np.asarray(col, np.int64))

    def bounds(self, tile_id: ArrayLike) -> tuple[NDArray[np.float64], ...]:
        """Return (west, south, east, north) float64 in degrees of tiles."""
        row, col = self.row_col(tile_id)
        west, north = self.to_degrees(col * UNIT, row * UNIT)
        east, south = self.to_degrees((col + 1) * UNIT, (row + 1) * UNIT)
        return west, south, east, north

    def centroid(self, tile_id: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (lon, lat) float64 in degrees of tile centres."""
        row, col = self.row_col(tile_id)
        return self.to_degrees(col * UNIT + UNIT // 2, row * UNIT + UNIT // 2)

    def row_area_cm2(self) -> NDArray[np.int64]:
        """Return the WGS84 area of one tile of each row in cm2, int64[nrows], read-only.

        Exact area between two parallels and two meridians (engine-contracts.md 10.1), rounded to the nearest
        integer: b^2 * dlon / 2 * (q(north) - q(south)), q(s) = s / (1 - e^2 s^2) + atanh(e s) / e, s =
        sin(lat).
        """
        return _row_tables(self.resolution_arcsec)[0]

    def row_cos_q30(self) -> NDArray[np.int64]:
        """Return 2**30 * cos(latitude of the row's centre), rounded, int64[nrows], read-only."""
        return _row_tables(self.resolution_arcsec)[1]


@functools.lru_cache(maxsize=4)
def _row_tables(resolution_arcsec: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Compute both tables from the equator to the pole by rotating through half a row at a time."""
    grid = Grid(resolution_arcsec)
    half_rows = grid.nrows
    pi = _pi()
    step_sin, step_cos = _sin_cos(pi // (2 * half_rows))
    flattening_top, flattening_bottom = 10**9, WGS84_INVERSE_FLATTENING_E9
    e2_top = flattening_top * (2 * flattening_bottom - flattening_top)
    e2_bottom = flattening_bottom**2
    series = _authalic_coefficients(e2_top, e2_bottom)
    # b^2 * dlon / 2 in cm2, b^2 = a^2 (1 - e^2), dlon = 2 pi / ncols
    scale = WGS84_SEMI_MAJOR_CM**2 * (e2_bottom - e2_top) * pi // (e2_bottom * grid.ncols)

    areas: list[int] = []
    cosines: list[int] = []
    sine, cosine, previous = 0, _ONE, 0
    for half_row in range(1, half_rows + 1):
        sine, cosine = (
            (sine * step_cos + cosine * step_sin) >> _BITS,
            (cosine * step_cos - sine * step_sin) >> _BITS,
        )
        if half_row % 2:
            cosines.append(_rounded(cosine, _BITS - 30))
        else:
            q = _authalic(sine, series)
            areas.append(_rounded(scale * (q - previous), 2 * _BITS))
            previous = q
    return _mirrored(areas), _mirrored(cosines)


def _mirrored(northern: list[int]) -> NDArray[np.int64]:
    """Return the table from north to south of values listed from the equator to the north pole."""
    half = np.array(northern, np.int64)
    table = np.concatenate([half[::-1], half])
    table.setflags(write=False)
    return table


def _rounded(value: int, bits: int) -> int:
    return (value + (1 << (bits - 1))) >> bits


def _authalic_coefficients(e2_top: int, e2_bottom: int) -> list[int]:
    """Return e^(2k) * (1 + 1/(2k+1)) in fixed point, k = 0, 1, ..., until they vanish."""
    coefficients: list[int] = []
    power = _ONE
    while power:
        k = len(coefficients)
        coefficients.append(power + power // (2 * k + 1))
        power = power * e2_top // e2_bottom
    return coefficients


def _authalic(sine: int, coefficients: list[int]) -> int:
    """Return q(s) = s / (1 - e^2 s^2) + atanh(e s) / e = s * sum_k e^(2k) s^(2k) (1 + 1/(2k+1)), Horner."""
    square = (sine * sine) >> _BITS
    total = 0
    for coefficient in reversed(coefficients):
        total = coefficient + ((total * square) >> _BITS)
    return (sine * total) >> _BITS


def _pi() -> int:
    """Return pi in fixed point by Machin's formula, 16 atan(1/5) - 4 atan(1/239)."""
    guard = 32
    return (16 * _arctan_inverse(5, guard) - 4 * _arctan_inverse(239, guard)) >> guard


def _arctan_inverse(n: int, guard: int) -> int:
    power = (_ONE << guard) // n
    total, k = 0, 0
    while power:
        total += (-power if k % 2 else power) // (2 * k + 1)
        power //= n * n
        k += 1
    return total


def _sin_cos(angle: int) -> tuple[int, int]:
    """Return (sin, cos) in fixed point of a small fixed-point angle in radians, by their Taylor series."""
    sine, cosine, term, k = 0, 0, _ONE, 0
    while term:
        signed = -term if k % 4 >= 2 else term
        if k % 2:
            sine += signed
        else:
            cosine += signed
        k += 1
        term = ((term * angle) >> _BITS) // k
    return sine, cosine
