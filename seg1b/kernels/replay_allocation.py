"""The second implementation of S4's drawn plans, two_stage_pps and systematic_pps (kernels.md, section 4).

Independent of the production kernels, as `replay_draws` says.
"""

from __future__ import annotations

from math import gcd, isqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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


class RunPieces(NamedTuple):
    """A country's weights in block-Hilbert order, int64[N]: first tile id, tiles, weight of each, weight before."""

    tile0: I64
    length: I64
    weight: I64
    cum: I64


class TilePieces(NamedTuple):
    """A country's pieces where each tile weighs what its persons say, in block-Hilbert order.

    int64[N]: first tile id, tiles, number of the first in `persons`, weight before. `area_cm2` of a tile by row of
    `columns` tiles; `rule` and `cut` say how persons become masses and masses weights (kernels.md, section 2).
    """

    tile0: I64
    length: I64
    number: I64
    cum: I64
    persons: NDArray[Any]
    area_cm2: I64
    columns: int
    rule: NDArray[np.float64]
    cut: I64


Pieces = RunPieces | TilePieces


def _checked(pieces: Pieces, iso: str) -> tuple[Pieces, int]:
    """The pieces as arrays that kernels take, and K. Raises ContractError if they do not lie end to end from 0."""
    if isinstance(pieces, RunPieces):
        runs = RunPieces(*(owned(column, np.int64) for column in pieces))
        end = runs.cum + runs.weight * runs.length
        if len(end) == 0 or runs.cum[0] != 0 or np.any(end[:-1] != runs.cum[1:]) or end[-1] <= 0:
            raise _broken(iso)
        return runs, int(end[-1])
    tile0, length, number, cum = (owned(column, np.int64) for column in pieces[:4])
    if len(cum) == 0 or cum[0] != 0 or np.any(cum[1:] < cum[:-1]):
        raise _broken(iso)
    area_cm2, rule, cut = (
        owned(pieces.area_cm2, np.int64),
        owned(pieces.rule, np.float64),
        owned(pieces.cut, np.int64),
    )
    persons = pieces.persons  # the one array that is too large to copy
    return TilePieces(tile0, length, number, cum, persons, area_cm2, pieces.columns, rule, cut), int(cut[0])


def _tiles(pieces: Pieces, positions: I64, iso: str) -> I64:
    """The tile that holds each position in [0, K). Raises ContractError if a piece does not fill its interval."""
    tiles = np.empty(len(positions), np.int64)
    if isinstance(pieces, RunPieces):
        _run_tiles(positions, pieces.tile0, pieces.weight, pieces.cum, tiles)
        return tiles
    _weighed_tiles(positions, *pieces, tiles)
    if len(tiles) and tiles.min() < 0:
        raise _broken(iso)
    return tiles


def _broken(iso: str) -> ContractError:
    return ContractError(
        "E_REPLAY_WEIGHTS", "the weight pieces are not one run of cumulative weights from 0", where=iso
    )


@njit
def piece_at(position: int, cum: I64) -> int:
    """Binary search for the last piece that does not begin after `position`; `cum` int64[N] exclusive."""
    low = i64(0)
    high = i64(cum.shape[0])
    while high - low > 1:
        middle = (low + high) // 2
        if cum[middle] <= position:
            low = middle
        else:
            high = middle
    return low


@njit
def _run_tiles(positions: I64, tile0: I64, weight: I64, cum: I64, out: I64) -> None:
    """Equal weights: the tile is found by division."""
    for i in range(positions.shape[0]):
        piece = piece_at(positions[i], cum)
        out[i] = i64(tile0[piece]) + (i64(positions[i]) - i64(cum[piece])) // i64(weight[piece])


@njit
def _tile_weight(persons: float, area_cm2: int, number: int, rule: NDArray[np.float64], cut: I64) -> int:
    """Largest remainder: the floor of mass * K / M, and one more beyond the cut."""
    mass = i64(np.rint(persons * 1e6))
    if rule[0] != 1.0:
        by_area = float(area_cm2) / rule[4]
        by_people = mass / rule[5] if rule[5] > 0.0 else by_area
        mass = i64(np.floor((rule[1] + rule[2] * by_area + rule[3] * by_people) * 2.0**55))
    total, mass_sum = i64(cut[0]), i64(cut[1])
    weight = i64(float(mass) / float(mass_sum) * float(total))
    remainder = mass * total - weight * mass_sum
    while remainder < 0:
        weight -= 1
        remainder += mass_sum
    while remainder >= mass_sum:
        weight += 1
        remainder -= mass_sum
    if remainder > cut[2] or (remainder == cut[2] and number < cut[3]):
        weight += 1
    return weight


@njit
def _weighed_tiles(
    positions: I64, tile0: I64, length: I64, number: I64, cum: I64, persons: NDArray[Any], area_cm2: I64, columns: int,
    rule: NDArray[np.float64], cut: I64, out: I64,
) -> None:  # fmt: skip
    """Weigh the tiles of a piece one after the other; -1 where they do not sum to the piece's weight."""
    for i in range(positions.shape[0]):
        piece = piece_at(positions[i], cum)
        before = i64(cum[piece])
        tile = i64(-1)
        for k in range(length[piece]):
            at = i64(number[piece]) + k
            area = area_cm2[i64(tile0[piece]) // columns]
            before += _tile_weight(float(persons[at]), area, at, rule, cut)
            if tile < 0 and before > positions[i]:
                tile = i64(tile0[piece]) + k
        end = i64(cum[piece + 1]) if piece + 1 < cum.shape[0] else i64(cut[0])
        out[i] = tile if before == end else i64(-1)


@njit
def _site_positions(draws: PlanDraws, first: int, out: I64) -> None:
    """`out[i]` = position of site number first + i."""
    for i in range(out.shape[0]):
        out[i] = weight_position(i64(first + i), draws)


def replay_country_plan(
    seed: int,
    iso: str,
    n_sites: I64,
    pieces: Pieces,
    sites_per_area: int,
    dispersed_ppm: int,
    block: tuple[int, int] | None = None,
) -> I64:
    """Tile of every site number of one country, int64[sum(n_sites)], before S5 permutes inside the pairs.

    Mode two_stage_pps. `n_sites` per pair, pairs by ascending merchant id; `block`: the number of their first site and
    the country's sites, where they are not all of its pairs. Raises ContractError E_REPLAY_WEIGHTS if the pieces are
    not contiguous from 0.
    """
    pieces, total = _checked(pieces, iso)
    sites = int(owned(n_sites, np.int64).sum())
    positions = np.empty(sites, np.int64)
    if sites:
        first, of = block or (0, sites)
        draws = plan_draws(seed, iso, of, total, sites_per_area, dispersed_ppm)
        _site_positions(draws, first, positions)
    return _tiles(pieces, positions, iso)


def replay_pair_plan(
    seed: int, iso: str, merchant_ids: NDArray[np.uint64], n_sites: I64, pieces: Pieces
) -> I64:
    """As `replay_country_plan`, mode systematic_pps: each pair samples alone, pair stream "alloc_pair"."""
    pieces, total = _checked(pieces, iso)
    positions: list[int] = []
    for merchant, n in zip(owned(merchant_ids, np.uint64), owned(n_sites, np.int64), strict=True):
        start = draw_below(stream_v2(seed, "alloc_pair", iso, int(merchant)), total)
        positions += [(start + k * total) // int(n) for k in range(int(n))]
    return _tiles(pieces, np.array(positions, np.int64), iso)
