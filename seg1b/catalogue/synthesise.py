"""Synthesise an outlet catalogue by outlet quotas, with all its intermediates.

Merchants first (sizes, dispersion, openness), then quotas per country, then blocks into countries, then the
candidate sets around what was realised. Everything is drawn from the seed by purpose ("catalogue/..."), and
integers decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.candidates import CandidateSet, candidate_sets
from seg1b.catalogue.draws import Draws
from seg1b.catalogue.merchants import MerchantPlan, plan_merchants, split_foreign
from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.placement import Blocks, Incident, Placement, merchant_blocks, place_blocks
from seg1b.catalogue.quotas import country_quotas, known_shock, shocked_quotas
from seg1b.catalogue.shares import CountryShares
from seg1b.errors import ContractError, InputError
from seg1b.policy.models import SynthesisPolicy
from seg1b.world.content import CountryTable

Integers = npt.NDArray[np.int64]

SYNTHESIS_REVISION: Final = 1
"""Goes up whenever the same policy, world and seed give other rows; part of a bundle's fingerprint."""


@dataclass(frozen=True)
class Synthesis:
    """A synthesised catalogue with what led to it.

    member_sites int32[K]: outlets in each candidate row (0 for members without an outlet and for non-members;
    the home row holds the home outlets). quota int64[C]. incidents: blocks that needed help. rng_blocks:
    Philox blocks by label.
    """

    catalogue: OutletCatalogue
    plan: MerchantPlan
    candidates: CandidateSet
    member_sites: npt.NDArray[np.int32]
    quota: Integers
    incidents: tuple[Incident, ...]
    rng_blocks: dict[str, int]
    policy: SynthesisPolicy

    @property
    def seed(self) -> int:
        """Seed of the synthesis."""
        return self.catalogue.seed


def synthesise(
    countries: CountryTable, shares: CountryShares, policy: SynthesisPolicy, seed: int
) -> Synthesis:
    """Synthesise the catalogue of `seed`: a pure function of its arguments, the same bytes on every machine.

    Raises InputError E_CATALOGUE_TOO_SMALL, E_CATALOGUE_CAPACITY or E_CATALOGUE_ONE_COUNTRY.
    """
    foreign_countries = int(shares.served.sum()) - 1
    if foreign_countries < 0:
        raise InputError(
            "E_CATALOGUE_ONE_COUNTRY",
            "no country is served",
            where="s2.country_shares.yaml",
            next_step="check the country-shares policy and the world's country table",
        )
    draws = Draws(seed)
    plan = plan_merchants(draws, policy, foreign_countries)
    blocks = merchant_blocks(plan, split_foreign(draws, plan, policy.cross_border.dirichlet_alpha))
    quota = country_quotas(draws, shares, int(plan.size.sum()), policy.countries.shock_sigma)
    region = _region_numbers(countries)
    placement = place_blocks(draws, plan, blocks, quota, region, policy.countries)
    candidates = candidate_sets(
        draws, plan, blocks, placement.country, shares.share_ppm, region, policy.countries.same_region_weight
    )
    catalogue = _catalogue(shares.iso, plan, blocks, placement, seed)
    synthesis = Synthesis(
        catalogue=catalogue,
        plan=plan,
        candidates=candidates,
        member_sites=_member_sites(candidates, catalogue),
        quota=quota,
        incidents=placement.incidents,
        rng_blocks=dict(sorted(draws.ledger.items())),
        policy=policy,
    )
    _check(synthesis)
    return synthesis


def planned_quotas(shares: CountryShares, policy: SynthesisPolicy, seed: int) -> tuple[Integers, int]:
    """(outlets of every country int64[C], merchants) that `synthesise` would give, without placing a merchant.

    Raises as `synthesise`. Only a merchant too large for every country's quota could make them differ, which the
    synthesis records as an incident.
    """
    sigma = policy.countries.shock_sigma
    served = [shares.iso[c] for c in np.flatnonzero(shares.served).tolist()]
    total, merchants = _planned_sites(policy, max(0, len(served) - 1), seed)
    return shocked_quotas([known_shock(seed, iso, sigma) for iso in served], shares, total), merchants


@lru_cache(maxsize=256)
def _planned_sites(policy: SynthesisPolicy, foreign_countries: int, seed: int) -> tuple[int, int]:
    """(outlets, merchants) of a plan: the same whatever the country shares are."""
    plan = plan_merchants(Draws(seed), policy, foreign_countries)
    return int(plan.size.sum()), int(plan.size.size)


def _region_numbers(countries: CountryTable) -> Integers:
    _, number = np.unique(np.array(countries.macro_region), return_inverse=True)
    return number.astype(np.int64)


def _catalogue(
    iso: tuple[str, ...], plan: MerchantPlan, blocks: Blocks, placement: Placement, seed: int
) -> OutletCatalogue:
    home = np.zeros(plan.merchant_id.size, np.int64)
    home[blocks.merchant[blocks.is_home]] = placement.country[blocks.is_home]
    order = np.lexsort((placement.country, blocks.merchant))
    merchant = blocks.merchant[order]
    return OutletCatalogue(
        iso=iso,
        merchant_id=plan.merchant_id[merchant],
        country=placement.country[order].astype(np.int16),
        n_sites=blocks.size[order].astype(np.int32),
        home_country=home[merchant].astype(np.int16),
        raw_outlet_draw=plan.size[merchant].astype(np.int32),
        seed=seed,
    )


def _pair_keys(merchant_id: npt.NDArray[np.uint64], country: npt.NDArray[np.int16]) -> npt.NDArray[np.uint64]:
    return merchant_id * np.uint64(1 << 15) + country.astype(np.uint64)


def _member_sites(candidates: CandidateSet, catalogue: OutletCatalogue) -> npt.NDArray[np.int32]:
    """int32[K]: outlets of each candidate row. Every pair of the catalogue must be a candidate row."""
    pairs = _pair_keys(catalogue.merchant_id, catalogue.country)
    rows = _pair_keys(candidates.merchant_id, candidates.country)
    at = np.minimum(np.searchsorted(pairs, rows), pairs.size - 1)
    return np.where(pairs[at] == rows, catalogue.n_sites[at], 0).astype(np.int32)


def _check(synthesis: Synthesis) -> None:
    """The synthesis against its own promises: totals, homes, and realised within members within
    candidates.
    """
    catalogue, candidates = synthesis.catalogue, synthesis.candidates
    outside = (synthesis.member_sites > 0) & ~candidates.is_member & (candidates.rank > 0)
    home_rows = candidates.country[candidates.rank == 0]
    promises = {
        "the outlets are those of the merchants' sizes": catalogue.site_count
        == int(synthesis.plan.size.sum()),
        "every outlet lies in a candidate country": int(synthesis.member_sites.sum()) == catalogue.site_count,
        "every foreign outlet lies in a member country": not bool(outside.any()),
        "rank 0 is the home": bool(
            np.array_equal(home_rows, catalogue.home_country[catalogue.merchant_start])
        ),
        "quotas are met": any(i.kind == "quota_exceeded" for i in synthesis.incidents)
        or bool(np.array_equal(catalogue.sites_per_country(), synthesis.quota)),
    }
    broken = [name for name, holds in promises.items() if not holds]
    if broken:
        raise ContractError(
            "E_CATALOGUE_CONTRACT",
            "the synthesis broke its promise: " + "; ".join(broken),
            where=f"seed {synthesis.seed}",
            next_step="report this as a defect of seg1b, with the policy and the seed",
        )
