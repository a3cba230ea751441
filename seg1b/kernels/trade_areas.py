"""Two-stage systematic PPS: a country's merchants meet in shared trade areas, a few sites are dispersed.

Stage one samples trade areas (tiles) in proportion to weight along a Hilbert curve; stage two deals the
country's sites to them in golden-ratio order, so that every area gets the floor or the ceil of its load
and a pair's sites lie far apart. A small fraction of the sites is sampled over the whole country instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.jit import njit
from seg1b.kernels.philox import block, draw_below
from seg1b.kernels.sorting import sort_ascending
from seg1b.kernels.streams import country_stream, pair_streams
from seg1b.kernels.systematic import Curve, take, take_each

MILLION = 1_000_000


@dataclass(frozen=True)
class CountryAllocation:
    """Allocation plan of one country.

    Plan rows, ascending by (pair, tile): `pair` int64[R] index of the merchant, `tile` int64[R], `count`
    int64[R] >= 1. `site_tile` int64[S]: tile of site i before S5 relabels it, sites numbered by pair.
    `area_tile` int64[A]: trade areas in curve order (empty in systematic_pps mode). Per pair:
    `top1_share` (largest count over n), `hhi` (sum of squared shares), `active_tiles`. `dispersed_sites`
    and `guard_moves` count over the country.
    """

    pair: npt.NDArray[np.int64]
    tile: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    site_tile: npt.NDArray[np.int64]
    area_tile: npt.NDArray[np.int64]
    dispersed_sites: int
    guard_moves: int
    top1_share: npt.NDArray[np.float64]
    hhi: npt.NDArray[np.float64]
    active_tiles: npt.NDArray[np.int64]


def golden_stride(areas: int) -> int:
    """The integer nearest to areas / phi that is coprime to `areas`, the lower one first; 1 for one area."""
    if areas == 1:
        return 1
    nearest = (isqrt(5 * areas * areas) - areas + 1) // 2
    for distance in range(areas):
        for candidate in (nearest - distance, nearest + distance):
            if candidate >= 1 and gcd(candidate, areas) == 1:
                return candidate
    raise AssertionError("1 is coprime to everything")


def allocate_country(
    curve: Curve,
    total_weight: int,
    merchant_ids: npt.NDArray[np.uint64],
    n_sites: npt.NDArray[np.int64],
    *,
    seed: int,
    country_iso: str,
    sites_per_area: int,
    dispersed_ppm: int,
    guard_soft: Fraction | float,
) -> CountryAllocation:
    """Two-stage allocation of all pairs of one country, the product's default.

    `curve`: the country's pieces in block-Hilbert order, weights of sum `total_weight`. `merchant_ids` uint64[P]
    ascending, `n_sites` int64[P] >= 1. Raises ContractError
    E402, E403, E408.
    """
    _check_inputs(curve, total_weight, merchant_ids, n_sites, country_iso)
    if sites_per_area < 1 or not 0 <= dispersed_ppm <= MILLION:
        raise ContractError(
            "E402", f"sites_per_area {sites_per_area} or dispersed_ppm {dispersed_ppm} is out of range"
        )
    sites = int(n_sites.sum())
    areas = -(-sites // sites_per_area)

    def draw(label: str, bound: int) -> int:
        return draw_below(country_stream(seed, label, country_iso), bound)

    area_tile = take(areas, draw("trade_area", total_weight), curve)
    phase = draw("dispersed", MILLION)
    dispersed = (sites * dispersed_ppm + phase) // MILLION
    dispersed_tile = np.empty(0, dtype=np.int64)
    if dispersed:
        start = draw("dispersed_start", total_weight)
        dispersed_tile = take(dispersed, start, curve)
    stride = golden_stride(areas)
    first_area = draw("alloc_start", areas) * stride % areas

    tiles, rank = np.unique(np.concatenate([area_tile, dispersed_tile]), return_inverse=True)
    rank = rank.astype(np.int32)
    pair_start = np.concatenate([[0], np.cumsum(n_sites)]).astype(np.int64)
    area = _deal_areas(sites, areas, first_area, stride, dispersed_ppm, phase)
    soft = Fraction(str(guard_soft))
    moves = int(enforce_guard(area, pair_start, areas, soft.numerator, soft.denominator))
    site_rank = rank[
        np.where(area >= 0, area, areas - 1 - area)
    ]  # of each site's tile among the distinct tiles
    rows = _collapse(site_rank, pair_start)
    return _allocation(rows, tiles, site_rank, n_sites, area_tile, dispersed, moves)


def sample_each_pair(
    curve: Curve,
    total_weight: int,
    merchant_ids: npt.NDArray[np.uint64],
    n_sites: npt.NDArray[np.int64],
    *,
    seed: int,
    country_iso: str,
) -> CountryAllocation:
    """Mode systematic_pps: each pair samples its own n tiles from its own start (stream "alloc_pair").

    Inputs and errors as `allocate_country`; there are no trade areas, and the guard has nothing to act on.
    """
    _check_inputs(curve, total_weight, merchant_ids, n_sites, country_iso)
    key, counter_hi = pair_streams(seed, "alloc_pair", country_iso, merchant_ids)
    u0 = _draw_below_each(key, counter_hi, np.uint64(total_weight))
    site_tile = take_each(n_sites, u0, curve)
    pair_start = np.concatenate([[0], np.cumsum(n_sites)]).astype(np.int64)
    rows = _collapse(site_tile, pair_start)
    none = np.empty(0, dtype=np.int64)
    return _allocation(rows, None, site_tile, n_sites, none, 0, 0)


def _allocation(
    rows: Any, tiles: Any, site_value: Any, n_sites: Any, area_tile: Any, dispersed: int, moves: int
) -> CountryAllocation:
    """Put a plan together; values are ranks in `tiles`, or tile ids themselves."""
    pair, value, count, largest, squares, active = rows
    return CountryAllocation(
        pair=pair,
        tile=value if tiles is None else tiles[value],
        count=count,
        site_tile=site_value if tiles is None else tiles[site_value],
        area_tile=area_tile,
        dispersed_sites=dispersed,
        guard_moves=moves,
        top1_share=largest / n_sites,
        hhi=squares / (n_sites.astype(np.float64) * n_sites),
        active_tiles=active,
    )


def _check_inputs(curve: Curve, total_weight: int, merchant_ids: Any, n_sites: Any, country_iso: str) -> None:
    if len(curve.cum) == 0:
        raise ContractError("E403", f"country {country_iso} has no tiles")
    if total_weight < 1 or curve.total != total_weight:
        raise ContractError("E402", f"the weights of country {country_iso} do not sum to {total_weight}")
    if len(n_sites) == 0 or len(n_sites) != len(merchant_ids) or int(n_sites.min()) < 1:
        raise ContractError("E402", f"country {country_iso} needs pairs, each with at least one site")
    if bool((merchant_ids[1:] <= merchant_ids[:-1]).any()):
        raise ContractError("E408", f"the merchants of country {country_iso} are not strictly ascending")


@njit
def _deal_areas(sites: Any, areas: Any, first_area: Any, stride: Any, dispersed_ppm: Any, phase: Any) -> Any:
    """Area of every site (int64), or -1 - k for the k-th dispersed one."""
    area = np.empty(sites, np.int64)
    here = np.int64(first_area)
    carry = np.int64(phase)
    dispersed = np.int64(0)
    for i in range(sites):
        carry += dispersed_ppm
        if carry >= MILLION:
            carry -= MILLION
            area[i] = -1 - dispersed
            dispersed += 1
            continue
        area[i] = here
        here += stride
        if here >= areas:
            here -= areas
    return area


@njit
def enforce_guard(area: Any, pair_start: Any, areas: Any, soft_numerator: Any, soft_denominator: Any) -> Any:
    """Hold each pair to `max(ceil(soft*n), ceil(n/areas))` sites an area; returns the number of moves.

    `area` int64[S] is changed in place: a site too many goes to the next area on the curve that has room.
    Dispersed sites (negative) are left alone. The fill of `allocate_country` never needs a move.
    """
    load = np.zeros(areas, np.int64)
    moves = np.int64(0)
    for p in range(len(pair_start) - 1):
        start, end = pair_start[p], pair_start[p + 1]
        n = end - start
        limit = max(-(-n * soft_numerator // soft_denominator), -(-n // areas))
        for i in range(start, end):
            here = area[i]
            if here < 0:
                continue
            if load[here] >= limit:
                moves += 1
                while load[here] >= limit:
                    here = here + 1 if here + 1 < areas else 0
                area[i] = here
            load[here] += 1
        for i in range(start, end):
            if area[i] >= 0:
                load[area[i]] = 0
    return moves


def _collapse(site_value: Any, pair_start: npt.NDArray[np.int64]) -> Any:
    """Rows (pair, value, count), values ascending; per pair the largest count, sum of squares, rows.

    `site_value` int32[S] or int64[S], sites of one pair together; every pair has sites.
    """
    values = site_value.copy()
    _sort_each_pair(values, pair_start, values.copy())
    opens = np.ones(len(values), np.bool_)
    opens[1:] = values[1:] != values[:-1]
    opens[pair_start[:-1]] = True
    first = np.flatnonzero(opens)
    pair = np.repeat(np.arange(len(pair_start) - 1), np.diff(pair_start))[first]
    count = np.diff(first, append=len(values))
    first_row = np.searchsorted(first, pair_start[:-1])
    largest = np.maximum.reduceat(count, first_row)
    squares = np.add.reduceat(count * count, first_row).astype(np.float64)
    active = np.diff(first_row, append=len(first))
    return pair, values[first].astype(np.int64), count, largest, squares, active


@njit
def _sort_each_pair(values: Any, pair_start: Any, scratch: Any) -> None:
    """Sort the values of each pair in place."""
    for p in range(len(pair_start) - 1):
        sort_ascending(values[pair_start[p] : pair_start[p + 1]], scratch)


@njit
def _draw_below_each(key: Any, counter_hi: Any, bound: Any) -> Any:
    """`draw_below` for many v2 streams: int64[P] uniform on [0, bound)."""
    out = np.empty(len(key), np.int64)
    leftover = (np.uint64(0) - bound) % bound
    for p in range(len(key)):
        counter = np.uint64(0)
        x0, _ = block(counter, counter_hi[p], key[p])
        while x0 > np.uint64(0) - np.uint64(1) - leftover:
            counter += np.uint64(1)
            x0, _ = block(counter, counter_hi[p], key[p])
        out[p] = np.int64(x0 % bound)
    return out
