"""Country shares as S2 publishes them: the certified share of every country, and what each is bounded by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.elementary import power_each
from seg1b.errors import InputError
from seg1b.policy.models import CountrySharesPolicy
from seg1b.store.digest import partition_digest, table_digest
from seg1b.world.content import CountryTable

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PPM = 1_000_000


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
