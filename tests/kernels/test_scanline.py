"""Tiles of polygons: by hand on a grid of 16 x 8, then against exact fractions on the cylinder."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_worlds import STEPS, UNIT, Ring, Tiles, inside, on_lattice, short_way, tiles_inside, tiles_of_spans

from seg1b.kernels.containment import build_edge_index, tiles_on_border
from seg1b.kernels.scanline import boundary_spans, canonical_edge, polygon_spans, span_lookup

COLUMNS, ROWS = 16, 8
WIDTH, HEIGHT = COLUMNS * STEPS, ROWS * STEPS


def tiles(*rings: Ring) -> Tiles:
    """The polygon's tiles; its parity must close."""
    spans, closed = polygon_spans(*on_lattice(rings, COLUMNS), COLUMNS, ROWS)
    assert closed
    assert spans.dtype == np.int32
    return tiles_of_spans(spans)


def boundary(*rings: Ring) -> Tiles:
    """The tiles that the polygon's edges meet."""
    return tiles_of_spans(boundary_spans(*on_lattice(rings, COLUMNS), COLUMNS, ROWS))


def on_border(*rings: Ring) -> Tiles:
    """Border tiles of lattice rings, from the index of their edges."""
    x, y, start = on_lattice(rings, COLUMNS)
    edges = build_edge_index(x, y, start, np.zeros(len(start) - 1, np.int16), 1, COLUMNS, ROWS)
    tile = np.arange(COLUMNS * ROWS, dtype=np.int64)
    found = tiles_on_border(edges, np.zeros(len(tile), np.int16), tile)
    return {divmod(int(t), COLUMNS) for t in tile[found]}


def rectangle(west: int, north: int, east: int, south: int) -> Ring:
    """A ring of lattice points; 4 lattice steps a tile, centres at 2, 6, 10, ..."""
    return [(west, north), (east, north), (east, south), (west, south)]


def block(rows: range, columns: range) -> Tiles:
    """All tiles of some rows and columns."""
    return {(r, c % COLUMNS) for r in rows for c in columns}


def shifted(ring: Ring, columns: int) -> Ring:
    """The ring some tiles further east."""
    return [(x + columns * STEPS, y) for x, y in ring]


# By hand


def test_a_tile_sized_square_is_its_tile() -> None:
    """From corner to corner: exactly one tile, and the nine that its edges touch."""
    square = rectangle(12, 8, 16, 12)
    assert tiles(square) == {(2, 3)}
    assert boundary(square) == block(range(1, 4), range(2, 5))


def test_a_square_round_a_centre_holds_it() -> None:
    """A quarter of a tile is enough if the centre is in it, three quarters are not if it is not."""
    assert tiles(rectangle(13, 9, 15, 11)) == {(2, 3)}
    assert tiles(rectangle(15, 8, 17, 12)) == set()


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((14, 8, 16, 12), {(2, 3)}),  # western edge through the centre: inside
        ((12, 8, 14, 12), set()),  # eastern edge through the centre: outside
        ((12, 10, 16, 12), {(2, 3)}),  # northern edge through the centre: inside
        ((12, 8, 16, 10), set()),  # southern edge through the centre: outside
        ((14, 10, 18, 14), {(2, 3)}),  # corners on four centres: the north-western one
    ],
)
def test_edges_through_centres(corners: tuple[int, int, int, int], expected: Tiles) -> None:
    """The four sides of a square do not all count the same, or neighbours could not share tiles out."""
    assert tiles(rectangle(*corners)) == expected


def test_four_squares_that_meet_in_a_centre_share_the_tiles_out() -> None:
    """The common corner and the four common edges go through centres; no tile is lost, none taken twice."""
    quarters = [tiles(rectangle(x, y, x + 12, y + 12)) for x, y in ((2, 2), (14, 2), (2, 14), (14, 14))]
    assert sum(len(q) for q in quarters) == 36
    assert set().union(*quarters) == tiles(rectangle(2, 2, 26, 26)) == block(range(6), range(6))


def test_a_triangle_with_its_diagonal_through_centres() -> None:
    """The diagonal's tiles go to the triangle east of it; both triangles together are the square."""
    lower = tiles([(0, 0), (16, 16), (0, 16)])
    upper = tiles([(0, 0), (16, 0), (16, 16)])
    assert lower == {(r, c) for r in range(4) for c in range(r)}
    assert upper == {(r, c) for r in range(4) for c in range(r, 4)}


