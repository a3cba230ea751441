"""Runs of tiles cut into blocks, the blocks in the order of a Hilbert curve.

Systematic sampling spreads its points evenly along the order of its cells. Row-major order makes that
even from north to south and random from west to east; a Hilbert curve makes it even on the map. Blocks of
B x B tiles keep runs long: inside a block the order stays row-major.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, njit, read_only
from seg1b.kernels.systematic import RunCurve

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

    def curve(self, country: int) -> RunCurve:
        """One country's pieces."""
        part = slice(int(self.start[country]), int(self.start[country + 1]))
        return RunCurve(self.tile0[part], self.length[part], self.weight[part], self.cum[part])


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
    *,
    without_weight: bool = True,
) -> Pieces:
    """Cut the runs of countries at the borders of blocks and put the pieces in block-Hilbert order.

    `start` int64[C+1] bounds each country's runs; runs may cross row ends; tile ids are row * ncols +
    col. Inside a block, pieces keep the order of the runs (row-major). Runs of weight 0 are kept if
    `without_weight`. O(runs + blocks of each country's bounding box); countries are cut in as many threads as
    there are, each for itself. Raises ValueError for a run outside the grid.
    """
    cut = cut_at_blocks(
        start, tile0, length, weight, ncols, nrows, block_tiles, without_zero=not without_weight
    )
    cum = np.empty(len(cut.tile0), np.int64)

    def add_up(first: int, last: int) -> None:
        for country in range(first, last):
            own = slice(int(cut.start[country]), int(cut.start[country + 1]))
            mass = cut.value[own] * cut.length[own]
            cum[own] = np.cumsum(mass) - mass

    in_chunks(add_up, len(start) - 1, cut.start)
    return Pieces(cut.start, cut.tile0, cut.length, cut.value, cum)


class CutRuns(NamedTuple):
    """Runs of countries cut at blocks, in block-Hilbert order: as `Pieces`, with a value of any meaning each."""

    start: npt.NDArray[np.int64]
    tile0: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    value: npt.NDArray[np.int64]


def cut_at_blocks(
    start: npt.NDArray[np.int64],
    tile0: npt.NDArray[np.int64],
    length: npt.NDArray[np.int32],
    value: npt.NDArray[np.int64],
    ncols: int,
    nrows: int,
    block_tiles: int,
    *,
    without_zero: bool,
) -> CutRuns:
    """As `cut_runs_at_blocks`: runs with a value that every piece of them has; those of value 0 can be left out."""
    if block_tiles < 1:
        raise ValueError(f"block_tiles must be at least 1, got {block_tiles}")
    if len(tile0):
        last = int((tile0 + length).max())
        if int(tile0.min()) < 0 or last > ncols * nrows or int(length.min()) < 1:
            raise ValueError("a run lies outside the grid or is empty")
    start, tile0, length, value = read_only(start), read_only(tile0), read_only(length), read_only(value)
    counts = _count_pieces(start, tile0, length, value, ncols, block_tiles, not without_zero)
    start_out = np.zeros(len(start), dtype=np.int64)
    np.cumsum(counts, out=start_out[1:])
    total = int(start_out[-1])
    tile0_out, length_out = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int32)
    value_out = np.empty(total, dtype=np.int64)
    order = curve_order(ncols, nrows, block_tiles)

    def cut(first: int, last: int) -> None:
        for country in range(first, last):
            runs = slice(int(start[country]), int(start[country + 1]))
            out = slice(int(start_out[country]), int(start_out[country + 1]))
            if out.start < out.stop:
                cut = tile0[runs], length[runs], value[runs]
                own = tile0_out[out], length_out[out], value_out[out]
                _cut_country(*cut, ncols, block_tiles, order, not without_zero, *own)

    in_chunks(cut, len(start) - 1, start_out)
    return CutRuns(start_out, tile0_out, length_out, value_out)


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


def _cut_country(
    tile0: Integers, length: Any, weight: Integers, ncols: int, block_tiles: int, order: int,
    without_weight: bool, tile0_out: Integers, length_out: Any, weight_out: Integers,
) -> None:  # fmt: skip
    """Pieces of one country, counting-sorted by the Hilbert rank of their block (stable).

    The runs are walked twice: once to count the pieces of each block, once to put them in their places.
    """
    blocks_per_row = -(-ncols // block_tiles)
    first_block_row = int(tile0.min()) // ncols // block_tiles
    last_block_row = int((tile0 + length - 1).max()) // ncols // block_tiles
    slots = np.zeros((last_block_row - first_block_row + 1) * blocks_per_row, np.int64)
    for placing in (False, True):
        _walk(
            tile0, length, weight, ncols, block_tiles, first_block_row, without_weight, placing, slots,
            tile0_out, length_out, weight_out,
        )  # fmt: skip
        if not placing:
            used = np.flatnonzero(slots)
            row, column = np.divmod(used, blocks_per_row)
            along = used[np.argsort(hilbert_distance(column, row + first_block_row, order))]
            slots[along] = np.cumsum(slots[along]) - slots[along]


@njit
def _walk(
    tile0: Any, length: Any, weight: Any, ncols: Any, block_tiles: Any, first_block_row: Any,
    without_weight: Any, placing: Any, slots: Any, tile0_out: Any, length_out: Any, weight_out: Any,
) -> None:  # fmt: skip
    """Count the pieces of each block in `slots`, or put each piece at its block's next place."""
    blocks_per_row = (ncols + block_tiles - 1) // block_tiles
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
