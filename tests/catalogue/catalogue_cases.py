"""A small world of twelve countries and small policies, for tests that a reader can check by hand."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg1b.catalogue.projected_shares import country_shares
from seg1b.catalogue.rows import OutletRuns, RunCollapser
from seg1b.catalogue.shares import CountryShares
from seg1b.catalogue.synthesise import Synthesis, synthesise
from seg1b.policy.load import load_policies
from seg1b.policy.models import CountrySharesPolicy, SynthesisPolicy
from seg1b.world.content import CountryTable

ISO = ("AQ", "AU", "BR", "DE", "FJ", "FR", "IN", "KE", "NA", "NR", "US", "VA")
REGION = (
    "Antarctica", "Oceania", "South America", "Europe", "Oceania", "Europe",
    "Asia", "Africa", "Africa", "Oceania", "North America", "Europe",
)  # fmt: skip
POPULATION = (
    0, 26_000_000, 214_000_000, 83_000_000, 900_000, 67_000_000,
    1_400_000_000, 54_000_000, 2_600_000, 10_900, 333_000_000, 497,
)  # fmt: skip
GDP_PER_HEAD = (0, 60_000, 9_000, 50_000, 5_000, 44_000, 2_400, 2_100, 4_800, 12_000, 76_000, 40_000)
AREA_KM2 = (14e6, 7.7e6, 8.5e6, 357e3, 18e3, 640e3, 3.2e6, 580e3, 825e3, 21.0, 9.5e6, 0.5)
SOUTHERN = (1.0, 1.0, 0.9, 0.0, 1.0, 0.0, 0.0, 0.6, 1.0, 1.0, 0.0, 0.0)


def country_table(**changes: object) -> CountryTable:
    """The twelve countries; VA has fewer people than a site needs, AQ is not eligible."""
    n = len(ISO)
    fields: dict[str, object] = {
        "iso": ISO,
        "name": ISO,
        "population": np.array(POPULATION, np.int64),
        "population_source": ("test",) * n,
        "gdp_per_head": np.array(GDP_PER_HEAD, np.float64),
        "gdp_source": ("test",) * n,
        "area_km2": np.array(AREA_KM2),
        "subregion": REGION,
        "macro_region": REGION,
        "eligible": np.array([iso != "AQ" for iso in ISO]),
        "exclusion_reason": tuple("uninhabited" if iso == "AQ" else "" for iso in ISO),
    }
    return CountryTable(**{**fields, **changes})  # type: ignore[arg-type]


def southern() -> npt.NDArray[np.float64]:
    """Southern share of each country's placement surface."""
    return np.array(SOUTHERN)


def shares_policy(**limits: float) -> CountrySharesPolicy:
    """The packaged policy with limits that ten countries can meet."""
    packaged = load_policies(None).country_shares.model_dump()
    packaged["limits"] = {
        "gini_max": 0.45, "top1_max": 0.3, "top5_max": 0.3, "top10_max": 0.3, "southern_min": 0.25, **limits,
    }  # fmt: skip
    packaged["region_floor"]["Oceania"] = 0.05
    packaged["reference_sites"] = 4000
    return CountrySharesPolicy.model_validate(packaged)


def synthesis_policy(merchants: int = 300, **countries: float) -> SynthesisPolicy:
    """The packaged policy with few merchants and small chains."""
    packaged = load_policies(None).synthesis.model_dump()
    packaged["merchants"] = merchants
    packaged["sizes"]["pareto"] = {"lower": 20, "upper": 60, "alpha": 1.2}
    packaged["cross_border"] |= {"candidates_base": 2, "candidates_span": 7}
    packaged["countries"] |= countries
    return SynthesisPolicy.model_validate(packaged)


@lru_cache(maxsize=1)
def small_shares() -> CountryShares:
    """Certified shares of the small world."""
    return country_shares(country_table(), southern(), np.array(AREA_KM2), shares_policy())


@lru_cache(maxsize=8)
def small_synthesis(seed: int = 42) -> Synthesis:
    """A catalogue of 300 merchants in the small world."""
    return synthesise(country_table(), small_shares(), synthesis_policy(), seed)


def collapse(*files: pa.Table, rows: int | None = None) -> OutletRuns:
    """The runs of row-per-outlet tables, each a file, taken in `rows` rows at a time."""
    collapser = RunCollapser()
    for number, table in enumerate(files):
        collapser.begin(f"file {number}")
        for batch in table.combine_chunks().to_batches(rows):
            collapser.add(batch)
    return collapser.finish()
