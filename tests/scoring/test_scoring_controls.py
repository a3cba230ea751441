"""Negative controls fail the gate made for them, and honest sites pass it; sentinel, evidence and
feasibility.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scoring_world import COUNTRIES, GRID, ISO, MACRO_REGION, PRIOR, bumps, chosen, context, gates, honest

from seg1b.scoring import evidence
from seg1b.scoring.controls import (
    CONTROLS,
    Control,
    empty_desert,
    equal_countries,
    largest_remainder_tiles,
    old_placement,
    one_cluster,
    shuffled_countries,
    uniform_scatter,
)
from seg1b.scoring.evidence import (
    NEIGHBOUR_TESTS,
    country_medians,
    neighbour_tests,
    neighbours_of,
    old_placement_tests,
    soft_diagnostics,
)
from seg1b.scoring.feasibility import Feasibility, feasibility, southern_share
from seg1b.scoring.gates import STRUCTURAL_CHECKS, CounterRow, GateRow
from seg1b.scoring.measure import Measurement, Points, measure, tally
from seg1b.scoring.score import Score, score_seed
from seg1b.scoring.sentinel import collapse_sentinel, sample_positions, shape_of, unwrapped
from seg1b.scoring.sites import Sites, make_sites
from seg1b.scoring.triage import heaviest_countries

CLEAN = dict.fromkeys(STRUCTURAL_CHECKS, 0)


def scored(sites: Sites) -> Score:
    """Score sites of the small world."""
    return score_seed(sites, 42, context(), CLEAN)


def measured(sites: Sites, seed: int = 1) -> Measurement:
    """The measurement of sites of the small world."""
    return measure(tally(sites, seed, context()), context())


def points_of(sites: Sites) -> Points:
    """Where sites of the small world stand."""
    return Points(sites.country_bounds(COUNTRIES), sites.lon_deg, sites.lat_deg)


def failures(sites: Sites) -> set[str]:
    """Names of the failed rows, without the surface."""
    return {name.split("@")[0] for name in scored(sites).report.failed("B")}


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: c.name)
def test_every_control_fails_the_gates_made_for_it(control: Control) -> None:
    """And honest sites pass those very gates, so that it is the control that fails them."""
    broken = failures(control.build(honest(), bumps()[0], GRID, 9))
    assert set(control.must_fail) <= broken
    assert not set(control.must_fail) & failures(honest())


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: c.name)
def test_controls_keep_the_number_of_sites_and_are_repeatable(control: Control) -> None:
    """Same seed, same sites; no key twice."""
    first, again = (control.build(honest(), bumps()[0], GRID, 9) for _ in range(2))
    assert len(first) == len(honest())
    assert first.lon_deg.tobytes() == again.lon_deg.tobytes()
    assert first.merchant_id.tobytes() == again.merchant_id.tobytes()
    keys = np.stack([first.country.astype(np.int64), first.merchant_id.astype(np.int64), first.site_order])
    assert np.unique(keys, axis=1).shape[1] == len(first)


def test_controls_move_sites_inside_tiles_of_their_country() -> None:
    """Coordinates lie in the tile, tiles in the country."""
    surface, _ = bumps()
    for build in (
        uniform_scatter,
        one_cluster,
        shuffled_countries,
        equal_countries,
        old_placement,
        empty_desert,
    ):
        sites = build(honest(), surface, GRID, 9)
        row, col = np.divmod(sites.tile_id, GRID.ncols)
        assert (np.floor((sites.lon_deg + 180) * 10) == col).all()
        assert (np.floor((90 - sites.lat_deg) * 10) == row).all()
        owner = np.searchsorted(
            surface.start, np.searchsorted(np.sort(surface.tile0), sites.tile_id), "right"
        )
        assert owner.min() >= 1
        for c in range(COUNTRIES):
            own = surface.tile0[surface.start[c] : surface.start[c + 1]]
            assert np.isin(sites.tile_id[sites.country == c], own).all()


def test_old_placement_gives_every_merchant_the_same_tiles() -> None:
    """The n largest tiles, nearest to the equator first."""
    surface, _ = bumps()
    tiles = largest_remainder_tiles(honest(), surface, GRID)
    sites = honest()
    own = surface.tile0[surface.start[0] : surface.start[1]]
    area = GRID.row_area_cm2()[own // GRID.ncols]
    expected = own[np.lexsort((own, -area))]
    assert tiles[0] == expected[0]
    for merchant in np.unique(sites.merchant_id[sites.country == 0])[:5]:
        rows = np.flatnonzero((sites.merchant_id == merchant) & (sites.country == 0))
        assert tiles[rows].tolist() == expected[: len(rows)].tolist()


def test_dropping_the_small_countries_fails_coverage() -> None:
    """A denylist leaves its countries in the denominator."""
    sites = honest()
    keep = sites.country < 20
    score = scored(chosen(sites, keep))
    assert score.core.metrics["eligible_country_nonzero_share"].value == 20 / 24
    assert "eligible_country_nonzero_share" in score.report.failed("B")


def test_sparse_sites_fail_the_neighbour_gates() -> None:
    """A few dozen sites on the whole Earth are farther apart than any market."""
    few = np.arange(0, len(honest()), 400)
    sites = honest()
    broken = failures(chosen(sites, few))
    assert {"nn_p50_km", "nn_p90_km", "nn_isolated_10km_share"} <= broken


# Sentinel


def line_of_sites(
    lat_of: npt.NDArray[np.float64], lon_of: npt.NDArray[np.float64], country: int = 0
) -> Sites:
    """Sites of one country at given places."""
    n = len(lat_of)
    return make_sites(np.arange(n), np.full(n, country), np.ones(n), lon_of, lat_of, np.zeros(n))


def test_a_strip_and_a_lattice_collapse_and_a_cloud_does_not() -> None:
    """Shapes of 400 sites in one country; both limits must be exceeded for a strip."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 5, 400), rng.uniform(0, 5, 400)
    policy = gates().collapse_sentinel

    def status(lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64]) -> tuple[str, str]:
        row = collapse_sentinel(points_of(line_of_sites(lat, lon)), ISO, policy)[0]
        return row.status, row.reason

    assert status(y, x) == ("ok", "")
    assert status(y * 0.1, x) == ("ok", "")  # a narrow country: linearity .99, anisotropy only 10
    assert status(y * 0.05 + x, x) == ("collapsed", "the sites form a strip")
    assert status(x, x)[0] == "collapsed"  # exactly a line: no anisotropy, still a strip
    assert status(np.round(y), x) == ("collapsed", "too few distinct latitudes")
    assert status(y, np.round(x)) == ("collapsed", "too few distinct longitudes")
    assert status(y[:49], x[:49])[0] == "insufficient_points"


