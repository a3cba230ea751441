"""Points in countries: exact against whole-polygon parity, in line with shapely, however rings are given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.kernels.containment import (
    TILE,
    EdgeIndex,
    build_edge_index,
    points_in_country,
    tile_overlap_length,
)

Ring = list[tuple[int, int]]
NCOLS, NROWS = 16, 8
WORLD = NCOLS * TILE


def index_of(rings: list[Ring], countries: list[int] | None = None) -> EdgeIndex:
    """Edge index of rings on the small grid."""
    x = np.array([v[0] for ring in rings for v in ring], dtype=np.int64)
    y = np.array([v[1] for ring in rings for v in ring], dtype=np.int64)
    start = np.cumsum([0] + [len(ring) for ring in rings]).astype(np.int64)
    owner = np.array(countries or [0] * len(rings), dtype=np.int16)
    return build_edge_index(x, y, start, owner, int(owner.max()) + 1, NCOLS, NROWS)


def parity(rings: list[Ring], px: int, py: int) -> bool:
    """The even-odd rule on whole rings, in big integers: edges across y = py that meet it at x* <= px."""
    inside = False
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
            if (y0 <= py) != (y1 <= py):
                side = (py - y0) * (x1 - x0) - (px - x0) * (y1 - y0)
                inside ^= (side if y1 > y0 else -side) <= 0
    return inside


def tiles_of(points: Ring) -> npt.NDArray[np.int64]:
    """Tile ids of points."""
    return np.array([(y >> 32) * NCOLS + (x % WORLD >> 32) for x, y in points], dtype=np.int64)


def centres_inside(rings: list[Ring], points: Ring) -> npt.NDArray[np.bool_]:
    """Parity of the centres of the points' tiles."""
    half = TILE // 2
    return np.array([parity(rings, (x >> 32 << 32) + half, (y >> 32 << 32) + half) for x, y in points])


