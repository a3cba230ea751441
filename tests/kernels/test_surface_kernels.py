"""People on tiles: by hand, then against slow references in Python integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.kernels.surface import (
    MICRO,
    inhabited_area,
    mark_inhabited_blocks,
    merge_by_tile,
    population_runs,
    row_offsets,
    run_lookup,
    settlement_contributions,
)

COLUMNS, ROWS = 24, 12
UNIT = 1 << 32
SUBTILE = UNIT // 64
EQUATOR = np.full(ROWS, 1 << 30, np.int64)
Spans = list[tuple[int, int, int]]
Int32Array = npt.NDArray[np.int32]
EVERYWHERE: Spans = [(r, 0, COLUMNS) for r in range(ROWS)]


def inhabited_blocks(
    x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], block_tiles: int, halo: int
) -> npt.NDArray[np.bool_]:
    """The marked blocks of the small grid."""
    found = np.zeros((-(-ROWS // block_tiles), -(-COLUMNS // block_tiles)), np.bool_)
    mark_inhabited_blocks(x, y, block_tiles, halo, found)
    return found


def columns_of(spans: Spans) -> tuple[Int32Array, Int32Array, Int32Array]:
    """Row, first column and end of spans as the kernels take them."""
    array = np.array(spans, np.int32).reshape(-1, 3)
    return array[:, 0].copy(), array[:, 1].copy(), array[:, 2].copy()


def contributions(
    places: list[tuple[int, int, int]],
    spans: Spans,
    minimum: int = 0,
    per_person: float = 1.0,
    cosine: npt.NDArray[np.int64] = EQUATOR,
) -> dict[int, int]:
    """Micro-persons by tile of places (x, y in 1/64 tile, people)."""
    x, y, people = (np.array([p[k] for p in places], np.int64) for k in range(3))
    tiles, values = settlement_contributions(
        x * SUBTILE, y * SUBTILE, people, minimum, per_person, *columns_of(spans), COLUMNS, cosine
    )
    assert (values >= 0).all()
    tiles, values = merge_by_tile(tiles, values)
    return dict(zip(tiles.tolist(), values.tolist(), strict=True))


def tile(row: int, column: int) -> int:
    """Tile id."""
    return row * COLUMNS + column


def cells(spans: Spans) -> set[int]:
    """Tile ids of spans."""
    return {tile(r, c) for r, a, b in spans for c in range(a, b)}


MIDDLE = (5 * 64 + 32, 4 * 64 + 32)
"""The centre of the tile in row 4, column 5."""

# By hand


def test_a_paraboloid_on_nine_tiles() -> None:
    """R^2 = 10,000 (1/64 tile)^2: 10,000 in the middle, 64^2 less beside it, 2 * 64^2 less at the corners."""
    people = 10_000 + 4 * (10_000 - 4096) + 4 * (10_000 - 8192)
    found = contributions([(*MIDDLE, people)], EVERYWHERE, minimum=10_000, per_person=0.0)
    expected = {
        tile(4 + r, 5 + c): (10_000 - 4096 * (r * r + c * c)) * MICRO for r in (-1, 0, 1) for c in (-1, 0, 1)
    }
    assert found == expected


def test_a_hamlet_stays_in_its_tile() -> None:
    """A radius of less than a tile's distance to the next centre."""
    assert contributions([(*MIDDLE, 77)], EVERYWHERE, minimum=4000) == {tile(4, 5): 77 * MICRO}


def test_radius_grows_with_people() -> None:
    """R^2 = people * R^2 per person, if that is more than the minimum; at 4097 the neighbours come in."""
    assert len(contributions([(*MIDDLE, 4096)], EVERYWHERE, minimum=4000)) == 1
    assert len(contributions([(*MIDDLE, 4097)], EVERYWHERE, minimum=4000)) == 5


