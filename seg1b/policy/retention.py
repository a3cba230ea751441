"""Model of `config/retention.yaml`: what the run store keeps, which no result depends on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from seg1b.policy.base import PolicyModel, PositiveInt


class RetentionPolicy(PolicyModel):
    """How much is kept that nothing refers to, and how much at all."""

    keep_newest_runs: Annotated[int, Field(ge=0)] = Field(
        description="The pruning before a run keeps this many of the newest runs besides what is reachable."
    )
    live_bytes_max: PositiveInt = Field(
        description="Hard cap on what stays, packs and logs too: fewer of the newest runs are kept, else no run starts."
    )
