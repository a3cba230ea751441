"""Core metrics and counter-metrics on inputs that a reader can check by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scoring_world import (
    COUNTRIES,
    GRID,
    ISO,
    bumps,
    chosen,
    context,
    context_of,
    honest,
    outlets,
    runs_from_tiles,
)

from seg1b.errors import ContractError
from seg1b.kernels.neighbours import nearest_neighbour_m
from seg1b.kernels.philox import block, u01
from seg1b.kernels.streams import pair_stream
from seg1b.scoring import counter_metrics as counter
from seg1b.scoring import values
from seg1b.scoring.controls import one_merchant, population_placement
from seg1b.scoring.country_metrics import (
    country_metrics,
    largest_merchant_share,
    market_slope,
    prior_kl,
    region_shares,
)
from seg1b.scoring.gates import counter_key
from seg1b.scoring.measure import duplicate_points, measure, pool, population_pit, site_uniforms, tally
from seg1b.scoring.metrics import core_score, nn_p99_p50_ratio
from seg1b.scoring.reference import build_reference, tile_density
from seg1b.scoring.score import LARGEST_MERCHANT, all_metrics, score_pooled, score_seed
from seg1b.scoring.sites import Sites, make_sites
from seg1b.scoring.values import Metric, known, plain, rounded, sum_in_order, unknown


def ints(*values: int) -> npt.NDArray[np.int64]:
    """Integers as an array."""
    return np.array(values, np.int64)


def empty_sites() -> Sites:
    """No site at all."""
    return make_sites([], [], [], [], [], [])


def test_country_metrics_by_hand() -> None:
    """Three of four eligible countries have sites; zeros count for coverage only."""
    metrics = country_metrics(ints(1, 3, 0, 4), np.array([True, True, True, False]))
    assert metrics["country_gini"].value == (-2 * 1 + 0 * 3 + 2 * 4) / (3 * 8)
    assert metrics["top1_share"].value == metrics["top10_share"].value == 0.5
    assert metrics["eligible_country_nonzero_share"].value == 2 / 3


def test_without_sites_every_core_metric_is_a_named_failure() -> None:
    """No metric becomes 0, none becomes a pass."""
    measurement = measure(tally(empty_sites(), 1, context()), context())
    assert measurement.distance_m is None
    score = core_score(measurement, None, context())
    for name, metric in score.metrics.items():
        if name == "eligible_country_nonzero_share":
            assert metric.value == 0.0  # nobody is covered: that is known
        else:
            assert metric.value is None
            assert (metric.reason or "").startswith("not_computable")
    assert country_metrics(ints(1), np.array([False]))["eligible_country_nonzero_share"].value is None


def test_nearest_neighbour_ratio_by_hand() -> None:
    """Quantiles interpolate linearly: of 0..100 they are 99 and 50."""
    assert nn_p99_p50_ratio(np.arange(101.0)).value == 99 / 50


@pytest.mark.parametrize(
    ("distances", "why"),
    [
        (None, "fewer than two sites"),
        (np.zeros(0), "fewer than two sites"),
        (np.array([0.0, 0.0, 9.0]), "median"),
    ],
)
def test_a_zero_median_is_not_a_small_ratio(distances: npt.NDArray[np.float64] | None, why: str) -> None:
    """The old scorer gave 0, which passed; here it fails by name."""
    metric = nn_p99_p50_ratio(distances)
    assert metric.value is None
    assert why in (metric.reason or "")


def test_region_shares_add_up() -> None:
    """Shares by hand; a region without sites has 0."""
    shares = region_shares(ints(1, 2, 1, 0), ("Asia", "Europe", "Asia", "Africa"))
    assert {name: metric.value for name, metric in shares.items()} == {
        "Africa": 0.0,
        "Asia": 0.5,
        "Europe": 0.5,
    }


def test_sites_are_sorted_by_their_key_and_columns_must_match() -> None:
    """Country, then merchant, then site order."""
    sites = make_sites([9, 9, 1], [1, 1, 0], [2, 1, 1], [0.2, 0.1, 0.0], [0, 0, 0], [7, 6, 5])
    assert sites.tile_id.tolist() == [5, 6, 7]
    assert sites.counts(3).tolist() == [1, 2, 0]
    with pytest.raises(ContractError, match="differ in length"):
        make_sites([1], [0, 0], [1], [0], [0], [0])


def test_the_tie_breaking_uniform_is_the_sites_own() -> None:
    """Pair stream (seed, "pit", country, merchant), block site_order * 2^16, first word."""
    sites = make_sites([77], [3], [5], [0.0], [0.0], [0])
    stream = pair_stream(42, "pit", ISO[3], 77)
    x0, _ = block(np.uint64(5 << 16), np.uint64(stream.counter_hi), np.uint64(stream.key))
    assert site_uniforms(sites, 42, ISO).tolist() == [u01(x0)]


def test_population_pit_by_hand() -> None:
    """Tiles of 1, 3, 3 and 0 people in one row: below 1 lives nobody, below 3 one of seven."""
    surface = runs_from_tiles([0, 4], ints(10, 11, 12, 13), ints(1, 3, 3, 0))
    reference = build_reference("s", GRID, surface, np.empty(0), np.empty(0), 1.0)
    tiles = ints(10, 11, 12, 13)
    sites = make_sites([1, 2, 3, 4], [0] * 4, [1] * 4, [0.0] * 4, [0.0] * 4, tiles)
    density = tile_density(surface.population_at(sites.country, sites.tile_id), sites.tile_id, GRID)
    pit = population_pit(sites, np.array([0.5, 0.25, 1.0, 0.9]), density, reference)
    assert pit.tolist() == [0.5 / 7, (1 + 0.25 * 6) / 7, 1.0, 0.0]


def test_a_country_without_people_has_no_pit() -> None:
    """Undefined, and left out; its sites still count as standing where nobody lives."""
    surface = runs_from_tiles([0, 1, 2], ints(10, 11), ints(0, 5))
    reference = build_reference("s", GRID, surface, np.empty(0), np.empty(0), 1.0)
    sites = make_sites([1], [0], [1], [0.0], [0.0], [10])
    pit = population_pit(sites, np.array([0.5]), np.array([0.0]), reference)
    assert len(pit) == 0
    assert "no site lies in a country" in (counter.pit_mean(pit).reason or "")
    assert counter.pit_mean(pit).value is None
    assert counter.pit_ks(pit).value is None
    two = make_sites([1, 1], [0, 1], [1, 1], [0.0] * 2, [0.0] * 2, [10, 11])
    density = tile_density(surface.population_at(two.country, two.tile_id), two.tile_id, GRID)
    assert population_pit(two, np.array([0.5, 0.25]), density, reference).tolist() == [0.25]
    empty, towns = replace(bumps()[0], population=np.zeros_like(bumps()[0].population)), bumps()[1]
    surfaces = tally(honest(), 1, context_of(bumps()[0], towns, (("nobody", empty),))).surfaces
    assert [(len(s.pit), s.unpopulated) for s in surfaces] == [(len(honest()), 0), (0, len(honest()))]


def test_pit_mean_and_ks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against scipy, and on one value by hand; a part at a time gives the same."""
    pit = np.sort(np.random.default_rng(0).beta(2, 3, 500))
    expected = stats.kstest(pit, "uniform").statistic
    assert counter.pit_mean(pit).value == pytest.approx(pit.mean(), rel=1e-11)
    assert counter.pit_ks(pit).value == pytest.approx(expected, rel=1e-11)
    assert counter.pit_ks(np.array([0.5])).value == 0.5
    assert counter.pit_ks(np.array([0.25, 0.25])).value == 0.75
    for at_once in (1, 7, 499, 500):
        monkeypatch.setattr(counter, "_AT_ONCE", at_once)
        assert counter.pit_ks(pit).value == pytest.approx(expected, rel=1e-11)


