"""Where people live, as runs of equal population along the rows of the tile grid.

A settlement is a paraboloid of people round its point: density falls from the peak in the middle to zero at
radius R, with R^2 = 2 P / (pi * peak density), never less than a minimum radius. Only tiles of the settlement's
own country take part, so a harbour town does not lose half its people to the sea. What a country's settlements do
not account for lives scattered in *inhabited blocks*: the blocks of tiles that hold a settlement, and their
neighbours. Populations are int64 micro-persons per tile. Only +, -, *, /, square roots and comparisons of IEEE
doubles and integer arithmetic are used, so the same numbers come out on every CPU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels.jit import inline, njit

UNIT = 1 << 32
MICRO = 1_000_000
_SUBTILE_BITS = 26  # distances are measured in 1/64 tile
_SUBTILE = 64
_GROWTHS = 6  # a settlement off its country's coast looks 2.5 times farther, at most this often

IntArray = NDArray[np.int64]
SpanArray = NDArray[np.int32]


def row_offsets(row: SpanArray, first_row: int, last_row: int) -> IntArray:
    """Offsets of each row's spans: rows first_row..last_row of one country, L + 1 entries."""
    offset = np.zeros(last_row - first_row + 2, np.int64)
    np.cumsum(np.bincount(row - first_row, minlength=last_row - first_row + 1), out=offset[1:])
    return offset


@inline
def _half_width(remaining: int, cosine_q30: int) -> float:
    """Half the kernel's width in tiles on a row, from what is left of R^2 (1/64 tile squared)."""
    return float(np.sqrt(float(remaining)) / (_SUBTILE * (cosine_q30 / 1073741824.0)))


