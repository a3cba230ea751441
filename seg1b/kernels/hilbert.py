"""Runs of tiles cut into blocks, the blocks in the order of a Hilbert curve.

Systematic sampling spreads its points evenly along the order of its cells. Row-major order makes that
even from north to south and random from west to east; a Hilbert curve makes it even on the map. Blocks of
B x B tiles keep runs long: inside a block the order stays row-major.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit


@dataclass(frozen=True)
class Pieces:
    """Weight pieces of countries in block-Hilbert order; country c owns pieces start[c] to start[c + 1].

    `tile0` int64[N] first tile id, `length` int32[N] consecutive tiles of one row, `weight` int64[N] per
    tile, `cum` int64[N] weight of the same country before the piece.
    """

    start: npt.NDArray[np.int64]
    tile0: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int64]
    cum: npt.NDArray[np.int64]


@njit
def hilbert_distance(x: Any, y: Any, order: Any) -> Any:
    """Distance (uint64) of cell (column x, row y) along the Hilbert curve of 2^order cells a side.

    Source: the xy-to-d mapping of Hilbert's curve by quadrant, as in Warren, Hacker's Delight, chapter 16.
    """
    distance = np.uint64(0)
    side = np.int64(1) << np.int64(order)
    x, y = np.int64(x), np.int64(y)
    half = side >> 1
    while half > 0:
        right = np.int64(1) if (x & half) else np.int64(0)
        down = np.int64(1) if (y & half) else np.int64(0)
        distance += np.uint64(half) * np.uint64(half) * np.uint64((3 * right) ^ down)
        if down == 0:
            if right == 1:
                x = side - 1 - x
                y = side - 1 - y
            x, y = y, x
        half >>= 1
    return distance


def curve_order(ncols: int, nrows: int, block_tiles: int) -> int:
    """Order of the smallest Hilbert curve that covers the blocks of a grid.

    The grid has `ncols` x `nrows` tiles, a block `block_tiles` x `block_tiles`; a curve of order k has 2^k x 2^k cells.
    """
    blocks = max(-(-ncols // block_tiles), -(-nrows // block_tiles))
    return max(1, (blocks - 1).bit_length())


def cut_runs_at_blocks(
    start: npt.NDArray[np.int64],
    tile0: npt.NDArray[np.int64],
    length: npt.NDArray[np.int32],
    weight: npt.NDArray[np.int64],
    ncols: int,
    nrows: int,
    block_tiles: int,
) -> Pieces:
    """Cut the runs of countries at the borders of blocks and put the pieces in block-Hilbert order.

    `start` int64[C+1] bounds each country's runs; runs may cross row ends; tile ids are row * ncols +
    col. Inside a block, pieces keep the order of the runs (row-major). Runs of weight 0 are kept. O(runs
    + blocks of each country's bounding box). Raises ValueError for a run outside the grid.
    """
    if block_tiles < 1:
        raise ValueError(f"block_tiles must be at least 1, got {block_tiles}")
    if len(tile0):
        last = int((tile0 + length).max())
        if int(tile0.min()) < 0 or last > ncols * nrows or int(length.min()) < 1:
            raise ValueError("a run lies outside the grid or is empty")
    counts = _count_pieces(start, tile0, length, ncols, block_tiles)
    start_out = np.zeros(len(start), dtype=np.int64)
    np.cumsum(counts, out=start_out[1:])
    total = int(start_out[-1])
    pieces = Pieces(
        start_out,
        np.empty(total, dtype=np.int64),
        np.empty(total, dtype=np.int32),
        np.empty(total, dtype=np.int64),
        np.empty(total, dtype=np.int64),
    )
    order = curve_order(ncols, nrows, block_tiles)
    for country in range(len(start) - 1):
        runs = slice(int(start[country]), int(start[country + 1]))
        out = slice(int(start_out[country]), int(start_out[country + 1]))
        if runs.start < runs.stop:
            _cut_country(
                tile0[runs], length[runs], weight[runs], ncols, block_tiles, order,
                pieces.tile0[out], pieces.length[out], pieces.weight[out], pieces.cum[out],
            )  # fmt: skip
    return pieces


@njit
def _count_pieces(start: Any, tile0: Any, length: Any, ncols: Any, block_tiles: Any) -> Any:
    """Number of pieces of every country after cutting."""
    counts = np.zeros(len(start) - 1, np.int64)
    for country in range(len(start) - 1):
        for i in range(start[country], start[country + 1]):
            col = tile0[i] % ncols
            left = np.int64(length[i])
            while left > 0:
                here = min(left, ncols - col)
                counts[country] += (col + here - 1) // block_tiles - col // block_tiles + 1
                left -= here
                col = 0
    return counts


@njit
def _cut_country(
    tile0: Any, length: Any, weight: Any, ncols: Any, block_tiles: Any, order: Any,
    tile0_out: Any, length_out: Any, weight_out: Any, cum_out: Any,
) -> None:  # fmt: skip
    """Pieces of one country, counting-sorted by the Hilbert rank of their block (stable)."""
    total = len(tile0_out)
    piece_tile0 = np.empty(total, np.int64)
    piece_length = np.empty(total, np.int32)
    piece_run = np.empty(total, np.int32)
    piece_block = np.empty(total, np.int64)
    blocks_per_row = (ncols + block_tiles - 1) // block_tiles
    count = 0
    for i in range(len(tile0)):
        tile = tile0[i]
        left = np.int64(length[i])
        row = tile // ncols
        col = tile - row * ncols
        while left > 0:
            block_col = col // block_tiles
            end = min((block_col + 1) * block_tiles, ncols)
            here = min(left, end - col)
            piece_tile0[count] = tile
            piece_length[count] = here
            piece_run[count] = i
            piece_block[count] = (row // block_tiles) * blocks_per_row + block_col
            count += 1
            tile += here
            left -= here
            col += here
            if col == ncols:
                col = 0
                row += 1
    place = _block_offsets(piece_block, blocks_per_row, order)
    for i in range(total):
        j = place[i]
        tile0_out[j] = piece_tile0[i]
        length_out[j] = piece_length[i]
        weight_out[j] = weight[piece_run[i]]
    before = np.int64(0)
    for j in range(total):
        cum_out[j] = before
        before += weight_out[j] * length_out[j]


@njit
def _block_offsets(block: Any, blocks_per_row: Any, order: Any) -> Any:
    """Where each piece goes: blocks by Hilbert distance, pieces of one block in their present order."""
    row_min, row_max = np.int64(block[0]) // blocks_per_row, np.int64(0)
    col_min, col_max = np.int64(blocks_per_row), np.int64(0)
    for i in range(len(block)):
        row = block[i] // blocks_per_row
        col = block[i] - row * blocks_per_row
        row_min, row_max = min(row_min, row), max(row_max, row)
        col_min, col_max = min(col_min, col), max(col_max, col)
    width = col_max - col_min + 1
    slots = np.zeros(width * (row_max - row_min + 1), np.int64)
    for i in range(len(block)):
        row = block[i] // blocks_per_row
        slots[(row - row_min) * width + block[i] - row * blocks_per_row - col_min] += 1
    used = np.flatnonzero(slots)
    distance = np.empty(len(used), np.uint64)
    for k in range(len(used)):
        distance[k] = hilbert_distance(used[k] % width + col_min, used[k] // width + row_min, order)
    before = np.int64(0)
    for k in np.argsort(distance):
        here = slots[used[k]]
        slots[used[k]] = before
        before += here
    place = np.empty(len(block), np.int64)
    for i in range(len(block)):
        row = block[i] // blocks_per_row
        slot = (row - row_min) * width + block[i] - row * blocks_per_row - col_min
        place[i] = slots[slot]
        slots[slot] += 1
    return place
