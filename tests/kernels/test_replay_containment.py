"""The second answer to "is the point in the country": half-open borders, seams, poles, sub-rows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import (
    PLAIN,
    SLIVER,
    SQUARE,
    WORLD,
    D,
    Ring,
    edges,
    reference_inside,
    units,
    vertices,
)

from seg1b.kernels import replay_containment
from seg1b.kernels.replay_containment import TILE_UNITS, EdgeIndex


@given(st.integers(0, 2**62), st.integers(0, 2**61), st.integers(1, 2**61))
def test_long_division_is_exact(a: int, b: int, d: int) -> None:
    """a*b/d without a wide product, compiled and plain."""
    b %= d
    if a * b // d < 2**63:
        assert replay_containment.multiply_divide(a, b, d) == divmod(a * b, d)
    assert PLAIN.multiply_divide(a, b, d) == divmod(a * b, d)


def inside(index: EdgeIndex, x: int, y: int) -> bool:
    """The compiled answer, which the plain one must share."""
    compiled = bool(replay_containment.point_in_country(x, y, index))
    assert compiled == PLAIN.point_in_country(x, y, index)
    return compiled


def test_a_square_is_half_open() -> None:
    """The square of 3 by 3 tiles owns its western and northern border and not the other two."""
    index = edges(SQUARE)
    (west, north), (east, south) = SQUARE[0], SQUARE[2]
    for x, column in ((west - 1, False), (west, True), (east - 1, True), (east, False)):
        for y, row in ((north - 1, False), (north, True), (south - 1, True), (south, False)):
            assert inside(index, x, y) == (column and row)
    hole = edges(SQUARE, [units(1, 1), units(2, 1), units(2, 2), units(1, 2)])
    assert not inside(hole, *units(1.5, 1.5))
    assert inside(hole, *units(0.5, 1.5))
    assert inside(hole, *units(2.5, 1.5))


def test_the_whole_border_is_on_the_border() -> None:
    """All four sides and corners lie on the border, their neighbours do not; a slope where it is exact."""
    index = edges(SQUARE)
    (west, north), (east, south) = SQUARE[0], SQUARE[2]
    for x in (west - 1, west, west + 1, east - 1, east, east + 1):
        for y in (north - 1, north, north + 1, south - 1, south, south + 1):
            within = west <= x <= east and north <= y <= south
            side = within and (x in (west, east) or y in (north, south))
            assert replay_containment.point_on_border(x, y, index) == side
            assert PLAIN.point_on_border(x, y, index) == side
    for run, exact in ((9, {(3, 1), (6, 2)}), (10, set())):
        slope = edges([(west, north), (west + run, north + 3), (west, north + 3)])
        expected = {(0, y) for y in range(4)} | {(x, 3) for x in range(run + 1)} | exact
        for dx in range(-1, run + 2):
            for dy in range(-1, 5):
                on = PLAIN.point_on_border(west + dx, north + dy, slope)
                assert on == ((dx, dy) in expected)


@settings(max_examples=150)
@given(st.lists(st.lists(vertices, min_size=3, max_size=9), min_size=1, max_size=3), st.data())
def test_containment_is_even_odd(rings: list[Ring], data: st.DataObject) -> None:
    """West ray on the cover, long division: the same as an east ray in fractions, borders included."""
    index = edges(*rings)
    for _ in range(4):
        x, y = data.draw(vertices)
        x += data.draw(st.sampled_from([0, -1, 1, 12345]))
        y += data.draw(st.sampled_from([0, -1, 1, 98765]))
        expected = reference_inside(rings, x, y)
        assert inside(index, x, y) == expected
        turned = [ring[2:] + ring[:2] for ring in rings]
        assert inside(edges(*[r[::-1] for r in turned]), x, y) == expected


def test_three_drawings_of_an_island_on_the_antimeridian() -> None:
    """Across the seam, split at the seam, or drawn beyond 180 degrees: one island, one answer."""
    t = TILE_UNITS
    north, south = 5000 * t, 5010 * t
    across = [(WORLD - 7 * t, north), (9 * t, north + 3 * t), (5 * t, south), (WORLD - 8 * t, south)]
    beyond = [(x if x > WORLD // 2 else x + WORLD, y) for x, y in across]
    for x_tiles in (-9, -8, -7, -1, 0, 1, 5, 8, 10, 15000):
        for row in (4999, 5000, 5003, 5009, 5010):
            x, y = (x_tiles * t + 123) % WORLD, row * t + 77
            expected = reference_inside([beyond], x if x > WORLD // 2 else x + WORLD, y)
            assert inside(edges(across), x, y) == expected
            assert inside(edges(beyond), x, y) == expected
    west_part = [(WORLD - 5 * t, north), (WORLD, north), (WORLD, south), (WORLD - 5 * t, south)]
    east_part = [(0, north), (5 * t, north), (5 * t, south), (0, south)]
    for x in (WORLD - 5 * t, WORLD - 1, 0, 5 * t - 1):
        assert inside(edges(west_part, east_part), x, north + 1)
    assert not inside(edges(west_part, east_part), WORLD - 5 * t - 1, north + 1)
    assert not inside(edges(west_part, east_part), 5 * t, north + 1)


def test_two_drawings_of_a_polar_cap() -> None:
    """A cap closed along the pole, and the same coast as a bare ring round the Earth, agree."""
    t, height = TILE_UNITS, WORLD // 2
    coast = [(k * WORLD // 12, (18000 + 40 * (k % 3)) * t) for k in range(12)]
    closed = [*coast, (WORLD, coast[0][1]), (WORLD, height), (0, height)]
    for ring in (coast, coast[::-1], closed, closed[::-1]):
        index = edges(ring)
        for x in (0, 1, WORLD // 24, WORLD // 2, WORLD - 1):
            assert inside(index, x, height - 1)
            assert inside(index, x, 18090 * t)
            assert not inside(index, x, 17999 * t)
            assert inside(index, x, 18020 * t) == reference_inside([closed], x, 18020 * t)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_drawn_pole_decides_which_side_is_inside(turn: int) -> None:
    """A country from 10 degrees north down to the south pole, drawn along that pole: south is inside."""
    coast, height = 80 * D * TILE_UNITS, WORLD // 2
    ring = [(k * WORLD // 6, coast) for k in range(7)] + [(WORLD, height), (0, height)]
    index = edges(ring[::turn])
    for x in (0, 1, WORLD // 2, WORLD - 1):
        assert inside(index, x, height - 1)
        assert inside(index, x, coast)
        assert not inside(index, x, coast - 1)
        assert not inside(index, x, 0)


def test_sub_rows_of_a_sliver() -> None:
    """The inside length of every sub-row counts the integer points inside, and targets enumerate them."""
    index, lengths = edges(SLIVER), np.empty(4096, np.int64)
    x, y = units(0, 0)
    total = replay_containment.tile_country_length(x, y, index, lengths)
    assert total == lengths.sum()
    (a, _), (b, top), (c, bottom), _ = SLIVER
    for r in (0, 1, 2000, 4095):
        line = y + (r << 20) + (1 << 19)
        border = b + Fraction((c - b) * (line - top), bottom - top)
        assert lengths[r] == -(-border // 1) - a
    first = int(lengths[0])
    expected = {
        0: (a, y + 2**19),
        first - 1: (a + first - 1, y + 2**19),
        first: (a, y + 2**20 + 2**19),
        total - 1: (a + int(lengths[-1]) - 1, y + (4095 << 20) + 2**19),
    }
    for target, point in expected.items():
        assert replay_containment.tile_country_position(x, y, index, lengths, target) == point
        assert PLAIN.tile_country_position(x, y, index, lengths, target) == point
        assert inside(index, *point)


def test_sub_rows_of_a_tile_that_is_all_land() -> None:
    """Borders exactly on the tile's own border neither lose nor double its 2^44 units."""
    index, lengths = edges([units(1, 1), units(2, 1), units(2, 2), units(1, 2)]), np.empty(4096, np.int64)
    for column, row, expected in ((1, 1, 1 << 44), (0, 1, 0), (2, 1, 0), (1, 0, 0), (1, 2, 0)):
        total = replay_containment.tile_country_length(*units(column, row), index, lengths)
        assert total == expected