def test_a_sum_in_order_is_right_to_the_last_bit_of_its_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: stretches of two, each rounded once; and of many numbers, close to the exact sum."""
    numbers = np.array([1.0, 2.0**-60, 2.0**-60, -1.0, 3.0])
    assert sum_in_order(numbers) == math.fsum(numbers)
    monkeypatch.setattr(values, "_STRETCH", 2)
    assert sum_in_order(numbers) == math.fsum([1.0, 2.0**-60 - 1.0, 3.0])
    assert sum_in_order(np.empty(0)) == 0.0
    many = np.sort(np.random.default_rng(1).random(10_001))
    assert sum_in_order(many) == pytest.approx(math.fsum(many), rel=1e-15)


def test_near_city_difference_by_hand() -> None:
    """Of four sites two are near a city; people would put 1/2 of three and all of one there: 2.5."""
    difference = counter.near_city_difference(2, ints(3, 1), np.array([0.5, 1.0]))
    assert difference.value == (2 - 2.5) / 4


def test_cell_correlation_by_hand() -> None:
    """People 1 and 4 in two cells of each country; sites in the same proportion correlate perfectly, reversed
    not.
    """
    surface = runs_from_tiles([0, 2, 4], ints(0, 10, 36_000, 36_010), ints(100, 400, 7000, 28_000))
    reference = build_reference("s", GRID, surface, np.empty(0), np.empty(0), 1.0)
    country = np.repeat(np.array([0, 1], np.int16), 5)
    same = np.array([0, 1, 1, 1, 1, 360, 361, 361, 361, 361], np.int32)
    reverse = np.array([0, 0, 0, 0, 1, 360, 360, 360, 360, 361], np.int32)
    one_by_one = np.ones(10, np.int64)
    assert counter.cell_correlation(country, same, one_by_one, reference).value == pytest.approx(1.0)
    assert counter.cell_correlation(country, reverse, one_by_one, reference).value == pytest.approx(-1.0)
    flat = counter.cell_correlation(np.zeros(2, np.int16), np.array([0, 1], np.int32), ints(1, 1), reference)
    assert "do not vary" in (flat.reason or "")
    owner, cells = np.array([0, 0, 1, 1], np.int16), np.array([0, 1, 360, 361], np.int32)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        for sites, expected in ((ints(1, 4, 1, 4), 1.0), (ints(4, 1, 4, 1), -1.0)):
            got = counter.cell_correlation(owner[order], cells[order], sites[order], reference)
            assert got.value == pytest.approx(expected)


def test_slope_of_a_power_law() -> None:
    """Sites = market^.5 has slope .5; countries without sites or market do not count."""
    assert market_slope(ints(1, 2, 4, 0, 9), np.array([1.0, 4.0, 16.0, 64.0, 0.0])).value == 0.5
    assert market_slope(ints(5, 0), np.array([1.0, 2.0])).value is None
    assert market_slope(ints(5, 6), np.array([2.0, 2.0])).value is None


def test_kl_by_hand() -> None:
    """Certified (3/4, 1/4) against an even prior; a country that the prior excludes has no divergence."""
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert prior_kl(ints(3, 1), np.array([5.0, 5.0])).value == pytest.approx(expected, rel=1e-11)
    assert prior_kl(ints(3, 0), np.array([1.0, 0.0])).value == 0.0
    assert "no share in the market prior" in (prior_kl(ints(3, 1), np.array([1.0, 0.0])).reason or "")


def test_largest_merchant_by_hand() -> None:
    """In country 0 merchant 2 has 3 of 4 sites; country 1 is too small to be judged."""
    told = (
        (ints(1, 2, 2, 2, 3), np.array([0, 0, 0, 0, 1], np.int16), ints(1, 1, 1, 1, 1)),  # site by site
        (ints(1, 2, 3), np.array([0, 0, 1], np.int16), ints(1, 3, 1)),
        (ints(2, 3, 1, 2), np.array([0, 1, 0, 0], np.int16), ints(2, 1, 1, 1)),  # a pair in two rows
    )
    for pairs in told:
        assert largest_merchant_share(*pairs, 2, 4).value == 0.75
        assert largest_merchant_share(*pairs, 2, 1).value == 1.0
        assert "no country has 5 sites" in (largest_merchant_share(*pairs, 2, 5).reason or "")
    nobody = largest_merchant_share(ints(), ints().astype(np.int16), ints(), 2, 1)
    assert nobody.value is None


def test_duplicates_at_one_metre() -> None:
    """Equal after snapping to a metre: two of three at the equator, and all longitudes at the pole."""
    metre_deg = 1 / 111_195.0
    lon, lat = np.array([10.0, 10.0 + 0.1 * metre_deg, 10.0 + 5 * metre_deg]), np.zeros(3)
    distance_m = nearest_neighbour_m(lon, lat)
    assert duplicate_points(lon, lat, 1.0, distance_m) == 1
    assert duplicate_points(lon, lat, 100.0, distance_m) == 2
    at_pole = np.array([0.0, 90.0]), np.array([90.0, 90.0])
    assert duplicate_points(*at_pole, 1.0, nearest_neighbour_m(*at_pole)) == 1


@pytest.mark.parametrize("middle_lat", [0.0, 47.0, -89.9999, 90.0])
def test_duplicates_are_those_of_the_whole_lattice(middle_lat: float) -> None:
    """Leaving out points without a close neighbour loses no duplicate, also where the lattice narrows."""
    rng = np.random.default_rng(2)
    lat = np.clip(middle_lat + rng.uniform(-1, 1, 3000) * 2e-4, -90.0, 90.0)
    lon = rng.uniform(-180, 180, 3000) * (1.0 if abs(middle_lat) > 89 else 1e-6)
    distance_m = nearest_neighbour_m(lon, lat)
    found = duplicate_points(lon, lat, 1.0, distance_m)
    assert found == duplicate_points(lon, lat, 1.0, np.zeros(3000))
    assert 0 < found < 3000
    assert duplicate_points(lon, lat, 1.0, np.full(3000, 3.1)) == 0


def test_order_of_the_rows_changes_no_metric() -> None:
    """Shuffled input, same facts to the last bit."""
    sites = honest()
    order = np.random.default_rng(4).permutation(len(sites))
    shuffled = chosen(sites, order)
    assert score_seed(shuffled, 42, context(), {}).facts() == score_seed(sites, 42, context(), {}).facts()


def test_two_surfaces_are_both_judged() -> None:
    """Beside a user's rigged raster the bundled surface tells the truth: the raster's PIT is fine, the
    other's not.
    """
    surface, towns = bumps()
    rigged = replace(surface, population=np.where(surface.population > 0, 0, 10**9))
    two = context_of(rigged, towns, (("truth", surface),))
    sites = population_placement(honest(), rigged, GRID, 3)
    rows = {(r.name, r.surface): r for r in score_seed(sites, 1, two, {}).report.counters}
    assert rows[("population_pit_mean", "bundled")].passed
    assert not rows[("population_pit_mean", "truth")].passed
    assert not rows[("unpopulated_tile_share", "truth")].passed


def test_pooling_adds_counts_but_looks_for_neighbours_inside_a_seed() -> None:
    """The same sites twice: neighbours stay where they are instead of collapsing to 0."""
    score = score_seed(honest(), 42, context(), {"parity_mismatches": 1})
    pooled = score_pooled([score, score], context(), shared_catalogue=False)
    assert pooled.core.site_count == 2 * score.core.site_count
    assert pooled.core.metrics["country_gini"] == score.core.metrics["country_gini"]
    assert pooled.core.nn_quantiles_m["q50"] == pytest.approx(score.core.nn_quantiles_m["q50"], rel=1e-3)
    assert pooled.violations["parity_mismatches"] == 2
    shared = pool([score.measurement, score.measurement], shared_catalogue=True)
    apart = pool([score.measurement, score.measurement], shared_catalogue=False)
    assert 2 * (shared.merchant.max() + 1) == apart.merchant.max() + 1


def test_pooled_largest_merchant_of_own_catalogues_is_the_worst_seeds() -> None:
    """One chain owns a country in one seed of two: pooled as another unit it would hold half, and hide."""
    chain = one_merchant(honest(), bumps()[0], GRID, 9)
    good, owned = (score_seed(s, seed, context(), {}) for seed, s in ((1, honest()), (2, chain)))
    least, most = (all_metrics(score)[LARGEST_MERCHANT] for score in (good, owned))
    assert least is not None
    assert least < 0.5 < 1.0 == most
    pooled = score_pooled([good, owned], context(), shared_catalogue=False)
    assert all_metrics(pooled)[LARGEST_MERCHANT] == 1.0
    assert LARGEST_MERCHANT in pooled.report.failed("B")
    shared = score_pooled([good, good], context(), shared_catalogue=True)
    assert all_metrics(shared)[LARGEST_MERCHANT] == least
    empty = score_seed(empty_sites(), 3, context(), {})
    lacking = score_pooled([good, empty], context(), shared_catalogue=False)
    row = next(row for row in lacking.report.counters if row.name == LARGEST_MERCHANT)
    assert (row.observed, row.passed) == (None, False)
    assert row.reason.endswith("(seed 3)")


def test_all_metrics_name_what_no_gate_judges_too() -> None:
    """Gates, counter-metrics and regions, and three numbers beside them."""
    score = score_seed(honest(), 42, context(), {})
    metrics = all_metrics(score)
    gated = {
        *context().gates.hard_gates,
        *(counter_key(row.name, row.surface) for row in score.report.counters),
    }
    regions = {f"region_share.{name}" for name in score.core.region_shares}
    beside = {"eligible_country_gini", "all_country_nonzero_share", "site_count"}
    assert set(metrics) == gated | regions | beside
    assert metrics["site_count"] == len(honest())
    assert metrics["eligible_country_gini"] == metrics["country_gini"]  # every country has sites
    assert metrics["all_country_nonzero_share"] == 1.0
    assert "population_pit_mean@bundled" in metrics
    nothing = all_metrics(score_seed(empty_sites(), 42, context(), {}))
    assert nothing["eligible_country_gini"] is None
    assert (nothing["all_country_nonzero_share"], nothing["site_count"]) == (0.0, 0)


def test_intervals_and_margins_carry_twelve_digits() -> None:
    """Another machine's last bit in the normal distribution must not change a certificate."""
    score = score_seed(honest(), 42, context(), {})
    found = [interval for interval in score.intervals.values() if interval is not None]
    assert any(interval.method == "bca" for interval in found)
    numbers = [n for i in found for n in (i.low, i.high, i.bias_correction, i.acceleration) if n is not None]
    for row in score.report.gates:
        numbers += [n for n in (row.margin_b, row.margin_b_plus, *(row.ci95 or ())) if n is not None]
        if row.name.startswith("bootstrap_") and row.observed is not None:
            numbers.append(row.observed)
    assert len(numbers) > 40
    assert numbers == [rounded(number) for number in numbers]


