"""The second, independent implementation of every random draw: the check of S9 and `seg1b verify`.

Nothing here is shared with the production kernels. One site at a time, in closed form where there is one;
128-bit products by 32-bit limbs; positions of systematic samples by long division; points against all edges
of their row. The compiled functions also run as plain Python on big integers (rebind `u64` and `i64` to
`int`): the tests do so.

A country's sites are numbered by pair (ascending merchant id), then by site_order 1..n of the pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, isqrt
from typing import Any, NamedTuple, cast

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
    multiply_divide,
    owned,
    point_in_country,
    point_on_border,
    tile_country_length,
    tile_country_position,
)

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
u64 = cast(Callable[[Any], int], np.uint64)  # in compiled code a conversion; tests rebind it to `int`

MILLION = 1_000_000
ANCHOR_COUNTER_HIGH = 0x616E63686F72
MASK = (1 << 64) - 1


# ---- random numbers (kernels.md, section 1) ----------------------------------------------------------------


@njit
def multiply_wide(a: int, b: int) -> tuple[int, int]:
    """High and low 64 bits of the product of two unsigned 64-bit integers, by four 32-bit limb products."""
    low_half, shift = u64(0xFFFFFFFF), u64(32)
    a0, a1, b0, b1 = a & low_half, a >> shift, b & low_half, b >> shift
    p00, p01, p10, p11 = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    middle = (p00 >> shift) + (p01 & low_half) + (p10 & low_half)
    high = p11 + (p01 >> shift) + (p10 >> shift) + (middle >> shift)
    return high, ((middle & low_half) << shift) | (p00 & low_half)


@njit
def philox_block(counter_lo: int, counter_hi: int, key: int) -> tuple[int, int]:
    """One block of Philox2x64-10: all arguments and results uint64."""
    x0, x1, k = counter_lo, counter_hi, key
    for _ in range(10):
        high, low = multiply_wide(u64(0xD2B74407B1CE6E93), x0)
        x0, x1 = high ^ k ^ x1, low
        k = (k + u64(0x9E3779B97F4A7C15)) & u64(0xFFFFFFFFFFFFFFFF)
    return x0, x1


@njit
def unit_interval(x: int) -> float:
    """(binary64(x) + 1) * 2^-64, below 1: the halves are exact doubles, so their sum rounds once, to even."""
    rounded = float(x >> u64(32)) * 4294967296.0 + float(x & u64(0xFFFFFFFF))
    return min((rounded + 1.0) * 2.0**-64, 1.0 - 2.0**-53)


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8")
    return len(encoded).to_bytes(4, "little") + encoded


def stream_v2(
    seed: int, label: str, iso: str | None = None, merchant_id: int | None = None
) -> tuple[int, int]:
    """(key, counter_hi) of a v2 stream of the world, a country or a pair; its counter_lo starts at 0."""
    root = hashlib.sha256(_text("seg1b/rng/v2") + seed.to_bytes(8, "little")).digest()
    message = root + _text(label) + (b"" if iso is None else _text(iso))
    if merchant_id is not None:
        message += merchant_id.to_bytes(8, "little")
    digest = hashlib.sha256(message).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def _pair_hash_v1(fingerprint: str, seed: int, label: str, merchant_id: int, iso: str) -> hashlib._Hash:
    master = _text("mlr:1B.master") + bytes.fromhex(fingerprint) + seed.to_bytes(8, "little")
    merchant = hashlib.sha256(merchant_id.to_bytes(8, "little")).digest()[24:]
    prefix = hashlib.sha256(master).digest() + _text("mlr:1B")
    return hashlib.sha256(prefix + _text(label) + merchant + _text(iso))


def _stream_of_digest_v1(digest: bytes) -> tuple[int, int, int]:
    low = int.from_bytes(digest[24:], "big")
    return int.from_bytes(digest[24:], "little"), int.from_bytes(digest[16:24], "big"), low


def pair_stream_v1(
    fingerprint: str, seed: int, label: str, merchant_id: int, iso: str
) -> tuple[int, int, int]:
    """(key, counter_hi, counter_lo) of a v1 pair stream; the manifest fingerprint is 64 hex digits."""
    return _stream_of_digest_v1(_pair_hash_v1(fingerprint, seed, label, merchant_id, iso).digest())


def site_streams_v1(
    fingerprint: str, seed: int, label: str, merchant_id: int, iso: str, n_sites: int
) -> list[tuple[int, int, int]]:
    """(key, counter_hi, counter_lo) of the v1 site streams of a pair, site_order 1 to n_sites."""
    shared = _pair_hash_v1(fingerprint, seed, label, merchant_id, iso)
    streams = []
    for site_order in range(1, n_sites + 1):
        state = shared.copy()
        state.update(site_order.to_bytes(8, "little"))
        streams.append(_stream_of_digest_v1(state.digest()))
    return streams


def draw_below(stream: tuple[int, int], bound: int) -> int:
    """Uniform on [0, bound), bound >= 1: the first x0 below the largest multiple of `bound`, reduced."""
    limit = (1 << 64) - (1 << 64) % bound
    key, counter_hi = u64(stream[0]), u64(stream[1])
    counter = 0
    while True:
        x0 = int(philox_block(u64(counter), counter_hi, key)[0])
        if x0 < limit:
            return x0 % bound
        counter += 1


# ---- S4 v2 (kernels.md, section 4) -------------------------------------------------------------------------


class PlanDraws(NamedTuple):
    """The integers that fix a country's two-stage plan: four draws, and what follows from them."""

    total: int
    sites: int
    areas: int
    stride: int
    dispersed_ppm: int
    dispersed: int
    area_start: int
    dispersed_start: int
    dispersed_phase: int
    fill_start: int