def local_answers(index: EdgeIndex, points: Ring, centres: npt.NDArray[np.bool_]) -> list[bool]:
    """The tile-local test."""
    x = np.array([p[0] % WORLD for p in points], dtype=np.int64)
    y = np.array([p[1] for p in points], dtype=np.int64)
    country = np.zeros(len(points), dtype=np.int16)
    return [bool(b) for b in points_in_country(index, country, tiles_of(points), centres, x, y)]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Ring], Ring]:
    """Rings and points on a lattice of quarter tiles, half tiles or units: coarse ones force every tie."""
    step = draw(st.sampled_from([TILE // 4, TILE // 2, 1]))
    coordinate = st.integers(0, 7 * TILE // step).map(lambda k: k * step)
    vertex = st.tuples(coordinate, coordinate)
    rings = draw(st.lists(st.lists(vertex, min_size=3, max_size=8), min_size=1, max_size=3))
    points = draw(st.lists(vertex, min_size=1, max_size=20))
    return rings, points


@settings(max_examples=400)
@given(scenes())
def test_the_local_test_equals_whole_polygon_parity(scene: tuple[list[Ring], Ring]) -> None:
    """Self-crossing rings, holes, vertices on centres, points on edges: always the same answer."""
    rings, points = scene
    expected = [parity(rings, x, y) for x, y in points]
    assert local_answers(index_of(rings), points, centres_inside(rings, points)) == expected


@settings(max_examples=100)
@given(scenes(), st.integers(0, 7), st.booleans())
def test_the_writing_of_rings_does_not_matter(
    scene: tuple[list[Ring], Ring], turn: int, closed: bool
) -> None:
    """Reversed rings, another first vertex, another order of rings, closed or open: no difference."""
    rings, points = scene
    centres = centres_inside(rings, points)
    rewritten = []
    for ring in reversed(rings):
        ring = ring[turn % len(ring) :] + ring[: turn % len(ring)]
        rewritten.append(ring[::-1] + (ring[-1:] if closed else []))
    assert local_answers(index_of(rewritten), points, centres) == local_answers(
        index_of(rings), points, centres
    )


@settings(max_examples=100)
@given(scenes(), st.integers(-8, 16))
def test_a_country_across_the_antimeridian_is_the_same_country(
    scene: tuple[list[Ring], Ring], shift: int
) -> None:
    """Moving rings and points east by whole tiles, round the world, changes nothing."""
    rings, points = scene
    moved = [[((x + shift * TILE) % WORLD, y) for x, y in ring] for ring in rings]
    moved_points = [(x + shift * TILE, y) for x, y in points]
    long_edges = any(
        abs(a[0] - b[0]) * 2 >= WORLD for r in rings for a, b in zip(r, r[1:] + r[:1], strict=True)
    )
    centres = centres_inside(rings, points)
    if not long_edges:
        assert local_answers(index_of(moved), moved_points, centres) == local_answers(
            index_of(rings), points, centres
        )


def test_shapely_agrees_away_from_the_border() -> None:
    """Random star-shaped polygons with a hole, 20,000 points: no disagreement further than 1e-9 of a tile."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 60))
        radius = rng.uniform(1.5, 3.4, 60)
        outer = np.column_stack([4 + radius * np.cos(angle), 4 + radius * np.sin(angle)])
        hole = np.column_stack([4 + 0.7 * np.cos(angle), 4 + 0.7 * np.sin(angle)])
        rings = [[(int(x * TILE), int(y * TILE)) for x, y in ring] for ring in (outer, hole)]
        shell, inner = (np.array(ring) / TILE for ring in rings)
        polygon = shapely.Polygon(shell, [inner])
        points = [(int(a), int(b)) for a, b in rng.integers(0, 8 * TILE, (4000, 2))]
        got = np.array(local_answers(index_of(rings), points, centres_inside(rings, points)))
        where = shapely.points(np.array(points) / TILE)
        wrong = np.flatnonzero(got != shapely.contains(polygon, where))
        assert all(shapely.distance(polygon.boundary, where[i]) < 1e-9 for i in wrong)
        assert 0.1 < got.mean() < 0.9


def test_countries_do_not_see_each_other_s_edges() -> None:
    """Two squares, two countries, one index."""
    squares = [[(TILE, TILE), (3 * TILE, TILE), (3 * TILE, 3 * TILE), (TILE, 3 * TILE)],
               [(5 * TILE, TILE), (6 * TILE, TILE), (6 * TILE, 2 * TILE), (5 * TILE, 2 * TILE)]]  # fmt: skip
    index = index_of(squares, [1, 2])
    point = np.array([TILE + TILE // 4])
    tile = np.array([NCOLS + 1])
    for country, centre, expected in ((1, True, True), (2, False, False), (0, False, False)):
        got = points_in_country(
            index, np.array([country], dtype=np.int16), tile, np.array([centre]), point, point
        )
        assert got.tolist() == [expected]


@pytest.mark.parametrize("reverse", [False, True])
def test_overlap_length_by_hand(reverse: bool) -> None:
    """The left quarter of a tile, a half by the diagonal, a full tile and none."""
    quarter = [(TILE, TILE), (TILE + TILE // 4, TILE), (TILE + TILE // 4, 2 * TILE), (TILE, 2 * TILE)]
    triangle = [(3 * TILE, TILE), (4 * TILE, 2 * TILE), (3 * TILE, 2 * TILE)]
    rings = [ring[::-1] if reverse else ring for ring in (quarter, triangle)]
    index = index_of(rings)
    tiles = np.array([NCOLS + 1, NCOLS + 3, NCOLS + 9, NCOLS + 10], dtype=np.int64)
    centre = np.array([False, parity(rings, 3 * TILE + TILE // 2, TILE + TILE // 2), True, False])
    lengths = tile_overlap_length(index, np.zeros(4, dtype=np.int16), tiles, centre)
    rows = range(TILE // 8192, TILE, TILE // 4096)
    assert lengths.tolist() == [4096 * TILE // 4, sum(rows), 4096 * TILE, 0]


@settings(max_examples=60)
@given(scenes())
def test_overlap_length_counts_the_points_that_are_inside(scene: tuple[list[Ring], Ring]) -> None:
    """On every 256th sub-row: the borders between inside and outside lie where single points say they do."""
    rings, points = scene
    index = index_of(rings)
    one = points[:1]
    centre = centres_inside(rings, one)
    length = int(tile_overlap_length(index, np.zeros(1, dtype=np.int16), tiles_of(one), centre)[0])
    corner_x, corner_y = one[0][0] >> 32 << 32, one[0][1] >> 32 << 32
    expected = 0
    for y in range(corner_y + TILE // 8192, corner_y + TILE, TILE // 4096):
        crossings = sorted(
            min(max(-((-((y - y0) * (x1 - x0))) // (y1 - y0)) + x0 - corner_x, 0), TILE)
            if y1 > y0
            else min(max(-(((y - y0) * (x1 - x0)) // (y0 - y1)) + x0 - corner_x, 0), TILE)
            for ring in rings
            for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True)
            if (y0 <= y) != (y1 <= y)
        )
        expected += sum(b - a for a, b in zip(crossings[::2], crossings[1::2], strict=True))
    assert length == expected
