"""Integer quotas of a catalogue: how many outlets every country gets, exactly.

Certified shares times the total, times a lognormal shock per country and seed, between the country's minimum
and its capacity. All arithmetic after the shock is on integers, so the quotas are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.draws import Draws
from seg1b.catalogue.elementary import exp, normal_quantile
from seg1b.catalogue.shares import CountryShares
from seg1b.errors import InputError

Integers = npt.NDArray[np.int64]

_SHOCK_BITS = 30


def country_quotas(draws: Draws, shares: CountryShares, total: int, shock_sigma: float) -> Integers:
    """int64[C], sum `total`. Raises InputError E_CATALOGUE_TOO_SMALL or E_CATALOGUE_CAPACITY when no quotas
    fit.
    """
    served = np.flatnonzero(shares.served).tolist()
    return shocked_quotas([_shock(draws, shares.iso[c], shock_sigma) for c in served], shares, total)


@lru_cache(maxsize=8192)
def known_shock(seed: int, country_iso: str, sigma: float) -> int:
    """The factor that `country_quotas` draws for a country: the same under every policy with this sigma."""
    return _shock(Draws(seed), country_iso, sigma)


def shocked_quotas(shock: Sequence[int], shares: CountryShares, total: int) -> Integers:
    """As `country_quotas`, from the factors of the served countries in ascending order."""
    served = np.flatnonzero(shares.served)
    weight = [int(shares.share_ppm[c]) * factor for c, factor in zip(served.tolist(), shock, strict=True)]
    minimum = shares.minimum_sites[served].tolist()
    capacity = shares.capacity_sites[served].tolist()
    if sum(minimum) > total:
        raise InputError(
            "E_CATALOGUE_TOO_SMALL",
            f"{total} outlets cannot serve {sum(minimum)} countries with at least one each",
            where="synthesis policy: merchants",
            next_step="raise the number of merchants, or min_site_population in the country-shares policy",
        )
    if sum(capacity) < total:
        raise InputError(
            "E_CATALOGUE_CAPACITY",
            f"{total} outlets exceed the capacity of all countries together, {sum(capacity)}",
            where="country-shares policy: capacity",
            next_step="lower the number of merchants, or people_per_site in the country-shares policy",
        )
    quotas = np.zeros(len(shares.iso), np.int64)
    quotas[served] = apportion_between(weight, total, minimum, capacity)
    return quotas


def _shock(draws: Draws, country_iso: str, sigma: float) -> int:
    """Lognormal factor of a country, median 1, in units of 2^-30."""
    if sigma == 0.0:
        return 1 << _SHOCK_BITS
    u = draws.country_uniform("catalogue/quota_shock", country_iso)
    return max(1, int(exp(sigma * normal_quantile(u)) * (1 << _SHOCK_BITS)))


def apportion_between(
    weight: Sequence[int], total: int, minimum: Sequence[int], maximum: Sequence[int]
) -> list[int]:
    """Largest-remainder apportionment of `total` in proportion to `weight`, each between its minimum and
    maximum.

    Entries outside their bounds are fixed there, the side with the larger sum of excesses first, and the rest
    is apportioned anew. Ties go to the smaller index. Requires sum(minimum) <= total <= sum(maximum), weights
    > 0.
    """
    fixed: dict[int, int] = {}
    while True:
        free = [i for i in range(len(weight)) if i not in fixed]
        rest = total - sum(fixed.values())
        mass = sum(weight[i] for i in free)
        above = {i: maximum[i] for i in free if weight[i] * rest > maximum[i] * mass}
        below = {i: minimum[i] for i in free if weight[i] * rest < minimum[i] * mass}
        if not above and not below:
            break
        excess = sum(weight[i] * rest - maximum[i] * mass for i in above)
        deficit = sum(minimum[i] * mass - weight[i] * rest for i in below)
        fixed |= above if excess >= deficit else below
    result = [fixed.get(i, 0) for i in range(len(weight))]
    for i in free:
        result[i] = weight[i] * rest // mass
    by_remainder = sorted(free, key=lambda i: (-(weight[i] * rest % mass), i))
    for i in by_remainder[: total - sum(result)]:
        result[i] += 1
    return result
