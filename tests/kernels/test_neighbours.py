"""Neighbours and centres: exact cases, brute force bit for bit, one tree against bands, any thread count."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seg1b.kernels.neighbours import POINTS_AT_ONCE, Neighbourhood, nearest_neighbour_m, neighbourhood
from seg1b.kernels.point_tree import LEAF_SIZE, morton_order
from seg1b.kernels.sphere import EARTH_RADIUS_M, arc_m, chord_squared, unit_vectors

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Points = tuple[FloatArray, FloatArray]

QUARTER_M = math.pi / 2 * EARTH_RADIUS_M
DEGREE_M = math.pi / 180 * EARTH_RADIUS_M
NOTHING: FloatArray = np.empty(0)
KINDS = ("sphere", "seam", "pole", "both poles", "clusters", "lattice", "duplicates", "isolated", "one step")
BANDS = (1, 7, 50, 300)


def array(*values: float) -> FloatArray:
    """Floats as an array."""
    return np.array(values, np.float64)


def wrapped(lon: FloatArray) -> FloatArray:
    """Longitudes between -180 and 180."""
    return np.asarray((lon + 180.0) % 360.0 - 180.0, np.float64)


def some_points(kind: str, n: int = 700) -> Points:
    """n points of a kind, in no order."""
    rng = np.random.default_rng(7)
    lon: FloatArray = rng.uniform(-180, 180, n)
    lat: FloatArray = np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
    if kind == "seam":
        lon = wrapped(rng.normal(180, 0.5, n))
    elif kind == "pole":
        lat = np.asarray(90 - np.abs(rng.normal(0, 0.3, n)), np.float64)
    elif kind == "both poles":  # within metres of a pole, at any longitude
        lat = np.asarray(rng.choice(array(-1.0, 1.0), n) * (90 - np.abs(rng.normal(0, 1e-4, n))), np.float64)
    elif kind == "clusters":
        lon = np.asarray(rng.integers(-3, 3, n) * 50 + rng.normal(0, 0.001, n), np.float64)
        lat = np.asarray(rng.integers(-1, 2, n) * 60.0, np.float64)
    elif kind == "lattice":
        lon = np.asarray(rng.integers(-18, 18, n) * 10.0, np.float64)
        lat = np.asarray(rng.integers(-8, 9, n) * 10.0, np.float64)
    elif kind == "duplicates":
        lon, lat = np.repeat(lon[: n // 2], 2), np.repeat(lat[: n // 2], 2)
    elif kind == "isolated":  # a town of points, and a few far from it and from each other
        lon, lat = rng.normal(10, 0.01, n), rng.normal(50, 0.01, n)
        lon[::70], lat[::70] = rng.uniform(-180, 180, 10), rng.uniform(-90, 90, 10)
    elif kind == "one step":
        lat = np.full(n, 12.34)
    return lon, lat


def distances_m(points: Points, at_once: int = POINTS_AT_ONCE) -> FloatArray:
    """Distance of each point to the nearest other."""
    return neighbourhood(*points, NOTHING, NOTHING, 0.0, at_once).distance_m


def haversine_m(lon: FloatArray, lat: FloatArray) -> FloatArray:
    """Distances of all pairs by another formula than the one under test."""
    a, b = np.deg2rad(lon), np.deg2rad(lat)
    sine = (
        np.sin((b[:, None] - b) / 2) ** 2 + np.cos(b[:, None]) * np.cos(b) * np.sin((a[:, None] - a) / 2) ** 2
    )
    distance: FloatArray = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(1.0, sine)))
    np.fill_diagonal(distance, np.inf)
    return distance


def chords_squared(points: Points, others: Points) -> FloatArray:
    """Squared chords of all pairs, in the same arithmetic as the kernels."""
    d = unit_vectors(*points)[:, None, :] - unit_vectors(*others)[None, :, :]
    chords: FloatArray = d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1] + d[..., 2] * d[..., 2]
    return chords


def brute_force_m(points: Points) -> FloatArray:
    """The distance that comparing all pairs gives, to the last bit."""
    chords = chords_squared(points, points)
    np.fill_diagonal(chords, np.inf)
    return arc_m(chords.min(axis=1))


def near_by_brute_force(points: Points, centres: Points, radius_m: float) -> BoolArray:
    """Which points are near a centre, comparing all pairs."""
    chords = chords_squared(points, centres)
    near: BoolArray = chords.min(axis=1, initial=np.inf) <= chord_squared(radius_m)
    return near


def test_great_circles_that_can_be_checked_by_hand() -> None:
    """A quarter of the Earth, half of it, and nothing."""
    starts, ends = ((0, 0), (0, 0), (0, 90), (179.5, 0)), ((90, 0), (180, 0), (17, 90), (-179.5, 0))
    got = [
        nearest_neighbour_m(array(a[0], b[0]), array(a[1], b[1]))[0]
        for a, b in zip(starts, ends, strict=True)
    ]
    assert got == pytest.approx([QUARTER_M, 2 * QUARTER_M, 0.0, DEGREE_M], rel=1e-14, abs=1e-6)


@pytest.mark.parametrize("at_once", [1, 2, POINTS_AT_ONCE])
def test_three_points_on_the_equator(at_once: int) -> None:
    """At 0, 1 and 3 degrees the neighbours lie 1, 1 and 2 degrees away."""
    got = distances_m((array(0, 1, 3), array(0, 0, 0)), at_once)
    assert got == pytest.approx([DEGREE_M, DEGREE_M, 2 * DEGREE_M], rel=1e-14)


def test_neighbours_over_the_antimeridian_and_at_the_pole() -> None:
    """The seam is no wall, and at the pole every longitude is the same place."""
    assert nearest_neighbour_m(array(179.999, -179.999), array(10, 10))[0] < 250.0
    assert nearest_neighbour_m(array(0, 120), array(90, 90)) == pytest.approx([0.0, 0.0], abs=1e-6)
    assert nearest_neighbour_m(array(0, 180), array(-89.9999, -89.9999))[0] < 25.0


def test_the_same_point_twice_is_exactly_zero() -> None:
    """Duplicates must not hide behind rounding."""
    points = array(12.3456789, 12.3456789, 50), array(-7.1, -7.1, 0)
    for at_once in (1, POINTS_AT_ONCE):
        assert distances_m(points, at_once).tolist()[:2] == [0.0, 0.0]


@pytest.mark.parametrize("n", [0, 1])
def test_a_neighbour_needs_two_points(n: int) -> None:
    """One point has no neighbour, and 0 would be a lie."""
    with pytest.raises(ValueError, match=f"at least two points, got {n}"):
        nearest_neighbour_m(np.zeros(n), np.zeros(n))


def test_no_point_and_one_point_have_a_neighbourhood() -> None:
    """Nothing for no point; for one, half the circumference and whether a centre is near."""
    none = neighbourhood(NOTHING, NOTHING, array(0), array(0), 1.0)
    assert (len(none.distance_m), len(none.near_centre)) == (0, 0)
    one = neighbourhood(array(5), array(5), array(5.001), array(5), 1000.0)
    assert one.distance_m == pytest.approx([2 * QUARTER_M])
    assert one.near_centre.tolist() == [True]


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_equal_brute_force(kind: str) -> None:
    """Every point set, every point: the same distance as comparing all pairs, by two formulas."""
    points = some_points(kind)
    got = distances_m(points)
    np.testing.assert_allclose(got, haversine_m(*points).min(axis=1), rtol=1e-9, atol=1e-6)
    assert got.tobytes() == brute_force_m(points).tobytes()


@pytest.mark.parametrize("at_once", BANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_bands_equal_one_tree(kind: str, at_once: int) -> None:
    """However few points are in a tree at a time, every bit is the same."""
    points = some_points(kind)
    centres = points[0][:9] + 0.01, np.clip(points[1][:9] + 0.01, -90, 90)
    one = neighbourhood(*points, *centres, 30_000.0)
    bands = neighbourhood(*points, *centres, 30_000.0, at_once)
    assert bands.distance_m.tobytes() == one.distance_m.tobytes()
    assert bands.near_centre.tobytes() == one.near_centre.tobytes()


FAR_APART: dict[str, Points] = {
    "two points, a quarter of the Earth": (array(0, 90), array(0, 0)),
    "two antipodes": (array(0, 180), array(30, -30)),
    "both poles": (array(0, 0), array(90, -90)),
    "over the antimeridian": (array(170, -165, 100), array(3, 4, 3)),
    "over the antimeridian, exactly on it": (array(180, -180, 179.9, -179.9), array(10, 20, 30, 40)),
    "over the north pole": (array(10, -170, 100), array(80, 80, 10)),
    "over the south pole": (array(0, 120, 0), array(-85, -85, -60)),
    "next to the pole and far from it": (array(40, -140, -140), array(89.999, 75, 74.9)),
    "a circle that just misses the pole": (array(0, 90, 45), array(60, 60, 89.9)),
    "at a high latitude, a quarter of the turn away": (array(0, 90, 200), array(85, 85, -85)),
    "just above and below a step": (array(0, 0, 0), array(0.05, 0.1, 0.0)),
    "a hair more than a step": (array(0, 0, 0), array(0.0499999, 0.1000001, 5)),
    "longitudes from 0 to 360": (array(190, 195, 191), array(0, 0, 1)),
    "one whole degree": (array(-180, -179, 179), array(-90, -89, -88)),
}


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("points", FAR_APART.values(), ids=FAR_APART)
def test_neighbours_that_no_band_sees(points: Points, at_once: int) -> None:
    """Points whose neighbour is many steps of latitude, or half the world, away."""
    assert distances_m(points, at_once).tobytes() == brute_force_m(points).tobytes()


def test_each_point_is_looked_for_in_all_cells_that_may_hold_it() -> None:
    """Five hundred random handfuls, from a hand's breadth to half the globe, at poles, seam and on round degrees."""
    rng = np.random.default_rng(11)
    round_lon, round_lat = (
        array(-180, 180, 179.95, -179.95, 0, 90),
        array(-90, 90, 89.95, -89.95, 0, 89, -89, 0.05),
    )
    for _ in range(500):
        n = int(rng.integers(2, 20))
        spread = 10.0 ** rng.uniform(-5, 1.5)
        centre = rng.choice(array(-90.0, 0.0, 90.0, 89.0))
        lat = np.clip(centre + rng.normal(0, spread, n), -90, 90)
        lon = wrapped(rng.choice(array(0.0, 180.0)) + rng.normal(0, spread, n) * rng.choice(array(1.0, 30.0)))
        lon = np.where(rng.random(n) < 0.2, rng.choice(round_lon, n), lon)
        lat = np.where(rng.random(n) < 0.2, rng.choice(round_lat, n), lat)
        at_once = int(rng.integers(1, n))
        expected = brute_force_m((lon, lat))
        assert distances_m((lon, lat), at_once).tobytes() == expected.tobytes(), (lon, lat, at_once)


