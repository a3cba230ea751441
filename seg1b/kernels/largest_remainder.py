"""S4, v1: largest remainder per pair with the first engine's anti-collapse controls, never tile by tile.

Only tiles with `n*w >= K` have a base, at most n of them and a prefix of the country's weight rank; every
other tile has residue `n*w`, so its rank by residue is its weight rank. A pair therefore costs O(n log n),
whatever the country's number of tiles. Positions in the weight rank (weight descending, tile ascending) stand
for tiles until the end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.apportionment import sum_of_runs
from seg1b.kernels.jit import njit
from seg1b.kernels.philox import multiply_divide
from seg1b.kernels.sparse_counts import (
    count_at,
    fill_table,
    heap_pop,
    heap_push,
    insert_entry,
    sort_rows,
)

TOTAL_MAX = 1 << 60
N_MAX = 1 << 31


@dataclass(frozen=True)
class LargestRemainderControls:
    """Policy numbers of the v1 allocation; `window_max` None means no cap."""

    diversification_enabled: bool
    apply_n_sites_max: int
    window_fraction: float
    window_min: int
    window_max: int | None
    reroute_enabled: bool
    max_moves_per_pair: int
    residual_enabled: bool
    min_active_tile_fraction: float
    max_steps_per_pair: int
    soft: float
    hard: float
    namespace: str


@dataclass(frozen=True)
class WeightRank:
    """Runs of a country's tiles by weight descending, tile ascending; `before` int64[R+1] counts tiles."""

    tile0: npt.NDArray[np.int64]
    weight: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LargestRemainderAllocation:
    """Plan rows ascending by (pair, tile): `pair`, `tile`, `count`; and diagnostics per pair.

    `before` and `after` the controls, float64[P, 3]: top-1 share, HHI, active tiles; `floor` float64[P, 2]:
    the least top-1 share and HHI that n sites on T tiles can have. `diversified` bool[P]; `soft_moves`,
    `residual_moves` int64[P].
    """

    pair: npt.NDArray[np.int64]
    tile: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]
    floor: npt.NDArray[np.float64]
    diversified: npt.NDArray[np.bool_]
    soft_moves: npt.NDArray[np.int64]
    residual_moves: npt.NDArray[np.int64]


def rank_by_weight(
    tile0: npt.NDArray[np.int64], length: npt.NDArray[np.int32], weight: npt.NDArray[np.int64]
) -> WeightRank:
    """Sort a country's runs once; every pair then only looks things up.

    Of each run: `tile0` int64[N] first tile id, `length` int32[N] tiles, `weight` int64[N] per tile.
    """
    order = np.lexsort((tile0, -weight))
    before = np.concatenate([[0], np.cumsum(length[order], dtype=np.int64)]).astype(np.int64)
    return WeightRank(tile0[order], weight[order], before)


