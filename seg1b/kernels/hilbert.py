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

from seg1b.kernels.jit import in_chunks, njit


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
    *,
    without_weight: bool = True,
) -> Pieces:
    """Cut the runs of countries at the borders of blocks and put the pieces in block-Hilbert order.

    `start` int64[C+1] bounds each country's runs; runs may cross row ends; tile ids are row * ncols +
    col. Inside a block, pieces keep the order of the runs (row-major). Runs of weight 0 are kept if
    `without_weight`. O(runs + blocks of each country's bounding box); countries are cut in as many threads as
    there are, each for itself. Raises ValueError for a run outside the grid.
    """
    if block_tiles < 1:
        raise ValueError(f"block_tiles must be at least 1, got {block_tiles}")
    if len(tile0):
        last = int((tile0 + length).max())
        if int(tile0.min()) < 0 or last > ncols * nrows or int(length.min()) < 1:
            raise ValueError("a run lies outside the grid or is empty")
    counts = _count_pieces(start, tile0, length, weight, ncols, block_tiles, without_weight)
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

    def cut(first: int, last: int) -> None:
        for country in range(first, last):
            runs = slice(int(start[country]), int(start[country + 1]))
            out = slice(int(start_out[country]), int(start_out[country + 1]))
            if out.start < out.stop:
                _cut_country(
                    tile0[runs], length[runs], weight[runs], ncols, block_tiles, order, without_weight,
                    pieces.tile0[out], pieces.length[out], pieces.weight[out], pieces.cum[out],
                )  # fmt: skip

    in_chunks(cut, len(start) - 1, start_out)
    return pieces


@njit
def _count_pieces(
    start: Any, tile0: Any, length: Any, weight: Any, ncols: Any, block_tiles: Any, without_weight: Any
) -> Any:
    """Number of pieces of every country after cutting."""
    counts = np.zeros(len(start) - 1, np.int64)
    for country in range(len(start) - 1):
        row_start = np.int64(0)
        for i in range(start[country], start[country + 1]):
            if weight[i] == 0 and not without_weight:
                continue
            if not row_start <= tile0[i] < row_start + ncols:
                row_start = tile0[i] // ncols * ncols
            col = tile0[i] - row_start
            if length[i] == 1:
                counts[country] += 1
                continue
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
    without_weight: Any, tile0_out: Any, length_out: Any, weight_out: Any, cum_out: Any,
) -> None:  # fmt: skip
    """Pieces of one country, counting-sorted by the Hilbert rank of their block (stable).

    The runs are walked twice: once to count the pieces of each block, once to put them in their places.
    """
    blocks_per_row = (ncols + block_tiles - 1) // block_tiles
    first_block_row = tile0.min() // ncols // block_tiles
    last_block_row = (tile0 + length - 1).max() // ncols // block_tiles
    slots = np.zeros((last_block_row - first_block_row + 1) * blocks_per_row, np.int64)
    for placing in range(2):
        row_start = np.int64(-ncols)
        block_first = np.int64(0)  # the block that the last piece lay in: columns [block_first, block_end)
        block_end = np.int64(0)
        row_slot = np.int64(0)
        slot = np.int64(0)
        for i in range(len(tile0)):
            if weight[i] == 0 and not without_weight:
                continue
            tile = tile0[i]
            left = np.int64(length[i])
            while left > 0:
                if not row_start <= tile < row_start + ncols:
                    row = tile // ncols
                    row_start = row * ncols
                    row_slot = (row // block_tiles - first_block_row) * blocks_per_row
                    block_end = np.int64(0)
                col = tile - row_start
                if not block_first <= col < block_end:
                    block = col // block_tiles
                    block_first = block * block_tiles
                    block_end = min(block_first + block_tiles, np.int64(ncols))
                    slot = row_slot + block
                here = min(left, block_end - col)
                if placing:
                    j = slots[slot]
                    tile0_out[j] = tile
                    length_out[j] = here
                    weight_out[j] = weight[i]
                    slots[slot] = j + 1
                else:
                    slots[slot] += 1
                tile += here
                left -= here
        if not placing:
            _block_offsets(slots, blocks_per_row, first_block_row, order)
    before = np.int64(0)
    for j in range(len(cum_out)):
        cum_out[j] = before
        before += weight_out[j] * length_out[j]


@njit
def _block_offsets(slots: Any, blocks_per_row: Any, first_block_row: Any, order: Any) -> None:
    """Turn the number of pieces in each block into the place of its first: blocks by Hilbert distance."""
    used = np.flatnonzero(slots)
    distance = np.empty(len(used), np.uint64)
    for k in range(len(used)):
        block_row = used[k] // blocks_per_row
        distance[k] = hilbert_distance(
            used[k] - block_row * blocks_per_row, block_row + first_block_row, order
        )
    before = np.int64(0)
    for k in np.argsort(distance):
        here = slots[used[k]]
        slots[used[k]] = before
        before += here
