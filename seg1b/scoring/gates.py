"""Verdicts: metrics against thresholds, one row each. A metric that cannot be computed fails its row, by
name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from seg1b.kernels.bca import Interval
from seg1b.policy.gates import GatesPolicy, HardGate, StructuralPolicy
from seg1b.scoring.results import COLLAPSED, CoreScore, CounterValue, SentinelRow
from seg1b.scoring.values import Metric, known, rounded, unknown

STRUCTURAL_CHECKS = tuple(name.removesuffix("_max") for name in StructuralPolicy.model_fields)
"""Names of the structural checks; each is a number of violations, to be counted by whoever holds the data."""


@dataclass(frozen=True)
class GateRow:
    """One hard gate. Margins (12 significant digits) are positive when the gate is met with room to spare."""

    name: str
    observed: float | None
    op: str
    b: float
    b_plus: float
    pass_b: bool
    pass_b_plus: bool
    margin_b: float | None
    margin_b_plus: float | None
    ci95: tuple[float, float] | None = None
    ci_method: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class CounterRow:
    """One counter-metric against its band; it counts for both grades."""

    name: str
    surface: str | None
    observed: float | None
    min: float | None
    max: float | None
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class GateReport:
    """All rows of one seed or of the pool."""

    gates: tuple[GateRow, ...]
    counters: tuple[CounterRow, ...]

    @property
    def pass_b(self) -> bool:
        """Every hard gate at B and every counter-metric holds, and there was something to judge."""
        return bool(self.gates and self.counters) and not self.failed("B")

    @property
    def pass_b_plus(self) -> bool:
        """Every hard gate at B+ (and so at B) and every counter-metric holds."""
        return bool(self.gates and self.counters) and not self.failed("B+")

    def failed(self, grade: str) -> tuple[str, ...]:
        """Names of the rows that fail for grade "B" or "B+"; a counter-metric's name carries its surface."""
        gates = [r.name for r in self.gates if not (r.pass_b and (grade == "B" or r.pass_b_plus))]
        return (*gates, *(counter_key(r.name, r.surface) for r in self.counters if not r.passed))


def counter_key(name: str, surface: str | None) -> str:
    """Unique name of a counter row: `name` or `name@surface`."""
    return name if surface is None else f"{name}@{surface}"


def gate_row(name: str, metric: Metric, gate: HardGate, interval: Interval | None = None) -> GateRow:
    """Compare one metric with the two thresholds of its gate."""
    return _row(name, metric, gate.op, gate.b, gate.b_plus, interval)


def _row(
    name: str, metric: Metric, op: str, b: float, b_plus: float, interval: Interval | None = None
) -> GateRow:
    value = metric.value
    ci95 = None if interval is None else (interval.low, interval.high)
    method = None if interval is None else interval.method
    if value is None:
        return GateRow(name, None, op, b, b_plus, False, False, None, None, ci95, method, metric.reason or "")
    margins = [rounded(limit - value if op == "<=" else value - limit) for limit in (b, b_plus)]
    passed = [(value <= limit if op == "<=" else value >= limit) for limit in (b, b_plus)]
    reason = "" if passed[1] else f"{value:.6g} is not {op} {b_plus if passed[0] else b:.6g}"
    return GateRow(
        name,
        value,
        op,
        b,
        b_plus,
        passed[0],
        passed[0] and passed[1],
        margins[0],
        margins[1],
        ci95,
        method,
        reason,
    )


def counter_row(value: CounterValue, low: float | None, high: float | None) -> CounterRow:
    """Compare one counter-metric with its inclusive band."""
    observed = value.metric.value
    if observed is None:
        return CounterRow(value.name, value.surface, None, low, high, False, value.metric.reason or "")
    too_low = low is not None and observed < low
    too_high = high is not None and observed > high
    reason = f"{observed:.6g} is below {low:.6g}" if too_low else ""
    if too_high:
        reason = f"{observed:.6g} is above {high:.6g}"
    return CounterRow(value.name, value.surface, observed, low, high, not (too_low or too_high), reason)


def core_rows(
    score: CoreScore, intervals: Mapping[str, Interval | None], policy: GatesPolicy
) -> list[GateRow]:
    """The seven hard gates, each with its bootstrap interval."""
    return [
        gate_row(name, score.metrics[name], gate, intervals.get(name))
        for name, gate in policy.hard_gates.items()
    ]


def bootstrap_rows(
    metrics: Mapping[str, Metric], intervals: Mapping[str, Interval | None], policy: GatesPolicy
) -> list[GateRow]:
    """The bad end of the interval of Gini and top shares must pass as well."""
    rows = []
    for name in policy.bootstrap.metrics:
        gate = policy.hard_gates[name]
        interval = intervals.get(name)
        end = "upper" if gate.op == "<=" else "lower"
        metric = _bad_end(metrics[name].value, interval, gate)
        rows.append(gate_row(f"bootstrap_{end}.{name}", metric, gate, interval))
    return rows


