"""Model of `config/guard.yaml`: bands, hard gates and rules of the 1A freeze guard (engine-contracts 13)."""

from __future__ import annotations

import math
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from seg1b.policy.base import PolicyModel, PositiveFloat, Share, fail
from seg1b.policy.gates import Band

GuardMetricName = Literal[
    "single_site_share",
    "median_outlets_per_merchant",
    "top10_outlet_share",
    "gini_outlets_per_merchant",
    "home_legal_mismatch_rate",
    "size_gradient_pp_top_minus_bottom",
    "multi_country_legal_spread",
    "candidate_count_median",
    "candidate_membership_correlation",
    "realization_ratio_median",
    "phi_cv",
    "phi_p95_p05_ratio",
    "identity_semantics_no_unexplained_duplicate_anomalies",
    "required_outputs_present",
]
GUARD_METRICS: tuple[GuardMetricName, ...] = get_args(GuardMetricName)


class GuardBands(PolicyModel):
    """The two bands of one metric. They need not be nested (D-74): B+ then also asks for B."""

    b: Band = Field(description="Band of grade B, inclusive.")
    b_plus: Band = Field(description="Band of grade B+, inclusive.")

    @property
    def nested(self) -> bool:
        """Whether every value inside B+ is inside B."""
        b_low, b_plus_low = (_or(band.min, -math.inf) for band in (self.b, self.b_plus))
        b_high, b_plus_high = (_or(band.max, math.inf) for band in (self.b, self.b_plus))
        return b_low <= b_plus_low and b_plus_high <= b_high


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound


def holds(band: Band, value: float | None, tolerance: float = 0.0) -> bool:
    """True inside a band, or outside by no more than `tolerance`; a missing value or a NaN is outside."""
    if value is None or math.isnan(value):
        return False
    above = band.min is None or value >= band.min - tolerance
    return above and (band.max is None or value <= band.max + tolerance)


class GuardHardGates(PolicyModel):
    """What a catalogue must meet for either grade; the fourth hard gate (required outputs) has no number."""

    single_site_share_min: Share = Field(description="Smallest share of merchants with one outlet.")
    candidate_count_median_max: PositiveFloat = Field(description="Largest median of foreign candidates.")
    phi_cv_min: float = Field(ge=0.0, description="Smallest coefficient of variation of the dispersions.")
    phi_p95_p05_ratio_min: float = Field(ge=1.0, description="Smallest ratio of their outer percentiles.")


class GuardGrades(PolicyModel):
    """Shares of the metrics that must lie inside their bands."""

    b_share_min: Share = Field(description="Grade B.")
    b_plus_share_min: Share = Field(description="Grade B+.")


class GuardAuthorityRules(PolicyModel):
    """Comparison with the frozen authority."""

    concentration_max_regression: float = Field(
        ge=0.0, le=1.0, description="top10 and Gini may rise by this."
    )
    tolerance_abs: float = Field(
        ge=0.0, le=1e-3, description="Rounding: bands, hard gates and limits may be missed by it."
    )


class FreezeGuardPolicy(PolicyModel):
    """The 1A freeze guard (`guard.yaml`)."""

    bands: dict[GuardMetricName, GuardBands] = Field(description="Both bands of each of the 14 metrics.")
    hard_gates: GuardHardGates = Field(description="Hard for either grade.")
    grades: GuardGrades = Field(description="How many metrics a grade takes.")
    authority: GuardAuthorityRules = Field(description="Comparison with the frozen authority.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in GUARD_METRICS if name not in self.bands]
        if missing:
            fail("E_POLICY_MISSING_KEY", f"missing: {', '.join(missing)}")
        return self