def golden_stride(areas: int) -> int:
    """The integer nearest to areas / golden ratio and coprime to `areas`: r, r-1, r+1, r-2, ... from 1 up."""
    nearest = (isqrt(5 * areas * areas) - areas + 1) // 2
    for distance in range(areas + 1):
        for candidate in (nearest - distance, nearest + distance):
            if candidate >= 1 and gcd(candidate, areas) == 1:
                return candidate
    return 1


def plan_draws(
    seed: int, iso: str, sites: int, total: int, sites_per_area: int, dispersed_ppm: int
) -> PlanDraws:
    """Draw once what a country's plan needs; `total` is K, the sum of the country's integer weights."""
    areas = -(-sites // sites_per_area)
    phase = draw_below(stream_v2(seed, "dispersed", iso), MILLION)
    dispersed = (sites * dispersed_ppm + phase) // MILLION
    return PlanDraws(
        total=total,
        sites=sites,
        areas=areas,
        stride=golden_stride(areas),
        dispersed_ppm=dispersed_ppm,
        dispersed=dispersed,
        area_start=draw_below(stream_v2(seed, "trade_area", iso), total),
        dispersed_start=draw_below(stream_v2(seed, "dispersed_start", iso), total),
        dispersed_phase=phase,
        fill_start=draw_below(stream_v2(seed, "alloc_start", iso), areas),
    )


@njit
def weight_position(site: int, draws: PlanDraws) -> int:
    """Position in [0, K) on the country's cumulative weights where site number `site` stands, closed form."""
    before = (site * draws.dispersed_ppm + draws.dispersed_phase) // MILLION
    after = ((site + 1) * draws.dispersed_ppm + draws.dispersed_phase) // MILLION
    if after > before:
        k, n, start = before, draws.dispersed, draws.dispersed_start
    else:
        k = (site - before + draws.fill_start) % draws.areas * draws.stride % draws.areas
        n, start = draws.areas, draws.area_start
    quotient, remainder = multiply_divide(i64(draws.total), i64(k), i64(n))
    return quotient + (start + remainder) // n


@njit
def tile_at(position: int, tile0: I64, weight: I64, cum: I64) -> int:
    """The tile that holds `position`: binary search for the last piece that does not begin after it."""
    low = i64(0)
    high = i64(cum.shape[0])
    while high - low > 1:
        middle = (low + high) // 2
        if cum[middle] <= position:
            low = middle
        else:
            high = middle
    return i64(tile0[low]) + (position - i64(cum[low])) // i64(weight[low])


@njit
def site_tiles(draws: PlanDraws, tile0: I64, weight: I64, cum: I64, out: I64) -> None:
    """`out[i]` = tile of site number i."""
    for site in range(out.shape[0]):
        out[site] = tile_at(weight_position(i64(site), draws), tile0, weight, cum)


def _checked_pieces(
    iso: str, tile0: ArrayLike, length: ArrayLike, weight: ArrayLike, cum: ArrayLike
) -> tuple[I64, I64, I64, int]:
    tile0, length, weight, cum = (owned(column, np.int64) for column in (tile0, length, weight, cum))
    end = cum + weight * length
    if len(cum) == 0 or cum[0] != 0 or np.any(end[:-1] != cum[1:]) or end[-1] <= 0:
        raise ContractError(
            "E_REPLAY_WEIGHTS", "the weight pieces are not one run of cumulative weights from 0", where=iso
        )
    return tile0, weight, cum, int(end[-1])


def replay_country_plan(
    seed: int,
    iso: str,
    n_sites: ArrayLike,
    tile0: ArrayLike,
    length: ArrayLike,
    weight: ArrayLike,
    cum: ArrayLike,
    sites_per_area: int,
    dispersed_ppm: int,
) -> I64:
    """Tile of every site number of one country, int64[sum(n_sites)], before S5 permutes inside the pairs.

    Mode two_stage_pps. `n_sites` per pair, pairs by ascending merchant id; pieces in block-Hilbert order
    (`cum` exclusive). Raises ContractError if the pieces are not contiguous from 0.
    """
    tile0, weight, cum, total = _checked_pieces(iso, tile0, length, weight, cum)
    sites = int(owned(n_sites, np.int64).sum())
    tiles = np.empty(sites, np.int64)
    if sites:
        draws = plan_draws(seed, iso, sites, total, sites_per_area, dispersed_ppm)
        site_tiles(draws, tile0, weight, cum, tiles)
    return tiles


def replay_pair_plan(
    seed: int,
    iso: str,
    merchant_ids: ArrayLike,
    n_sites: ArrayLike,
    tile0: ArrayLike,
    length: ArrayLike,
    weight: ArrayLike,
    cum: ArrayLike,
) -> I64:
    """As `replay_country_plan`, mode systematic_pps: each pair samples alone, pair stream "alloc_pair"."""
    tile0, weight, cum, total = _checked_pieces(iso, tile0, length, weight, cum)
    tiles: list[int] = []
    for merchant, n in zip(owned(merchant_ids, np.uint64), owned(n_sites, np.int64), strict=True):
        start = draw_below(stream_v2(seed, "alloc_pair", iso, int(merchant)), total)
        points = [(start + k * total) // int(n) for k in range(int(n))]
        tiles += [int(tile_at(point, tile0, weight, cum)) for point in points]
    return np.array(tiles, np.int64)


# ---- S5 (kernels.md, section 5) ----------------------------------------------------------------------------


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
def unit_intervals(x: U64) -> F64:
    """`unit_interval` of every element."""
    u = np.empty(x.shape[0], np.float64)
    for s in range(x.shape[0]):
        u[s] = unit_interval(u64(x[s]))
    return u


def number_sites(n_sites: ArrayLike) -> tuple[I64, I64]:
    """(pair index, site_order from 1) of every site number."""
    counts = owned(n_sites, np.int64)
    pair = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    first = np.cumsum(counts) - counts
    return pair, np.arange(1, len(pair) + 1, dtype=np.int64) - first[pair]


def replay_assignment(
    seed: int,
    iso: str,
    merchant_ids: ArrayLike,
    n_sites: ArrayLike,
    plan_tiles: ArrayLike,
    v1_manifest_fingerprint: str | None = None,
) -> I64:
    """Tile of every site of one country, int64[n], in site number order.

    `plan_tiles` int64[n]: each pair's multiset of tiles, pair after pair, in any order within a pair. With a
    fingerprint the v1 family: v1 streams, and order by u instead of x0.
    """
    pair, order = number_sites(n_sites)
    ids = [int(m) for m in owned(merchant_ids, np.uint64)]
    fingerprint, label = v1_manifest_fingerprint, "site_tile_assign"
    if fingerprint is None:
        streams = [(*stream_v2(seed, label, iso, m), 0) for m in ids]
    else:
        streams = [pair_stream_v1(fingerprint, seed, label, m, iso) for m in ids]
    key, high, low = np.array(streams, np.uint64).reshape(-1, 3).T.copy()
    x0 = np.empty(len(pair), np.uint64)
    assignment_draws(pair, order, key, high, low, fingerprint is not None, x0)
    drawn = x0 if fingerprint is None else unit_intervals(x0)
    tiles = owned(plan_tiles, np.int64)
    result = np.empty(len(pair), np.int64)
    result[np.lexsort((order, drawn, pair))] = tiles[np.lexsort((tiles, pair))]
    return result


# ---- S6 cluster_v3 (kernels.md, section 6) -----------------------------------------------------------------


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
        np.array([persons * MILLION for persons in thresholds_persons], np.int64),
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
    streams = [stream_v2(seed, "jitter_v3", iso, int(m)) for m in ids]
    key, high = np.array(streams, np.uint64).reshape(-1, 2).T.copy()
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


# ---- S6 uniform_v1 and mixture_v2 (kernels.md, section 6) --------------------------------------------------


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
