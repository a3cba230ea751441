"""S3: how many sites every (merchant, country) pair needs, and what the counts alone already decide.

Counts come from the sealed catalogue; nothing is modelled again. A denied country's pairs are left out, are listed by
number, and stay in every denominator. The exact country metrics stand in the facts; verdicts are made in `scoring`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.screening import screen_counts
from seg1b.catalogue.shares import CountryShares
from seg1b.errors import InputError
from seg1b.policy.models import RequirementsPolicy
from seg1b.states import s0_gate
from seg1b.states.required_pairs import required_pairs
from seg1b.states.tables import (
    COUNTRY,
    PAIR_KEY,
    REQUIREMENTS_TABLE,
    Pairs,
    pairs_from_arrow,
    pairs_to_arrow,
)
from seg1b.store.store import Store
from seg1b.world.content import CountryTable

STATE = "s3"


def run(
    store: Store,
    key: str,
    catalogue_key: str,
    countries: CountryTable,
    tiles: np.ndarray,
    shares: CountryShares,
    policy: RequirementsPolicy,
) -> Pairs:
    """Count, check and publish the requirements of one sealed catalogue.

    `tiles`: tiles per country, (C,). Raises InputError E302_FK_COUNTRY, E303_MISSING_WEIGHTS, E307_PK_DUPLICATE,
    E308_COUNTS_MISMATCH, E314_SITE_ORDER_INTEGRITY, E315_POLICY_ISO_UNKNOWN, E316_NOTHING_REQUIRED.
    """
    catalogue = s0_gate.read_sealed_catalogue(store, catalogue_key, countries.iso)
    pairs, denied = required_pairs(catalogue, countries, policy)
    _require_sites(pairs)
    _require_tiles(pairs, countries, tiles)
    with store.transaction(STATE, key) as out:
        out.add_table(
            REQUIREMENTS_TABLE,
            pairs_to_arrow(countries.iso, pairs),
            partition_column=COUNTRY,
            sorted_by=PAIR_KEY,
        )
        out.facts = {
            "source_sites": catalogue.site_count,
            "sites": int(pairs.n_sites.sum()),
            "pairs": len(pairs.country),
            "merchants": _merchants(catalogue, pairs),
            "denied": denied,
            "country_metrics": country_metrics(pairs, countries, shares),
        }
    return pairs


def load(store: Store, key: str, iso: tuple[str, ...], countries: Sequence[int] | None = None) -> Pairs:
    """The published requirements, of all countries or of some (ascending indices); the others are not read."""
    reader = store.open_table(STATE, key, REQUIREMENTS_TABLE)
    if countries is None:
        return pairs_from_arrow(iso, reader.read())
    return pairs_from_arrow(iso, pa.concat_tables([reader.partition(iso[country]) for country in countries]))


def _merchants(catalogue: OutletCatalogue, pairs: Pairs) -> int:
    """Merchants with a required site: the catalogue's, less those that have denied countries only."""
    served = np.isin(catalogue.country, np.unique(pairs.country))
    ids = catalogue.merchant_id[served]
    return int(np.count_nonzero(ids[1:] != ids[:-1])) + bool(ids.size)


def country_metrics(pairs: Pairs, countries: CountryTable, shares: CountryShares) -> dict[str, Any]:
    """Exact country metrics of the requirements.

    The largest merchant's share is not among them: which countries it is judged in is a parameter of the gates,
    and no gate may reach S3's output.
    """
    sites = pairs.sites_per_country(len(countries))
    metrics = dataclasses.asdict(screen_counts(sites, countries, shares, np.zeros(len(countries), np.int64)))
    return {name: value for name, value in metrics.items() if not name.startswith("largest_merchant")}


def _require_sites(pairs: Pairs) -> None:
    if not len(pairs.country):
        raise InputError(
            "E316_NOTHING_REQUIRED",
            "the denylist leaves no site to place",
            where="s3.requirements.yaml: denylist_country_iso",
            next_step="deny fewer countries, or bring a catalogue with sites elsewhere",
        )


def _require_tiles(pairs: Pairs, countries: CountryTable, tiles: np.ndarray) -> None:
    without = [country for country, _ in pairs.countries() if tiles[country] == 0]
    if without:
        iso = countries.iso[without[0]]
        raise InputError(
            "E303_MISSING_WEIGHTS",
            f"the catalogue has sites in {iso}, where the world has no tile",
            where=f"country {iso}" + (f" and {len(without) - 1} more" if len(without) > 1 else ""),
            next_step="bring polygons that have it, or put it on the denylist of s3.requirements.yaml",
        )
