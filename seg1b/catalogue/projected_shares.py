"""Country shares: the market prior, projected into the certified set (S2's table, and the synthesiser's target).

A pure function of world and policy. The prior is `(population x GDP per head ^ gdp_exponent) ^ tempering`; the
projection (`kernels.projection`) keeps it as close as the limits allow. The table in parts per million is the
artefact: raw doubles differ between CPUs in their last digits, the table does not.
"""

from __future__ import annotations

import math

import numpy as np

from seg1b.catalogue.elementary import power_each
from seg1b.catalogue.shares import (
    PPM,
    CountryShares,
    Floats,
    Integers,
    capacity_sites,
    market_size,
    minimum_sites,
)
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
from seg1b.world.content import CountryTable

_DECIMALS = 9
"""Of what the optimiser says besides the table: CPUs agree on some 15 digits, and nobody needs the rest."""


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
            where="the population surface",
            next_step="compute both over the world's own country table",
        )
    if served.size == 0:
        raise InputError(
            "E_SHARES_NO_COUNTRY",
            "no country is eligible and populous enough to be served",
            where="s2.country_shares.yaml: min_site_population",
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
