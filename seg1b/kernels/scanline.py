"""Row spans of a polygon on the tile grid, by an exact integer scan-line.

Coordinates are integers: `UNIT` = 2**32 to a tile axis, x eastwards from -180 degrees, y southwards from +90
degrees, the world W = ncols * UNIT wide. A tile belongs to a polygon when its centre is inside by the even-odd
rule; an edge through a centre counts as lying west (north) of it, so neighbours that share an edge share no tile
and leave none out. Edges are unwrapped to their shorter side, so the antimeridian needs no cutting; what happens
on the seam x = 0 = W and round a pole is decided by the parity of the crossings of that seam, counted from the
north pole. The pole itself is outside: a ring round the world encloses what lies south of it, and a polygon that
holds the north pole has edges along it.

Every decision is an exact comparison of integer products in 128 bits. Floating point only proposes a column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels.jit import inline, njit
from seg1b.kernels.philox import compare_products

UNIT = 1 << 32
_HALF = UNIT // 2

IntArray = NDArray[np.int64]
SpanArray = NDArray[np.int32]


@inline
def canonical_edge(x0: int, y0: int, x1: int, y1: int, world_width: int) -> tuple[int, int, int, int]:
    """The edge unwrapped to its shorter side, pointing south, its western end in [0, world_width).

    Both neighbours of a shared border get the same four numbers, whatever direction their rings run in.
    """
    step = x1 - x0
    if step > world_width // 2:
        x1 -= world_width
    elif step < -(world_width // 2):
        x1 += world_width
    if y0 > y1 or (y0 == y1 and x0 > x1):
        x0, y0, x1, y1 = x1, y1, x0, y0
    west = min(x0, x1)
    if west < 0:
        x0 += world_width
        x1 += world_width
    elif west >= world_width:
        x0 -= world_width
        x1 -= world_width
    return x0, y0, x1, y1


@inline
def _first_row_from(y: int) -> int:
    """The first row whose centre lies at y or south of it."""
    return (y + _HALF - 1) // UNIT


@inline
def _first_column_from(x0: int, y0: int, x1: int, y1: int, y: int) -> int:
    """The first column whose centre lies on or east of the edge's crossing with the parallel y (y0 <= y < y1)."""
    height = y1 - y0
    estimate = (x0 + (y - y0) / height * (x1 - x0)) / UNIT - 0.5
    column = int(np.ceil(estimate))
    distance = column - estimate
    if 1e-6 < distance < 1.0 - 1e-6:
        return column
    rise = y - y0
    run = x1 - x0
    column -= 1
    while compare_products(column * UNIT + _HALF - x0, height, rise, run) < 0:
        column += 1
    return column


@inline
def _seam_row(x0: int, y0: int, x1: int, y1: int, world_width: int) -> int:
    """The first row that sees the edge's crossing with the seam x = world_width to its north.

    A row whose centre is level with the crossing sees it if the edge comes from the west. If it comes from the
    east, that row still counts it among its own crossings, at column 0.
    """
    run = abs(x1 - x0)
    reach = abs(world_width - x0)
    height = y1 - y0
    seen_from = 0 if x0 < world_width else 1
    row = _first_row_from(y0 + int(reach / run * height)) - 1
    while compare_products(row * UNIT + _HALF - y0, run, reach, height) < seen_from:
        row += 1
    return max(row, 0)


@njit
def _row_range(
    x: IntArray, y: IntArray, ring_start: IntArray, world_width: int, rows: int
) -> tuple[int, int, bool]:
    """The rows [top, bottom) in which tiles can be inside, and whether an edge crosses the seam.

    A polygon that crosses the seam may enclose a pole, and then everything south of its edges.
    """
    first, last = rows, 0
    touches_seam = False
    for ring in range(len(ring_start) - 1):
        for k in range(ring_start[ring], ring_start[ring + 1] - 1):
            x0, y0, x1, y1 = canonical_edge(x[k], y[k], x[k + 1], y[k + 1], world_width)
            first = min(first, _first_row_from(y0))
            last = max(last, _first_row_from(y1))
            touches_seam |= (x0 >= world_width) != (x1 >= world_width)
    return first, rows if touches_seam else max(first, last), touches_seam


@inline
def _sort(values: SpanArray, first: int, last: int) -> None:
    """Sort values[first:last] in place; the rows of most countries have a handful of crossings."""
    if last - first > 64:
        values[first:last].sort()
        return
    for i in range(first + 1, last):
        value = values[i]
        j = i - 1
        while j >= first and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value


