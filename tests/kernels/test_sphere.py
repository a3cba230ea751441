"""Sine, cosine, arcsine and arcs on the sphere: exact cases, and against libm."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from seg1b.kernels.sphere import (
    EARTH_RADIUS_M,
    arc_m,
    arcsine,
    chord_squared,
    cosines,
    sin_cos,
    unit_vectors,
)

FloatArray = npt.NDArray[np.float64]
QUARTER_M = math.pi / 2 * EARTH_RADIUS_M


def test_sine_and_cosine_of_quarter_turns_are_exact() -> None:
    """Whole quarter turns leave no rounding error, also far from zero."""
    for turns in range(-8, 9):
        expected = [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)][turns % 4]
        sine, cosine = sin_cos(90.0 * turns)
        assert (float(sine), float(cosine)) == expected


def test_sine_cosine_and_arcsine_agree_with_libm_to_the_last_bits() -> None:
    """Within a few units of the last place, part of which is libm's conversion to radians."""
    degrees = np.linspace(-180.0, 180.0, 20011)
    sine, cosine = np.array([sin_cos(angle) for angle in degrees.tolist()]).T
    assert cosines(degrees).tolist() == cosine.tolist()
    assert np.abs(sine - np.sin(np.deg2rad(degrees))).max() < 5e-16
    assert np.abs(cosine - np.cos(np.deg2rad(degrees))).max() < 5e-16
    x = np.linspace(0.0, 1.0, 20011)
    assert np.abs(arcsine(x) - np.arcsin(x)).max() < 5e-16


def test_chords_and_arcs_by_hand() -> None:
    """Nothing, a sixth, a quarter and half of the Earth; beyond half a circumference the chord grows no more."""
    assert arc_m(np.array([0.0, 1.0, 2.0, 4.0, np.inf])) == pytest.approx(
        [0.0, QUARTER_M * 2 / 3, QUARTER_M, 2 * QUARTER_M, 2 * QUARTER_M], rel=1e-15
    )
    assert chord_squared(0.0) == 0.0
    assert chord_squared(QUARTER_M * 2 / 3) == pytest.approx(1.0, rel=1e-14)
    assert chord_squared(QUARTER_M) == pytest.approx(2.0, rel=1e-14)
    assert chord_squared(2 * QUARTER_M) == chord_squared(9 * QUARTER_M) == 4.0


def test_unit_vectors_of_the_axes_are_exact() -> None:
    """The prime meridian, 90 degrees east, both poles at any longitude."""
    got = unit_vectors(np.array([0.0, 90.0, 17.0, -120.0]), np.array([0.0, 0.0, 90.0, -90.0]))
    assert np.abs(got).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert got[3, 2] == -1.0
