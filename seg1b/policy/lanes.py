"""Model of `config/lanes.yaml`: how far a loop of candidates may go, which no result depends on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from seg1b.policy.base import PolicyModel


class LanesPolicy(PolicyModel):
    """Bounds of the loops."""

    wave_candidates_max: Annotated[int, Field(ge=1, le=2)] = Field(
        description="Candidates of one wave; the next is refused until the wave is closed."
    )
    recovery_attempts_max: Annotated[int, Field(ge=1)] = Field(
        description="Attempts of the recovery loop after an integrated run that is AMBER_NEAR_BPLUS."
    )
