"""Which pairs of merchant and country of a catalogue are required: all but those of denied countries."""

from __future__ import annotations

from typing import Any

import numpy as np

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.errors import InputError
from seg1b.policy.models import RequirementsPolicy
from seg1b.states.tables import Pairs
from seg1b.world.content import CountryTable


def denied_countries(countries: CountryTable, policy: RequirementsPolicy) -> np.ndarray:
    """Indices int16[D] of the countries that S3 leaves out.

    Raises InputError E315_POLICY_ISO_UNKNOWN for one that the world does not have.
    """
    unknown = [code for code in policy.denylist_country_iso if code not in countries.index_of]
    if unknown:
        raise InputError(
            "E315_POLICY_ISO_UNKNOWN",
            f"the denylist names {unknown[0]!r}, which the world does not have",
            where="s3.requirements.yaml: denylist_country_iso",
            next_step="use ISO 3166-1 alpha-2 codes; `seg1b world info` lists them",
        )
    codes = policy.denylist_country_iso if policy.enabled else ()
    return np.array([countries.index_of[code] for code in codes], np.int16)


def required_pairs(
    catalogue: OutletCatalogue, countries: CountryTable, policy: RequirementsPolicy
) -> tuple[Pairs, dict[str, Any]]:
    """Pairs in (country, merchant) order without those of denied countries, and what was denied.

    Raises InputError E315_POLICY_ISO_UNKNOWN for a denied country that the world does not have.
    """
    codes = policy.denylist_country_iso if policy.enabled else ()
    denied = np.isin(catalogue.country, denied_countries(countries, policy))
    order = np.argsort(catalogue.country, kind="stable")  # merchants ascend in it, so in each country too
    order = order[~denied[order]]
    pairs = Pairs(
        catalogue.country[order],
        catalogue.merchant_id[order],
        catalogue.n_sites[order].astype(np.int64),
    )
    return pairs, {
        "country_iso": list(codes),
        "pairs": int(denied.sum()),
        "sites": int(catalogue.n_sites[denied].sum(dtype=np.int64)),
    }
