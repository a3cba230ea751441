"""Screening: exact country metrics by hand, and the calibration of the packaged world."""

from __future__ import annotations

import math

import numpy as np
import pytest
from catalogue_cases import ISO, collapse, country_table, small_shares, small_synthesis

from seg1b.catalogue.guard import grade, measure
from seg1b.catalogue.outlets import OutletCatalogue, from_pairs
from seg1b.catalogue.projected_shares import country_shares
from seg1b.catalogue.screening import Screening, market_slope, prior_divergence, screen, screen_counts
from seg1b.catalogue.synthesise import synthesise
from seg1b.catalogue.tables import Lineage, evidence_tables, outlet_rows, site_sequence_rows
from seg1b.errors import InputError
from seg1b.policy.load import default_policies, load_policies
from seg1b.world.bundle import load_world


def catalogue_of(counts: dict[str, list[int]]) -> OutletCatalogue:
    """One merchant per number, all of it in one country."""
    rows = [(ISO.index(iso), n) for iso, sizes in counts.items() for n in sizes]
    place = np.array([c for c, _ in rows], np.int16)
    merchant = np.arange(1, len(rows) + 1, dtype=np.uint64)
    return from_pairs(ISO, merchant, place, np.array([n for _, n in rows], np.int32), place)


def screened(counts: dict[str, list[int]]) -> Screening:
    """Screening of a hand-made catalogue in the small world."""
    return screen(catalogue_of(counts), country_table(), small_shares())


def test_metrics_by_hand() -> None:
    """Three countries with 6, 3 and 1 outlets."""
    result = screened({"US": [4, 2], "DE": [3], "AU": [1]})
    assert (result.sites, result.active_countries, result.eligible_countries) == (10, 3, 11)
    assert result.country_gini == pytest.approx(10 / 30)
    assert (result.top1_share, result.top10_share) == (0.6, 0.6)
    assert result.eligible_country_nonzero_share == pytest.approx(3 / 11)
    assert result.region_share["Europe"] == 0.3
    assert result.region_share["Africa"] == 0.0
    assert result.southern_hemisphere_share == 0.1
    assert result.southern_hemisphere_share_min == result.southern_hemisphere_share_max == 0.1
    assert result.largest_merchant_share is None


def test_countries_on_the_equator_have_an_expectation_and_bounds() -> None:
    """Kenya is .6 southern by its surface: 4 of 10 outlets give 2.4 expected, 0 to 4 possible."""
    result = screened({"KE": [4], "AU": [1], "US": [5]})
    assert result.southern_hemisphere_share == pytest.approx(0.34)
    assert (result.southern_hemisphere_share_min, result.southern_hemisphere_share_max) == (0.1, 0.5)


def test_the_largest_merchant_is_found_where_it_counts() -> None:
    """Countries below the minimum of outlets are not judged."""
    result = screened({"US": [30, 10], "DE": [9, 11], "NR": [1]})
    assert (result.largest_merchant_share, result.largest_merchant_country) == (0.75, "US")


def test_slope_and_divergence_by_hand() -> None:
    """Sites in proportion to the root of the market have slope one half; the prior itself has divergence
    0.
    """
    market = np.array([1e4, 1e6, 1e8, 0.0])
    assert market_slope(np.array([10, 100, 1000, 5]), market) == pytest.approx(0.5)
    assert market_slope(np.array([1, 0, 0, 0]), market) is None
    prior = np.array([0.5, 0.25, 0.25, 0.0])
    assert prior_divergence(np.array([2, 1, 1, 0]), prior) == pytest.approx(0.0, abs=1e-15)
    assert prior_divergence(np.array([4, 0, 0, 9]), prior) == pytest.approx(math.log(2))
    assert prior_divergence(np.zeros(4, np.int64), prior) is None


def test_an_empty_catalogue_has_no_metrics() -> None:
    """Nothing there is not perfect equality: None, never 0."""
    nothing = np.zeros(len(ISO), np.int64)
    result = screen_counts(nothing, country_table(), small_shares(), nothing)
    assert result.country_gini is result.top1_share is result.southern_hemisphere_share is None
    assert result.eligible_country_nonzero_share == 0.0


