"""Gates and grades: every row can fail, nothing unknown passes, a certification fails closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from scipy import stats
from scoring_world import gates

from seg1b.kernels.bca import Interval
from seg1b.policy.base import MacroRegion
from seg1b.policy.gates import CORE_METRICS, COUNTER_METRICS, CoefficientOfVariation, CoreMetric
from seg1b.scoring.counter_metrics import SURFACE_METRICS
from seg1b.scoring.gates import (
    STRUCTURAL_CHECKS,
    GateReport,
    counter_rows,
    evaluate,
    gate_row,
    no_regression_rows,
    structural_rows,
)
from seg1b.scoring.grading import (
    COUNTRY_METRICS,
    certification_grade,
    run_status,
    sigma_interval_factors,
    stability,
)
from seg1b.scoring.results import CoreScore, CounterValue, SentinelRow
from seg1b.scoring.triage import PLACEMENT, advice, triage
from seg1b.scoring.values import Metric, known, unknown

GOOD = {
    "country_gini": 0.54,
    "top10_share": 0.37,
    "top5_share": 0.23,
    "top1_share": 0.058,
    "eligible_country_nonzero_share": 0.98,
    "southern_hemisphere_share": 0.206,
    "nn_p99_p50_ratio": 4.5,
}
ONLY_B = {
    "country_gini": 0.65,
    "top10_share": 0.45,
    "top5_share": 0.30,
    "top1_share": 0.09,
    "eligible_country_nonzero_share": 0.90,
    "southern_hemisphere_share": 0.15,
    "nn_p99_p50_ratio": 9.0,
}
BELOW_B = {
    "country_gini": 0.7,
    "top10_share": 0.6,
    "top5_share": 0.4,
    "top1_share": 0.2,
    "eligible_country_nonzero_share": 0.5,
    "southern_hemisphere_share": 0.05,
    "nn_p99_p50_ratio": 11.0,
}
GOOD_COUNTERS = {
    "population_pit_mean": 0.5,
    "population_pit_ks": 0.006,
    "unpopulated_tile_share": 0.001,
    "near_city_share_difference": 0.01,
    "population_correlation_1deg": 0.955,
    "nn_p50_km": 0.114,
    "nn_p90_km": 1.8,
    "nn_isolated_10km_share": 0.005,
    "duplicate_point_share": 0.0,
    "market_slope": 0.521,
    "country_gini_lower_bound": 0.54,
    "prior_kl": 0.039,
    "largest_merchant_share": 0.2,
}
BAD_COUNTERS = {
    "population_pit_mean": [0.46, 0.54],
    "population_pit_ks": [0.051],
    "unpopulated_tile_share": [0.021],
    "near_city_share_difference": [-0.031, 0.031],
    "population_correlation_1deg": [0.84],
    "nn_p50_km": [0.049, 1.51],
    "nn_p90_km": [5.1],
    "nn_isolated_10km_share": [0.051],
    "duplicate_point_share": [0.011],
    "market_slope": [0.39],
    "country_gini_lower_bound": [0.44],
    "prior_kl": [0.061],
    "largest_merchant_share": [0.26],
}
REGIONS = {
    "Africa": 0.1,
    "Asia": 0.3,
    "Europe": 0.2,
    "North America": 0.1,
    "South America": 0.2,
    "Oceania": 0.1,
}


def score_of(values: dict[str, float] | None = None, regions: dict[str, float] | None = None) -> CoreScore:
    """A core score with these values."""
    metrics = {name: known(value) for name, value in {**GOOD, **(values or {})}.items()}
    shares = {name: known(value) for name, value in (REGIONS if regions is None else regions).items()}
    return CoreScore(metrics, 128_000, 240, 245, known(0.55), known(0.96), {}, shares)


def counters_of(values: dict[str, float] | None = None) -> list[CounterValue]:
    """Counter-metrics with these values."""
    merged = {**GOOD_COUNTERS, **(values or {})}
    return [CounterValue(n, "bundled" if n in SURFACE_METRICS else None, known(v)) for n, v in merged.items()]


def intervals_of(values: dict[str, float] | None = None, method: str = "bca") -> dict[str, Interval | None]:
    """Intervals whose upper ends are a little above the observed values."""
    merged = {**GOOD, **(values or {})}
    return {name: Interval(0.9 * value, 1.02 * value, method) for name, value in merged.items()}


OK_SENTINEL = [SentinelRow("FR", 900, 900, "ok", 1.2, 0.6, 1.0, 1.0)]
CLEAN: dict[str, int | None] = dict.fromkeys(STRUCTURAL_CHECKS, 0)


def report_of(values: dict[str, float] | None = None, counters: dict[str, float] | None = None) -> GateReport:
    """A full report; intervals move along with the values."""
    return evaluate(
        score_of(values), counters_of(counters), intervals_of(values), OK_SENTINEL, CLEAN, gates()
    )


def test_the_honest_values_pass_everything() -> None:
    """The calibrated run: no row fails at B+, and the status is GREEN_B."""
    report = report_of()
    assert report.failed("B+") == ()
    assert report.pass_b_plus
    assert run_status(report) == "GREEN_B"
    assert {row.name for row in report.counters} == set(COUNTER_METRICS)


@pytest.mark.parametrize("name", CORE_METRICS)
def test_every_core_gate_tells_b_plus_from_b_from_below(name: CoreMetric) -> None:
    """One metric moved at a time: AMBER between the thresholds, RED below B."""
    assert run_status(report_of({name: ONLY_B[name]})) == "AMBER_NEAR_BPLUS"
    below = report_of({name: BELOW_B[name]})
    assert run_status(below) == "RED_REOPEN_REQUIRED"
    assert name in below.failed("B")


@pytest.mark.parametrize("name", CORE_METRICS)
def test_thresholds_themselves_pass(name: CoreMetric) -> None:
    """<= and >= include the threshold, and the margin is then zero."""
    gate = gates().hard_gates[name]
    row = gate_row(name, known(gate.b_plus), gate)
    assert row.pass_b_plus
    assert row.margin_b_plus == 0.0
    worse = gate.b + (1e-9 if gate.op == "<=" else -1e-9)
    assert not gate_row(name, known(worse), gate).pass_b


def test_the_neighbour_gates_are_20_and_35_percent_below_the_baseline() -> None:
    """9.434384 and 7.665437 of 11.79298."""
    gate, baseline = gates().hard_gates["nn_p99_p50_ratio"], gates().baseline.metrics["nn_p99_p50_ratio"]
    assert gate.b == pytest.approx(baseline * 0.80, abs=1e-6)
    assert gate.b_plus == pytest.approx(baseline * 0.65, abs=1e-6)


@pytest.mark.parametrize("name", CORE_METRICS)
def test_a_core_metric_that_cannot_be_computed_fails_by_name(name: str) -> None:
    """Unknown is RED, with observed None and the reason kept."""
    score = score_of()
    score.metrics[name] = unknown("a test")
    report = evaluate(score, counters_of(), intervals_of(), OK_SENTINEL, CLEAN, gates())
    row = next(row for row in report.gates if row.name == name)
    assert (row.observed, row.pass_b, row.reason) == (None, False, "not_computable: a test")
    assert run_status(report) == "RED_REOPEN_REQUIRED"


@pytest.mark.parametrize("name", COUNTER_METRICS)
def test_every_counter_metric_is_hard_for_both_grades(name: str) -> None:
    """Just outside the band: the run is RED although every hard gate passes; and so it is when unknown."""
    for value in BAD_COUNTERS[name]:
        report = report_of(counters={name: value})
        assert [f.split("@")[0] for f in report.failed("B")] == [name]
        assert run_status(report) == "RED_REOPEN_REQUIRED"
    row = counter_rows([CounterValue(name, None, unknown("a test"))], 100, gates())[0]
    assert not row.passed
    assert row.reason == "not_computable: a test"


def test_lower_bound_of_the_neighbour_median_scales_above_a_million_sites() -> None:
    """At four million sites half the distance is enough; below a million nothing changes."""
    value = [CounterValue("nn_p50_km", None, known(0.03))]
    assert not counter_rows(value, 1_000_000, gates())[0].passed
    row = counter_rows(value, 4_000_000, gates())[0]
    assert row.passed
    assert row.min == 0.025


@pytest.mark.parametrize("name", gates().bootstrap.metrics)
def test_the_upper_end_of_the_interval_must_pass_too(name: CoreMetric) -> None:
    """The observed value is B+, its 97.5 % bound is not; and an interval that is missing or proves nothing
    fails.
    """
    intervals = intervals_of()
    intervals[name] = Interval(0.0, gates().hard_gates[name].b + 0.01, "bca")
    row_name = f"bootstrap_upper.{name}"
    for broken in (intervals[name], None, Interval(0.0, GOOD[name], "percentile")):
        report = evaluate(score_of(), counters_of(), {**intervals, name: broken}, OK_SENTINEL, CLEAN, gates())
        assert report.failed("B") == (row_name,)


def test_percentile_interval_beyond_the_observed_value_is_a_conservative_bound() -> None:
    """All replicates are worse than observed: no BCa, but their percentile is farther out than BCa could
    be.
    """
    for high, passed in ((GOOD["country_gini"] + 0.02, True), (0.61, False)):
        intervals = {
            **intervals_of(),
            "country_gini": Interval(GOOD["country_gini"] + 0.001, high, "percentile"),
        }
        report = evaluate(score_of(), counters_of(), intervals, OK_SENTINEL, CLEAN, gates())
        row = next(row for row in report.gates if row.name == "bootstrap_upper.country_gini")
        assert (row.observed, row.pass_b_plus) == (high, passed)


@pytest.mark.parametrize("region", sorted(gates().region_floors))
def test_every_region_floor_can_fail(region: MacroRegion) -> None:
    """A region just below its floor, or missing altogether."""
    low = gates().region_floors[region] - 1e-6
    for regions in ({**REGIONS, region: low}, {k: v for k, v in REGIONS.items() if k != region}):
        report = evaluate(
            score_of(regions=regions), counters_of(), intervals_of(), OK_SENTINEL, CLEAN, gates()
        )
        assert report.failed("B") == (f"region_floor.{region}",)


@pytest.mark.parametrize("check", STRUCTURAL_CHECKS)
@pytest.mark.parametrize("violations", [1, None])
def test_every_structural_check_can_fail(check: str, violations: int | None) -> None:
    """One violation fails, and so does a check that nobody made."""
    report = evaluate(
        score_of(), counters_of(), intervals_of(), OK_SENTINEL, {**CLEAN, check: violations}, gates()
    )
    assert report.failed("B") == (f"structural.{check}",)


def test_a_misspelt_structural_check_is_refused() -> None:
    """It must not vanish silently."""
    with pytest.raises(ValueError, match="unknown structural checks: parity_mismatch"):
        structural_rows({"parity_mismatch": 0}, gates())


def test_a_collapsed_country_fails_and_is_named() -> None:
    """As does a run in which no country could be judged because there is none."""
    flagged = SentinelRow("CL", 500, 500, "collapsed", 40.0, 0.99, 1.0, 1.0, "the sites form a strip")
    report = evaluate(score_of(), counters_of(), intervals_of(), [flagged], CLEAN, gates())
    assert report.failed("B") == ("collapse_sentinel",)
    assert "CL" in next(row.reason for row in report.gates if row.name == "collapse_sentinel")
    nothing = evaluate(score_of(), counters_of(), intervals_of(), [], CLEAN, gates())
    assert nothing.failed("B") == ("collapse_sentinel",)


def test_no_regression_against_the_lock_has_a_tiny_tolerance() -> None:
    """Equal passes, a billionth worse fails, on the right side of each operator."""
    assert all(row.pass_b for row in no_regression_rows(score_of(), GOOD, gates()))
    for name in CORE_METRICS:
        sign = -1.0 if gates().hard_gates[name].op == "<=" else 1.0
        rows = no_regression_rows(score_of(), {name: GOOD[name] + sign * 1e-9}, gates())
        assert [(row.name, row.pass_b) for row in rows] == [(f"no_regression.{name}", False)]
    with pytest.raises(ValueError, match="unknown metrics: typo"):
        no_regression_rows(score_of(), {"typo": 1.0}, gates())


def test_an_empty_report_passes_nothing() -> None:
    """Nothing judged is not everything passed."""
    assert not GateReport((), ()).pass_b
    assert not GateReport((), ()).pass_b_plus


# Stability

LIMITS = CoefficientOfVariation(b=0.30, b_plus=0.20)
Seeds = dict[int, dict[str, Metric]]


def seeds_of(name: str, values: list[float]) -> Seeds:
    """Metrics of seeds 1, 2, ...: `name` takes these values, the others vary a little."""
    return {
        seed: {n: known(value if n == name else GOOD[n] * (1 + seed / 1000)) for n in CORE_METRICS}
        for seed, value in enumerate(values, start=1)
    }


def test_cv_is_sample_sd_over_absolute_mean() -> None:
    """Values 1, 2, 3, 4: mean 2.5, sample sd sqrt(5/3)."""
    row = next(r for r in stability(seeds_of("top1_share", [1, 2, 3, 4]), LIMITS) if r.name == "top1_share")
    assert row.cv == pytest.approx((5 / 3) ** 0.5 / 2.5, rel=1e-11)
    assert (row.mean, row.min, row.max, row.status) == (2.5, 1, 4, "ok")
    assert not row.pass_b
    assert row.sigma_interval == pytest.approx((0.5665 * (5 / 3) ** 0.5, 3.7285 * (5 / 3) ** 0.5), rel=1e-3)


def test_only_the_seven_core_metrics_have_a_cv() -> None:
    """A CV of a quantity near zero means nothing."""
    assert tuple(row.name for row in stability(seeds_of("top1_share", [1, 1.1]), LIMITS)) == CORE_METRICS


def test_b_and_b_plus_limits_of_the_cv() -> None:
    """A CV of .25 is good enough for B and not for B+."""
    row = next(
        r for r in stability(seeds_of("top1_share", [0.8232, 1.1768]), LIMITS) if r.name == "top1_share"
    )
    assert row.cv == pytest.approx(0.25, abs=1e-4)
    assert (row.pass_b, row.pass_b_plus) == (True, False)


def test_four_seeds_support_a_wide_interval_of_sigma() -> None:
    """0.57 to 3.73 times the sample sd; one seed supports none. Against the chi-square distribution."""
    factors = sigma_interval_factors(4)
    assert factors == pytest.approx((0.5665, 3.7285), abs=1e-4)
    assert factors is not None
    assert stats.chi2.cdf(3 / factors[0] ** 2, 3) == pytest.approx(0.975)
    assert sigma_interval_factors(1) is None


def test_a_shared_catalogue_makes_country_cvs_uninformative_and_only_those() -> None:
    """The note stands beside the CV; placement metrics keep their status. A CV of exactly 0 is flagged
    anyhow.
    """
    rows = stability(seeds_of("top1_share", [1, 1.01]), LIMITS, country_note="all seeds share one catalogue")
    assert {row.name for row in rows if row.status == "not_informative"} == set(COUNTRY_METRICS)
    assert all(row.reason == "all seeds share one catalogue" for row in rows if row.name in COUNTRY_METRICS)
    same = next(
        r for r in stability(seeds_of("nn_p99_p50_ratio", [4, 4]), LIMITS) if r.name == "nn_p99_p50_ratio"
    )
    assert (same.cv, same.status, same.pass_b_plus) == (0.0, "not_informative", True)


@pytest.mark.parametrize("values", [[1.0], [1.0, -1.0]])
def test_a_cv_that_cannot_be_computed_fails(values: list[float]) -> None:
    """One seed has no spread, and a mean of zero no relative one."""
    row = next(r for r in stability(seeds_of("top1_share", values), LIMITS) if r.name == "top1_share")
    assert (row.cv, row.pass_b, row.status) == (None, False, "not_computable")


def test_a_seed_without_the_metric_fails_the_cv() -> None:
    """Dropping a seed would improve stability."""
    seeds = seeds_of("top1_share", [1.0, 1.0, 1.0])
    seeds[2]["top1_share"] = unknown("a test")
    row = next(r for r in stability(seeds, LIMITS) if r.name == "top1_share")
    assert not row.pass_b
    assert "not computable in every seed" in row.reason


# Grades

REQUIRED = (42, 7)
STABLE = stability(
    {42: {n: known(v) for n, v in GOOD.items()}, 7: {n: known(v) for n, v in GOOD.items()}}, LIMITS
)


def test_grade_b_plus_needs_every_seed_and_the_pool() -> None:
    """All perfect: B+, and no reason against anything."""
    perfect = report_of()
    grade = certification_grade({42: perfect, 7: perfect}, perfect, STABLE, REQUIRED)
    assert (grade.grade, grade.reasons_against_b, grade.reasons_against_b_plus) == ("B+", (), ())


def test_a_pooled_pass_with_a_failing_seed_is_a_fail() -> None:
    """The pool cannot heal a seed, nor a seed the pool."""
    perfect, broken = report_of(), report_of({"top1_share": 0.2})
    grade = certification_grade({42: perfect, 7: broken}, perfect, STABLE, REQUIRED)
    assert grade.grade == "below_B"
    assert "seed 7: top1_share" in grade.reasons_against_b
    assert certification_grade({42: perfect, 7: perfect}, broken, STABLE, REQUIRED).grade == "below_B"


def test_one_b_seed_makes_the_certification_b() -> None:
    """B everywhere, B+ in all but one."""
    perfect, only_b = report_of(), report_of({"top1_share": 0.09})
    grade = certification_grade({42: perfect, 7: only_b}, perfect, STABLE, REQUIRED)
    assert grade.grade == "B"
    assert grade.reasons_against_b_plus == ("seed 7: top1_share", "seed 7: bootstrap_upper.top1_share")


def unstable() -> list[object]:
    """Stability rows of which one is good enough for B only."""
    return [replace(row, pass_b_plus=False) if row.name == "top1_share" else row for row in STABLE]


@pytest.mark.parametrize(
    ("change", "grade"),
    [
        (lambda k: k["reports"].pop(7), "below_B"),
        (lambda k: k.update(pooled=None), "below_B"),
        (lambda k: k.update(stability_rows=[]), "below_B"),
        (lambda k: k.update(stability_rows=STABLE[1:]), "below_B"),
        (lambda k: k.update(required_seeds=()), "below_B"),
        (lambda k: k.update(required_seeds=(42, 7, 101)), "below_B"),
        (lambda k: k.update(vetoes=("guard: FAIL",)), "below_B"),
        (lambda k: k.update(pooled=GateReport((), ())), "below_B"),
        (lambda k: k.update(stability_rows=unstable()), "B"),
    ],
)
def test_a_certification_fails_closed(change: Callable[[dict[str, object]], object], grade: str) -> None:
    """Whatever is missing or vetoed takes the grade away, and says why."""
    perfect = report_of()
    arguments: dict[str, object] = {
        "reports": {42: perfect, 7: perfect},
        "pooled": perfect,
        "stability_rows": STABLE,
        "required_seeds": REQUIRED,
    }
    change(arguments)
    result = certification_grade(**arguments)  # type: ignore[arg-type]
    assert result.grade == grade
    assert result.reasons_against_b_plus


def test_an_extra_seed_that_fails_counts_too() -> None:
    """A result that was not asked for cannot be ignored because it is bad."""
    perfect, broken = report_of(), report_of({"top1_share": 0.2})
    assert (
        certification_grade({42: perfect, 7: perfect, 1: broken}, perfect, STABLE, REQUIRED).grade
        == "below_B"
    )


# Triage


def test_every_failure_has_advice_of_its_own_kind() -> None:
    """Country mass, coverage, neighbours, structure, placement: the first words tell them apart."""
    assert "catalogue" in advice("country_gini")
    assert "denylist" in advice("eligible_country_nonzero_share")
    assert "sparse component" in advice("nn_p99_p50_ratio")
    assert "structural defect" in advice("structural.parity_mismatches")
    assert advice("population_pit_mean@bundled") == PLACEMENT
    assert "lower S4's dispersed share" in advice("nn_isolated_10km_share")


@pytest.mark.parametrize(("median", "towards"), [(0.0001, "lower"), (1e6, "raise")])
def test_advice_for_neighbours_knows_which_end_of_the_band_is_missed(median: float, towards: str) -> None:
    """Sites that stand too near are moved apart, and the other way round."""
    (entry,) = triage(report_of(None, {"nn_p50_km": median}))
    assert f"{towards} S4's sites per trade area" in entry["advice"]


def test_triage_lists_the_failed_rows_with_their_reasons() -> None:
    """One entry per failing row, none for the rest."""
    entries = triage(report_of({"country_gini": 0.65}, {"population_pit_mean": 0.1}))
    names = ["country_gini", "bootstrap_upper.country_gini", "population_pit_mean@bundled"]
    assert [entry["name"] for entry in entries] == names
    assert entries[2]["reason"] == "0.1 is below 0.47"
    assert triage(report_of()) == []
