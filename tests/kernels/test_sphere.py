"""Distances on the sphere: exact cases, brute force, the seam and the poles."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.kernels.sphere import (
    EARTH_RADIUS_M,
    arcsine,
    morton_order,
    nearest_neighbour_m,
    sin_cos_degrees,
    unit_vectors,
    within_distance,
)

FloatArray = npt.NDArray[np.float64]
QUARTER_M = math.pi / 2 * EARTH_RADIUS_M


def array(*values: float) -> FloatArray:
    """Floats as an array."""
    return np.array(values, np.float64)


def brute_force_m(lon: FloatArray, lat: FloatArray) -> FloatArray:
    """Haversine distances of all pairs: another formula than the one under test."""
    a, b = np.deg2rad(lon), np.deg2rad(lat)
    sine = (
        np.sin((b[:, None] - b) / 2) ** 2 + np.cos(b[:, None]) * np.cos(b) * np.sin((a[:, None] - a) / 2) ** 2
    )
    distance: FloatArray = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(1.0, sine)))
    np.fill_diagonal(distance, np.inf)
    return distance


def test_sine_and_cosine_of_quarter_turns_are_exact() -> None:
    """Whole quarter turns leave no rounding error, also far from zero."""
    for turns in range(-8, 9):
        expected = [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)][turns % 4]
        sine, cosine = sin_cos_degrees(90.0 * turns)
        assert (float(sine), float(cosine)) == expected


def test_sine_cosine_and_arcsine_agree_with_libm_to_the_last_bits() -> None:
    """Within a few units of the last place, part of which is libm's conversion to radians."""
    degrees = np.linspace(-180.0, 180.0, 20011)
    sine, cosine = sin_cos_degrees(degrees)
    assert np.abs(sine - np.sin(np.deg2rad(degrees))).max() < 5e-16
    assert np.abs(cosine - np.cos(np.deg2rad(degrees))).max() < 5e-16
    x = np.linspace(0.0, 1.0, 20011)
    assert np.abs(arcsine(x) - np.arcsin(x)).max() < 5e-16


def test_great_circles_that_can_be_checked_by_hand() -> None:
    """A quarter of the Earth, half of it, and nothing."""
    starts, ends = ((0, 0), (0, 0), (0, 90), (179.5, 0)), ((90, 0), (180, 0), (17, 90), (-179.5, 0))
    got = [
        nearest_neighbour_m(array(a[0], b[0]), array(a[1], b[1]))[0]
        for a, b in zip(starts, ends, strict=True)
    ]
    assert got == pytest.approx(
        [QUARTER_M, 2 * QUARTER_M, 0.0, math.pi / 180 * EARTH_RADIUS_M], rel=1e-14, abs=1e-6
    )


def test_three_points_on_the_equator() -> None:
    """At 0, 1 and 3 degrees the neighbours lie 1, 1 and 2 degrees away."""
    degree_m = math.pi / 180 * EARTH_RADIUS_M
    got = nearest_neighbour_m(array(0, 1, 3), array(0, 0, 0))
    assert got == pytest.approx([degree_m, degree_m, 2 * degree_m], rel=1e-14)


def test_neighbours_over_the_antimeridian_and_at_the_pole() -> None:
    """The seam is no wall, and at the pole every longitude is the same place."""
    assert nearest_neighbour_m(array(179.999, -179.999), array(10, 10))[0] < 250.0
    assert nearest_neighbour_m(array(0, 120), array(90, 90)) == pytest.approx([0.0, 0.0], abs=1e-6)
    assert nearest_neighbour_m(array(0, 180), array(-89.9999, -89.9999))[0] < 25.0


def test_the_same_point_twice_is_exactly_zero() -> None:
    """Duplicates must not hide behind rounding."""
    assert nearest_neighbour_m(array(12.3456789, 12.3456789, 50), array(-7.1, -7.1, 0)).tolist()[:2] == [
        0.0,
        0.0,
    ]


@pytest.mark.parametrize("n", [0, 1])
def test_a_neighbour_needs_two_points(n: int) -> None:
    """One point has no neighbour, and 0 would be a lie."""
    with pytest.raises(ValueError, match=f"at least two points, got {n}"):
        nearest_neighbour_m(np.zeros(n), np.zeros(n))


@pytest.mark.parametrize("kind", ["sphere", "seam", "pole", "clusters", "lattice"])
def test_neighbours_equal_brute_force(kind: str) -> None:
    """Every point set, every point: the same distance as comparing all pairs."""
    rng = np.random.default_rng(7)
    n = 700
    lon: FloatArray = rng.uniform(-180, 180, n)
    lat: FloatArray = np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
    if kind == "seam":
        lon = np.asarray((rng.normal(180, 0.5, n) + 180) % 360 - 180, np.float64)
    elif kind == "pole":
        lat = np.asarray(90 - np.abs(rng.normal(0, 0.3, n)), np.float64)
    elif kind == "clusters":
        lon = np.asarray(rng.integers(-3, 3, n) * 50 + rng.normal(0, 0.001, n), np.float64)
        lat = np.asarray(rng.integers(-1, 2, n) * 60.0, np.float64)
    elif kind == "lattice":
        lon = np.asarray(rng.integers(-18, 18, n) * 10.0, np.float64)
        lat = np.asarray(rng.integers(-8, 9, n) * 10.0, np.float64)
    expected = brute_force_m(lon, lat).min(axis=1)
    np.testing.assert_allclose(nearest_neighbour_m(lon, lat), expected, rtol=1e-9, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=2, max_size=60))
def test_order_of_the_points_does_not_matter(points: list[tuple[float, float]]) -> None:
    """Bit for bit the same distance per point, in whatever order the points come."""
    lon, lat = (np.array(column) for column in zip(*points, strict=True))
    order = np.random.default_rng(len(points)).permutation(len(points))
    assert (
        nearest_neighbour_m(lon, lat)[order].tolist() == nearest_neighbour_m(lon[order], lat[order]).tolist()
    )


def test_within_distance_equals_brute_force() -> None:
    """Near or not near, against all pairs, with centres on both sides of the seam."""
    rng = np.random.default_rng(3)
    lon, lat = (rng.normal(180, 1, 900) + 180) % 360 - 180, rng.normal(60, 1, 900)
    centres = slice(0, 25)
    near = within_distance(lon, lat, lon[centres] + 0.01, lat[centres], 10_000.0)
    vectors = unit_vectors(lon, lat) @ unit_vectors(lon[centres] + 0.01, lat[centres]).T
    expected = np.any(np.arccos(np.clip(vectors, -1, 1)) * EARTH_RADIUS_M <= 10_000.0, axis=1)
    assert 0 < np.count_nonzero(expected) < 900
    assert (near == expected).all()


def test_within_distance_includes_the_limit_and_knows_no_centres() -> None:
    """At the centre itself the distance is 0 <= 0; without centres nothing is near."""
    assert within_distance(array(5, 5.1), array(5, 5), array(5), array(5), 0.0).tolist() == [True, False]
    assert within_distance(array(5), array(5), array(), array(), 1e7).tolist() == [False]


def test_morton_order_is_a_permutation_with_ties_by_index() -> None:
    """Equal points keep their order."""
    vectors = unit_vectors(array(1, 0, 1, 0), array(1, 0, 1, 0))
    order = morton_order(vectors).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert order.index(0) + 1 == order.index(2)
    assert order.index(1) + 1 == order.index(3)