def _bad_end(observed: float | None, interval: Interval | None, gate: HardGate) -> Metric:
    """The end of the interval that the gate is about.

    BCa does not exist when all replicates lie on one side of the observed value. If that is the bad side, the
    plain percentile is farther out than any bias-corrected bound and may stand in for it; if not, it proves
    nothing. Ends of intervals are rounded, so the observed value is rounded before it is compared with them.
    """
    if interval is None or observed is None:
        return unknown("there is no bootstrap interval")
    bad_end = interval.high if gate.op == "<=" else interval.low
    centre = rounded(observed)
    on_bad_side = interval.low >= centre if gate.op == "<=" else interval.high <= centre
    if interval.method == "percentile" and not on_bad_side:
        return unknown("no replicate is as bad as the observed value, so BCa does not exist")
    return known(bad_end)


def region_rows(
    shares: Mapping[str, Metric],
    policy: GatesPolicy,
    intervals: Mapping[str, Interval | None] = MappingProxyType({}),
) -> list[GateRow]:
    """Configured floors of the macro-regions' shares, each with its interval; the same floor for both grades."""
    rows = []
    for region, floor in sorted(policy.region_floors.items()):
        metric = shares.get(region) or unknown(f"no country belongs to {region}")
        interval = intervals.get(f"region_share.{region}")
        rows.append(_row(f"region_floor.{region}", metric, ">=", floor, floor, interval))
    return rows


def structural_rows(violations: Mapping[str, int | None], policy: GatesPolicy) -> list[GateRow]:
    """Structural integrity; a check that is missing or None was not made and therefore fails.

    Raises ValueError for a name that is not one of STRUCTURAL_CHECKS: a misspelt check must not vanish.
    """
    strange = sorted(set(violations) - set(STRUCTURAL_CHECKS))
    if strange:
        raise ValueError(
            f"unknown structural checks: {', '.join(strange)}; known: {', '.join(STRUCTURAL_CHECKS)}"
        )
    rows = []
    for name in STRUCTURAL_CHECKS:
        count = violations.get(name)
        metric = unknown("the check was not made") if count is None else known(count)
        limit = float(getattr(policy.structural, f"{name}_max"))
        rows.append(_row(f"structural.{name}", metric, "<=", limit, limit))
    return rows


def sentinel_gate(rows: Sequence[SentinelRow]) -> GateRow:
    """No collapsed country among those judged."""
    if not rows:
        return _row("collapse_sentinel", unknown("there are no sites"), "<=", 0.0, 0.0)
    flagged = [row.country_iso for row in rows if row.status == COLLAPSED]
    row = _row("collapse_sentinel", known(len(flagged)), "<=", 0.0, 0.0)
    if not flagged:
        return row
    return GateRow(**{**row.__dict__, "reason": f"collapsed: {', '.join(flagged)}"})


def no_regression_rows(score: CoreScore, lock: Mapping[str, float], policy: GatesPolicy) -> list[GateRow]:
    """Core metrics that the pinned lock names must not be worse than there, within the tolerance.

    Raises ValueError for a metric that no gate knows.
    """
    strange = sorted(set(lock) - set(score.metrics))
    if strange:
        raise ValueError(f"the lock names unknown metrics: {', '.join(strange)}")
    rows = []
    for name, gate in policy.hard_gates.items():
        if name in lock:
            slack = policy.no_regression_tolerance if gate.op == "<=" else -policy.no_regression_tolerance
            limit = lock[name] + slack
            if not math.isfinite(limit):
                raise ValueError(f"the lock's {name} is not a finite number")
            rows.append(_row(f"no_regression.{name}", score.metrics[name], gate.op, limit, limit))
    return rows


def neighbours_scale(site_count: int, policy: GatesPolicy) -> float:
    """What the lower bound of the neighbours' median is multiplied by for a seed of so many sites: distances shrink
    with the square root of their density.
    """
    scaling = policy.counter_metric_parameters.nn_p50_scaling_sites
    return math.sqrt(min(1.0, scaling / max(site_count, 1)))


def counter_rows(values: Sequence[CounterValue], site_count: int, policy: GatesPolicy) -> list[CounterRow]:
    """Counter-metrics against their bands; `site_count` per seed scales the lower bound of the NN median."""
    rows = []
    for value in values:
        band = next(band for name, band in policy.counter_metrics.items() if name == value.name)
        low = band.min
        if value.name == "nn_p50_km" and low is not None:
            low *= neighbours_scale(site_count, policy)
        rows.append(counter_row(value, low, band.max))
    return rows


def evaluate(
    score: CoreScore,
    counters: Sequence[CounterValue],
    intervals: Mapping[str, Interval | None],
    sentinel: Sequence[SentinelRow],
    violations: Mapping[str, int | None],
    policy: GatesPolicy,
    *,
    seeds: int = 1,
) -> GateReport:
    """Every gate of one seed (or of `seeds` pooled ones)."""
    gates = [
        *core_rows(score, intervals, policy),
        *bootstrap_rows(score.metrics, intervals, policy),
        *region_rows(score.region_shares, policy, intervals),
        sentinel_gate(sentinel),
        *structural_rows(violations, policy),
    ]
    return GateReport(tuple(gates), tuple(counter_rows(counters, score.site_count // seeds, policy)))