def test_tiles_are_narrow_far_north() -> None:
    """At cos = 1/2 two tiles to the east are as far as one to the south."""
    found = contributions([(*MIDDLE, 9)], EVERYWHERE, minimum=4097, cosine=EQUATOR // 2)
    assert set(found) == {tile(4, c) for c in range(3, 8)} | {tile(r, 5) for r in (3, 5)}
    assert found[tile(4, 7)] == found[tile(4, 3)] == found[tile(3, 5)]


def test_a_harbour_town_keeps_its_people_ashore() -> None:
    """Half of the disc is sea: everybody lives on the land half, in the proportions of the disc."""
    land = [(r, 0, 6) for r in range(ROWS)]
    people = 10_000 + 3 * 5904 + 2 * 1808
    found = contributions([(*MIDDLE, people)], land, minimum=10_000, per_person=0.0)
    assert set(found) == {tile(r, c) for r in (3, 4, 5) for c in (4, 5)}
    assert found[tile(4, 5)] == 10_000 * MICRO
    assert found[tile(4, 4)] == found[tile(3, 5)] == 5904 * MICRO
    assert sum(found.values()) == people * MICRO


def test_a_town_off_its_coast_looks_farther() -> None:
    """No land within R = 10: the radius grows by 2.5 until there is some."""
    found = contributions([(*MIDDLE, 5)], [(4, 7, 9)], minimum=100, per_person=0.0)
    assert found == {tile(4, 7): 5 * MICRO}


def test_a_town_far_off_its_coast_goes_to_the_nearest_tile() -> None:
    """Beyond all growth there is still the nearest tile; a tie goes to the smaller id."""
    assert contributions([(*MIDDLE, 5)], [(4, 9, 12), (8, 5, 6)], per_person=0.0) == {tile(4, 9): 5 * MICRO}
    assert contributions([(*MIDDLE, 5)], [(4, 1, 2), (4, 9, 10)], per_person=0.0) == {tile(4, 1): 5 * MICRO}
    assert contributions([(*MIDDLE, 5)], [(0, 5, 6), (8, 5, 6)], per_person=0.0) == {tile(0, 5): 5 * MICRO}


def test_a_point_on_a_border_of_tiles_goes_to_the_smaller_id() -> None:
    """Four centres are equally near to a tile's corner."""
    corner = (5 * 64, 4 * 64, 5)
    assert contributions([corner], EVERYWHERE, per_person=0.0) == {tile(3, 4): 5 * MICRO}
    assert contributions([(0, 4 * 64 + 32, 5)], EVERYWHERE, per_person=0.0) == {tile(4, 0): 5 * MICRO}


def test_discs_and_nearest_tiles_cross_the_antimeridian() -> None:
    """In the first column, half of the disc is in the last; a coast there is near."""
    west_end = (32, 4 * 64 + 32)
    found = contributions([(*west_end, 9)], EVERYWHERE, minimum=4097, per_person=0.0)
    assert set(found) == {tile(4, c) for c in (23, 0, 1)} | {tile(3, 0), tile(5, 0)}
    assert found[tile(4, 23)] == found[tile(4, 1)]
    far = contributions([(*west_end, 5)], [(4, 6, 7), (4, 19, 20)], per_person=0.0)
    assert far == {tile(4, 19): 5 * MICRO}
    east_end = (COLUMNS * 64 - 1, 4 * 64 + 32, 5)
    assert contributions([east_end], [(4, 3, 9)], per_person=0.0) == {tile(4, 3): 5 * MICRO}


def test_places_without_people_leave_nothing() -> None:
    """A listed place with population 0 is no tile."""
    assert contributions([(*MIDDLE, 0), (*MIDDLE, 3)], EVERYWHERE, minimum=9) == {tile(4, 5): 3 * MICRO}
    assert contributions([(*MIDDLE, 0)], EVERYWHERE) == {}


def test_buffers_grow() -> None:
    """More contributions than the first buffer holds."""
    found = contributions([(*MIDDLE, 1000)] * 100, EVERYWHERE, minimum=64 * 64 * 64)
    assert sum(found.values()) == 100_000 * MICRO


def test_row_offsets_count_rows_without_spans() -> None:
    """Rows 2 to 5, of which row 3 has two spans and row 4 none."""
    assert row_offsets(np.array([2, 3, 3, 5], np.int32), 2, 5).tolist() == [0, 1, 3, 3, 4]


def test_blocks_round_a_settlement() -> None:
    """The block and its eight neighbours; at column 0 three of these are the last blocks of their rows."""
    x, y = np.array([0], np.int64), np.array([5 * UNIT], np.int64)
    found = inhabited_blocks(x, y, 4, 1)
    assert found.shape == (3, 6)
    assert np.argwhere(found).tolist() == [[r, c] for r in range(3) for c in (0, 1, 5)]
    assert np.argwhere(inhabited_blocks(x, y, 4, 0)).tolist() == [[1, 0]]


def test_blocks_that_do_not_fill_the_world() -> None:
    """24 columns in blocks of 5: the fifth block has four columns and is the neighbour of the first."""
    x, y = np.array([23 * UNIT], np.int64), np.array([0], np.int64)
    found = inhabited_blocks(x, y, 5, 1)
    assert np.argwhere(found).tolist() == [[r, c] for r in range(2) for c in (0, 3, 4)]


def test_runs_by_hand() -> None:
    """Scattered people 7 in block 0, nobody in block 1; 100 more in tile 2, 50 in tile 4."""
    inhabited = np.zeros((3, 6), np.bool_)
    inhabited[0, 0] = True
    rural = np.full(ROWS, 7, np.int64)
    settled = np.array([2, 4], np.int64), np.array([100, 50], np.int64)
    found = population_runs(*columns_of([(0, 0, 9), (0, 20, 22)]), *settled, rural, inhabited, 4, COLUMNS)
    runs = list(zip(*(a.tolist() for a in found), strict=True))
    assert runs == [(0, 2, 7), (2, 1, 107), (3, 1, 7), (4, 1, 50), (5, 4, 0), (20, 2, 0)]


# Properties

row_spans = st.lists(st.integers(0, COLUMNS), max_size=6, unique=True).map(sorted)


@st.composite
def any_spans(draw: st.DrawFn) -> Spans:
    """Spans of one country: ascending, disjoint, at least one."""
    found: Spans = []
    for r in range(ROWS):
        ends = draw(row_spans)
        found += [(r, a, b) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    return found or [(draw(st.integers(0, ROWS - 1)), 3, 5)]


place = st.tuples(st.integers(0, COLUMNS * 64 - 1), st.integers(0, ROWS * 64 - 1), st.integers(1, 40_000_000))


@settings(max_examples=100)
@given(
    places=st.lists(place, max_size=4),
    spans=any_spans(),
    minimum=st.integers(0, 9000),
    per_person=st.sampled_from([0.0, 1e-4, 1e-2]),
)
def test_no_person_is_lost_and_none_lives_abroad(
    places: list[tuple[int, int, int]], spans: Spans, minimum: int, per_person: float
) -> None:
    """Exactly people * 10^6 micro-persons, all on the country's tiles."""
    found = contributions(places, spans, minimum, per_person)
    assert sum(found.values()) == sum(p[2] for p in places) * MICRO
    assert set(found) <= cells(spans)


@settings(max_examples=100)
@given(where=place, spans=any_spans(), radius_squared=st.integers(2100, 30_000), cosine=st.integers(1, 64))
def test_shares_follow_the_paraboloid(
    where: tuple[int, int, int], spans: Spans, radius_squared: int, cosine: int
) -> None:
    """Every tile within R, on either side of the antimeridian, and in proportion to R^2 - d^2."""
    fx, fy, people = where
    q30 = cosine << 24
    weight: dict[int, int] = {}
    for t in cells(spans):
        dy = t // COLUMNS * 64 + 32 - fy
        for turn in (-1, 0, 1):
            dx = ((t % COLUMNS * 64 + 32 + turn * COLUMNS * 64 - fx) * q30) >> 30
            if radius_squared > dx * dx + dy * dy:
                weight[t] = weight.get(t, 0) + radius_squared - dx * dx - dy * dy
    found = contributions([where], spans, radius_squared, 0.0, np.full(ROWS, q30, np.int64))
    if weight:
        total = sum(weight.values())
        assert set(found) == set(weight)
        assert all(
            abs(found[t] - people * MICRO * w / total) <= 3 * len(weight) + 1 for t, w in weight.items()
        )


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2**40)), max_size=60),
    st.sampled_from([0, 1, 2**11, 2**33]),
    st.sampled_from([1, 700, 2**22]),
)
def test_merging_equals_a_dictionary(pairs: list[tuple[int, int]], base: int, stride: int) -> None:
    """Sorted by tile, added up, however large or far apart the tile ids are."""
    expected: dict[int, int] = {}
    for t, v in pairs:
        expected[base + t * stride] = expected.get(base + t * stride, 0) + v
    tiles = np.array([base + t * stride for t, _ in pairs], np.int64)
    values = np.array([v for _, v in pairs], np.int64)
    before = tiles.copy(), values.copy()
    found = merge_by_tile(tiles, values)
    assert [a.tolist() for a in found] == [sorted(expected), [expected[t] for t in sorted(expected)]]
    assert np.array_equal(tiles, before[0])
    assert np.array_equal(values, before[1])


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, COLUMNS - 1), st.integers(0, ROWS - 1)), max_size=5),
    st.integers(1, 7),
    st.integers(0, 3),
)
def test_blocks_equal_a_search(places: list[tuple[int, int]], size: int, halo: int) -> None:
    """A block is inhabited if a settled block is at most `halo` blocks away, round the world."""
    x, y = (np.array([p[k] * UNIT + 9 for p in places], np.int64) for k in range(2))
    found = inhabited_blocks(x, y, size, halo)
    wide = -(-COLUMNS // size)
    for (r, c), state in np.ndenumerate(found):
        near = [
            abs(py // size - r) <= halo and min((px // size - c) % wide, (c - px // size) % wide) <= halo
            for px, py in places
        ]
        assert state == any(near)


@settings(max_examples=100)
@given(spans=any_spans(), size=st.integers(1, 7), data=st.data())
def test_runs_hold_every_tile_once(spans: Spans, size: int, data: st.DataObject) -> None:
    """Expanded, runs are the sum of scattered and settled people; no two neighbours of a span are equal."""
    shape = (-(-ROWS // size), -(-COLUMNS // size))
    flags = data.draw(st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    inhabited = np.array(flags).reshape(shape)
    rural = np.array(data.draw(st.lists(st.integers(0, 2), min_size=ROWS, max_size=ROWS)), np.int64)
    listed = sorted(cells(spans))
    settled = data.draw(st.dictionaries(st.sampled_from(listed), st.integers(0, 2), max_size=20))
    tiles = np.array(sorted(settled), np.int64)
    values = np.array([settled[t] for t in sorted(settled)], np.int64)
    runs = population_runs(*columns_of(spans), tiles, values, rural, inhabited, size, COLUMNS)
    expanded = [(t + k, v) for t, n, v in zip(*(a.tolist() for a in runs), strict=True) for k in range(n)]
    lived_in = {t for t in listed if inhabited[t // COLUMNS // size, t % COLUMNS // size]}
    assert expanded == [
        (t, settled.get(t, 0) + (int(rural[t // COLUMNS]) if t in lived_in else 0)) for t in listed
    ]
    starts = {tile(r, a) for r, a, _ in spans}
    first, length, people = (a.tolist() for a in runs)
    for k in range(1, len(first)):
        if first[k] not in starts:
            assert first[k] == first[k - 1] + length[k - 1]
            assert people[k] != people[k - 1]
    area = np.arange(1, ROWS + 1, dtype=np.int64)
    assert inhabited_area(*columns_of(spans), inhabited, size, area) == sum(
        int(area[t // COLUMNS]) for t in lived_in
    )
    start = np.array([0, 0, len(first), len(first)], np.int64)
    every = np.arange(ROWS * COLUMNS, dtype=np.int64)
    found = run_lookup(start, runs[0], runs[1], np.full(len(every), 1, np.int64), every)
    expected = {t: k for k, (a, n) in enumerate(zip(first, length, strict=True)) for t in range(a, a + n)}
    assert found.tolist() == [expected.get(t, -1) for t in every.tolist()]
    for empty in (0, 2):
        assert (run_lookup(start, runs[0], runs[1], np.full(len(every), empty, np.int64), every) == -1).all()
