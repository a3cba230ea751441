"""The second implementation of S4's drawn plans, two_stage_pps and systematic_pps (kernels.md, section 4).

Independent of the production kernels, as `replay_draws` says.
"""

from __future__ import annotations

from math import gcd, isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from seg1b.errors import ContractError
from seg1b.kernels.jit import njit
from seg1b.kernels.replay_containment import I64, i64, multiply_divide, owned
from seg1b.kernels.replay_draws import draw_below, stream_v2

MILLION = 1_000_000


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
    """The tile that holds `position`: binary search for the last piece that does not begin after it.

    Pieces int64[N]: first tile id, weight of each tile, exclusive cumulative weight.
    """
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
def site_tiles(draws: PlanDraws, tile0: I64, weight: I64, cum: I64, first: int, out: I64) -> None:
    """`out[i]` = tile of site number first + i."""
    for i in range(out.shape[0]):
        out[i] = tile_at(weight_position(i64(first + i), draws), tile0, weight, cum)


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
    block: tuple[int, int] | None = None,
) -> I64:
    """Tile of every site number of one country, int64[sum(n_sites)], before S5 permutes inside the pairs.

    Mode two_stage_pps. `n_sites` per pair, pairs by ascending merchant id; `block`: the number of their first site and
    the country's sites, where they are not all of its pairs; pieces in block-Hilbert order
    (`cum` exclusive). Raises ContractError if the pieces are not contiguous from 0.
    """
    tile0, weight, cum, total = _checked_pieces(iso, tile0, length, weight, cum)
    sites = int(owned(n_sites, np.int64).sum())
    tiles = np.empty(sites, np.int64)
    if sites:
        first, of = block or (0, sites)
        draws = plan_draws(seed, iso, of, total, sites_per_area, dispersed_ppm)
        site_tiles(draws, tile0, weight, cum, first, tiles)
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