@njit
def polygon_spans(
    x: IntArray, y: IntArray, ring_start: IntArray, columns: int, rows: int
) -> tuple[SpanArray, bool]:
    """Row spans of the tiles whose centre is inside the polygon.

    `x`, `y`: int64 vertex coordinates, x in [0, W), y in [0, rows * UNIT]; `ring_start`: R + 1 offsets of the
    closed rings. Returns (S, 3) int32 rows (row, first column, column after the last), ascending and disjoint,
    and whether every row's parity closed.
    """
    world_width = columns * UNIT
    top, bottom, touches_seam = _row_range(x, y, ring_start, world_width, rows)
    seam = np.zeros(bottom - top + 1 if touches_seam else 0, np.int64)
    count = np.zeros(bottom - top + 1, np.int64)
    for ring in range(len(ring_start) - 1):
        for k in range(ring_start[ring], ring_start[ring + 1] - 1):
            x0, y0, x1, y1 = canonical_edge(x[k], y[k], x[k + 1], y[k + 1], world_width)
            for row in range(_first_row_from(y0), _first_row_from(y1)):
                count[row - top + 1] += 1
            if (x0 >= world_width) != (x1 >= world_width):
                seam[min(_seam_row(x0, y0, x1, y1, world_width), bottom) - top] ^= 1
    for row in range(bottom - top):
        count[row + 1] += count[row]
    crossing = np.empty(count[bottom - top], np.int32)
    cursor = count[:-1].copy()
    for ring in range(len(ring_start) - 1):
        for k in range(ring_start[ring], ring_start[ring + 1] - 1):
            x0, y0, x1, y1 = canonical_edge(x[k], y[k], x[k + 1], y[k + 1], world_width)
            for row in range(_first_row_from(y0), _first_row_from(y1)):
                middle = row * UNIT + _HALF
                column = _first_column_from(x0, y0, x1, y1, middle)
                beyond = compare_products(world_width - x0, y1 - y0, middle - y0, x1 - x0) <= 0
                crossing[cursor[row - top]] = column - columns if beyond else column
                cursor[row - top] += 1
    spans = np.empty((len(crossing) // 2 + 2 + (bottom - top if touches_seam else 0), 3), np.int32)
    used = 0
    inside_at_seam = False
    closed = True
    for row in range(top, bottom):
        if touches_seam:
            inside_at_seam ^= seam[row - top] == 1
        first = count[row - top]
        last = count[row - top + 1]
        if first == last and not inside_at_seam:
            continue
        _sort(crossing, first, last)
        inside = inside_at_seam
        start = 0
        row_used = used
        for i in range(first, last + 1):
            column = int(crossing[i]) if i < last else columns
            if inside and column > start:
                if used > row_used and spans[used - 1, 2] == start:
                    spans[used - 1, 2] = column
                else:
                    spans[used, 0] = row
                    spans[used, 1] = start
                    spans[used, 2] = column
                    used += 1
            if i < last:
                inside = not inside
                start = column
        closed &= inside == inside_at_seam
    return spans[:used].copy(), closed


@njit
def boundary_spans(x: IntArray, y: IntArray, ring_start: IntArray, columns: int, rows: int) -> SpanArray:
    """Row spans of every tile that an edge of the polygon meets, a hair's breadth (1e-6 tile) included.

    A tile of the polygon outside these spans lies wholly inside it. Shapes as in `polygon_spans`.
    """
    world_width = columns * UNIT
    margin = 1e-6
    pieces = 0
    for ring in range(len(ring_start) - 1):
        for k in range(ring_start[ring], ring_start[ring + 1] - 1):
            pieces += abs(y[k + 1] - y[k]) // UNIT + 3
    key = np.empty(2 * pieces, np.int64)
    end = np.empty(2 * pieces, np.int64)
    used = 0
    for ring in range(len(ring_start) - 1):
        for k in range(ring_start[ring], ring_start[ring + 1] - 1):
            x0, y0, x1, y1 = canonical_edge(x[k], y[k], x[k + 1], y[k + 1], world_width)
            height = y1 - y0
            top = max(int(np.floor(y0 / UNIT - margin)), 0)
            bottom = min(int(np.floor(y1 / UNIT + margin)), rows - 1)
            for row in range(top, bottom + 1):
                if height == 0:
                    xa = float(min(x0, x1))
                    xb = float(max(x0, x1))
                else:
                    ya = min(max(y0, row * UNIT), y1)
                    yb = max(min(y1, (row + 1) * UNIT), y0)
                    xa = x0 + (ya - y0) / height * (x1 - x0)
                    xb = x0 + (yb - y0) / height * (x1 - x0)
                    if xa > xb:
                        xa, xb = xb, xa
                west = int(np.floor(xa / UNIT - margin))
                east = int(np.floor(xb / UNIT + margin)) + 1
                # The part west of the seam, the part on the map and the part east of it.
                for shift in (-columns, 0, columns):
                    a = max(west + shift, 0)
                    b = min(east + shift, columns)
                    if a < b:
                        if used == len(key):
                            key = np.append(key, np.empty(used, np.int64))
                            end = np.append(end, np.empty(used, np.int64))
                        key[used] = row * columns + a
                        end[used] = row * columns + b
                        used += 1
    order = np.argsort(key[:used], kind="mergesort")
    spans = np.empty((used, 3), np.int32)
    merged = 0
    reach = np.int64(-1)
    for i in order:
        row = key[i] // columns
        if merged > 0 and spans[merged - 1, 0] == row and key[i] <= reach:
            if end[i] > reach:
                reach = end[i]
                spans[merged - 1, 2] = reach - row * columns
        else:
            reach = end[i]
            spans[merged, 0] = row
            spans[merged, 1] = key[i] - row * columns
            spans[merged, 2] = reach - row * columns
            merged += 1
    return spans[:merged].copy()


@njit
def span_lookup(
    start: IntArray,
    row: SpanArray,
    col0: SpanArray,
    col1: SpanArray,
    country: IntArray,
    tile: IntArray,
    columns: int,
) -> NDArray[np.bool_]:
    """Whether each tile lies in one of its country's spans.

    `start`: C + 1 offsets of the countries in the span arrays (S each, ascending by row and column within a
    country); `country`, `tile`: n queries. Returns n booleans.
    """
    found = np.zeros(len(tile), np.bool_)
    for i in range(len(tile)):
        r = tile[i] // columns
        c = tile[i] - r * columns
        low = start[country[i]]
        high = start[country[i] + 1]
        while low < high:
            middle = (low + high) // 2
            if row[middle] < r or (row[middle] == r and col0[middle] <= c):
                low = middle + 1
            else:
                high = middle
        low -= 1
        found[i] = low >= start[country[i]] and row[low] == r and col0[low] <= c < col1[low]
    return found
