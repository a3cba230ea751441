"""The 1A freeze guard: 14 metrics of a catalogue with B and B+ bands, hard gates, grade, and comparison with
an authority.

Bands and rules: engine-contracts 13. Every metric is computed from the bundle's tables, joined by merchant.
Three bands are not nested (B+ reaches outside B, defect D-74): such metrics are named, and a B+ grade
requires the B grade as well. A metric without evidence is `not_computable` and fails both bands; a user's own
catalogue has no 1A evidence at all, and its guard is `not_applicable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from seg1b.catalogue.guard_values import (
    GUARD_COLUMNS,
    MerchantOutlets,
    metric_values,
    realised_ratio_median,
)
from seg1b.catalogue.rows import OutletRuns
from seg1b.catalogue.verify import BundleReceipt, read_datasets
from seg1b.errors import InputError

B_SHARE_MIN: Final = 0.70
B_PLUS_SHARE_MIN: Final = 0.80
SINGLE_SITE_SHARE_MATERIAL: Final = 0.10


@dataclass(frozen=True)
class Band:
    """Inclusive bounds; None is no bound."""

    low: float | None
    high: float | None

    def holds(self, value: float | None) -> bool:
        """True inside; a missing value or a NaN is outside."""
        if value is None or math.isnan(value):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def contains(self, other: Band) -> bool:
        """True when every value of `other` is also in this band."""
        low = self.low is None or (other.low is not None and other.low >= self.low)
        high = self.high is None or (other.high is not None and other.high <= self.high)
        return low and high


BANDS: Final[dict[str, tuple[Band, Band]]] = {
    "single_site_share": (Band(0.25, 0.45), Band(0.35, 0.55)),
    "median_outlets_per_merchant": (Band(6, 20), Band(8, 18)),
    "top10_outlet_share": (Band(0.35, 0.55), Band(0.38, 0.50)),
    "gini_outlets_per_merchant": (Band(0.45, 0.62), Band(0.48, 0.58)),
    "home_legal_mismatch_rate": (Band(0.10, 0.25), Band(0.12, 0.20)),
    "size_gradient_pp_top_minus_bottom": (Band(5, None), Band(8, None)),
    "multi_country_legal_spread": (Band(0.20, 0.45), Band(0.25, 0.40)),
    "candidate_count_median": (Band(5, 15), Band(7, 12)),
    "candidate_membership_correlation": (Band(0.30, None), Band(0.45, None)),
    "realization_ratio_median": (Band(0.10, None), Band(0.20, None)),
    "phi_cv": (Band(0.05, 0.20), Band(0.10, 0.30)),
    "phi_p95_p05_ratio": (Band(1.25, 2.0), Band(1.5, 3.0)),
    "identity_semantics_no_unexplained_duplicate_anomalies": (Band(1, None), Band(1, None)),
    "required_outputs_present": (Band(1, None), Band(1, None)),
}
"""Metric -> (B band, B+ band); the last two metrics are truths, 1 or 0."""

_CONCENTRATION: Final = ("top10_outlet_share", "gini_outlets_per_merchant")


@dataclass(frozen=True)
class GuardMetric:
    """One metric: its value or, with `value` None, the reason; and whether it lies in its bands."""

    name: str
    value: float | None
    reason: str | None
    b_pass: bool
    b_plus_pass: bool

    @property
    def bands_nested(self) -> bool:
        """False where a value may pass B+ and fail B (D-74)."""
        b, b_plus = BANDS[self.name]
        return b.contains(b_plus)


@dataclass(frozen=True)
class GuardReport:
    """Metrics, gates and grade of one catalogue.

    `realised_ratio_median` is the honest companion of realization_ratio_median: realised over candidate
    countries, median over merchants with more than one legal country (membership counts countries that may
    have no outlet). `b_plus_without_b` names metrics inside B+ but outside B.
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


def guard_metrics(runs: OutletRuns, tables: Mapping[str, pa.Table]) -> GuardReport:
    """Grade a catalogue from the rows of its outlets and its other datasets (id -> table with `GUARD_COLUMNS`).

    `not_applicable` when the bundle has none of the 1A evidence; raises InputError E_GUARD_NO_CATALOGUE
    without outlets.
    """
    if not runs.rows:
        raise InputError(
            "E_GUARD_NO_CATALOGUE",
            "the guard needs the outlet catalogue",
            where=", ".join(sorted(tables)) or "no datasets",
            next_step="read the whole bundle",
        )
    missing = [dataset for dataset in GUARD_COLUMNS if dataset not in tables]
    why = f"the bundle has no {', '.join(missing)}" if missing else "the evidence is empty or constant"
    outlets = MerchantOutlets.of(runs)
    values = metric_values(outlets, tables)
    metrics = {name: _metric(name, values.get(name), f"not_computable: {why}") for name in BANDS}
    if len(missing) == len(GUARD_COLUMNS):
        return _not_applicable(metrics)
    return _graded(metrics, realised_ratio_median(outlets, tables))