@inline
def _weight(fx: int, fy: int, column: int, row: int, radius_squared: int, cosine_q30: int) -> int:
    """R^2 - d^2 in (1/64 tile)^2 between the settlement and the tile's centre."""
    dy = row * _SUBTILE + _SUBTILE // 2 - fy
    dx = ((column * _SUBTILE + _SUBTILE // 2 - fx) * cosine_q30) >> 30
    return int(radius_squared - dx * dx - dy * dy)


@njit
def _nearest_tile(
    fx: int, fy: int, row: SpanArray, col0: SpanArray, col1: SpanArray, columns: int, cosine_q30: int
) -> int:
    """The tile id of the country's tile nearest to a point; ties go to the smaller id."""
    best = np.int64(-1)
    best_distance = np.float64(np.inf)
    for s in range(len(row)):
        dy = float(row[s] * _SUBTILE + _SUBTILE // 2 - fy)
        if dy * dy >= best_distance:
            continue
        for shift in (-columns, 0, columns):
            column = min(max((fx - 1) // _SUBTILE, col0[s] + shift), col1[s] - 1 + shift)
            dx = (column * _SUBTILE + _SUBTILE // 2 - fx) * (cosine_q30 / 1073741824.0)
            distance = dx * dx + dy * dy
            tile = np.int64(row[s]) * columns + column - shift
            if distance < best_distance or (distance == best_distance and tile < best):
                best_distance = distance
                best = tile
    return int(best)


def settlement_contributions(
    x: IntArray, y: IntArray, people: IntArray, minimum_radius_squared: int, radius_squared_per_person: float,
    row: SpanArray, col0: SpanArray, col1: SpanArray, columns: int, cosine_q30: IntArray,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """People of one country's settlements on its tiles.

    `x`, `y`: settlements in integer world units; `people`: persons. Radii are in (1/64 tile)^2. `row`, `col0`,
    `col1`: the country's spans; `cosine_q30`: cos(latitude) of every row in 2**-30. Returns tile ids and
    micro-persons, unsorted, several entries for a tile where settlements overlap. No person is lost.
    """
    first_row, last_row = int(row[0]), int(row[-1])
    contributions: tuple[IntArray, IntArray] = _contributions(
        x, y, people, minimum_radius_squared, radius_squared_per_person, row, col0, col1, columns, cosine_q30,
        first_row, last_row, row_offsets(row, first_row, last_row),
    )  # fmt: skip
    return contributions


@njit
def _doubled(values: IntArray) -> IntArray:
    """The values with as much room again behind them."""
    grown = np.empty(2 * len(values), np.int64)
    for i in range(len(values)):
        grown[i] = values[i]
    return grown


@njit
def _contributions(
    x: IntArray, y: IntArray, people: IntArray, minimum_radius_squared: int, radius_squared_per_person: float,
    row: SpanArray, col0: SpanArray, col1: SpanArray, columns: int, cosine_q30: IntArray,
    first_row: int, last_row: int, offset: IntArray,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """As `settlement_contributions`; `offset` bounds the spans of each row from first_row on."""
    tiles = np.empty(4096, np.int64)
    values = np.empty(4096, np.int64)
    used = 0
    for p in range(len(people)):
        if people[p] <= 0:
            continue
        fx = x[p] >> _SUBTILE_BITS
        fy = y[p] >> _SUBTILE_BITS
        cosine = max(cosine_q30[fy // _SUBTILE], 10737418)
        radius_squared = max(minimum_radius_squared, int(people[p] * radius_squared_per_person))
        total = 0
        begin = used
        for _ in range(_GROWTHS):
            reach = int(np.sqrt(float(radius_squared))) // _SUBTILE + 1
            for r in range(max(fy // _SUBTILE - reach, first_row), min(fy // _SUBTILE + reach, last_row) + 1):
                dy = r * _SUBTILE + _SUBTILE // 2 - fy
                remaining = radius_squared - dy * dy
                if remaining <= 0:
                    continue
                half = _half_width(remaining, cosine)
                west = int(np.floor(fx / _SUBTILE - half)) - 1
                east = int(np.floor(fx / _SUBTILE + half)) + 2
                for s in range(offset[r - first_row], offset[r - first_row + 1]):
                    for shift in (-columns, 0, columns):
                        for c in range(max(west, col0[s] + shift), min(east, col1[s] + shift)):
                            w = _weight(fx, fy, c, r, radius_squared, cosine)
                            if w > 0:
                                if used == len(tiles):
                                    tiles = _doubled(tiles)
                                    values = _doubled(values)
                                tiles[used] = r * columns + c - shift
                                values[used] = w
                                total += w
                                used += 1
            if total > 0:
                break
            radius_squared = radius_squared * 25 // 4
        if total == 0:
            if used == len(tiles):
                tiles = _doubled(tiles)
                values = _doubled(values)
            tiles[used] = _nearest_tile(fx, fy, row, col0, col1, columns, cosine)
            values[used] = 1
            total = 1
            used += 1
        micro = people[p] * MICRO
        rest = micro
        heaviest = begin
        for k in range(begin, used):
            if values[k] > values[heaviest]:
                heaviest = k
        for k in range(begin, used):
            share = int(micro * (values[k] / total))
            values[k] = share
            rest -= share
        values[heaviest] += rest
    return tiles[:used].copy(), values[:used].copy()


def merge_by_tile(tiles: IntArray, values: IntArray) -> tuple[IntArray, IntArray]:
    """Sort contributions by tile id (radix, 11 bits at a time) and add up those of one tile.

    `tiles`, `values` int64[n]. Returns the m <= n distinct ids ascending and their sums, both int64[m].
    """
    if len(tiles) == 0:
        return tiles, values
    low = int(tiles.min())
    key, value = _merged(tiles - low, values.copy(), int(tiles.max()) - low)
    return key + low, value


@njit
def _merged(key: IntArray, value: IntArray, high: int) -> tuple[IntArray, IntArray]:
    """As `merge_by_tile`, of keys in 0..high; overwrites its arguments."""
    n = len(key)
    key_out = np.empty(n, np.int64)
    value_out = np.empty(n, np.int64)
    place = np.empty(2049, np.int64)
    shift = 0
    while shift == 0 or (high >> shift) > 0:
        place[:] = 0
        for i in range(n):
            place[((key[i] >> shift) & 2047) + 1] += 1
        for i in range(2048):
            place[i + 1] += place[i]
        for i in range(n):
            digit = (key[i] >> shift) & 2047
            key_out[place[digit]] = key[i]
            value_out[place[digit]] = value[i]
            place[digit] += 1
        key, key_out = key_out, key
        value, value_out = value_out, value
        shift += 11
    used = 0
    for i in range(n):
        if used > 0 and key[used - 1] == key[i]:
            value[used - 1] += value[i]
        else:
            key[used] = key[i]
            value[used] = value[i]
            used += 1
    return key[:used].copy(), value[:used].copy()


def mark_inhabited_blocks(
    x: IntArray, y: IntArray, block_tiles: int, halo: int, inhabited: NDArray[np.bool_]
) -> None:
    """Mark the blocks of `block_tiles` x `block_tiles` tiles within `halo` blocks of a settlement's block.

    `inhabited`: booleans (block rows, block columns) of the grid, joined across the antimeridian; others stay.
    """
    block_rows, block_columns = inhabited.shape
    row, column = y // UNIT // block_tiles, x // UNIT // block_tiles
    for down in range(-halo, halo + 1):
        on_map = (row + down >= 0) & (row + down < block_rows)
        for right in range(-halo, halo + 1):
            inhabited[row[on_map] + down, (column[on_map] + right) % block_columns] = True


@inline
def _next_change(
    inhabited: NDArray[np.bool_], block_row: int, column: int, end: int, block_tiles: int
) -> int:
    """The first column in (column, end] where the block's state differs from that at `column`."""
    block = column // block_tiles
    state = inhabited[block_row, block]
    while block * block_tiles < end and inhabited[block_row, block] == state:
        block += 1
        if block == inhabited.shape[1]:
            return end
    return min(block * block_tiles, end)


@njit
def inhabited_area(row: SpanArray, col0: SpanArray, col1: SpanArray, inhabited: NDArray[np.bool_],
                   block_tiles: int, row_area: IntArray) -> int:  # fmt: skip
    """Area of a country's tiles that lie in inhabited blocks, in the unit of `row_area`."""
    area = 0
    for s in range(len(row)):
        c = col0[s]
        while c < col1[s]:
            e = _next_change(inhabited, row[s] // block_tiles, c, col1[s], block_tiles)
            if inhabited[row[s] // block_tiles, c // block_tiles]:
                area += (e - c) * row_area[row[s]]
            c = e
    return int(area)


def population_runs(
    row: SpanArray, col0: SpanArray, col1: SpanArray, tiles: IntArray, values: IntArray, rural_micro: IntArray,
    inhabited: NDArray[np.bool_], block_tiles: int, columns: int,
) -> tuple[IntArray, SpanArray, IntArray]:  # fmt: skip
    """A country's population as runs (first tile id, tiles, micro-persons per tile) in row-major order.

    `tiles`, `values`: settled micro-persons, ascending by tile; `rural_micro`: scattered micro-persons per tile of
    each row where the block is inhabited. Runs cover every tile of the spans, those without people too,
    and are as long as they can be within a span.
    """
    capacity = 2 * len(tiles) + int(
        ((col1 - col0) // block_tiles + 2).sum()
    )  # a block or a settled tile ends a run
    first, length, people = (
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.int64),
    )
    used = _fill_runs(
        row, col0, col1, tiles, values, rural_micro, inhabited, block_tiles, columns, first, length, people
    )
    return first[:used].copy(), length[:used].copy(), people[:used].copy()


@njit
def _fill_runs(
    row: SpanArray, col0: SpanArray, col1: SpanArray, tiles: IntArray, values: IntArray, rural_micro: IntArray,
    inhabited: NDArray[np.bool_], block_tiles: int, columns: int, first: IntArray, length: SpanArray,
    people: IntArray,
) -> int:  # fmt: skip
    """Fill the runs that `population_runs` returns; returns their number."""
    used = 0
    k = 0
    for s in range(len(row)):
        r = np.int64(row[s])
        base = r * columns
        run_of_span = used
        c = np.int64(col0[s])
        span_end = np.int64(col1[s])
        while c < span_end:
            e = np.int64(_next_change(inhabited, int(r // block_tiles), int(c), int(span_end), block_tiles))
            rural = rural_micro[r] if inhabited[r // block_tiles, c // block_tiles] else np.int64(0)
            while c < e:
                if k < len(tiles) and tiles[k] == base + c:
                    stop = c + 1
                    value = rural + values[k]
                    k += 1
                else:
                    stop = min(e, tiles[k] - base) if k < len(tiles) else e
                    value = rural
                if used > run_of_span and people[used - 1] == value:
                    length[used - 1] += np.int32(stop - c)
                else:
                    first[used] = base + c
                    length[used] = stop - c
                    people[used] = value
                    used += 1
                c = stop
    return used


@njit
def run_lookup(
    start: IntArray, first: IntArray, length: SpanArray, country: IntArray, tile: IntArray
) -> IntArray:
    """The index of the run that holds each (country, tile), or -1 where the country has no such tile.

    `start`: C + 1 offsets; `first`, `length`: row-major runs of each country; `country`, `tile`: n queries.
    """
    index = np.empty(len(tile), np.int64)
    for i in range(len(tile)):
        low = start[country[i]]
        high = start[country[i] + 1]
        while low < high:
            middle = (low + high) // 2
            if first[middle] <= tile[i]:
                low = middle + 1
            else:
                high = middle
        low -= 1
        hit = low >= start[country[i]] and tile[i] < first[low] + length[low]
        index[i] = low if hit else -1
    return index