def test_a_hole_and_an_island_in_it() -> None:
    """Even-odd: out, in, out, in."""
    outer, hole, island = rectangle(0, 0, 28, 28), rectangle(4, 4, 24, 24), rectangle(8, 8, 20, 20)
    expected = (block(range(7), range(7)) - block(range(1, 6), range(1, 6))) | block(range(2, 5), range(2, 5))
    assert tiles(outer, hole, island) == expected
    assert tiles(island, outer, hole) == expected


def test_touching_parts_make_one_span() -> None:
    """Two parts of a country with a common border: one span a row, and the border is no gap."""
    spans, _ = polygon_spans(
        *on_lattice([rectangle(0, 0, 8, 8), rectangle(8, 0, 16, 8)], COLUMNS), COLUMNS, ROWS
    )
    assert spans.tolist() == [[0, 0, 4], [1, 0, 4]]


def test_a_polygon_across_the_antimeridian() -> None:
    """Cut there or not, it has the same tiles on both sides."""
    whole = tiles(rectangle(WIDTH - 8, 8, WIDTH + 12, 16))
    cut = tiles(rectangle(WIDTH - 8, 8, WIDTH, 16), rectangle(0, 8, 12, 16))
    assert whole == cut == block(range(2, 4), range(14, 19))


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("y", range(8, 16))
def test_a_corner_on_the_antimeridian(turn: int, y: int) -> None:
    """A diamond with its eastern and one with its western corner at 180 degrees, level with a centre or not.

    Shifting the world must not change the diamond.
    """
    diamond = [(12 * turn, y), (6 * turn, y - 6), (0, y), (6 * turn, y + 6)]
    elsewhere = tiles(shifted(diamond, 5))
    assert tiles(diamond) == {(r, (c - 5) % COLUMNS) for r, c in elsewhere}


@pytest.mark.parametrize("across", [-7, -5, -2, 2, 5, 7])
def test_an_edge_that_crosses_the_antimeridian_level_with_a_centre(across: int) -> None:
    """The crossing at x = W lies exactly on the parallel of a row's centres, whatever way the edge slopes."""
    strip = [(across, 4), (-across, 16), (-across + 20, 16), (across + 20, 4)]
    elsewhere = tiles(shifted(strip, 3))
    assert tiles(strip) == {(r, (c - 3) % COLUMNS) for r, c in elsewhere}
    assert {r for r, _ in tiles(strip)} == {1, 2, 3}


def test_a_ring_round_the_south_pole() -> None:
    """With or without edges along the pole and up the antimeridian, everything south of the ring is inside."""
    ring = [(x, 24) for x in range(0, WIDTH, 8)]
    polar = [*ring, (WIDTH, 24), *[(x, HEIGHT) for x in range(WIDTH, -1, -8)]]
    expected = block(range(6, 8), range(16))
    assert tiles(ring) == tiles(ring[::-1]) == tiles(polar) == expected


def test_the_north_pole_is_outside_unless_an_edge_runs_along_it() -> None:
    """A bare ring encloses what lies south of it; with edges along the pole the same ring is a cap."""
    ring = [(x, 8) for x in range(0, WIDTH, 8)]
    cap = [*ring, (WIDTH, 8), *[(x, 0) for x in range(WIDTH, -1, -8)]]
    assert tiles(ring) == block(range(2, 8), range(16))
    assert tiles(cap) == tiles(cap[::-1]) == block(range(2), range(16))


def test_an_annulus_round_the_world() -> None:
    """Two bare rings: the belt between them."""
    rings = [[(x, y) for x in range(0, WIDTH, 8)] for y in (8, 20)]
    assert tiles(*rings) == block(range(2, 5), range(16))
    assert not boundary(*rings) & block(range(3, 4), range(16))


def test_an_open_ring_is_noticed() -> None:
    """A ring that ends on another parallel than it began leaves rows with an odd number of crossings."""
    x, y, start = on_lattice([rectangle(0, 0, 8, 8)], COLUMNS)
    _, closed = polygon_spans(x[:-1], y[:-1], np.array([0, 4]), COLUMNS, ROWS)
    assert not closed
    assert polygon_spans(x, y, start, COLUMNS, ROWS)[1]


def test_nothing_makes_nothing() -> None:
    """No rings, no spans."""
    empty = np.empty(0, np.int64)
    spans, closed = polygon_spans(empty, empty, np.zeros(1, np.int64), COLUMNS, ROWS)
    assert (spans.shape, closed) == ((0, 3), True)
    assert boundary_spans(empty, empty, np.zeros(1, np.int64), COLUMNS, ROWS).shape == (0, 3)


