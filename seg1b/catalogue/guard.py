"""The 1A freeze guard: 14 metrics of a catalogue, judged by the bands and hard gates of `config/guard.yaml`.

Rules: engine-contracts 13. Every metric is measured from the bundle's tables, joined by merchant; the verdict is made
from the values each time, so no output of a state depends on a band. Three bands are not nested (B+ reaches outside B,
defect D-74): such metrics are named, and a B+ grade requires the B grade as well. The policy's tolerance (also D-74)
counts wherever a value is compared: a value that misses a band, a hard gate or the concentration limit by no more is
rounding.

A metric without evidence is `not_computable` and fails both bands, and a catalogue whose evidence is missing or unsound
(`guard_evidence`) is below B, whatever the other metrics say. The one exception is a user's plain catalogue, whose
guard is `not_applicable`: a bundle that says it is one, holds no table but its outlets and their numbers, and has the
fingerprint that follows from these outlets (`BundleReceipt.is_plain`). Stripping a 1A bundle makes none of it; to pass
for one, it would have to be brought as what it then is, a catalogue of unknown origin, and its certificate says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from seg1b.catalogue.guard_evidence import GUARD_COLUMNS, evidence_of
from seg1b.catalogue.guard_values import MerchantOutlets, metric_values, realised_ratio_median
from seg1b.catalogue.rows import OutletRuns
from seg1b.catalogue.verify import BundleReceipt, read_dataset
from seg1b.errors import InputError
from seg1b.policy.gates import Band
from seg1b.policy.guard import GUARD_METRICS, FreezeGuardPolicy, GuardBands, GuardMetricName, holds

CONCENTRATION: tuple[GuardMetricName, ...] = ("top10_outlet_share", "gini_outlets_per_merchant")
OF_EVIDENCE: tuple[GuardMetricName, ...] = (
    "candidate_count_median",
    "realization_ratio_median",
    "phi_cv",
    "phi_p95_p05_ratio",
    "required_outputs_present",
)
"""What every sound evidence gives a value; without one of them it is incomplete."""

HARD_GATES = (
    "single_site_tier_exists_materially",
    "candidate_not_near_global_by_default",
    "dispersion_heterogeneity_restored",
    "required_outputs_emitted",
)


@dataclass(frozen=True)
class GuardMeasurement:
    """What a catalogue is, before anybody judges it.

    `values`: metric -> value, None where it cannot be computed, for the reason in `why_missing`. `has_evidence`: false
    for a user's plain catalogue only; any other bundle owes its evidence, and is judged without it.
    `realised_ratio_median` is the honest companion of realization_ratio_median: realised over candidate countries,
    median over merchants with more than one legal country (membership counts countries that may have no outlet).
    """

    values: dict[str, float | None]
    why_missing: str
    has_evidence: bool
    realised_ratio_median: float | None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GuardMeasurement:
        """Inverse of `plain`; raises KeyError or TypeError."""
        values = document["values"]
        return cls(
            {name: values[name] for name in GUARD_METRICS},
            str(document["why_missing"]),
            bool(document["has_evidence"]),
            document["realised_ratio_median"],
        )


@dataclass(frozen=True)
class GuardMetric:
    """One metric: its value or, with `value` None, the reason; its bands; and whether it lies in them (or misses them
    by no more than the policy's tolerance).
    """

    name: str
    value: float | None
    reason: str | None
    bands: GuardBands
    b_pass: bool
    b_plus_pass: bool

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "metric": self.name,
            "value": self.value,
            "b_pass": self.b_pass,
            "b_plus_pass": self.b_plus_pass,
            "reason": self.reason,
            "b_band": [self.bands.b.min, self.bands.b.max],
            "b_plus_band": [self.bands.b_plus.min, self.bands.b_plus.max],
            "bands_nested": self.bands.nested,
        }


@dataclass(frozen=True)
class GuardReport:
    """Metrics, gates and grade of one catalogue. `b_plus_without_b`: metrics inside B+ but outside B (D-74).

    `reason`: why there is no verdict or, where it is graded, what its evidence lacks.
    """

    status: Literal["graded", "not_applicable"]
    reason: str | None
    metrics: dict[str, GuardMetric]
    realised_ratio_median: float | None
    hard_gates: dict[str, bool]
    b_share: float
    b_plus_share: float
    eligible_b: bool
    eligible_b_plus: bool
    grade: Literal["B_plus", "B", "below_B", "not_applicable"]
    b_plus_without_b: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the evidence is all there, so that a comparison with an authority means something."""
        return self.status == "graded" and self.reason is None

    @property
    def b_count(self) -> int:
        """Metrics inside their B band."""
        return sum(metric.b_pass for metric in self.metrics.values())


def measure(
    runs: OutletRuns,
    tables: Mapping[str, pa.Table],
    rows: Mapping[str, int],
    *,
    sequence_follows: bool,
    plain: bool = False,
) -> GuardMeasurement:
    """Measure a catalogue from the rows of its outlets, `GUARD_COLUMNS` of its other tables, and all tables' rows.

    `sequence_follows`: whether s3_site_sequence numbers these outlets; `plain`: it is a user's plain catalogue. Raises
    InputError E_GUARD_NO_CATALOGUE without outlets.
    """
    if not runs.rows:
        raise InputError(
            "E_GUARD_NO_CATALOGUE",
            "the guard needs the outlet catalogue",
            where=", ".join(sorted(rows)) or "no datasets",
            next_step="read the whole bundle",
        )
    evidence = evidence_of(runs, tables, rows, sequence_follows=sequence_follows)
    outlets = MerchantOutlets.of(runs)
    values = metric_values(outlets, evidence)
    return GuardMeasurement(
        {name: values.get(name) for name in GUARD_METRICS},
        "; ".join(evidence.faults) or "the evidence is empty or constant",
        not plain,
        realised_ratio_median(outlets, evidence),
    )


def measure_bundle(runs: OutletRuns, receipt: BundleReceipt) -> GuardMeasurement:
    """Measure a verified bundle whose outlets were read as `runs`; raises InputError E305_SCHEMA_INVALID."""
    rows = receipt.dataset_rows
    tables = {
        name: read_dataset(receipt, name, columns, dictionaries=True)
        for name, columns in GUARD_COLUMNS.items()
        if name in rows
    }
    return measure(runs, tables, rows, sequence_follows=receipt.sequence_follows, plain=receipt.is_plain)


def guard_bundle(runs: OutletRuns, receipt: BundleReceipt, policy: FreezeGuardPolicy) -> GuardReport:
    """Measure and grade a verified bundle."""
    return grade(measure_bundle(runs, receipt), policy)


def grade(measured: GuardMeasurement, policy: FreezeGuardPolicy) -> GuardReport:
    """Judge a measurement by the bands, hard gates and shares of a policy; incomplete evidence is below B."""
    metrics: dict[str, GuardMetric] = {name: _metric(name, measured, policy) for name in GUARD_METRICS}
    if not measured.has_evidence:
        return _not_applicable(metrics)
    gates = hard_gates(measured.values, policy)
    complete = all(measured.values[name] is not None for name in OF_EVIDENCE)
    hard = all(gates.values()) and complete
    b_share = sum(m.b_pass for m in metrics.values()) / len(metrics)
    b_plus_share = sum(m.b_plus_pass for m in metrics.values()) / len(metrics)
    eligible_b = hard and b_share >= policy.grades.b_share_min
    concentrated = all(metrics[name].b_pass for name in CONCENTRATION)
    eligible_b_plus = eligible_b and b_plus_share >= policy.grades.b_plus_share_min and concentrated
    return GuardReport(
        status="graded",
        reason=None if complete else f"the 1A evidence is incomplete: {measured.why_missing}",
        metrics=metrics,
        realised_ratio_median=measured.realised_ratio_median,
        hard_gates=gates,
        b_share=b_share,
        b_plus_share=b_plus_share,
        eligible_b=eligible_b,
        eligible_b_plus=eligible_b_plus,
        grade="B_plus" if eligible_b_plus else "B" if eligible_b else "below_B",
        b_plus_without_b=tuple(name for name, m in metrics.items() if m.b_plus_pass and not m.b_pass),
    )


def hard_gates(values: Mapping[str, float | None], policy: FreezeGuardPolicy) -> dict[str, bool]:
    """The four hard gates of a set of values, up to the policy's tolerance; a missing value fails its gate."""
    limits, slack = policy.hard_gates, policy.authority.tolerance_abs

    def least(name: str, low: float) -> bool:
        return holds(Band(min=low, max=None), values.get(name), slack)

    most = Band(min=None, max=limits.candidate_count_median_max)
    found = (
        least("single_site_share", limits.single_site_share_min),
        holds(most, values.get("candidate_count_median"), slack),
        least("phi_cv", limits.phi_cv_min) and least("phi_p95_p05_ratio", limits.phi_p95_p05_ratio_min),
        least("required_outputs_present", 1.0),
    )
    return dict(zip(HARD_GATES, found, strict=True))


def _metric(name: GuardMetricName, measured: GuardMeasurement, policy: FreezeGuardPolicy) -> GuardMetric:
    value, bands, slack = measured.values[name], policy.bands[name], policy.authority.tolerance_abs
    reason = f"not_computable: {measured.why_missing}" if value is None else None
    return GuardMetric(
        name, value, reason, bands, holds(bands.b, value, slack), holds(bands.b_plus, value, slack)
    )


def _not_applicable(metrics: dict[str, GuardMetric]) -> GuardReport:
    """Metrics are shown where outlets alone give them, but no verdict is made on them."""
    return GuardReport(
        status="not_applicable",
        reason="a user's plain catalogue carries no 1A evidence (candidate sets, memberships, dispersions)",
        metrics=metrics,
        realised_ratio_median=None,
        hard_gates={},
        b_share=0.0,
        b_plus_share=0.0,
        eligible_b=False,
        eligible_b_plus=False,
        grade="not_applicable",
        b_plus_without_b=(),
    )


def as_json(report: GuardReport) -> dict[str, Any]:
    """The report with its bands, as plain JSON values."""
    return {
        "status": report.status,
        "reason": report.reason,
        "grade": report.grade,
        "b_share": report.b_share,
        "b_plus_share": report.b_plus_share,
        "hard_gates": report.hard_gates,
        "b_plus_without_b": list(report.b_plus_without_b),
        "bands_not_nested": [name for name, metric in report.metrics.items() if not metric.bands.nested],
        "realised_ratio_median": report.realised_ratio_median,
        "metrics": {name: metric.facts() for name, metric in report.metrics.items()},
    }