PLACES = st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=2, max_size=40)


@settings(max_examples=60)
@given(PLACES, st.integers(1, 40))
@example([(0.0, 90.0), (180.0, 89.0), (-180.0, 89.5)], 1)
@example([(180.0, 0.0), (-180.0, 0.0)], 1)
def test_any_points_in_any_bands_equal_brute_force(places: list[tuple[float, float]], at_once: int) -> None:
    """Bit for bit, with a few centres among them."""
    lon, lat = (np.array(column) for column in zip(*places, strict=True))
    got = neighbourhood(lon, lat, lon[:2], lat[:2], 500_000.0, at_once)
    assert got.distance_m.tobytes() == brute_force_m((lon, lat)).tobytes()
    assert got.near_centre.tolist() == near_by_brute_force((lon, lat), (lon[:2], lat[:2]), 5e5).tolist()


@settings(max_examples=40)
@given(PLACES, st.sampled_from([1, 5, POINTS_AT_ONCE]))
def test_order_of_the_points_does_not_matter(places: list[tuple[float, float]], at_once: int) -> None:
    """Bit for bit the same distance per point, in whatever order the points come."""
    lon, lat = (np.array(column) for column in zip(*places, strict=True))
    order = np.random.default_rng(len(places)).permutation(len(places))
    shuffled = distances_m((lon[order], lat[order]), at_once)
    assert distances_m((lon, lat), at_once)[order].tolist() == shuffled.tolist()