@settings(max_examples=30)
@given(st.lists(st.lists(vertices, min_size=3, max_size=7), min_size=1, max_size=3), st.integers(0, 10**9))
def test_the_fallback_point_is_the_targeted_inside_point(rings: list[Ring], seed: int) -> None:
    """On any polygon: the point found lies inside, and exactly `target` inside points come before it."""
    index, lengths = edges(*rings), np.empty(4096, np.int64)
    x, y = units(2, 2)
    total = replay_containment.tile_country_length(x, y, index, lengths)
    if total == 0:
        return
    target = seed * total // 10**9 if seed < 10**9 else total - 1
    px, py = replay_containment.tile_country_position(x, y, index, lengths, target)
    assert reference_inside(rings, px, py)
    assert x <= px < x + TILE_UNITS
    row = (py - y) >> 20
    assert (py - y) & (2**20 - 1) == 2**19
    crossings = sorted(
        x0 + Fraction((x1 - x0) * (py - y0), y1 - y0)
        for ring in rings
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True)
        if (y0 <= py) != (y1 <= py)
    )
    pieces = [
        max(0, min(-(-b // 1), px) - max(-(-a // 1), x))
        for a, b in zip(crossings[::2], crossings[1::2], strict=True)
    ]
    assert int(lengths[:row].sum()) + sum(pieces) == target
