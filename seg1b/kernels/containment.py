"""Is a point of a tile inside its country? Exact, from the few edges that touch the tile.

Coordinates are integers, 2^32 units a tile and axis; x grows eastwards from the antimeridian, y
southwards from the pole. A point (px, py) is inside when the number of edges with `(y0 <= py) != (y1 <=
py)` that meet the line y = py at `x* <= px` is odd (even-odd rule). The parity of the tile's centre is
known, so only crossings of the path centre -> (centre x, py) -> (px, py) are counted. All comparisons are
of 128-bit products.

On the vertical leg an edge counts when `(x0 <= cx) != (x1 <= cx)`. Where it passes exactly through the
end of the leg, its slope decides on which side it lies, as if the point were moved east by much less than
a unit and south by much less than that: this is what makes the two legs agree with the rule above for
every integer point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import inline, njit
from seg1b.kernels.philox import compare_products
from seg1b.kernels.sorting import counting_order

TILE_BITS = 32
TILE = 1 << TILE_BITS
SUB_ROWS = 4096

_CENTRE = TILE // 2
_SUB_ROW_HEIGHT = TILE // SUB_ROWS


@dataclass(frozen=True)
class EdgeIndex:
    """Edges of countries, found by country and row of tiles.

    `edge` int64[E, 4]: x0, y0, x1, y1, unwrapped across the antimeridian, smallest x in [0, ncols *
    2^32). Row r of country c is bucket `bucket_base[c] + r - first_row[c]`; bucket b lists
    edge_ref[bucket_start[b] : bucket_start[b + 1]]. Rows of a country without an edge, or outside its
    range, have no entries.
    """

    ncols: int
    edge: npt.NDArray[np.int64]
    first_row: npt.NDArray[np.int64]
    bucket_base: npt.NDArray[np.int64]
    bucket_start: npt.NDArray[np.int64]
    edge_ref: npt.NDArray[np.int32]
    bucket_max: int


def build_edge_index(
    x: npt.NDArray[np.int64],
    y: npt.NDArray[np.int64],
    ring_start: npt.NDArray[np.int64],
    ring_country: npt.NDArray[np.int16],
    countries: int,
    ncols: int,
    nrows: int,
) -> EdgeIndex:
    """Index the edges of rings: vertices `x`, `y` int64[V] in units, bounded by ring_start int64[R + 1].

    `ring_country` int16[R] is the country's position, 0 to countries - 1. An edge longer than half the
    world is taken the short way round. Rings are closed if they are not.
    """
    edge, country = _make_edges(x, y, ring_start, ring_country, ncols << TILE_BITS)
    first_row, bucket_base, bucket_start, edge_ref = _fill_buckets(edge, country, countries, nrows)
    for array in (edge, first_row, bucket_base, bucket_start, edge_ref):
        array.setflags(write=False)  # as in a shared world: kernels are compiled for read-only indices alone
    bucket_max = int(np.diff(bucket_start).max(initial=0))
    return EdgeIndex(ncols, edge, first_row, bucket_base, bucket_start, edge_ref, bucket_max)


def points_in_country(
    index: EdgeIndex,
    country: npt.NDArray[np.int16],
    tile_id: npt.NDArray[np.int64],
    centre_inside: npt.NDArray[np.bool_],
    x: npt.NDArray[np.int64],
    y: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Whether points (x, y) of tiles lie in countries, given whether the tile centres do: bool[N]."""
    inside: npt.NDArray[np.bool_] = _points_in_country(country, tile_id, centre_inside, x, y, arrays(index))
    return inside