# Centres


def test_near_a_centre_equals_brute_force() -> None:
    """Near or not near, against all pairs by another formula, with centres on both sides of the seam."""
    rng = np.random.default_rng(3)
    lon, lat = wrapped(rng.normal(180, 1, 900)), rng.normal(60, 1, 900)
    centres = wrapped(lon[:25] + 0.01), lat[:25]
    assert (centres[0] > 179).any()
    assert (centres[0] < -179).any()
    cosines = unit_vectors(lon, lat) @ unit_vectors(*centres).T
    expected = np.any(np.arccos(np.clip(cosines, -1, 1)) * EARTH_RADIUS_M <= 10_000.0, axis=1)
    assert 0 < np.count_nonzero(expected) < 900
    for at_once in (50, POINTS_AT_ONCE):
        near = neighbourhood(lon, lat, *centres, 10_000.0, at_once).near_centre
        assert (near == expected).all()


def test_the_limit_is_near_and_without_centres_nothing_is() -> None:
    """At the centre itself the distance is 0 <= 0; just inside a limit counts, just outside does not."""
    lon, lat = array(5, 5.1), array(5, 5)
    assert neighbourhood(lon, lat, array(5), array(5), 0.0).near_centre.tolist() == [True, False]
    assert neighbourhood(lon, lat, NOTHING, NOTHING, 1e7).near_centre.tolist() == [False, False]
    along, equator = np.linspace(0, 3, 301), np.zeros(301)
    for radius_m, last in ((DEGREE_M * (1 + 1e-12), 100), (DEGREE_M * (1 - 1e-12), 99)):
        near = neighbourhood(along, equator, array(0), array(0), radius_m).near_centre
        assert np.flatnonzero(near).tolist() == list(range(last + 1))


