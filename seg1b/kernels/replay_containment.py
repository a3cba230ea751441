"""Is an integer point in a country? The second, independent answer, used to check published results.

The production kernel starts at the parity of a tile's centre and flips it along a short path. This one knows
no tile: it shoots a ray to the west over *all* edges of the country in the point's tile row and counts
crossings on the universal cover of the cylinder, so that the antimeridian needs no special case. Products
that exceed 64 bits are never formed: `multiply_divide` is a shift-and-add long division that stays inside
int64.

Units: X = (lon + 180) * D * 2^32, Y = (90 - lat) * D * 2^32, D tiles per degree; a tile is 2^32 by 2^32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg1b.kernels.jit import njit

I64 = NDArray[np.int64]
i64 = cast(Callable[[Any], int], np.int64)  # in compiled code a conversion; tests rebind it to `int`

TILE_UNITS = 1 << 32
SUB_ROWS = 4096
SUB_ROW_UNITS = TILE_UNITS // SUB_ROWS


class EdgeIndex(NamedTuple):
    """The edges of one country, bucketed by tile row; the lower end has the smaller Y.

    `row_edge[row_start[r]:row_start[r + 1]]` are the edges that touch tile row `first_row + r`. X is
    unwrapped along each ring, so it may lie outside [0, world_width).
    """

    first_row: int
    world_width: int
    row_start: I64
    row_edge: I64
    x_low: I64
    y_low: I64
    x_high: I64
    y_high: I64


def owned(values: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    """`values` as a contiguous, writable array, so that each kernel is compiled for one array type only."""
    array = np.ascontiguousarray(values, dtype=dtype)
    return array if array.flags.writeable else array.copy()


@njit
def multiply_divide(a: int, b: int, d: int) -> tuple[int, int]:
    """Quotient and remainder of `a * b / d`, a >= 0, 0 <= b < d < 2^62: long division, bit by bit."""
    bit = i64(1)
    while bit <= a >> 1:
        bit <<= 1
    quotient = i64(0)
    remainder = i64(0)
    while bit > 0:
        quotient <<= 1
        remainder <<= 1
        if remainder >= d:
            remainder -= d
            quotient += 1
        if a & bit:
            remainder += b
            if remainder >= d:
                remainder -= d
                quotient += 1
        bit >>= 1
    return quotient, remainder


@njit
def crossing_ceiling(x_low: int, y_low: int, x_high: int, y_high: int, y: int) -> int:
    """Smallest integer x not west of the edge on the horizontal line `y`; needs y_low <= y < y_high."""
    if x_high >= x_low:
        quotient, remainder = multiply_divide(x_high - x_low, y - y_low, y_high - y_low)
        return x_low + quotient + (1 if remainder > 0 else 0)
    quotient, remainder = multiply_divide(x_low - x_high, y - y_low, y_high - y_low)
    return x_low - quotient


@njit
def point_in_country(x: int, y: int, index: EdgeIndex) -> bool:
    """Even-odd rule on the cylinder, exact: an edge counts if y_low <= y < y_high and its crossing is <= x.

    On the universal cover an edge has a copy every `world_width`; the copies west of the point number
    floor((x - crossing) / world_width) plus a constant that cancels, because each ring crosses the line an
    even number of times.
    """
    row = (y >> 32) - index.first_row
    if row < 0 or row >= index.row_start.shape[0] - 1:
        return False
    width = i64(index.world_width)
    copies = i64(0)
    for slot in range(index.row_start[row], index.row_start[row + 1]):
        edge = index.row_edge[slot]
        if not index.y_low[edge] <= y < index.y_high[edge]:
            continue
        x_low = i64(index.x_low[edge])
        x_high = i64(index.x_high[edge])
        west = min(x_low, x_high)
        east = max(x_low, x_high)
        if east <= x < west + width:
            continue
        if x < west and east <= x + width:
            copies += 1
            continue
        crossing = crossing_ceiling(x_low, i64(index.y_low[edge]), x_high, i64(index.y_high[edge]), y)
        copies += (x - crossing) // width
    return copies & 1 == 1


@njit
def point_on_border(x: int, y: int, index: EdgeIndex) -> bool:
    """Whether an integer point lies exactly on an edge of the country (the v1 jitter counts it as inside)."""
    row = (y >> 32) - index.first_row
    if row < 0 or row >= index.row_start.shape[0] - 1:
        return False
    width = i64(index.world_width)
    for slot in range(index.row_start[row], index.row_start[row + 1]):
        edge = index.row_edge[slot]
        x_low, x_high = i64(index.x_low[edge]), i64(index.x_high[edge])
        y_low, y_high = i64(index.y_low[edge]), i64(index.y_high[edge])
        if not y_low <= y <= y_high:
            continue
        if y_low == y_high:
            if (x - min(x_low, x_high)) % width <= abs(x_high - x_low):
                return True
        elif y == y_high:
            if (x - x_high) % width == 0:
                return True
        else:
            quotient, remainder = multiply_divide(abs(x_high - x_low), y - y_low, y_high - y_low)
            crossing = x_low + quotient if x_high >= x_low else x_low - quotient
            if remainder == 0 and (x - crossing) % width == 0:
                return True
    return False


@njit
def points_in_country(x: I64, y: I64, index: EdgeIndex) -> NDArray[np.bool_]:
    """Whether each point is in the country, its border included: bool[n] for int64[n] coordinates."""
    inside = np.empty(x.shape[0], np.bool_)
    for i in range(x.shape[0]):
        inside[i] = point_in_country(i64(x[i]), i64(y[i]), index) or point_on_border(
            i64(x[i]), i64(y[i]), index
        )
    return inside


@njit
def sub_row_breaks(tile_x: int, y: int, index: EdgeIndex, breaks: I64) -> int:
    """Where the line `y` enters or leaves the country inside the tile: offsets from `tile_x`, ascending.

    Writes into `breaks`, returns how many. Only offsets strictly inside the tile; the state at offset 0 is
    `point_in_country(tile_x, y)`.
    """
    row = (y >> 32) - index.first_row
    count = 0
    if row < 0 or row >= index.row_start.shape[0] - 1:
        return count
    for slot in range(index.row_start[row], index.row_start[row + 1]):
        edge = index.row_edge[slot]
        y_low = i64(index.y_low[edge])
        y_high = i64(index.y_high[edge])
        if not y_low <= y < y_high:
            continue
        crossing = crossing_ceiling(i64(index.x_low[edge]), y_low, i64(index.x_high[edge]), y_high, y)
        offset = (crossing - tile_x) % i64(index.world_width)
        if offset == 0 or offset >= TILE_UNITS:
            continue
        place = count
        while place > 0 and breaks[place - 1] > offset:
            breaks[place] = breaks[place - 1]
            place -= 1
        breaks[place] = offset
        count += 1
    return count


@njit
def sub_row_walk(inside: bool, breaks: I64, count: int, target: int) -> tuple[int, int]:
    """Length of a sub-row inside the country, and the offset of its `target`-th inside unit (-1: beyond)."""
    length = i64(0)
    offset = i64(-1)
    begin = i64(0)
    state = inside
    for k in range(count + 1):
        end = i64(breaks[k]) if k < count else i64(TILE_UNITS)
        if state:
            if offset < 0 and length <= target < length + end - begin:
                offset = begin + target - length
            length += end - begin
        begin = end
        state = not state
    return length, offset


@njit
def tile_country_length(tile_x: int, tile_y: int, index: EdgeIndex, row_length: I64) -> int:
    """Inside length of each of the tile's 4096 sub-rows into `row_length`, and their sum."""
    breaks = np.empty(index.row_edge.shape[0] + 1, np.int64)
    total = i64(0)
    for r in range(SUB_ROWS):
        y = tile_y + r * SUB_ROW_UNITS + SUB_ROW_UNITS // 2
        count = sub_row_breaks(tile_x, y, index, breaks)
        length, _ = sub_row_walk(point_in_country(tile_x, y, index), breaks, count, i64(-1))
        row_length[r] = length
        total += length
    return total