def test_facts_say_who_judges_by_locked_phases() -> None:
    """S9 does not: its output would depend on the store that it is made in."""
    facts = score_seed(honest(), 42, context(), {}).facts()
    assert "promote" in facts["no_regression"]
    assert not any(row["name"].startswith("no_regression.") for row in facts["gates"])


def test_facts_are_plain_json() -> None:
    """No NaN, no infinity, no numpy type."""
    text = json.dumps(score_seed(honest(), 42, context(), {}).facts(), allow_nan=False)
    assert "NaN" not in text
    assert plain({"a": np.float64("nan"), "b": np.arange(2)}) == {"a": None, "b": [0, 1]}


def test_a_metric_has_a_value_or_a_reason() -> None:
    """Never both, never neither; infinity is no value."""
    assert known(math.inf).value is None
    with pytest.raises(ValueError, match="either a value or a reason"):
        Metric(None)
    with pytest.raises(ValueError, match="either a value or a reason"):
        Metric(1.0, "but")
    assert unknown("x").reason == "not_computable: x"


def test_outlets_have_unique_keys() -> None:
    """The test world itself: no key twice."""
    sites = outlets(np.full(COUNTRIES, 40, np.int64))
    keys = set(
        zip(sites.merchant_id.tolist(), sites.country.tolist(), sites.site_order.tolist(), strict=True)
    )
    assert len(keys) == len(sites)
