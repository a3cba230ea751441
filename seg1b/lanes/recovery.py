"""The recovery loop: a few attempts at B+ from an integrated run that lacks nothing else; the ledger counts them."""

from __future__ import annotations

from dataclasses import dataclass

from seg1b.errors import InputError
from seg1b.lanes.waves import history
from seg1b.policy.knobs import Settings
from seg1b.policy.load import Policies
from seg1b.store.store import Store


@dataclass(frozen=True)
class Recovery:
    """The integrated run that an attempt starts from, and its scorecard's key."""

    run_id: str
    artifact: str
    attempts: int


def require_recovery(store: Store, policies: Policies, settings: Settings) -> Recovery:
    """What an attempt starts from.

    Raises InputError E_RECOVERY_STATUS unless the last integrated run is AMBER_NEAR_BPLUS, E_RECOVERY_GROUPS for more
    than one group of knobs, E_RECOVERY_SPENT after the last attempt.
    """
    record = store.phases.find("P4")
    if record is None or record["status"] != "AMBER_NEAR_BPLUS":
        is_now = (
            "no run was integrated yet" if record is None else f"the integrated run is {record['status']}"
        )
        raise InputError(
            "E_RECOVERY_STATUS", f"the recovery loop is for AMBER_NEAR_BPLUS only; {is_now}",
            where=str(store.layout.phases / "p4.json"),
            next_step="`seg1b integrate RUN` says the status and which phase to reopen",
        )  # fmt: skip
    if len(settings.groups) != 1:
        raise InputError(
            "E_RECOVERY_GROUPS",
            f"an attempt changes one group of knobs, this one changes {', '.join(settings.groups) or 'none'}",
            where="--set", next_step="one attempt for each group",
        )  # fmt: skip
    used = attempts_of(store)
    if used >= policies.lanes.recovery_attempts_max:
        raise InputError(
            "E_RECOVERY_SPENT", f"all {used} attempts of the recovery loop are used", where=str(store.layout.ledger),
            next_step="`seg1b lock P4 --run RUN` accepts the best B, once `seg1b integrate RUN` judged it",
        )  # fmt: skip
    return Recovery(record["run_id"], record["artifact"], used)


def attempts_of(store: Store) -> int:
    """Attempts since the loop began: with the first integrated AMBER run after a reopening or another baseline.

    A kept attempt that is integrated goes on with the same loop; otherwise each attempt would grant itself new ones.
    """
    count = 0
    for entry in history(store):
        if entry["kind"] in ("reopened", "baseline_pinned") or (
            entry["kind"] == "integrated" and entry["status"] == "RED_REOPEN_REQUIRED"
        ):
            count = 0
        elif entry["kind"] == "candidate" and entry.get("recovery"):
            count += 1
    return count