def test_an_edge_on_the_antimeridian_touches_both_sides() -> None:
    """Tiles west and east of it, and all along a crossing edge."""
    for tiles_met in (boundary, on_border):
        assert tiles_met(rectangle(0, 5, 6, 7)) == {(1, 15), (1, 0), (1, 1)}
        assert tiles_met([(-6, 5), (6, 5), (6, 6), (-6, 6)]) == {(1, 14), (1, 15), (1, 0), (1, 1)}


def test_both_neighbours_see_the_same_edge() -> None:
    """One edge, four ways to write it: direction and the side of the antimeridian do not matter."""
    world = COLUMNS * UNIT
    edge = (world - 5, 9, 7, 3)
    assert canonical_edge(*edge, world) == (world + 7, 3, world - 5, 9)
    assert canonical_edge(edge[2], edge[3], edge[0], edge[1], world) == (world + 7, 3, world - 5, 9)


# Properties

lattice_x = st.integers(0, WIDTH - 1)
lattice_y = st.integers(0, HEIGHT)
vertex = st.tuples(lattice_x, lattice_y)
polygons = st.lists(st.lists(vertex, min_size=3, max_size=7), min_size=1, max_size=3)
near = st.tuples(st.integers(-6, 6), st.integers(4, 20))
seam_polygons = st.lists(st.lists(near, min_size=3, max_size=6), min_size=1, max_size=2)


def no_ambiguous_edge(rings: list[list[tuple[int, int]]]) -> bool:
    """No edge is exactly half the world long."""
    return all(
        (b[0] - a[0]) % WIDTH != WIDTH // 2
        for ring in rings
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)
    )


@settings(max_examples=150)
@given(rings=polygons)
def test_spans_equal_exact_fractions(rings: list[list[tuple[int, int]]]) -> None:
    """Any rings at all, also self-crossing, round the world or along a pole."""
    assert tiles(*rings) == tiles_inside(rings, COLUMNS, ROWS)


@settings(max_examples=150)
@given(rings=seam_polygons)
def test_spans_equal_exact_fractions_at_the_antimeridian(rings: list[list[tuple[int, int]]]) -> None:
    """Small rings about x = 0, where lattice points are often on the seam and level with centres."""
    assert tiles(*rings) == tiles_inside(rings, COLUMNS, ROWS)


@settings(max_examples=100)
@given(rings=polygons, columns=st.integers(1, 15), start=st.integers(0, 6), data=st.data())
def test_how_rings_are_written_does_not_matter(
    rings: list[list[tuple[int, int]]], columns: int, start: int, data: st.DataObject
) -> None:
    """Order of rings, first vertex, direction, and the choice of the antimeridian."""
    assume(no_ambiguous_edge(rings))
    expected = tiles(*rings)
    edges = boundary(*rings)
    other = [
        ring[start % len(ring) :] + ring[: start % len(ring)] for ring in data.draw(st.permutations(rings))
    ]
    other[0].reverse()
    assert tiles(*other) == expected
    assert boundary(*other) == edges
    moved = [shifted(ring, columns) for ring in rings]
    assert tiles(*moved) == {(r, (c + columns) % COLUMNS) for r, c in expected}
    assert boundary(*moved) == {(r, (c + columns) % COLUMNS) for r, c in edges}


@settings(max_examples=100)
@given(
    bends=st.lists(vertex, max_size=5, unique_by=lambda v: v[1]),
    ends=st.tuples(lattice_x, lattice_x),
    shift=st.integers(0, 15),
)
def test_neighbours_share_the_tiles_out(
    bends: list[tuple[int, int]], ends: tuple[int, int], shift: int
) -> None:
    """A border from top to bottom of a box divides its tiles: none in both countries, none in neither."""
    inner = [(x % 25 + 2, y) for x, y in sorted(bends, key=lambda v: v[1]) if 3 < y < 27]
    line = [(ends[0] % 25 + 2, 3), *inner, (ends[1] % 25 + 2, 27)]
    west = [(2, 3), *line, (2, 27)]
    east = [*line, (27, 27), (27, 3)]
    ours, theirs = (tiles(shifted(ring, shift)) for ring in (west, east))
    assert not ours & theirs
    assert ours | theirs == tiles(shifted(rectangle(2, 3, 27, 27), shift))