def tile_overlap_length(
    index: EdgeIndex,
    country: npt.NDArray[np.int16],
    tile_id: npt.NDArray[np.int64],
    centre_inside: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Units of each tile's 4096 sub-row centre lines that lie inside the country: int64[N] <= 2^44.

    For a few hundred tiles: one call of compiled code each.
    """
    length = np.empty(len(tile_id), np.int64)
    local = np.empty((3 * index.bucket_max, 4), np.int64)
    borders = np.empty(3 * index.bucket_max + 2, np.int64)
    before = np.empty(SUB_ROWS + 1, np.int64)
    for i in range(len(tile_id)):
        count = gather_edges(country[i], tile_id[i], arrays(index), local)
        length[i] = sub_row_lengths(local, count, centre_inside[i], borders, before)
    return length


def tiles_on_border(
    index: EdgeIndex, country: npt.NDArray[np.int16], tile_id: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether an edge of the country meets each tile, a hair's breadth (1e-6 tile) to its sides included: bool[N].

    Where none does, the whole tile is in the country if its centre is.
    """
    found: npt.NDArray[np.bool_] = _tiles_on_border(country, tile_id, arrays(index))
    return found


def arrays(index: EdgeIndex) -> tuple[Any, ...]:
    """The index as a plain tuple, fields in order, which is how compiled kernels take it."""
    return (
        index.ncols,
        index.edge,
        index.first_row,
        index.bucket_base,
        index.bucket_start,
        index.edge_ref,
        index.bucket_max,
    )


def _make_edges(x: Any, y: Any, ring_start: Any, ring_country: Any, world: int) -> Any:
    """Edges (int64[E, 4]) and their countries, unwrapped; edges of no length are dropped."""
    following = np.arange(1, len(x) + 1)
    vertices = np.diff(ring_start)
    following[ring_start[1:][vertices > 0] - 1] = ring_start[:-1][vertices > 0]
    x1, y1 = x[following], y[following]
    step = x1 - x
    x1 = np.where(step > world // 2, x1 - world, np.where(-step > world // 2, x1 + world, x1))
    shift = np.minimum(x, x1) // world * world
    has_length = (x != x1) | (y != y1)
    edge = np.stack((x - shift, y, x1 - shift, y1), axis=1)[has_length]
    return edge, np.repeat(ring_country, vertices)[has_length]


def _fill_buckets(edge: Any, country: Any, countries: int, nrows: int) -> Any:
    """Counting sort of the edges into (country, row) buckets, one for each row of tiles that an edge touches."""
    top = np.maximum((np.minimum(edge[:, 1], edge[:, 3]) - 1) >> TILE_BITS, 0)
    bottom = np.minimum(np.maximum(edge[:, 1], edge[:, 3]) >> TILE_BITS, nrows - 1)
    first_row, last_row = np.full(countries, nrows, np.int64), np.full(countries, -1, np.int64)
    np.minimum.at(first_row, country, top)
    np.maximum.at(last_row, country, bottom)
    bucket_base = np.zeros(countries + 1, np.int64)
    np.cumsum(np.maximum(last_row - first_row + 1, 0), out=bucket_base[1:])
    rows = bottom - top + 1
    touching = np.repeat(np.arange(len(edge), dtype=np.int32), rows)
    first_bucket = (bucket_base[:-1] - first_row)[country] + top
    nth = np.arange(len(touching)) - np.repeat(np.cumsum(rows) - rows, rows)
    order, bucket_start = counting_order(first_bucket[touching] + nth, int(bucket_base[-1]))
    return first_row, bucket_base, bucket_start, touching[order]


@njit
def gather_edges(country: Any, tile_id: Any, index: Any, local: Any) -> Any:
    """Copy the edges that touch a tile to `local` (int64[3 * bucket_max, 4]), relative to the tile's corner.

    `index` as `arrays` gives it. Returns how many there are. The world is a cylinder: an edge may touch the
    tile one turn further east or west.
    """
    ncols, edge, first_row, bucket_base, bucket_start, edge_ref, _ = index
    row = tile_id // ncols
    tile_x = (tile_id - row * ncols) << TILE_BITS
    tile_y = row << TILE_BITS
    world = np.int64(ncols) << TILE_BITS
    bucket = bucket_base[country] + row - first_row[country]
    count = 0
    if row < first_row[country] or bucket >= bucket_base[country + 1]:
        return count
    for k in range(bucket_start[bucket], bucket_start[bucket + 1]):
        i = edge_ref[k]
        for turn in range(-1, 2):
            x0 = edge[i, 0] + turn * world - tile_x
            x1 = edge[i, 2] + turn * world - tile_x
            if min(x0, x1) <= TILE and max(x0, x1) >= 0:
                local[count, 0], local[count, 1] = x0, edge[i, 1] - tile_y
                local[count, 2], local[count, 3] = x1, edge[i, 3] - tile_y
                count += 1
    return count


@njit
def _crosses_below(x0: Any, y0: Any, x1: Any, y1: Any, x: Any, y: Any) -> Any:
    """Whether the edge meets the vertical line at x no further south than y; ties by slope (see top)."""
    side = compare_products(x - x0, y1 - y0, y - y0, x1 - x0)
    if x1 < x0:
        side = -side
    if side == 0:
        return y0 == y1 or (y1 < y0) != (x1 < x0)
    return side < 0


@njit
def _crosses_left(x0: Any, y0: Any, x1: Any, y1: Any, x: Any, y: Any) -> Any:
    """Whether the edge meets the horizontal line at y no further east than x."""
    side = compare_products(y - y0, x1 - x0, x - x0, y1 - y0)
    return side <= 0 if y1 > y0 else side >= 0


@njit
def _centre_line_parity(local: Any, count: Any, centre_inside: Any, y: Any) -> Any:
    """Parity at (centre x, y) of the tile."""
    parity = centre_inside
    for i in range(count):
        x0, y0, x1, y1 = local[i, 0], local[i, 1], local[i, 2], local[i, 3]
        if (x0 <= _CENTRE) != (x1 <= _CENTRE):
            above = _crosses_below(x0, y0, x1, y1, np.int64(_CENTRE), np.int64(_CENTRE))
            if above != _crosses_below(x0, y0, x1, y1, np.int64(_CENTRE), y):
                parity = not parity
    return parity


@njit
def inside_tile_edges(local: Any, count: Any, centre_inside: Any, x: Any, y: Any) -> Any:
    """Whether the point (x, y), units from the tile's corner, is in the country of the gathered edges."""
    parity = _centre_line_parity(local, count, centre_inside, y)
    for i in range(count):
        x0, y0, x1, y1 = local[i, 0], local[i, 1], local[i, 2], local[i, 3]
        if (y0 <= y) != (y1 <= y):
            left = _crosses_left(x0, y0, x1, y1, np.int64(_CENTRE), y)
            if left != _crosses_left(x0, y0, x1, y1, x, y):
                parity = not parity
    return parity


@njit
def on_tile_edges(local: Any, count: Any, x: Any, y: Any) -> Any:
    """Whether the point lies exactly on one of the gathered edges.

    `local` int64[count.., 4] as `gather_edges` fills it; x, y in units (2^-32 tile) from the tile's corner.
    """
    for i in range(count):
        x0, y0, x1, y1 = local[i, 0], local[i, 1], local[i, 2], local[i, 3]
        within = min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1)
        if within and compare_products(x - x0, y1 - y0, y - y0, x1 - x0) == 0:
            return True
    return False


@njit
def _first_unit_right_of(x0: Any, y0: Any, x1: Any, y1: Any, y: Any) -> Any:
    """The smallest integer x in [0, 2^32] at or right of the edge on the line y (2^32 if there is none)."""
    estimate = np.float64(x0) + np.float64(y - y0) * np.float64(x1 - x0) / np.float64(y1 - y0)
    low, high = np.int64(-1), np.int64(TILE)
    guess = np.int64(min(max(estimate, 0.0), np.float64(TILE)))
    step = np.int64(1)
    if guess < TILE and not _crosses_left(x0, y0, x1, y1, guess, y):
        low = guess
        while low + step < TILE and not _crosses_left(x0, y0, x1, y1, low + step, y):
            low += step
            step *= 2
        high = min(low + step, high)
    else:
        high = guess
        while high - step > -1 and _crosses_left(x0, y0, x1, y1, high - step, y):
            high -= step
            step *= 2
        low = max(high - step, low)
    while high - low > 1:
        middle = (low + high) >> 1
        if _crosses_left(x0, y0, x1, y1, middle, y):
            high = middle
        else:
            low = middle
    return high


@njit
def sub_row_borders(local: Any, count: Any, centre_inside: Any, y: Any, borders: Any) -> Any:
    """Where the line y enters and leaves the country within the tile: borders[0:m] ascending, m even.

    [borders[0], borders[1]), [borders[2], borders[3]), ... are the inside intervals; `borders`
    int64[count + 2].
    """
    outside_left = not _centre_line_parity(local, count, centre_inside, y)
    m = 0
    for i in range(count):
        x0, y0, x1, y1 = local[i, 0], local[i, 1], local[i, 2], local[i, 3]
        if (y0 <= y) == (y1 <= y):
            continue
        border = _first_unit_right_of(x0, y0, x1, y1, y)
        if border <= _CENTRE:
            outside_left = not outside_left
        j = m - 1
        while j >= 0 and borders[j] > border:
            borders[j + 1] = borders[j]
            j -= 1
        borders[j + 1] = border
        m += 1
    if not outside_left:
        for j in range(m, 0, -1):
            borders[j] = borders[j - 1]
        borders[0] = 0
        m += 1
    if m % 2 == 1:
        borders[m] = TILE
        m += 1
    return m


@njit
def sub_row_lengths(local: Any, count: Any, centre_inside: Any, borders: Any, before: Any) -> Any:
    """Inside length of the tile's sub-row centre lines; before[r] (int64[4097]) sums those north of r."""
    before[0] = 0
    for r in range(SUB_ROWS):
        y = np.int64(r * _SUB_ROW_HEIGHT + _SUB_ROW_HEIGHT // 2)
        m = sub_row_borders(local, count, centre_inside, y, borders)
        length = np.int64(0)
        for j in range(0, m, 2):
            length += borders[j + 1] - borders[j]
        before[r + 1] = before[r] + length
    return before[SUB_ROWS]


@njit
def sub_row_point(
    local: Any, count: Any, centre_inside: Any, borders: Any, before: Any, position: Any
) -> Any:
    """The point (x, y) at `position` of the inside intervals, walked row by row from north-west."""
    r, end = np.int64(0), np.int64(SUB_ROWS)
    while end - r > 1:
        middle = (r + end) >> 1
        if before[middle] <= position:
            r = middle
        else:
            end = middle
    left = position - before[r]
    y = np.int64(r * _SUB_ROW_HEIGHT + _SUB_ROW_HEIGHT // 2)
    m = sub_row_borders(local, count, centre_inside, y, borders)
    for j in range(0, m, 2):
        length = borders[j + 1] - borders[j]
        if left < length:
            return borders[j] + left, y
        left -= length
    return np.int64(-1), y


@njit
def _tiles_on_border(country: Any, tile_id: Any, index: Any) -> Any:
    ncols, edge, first_row, bucket_base, bucket_start, edge_ref, _ = index
    world = np.float64(ncols) * TILE
    margin = 1e-6 * TILE
    found = np.zeros(len(tile_id), np.bool_)
    for i in range(len(tile_id)):
        row = tile_id[i] // ncols
        bucket = bucket_base[country[i]] + row - first_row[country[i]]
        if row < first_row[country[i]] or bucket >= bucket_base[country[i] + 1]:
            continue
        west = np.float64((tile_id[i] - row * ncols) << TILE_BITS) - margin
        east = west + TILE + 2.0 * margin
        for k in range(bucket_start[bucket], bucket_start[bucket + 1]):
            x0, x1 = np.float64(edge[edge_ref[k], 0]), np.float64(edge[edge_ref[k], 2])
            shift = 0.0
            if max(x0, x1) < west:  # the edge lies west of the tile, unless that is one turn round the world
                shift = world
            elif min(x0, x1) > east or max(x0, x1) >= west + world:
                shift = -world
            if min(x0, x1) + shift <= east and max(x0, x1) + shift >= west:
                low, high = _range_in_row(x0, edge[edge_ref[k], 1], x1, edge[edge_ref[k], 3], row)
                found[i] |= low + shift <= east and high + shift >= west
    return found


@inline
def _range_in_row(x0: Any, y0: Any, x1: Any, y1: Any, row: Any) -> Any:
    """From which to which x an edge runs within a row of tiles, to a unit or so."""
    if y0 == y1:
        return min(x0, x1), max(x0, x1)
    north, south = row << TILE_BITS, (row + 1) << TILE_BITS
    slope = (x1 - x0) / np.float64(y1 - y0)
    xa = x0 + np.float64(min(max(north, min(y0, y1)), max(y0, y1)) - y0) * slope
    xb = x0 + np.float64(min(max(south, min(y0, y1)), max(y0, y1)) - y0) * slope
    return min(xa, xb), max(xa, xb)


@njit
def _points_in_country(country: Any, tile_id: Any, centre_inside: Any, x: Any, y: Any, index: Any) -> Any:
    ncols, bucket_max = index[0], index[6]
    inside = np.empty(len(x), np.bool_)
    local = np.empty((3 * bucket_max, 4), np.int64)
    for i in range(len(x)):
        count = gather_edges(country[i], tile_id[i], index, local)
        row = tile_id[i] // ncols
        local_x = x[i] - ((tile_id[i] - row * ncols) << TILE_BITS)
        inside[i] = inside_tile_edges(local, count, centre_inside[i], local_x, y[i] - (row << TILE_BITS))
    return inside