def test_shape_by_hand() -> None:
    """Four points of a 2 by 1 rectangle: variances 4 to 1, anisotropy 2, linearity .8."""
    assert shape_of(np.array([0.0, 2, 0, 2]), np.array([0.0, 0, 1, 1])) == (2.0, 0.8)
    assert shape_of(np.array([1.0, 1.0]), np.array([2.0, 2.0])) == (None, 1.0)


def test_a_country_over_the_antimeridian_is_not_a_strip() -> None:
    """Half of Fiji at 179, half at -179: unwrapped, it is a cloud."""
    rng = np.random.default_rng(1)
    lon = (rng.uniform(179.5, 180.5, 300) + 180) % 360 - 180
    assert unwrapped(lon).max() - unwrapped(lon).min() < 1.0
    assert unwrapped(np.array([3.0, 1.0, 2.0])).tolist() == [3.0, 1.0, 2.0]
    sites = points_of(line_of_sites(rng.uniform(-1, 0, 300), lon))
    row = collapse_sentinel(sites, ISO, gates().collapse_sentinel)[0]
    assert row.status == "ok"


def test_large_countries_are_sampled_by_a_seeded_rule() -> None:
    """At most so many distinct positions, in order; small ones are taken whole."""
    positions = sample_positions(1003, 100, 5, "FR")
    assert len(np.unique(positions)) == 100
    assert positions.min() >= 0
    assert positions.max() < 1003
    assert positions.tolist() == sample_positions(1003, 100, 5, "FR").tolist()
    assert positions.tolist() != sample_positions(1003, 100, 5, "DE").tolist()
    assert sample_positions(7, 100, 5, "FR").tolist() == list(range(7))


def test_only_the_largest_countries_are_judged() -> None:
    """Ten rows, by number of sites."""
    rows = collapse_sentinel(points_of(honest()), ISO, gates().collapse_sentinel)
    assert [row.country_iso for row in rows] == list(ISO[:10])
    assert [row.status for row in rows] == ["ok"] * 10


# Evidence


def test_neighbour_tests_see_the_old_placement_and_not_the_run_itself() -> None:
    """Against itself D = 0; against the old placement both tests reject."""
    measurement = measured(honest(), 42)
    same = neighbour_tests(measurement, neighbours_of(honest()))
    assert same[0].statistic == 0.0
    assert same[1].p_value == pytest.approx(1.0)
    old = neighbour_tests(measurement, neighbours_of(old_placement(honest(), bumps()[0], GRID, 9)))
    assert all(row.p_value is not None and row.p_value < 1e-3 for row in old)
    empty = neighbour_tests(measurement, neighbours_of(make_sites([], [], [], [], [], [])))
    assert [row.statistic for row in empty] == [None, None]


