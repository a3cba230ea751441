"""S5: which site of a pair goes to which tile of the pair's plan.

One uniform per site puts a pair's sites in order; they fill the pair's tiles, ascending, each to its count. Sites of a
pair are exchangeable, so this only decides which number stands where.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels import assignment, streams
from seg1b.policy.models import AssignmentPolicy
from seg1b.states.tables import Pairs, Plan

IntArray = NDArray[np.int64]


def run(
    iso: tuple[str, ...],
    pairs: Pairs,
    plan: Plan,
    policy: AssignmentPolicy,
    seed: int,
    manifest_fingerprint: str,
) -> IntArray:
    """The tile of every site of a shard, in (country, merchant, site_order) order, (S,) int64.

    Raises ContractError E401 or E504 if the plan does not belong to the pairs. `manifest_fingerprint` feeds the v1
    streams only.
    """
    row_start = plan.rows_of_pairs(pairs)
    tile, count = plan.tile_id, plan.n_sites_tile
    if policy.rng == "v2":
        keys, high = pair_stream_words(seed, assignment.LABEL, iso, pairs)
        return np.asarray(assignment.assign_tiles(pairs.n_sites, keys, high, row_start, tile, count))
    master = streams.master_v1(policy.v1_manifest_fingerprint or manifest_fingerprint, seed)
    drawn = [
        streams.pair_stream_v1(master, assignment.LABEL, iso[country], int(merchant))
        for country, merchant in zip(pairs.country, pairs.merchant_id, strict=True)
    ]
    return np.asarray(
        assignment.assign_tiles_v1(
            pairs.n_sites,
            np.array([s.key for s in drawn], np.uint64),
            np.array([s.counter_hi for s in drawn], np.uint64),
            np.array([s.counter_lo for s in drawn], np.uint64),
            row_start,
            tile,
            count,
        )
    )


def pair_stream_words(
    seed: int, label: str, iso: tuple[str, ...], pairs: Pairs
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Key and counter_hi of the v2 stream of every pair, (P,) uint64 each."""
    key = np.empty(len(pairs.country), np.uint64)
    high = np.empty(len(pairs.country), np.uint64)
    for country, part in pairs.countries():
        key[part], high[part] = streams.pair_streams(seed, label, iso[country], pairs.merchant_id[part])
    return key, high
