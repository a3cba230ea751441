"""Status of a run, stability across seeds, and the grade of a certification. Everything fails closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seg1b.policy.gates import CORE_METRICS, CoefficientOfVariation
from seg1b.scoring.gates import GateReport
from seg1b.scoring.values import NOT_COMPUTABLE, Metric, rounded

RunStatus = Literal["RED_REOPEN_REQUIRED", "AMBER_NEAR_BPLUS", "GREEN_B"]
Grade = Literal["B+", "B", "below_B"]

COUNTRY_METRICS = (
    "country_gini",
    "top10_share",
    "top5_share",
    "top1_share",
    "eligible_country_nonzero_share",
)
"""Core metrics that counts per country decide alone: a catalogue shared by all seeds makes their CV zero."""

SIGMA_CONFIDENCE = 0.95


@dataclass(frozen=True)
class StabilityRow:
    """One core metric across seeds. `status`: ok, not_informative (a CV of 0 by construction) or
    not_computable.

    `sigma_interval` is what so few seeds can say about the true standard deviation (normal theory, 95 %).
    """

    name: str
    values: dict[str, float | None]
    mean: float | None
    sd: float | None
    cv: float | None
    min: float | None
    max: float | None
    limit_b: float
    limit_b_plus: float
    pass_b: bool
    pass_b_plus: bool
    status: str
    reason: str
    sigma_interval: tuple[float, float] | None


@dataclass(frozen=True)
class CertificationGrade:
    """The grade, and for each better grade the reasons why it was not given."""

    grade: Grade
    reasons_against_b: tuple[str, ...]
    reasons_against_b_plus: tuple[str, ...]


def run_status(report: GateReport) -> RunStatus:
    """RED: some B gate or counter-metric fails. AMBER: only B+ gates fail. GREEN_B: nothing is left to
    recover.
    """
    if not report.pass_b:
        return "RED_REOPEN_REQUIRED"
    return "GREEN_B" if report.pass_b_plus else "AMBER_NEAR_BPLUS"


def sigma_interval_factors(n: int, confidence: float = SIGMA_CONFIDENCE) -> tuple[float, float] | None:
    """Factors on a sample sd that give the interval of sigma: sqrt((n-1)/chi2 quantiles); (0.57, 3.73) for n
    = 4.
    """
    if n < 2:
        return None
    from scipy.special import gammaincinv  # slow to import, and a lane of one seed never comes here

    tail = (1.0 - confidence) / 2.0
    low, high = (
        math.sqrt((n - 1) / (2.0 * float(gammaincinv((n - 1) / 2.0, p)))) for p in (1.0 - tail, tail)
    )  # chi-square with k degrees of freedom is twice a gamma of shape k/2
    return rounded(low), rounded(high)


def stability(
    metrics_by_seed: Mapping[int, Mapping[str, Metric]],
    limits: CoefficientOfVariation,
    *,
    country_note: str | None = None,
) -> list[StabilityRow]:
    """Coefficient of variation (sample sd over |mean|) of the seven core metrics, and of nothing else.

    `country_note` says why country metrics cannot vary (a shared catalogue, sigma = 0): their CV is then
    reported as not informative. So is, without a note, a CV that is exactly zero.
    """
    return [
        _stability_row(
            name,
            {str(seed): metrics[name].value for seed, metrics in sorted(metrics_by_seed.items())},
            limits,
            country_note if name in COUNTRY_METRICS else None,
        )
        for name in CORE_METRICS
    ]


def _stability_row(
    name: str, values: dict[str, float | None], limits: CoefficientOfVariation, note: str | None
) -> StabilityRow:
    numbers = [value for value in values.values() if value is not None]
    n = len(numbers)
    mean = math.fsum(numbers) / n if n else None
    problem = ""
    if n < len(values):
        problem = "the metric is not computable in every seed"
    elif n < 2:
        problem = "fewer than two seeds"
    elif mean == 0.0:
        problem = "the mean is zero"
    if problem or mean is None:
        low, high = (min(numbers), max(numbers)) if numbers else (None, None)
        return StabilityRow(
            name, values, mean, None, None, low, high, limits.b, limits.b_plus, False, False,
            NOT_COMPUTABLE, f"{NOT_COMPUTABLE}: {problem}", None,
        )  # fmt: skip
    same = min(numbers) == max(numbers)
    sd = 0.0 if same else math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (n - 1))
    cv = rounded(sd / abs(mean))
    reason = note or ("the value is the same in every seed" if same else "")
    factors = sigma_interval_factors(n)
    return StabilityRow(
        name,
        values,
        rounded(mean),
        rounded(sd),
        cv,
        min(numbers),
        max(numbers),
        limits.b,
        limits.b_plus,
        cv <= limits.b,
        cv <= limits.b_plus,
        "not_informative" if reason else "ok",
        reason,
        None if factors is None else (rounded(sd * factors[0]), rounded(sd * factors[1])),
    )


def certification_grade(
    reports: Mapping[int, GateReport],
    pooled: GateReport | None,
    stability_rows: Sequence[StabilityRow],
    required_seeds: Sequence[int],
    *,
    vetoes: Sequence[str] = (),
) -> CertificationGrade:
    """Grade of a certification: every required seed *and* the pool pass, and the CV limits hold.

    `vetoes` are reasons from elsewhere (a failed guard, a witness that differs, a pinned baseline); each
    rules out both grades. A missing seed, pool or stability row rules them out too.
    """
    against_b = _reasons("B", reports, pooled, stability_rows, required_seeds, vetoes)
    against_b_plus = _reasons("B+", reports, pooled, stability_rows, required_seeds, vetoes)
    grade: Grade = "below_B"
    if not against_b:
        grade = "B" if against_b_plus else "B+"
    return CertificationGrade(grade, against_b, against_b_plus)


def _reasons(
    grade: Literal["B", "B+"],
    reports: Mapping[int, GateReport],
    pooled: GateReport | None,
    stability_rows: Sequence[StabilityRow],
    required_seeds: Sequence[int],
    vetoes: Sequence[str],
) -> tuple[str, ...]:
    reasons = list(vetoes)
    if not required_seeds:
        reasons.append("no seed is required")
    for seed in sorted(set(required_seeds) | set(reports)):
        reasons += _report_reasons(grade, f"seed {seed}", reports.get(seed))
    reasons += _report_reasons(grade, "pooled", pooled)
    rows = {row.name: row for row in stability_rows}
    for name in CORE_METRICS:
        row = rows.get(name)
        if row is None:
            reasons.append(f"cv {name}: not computed")
        elif not (row.pass_b if grade == "B" else row.pass_b and row.pass_b_plus):
            reasons.append(f"cv {name}: {row.reason or row.cv}")
    return tuple(reasons)


def _report_reasons(grade: Literal["B", "B+"], who: str, report: GateReport | None) -> list[str]:
    if report is None:
        return [f"{who}: no result"]
    if not (report.gates and report.counters):
        return [f"{who}: nothing was judged"]
    return [f"{who}: {name}" for name in report.failed(grade)]
