"""S4: how many of a merchant's sites of a country stand in which tile.

Reads S3's requirements and S2's weights; knows nothing of catalogues, polygons or people. Three methods:
`two_stage_pps` (default) and `systematic_pps` draw tiles in proportion to weight; `largest_remainder_v1` reproduces
the first engine. The counts of a pair sum to its requirement exactly, and nothing here moves a site to another country.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg1b.errors import ContractError
from seg1b.kernels.largest_remainder import (
    LargestRemainderAllocation,
    LargestRemainderControls,
    allocate_country_v1,
    rank_by_weight,
)
from seg1b.kernels.trade_areas import CountryAllocation, allocate_country, sample_each_pair
from seg1b.policy.base import exact_fraction
from seg1b.policy.models import AllocationPolicy
from seg1b.states.tables import Pairs, Plan
from seg1b.states.world_model import WorldModel

CountryPlan = CountryAllocation | LargestRemainderAllocation


@dataclass(frozen=True)
class Allocation:
    """A shard's plan and one record of diagnostics per country."""

    plan: Plan
    diagnostics: list[dict[str, Any]]


def run(world: WorldModel, pairs: Pairs, policy: AllocationPolicy, seed: int) -> Allocation:
    """Allocate every pair of a shard.

    Raises ContractError E403_ZERO_TILE_UNIVERSE for a country without tiles and E404_ALLOCATION_MISMATCH if the
    counts of a country do not sum to its requirement.
    """
    parts: list[tuple[int, slice, CountryPlan]] = []
    diagnostics = []
    for country, part in pairs.countries():
        iso = world.iso[country]
        if world.index.tiles[country] == 0:
            raise ContractError(
                "E403_ZERO_TILE_UNIVERSE",
                f"{iso} has {int(pairs.n_sites[part].sum())} sites but no tile",
                where=f"country {iso}",
                next_step="bring polygons in which the country covers at least part of one tile, or deny it in s3",
            )
        allocation = _allocate(world, country, pairs, part, policy, seed)
        if int(allocation.count.sum()) != int(pairs.n_sites[part].sum()):
            raise ContractError(
                "E404_ALLOCATION_MISMATCH", f"the plan of {iso} does not sum to its requirement"
            )
        parts.append((country, part, allocation))
        diagnostics.append(_diagnose(iso, pairs.n_sites[part], allocation, int(world.index.tiles[country])))
    plan = Plan(
        np.concatenate([np.full(len(a.pair), country, np.int16) for country, _, a in parts]),
        np.concatenate([pairs.merchant_id[part][a.pair] for _, part, a in parts]),
        np.concatenate([a.tile for _, _, a in parts]),
        np.concatenate([a.count for _, _, a in parts]),
    )
    return Allocation(plan, diagnostics)


def _allocate(
    world: WorldModel, country: int, pairs: Pairs, part: slice, policy: AllocationPolicy, seed: int
) -> CountryPlan:
    merchants, n_sites = pairs.merchant_id[part], pairs.n_sites[part]
    iso, total = world.iso[country], world.total_weight
    if policy.mode == "largest_remainder_v1":
        rank = rank_by_weight(*world.weights_of(country))
        return allocate_country_v1(rank, total, merchants, n_sites, iso, first_engine_controls(policy))
    curve = world.curve_of(country)
    if policy.mode == "systematic_pps":
        return sample_each_pair(curve, total, merchants, n_sites, seed=seed, country_iso=iso)
    return allocate_country(
        curve, total, merchants, n_sites,
        seed=seed,
        country_iso=iso,
        sites_per_area=policy.two_stage.sites_per_area,
        dispersed_ppm=policy.two_stage.dispersed_ppm,
        guard_soft=exact_fraction(policy.guard.soft),
    )  # fmt: skip


def first_engine_controls(policy: AllocationPolicy) -> LargestRemainderControls:
    """The policy's v1 block as the kernel's controls."""
    block = policy.largest_remainder_v1
    ring, reroute, residual = block.support_diversification, block.reroute, block.residual_redistribution
    return LargestRemainderControls(
        diversification_enabled=ring.enabled,
        apply_n_sites_max=ring.apply_n_sites_max,
        window_fraction=ring.candidate_window_fraction,
        window_min=ring.candidate_window_min,
        window_max=ring.candidate_window_max,
        reroute_enabled=reroute.enabled,
        max_moves_per_pair=reroute.max_moves_per_pair,
        residual_enabled=residual.enabled,
        min_active_tile_fraction=residual.min_active_tile_fraction,
        max_steps_per_pair=residual.max_steps_per_pair,
        soft=policy.guard.soft,
        hard=policy.guard.hard,
        namespace=block.deterministic_seed_namespace,
    )


def _diagnose(iso: str, n_sites: NDArray[np.int64], allocation: CountryPlan, tiles: int) -> dict[str, Any]:
    """Concentration of a country's pairs, observed and the least that n sites on T tiles can have."""
    top1, hhi, active = _concentration(allocation)
    least_top1, least_hhi = concentration_floor(n_sites, tiles)
    record: dict[str, Any] = {
        "country_iso": iso,
        "pairs": len(n_sites),
        "sites": int(n_sites.sum()),
        "top1_share_mean": float(top1.mean()),
        "top1_share_floor_mean": float(least_top1.mean()),
        "hhi_mean": float(hhi.mean()),
        "hhi_floor_mean": float(least_hhi.mean()),
        "active_tiles_mean": float(active.mean()),
    }
    if isinstance(allocation, CountryAllocation):
        record["trade_areas"] = len(allocation.area_tile)
        record["dispersed_sites"] = allocation.dispersed_sites
        record["guard_moves"] = allocation.guard_moves
    else:
        record["diversified_pairs"] = int(allocation.diversified.sum())
        record["guard_moves"] = int(allocation.soft_moves.sum())
        record["residual_moves"] = int(allocation.residual_moves.sum())
    return record


def _concentration(allocation: CountryPlan) -> tuple[NDArray[np.float64], ...]:
    if isinstance(allocation, CountryAllocation):
        return allocation.top1_share, allocation.hhi, allocation.active_tiles.astype(np.float64)
    return allocation.after[:, 0], allocation.after[:, 1], allocation.after[:, 2]


def concentration_floor(
    n_sites: NDArray[np.int64], tiles: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least top-1 share and least HHI of n sites on `tiles` tiles, (P,) each (engine contract 12.5)."""
    reach = np.minimum(n_sites, tiles)
    quotient, remainder = np.divmod(n_sites, reach)
    squares = remainder * (quotient + 1) ** 2 + (reach - remainder) * quotient**2
    return (quotient + (remainder > 0)) / n_sites, squares / (n_sites.astype(np.float64) * n_sites)
