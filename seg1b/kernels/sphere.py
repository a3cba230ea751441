"""Distances on the sphere: unit vectors, chords, great circles.

Sine, cosine and arcsine are evaluated here with additions and multiplications in a fixed order (the
polynomials of Sun's fdlibm, error below 1 ulp), not by the platform's libm: a distance has the same bits on
every machine.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8

_RADIANS_PER_DEGREE = math.pi / 180.0
_HALF_PI = math.pi / 2.0


def _sin_polynomial(x: FloatArray) -> FloatArray:
    z = x * x
    r = 8.33333333332248946124e-03 + z * (
        -1.98412698298579493134e-04
        + z
        * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
    )
    return x + z * x * (-1.66666666666666324348e-01 + z * r)


def _cos_polynomial(x: FloatArray) -> FloatArray:
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


def sin_cos_degrees(angle_deg: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """(sine, cosine) of angles in degrees, |angle| <= 1e6; quarter turns are removed exactly, before rounding."""
    quarter = np.rint(np.asarray(angle_deg) / 90.0)
    x = (angle_deg - 90.0 * quarter) * _RADIANS_PER_DEGREE
    s, c = _sin_polynomial(x), _cos_polynomial(x)
    turn = quarter.astype(np.int64) & 3
    sine, cosine = np.where(turn % 2 == 0, s, c), np.where(turn % 2 == 0, c, s)
    return np.where(turn >= 2, -sine, sine), np.where((turn == 1) | (turn == 2), -cosine, cosine)


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


def unit_vectors(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Points on the unit sphere, float64[n, 3], of longitudes and latitudes in degrees, float64[n] each."""
    sin_lon, cos_lon = sin_cos_degrees(lon_deg)
    sin_lat, cos_lat = sin_cos_degrees(lat_deg)
    return np.stack((cos_lat * cos_lon, cos_lat * sin_lon, sin_lat), axis=1)


def arc_m(chord_squared: FloatArray) -> FloatArray:
    """Great-circle distances in metres, float64[n], of squared chords on the unit sphere."""
    return 2.0 * arcsine(0.5 * np.sqrt(chord_squared)) * EARTH_RADIUS_M


def chord_squared(distance_m: float) -> float:
    """Squared chord on the unit sphere of a great-circle distance in metres (at most half the
    circumference).
    """
    half_angle_deg = min(distance_m / EARTH_RADIUS_M * 0.5 / _RADIANS_PER_DEGREE, 90.0)
    sine = float(sin_cos_degrees(half_angle_deg)[0])
    return 4.0 * sine * sine
