"""Runs of tiles cut into blocks, the blocks in the order of a Hilbert curve.

Systematic sampling spreads its points evenly along the order of its cells. Row-major order makes that
even from north to south and random from west to east; a Hilbert curve makes it even on the map. Blocks of
B x B tiles keep runs long: inside a block the order stays row-major.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit
from seg1b.kernels.sorting import counting_order

Integers: TypeAlias = npt.NDArray[np.int64]


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


def hilbert_distance(x: Integers | int, y: Integers | int, order: int) -> Integers:
    """Distance of cells (column x, row y) along the Hilbert curve of 2^order cells a side, order <= 31.

    Source: the xy-to-d mapping of Hilbert's curve by quadrant, as in Warren, Hacker's Delight, chapter 16.
    """
    x, y = np.asarray(x, np.int64), np.asarray(y, np.int64)
    distance: Integers = np.zeros(x.shape, np.int64)
    last = (1 << order) - 1
    half = 1 << order >> 1
    while half > 0:
        right, down = (x & half) > 0, (y & half) > 0
        distance = distance + half * half * ((3 * right) ^ down)
        turned = right & ~down
        x, y = np.where(turned, last - x, x), np.where(turned, last - y, y)
        x, y = np.where(down, x, y), np.where(down, y, x)
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
            piece_tile0, piece_length, piece_run, piece_block = (
                np.empty(int(counts[country]), np.int64) for _ in range(4)
            )
            _cut_country(
                tile0[runs],
                length[runs],
                ncols,
                block_tiles,
                piece_tile0,
                piece_length,
                piece_run,
                piece_block,
            )
            place = _block_order(piece_block, -(-ncols // block_tiles), order)
            pieces.tile0[out], pieces.length[out] = piece_tile0[place], piece_length[place]
            pieces.weight[out] = weight[runs][piece_run[place]]
            mass = pieces.weight[out] * pieces.length[out]
            pieces.cum[out] = np.cumsum(mass) - mass
    return pieces


def _count_pieces(start: Integers, tile0: Integers, length: Any, ncols: int, block_tiles: int) -> Integers:
    """Number of pieces of every country after cutting."""

    def cut(tile: Integers) -> Integers:
        row, col = np.divmod(tile, ncols)
        block: Integers = row * -(-ncols // block_tiles) + col // block_tiles
        return block

    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(cut(tile0 + length - 1) - cut(tile0) + 1)))
    counts: Integers = before[start[1:]] - before[start[:-1]]
    return counts


@njit
def _cut_country(
    tile0: Any, length: Any, ncols: Any, block_tiles: Any,
    piece_tile0: Any, piece_length: Any, piece_run: Any, piece_block: Any,
) -> None:  # fmt: skip
    """Pieces of one country in the order of its runs: first tile, tiles, run, and block (row-major)."""
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
            piece_block[count] = row // block_tiles * blocks_per_row + block_col
            count += 1
            tile += here
            left -= here
            col += here
            if col == ncols:
                col = 0
                row += 1


def _block_order(block: Integers, blocks_per_row: int, order: int) -> Integers:
    """The order of pieces: blocks by Hilbert distance, pieces of one block as they are."""
    row, col = np.divmod(block, blocks_per_row)
    row_min, col_min = row.min(), col.min()
    width = int(col.max() - col_min) + 1
    slot = (row - row_min) * width + col - col_min
    used = np.flatnonzero(np.bincount(slot))
    along = np.argsort(hilbert_distance(used % width + col_min, used // width + row_min, order))
    rank = np.empty(int(used[-1]) + 1, np.int64)
    rank[used[along]] = np.arange(len(used))
    return counting_order(rank[slot], len(used))[0]
