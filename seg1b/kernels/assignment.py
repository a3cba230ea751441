"""S5: which site of a pair goes to which of the pair's tiles.

Sites are put in random order; the j-th of them takes the j-th tile of the pair's quotas, expanded in
ascending tile order. Every quota is met exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.jit import njit, read_only
from seg1b.kernels.philox import block, u01
from seg1b.kernels.sorting import order_uniform_keys

LABEL = "site_tile_assign"

_TWO_TO_64 = 2.0**64


def assign_tiles(
    n_sites: npt.NDArray[np.int64],
    key: npt.NDArray[np.uint64],
    counter_hi: npt.NDArray[np.uint64],
    row_start: npt.NDArray[np.int64],
    row_tile: npt.NDArray[np.int64],
    row_count: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """v2 assignment of many pairs: tile int64[S] of each site, pairs in turn, site_order 1..n within a pair.

    `n_sites` int64[P]; `key`, `counter_hi` uint64[P] of the pairs' v2 streams; plan rows of pair p are
    row_start[p] to row_start[p + 1], tiles ascending. Sites sort by (x0 of block site_order * 2^16,
    site_order). Raises ContractError E504 when a pair's quotas do not sum to its sites.
    """
    _check_quotas(n_sites, row_start, row_count)
    counter_lo = np.zeros(len(n_sites), dtype=np.uint64)
    tiles = np.empty(int(n_sites.sum()), np.int64)
    longest = int(n_sites.max(initial=0))
    _assign(
        read_only(n_sites), key, counter_hi, counter_lo, np.uint64(1 << 16), False, row_start, row_tile, row_count,
        longest, tiles,
    )  # fmt: skip
    return tiles


def assign_tiles_v1(
    n_sites: npt.NDArray[np.int64],
    key: npt.NDArray[np.uint64],
    counter_hi: npt.NDArray[np.uint64],
    counter_lo: npt.NDArray[np.uint64],
    row_start: npt.NDArray[np.int64],
    row_tile: npt.NDArray[np.int64],
    row_count: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """v1 assignment, as `assign_tiles`, from v1 pair streams: sites sort by (u, site_order)."""
    _check_quotas(n_sites, row_start, row_count)
    tiles = np.empty(int(n_sites.sum()), np.int64)
    longest = int(n_sites.max(initial=0))
    _assign(
        read_only(n_sites), key, counter_hi, counter_lo, np.uint64(1), True, row_start, row_tile, row_count,
        longest, tiles,
    )  # fmt: skip
    return tiles


def _check_quotas(n_sites: Any, row_start: Any, row_count: Any) -> None:
    before = np.concatenate([[0], np.cumsum(row_count)])
    quotas = before[row_start[1:]] - before[row_start[:-1]]
    wrong = np.flatnonzero(quotas != n_sites) if len(quotas) == len(n_sites) else np.zeros(1, dtype=np.int64)
    if len(wrong):
        raise ContractError(
            "E504", "the quotas of a pair do not sum to its sites", where=f"pair {int(wrong[0])}"
        )


@njit
def _assign(
    n_sites: Any, key: Any, counter_hi: Any, counter_lo: Any, stride: Any, as_u01: Any,
    row_start: Any, row_tile: Any, row_count: Any, longest: Any, out: Any,
) -> None:  # fmt: skip
    """Both families: the counter of site_order s is counter_lo + (s - as_u01) * stride, with carry."""
    keys, key_scratch = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    order, order_scratch = np.empty(longest, np.int32), np.empty(longest, np.int32)
    start = np.int64(0)
    for p in range(len(n_sites)):
        n = n_sites[p]
        lo, hi = counter_lo[p], counter_hi[p]
        if not as_u01:
            lo += stride
        for s in range(n):
            x0, _ = block(lo, hi, key[p])
            keys[s] = np.uint64(u01(x0) * _TWO_TO_64) if as_u01 else x0
            following = lo + stride
            if following < lo:
                hi += np.uint64(1)
            lo = following
        order_uniform_keys(keys[:n], order[:n], key_scratch, order_scratch)
        row, left = row_start[p], np.int64(0)
        if n > 0:
            left = row_count[row]
        for j in range(n):
            while left == 0:
                row += 1
                left = row_count[row]
            out[start + order[j]] = row_tile[row]
            left -= 1
        start += n
