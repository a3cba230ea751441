"""What a tuning found: the candidate and its reference side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg1b.lanes.comparison import GateChange, Rerun
from seg1b.lanes.standing import Standing
from seg1b.lanes.stored_run import StoredScore
from seg1b.policy.gates import GatesPolicy
from seg1b.policy.knobs import Settings


@dataclass(frozen=True)
class Reference:
    """What a candidate is compared with. `run_id` is None for the unchanged policies; `knobs` where they are known;
    `gates`: those that it was judged by.
    """

    name: str
    run_id: str | None
    keys: Mapping[str, str]
    score: StoredScore
    policy_digests: Mapping[str, str]
    knobs: Mapping[str, Any] | None
    gates: GatesPolicy


@dataclass(frozen=True)
class TuneResult:
    """What the knobs did to one seed.

    `reasons`: why the key of a state differs from the reference's; of these states, `found` had been made before.
    `besides`: (before, after) of every knob that a seed depends on, differs from the reference's and was not set here.
    `standing_before` and `standing`: the reference and the candidate held to the locks and the pinned baseline.
    `wave` is None, and `run_id` the reference's, where no key differs.
    """

    run_id: str
    seed: int
    settings: Settings
    against: Reference
    reasons: tuple[Rerun, ...]
    besides: Mapping[str, tuple[Any, Any]]
    found: tuple[str, ...]
    reused: tuple[str, ...]
    after: StoredScore
    standing_before: Standing
    standing: Standing
    gates: tuple[GateChange, ...]
    wave: Mapping[str, Any] | None
    notes: tuple[str, ...]
    wall_s: float

    @property
    def changed(self) -> tuple[str, ...]:
        """States whose keys differ from the reference's."""
        return tuple(reason.state for reason in self.reasons)

    @property
    def reran(self) -> tuple[str, ...]:
        """Of these, the states that were really run; the others were found in the store."""
        return tuple(state for state in self.changed if state not in self.found)

    @property
    def before(self) -> StoredScore:
        """The reference's verdicts."""
        return self.against.score

    @property
    def lost(self) -> tuple[str, ...]:
        """What held for B, in the reference, in a lock's metrics or in the pinned baseline, and does not hold here."""
        own = tuple(change.name for change in self.gates if change.lost)
        return tuple(dict.fromkeys((*own, *self.standing.lost)))

    @property
    def vetoed(self) -> bool:
        """Whether anything was lost."""
        return bool(self.lost)