@settings(max_examples=60)
@given(rings=polygons)
def test_border_tiles_are_exactly_the_tiles_that_edges_meet(rings: list[list[tuple[int, int]]]) -> None:
    """Closed tiles against closed segments, turned round the world; as spans, and asked tile by tile."""
    lines = []
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            x1 = short_way(x0, x1, WIDTH)
            lines += [shapely.LineString([(x0 + t, y0), (x1 + t, y1)]) for t in (-WIDTH, 0, WIDTH)]
    shape = shapely.MultiLineString(lines)
    shapely.prepare(shape)
    expected = {
        (r, c)
        for r in range(ROWS)
        for c in range(COLUMNS)
        if shape.intersects(shapely.box(c * STEPS, r * STEPS, (c + 1) * STEPS, (r + 1) * STEPS))
    }
    assert boundary(*rings) == expected
    with_edges = [ring for ring in rings if len({(vx % WIDTH, vy) for vx, vy in ring}) > 1]
    assert on_border(*rings) == boundary(*with_edges)  # a ring that is one point has no edge


@settings(max_examples=30)
@given(rings=polygons, places=st.lists(st.tuples(*[st.integers(1, 99)] * 2), min_size=3, max_size=3))
def test_other_tiles_lie_wholly_in_or_out(
    rings: list[list[tuple[int, int]]], places: list[tuple[int, int]]
) -> None:
    """Without an edge in it, any point of a tile is where its centre is."""
    crossed, found = boundary(*rings), tiles(*rings)
    for r, c in block(range(ROWS), range(COLUMNS)) - crossed:
        for u, v in places:
            px, py = (c + Fraction(u, 100)) * STEPS, (r + Fraction(v, 100)) * STEPS
            assert inside(rings, px, py, COLUMNS) == ((r, c) in found)


@settings(max_examples=60)
@given(countries=st.lists(polygons, min_size=1, max_size=3))
def test_span_lookup_equals_membership(countries: list[list[list[tuple[int, int]]]]) -> None:
    """Every tile of the grid, asked of every country."""
    spans = [polygon_spans(*on_lattice(rings, COLUMNS), COLUMNS, ROWS)[0] for rings in countries]
    start = np.cumsum([0, *(len(s) for s in spans)]).astype(np.int64)
    joined = np.concatenate(spans)
    row, col0, col1 = (np.ascontiguousarray(joined[:, k]) for k in range(3))
    tile = np.arange(COLUMNS * ROWS, dtype=np.int64)
    for country, own in enumerate(spans):
        asked = np.full(len(tile), country, np.int64)
        found = span_lookup(start, row, col0, col1, asked, tile, COLUMNS)
        assert {divmod(int(t), COLUMNS) for t in tile[found]} == tiles_of_spans(own)


@settings(max_examples=100)
@given(
    x=st.tuples(*[st.integers(0, 2**32 * COLUMNS - 1)] * 3),
    y=st.tuples(*[st.integers(0, 2**32 * ROWS)] * 3),
    nudge=st.sampled_from([-1, 1]),
)
def test_a_unit_decides(x: tuple[int, int, int], y: tuple[int, int, int], nudge: int) -> None:
    """Vertices anywhere, one of them 2**-32 tile beside a centre: exact products, not doubles, must decide."""
    xs, ys = list(x), list(y)
    xs[0] = xs[0] // UNIT * UNIT + UNIT // 2 + nudge
    ys[0] = min(ys[0] // UNIT, ROWS - 1) * UNIT + UNIT // 2
    ring = [(Fraction(a * STEPS, UNIT), Fraction(b * STEPS, UNIT)) for a, b in zip(xs, ys, strict=True)]
    arrays = np.array([*xs, xs[0]]), np.array([*ys, ys[0]]), np.array([0, 4])
    spans, closed = polygon_spans(*arrays, COLUMNS, ROWS)
    assert closed
    width = WIDTH
    r, c = ys[0] // UNIT, xs[0] // UNIT
    px, py = Fraction(c * STEPS + 2), Fraction(r * STEPS + 2)
    crossings = 0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        far = x1 - width if x1 - x0 > width / 2 else x1 + width if x1 - x0 < -width / 2 else x1
        for turn in (-width, 0, width):
            a, b = x0 + turn, far + turn
            if (a <= px) != (b <= px):
                high = y0 + (px - a) * (y1 - y0) / (b - a)
                assume(high != py)
                crossings += high < py
    assert ((r, c) in tiles_of_spans(spans)) == (crossings % 2 == 1)
