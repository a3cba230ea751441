"""The second implementation of S5: which site of a pair takes which of its tiles (kernels.md, section 5).

Independent of the production kernels, as `replay_draws` says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg1b.kernels.jit import njit
from seg1b.kernels.replay_containment import I64, owned
from seg1b.kernels.replay_draws import (
    U64,
    number_sites,
    pair_stream_v1,
    pair_streams_v2,
    philox_block,
    u64,
    unit_interval,
)


@njit
def assignment_draws(pair: I64, site_order: I64, key: U64, high: U64, low: U64, v1: bool, out: U64) -> None:
    """x0 of each site's block, at site_order * 2^16 (v2) or the stream's counter plus site_order - 1 (v1)."""
    for s in range(out.shape[0]):
        p = pair[s]
        if v1:
            step = u64(site_order[s] - 1)
            counter = (u64(low[p]) + step) & u64(0xFFFFFFFFFFFFFFFF)
            carry = u64(1) if counter < step else u64(0)
            top = (u64(high[p]) + carry) & u64(0xFFFFFFFFFFFFFFFF)
            out[s] = philox_block(counter, top, u64(key[p]))[0]
        else:
            out[s] = philox_block(u64(site_order[s]) << u64(16), u64(high[p]), u64(key[p]))[0]


@njit
def unit_intervals(x: U64) -> NDArray[np.float64]:
    """`unit_interval` of every element."""
    u = np.empty(x.shape[0], np.float64)
    for s in range(x.shape[0]):
        u[s] = unit_interval(u64(x[s]))
    return u


def replay_assignment(
    seed: int,
    iso: str,
    merchant_ids: ArrayLike,
    n_sites: ArrayLike,
    plan_tiles: ArrayLike,
    v1_manifest_fingerprint: str | None = None,
) -> I64:
    """Tile of every site of one country, int64[n], in site number order.

    `plan_tiles` int64[n]: each pair's multiset of tiles, ascending, pair after pair. With a fingerprint the v1
    family: v1 streams, and order by u instead of x0.
    """
    pair, order = number_sites(n_sites)
    ids = owned(merchant_ids, np.uint64)
    fingerprint, label = v1_manifest_fingerprint, "site_tile_assign"
    if fingerprint is None:
        key, high = pair_streams_v2(seed, label, iso, ids)
        low = np.zeros(len(ids), np.uint64)
    else:
        streams = [pair_stream_v1(fingerprint, seed, label, m, iso) for m in ids.tolist()]
        key, high, low = np.array(streams, np.uint64).reshape(-1, 3).T.copy()
    x0 = np.empty(len(pair), np.uint64)
    assignment_draws(pair, order, key, high, low, fingerprint is not None, x0)
    drawn = x0 if fingerprint is None else unit_intervals(x0)
    result = np.empty(len(pair), np.int64)
    result[np.lexsort((drawn, pair))] = owned(
        plan_tiles, np.int64
    )  # a stable sort: equal draws keep site order
    return result
