"""The second implementation of S6's modes uniform_v1 and mixture_v2, of the first engine (kernels.md, section 6).

Independent of the production kernels, as `replay_draws` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg1b.errors import ContractError
from seg1b.kernels.jit import njit
from seg1b.kernels.replay_containment import (
    I64,
    TILE_UNITS,
    EdgeIndex,
    i64,
    owned,
    point_in_country,
    point_on_border,
)
from seg1b.kernels.replay_draws import U64, number_sites, philox_block, site_streams_v1, u64, unit_interval

F64 = NDArray[np.float64]


class MixtureRule(NamedTuple):
    """mixture_v2: weights; exponents and largest offsets float64[3, 2] by component and axis (lon, lat)."""

    selection_blend: float
    core_weight: float
    secondary_weight: float
    exponent: F64
    max_offset: F64


# A negative core weight says: no components, u is the fraction.
UNIFORM = MixtureRule(0.0, -1.0, 0.0, np.ones((3, 2)), np.ones((3, 2)))


@njit
def mixture_fraction(u: float, component: int, axis: int, rule: MixtureRule) -> float:
    """0.5 + 0.5 * sign(c) * |c|^exponent * max_offset, c = 2u - 1, clipped: a fraction of the tile."""
    c = 2.0 * u - 1.0
    sign = 1.0 if c > 0.0 else (-1.0 if c < 0.0 else 0.0)
    stretched = abs(c) ** rule.exponent[component, axis] * rule.max_offset[component, axis]
    fraction: float = min(max(0.5 + 0.5 * sign * stretched, 0.0), 1.0)
    return fraction


@njit
def v1_sites(
    tile: I64,
    key: U64,
    high: U64,
    low: U64,
    max_attempts: int,
    tiles_per_degree: int,
    rule: MixtureRule,
    index: EdgeIndex,
    lon: F64,
    lat: F64,
    attempts: I64,
    component: I64,
) -> int:
    """Replay each v1 site from its own stream, borders inside; returns the first hopeless site, or -1."""
    columns = 360 * tiles_per_degree
    d = float(tiles_per_degree)
    scale = d * 4294967296.0
    for s in range(tile.shape[0]):
        column = tile[s] % columns - 180 * tiles_per_degree
        line = 90 * tiles_per_degree - tile[s] // columns
        west, south = column / d, (line - 1) / d
        width, height = (column + 1) / d - west, line / d - south
        counter, top, done = u64(low[s]), u64(high[s]), False
        for attempt in range(max_attempts):
            x0, x1 = philox_block(counter, top, u64(key[s]))
            u, v, kind = unit_interval(x0), unit_interval(x1), i64(-1)
            if rule.core_weight >= 0.0:
                selector = (1.0 - rule.selection_blend) * u + rule.selection_blend * v
                kind = i64(2)
                if selector < rule.core_weight:
                    kind = i64(0)
                elif selector < rule.core_weight + rule.secondary_weight:
                    kind = i64(1)
                u, v = mixture_fraction(u, kind, 0, rule), mixture_fraction(v, kind, 1, rule)
            lon[s], lat[s] = west + u * width, south + v * height
            attempts[s], component[s] = attempt + 1, kind
            x = i64(np.rint(lon[s] * scale)) + 180 * tiles_per_degree * TILE_UNITS
            y = 90 * tiles_per_degree * TILE_UNITS - i64(np.rint(lat[s] * scale))
            done = point_in_country(x, y, index) or point_on_border(x, y, index)
            if done:
                break
            counter = (counter + u64(1)) & u64(0xFFFFFFFFFFFFFFFF)
            if counter == u64(0):
                top = (top + u64(1)) & u64(0xFFFFFFFFFFFFFFFF)
        if not done:
            return s
    return -1


@dataclass(frozen=True)
class JitterV1Replay:
    """Sites in site number order; `component`: -1 uniform, 0 core, 1 secondary, 2 sparse tail."""

    lon_deg: F64
    lat_deg: F64
    attempts: I64
    component: I64


def replay_jitter_v1(
    seed: int,
    iso: str,
    merchant_ids: ArrayLike,
    n_sites: ArrayLike,
    tile_id: ArrayLike,
    manifest_fingerprint: str,
    namespace: str,
    max_attempts: int,
    rule: MixtureRule,
    index: EdgeIndex,
) -> JitterV1Replay:
    """Replay uniform_v1 (rule UNIFORM) or mixture_v2 for every site of one country, in site number order.

    Raises ContractError E613 when a site's attempts run out, as the v1 family does.
    """
    pair, order = number_sites(n_sites)
    ids, tiles = owned(merchant_ids, np.uint64), owned(tile_id, np.int64)
    label = f"in_cell_jitter:{namespace}"
    streams = [
        stream
        for m, n in zip(ids, owned(n_sites, np.int64), strict=True)
        for stream in site_streams_v1(manifest_fingerprint, seed, label, int(m), iso, int(n))
    ]
    key, high, low = np.array(streams, np.uint64).reshape(-1, 3).T.copy()
    lon, lat = np.empty(len(pair)), np.empty(len(pair))
    attempts, component = np.empty(len(pair), np.int64), np.empty(len(pair), np.int64)
    d = index.world_width // (360 * TILE_UNITS)
    bad = int(v1_sites(tiles, key, high, low, max_attempts, d, rule, index, lon, lat, attempts, component))
    if bad >= 0:
        raise ContractError(
            "E613",
            f"no point of the tile fell into the country in {max_attempts} attempts",
            where=f"{iso}, merchant {ids[pair[bad]]}, site {order[bad]}, tile {tiles[bad]}",
            next_step="the v1 jitter has no fallback: choose mode cluster_v3, or more attempts",
        )
    return JitterV1Replay(lon, lat, attempts, component)