def ring_hashes(
    namespace: str, country_iso: str, merchant_ids: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """First eight bytes, big-endian, of SHA-256("namespace|merchant in decimal|iso"): uint64[P]."""
    digests = (hashlib.sha256(f"{namespace}|{int(m)}|{country_iso}".encode()).digest() for m in merchant_ids)
    return np.array([int.from_bytes(d[:8], "big") for d in digests], dtype=np.uint64)


def allocate_country_v1(
    rank: WeightRank,
    total_weight: int,
    merchant_ids: npt.NDArray[np.uint64],
    n_sites: npt.NDArray[np.int64],
    country_iso: str,
    controls: LargestRemainderControls,
) -> LargestRemainderAllocation:
    """v1 allocation of all pairs of one country; weights sum to `total_weight`.

    Exact for total_weight <= 2^60 and n <= 2^31. Raises ContractError E403 (no tiles), E402 (weights or sites
    out of bounds), E416 (beyond the exact range).
    """
    tiles = int(rank.before[-1])
    if tiles == 0:
        raise ContractError("E403", f"country {country_iso} has no tiles")
    if len(n_sites) == 0 or len(n_sites) != len(merchant_ids) or int(n_sites.min()) < 1:
        raise ContractError("E402", f"country {country_iso} needs pairs, each with at least one site")
    if total_weight > TOTAL_MAX or int(n_sites.max()) > N_MAX:
        raise ContractError(
            "E416", f"country {country_iso}: total weight above 2^60 or a pair above 2^31 sites"
        )
    weight_sum = int(sum_of_runs(np.diff(rank.before), rank.weight))
    if weight_sum != total_weight:
        raise ContractError("E402", f"the weights of country {country_iso} do not sum to {total_weight}")
    pairs, most_rows = len(n_sites), int(np.minimum(n_sites, tiles).sum())
    pair, tile, count = (np.empty(most_rows, dtype=np.int64) for _ in range(3))
    before, after, floor = np.empty((pairs, 3)), np.empty((pairs, 3)), np.empty((pairs, 2))
    diversified = np.zeros(pairs, dtype=np.bool_)
    soft_moves, residual_moves = np.zeros(pairs, dtype=np.int64), np.zeros(pairs, dtype=np.int64)
    rows = _allocate(
        rank.tile0, rank.weight, rank.before, total_weight, n_sites,
        ring_hashes(controls.namespace, country_iso, merchant_ids), _integers(controls), _fractions(controls),
        pair, tile, count, before, after, floor, diversified, soft_moves, residual_moves,
    )  # fmt: skip
    return LargestRemainderAllocation(
        pair[:rows].copy(), tile[:rows].copy(), count[:rows].copy(),
        before, after, floor, diversified, soft_moves, residual_moves,
    )  # fmt: skip


def _integers(c: LargestRemainderControls) -> npt.NDArray[np.int64]:
    window_max = -1 if c.window_max is None else c.window_max
    apply_max = c.apply_n_sites_max if c.diversification_enabled else 0
    moves = c.max_moves_per_pair if c.reroute_enabled else 0
    steps = c.max_steps_per_pair if c.residual_enabled else 0
    return np.array([apply_max, c.window_min, window_max, moves, steps], dtype=np.int64)


def _fractions(c: LargestRemainderControls) -> npt.NDArray[np.float64]:
    return np.array([c.window_fraction, c.soft, c.hard, c.min_active_tile_fraction])


@njit
def _ceil(fraction: Any, n: Any) -> Any:
    """ceil(fraction * n) in binary64, as the first engine rounds its limits."""
    return np.int64(np.ceil(fraction * np.float64(n)))


@njit
def _tile_at(tile0: Any, before: Any, position: Any) -> Any:
    """Tile at a position of the weight rank."""
    run = np.searchsorted(before, position, side="right") - 1
    return tile0[run] + position - before[run]


@njit
def _others_ahead(tile0: Any, weight: Any, before: Any, n: Any, residue: Any, tile: Any) -> Any:
    """How many tiles of the weight rank have `n*w` above `residue`, or equal to it and a smaller tile id."""
    bound = residue // n
    low, high = np.int64(0), np.int64(len(weight))
    while low < high:
        middle = (low + high) >> 1
        if weight[middle] > bound:
            low = middle + 1
        else:
            high = middle
    ahead = before[low]
    if residue % n == 0:
        first, high = low, np.int64(len(weight))
        while low < high:
            middle = (low + high) >> 1
            if weight[middle] == bound and tile0[middle] < tile:
                low = middle + 1
            else:
                high = middle
        if low > first:
            ahead = before[low - 1] + min(before[low] - before[low - 1], tile - tile0[low - 1])
    return ahead


@njit
def _bases(tile0: Any, weight: Any, before: Any, total: Any, n: Any) -> Any:
    """Base and residue of the tiles with `n*w >= K`, positions 0..b-1; and the residue-rank position of each.

    Returns (base, positions), both int64[b]. The residue rank is by residue descending, tile ascending, over
    all tiles.
    """
    least = (total + n - 1) // n
    runs = 0
    while runs < len(weight) and weight[runs] >= least:
        runs += 1
    b = before[runs]
    if b == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    base = np.empty(b, np.int64)
    residue = np.empty(b, np.int64)
    tile = np.empty(b, np.int64)
    for r in range(runs):
        quotient, remainder = multiply_divide(weight[r], n, total)
        for i in range(before[r], before[r + 1]):
            base[i], residue[i], tile[i] = quotient, remainder, tile0[r] + i - before[r]
    by_tile = np.argsort(tile)
    order = by_tile[np.argsort(-residue[by_tile], kind="mergesort")]
    position = np.empty(b, np.int64)
    for j in range(b):
        i = order[j]
        position[i] = j + _others_ahead(tile0, weight, before, n, residue[i], tile[i]) - b
    return base, position


@njit
def _bump(base: Any, position: Any, start: Any, end: Any, places: Any, counts: Any, size: Any) -> Any:
    """Give one site to each tile at residue-rank positions start..end-1; returns the number of entries."""
    if end <= start:
        return size
    ahead_of_start, inside = np.int64(0), np.int64(0)
    for i in range(len(base)):
        if position[i] < start:
            ahead_of_start += 1
        elif position[i] < end:
            inside += 1
            counts[i] += 1
    first = len(base) + start - ahead_of_start
    for k in range(end - start - inside):
        places[size] = first + k
        counts[size] = 1
        size += 1
    return size


@njit
def _summary(counts: Any, size: Any, n: Any, out: Any) -> None:
    """Top-1 share, HHI and active tiles of a pair's counts."""
    top, squares, active = np.int64(0), np.int64(0), np.int64(0)
    for i in range(size):
        top = max(top, counts[i])
        squares += counts[i] * counts[i]
        active += counts[i] > 0
    out[0] = top / n
    out[1] = squares / (np.float64(n) * np.float64(n))
    out[2] = active


@njit
def _floors(n: Any, tiles: Any, out: Any) -> None:
    """The least top-1 share and HHI of n sites on that many tiles."""
    c = min(n, tiles)
    q, r = n // c, n % c
    out[0] = (q + (1 if r > 0 else 0)) / n
    out[1] = (r * (q + 1) * (q + 1) + (c - r) * q * q) / (np.float64(n) * np.float64(n))


@njit
def _soft_guard(
    places: Any, counts: Any, size: Any, tiles: Any, max_soft: Any, max_hard: Any, max_moves: Any, table: Any,
    heap: Any,
) -> Any:  # fmt: skip
    """Move sites off tiles with more than max_soft to the next in the weight rank; (entries, moves)."""
    moves, heaped = np.int64(0), np.int64(0)
    for i in range(size):
        if counts[i] > max_soft:
            heaped = heap_push(heap, heaped, counts[i], places[i], i)
    while moves < max_moves:
        donor, heaped = heap_pop(heap, heaped, counts)
        if donor < 0:
            break
        place = (places[donor] + 1) % tiles
        while place != places[donor] and count_at(table, places, counts, place) + 1 > max_hard:
            place = (place + 1) % tiles
        if place == places[donor]:
            break
        receiver, size = insert_entry(table, places, counts, size, place)
        counts[donor] -= 1
        counts[receiver] += 1
        moves += 1
        for i in (donor, receiver):
            if counts[i] > max_soft:
                heaped = heap_push(heap, heaped, counts[i], places[i], i)
    return size, moves


@njit
def _redistribute(
    places: Any, counts: Any, size: Any, active: Any, target: Any, max_steps: Any, table: Any, heap: Any
) -> Any:
    """Move sites from the fullest tiles to the heaviest empty ones until `target` are active."""
    steps, heaped, place = np.int64(0), np.int64(0), np.int64(0)
    for i in range(size):
        if counts[i] > 1:
            heaped = heap_push(heap, heaped, counts[i], places[i], i)
    while active + steps < target and steps < max_steps:
        donor, heaped = heap_pop(heap, heaped, counts)
        if donor < 0:
            break
        while count_at(table, places, counts, place) > 0:
            place += 1
        receiver, size = insert_entry(table, places, counts, size, place)
        counts[donor] -= 1
        counts[receiver] += 1
        steps += 1
        if counts[donor] > 1:
            heaped = heap_push(heap, heaped, counts[donor], places[donor], donor)
    return size, steps


@njit
def _window(n: Any, tiles: Any, shortfall: Any, integers: Any, fractions: Any) -> Any:
    """Size of the diversification ring, 0 when it does not apply."""
    if n > integers[0]:
        return np.int64(0)
    window = min(tiles, max(shortfall, integers[1], _ceil(fractions[0], tiles)))
    return window if integers[2] < 0 else min(window, integers[2])


@njit
def _controls(
    n: Any,
    tiles: Any,
    places: Any,
    counts: Any,
    size: Any,
    integers: Any,
    fractions: Any,
    table: Any,
    heap: Any,
) -> Any:
    """Soft guard, then residual redistribution; returns (entries, soft moves, residual steps)."""
    top, active = np.int64(0), np.int64(0)
    for i in range(size):
        top = max(top, counts[i])
        active += counts[i] > 0
    soft_moves, steps = np.int64(0), np.int64(0)
    max_soft = max(np.int64(1), _ceil(fractions[1], n))
    max_hard = max(max_soft, _ceil(fractions[2], n))
    target = np.int64(0)
    if integers[4] > 0:
        most = min(n, tiles)
        target = min(most, max(np.int64(1), _ceil(fractions[3], most)))
    guard = integers[3] > 0 and fractions[1] < 1.0 and top > max_soft
    if n == 1 or tiles == 1 or not (guard or target > 0):
        return size, soft_moves, steps
    if guard or active < target:
        mask = fill_table(table, places, size, integers[3] + integers[4])
        used = table[: mask + 1]
        if guard:
            size, soft_moves = _soft_guard(
                places, counts, size, tiles, max_soft, max_hard, integers[3], used, heap
            )
            active = np.int64(0)
            for i in range(size):
                active += counts[i] > 0
        if active < target:
            size, steps = _redistribute(places, counts, size, active, target, integers[4], used, heap)
    return size, soft_moves, steps


@njit
def _allocate(
    tile0: Any, weight: Any, before: Any, total: Any, n_sites: Any,
    ring_hash: Any, integers: Any, fractions: Any,
    out_pair: Any, out_tile: Any, out_count: Any, diagnostics_before: Any, diagnostics_after: Any, floor: Any,
    diversified: Any, soft_moves: Any, residual_moves: Any,
) -> Any:  # fmt: skip
    """Fills the outputs, returns the number of rows."""
    tiles = before[-1]
    most = min(n_sites.max(), tiles)
    extra = integers[3] + integers[4]
    places, counts = np.empty(most + extra, np.int64), np.empty(most + extra, np.int64)
    heap = np.empty((most + 2 * extra + 2, 3), np.int64)
    capacity = 4
    while capacity < 2 * (most + extra):
        capacity *= 2
    table = np.empty(capacity, np.int64)
    row_tile = np.empty(most + extra, np.int64)
    rows = np.int64(0)
    for p in range(len(n_sites)):
        n = n_sites[p]
        base, position = _bases(tile0, weight, before, total, n)
        shortfall = n - base.sum()
        b = len(base)
        counts[:b] = base
        places[:b] = np.arange(b)
        size = _bump(base, position, 0, shortfall, places, counts, b)
        _summary(counts, size, n, diagnostics_before[p])
        _floors(n, tiles, floor[p])
        window = _window(n, tiles, shortfall, integers, fractions)
        if window > shortfall and shortfall > 0:
            diversified[p] = True
            offset = np.int64(ring_hash[p] % np.uint64(window))
            counts[:b] = base
            size = _bump(base, position, offset, min(offset + shortfall, window), places, counts, b)
            size = _bump(base, position, 0, offset + shortfall - window, places, counts, size)
        size, soft_moves[p], residual_moves[p] = _controls(
            n, tiles, places, counts, size, integers, fractions, table, heap
        )
        _summary(counts, size, n, diagnostics_after[p])
        kept = 0
        for i in range(size):
            if counts[i] > 0:
                row_tile[kept] = _tile_at(tile0, before, places[i])
                counts[kept] = counts[i]
                kept += 1
        sort_rows(row_tile[:kept], counts[:kept])
        out_pair[rows : rows + kept] = p
        out_tile[rows : rows + kept] = row_tile[:kept]
        out_count[rows : rows + kept] = counts[:kept]
        rows += kept
    return rows
