"""The recovery loop: a few attempts at B+ from an integrated run that lacks nothing else; the ledger counts them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from seg1b.errors import InputError
from seg1b.lanes.stored_run import load_run
from seg1b.lanes.waves import history
from seg1b.policy.knobs import Settings
from seg1b.policy.load import POLICY_FILES, Policies, defaults_directory, digest
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


def start_of(store: Store, policies: Policies) -> Policies:
    """What an attempt changes: `policies`, with what a result depends on as the integrated run had it.

    Raises InputError E_RECOVERY_CONFIG for a folder of policies in which that differs; and, if there is no AMBER run to
    begin with, nothing: `require_recovery` says so.
    """
    record = store.phases.find("P4")
    if record is None or record["status"] != "AMBER_NEAR_BPLUS":
        return policies
    run = load_run(store, record["run_id"])
    if run.knobs() is None:
        return policies
    theirs = run.policies()
    differing = [
        file for file in POLICY_FILES
        if file.certified and digest(getattr(theirs, file.attribute)) != digest(getattr(policies, file.attribute))
    ]  # fmt: skip
    packaged = defaults_directory()
    chosen = [
        file.path for file in differing if packaged not in Path(policies.sources[file.path].path).parents
    ]
    if chosen:
        raise InputError(
            "E_RECOVERY_CONFIG",
            f"an attempt starts from the integrated run {run.run_id[:12]}, and {', '.join(chosen)} of the folder of "
            "policies is not what it was made with",
            where=policies.sources[chosen[0]].path,
            next_step=f"`seg1b config write DIR --run {run.run_id[:12]}` and --config DIR, or tune without --recover",
        )
    return dataclasses.replace(
        policies, **{file.attribute: getattr(theirs, file.attribute) for file in differing}
    )


def attempts_of(store: Store) -> int:
    """Attempts since the loop began: with the first integrated AMBER run after a reopening or another baseline.

    A kept attempt that is integrated goes on with the same loop; otherwise each attempt would grant itself new ones.
    One that was interrupted and made again is one.
    """
    made: set[str] = set()
    for entry in history(store):
        if entry["kind"] in ("reopened", "baseline_pinned") or (
            entry["kind"] == "integrated" and entry["status"] == "RED_REOPEN_REQUIRED"
        ):
            made.clear()
        elif entry["kind"] == "candidate" and entry.get("recovery"):
            made.add(entry["s9"])
    return len(made)