def test_the_old_placement_of_a_tally_is_that_of_its_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the limit the tests are made, of the same outlets; above it they name the reason."""
    sites, told = honest(), tally(honest(), 42, context())
    measurement = measure(told, context())
    expected = neighbour_tests(measurement, neighbours_of(old_placement(sites, bumps()[0], GRID, 7)))
    monkeypatch.setattr(evidence, "REFERENCE_SITES_MAX", len(sites))
    made = old_placement_tests(told, measurement, context(), 7)
    assert made == expected
    assert [(row.test, row.reason) for row in made] == [(name, "") for name in NEIGHBOUR_TESTS]
    monkeypatch.setattr(evidence, "REFERENCE_SITES_MAX", len(sites) - 1)
    rows = old_placement_tests(told, measurement, context(), 7)
    assert [row.test for row in rows] == list(NEIGHBOUR_TESTS)
    for row in rows:
        assert (row.statistic, row.p_value, row.n, row.n_reference) == (None, None, len(sites), 0)
        assert row.reason == f"not_computed: more than {len(sites) - 1:,} sites"


def test_country_medians_skip_countries_with_one_site() -> None:
    """Medians 2 and 7; the country in between has one site."""
    country = np.array([0, 0, 0, 1, 2, 2], np.int16)
    assert country_medians(country, np.array([1.0, 2, 9, 5, 6, 8]), 3).tolist() == [2.0, 7.0]


def test_soft_diagnostics_of_honest_and_clustered_sites() -> None:
    """One cluster per country: score up, box down; entropy of equal countries is log C."""
    good = soft_diagnostics(points_of(honest()), measured(honest()), context())
    cluster = one_cluster(honest(), bumps()[0], GRID, 9)
    bad = soft_diagnostics(points_of(cluster), measured(cluster), context())
    moved = {name for name, value in good.items() if bad[name] != pytest.approx(value, abs=1e-6)}
    assert moved == {"within_country_cluster_score", "bounding_box_dispersion"}
    assert (bad["within_country_cluster_score"] or 0.0) > 0.1
    assert (bad["bounding_box_dispersion"] or 1.0) < (good["bounding_box_dispersion"] or 0.0)
    score, drift = good["within_country_cluster_score"], good["region_balance_drift"]
    assert score is not None
    assert abs(score) < 0.02
    assert drift is not None
    assert drift < 0.001
    equal = equal_countries(honest(), bumps()[0], GRID, 9)
    entropy = soft_diagnostics(points_of(equal), measured(equal), context())["country_entropy"]
    assert entropy == pytest.approx(math.log(COUNTRIES), abs=1e-6)
    nothing = make_sites([], [], [], [], [], [])
    assert soft_diagnostics(points_of(nothing), measured(nothing), context()) == dict.fromkeys(good)


def test_heaviest_countries_are_those_above_their_prior() -> None:
    """Two of four hold more than their prior share, the heavier one first."""
    counts, prior = np.array([10, 60, 30, 0]), np.array([0.25, 0.25, 0.25, 0.25])
    assert heaviest_countries(counts, prior, ("A", "B", "C", "D")) == ["B", "C"]


# Feasibility


def test_feasibility_agrees_with_the_score_after_placement() -> None:
    """What a catalogue decides is the same before and after the sites have coordinates."""
    sites = honest()
    south = bumps()[0].southern_share()
    before = feasibility(
        sites.merchant_id, sites.country, np.ones(len(sites), np.int64),
        eligible=np.ones(COUNTRIES, np.bool_), macro_region=MACRO_REGION, south=south, prior=PRIOR,
        market=np.square(PRIOR), gates=gates(),
    )  # fmt: skip
    after = {row.name: row for row in scored(sites).report.gates}
    for row in before.gates:
        assert (row.observed, row.ci95 or None) == (
            after[row.name].observed,
            row.ci95 and after[row.name].ci95,
        )
    counters = {row.name: row.observed for row in scored(sites).report.counters}
    assert all(row.observed == counters[row.name] for row in before.counters)
    assert before.reach == "below_B"
    assert before.distance_to("B+") > before.distance_to("B") > 0.0


def test_distance_counts_counter_metrics_and_what_cannot_be_computed() -> None:
    """A divergence 50 % over its band is half a unit away; a row without a value is infinitely far."""
    gate = GateRow("top1_share", 0.075, "<=", 0.1, 0.08, True, True, 0.025, 0.005)
    row = CounterRow("prior_kl", None, 0.09, None, 0.06, passed=False)
    far = Feasibility((gate,), (row,), None)
    assert (far.reach, far.distance_to("B"), far.distance_to("B+")) == ("below_B", 0.5, 0.5)
    lost = Feasibility((gate,), (row, CounterRow("market_slope", None, None, 0.4, None, passed=False)), None)
    assert lost.distance_to("B") == math.inf
    assert lost.shortfall("B") == (1, 0.5)
    near = Feasibility((gate,), (CounterRow("prior_kl", None, 0.045, None, 0.06, passed=True),), None)
    assert near.distance_to("B+") == 0.0
    assert near.margins("B+") == ((0.0625, "top1_share"), (0.25, "prior_kl"))


def test_southern_share_is_exact_up_to_the_countries_on_the_equator() -> None:
    """One country south, one on the equator with a quarter of its people south, one north."""
    metric, bounds = southern_share(np.array([2, 4, 4]), np.array([1.0, 0.25, 0.0]))
    assert metric.value == pytest.approx(0.3)
    assert bounds == (0.2, 0.6)
    assert southern_share(np.zeros(3, np.int64), np.zeros(3))[0].value is None