def test_a_distance_of_exactly_the_limit_is_near() -> None:
    """Limits taken from the distances themselves: the squared chord that a limit gives decides, <= and no less."""
    rng = np.random.default_rng(4)
    points = rng.uniform(-1, 1, 400), rng.uniform(-1, 1, 400)
    centre = array(0.1), array(0.2)
    chords = chords_squared(points, centre)[:, 0]
    reached = 0
    for own_m in arc_m(chords)[:40].tolist():
        limit = chord_squared(own_m)
        reached += int((chords == limit).any())
        near = neighbourhood(*points, *centre, own_m).near_centre
        assert near.tolist() == (chords <= limit).tolist()
    assert reached > 0  # for some limits a point's chord is the limit's to the last bit


def test_whole_subtrees_that_are_near_or_far() -> None:
    """So many points that boxes are judged as a whole: in the middle of a disc, far from it, and on its rim."""
    rng = np.random.default_rng(5)
    n = 9 * 1024 * LEAF_SIZE // 4
    lon = np.concatenate((rng.normal(10, 0.02, n), rng.normal(60, 0.02, n), rng.normal(10.285, 0.02, n)))
    lat = np.concatenate((rng.normal(50, 0.02, n), rng.normal(-20, 0.02, n), rng.normal(50, 0.02, n)))
    centres = array(10, 10.01, -100), array(50, 50, 40)
    assert len(lon) > 2 * 1024 * LEAF_SIZE
    near = neighbourhood(lon, lat, *centres, 20_000.0).near_centre
    assert (near == near_by_brute_force((lon, lat), centres, 20_000.0)).all()
    assert near[:n].all()
    assert not near[n : 2 * n].any()
    assert 0.2 < near[2 * n :].mean() < 0.8


def test_many_centres_around_many_points() -> None:
    """More centres than a leaf holds; also all near, and none near."""
    rng = np.random.default_rng(6)
    lon, lat = wrapped(rng.normal(180, 2, 12_000)), np.clip(rng.normal(88, 2, 12_000), -90, 90)
    centres = wrapped(rng.normal(180, 2, 150)), np.clip(rng.normal(88, 2, 150), -90, 90)
    for radius_m in (0.0, 1500.0, 2e7):
        near = neighbourhood(lon, lat, *centres, radius_m, 5000).near_centre
        assert (near == near_by_brute_force((lon, lat), centres, radius_m)).all()
    assert near.all()
    far = array(0.0), array(-60.0)
    assert not neighbourhood(lon, lat, *far, 1e6).near_centre.any()


# Threads and order


@pytest.mark.parametrize("at_once", [50, POINTS_AT_ONCE])
@pytest.mark.parametrize("kind", ["sphere", "isolated", "seam"])
def test_any_number_of_threads_gives_the_same_bytes(
    kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two, three or many threads."""
    points = some_points(kind)
    centres = points[0][:20], points[1][:20]
    found: list[Neighbourhood] = []
    for threads in (1, 2, 3, 8):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        found.append(neighbourhood(*points, *centres, 50_000.0, at_once))
    assert len({one.distance_m.tobytes() for one in found}) == 1
    assert len({one.near_centre.tobytes() for one in found}) == 1


def test_morton_order_is_a_permutation_that_keeps_equal_points_together() -> None:
    """Which of two equal points comes first decides nothing."""
    vectors = unit_vectors(array(1, 0, 1, 0), array(1, 0, 1, 0))
    order = morton_order(vectors).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset((0, 2)), frozenset((1, 3))}