def guard_bundle(runs: OutletRuns, receipt: BundleReceipt) -> GuardReport:
    """Grade a verified bundle whose outlets were read as `runs`; raises InputError E305_SCHEMA_INVALID."""
    return guard_metrics(runs, read_datasets(receipt, GUARD_COLUMNS))


def _metric(name: str, value: float | None, reason: str) -> GuardMetric:
    b, b_plus = BANDS[name]
    kept = reason if value is None else None
    return GuardMetric(name, value, kept, b.holds(value), b_plus.holds(value))


def _graded(metrics: dict[str, GuardMetric], realised: float | None) -> GuardReport:
    def value(name: str) -> float | None:
        return metrics[name].value

    hard_gates = {
        "single_site_tier_exists_materially": Band(SINGLE_SITE_SHARE_MATERIAL, None).holds(
            value("single_site_share")
        ),
        "candidate_not_near_global_by_default": Band(None, 15).holds(value("candidate_count_median")),
        "dispersion_heterogeneity_restored": Band(0.05, None).holds(value("phi_cv"))
        and Band(1.25, None).holds(value("phi_p95_p05_ratio")),
        "required_outputs_emitted": metrics["required_outputs_present"].b_pass,
    }
    hard = all(hard_gates.values())
    b_share = sum(m.b_pass for m in metrics.values()) / len(BANDS)
    b_plus_share = sum(m.b_plus_pass for m in metrics.values()) / len(BANDS)
    eligible_b = hard and b_share >= B_SHARE_MIN
    concentrated = all(metrics[name].b_pass for name in _CONCENTRATION)
    eligible_b_plus = eligible_b and b_plus_share >= B_PLUS_SHARE_MIN and concentrated
    return GuardReport(
        status="graded",
        reason=None,
        metrics=metrics,
        realised_ratio_median=realised,
        hard_gates=hard_gates,
        b_share=b_share,
        b_plus_share=b_plus_share,
        eligible_b=eligible_b,
        eligible_b_plus=eligible_b_plus,
        grade="B_plus" if eligible_b_plus else "B" if eligible_b else "below_B",
        b_plus_without_b=tuple(name for name, m in metrics.items() if m.b_plus_pass and not m.b_pass),
    )


def _not_applicable(metrics: dict[str, GuardMetric]) -> GuardReport:
    """Metrics are shown where outlets alone give them, but no verdict is made on them."""
    return GuardReport(
        status="not_applicable",
        reason="the catalogue carries no 1A evidence (candidate sets, memberships, dispersions)",
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


# Comparison with a frozen authority


@dataclass(frozen=True)
class GuardDecision:
    """`PASS` only when every check holds; `not_applicable` when the candidate has no evidence."""

    verdict: Literal["PASS", "FAIL", "not_applicable"]
    checks: dict[str, bool]
    regressed_b_metrics: tuple[str, ...]
    regressed_hard_gates: tuple[str, ...]


def decide(
    candidate: GuardReport, authority: GuardReport | None = None, concentration_max_regression: float = 0.01
) -> GuardDecision:
    """The five checks of engine-contracts 13.2; without an authority only the candidate's own grade
    counts.
    """
    if candidate.status == "not_applicable":
        return GuardDecision("not_applicable", {}, (), ())
    checks = {"grade_not_below_B": candidate.eligible_b}
    regressed_metrics: tuple[str, ...] = ()
    regressed_gates: tuple[str, ...] = ()
    if authority is not None:
        regressed_gates = tuple(
            g for g, held in authority.hard_gates.items() if held and not candidate.hard_gates[g]
        )
        held = [name for name, metric in authority.metrics.items() if metric.b_pass]
        regressed_metrics = tuple(name for name in held if not candidate.metrics[name].b_pass)
        checks |= {
            "hard_gates_not_regressed": not regressed_gates,
            "authority_B_pass_metrics_not_regressed": not regressed_metrics,
            "B_pass_count_not_below_authority": candidate.b_share >= authority.b_share,
            "concentration_not_materially_worse_than_authority": all(
                _not_worse(
                    candidate.metrics[name].value, authority.metrics[name].value, concentration_max_regression
                )
                for name in _CONCENTRATION
            ),
        }
    verdict: Literal["PASS", "FAIL"] = "PASS" if all(checks.values()) else "FAIL"
    return GuardDecision(verdict, checks, regressed_metrics, regressed_gates)


def _not_worse(value: float | None, reference: float | None, allowance: float) -> bool:
    return value is not None and reference is not None and value <= reference + allowance


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
        "realised_ratio_median": report.realised_ratio_median,
        "metrics": {
            name: {
                "value": metric.value,
                "reason": metric.reason,
                "b_band": [BANDS[name][0].low, BANDS[name][0].high],
                "b_plus_band": [BANDS[name][1].low, BANDS[name][1].high],
                "b_pass": metric.b_pass,
                "b_plus_pass": metric.b_plus_pass,
                "bands_nested": metric.bands_nested,
            }
            for name, metric in report.metrics.items()
        },
    }
