"""Distances on the sphere: unit vectors, chords, great circles.

Sine, cosine and arcsine are evaluated here with additions and multiplications in a fixed order (the
polynomials of Sun's fdlibm, error below 1 ulp), not by the platform's libm: a distance has the same bits on
every machine.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, inline, njit, read_only

FloatArray: TypeAlias = npt.NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8

_RADIANS_PER_DEGREE = math.pi / 180.0
_HALF_PI = math.pi / 2.0


@inline
def _sin_polynomial(x: float) -> float:
    z = x * x
    r = 8.33333333332248946124e-03 + z * (
        -1.98412698298579493134e-04
        + z
        * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
    )
    return x + z * x * (-1.66666666666666324348e-01 + z * r)


@inline
def _cos_polynomial(x: float) -> float:
    z = x * x
    r = z * (
        4.16666666666666019037e-02
        + z
        * (
            -1.38888888888741095749e-03
            + z
            * (
                2.48015872894767294178e-05
                + z
                * (
                    -2.75573143513906633035e-07
                    + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)
                )
            )
        )
    )
    half = 0.5 * z
    w = 1.0 - half
    return w + ((1.0 - w) - half + z * r)


@njit
def sin_cos(angle_deg: float) -> tuple[float, float]:
    """(sine, cosine) of an angle in degrees, |angle| <= 1e6; quarter turns are removed exactly, before rounding."""
    quarter = np.rint(angle_deg / 90.0)
    x = (angle_deg - 90.0 * quarter) * _RADIANS_PER_DEGREE
    s, c = _sin_polynomial(x), _cos_polynomial(x)
    turn = np.int64(quarter) & 3
    if turn == 0:
        return s, c
    if turn == 1:
        return c, -s
    if turn == 2:
        return -s, -c
    return -c, s


@njit
def _fill_cosines(angle_deg: Any, cosine: Any) -> None:
    for i in range(angle_deg.shape[0]):
        cosine[i] = sin_cos(angle_deg[i])[1]


def cosines(angle_deg: FloatArray) -> FloatArray:
    """Cosines of angles in degrees, float64[n]."""
    cosine = np.empty(len(angle_deg))
    _fill_cosines(read_only(angle_deg), cosine)
    return cosine


def arcsine(x: FloatArray | float) -> FloatArray:
    """Arcsines in radians of 0 <= x <= 1 (larger values count as 1)."""
    x = np.minimum(x, 1.0)
    small = x < 0.5
    t = np.where(small, x * x, (1.0 - x) * 0.5)
    p = t * (
        1.66666666666666657415e-01
        + t
        * (
            -3.25565818622400915405e-01
            + t
            * (
                2.01212532134862925881e-01
                + t
                * (
                    -4.00555345006794114027e-02
                    + t * (7.91534994289814532176e-04 + t * 3.47933107596021167570e-05)
                )
            )
        )
    )
    q = 1.0 + t * (
        -2.40339491173441421878e00
        + t * (2.02094576023350569471e00 + t * (-6.88283971605453293030e-01 + t * 7.70381505559019352791e-02))
    )
    s = np.sqrt(t)
    return np.where(small, x + x * (p / q), _HALF_PI - 2.0 * (s + s * (p / q)))


@njit
def unit_vector(lon_deg: float, lat_deg: float) -> tuple[float, float, float]:
    """The point on the unit sphere of a longitude and a latitude in degrees."""
    sin_lon, cos_lon = sin_cos(lon_deg)
    sin_lat, cos_lat = sin_cos(lat_deg)
    return cos_lat * cos_lon, cos_lat * sin_lon, sin_lat


@njit
def _fill_vectors(lon_deg: Any, lat_deg: Any, first: int, stop: int, vectors: Any) -> None:
    for i in range(first, stop):
        vectors[i, 0], vectors[i, 1], vectors[i, 2] = unit_vector(lon_deg[i], lat_deg[i])


def unit_vectors(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Points on the unit sphere, float64[n, 3], of longitudes and latitudes in degrees, float64[n] each."""
    vectors = np.empty((len(lon_deg), 3))
    lon_deg, lat_deg = read_only(lon_deg), read_only(lat_deg)
    in_chunks(lambda first, stop: _fill_vectors(lon_deg, lat_deg, first, stop, vectors), len(vectors))
    return vectors


def arc_m(chord_squared: FloatArray) -> FloatArray:
    """Great-circle distances in metres, float64[n], of squared chords on the unit sphere."""
    return 2.0 * arcsine(0.5 * np.sqrt(chord_squared)) * EARTH_RADIUS_M


def chord_squared(distance_m: float) -> float:
    """Squared chord on the unit sphere of a great-circle distance in metres (at most half the
    circumference).
    """
    half_angle_deg = min(distance_m / EARTH_RADIUS_M * 0.5 / _RADIANS_PER_DEGREE, 90.0)
    sine = float(sin_cos(half_angle_deg)[0])
    return 4.0 * sine * sine