@njit
def tile_country_position(
    tile_x: int, tile_y: int, index: EdgeIndex, row_length: I64, target: int
) -> tuple[int, int]:
    """X, Y of the `target`-th inside unit of the tile's sub-rows, counted from the north-west, row by row."""
    breaks = np.empty(index.row_edge.shape[0] + 1, np.int64)
    left = target
    r = 0
    while left >= row_length[r]:
        left -= i64(row_length[r])
        r += 1
    y = tile_y + r * SUB_ROW_UNITS + SUB_ROW_UNITS // 2
    count = sub_row_breaks(tile_x, y, index, breaks)
    _, offset = sub_row_walk(point_in_country(tile_x, y, index), breaks, count, left)
    return tile_x + offset, y


@njit
def unwrap_rings(
    x: I64, y: I64, ring_start: I64, width: int, height: int, edges: tuple[I64, I64, I64, I64]
) -> int:
    """Write the edges of closed rings, X unwrapped the short way round; return their number.

    An edge along a pole is left as drawn: it is a map's closing line, not a journey. A ring that still runs
    round the Earth is closed through the pole of the hemisphere that holds most of its vertices.
    """
    count = i64(0)
    for ring in range(ring_start.shape[0] - 1):
        begin = ring_start[ring]
        end = ring_start[ring + 1]
        chain = x[begin] if end > begin else i64(0)
        southern = i64(0)
        for v in range(begin, end):
            nxt = v + 1 if v + 1 < end else begin
            step = x[nxt] - x[v]
            on_pole = y[v] == y[nxt] and (y[v] == 0 or y[v] == height)
            if not on_pole and 2 * step > width:
                step -= width
            elif not on_pole and 2 * step < -width:
                step += width
            count = _push_edge(edges, count, chain, y[v], chain + step, y[nxt])
            chain += step
            southern += 1 if 2 * y[v] > height else -1
        if end > begin and chain != x[begin]:
            pole = height if southern > 0 else i64(0)
            count = _push_edge(edges, count, chain, y[begin], chain, pole)
            count = _push_edge(edges, count, x[begin], pole, x[begin], y[begin])
    return count


