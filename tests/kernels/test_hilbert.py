"""Hilbert order of blocks, and runs cut at blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.hilbert import curve_order, cut_runs_at_blocks, hilbert_distance


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_curve_visits_every_cell_once_and_moves_one_cell_at_a_time(order: int) -> None:
    """The definition of a space-filling curve on a square."""
    side = 1 << order
    cells = {int(hilbert_distance(x, y, order)): (x, y) for x in range(side) for y in range(side)}
    assert sorted(cells) == list(range(side * side))
    path = [cells[d] for d in range(side * side)]
    steps = [abs(a - c) + abs(b - d) for (a, b), (c, d) in pairwise(path)]
    assert set(steps) == {1}
    assert path[0] == (0, 0)


def test_the_curve_covers_the_blocks_of_a_grid() -> None:
    """30 arc-seconds: 720 x 360 blocks of 60 tiles need a curve of order 10."""
    assert curve_order(43200, 21600, 60) == 10
    assert curve_order(10, 10, 10) == 1
    assert curve_order(3, 2, 1) == 2


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 3)), max_size=14),
    st.integers(2, 13),
    st.integers(1, 6),
)
def test_pieces_are_the_tiles_in_block_order(
    gaps: list[tuple[int, int, int]], ncols: int, block_tiles: int
) -> None:
    """Expanded, the pieces are the runs' tiles sorted by (Hilbert rank of the block, tile)."""
    tile, runs = 0, []
    for gap, length, weight in gaps:
        runs.append((tile + gap, length, weight))
        tile += gap + length
    nrows = tile // ncols + 1
    tile0 = np.array([r[0] for r in runs], dtype=np.int64)
    length_ = np.array([r[1] for r in runs], dtype=np.int32)
    weight_ = np.array([r[2] for r in runs], dtype=np.int64)
    half = len(runs) // 2
    start = np.array([0, half, half, len(runs)], dtype=np.int64)
    pieces = cut_runs_at_blocks(start, tile0, length_, weight_, ncols, nrows, block_tiles)
    order = curve_order(ncols, nrows, block_tiles)

    def rank(t: int) -> tuple[int, int]:
        row, col = divmod(t, ncols)
        return int(hilbert_distance(col // block_tiles, row // block_tiles, order)), t

    for country in range(3):
        mine = runs[start[country] : start[country + 1]]
        expected = sorted((rank(t), w) for a, k, w in mine for t in range(a, a + k))
        part = slice(int(pieces.start[country]), int(pieces.start[country + 1]))
        got = [
            (rank(t), int(w))
            for a, k, w in zip(pieces.tile0[part], pieces.length[part], pieces.weight[part], strict=True)
            for t in range(int(a), int(a + k))
        ]
        assert got == expected
        mass = pieces.weight[part] * pieces.length[part]
        assert pieces.cum[part].tolist() == (np.cumsum(mass) - mass).tolist()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neither_threads_nor_runs_without_weight_matter(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six countries of 300 runs, cut by some threads, against the runs of weight cut by one."""
    rng = np.random.default_rng(3)
    length = rng.integers(1, 40, 1800).astype(np.int32)
    tile0 = np.cumsum(length + rng.integers(0, 3, 1800), dtype=np.int64) - length.astype(np.int64)
    weight = rng.integers(0, 3, 1800)
    start = np.arange(7) * 300
    heavy = weight > 0
    monkeypatch.setattr("seg1b.kernels.jit.threads", lambda: 1)
    expected = cut_runs_at_blocks(
        np.concatenate(([0], np.cumsum(heavy)))[start],
        tile0[heavy],
        length[heavy],
        weight[heavy],
        200,
        400,
        7,
    )
    monkeypatch.setattr("seg1b.kernels.jit.threads", lambda: threads)
    found = cut_runs_at_blocks(start, tile0, length, weight, 200, 400, 7, without_weight=False)
    for field in ("start", "tile0", "length", "weight", "cum"):
        assert np.array_equal(getattr(found, field), getattr(expected, field))


def test_tile_ids_beyond_32_bits() -> None:
    """3 arc-seconds: the last tiles of the grid have ids near 9.3e10."""
    ncols, nrows = 4_320_000 // 10, 2_160_000 // 10
    tile0 = np.array([ncols * nrows - 100], dtype=np.int64)
    one = np.array([1], dtype=np.int64)
    pieces = cut_runs_at_blocks(
        np.array([0, 1]), tile0, np.array([100], dtype=np.int32), one, ncols, nrows, 60
    )
    assert pieces.tile0.tolist() == [ncols * nrows - 100, ncols * nrows - 60]
    assert pieces.length.tolist() == [40, 60]


def test_runs_outside_the_grid_are_refused() -> None:
    """A run past the last tile is an error."""
    bounds, one = np.array([0, 1]), np.array([1], dtype=np.int64)
    with pytest.raises(ValueError, match="outside the grid"):
        cut_runs_at_blocks(bounds, np.array([99]), np.array([2], dtype=np.int32), one, 10, 10, 5)
