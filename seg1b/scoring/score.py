"""One call that scores a seed, and one that scores the pool of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seg1b.kernels.bootstrap import Interval
from seg1b.scoring.counter_metrics import CounterValue, counter_values
from seg1b.scoring.gates import GateReport, counter_key, evaluate
from seg1b.scoring.grading import RunStatus, run_status
from seg1b.scoring.measure import Measurement, ScoringContext, measure, pool
from seg1b.scoring.metrics import CoreScore, core_intervals, core_score
from seg1b.scoring.sentinel import SentinelRow, collapse_sentinel
from seg1b.scoring.sites import Sites
from seg1b.scoring.values import plain


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

    def facts(self) -> dict[str, Any]:
        """Plain JSON data (no NaN, no infinity); the per-site measurement stays out."""
        return {
            "seed": self.seed,
            "seeds": self.measurement.seeds,
            "status": self.status,
            "core": plain(self.core),
            "counter_metrics": {counter_key(v.name, v.surface): plain(v.metric) for v in self.counters},
            "intervals": plain(self.intervals),
            "collapse_sentinel": plain(self.sentinel),
            "gates": plain(self.report.gates),
            "counter_gates": plain(self.report.counters),
        }


def score_seed(
    sites: Sites,
    seed: int,
    context: ScoringContext,
    violations: Mapping[str, int | None],
    *,
    lock: Mapping[str, float] | None = None,
) -> Score:
    """Score one seed. `violations`: the structural counts of `gates.STRUCTURAL_CHECKS`; what is missing
    fails.
    """
    measurement = measure(sites, seed, context)
    sentinel = collapse_sentinel(sites, context.iso, context.gates.collapse_sentinel)
    return _scored(seed, measurement, sentinel, dict(violations), context, lock)


def score_pooled(
    scores: Sequence[Score],
    context: ScoringContext,
    *,
    shared_catalogue: bool,
    lock: Mapping[str, float] | None = None,
) -> Score:
    """Score all seeds as one. Structural violations add up; each seed's sentinel rows are judged again."""
    names = {name for score in scores for name in score.violations}
    violations: dict[str, int | None] = {}
    for name in sorted(names):
        counts = [score.violations.get(name) for score in scores]
        known_counts = [count for count in counts if count is not None]
        violations[name] = sum(known_counts) if len(known_counts) == len(counts) else None
    measurement = pool([score.measurement for score in scores], shared_catalogue=shared_catalogue)
    sentinel = [row for score in scores for row in score.sentinel]
    return _scored(None, measurement, sentinel, violations, context, lock)


def _scored(
    seed: int | None,
    measurement: Measurement,
    sentinel: Sequence[SentinelRow],
    violations: dict[str, int | None],
    context: ScoringContext,
    lock: Mapping[str, float] | None,
) -> Score:
    core = core_score(measurement, context)
    counters = counter_values(measurement, context)
    intervals = core_intervals(measurement, context.eligible, context.gates.bootstrap)
    report = evaluate(
        core, counters, intervals, sentinel, violations, context.gates, lock=lock, seeds=measurement.seeds
    )
    return Score(seed, measurement, core, tuple(counters), intervals, tuple(sentinel), violations, report)