@njit
def _push_edge(edges: tuple[I64, I64, I64, I64], count: int, x0: int, y0: int, x1: int, y1: int) -> int:
    if x0 == x1 and y0 == y1:
        return count
    forward = y0 < y1
    edges[0][count] = x0 if forward else x1
    edges[1][count] = y0 if forward else y1
    edges[2][count] = x1 if forward else x0
    edges[3][count] = y1 if forward else y0
    return count + 1


@njit
def bucket_rows(y_low: I64, y_high: I64, first_row: int, cursor: I64, row_edge: I64, fill: bool) -> None:
    """Count the edges of each tile row into `cursor` (fill False), or place them at the cursors (True)."""
    for edge in range(y_low.shape[0]):
        for row in range(y_low[edge] >> 32, (y_high[edge] >> 32) + 1):
            if fill:
                row_edge[cursor[row - first_row]] = edge
            cursor[row - first_row] += 1


def build_edge_index(x: ArrayLike, y: ArrayLike, ring_start: ArrayLike, tiles_per_degree: int) -> EdgeIndex:
    """Index one country's rings: `x`, `y` int64[V] in fixed-point units, `ring_start` int64[R + 1].

    Rings may repeat their first vertex at the end or not; holes and islands come in any order and direction.
    """
    x, y, ring_start = owned(x, np.int64), owned(y, np.int64), owned(ring_start, np.int64)
    width = 360 * tiles_per_degree * TILE_UNITS
    capacity = len(x) + 2 * len(ring_start)
    scratch = tuple(np.empty(capacity, np.int64) for _ in range(4))
    edges = cast(tuple[I64, I64, I64, I64], scratch)
    count = unwrap_rings(x, y, ring_start, width, width // 2, edges)
    x_low, y_low, x_high, y_high = (column[:count].copy() for column in edges)
    first_row = int(y_low.min() >> 32) if count else 0
    last_row = int(y_high.max() >> 32) if count else -1
    size = np.zeros(last_row - first_row + 1, np.int64)
    bucket_rows(y_low, y_high, first_row, size, np.empty(0, np.int64), False)
    row_start = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
    row_edge = np.empty(int(row_start[-1]), np.int64)
    bucket_rows(y_low, y_high, first_row, row_start[:-1].copy(), row_edge, True)
    return EdgeIndex(first_row, width, row_start, row_edge, x_low, y_low, x_high, y_high)