def test_another_worlds_catalogue_is_refused() -> None:
    """Country numbers mean nothing in another table."""
    catalogue = catalogue_of({"US": [1]})
    foreign = OutletCatalogue(**{**catalogue.__dict__, "iso": (*ISO[:-1], "ZZ")})
    with pytest.raises(InputError) as caught:
        screen(foreign, country_table(), small_shares())
    assert caught.value.code == "E_SCREEN_COUNTRIES"


def test_negative_controls() -> None:
    """Equal countries fail slope and divergence; one country fails concentration; a denylist fails
    coverage.
    """
    served = [iso for iso, s in zip(ISO, small_shares().served, strict=True) if s]
    honest = screen(small_synthesis().catalogue, country_table(), small_shares())
    equal = screened({iso: [40] for iso in served})
    assert equal.country_gini == 0.0
    assert abs(equal.market_slope or 0.0) < 1e-9 < 0.15 < (honest.market_slope or 0.0)
    assert (equal.prior_kl or 0.0) > 2 * (honest.prior_kl or 0.0)
    assert screened({"US": [100]}).top1_share == 1.0
    thinned = screened({iso: [40] for iso in served[:5]})
    assert (thinned.eligible_country_nonzero_share or 1.0) < (honest.eligible_country_nonzero_share or 0.0)


# The packaged world


@pytest.fixture(scope="module")
def packaged() -> tuple[object, ...]:
    """Packaged world and policies with certified shares; southern shares by settled people."""
    world, policies = load_world(), load_policies(None)
    people, n = world.settlements, len(world.countries)
    total = np.bincount(people.country, people.population, n)
    south = np.bincount(people.country, people.population * (people.lat_e5 < 0), n)
    share = np.divide(south, total, out=np.zeros(n), where=total > 0)
    table = world.countries
    return table, country_shares(table, share, table.area_km2, policies.country_shares), policies.synthesis


@pytest.mark.parametrize("seed", [42, 202])
def test_the_packaged_catalogue_passes_guard_and_country_gates(packaged: tuple, seed: int) -> None:  # type: ignore[type-arg]
    """All fourteen 1A bands at B and B+, and every country gate of B+, with calibration.md's margins."""
    table, shares, policy = packaged
    synthesis = synthesise(table, shares, policy, seed)
    result = screen(synthesis.catalogue, table, shares)
    assert 0.45 <= (result.country_gini or 0.0) <= 0.56
    assert (result.top1_share or 1.0) <= 0.065
    assert (result.top5_share or 1.0) <= 0.24
    assert (result.top10_share or 1.0) <= 0.39
    assert (result.eligible_country_nonzero_share or 0.0) >= 0.97
    assert (result.southern_hemisphere_share or 0.0) >= 0.195
    assert (result.market_slope or 0.0) >= 0.5
    assert (result.prior_kl or 1.0) <= 0.05
    assert (result.largest_merchant_share or 1.0) <= 0.2 + 1e-12
    lineage = Lineage(seed, "0" * 64, "1" * 64)
    whole = slice(0, synthesis.catalogue.pair_count)
    tables = {
        **evidence_tables(synthesis, lineage),
        "outlet_catalogue": outlet_rows(synthesis.catalogue, whole, lineage),
        "s3_site_sequence": site_sequence_rows(synthesis.catalogue, whole),
    }
    rows = {name: table.num_rows for name, table in tables.items()}
    measured = measure(collapse(tables["outlet_catalogue"]), tables, rows, sequence_follows=True)
    report = grade(measured, default_policies().guard)
    assert report.grade == "B_plus"
    assert [name for name in report.metrics if not report.metrics[name].b_pass] == []
    assert [name for name in report.metrics if not report.metrics[name].b_plus_pass] == []
    assert 0.2 <= (report.realised_ratio_median or 0.0) <= 0.3


def test_every_served_country_has_a_share(packaged: tuple) -> None:  # type: ignore[type-arg]
    """Parts per million are fine enough: nobody with 500 people rounds to nothing, Antarctica has no
    share.
    """
    table, shares, _ = packaged
    enough = table.eligible & (table.population >= 500)
    assert bool(np.array_equal(shares.served, enough))
    assert int(shares.share_ppm[enough].min()) >= 7
    assert max(shares.violation.values()) <= 5e-6
