"""One call that scores a seed, and one that scores the pool of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seg1b.kernels.bca import Interval
from seg1b.scoring.counter_metrics import counter_values
from seg1b.scoring.gates import GateReport, counter_key, evaluate
from seg1b.scoring.grading import RunStatus, run_status
from seg1b.scoring.measure import Measurement, ScoringContext, SiteTally, measure, pool, tally
from seg1b.scoring.measured import Judged, Measured
from seg1b.scoring.metrics import core_intervals, core_score, resampled
from seg1b.scoring.results import CoreScore, CounterValue, SentinelRow
from seg1b.scoring.sentinel import collapse_sentinel
from seg1b.scoring.sites import Sites
from seg1b.scoring.values import Metric, known

LARGEST_MERCHANT = "largest_merchant_share"


@dataclass(frozen=True, eq=False)
class Score:
    """Everything about one seed (`seed` set) or the pool (`seed` None)."""

    seed: int | None
    measurement: Measurement
    core: CoreScore
    counters: tuple[CounterValue, ...]
    intervals: dict[str, Interval | None]
    sentinel: tuple[SentinelRow, ...]
    violations: dict[str, int | None]
    report: GateReport

    @property
    def status(self) -> RunStatus:
        """Status of the run."""
        return run_status(self.report)

    @property
    def measured(self) -> Measured:
        """All of it that is not per site, as it is kept to be judged again."""
        return Measured(
            self.seed, self.measurement.seeds, self.core, self.counters, self.intervals, self.sentinel,
            self.violations,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Plain JSON data (no NaN, no infinity); the per-site measurement stays out."""
        return Judged(self.measured, self.report).facts()


def all_metrics(score: Score) -> dict[str, float | None]:
    """Every metric of a score by name; None where it cannot be computed.

    The core metrics; `eligible_country_gini` (over all eligible countries, zeros included) and
    `all_country_nonzero_share` (coverage of all countries, eligible or not), which no gate judges; `site_count`;
    `region_share.<macro-region>`; counter-metrics as `name`, or `name@surface` where measured on a surface.
    """
    core = score.core
    return {
        **{name: metric.value for name, metric in core.metrics.items()},
        "eligible_country_gini": core.eligible_country_gini.value,
        "all_country_nonzero_share": core.all_country_nonzero_share.value,
        "site_count": core.site_count,
        **{f"region_share.{name}": metric.value for name, metric in core.region_shares.items()},
        **{counter_key(value.name, value.surface): value.metric.value for value in score.counters},
    }


def score_seed(
    sites: Sites,
    seed: int,
    context: ScoringContext,
    violations: Mapping[str, int | None],
) -> Score:
    """Score one seed. `violations`: the structural counts of `gates.STRUCTURAL_CHECKS`; what is missing
    fails.
    """
    return score_tally(tally(sites, seed, context), seed, context, violations)


def score_tally(
    sites: SiteTally,
    seed: int,
    context: ScoringContext,
    violations: Mapping[str, int | None],
) -> Score:
    """As `score_seed`, from the tally of all its countries."""
    points = sites.points(context.countries)
    sentinel = collapse_sentinel(points, context.iso, context.gates.collapse_sentinel)
    return score_measured(measure(sites, context), sentinel, seed, context, violations)


def score_measured(
    measurement: Measurement,
    sentinel: Sequence[SentinelRow],
    seed: int,
    context: ScoringContext,
    violations: Mapping[str, int | None],
) -> Score:
    """As `score_seed`, from what was measured of the seed's sites."""
    return _scored(seed, measurement, sentinel, dict(violations), context)


def score_pooled(
    scores: Sequence[Score],
    context: ScoringContext,
    *,
    shared_catalogue: bool,
) -> Score:
    """Score all seeds as one. Structural violations add up; each seed's sentinel rows are judged again.

    `largest_merchant_share` of seeds with catalogues of their own is that of the worst seed: there a merchant is
    another unit in every seed, so its share of the pooled sites would be its share divided by the number of seeds,
    and one chain owning a country would pass. It cannot be computed if it cannot in one of the seeds.
    """
    names = {name for score in scores for name in score.violations}
    violations: dict[str, int | None] = {}
    for name in sorted(names):
        counts = [score.violations.get(name) for score in scores]
        known_counts = [count for count in counts if count is not None]
        violations[name] = sum(known_counts) if len(known_counts) == len(counts) else None
    measurement = pool([score.measurement for score in scores], shared_catalogue=shared_catalogue)
    sentinel = [row for score in scores for row in score.sentinel]
    worst = {} if shared_catalogue else {LARGEST_MERCHANT: _worst_seed(scores, LARGEST_MERCHANT)}
    return _scored(None, measurement, sentinel, violations, context, worst)


def _worst_seed(scores: Sequence[Score], name: str) -> Metric:
    """Largest value of a counter-metric in any seed; not computable if a seed's is not."""
    metrics = [
        (score.seed, value.metric) for score in scores for value in score.counters if value.name == name
    ]
    for seed, metric in metrics:
        if metric.value is None:
            return Metric(None, f"{metric.reason} (seed {seed})")
    return known(max(metric.value for _, metric in metrics if metric.value is not None))


def _scored(
    seed: int | None,
    measurement: Measurement,
    sentinel: Sequence[SentinelRow],
    violations: dict[str, int | None],
    context: ScoringContext,
    instead: Mapping[str, Metric] | None = None,
) -> Score:
    """`instead`: counter-metrics whose value does not follow from the measurement."""
    sample = resampled(measurement, context.eligible, context.macro_region)
    ascending_m = None if measurement.distance_m is None else sample.distance_m
    core = core_score(measurement, ascending_m, context)
    counters = [
        replace(value, metric=(instead or {}).get(value.name, value.metric))
        for value in counter_values(measurement, ascending_m, context)
    ]
    intervals = core_intervals(sample, context.gates.bootstrap, context.macro_region)
    report = evaluate(core, counters, intervals, sentinel, violations, context.gates, seeds=measurement.seeds)
    return Score(seed, measurement, core, tuple(counters), intervals, tuple(sentinel), violations, report)
