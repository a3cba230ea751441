"""Country shares: the market prior, projected into the certified set (S2's table, and the synthesiser's
target).

A pure function of world and policy. The prior is `(population x GDP per head ^ gdp_exponent) ^ tempering`;
the projection (`kernels.projection`) keeps it as close as the limits allow. The table in parts per million is
the artefact: raw doubles differ between CPUs in their last digits, the table does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.elementary import power_each
from seg1b.errors import InputError
from seg1b.kernels.projection import (
    LinearLimit,
    OrderLimit,
    Projection,
    gini_limit,
    project,
    quantise,
    top_share_limit,
)
from seg1b.policy.models import CountrySharesPolicy
from seg1b.store.digest import partition_digest, table_digest
from seg1b.world.content import CountryTable

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PPM = 1_000_000
_DECIMALS = 9
"""Of what the optimiser says besides the table: CPUs agree on some 15 digits, and nobody needs the rest."""


@dataclass(frozen=True)
class CountryShares:
    """Certified share of every country, with what explains it. Arrays have one entry per country of the
    world.

    `share_ppm` sums to 10^6; countries that are not served have 0. `prior` sums to 1 over the served
    countries. `market_size` is the untempered product (US dollars to the power `gdp_exponent`, times people).
    `prices` are the multipliers of the limits, `bound_price` those of the countries' own bounds (positive
    where the capacity binds). `violation` is that of the table, not of the unrounded optimum: at most some
    parts per million.
    """

    iso: tuple[str, ...]
    share_ppm: Integers
    prior: Floats
    market_size: Floats
    capacity_sites: Integers
    minimum_sites: Integers
    southern_share: Floats
    prices: dict[str, float]
    bound_price: Floats
    kl: float
    duality_gap: float
    violation: dict[str, float]

    @property
    def digest(self) -> str:
        """Logical digest (hex64) of the table: everything that a catalogue depends on."""
        columns = {
            "iso": list(self.iso),
            "share_ppm": self.share_ppm,
            "capacity_sites": self.capacity_sites,
            "minimum_sites": self.minimum_sites,
        }
        schema = [
            ("iso", "string"),
            ("share_ppm", "int64"),
            ("capacity_sites", "int64"),
            ("minimum_sites", "int64"),
        ]
        return table_digest(schema, [("", len(self.iso), partition_digest(columns))])

    @property
    def share(self) -> Floats:
        """Shares f64[C], sum 1."""
        return self.share_ppm / PPM

    @property
    def served(self) -> npt.NDArray[np.bool_]:
        """bool[C]: countries with a share."""
        return self.share_ppm > 0

    @property
    def design_weight(self) -> Floats:
        """f64[C]: prior over certified share, the weight that undoes the distortion; 0 where there is no
        share.
        """
        return np.divide(self.prior, self.share, out=np.zeros_like(self.prior), where=self.served)


def market_size(countries: CountryTable, gdp_exponent: float) -> Floats:
    """f64[C]: population x GDP per head ^ gdp_exponent; 0 for countries without people or not eligible.

    Raises InputError E_SHARES_PRIOR if an inhabited, eligible country has no positive GDP per head (USD).
    """
    inhabited = countries.eligible & (countries.population > 0)
    gdp_per_head = np.where(inhabited, countries.gdp_per_head, 0.0)
    poor = np.flatnonzero(inhabited & ~(np.isfinite(gdp_per_head) & (gdp_per_head > 0.0)))
    if poor.size:
        raise InputError(
            "E_SHARES_PRIOR",
            f"GDP per head of {countries.iso[poor[0]]} is {gdp_per_head[poor[0]]}, it must be positive",
            where=f"country table, {poor.size} countries",
            next_step="impute it (the bundled world uses the median of the subregion)",
        )
    weight = (
        power_each(gdp_per_head.astype(np.float64), gdp_exponent)
        if gdp_exponent
        else np.ones(len(countries.iso))
    )
    return np.where(inhabited, countries.population, 0).astype(np.float64) * weight


def capacity_sites(countries: CountryTable, area_km2: Floats, policy: CountrySharesPolicy) -> Integers:
    """int64[C]: most outlets a country can hold: people / people_per_site, and sites_per_tile x its tiles by
    area.
    """
    rule = policy.capacity
    by_people = countries.population.astype(np.int64) // rule.people_per_site
    by_area = rule.sites_per_tile * np.ceil(area_km2 / rule.tile_area_km2).astype(np.int64)
    served = minimum_sites(countries, policy) > 0
    return np.where(served, np.maximum(np.minimum(by_people, by_area), 1), 0).astype(np.int64)


def minimum_sites(countries: CountryTable, policy: CountrySharesPolicy) -> Integers:
    """int64[C]: 1 for every eligible country with `min_site_population` people, else 0 (not served)."""
    served = countries.eligible & (countries.population >= policy.min_site_population)
    return served.astype(np.int64)


def country_shares(
    countries: CountryTable, southern_share: Floats, area_km2: Floats, policy: CountrySharesPolicy
) -> CountryShares:
    """Project the market prior of `countries` onto the limits of `policy`.

    `southern_share` f64[C] in [0, 1]: share of each country's placement surface south of the equator.
    `area_km2` f64[C]: land area. Raises InputError E_SHARES_* (infeasible limits are named).
    """
    market = market_size(countries, policy.prior.gdp_exponent)
    minimum = minimum_sites(countries, policy)
    capacity = capacity_sites(countries, area_km2, policy)
    served = np.flatnonzero((minimum > 0) & (market > 0.0))
    _check_inputs(countries, southern_share, area_km2, served)

    prior = power_each(market[served], policy.prior.tempering)
    prior /= math.fsum(prior)
    linear = _linear_limits(countries, southern_share, served, policy)
    order = _order_limits(served.size, policy)
    projection = project(
        prior,
        linear,
        order,
        lower=minimum[served] / policy.reference_sites,
        upper=np.minimum(capacity[served] / policy.reference_sites, 1.0),
    )
    table = quantise(projection.shares, PPM, np.ones(served.size, np.int64))
    return _assemble(
        countries, southern_share, served, prior, market, capacity, minimum, projection, table, linear, order
    )


def _assemble(
    countries: CountryTable,
    southern_share: Floats,
    served: Integers,
    prior: Floats,
    market: Floats,
    capacity: Integers,
    minimum: Integers,
    projection: Projection,
    table: Integers,
    linear: list[LinearLimit],
    order: list[OrderLimit],
) -> CountryShares:
    n = len(countries.iso)
    share_ppm, all_prior, bound_price = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    share_ppm[served], all_prior[served], bound_price[served] = table, prior, projection.bound_price
    share = table / PPM
    ranked = np.sort(share)[::-1]
    violation = {limit.name: float(limit.minimum - limit.coefficients @ share) for limit in linear}
    violation |= {limit.name: float(limit.weights @ ranked - limit.maximum) for limit in order}
    prices, violation = (
        {name: round(value, _DECIMALS) + 0.0 for name, value in found.items()}
        for found in (projection.prices, violation)
    )
    return CountryShares(
        iso=countries.iso,
        share_ppm=share_ppm,
        prior=all_prior,
        market_size=market,
        capacity_sites=capacity,
        minimum_sites=minimum,
        southern_share=southern_share,
        prices=prices,
        bound_price=np.round(bound_price, _DECIMALS) + 0.0,
        kl=round(projection.kl, _DECIMALS),
        duality_gap=round(projection.duality_gap, _DECIMALS) + 0.0,
        violation=violation,
    )


def _linear_limits(
    countries: CountryTable, southern_share: Floats, served: Integers, policy: CountrySharesPolicy
) -> list[LinearLimit]:
    limits = [LinearLimit("southern_share", southern_share[served], policy.limits.southern_min)]
    region = np.array(countries.macro_region)[served]
    for name, floor in sorted(policy.region_floor.items()):
        inside = (region == name).astype(np.float64)
        limits.append(LinearLimit(f"region_floor:{name}", inside, floor * policy.region_floor_margin))
    return [limit for limit in limits if limit.minimum > 0.0]


def _order_limits(n: int, policy: CountrySharesPolicy) -> list[OrderLimit]:
    limits = policy.limits
    return [
        top_share_limit("top1_share", n, 1, limits.top1_max),
        top_share_limit("top5_share", n, 5, limits.top5_max),
        top_share_limit("top10_share", n, 10, limits.top10_max),
        gini_limit("country_gini", n, limits.gini_max),
    ]


def _check_inputs(
    countries: CountryTable, southern_share: Floats, area_km2: Floats, served: Integers
) -> None:
    n = len(countries.iso)
    if southern_share.shape != (n,) or area_km2.shape != (n,):
        raise InputError(
            "E_SHARES_SHAPE",
            f"southern_share {southern_share.shape} and area_km2 {area_km2.shape} need one entry for each of "
            f"{n} countries",
            next_step="compute both over the world's own country table",
        )
    if served.size == 0:
        raise InputError(
            "E_SHARES_NO_COUNTRY",
            "no country is eligible and populous enough to be served",
            next_step="lower min_site_population in the country-shares policy or check the country table",
        )
    south, area = southern_share[served], area_km2[served]
    bad = served[~((south >= 0.0) & (south <= 1.0) & (area > 0.0) & np.isfinite(area))]
    if bad.size:
        raise InputError(
            "E_SHARES_SURFACE",
            f"{countries.iso[bad[0]]}: southern share {southern_share[bad[0]]} must lie in [0, 1] and area "
            f"{area_km2[bad[0]]} km2 must be positive",
            where=f"{bad.size} countries",
            next_step="a country without a surface needs a fallback weight (area)",
        )
