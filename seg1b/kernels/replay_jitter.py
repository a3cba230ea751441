"""The second implementation of S6's mode cluster_v3 (kernels.md, section 6).

Independent of the production kernels, as `replay_draws` says; the table of the inverse normal is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg1b.errors import ContractError
from seg1b.kernels.jit import njit
from seg1b.kernels.replay_containment import (
    I64,
    SUB_ROWS,
    TILE_UNITS,
    EdgeIndex,
    i64,
    owned,
    point_in_country,
    tile_country_length,
    tile_country_position,
)
from seg1b.kernels.replay_draws import U64, multiply_wide, number_sites, pair_streams_v2, philox_block, u64

ANCHOR_COUNTER_HIGH = 0x616E63686F72
MICRO_PERSONS = 1_000_000


class ClusterRule(NamedTuple):
    """The jitter policy in integers. Thresholds are inclusive: x is core if `any_core` and x <= core_last."""

    max_attempts: int
    any_core: bool
    core_last: np.uint64
    any_secondary: bool
    secondary_last: np.uint64
    anchor_key: np.uint64
    anchor_low: int
    anchor_span: np.uint64
    core_sd: int
    secondary_sd: int
    thresholds_micro: I64
    table: I64


def cluster_rule(
    world_digest: str,
    table: ArrayLike,
    max_attempts: int,
    weights: tuple[float, float, float],
    thresholds_persons: tuple[int, ...],
    anchor_margin: float,
    core_sd_tile: float,
    secondary_sd_tile: float,
) -> ClusterRule:
    """The policy's decimals as exact fractions, times powers of two, floored.

    `table` int64[4097] is the inverse normal in 2^-24; `weights` are core, secondary and sparse tail.
    """
    core, secondary, margin, core_sd, secondary_sd = (
        Fraction(str(value)) for value in (*weights[:2], anchor_margin, core_sd_tile, secondary_sd_tile)
    )
    core_end, secondary_end = int(core * 2**64), int((core + secondary) * 2**64)
    return ClusterRule(
        max_attempts,
        core_end > 0,
        np.uint64(max(core_end - 1, 0)),
        secondary_end > 0,
        np.uint64(max(secondary_end - 1, 0)),
        np.uint64(int.from_bytes(bytes.fromhex(world_digest)[:8], "little")),
        int(margin * 2**32),
        np.uint64(int((1 - 2 * margin) * 2**32)),
        int(core_sd * 2**32),
        int(secondary_sd * 2**32),
        np.array([persons * MICRO_PERSONS for persons in thresholds_persons], np.int64),
        owned(table, np.int64),
    )


@njit
def normal_q24(x: int, table: I64) -> int:
    """Standard normal in units of 2^-24 for a uniform x: 12 bits choose the cell, 32 bits interpolate."""
    cell = x >> u64(52)
    fraction = i64((x >> u64(20)) & u64(0xFFFFFFFF))
    here, there = i64(table[cell]), i64(table[cell + u64(1)])
    return here + (((there - here) * fraction) >> 32)


@njit
def anchor_position(
    tile: int, k: int, settlement_x: int, settlement_y: int, rule: ClusterRule
) -> tuple[int, int]:
    """Anchor k of a tile, in 2^-32 of the tile: the settlement for k = 0, where there is one, else a hash."""
    if k == 0 and settlement_x >= 0:
        return settlement_x, settlement_y
    x0, x1 = philox_block(u64(tile * 4 + k), u64(ANCHOR_COUNTER_HIGH), u64(rule.anchor_key))
    span = u64(rule.anchor_span)
    x = i64(rule.anchor_low) + i64(multiply_wide(x0, span)[0])
    return x, i64(rule.anchor_low) + i64(multiply_wide(x1, span)[0])


@njit
def cluster_attempt(
    counter: int,
    high: int,
    key: int,
    tile: int,
    anchors: int,
    settlement_x: int,
    settlement_y: int,
    rule: ClusterRule,
) -> tuple[int, int, int]:
    """(x, y, component) of the attempt whose first block is at `counter`; x, y may lie outside [0, 2^32)."""
    choice, which = philox_block(counter, high, key)
    draw_x, draw_y = philox_block(counter + u64(1), high, key)
    if rule.any_core and choice <= u64(rule.core_last):
        component, k, sd = 0, i64(0), i64(rule.core_sd)
    elif rule.any_secondary and choice <= u64(rule.secondary_last):
        component, k, sd = 1, i64(0), i64(rule.secondary_sd)
        if anchors > 1:
            k = i64(1) + i64(multiply_wide(which, u64(anchors - 1))[0])
    else:
        return i64(draw_x >> u64(32)), i64(draw_y >> u64(32)), 2
    x, y = anchor_position(tile, k, settlement_x, settlement_y, rule)
    x += (normal_q24(draw_x, rule.table) * sd) >> 24
    return x, y + ((normal_q24(draw_y, rule.table) * sd) >> 24), component


@njit
def cluster_sites(
    pair: I64,
    site_order: I64,
    tile: I64,
    population: I64,
    settlement_x: I64,
    settlement_y: I64,
    key: U64,
    high: U64,
    rule: ClusterRule,
    index: EdgeIndex,
    out: tuple[I64, I64, I64, I64],
) -> int:
    """Replay each site; `out` receives X, Y, attempts, component. Returns the first hopeless site, or -1."""
    columns = index.world_width >> 32
    row_length = np.empty(SUB_ROWS, np.int64)
    for s in range(tile.shape[0]):
        stream_key, stream_high = u64(key[pair[s]]), u64(high[pair[s]])
        base = u64(site_order[s]) << u64(16)
        t = i64(tile[s])
        tile_x, tile_y = (t % columns) << 32, (t // columns) << 32
        anchors = i64(1)
        for threshold in rule.thresholds_micro:
            anchors += 1 if threshold <= population[s] else 0
        x, y, attempt, component = i64(0), i64(0), i64(0), i64(-1)
        while attempt < rule.max_attempts and component < 0:
            counter = base + u64(2 * attempt)
            x, y, drawn = cluster_attempt(
                counter, stream_high, stream_key, t, anchors, settlement_x[s], settlement_y[s], rule
            )
            attempt += 1
            x, y, in_tile = tile_x + x, tile_y + y, 0 <= x < TILE_UNITS and 0 <= y < TILE_UNITS
            if in_tile and point_in_country(x, y, index):
                component = i64(drawn)
        if component < 0:
            total = tile_country_length(tile_x, tile_y, index, row_length)
            if total == 0:
                return s
            x0 = philox_block(base + u64(2 * rule.max_attempts + 1), stream_high, stream_key)[0]
            target = i64(multiply_wide(x0, u64(total))[0])
            x, y = tile_country_position(tile_x, tile_y, index, row_length, target)
            component = i64(3)
        out[0][s], out[1][s], out[2][s], out[3][s] = x, y, attempt, component
    return -1


@dataclass(frozen=True)
class JitterReplay:
    """Sites in site number order: fixed-point X, Y, and the number of attempts.

    `component`: 0 core, 1 secondary, 2 sparse tail, 3 placed by the scan-row fallback (then `fallback` is
    true).
    """

    x: I64
    y: I64
    attempts: I64
    component: I64
    fallback: NDArray[np.bool_]


def settlement_anchors(
    tile_id: ArrayLike,
    tiles_per_degree: int,
    lon_e5: ArrayLike,
    lat_e5: ArrayLike,
    population: ArrayLike,
    geonameid: ArrayLike,
) -> tuple[I64, I64]:
    """Fraction (2^-32 of the tile, floored) of the largest settlement in each of the tiles; -1 without one.

    `tile_id` int64[n]; the settlements of the country: degrees * 10^5, inhabitants, ids. Ties: smallest id.
    """
    d, columns = tiles_per_degree, 360 * tiles_per_degree
    east = (owned(lon_e5, np.int64) + 18_000_000) * d
    south = (9_000_000 - owned(lat_e5, np.int64)) * d
    home = south // 100_000 * columns + east // 100_000 % columns
    rank = np.lexsort((owned(geonameid, np.int64), -owned(population, np.int64), home))
    wanted = owned(tile_id, np.int64)
    x, y = np.full(len(wanted), -1, np.int64), np.full(len(wanted), -1, np.int64)
    if len(rank):
        slot = np.minimum(np.searchsorted(home[rank], wanted), len(rank) - 1)
        found = home[rank][slot] == wanted
        first = rank[slot[found]]
        x[found] = ((east[first] % 100_000) << 32) // 100_000
        y[found] = ((south[first] % 100_000) << 32) // 100_000
    return x, y


def replay_jitter(
    seed: int,
    iso: str,
    merchant_ids: ArrayLike,
    n_sites: ArrayLike,
    tile_id: ArrayLike,
    tile_population_micro: ArrayLike,
    settlement_xy: tuple[I64, I64],
    rule: ClusterRule,
    index: EdgeIndex,
) -> JitterReplay:
    """Replay cluster_v3 for every site of one country, in site number order.

    `tile_id`, `tile_population_micro` int64[n] per site: its tile, and that tile's population in
    micro-persons; `settlement_xy` from `settlement_anchors`. Raises ContractError E613 for a tile that holds
    none of the country.
    """
    pair, order = number_sites(n_sites)
    tiles, people = owned(tile_id, np.int64), owned(tile_population_micro, np.int64)
    ids = owned(merchant_ids, np.uint64)
    key, high = pair_streams_v2(seed, "jitter_v3", iso, ids)
    x, y, attempts, component = (np.empty(len(pair), np.int64) for _ in range(4))
    out = (x, y, attempts, component)
    bad = int(cluster_sites(pair, order, tiles, people, *settlement_xy, key, high, rule, index, out))
    if bad >= 0:
        where = f"{iso}, merchant {ids[pair[bad]]}, site {order[bad]}, tile {tiles[bad]}"
        raise ContractError(
            "E613",
            "no sub-row of the site's tile meets the country",
            where=where,
            next_step="check the tile index against the polygons it was made from",
        )
    return JitterReplay(x, y, attempts, component, component == 3)
