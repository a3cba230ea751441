"""Country metrics of any catalogue from its counts alone: exact, in milliseconds, before any heavy work.

Only metrics here; every verdict is made in `scoring`. A metric that cannot be computed is None, never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.elementary import log_each
from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.shares import CountryShares
from seg1b.errors import InputError
from seg1b.kernels.inequality import gini, top_share
from seg1b.world.content import CountryTable

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Screening:
    """Country metrics of a catalogue; names as in `gates.yaml`.

    `country_gini` and top shares are over active countries, `country_gini_eligible` over eligible ones, zeros
    included. `southern_hemisphere_share` is exact where no country with outlets straddles the equator;
    otherwise it is the expected value over the placement surface, and the two bounds say what placement could
    make of it at most. `prior_kl` in nats over countries with a prior; `outside_prior_share` is the share of
    outlets elsewhere. `largest_merchant_share` is over countries with at least `largest_merchant_sites_min`
    outlets; its country is named.
    """

    sites: int
    active_countries: int
    eligible_countries: int
    country_gini: float | None
    country_gini_eligible: float | None
    top1_share: float | None
    top5_share: float | None
    top10_share: float | None
    eligible_country_nonzero_share: float | None
    southern_hemisphere_share: float | None
    southern_hemisphere_share_min: float | None
    southern_hemisphere_share_max: float | None
    region_share: dict[str, float]
    market_slope: float | None
    prior_kl: float | None
    outside_prior_share: float | None
    largest_merchant_share: float | None
    largest_merchant_country: str | None


def screen(
    catalogue: OutletCatalogue,
    countries: CountryTable,
    shares: CountryShares,
    largest_merchant_sites_min: int = 20,
) -> Screening:
    """Metrics of a catalogue whose `iso` is the world's country table. Raises InputError
    E_SCREEN_COUNTRIES.
    """
    if not catalogue.iso == countries.iso == shares.iso:
        raise InputError(
            "E_SCREEN_COUNTRIES",
            "catalogue, country table and shares do not list the same countries",
            where=f"catalogue of {len(catalogue.iso)} countries, world of {len(countries.iso)}",
            next_step="load the catalogue against the same world",
        )
    return screen_counts(
        catalogue.sites_per_country(),
        countries,
        shares,
        catalogue.largest_pair_per_country(),
        largest_merchant_sites_min,
    )


def screen_counts(
    sites: Integers,
    countries: CountryTable,
    shares: CountryShares,
    largest_pair: Integers,
    largest_merchant_sites_min: int = 20,
) -> Screening:
    """As `screen`, from outlets per country int64[C] and those of the largest merchant in each, int64[C]."""
    total = int(sites.sum())
    active = sites[sites > 0]
    eligible = countries.eligible
    south = _southern(sites, shares.southern_share)
    worst = _largest_merchant(sites, largest_pair, largest_merchant_sites_min)
    return Screening(
        sites=total,
        active_countries=int(active.size),
        eligible_countries=int(eligible.sum()),
        country_gini=gini(active),
        country_gini_eligible=gini(sites[eligible]),
        top1_share=top_share(active, 1),
        top5_share=top_share(active, 5),
        top10_share=top_share(active, 10),
        eligible_country_nonzero_share=_ratio(int((sites[eligible] > 0).sum()), int(eligible.sum())),
        southern_hemisphere_share=_ratio(south[0], total),
        southern_hemisphere_share_min=_ratio(south[1], total),
        southern_hemisphere_share_max=_ratio(south[2], total),
        region_share=_region_shares(sites, countries),
        market_slope=market_slope(sites, shares.market_size),
        prior_kl=prior_divergence(sites, shares.prior),
        outside_prior_share=_ratio(int(sites[shares.prior <= 0.0].sum()), total),
        largest_merchant_share=None if worst is None else _ratio(int(largest_pair[worst]), int(sites[worst])),
        largest_merchant_country=None if worst is None else countries.iso[worst],
    )


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _southern(sites: Integers, southern_share: Floats) -> tuple[float, int, int]:
    """(expected, least, most) outlets south of the equator."""
    least = int(sites[southern_share == 1.0].sum())
    most = int(sites[southern_share > 0.0].sum())
    straddling = (southern_share > 0.0) & (southern_share < 1.0)
    return least + math.fsum((sites * southern_share)[straddling].tolist()), least, most


def _region_shares(sites: Integers, countries: CountryTable) -> dict[str, float]:
    total = max(int(sites.sum()), 1)
    region = np.array(countries.macro_region)
    return {name: int(sites[region == name].sum()) / total for name in sorted(set(countries.macro_region))}


def market_slope(sites: Integers, market_size: Floats) -> float | None:
    """Least-squares slope of log sites on log market size over countries with both; None below two
    countries.
    """
    both = (sites > 0) & (market_size > 0.0)
    if int(both.sum()) < 2:
        return None
    x, y = log_each(market_size[both]), log_each(sites[both].astype(np.float64))
    x_mean, y_mean = math.fsum(x.tolist()) / x.size, math.fsum(y.tolist()) / y.size
    spread = math.fsum(((x - x_mean) ** 2).tolist())
    return math.fsum(((x - x_mean) * (y - y_mean)).tolist()) / spread if spread > 0.0 else None


def prior_divergence(sites: Integers, prior: Floats) -> float | None:
    """KL divergence in nats of the catalogue's country shares from the prior (sums to 1), over countries with
    a prior.
    """
    both = (sites > 0) & (prior > 0.0)
    total = int(sites[both].sum())
    if total == 0:
        return None
    share = sites[both] / total
    return math.fsum((share * log_each(share / prior[both])).tolist())


def _largest_merchant(sites: Integers, largest_pair: Integers, sites_min: int) -> int | None:
    """Country (with at least `sites_min` outlets) where one merchant holds most; ties to the smaller
    index.
    """
    judged = np.flatnonzero(sites >= max(sites_min, 1))
    if judged.size == 0:
        return None
    return int(judged[np.argmax(largest_pair[judged] / sites[judged])])
