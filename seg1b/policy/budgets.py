"""Model of `config/budgets.yaml`: how long states may take, and what counts as slower. No result depends on it."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from seg1b.policy.base import PolicyModel, PositiveFloat, PositiveInt, check_fields_ascending, fail

BudgetedState = Literal["S1", "S2w", "S2s", "CAT", "S0c", "S3", "S4", "S5", "S6", "S7", "S8", "S9"]
BUDGETED_STATES: tuple[BudgetedState, ...] = get_args(BudgetedState)
"""Every state but S0w, which only writes a list of digests."""

_Substage = Annotated[str, Field(pattern=r"^[a-z_]+$")]


class SubstageBudget(PolicyModel):
    """Time of one part of a state for one seed."""

    target_s: PositiveFloat = Field(description="GREEN up to here.")
    stretch_s: PositiveFloat = Field(description="AMBER up to here, RED above.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_fields_ascending(self, "target_s", "stretch_s", code="E_POLICY_GATE_ORDER")
        return self


class Budget(SubstageBudget):
    """Time of one state for one seed."""

    per_site: bool = Field(description="Whether a run with more sites than the reference gets more time.")
    substages: dict[_Substage, SubstageBudget] = Field(description="Budgets of parts of it.")


class BudgetsPolicy(PolicyModel):
    """The performance gates (`budgets.yaml`)."""

    budget_clock: Literal["wall_s", "cpu_s"] = Field(description="Which seconds the budgets are about.")
    comparison_clock: Literal["wall_s", "cpu_s"] = Field(
        description="Which seconds are compared with the baseline, and rank the hotspots."
    )
    reference_sites: PositiveInt = Field(description="Sites that the budgets were set for.")
    slowdown_max: float = Field(
        gt=0.0, le=1.0, description="Relative slow-down on the same inputs that passes."
    )
    noise_floor_s: float = Field(ge=0.0, le=60.0, description="Smaller differences are noise.")
    hotspots: int = Field(ge=1, le=10, description="So many of the largest substages must agree.")
    budgets: dict[BudgetedState, Budget] = Field(description="Budget of every state, with its substages.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [state for state in BUDGETED_STATES if state not in self.budgets]
        if missing:
            fail("E_POLICY_MISSING_KEY", f"no budget for {', '.join(missing)}")
        return self
