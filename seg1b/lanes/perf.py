"""The performance lane: pin a timing baseline, check a run against budgets and baseline, close a phase.

A slow-down on the same inputs is rejected unless it is waived by name, and the waiver stays in the record and in the
ledger. A check passes only where a witness says that the run comes out the same again. What a check finds stays open
until a witnessed run that made the same stage again is judged by the same budgets and found well, or the stage is
waived: meanwhile statistical changes are refused (`require_not_red`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from seg1b.errors import InputError, StoreError
from seg1b.lanes.perf_times import (
    Timings,
    fastest,
    hotspots,
    judge,
    require_complete,
    shared_states,
    timings_of,
    why_incomparable,
    witness_command,
)
from seg1b.lanes.perf_verdict import HOTSPOTS, SLOWER, Closure, markdown
from seg1b.lanes.perf_verdict import RED as RED
from seg1b.lanes.perf_verdict import Check as Check
from seg1b.lanes.stored_run import WITNESS_LANE, witnesses_of
from seg1b.policy.budgets import BUDGETED_STATES
from seg1b.policy.load import Policies, digest
from seg1b.store.roots import PERFORMANCE_BASELINE
from seg1b.store.store import Store

CHECK = "check"


def pin_baseline(store: Store, policies: Policies, run_id: str) -> Timings:
    """Make a run's times the baseline; it must have made every state. The run is kept as long as it is pinned.

    Raises InputError E_PERF_TELEMETRY or E_PERF_NOT_MEASURED.
    """
    timings = timings_of(store, run_id)
    require_complete(timings)
    top = [stage for stage, _ in hotspots(timings, policies.budgets)]
    with store.exclusive("pinning the timing baseline"):
        store.performance.write(PERFORMANCE_BASELINE, {**dataclasses.asdict(timings), "hotspots": top})
        store.ledger.note("perf_baseline_pinned", run_id=run_id, hotspots=top)
    return timings


def pinned_baseline(store: Store) -> Timings | None:
    """The baseline, or None. Raises StoreError E_STORE_DAMAGED."""
    record = store.performance.find(PERFORMANCE_BASELINE)
    if record is None:
        return None
    try:
        return Timings.from_json(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            "E_STORE_DAMAGED", f"the timing baseline is not consistent ({type(error).__name__}: {error})",
            where=str(store.layout.performance / f"{PERFORMANCE_BASELINE}.json"),
            next_step="pin it again: `seg1b perf baseline RUN`",
        ) from error  # fmt: skip


def check(store: Store, policies: Policies, run_id: str, waive: Mapping[str, str] | None = None) -> Check:
    """Judge a run and keep what was found. `waive`: reason by stage.

    Raises InputError E_PERF_TELEMETRY, E_PERF_NOT_MEASURED, E_PERF_BASELINE_INPUTS or E_PERF_WAIVER.
    """
    timings, baseline = timings_of(store, run_id), pinned_baseline(store)
    if not timings.made:
        require_complete(timings, baseline)
    if baseline is not None and why_incomparable(timings, baseline):
        raise _incomparable(store, timings, baseline, "`seg1b perf check` of the run that it leaves")
    found = _judged(store, policies, timings, baseline, waive or {})
    _keep(store, policies, found)
    return found


def _incomparable(store: Store, timings: Timings, baseline: Timings, then: str) -> InputError:
    """The error for a run of which no state may be compared; `then`: what follows on making it as the baseline was."""
    if shared_states(timings, baseline):
        again = witness_command(_first_of(store, timings.run_id), baseline.executor)
        next_step = f"{again} makes it as the baseline was made, then {then}"
    elif timings.made == BUDGETED_STATES:
        next_step = f"`seg1b perf baseline {timings.run_id[:12]}` pins this one in its place"
    else:
        again = witness_command(_first_of(store, timings.run_id), timings.executor)
        next_step = f"{again}, then `seg1b perf baseline` of the run that it leaves pins that in its place"
    return InputError(
        "E_PERF_BASELINE_INPUTS",
        f"times cannot be compared: {why_incomparable(timings, baseline)}",
        where=f"run {timings.run_id}, baseline run {baseline.run_id}",
        next_step=next_step,
    )


def _first_of(store: Store, run_id: str) -> str:
    """The run that a witness made again, which knows what a tuning had set; a run that is no witness, itself."""
    lineage, known = store.receipts.load(run_id).lineage, store.receipts.run_ids()
    while lineage.get("lane") == WITNESS_LANE and lineage.get("of") in known:
        run_id = str(lineage["of"])
        lineage = store.receipts.load(run_id).lineage
    return run_id


def _judged(
    store: Store, policies: Policies, timings: Timings, baseline: Timings | None, waive: Mapping[str, str]
) -> Check:
    rows = judge(timings, policies.budgets, baseline)
    known = list(dict.fromkeys([row.stage for row in rows] + list(open_stages(store)) + [HOTSPOTS]))
    for stage, reason in waive.items():
        if stage not in known or not reason.strip():
            raise InputError(
                "E_PERF_WAIVER",
                f"{stage!r} cannot be waived: "
                + ("it needs a reason" if stage in known else "no such stage"),
                where=f"--waive {stage}={reason}",
                next_step="`--waive STAGE=REASON`, STAGE one of " + ", ".join(known),
            )
    return Check(
        timings.run_id, timings.seed, timings.sites,
        (policies.budgets.budget_clock, policies.budgets.comparison_clock),
        None if baseline is None else baseline.run_id, tuple(rows), dict(waive), _witnesses(store, timings.run_id),
    )  # fmt: skip


def _witnesses(store: Store, run_id: str) -> tuple[tuple[str, bool], ...]:
    """Every witness of the run's identity, the run itself among them if it is one."""
    own = store.receipts.load(run_id).lineage
    found = [(run_id, dict(own))] if own.get("lane") == WITNESS_LANE else []
    return tuple((name, bool(told.get("same"))) for name, told in (*found, *witnesses_of(store, run_id)))


def require_witness(found: Check) -> None:
    """Raise InputError E_PERF_NO_WITNESS for a check of a run that nobody made again."""
    if found.deterministic is None:
        raise InputError(
            "E_PERF_NO_WITNESS",
            f"run {found.run_id[:12]} was not witnessed: its times are judged, but no check passes before it came out "
            "the same again",
            where=f"run {found.run_id}",
            next_step=f"`seg1b witness {found.run_id[:12]}`, then `seg1b perf check {found.run_id[:12]}` again",
        )


def open_stages(store: Store) -> dict[str, dict[str, str]]:
    """What checks found and nobody settled: by stage, `why` (`RED` or `slower`), `run_id` and `budgets` (digest).

    Raises StoreError E_STORE_DAMAGED.
    """
    record = store.performance.find(CHECK)
    if record is None:
        return {}
    try:
        fields = ("why", "run_id", "budgets")
        return {
            str(stage): {field: str(entry[field]) for field in fields}
            for stage, entry in record["open"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            "E_STORE_DAMAGED", f"the last performance check is not consistent ({type(error).__name__}: {error})",
            where=str(store.layout.performance / f"{CHECK}.json"),
            next_step="move it away and judge the run again: `seg1b perf check RUN`",
        ) from error  # fmt: skip


def _keep(store: Store, policies: Policies, found: Check) -> None:
    budgets = digest(policies.budgets)
    with store.exclusive("keeping a performance check"):
        left = {
            stage: entry
            for stage, entry in open_stages(store).items()
            if not (
                found.settles(stage, entry["why"]) and (entry["budgets"] == budgets or stage in found.waived)
            )
        }
        for why, stages in ((SLOWER, found.slower), (RED, found.red)):
            left |= {stage: {"why": why, "run_id": found.run_id, "budgets": budgets} for stage in stages}
        store.performance.write(CHECK, {**found.facts(), "open": left})
        if found.waived:
            store.ledger.note("perf_waived", run_id=found.run_id, stages=found.waived)


def close(store: Store, policies: Policies, run_id: str, waive: Mapping[str, str] | None = None) -> Closure:
    """The closing record of a run with its witnesses: judged by the fastest of its executions, then published.

    Only times of one kind of executor are taken together: the baseline's, or without one the run's own. Whoever made a
    witness, it is evidence that the run comes out the same.

    Raises InputError E_PERF_NO_WITNESS without two executions of the identity that made every state,
    E_PERF_BASELINE_INPUTS if none of them is comparable with the baseline, and E_PERF_WAIVER.
    """
    told = witnesses_of(store, run_id)
    full, left_out = _executions(store, (run_id, *(other for other, _ in told)))
    baseline = pinned_baseline(store)
    like = baseline or next(iter(full), None)
    another = witness_command(_first_of(store, run_id), "serial" if like is None else like.executor)
    again = f"`seg1b perf closure {run_id[:12]}`"
    if full and baseline is not None and not shared_states(full[0], baseline):  # then no other witness helps
        raise _incomparable(store, full[0], baseline, again)
    if not told or len(full) < 2:
        raise InputError(
            "E_PERF_NO_WITNESS",
            f"{len(full)} execution{'' if len(full) == 1 else 's'} of this identity made every state, and "
            f"{len(told)} witness{'' if len(told) == 1 else 'es'} compared digests; two executions and one are needed",
            where=f"run {run_id}",
            next_step=f"{another}{'' if full else ', twice'}, then {again}",
        )
    assert like is not None
    taken = [one for one in full if not why_incomparable(one, like)]
    if not taken:
        raise _incomparable(store, full[0], like, again)
    other = "the baseline" if baseline else f"run {like.run_id[:12]}"
    left_out |= {
        one.run_id: f"it ran on {one.executor}, {other} on {like.executor}"
        for one in full
        if one not in taken
    }
    closure = Closure(
        _judged(store, policies, dataclasses.replace(fastest(taken), run_id=run_id), baseline, waive or {}),
        tuple(one.run_id for one in taken),
        tuple(left_out.items()),
        {one.run_id: [stage for stage, _ in hotspots(one, policies.budgets)] for one in taken},
        another,
    )
    with store.exclusive("closing a performance phase"):
        _keep(store, policies, closure.check)
        store.performance.write(closure.name, closure.facts())
        store.performance.attach(closure.name, "md", markdown(closure).encode())
        store.ledger.note("perf_closure", run_id=run_id, decision=closure.decision)
    return closure


def _executions(store: Store, run_ids: Iterable[str]) -> tuple[list[Timings], dict[str, str]]:
    """The executions that made every state, and why the others are no such ones. Raises StoreError E_STORE_DAMAGED."""
    full: list[Timings] = []
    others: dict[str, str] = {}
    for run_id in run_ids:
        try:
            timings = timings_of(store, run_id)
            require_complete(timings)
        except InputError as error:
            others[run_id] = error.message
        else:
            full.append(timings)
    return full, others


def require_not_red(store: Store, waive: str | None = None) -> tuple[str, ...]:
    """Refuse a statistical change while a check's finding is open: a stage RED, or slower than the baseline.

    `waive`: a reason, for the ledger. Returns the stages that are waived with it. Raises InputError E_PERF_RED, or
    E_PERF_WAIVER for an empty reason.
    """
    if waive is not None and not waive.strip():
        raise InputError(
            "E_PERF_WAIVER", "the waiver gives no reason", where="--waive-perf",
            next_step="say why it may wait: `--waive-perf REASON`, or leave the option out",
        )  # fmt: skip
    found = open_stages(store)
    if not found or waive is not None:
        return tuple(found)
    told = ", ".join(
        f"{stage} of run {entry['run_id'][:12]} is "
        + ("RED" if entry["why"] == RED else "slower than the baseline")
        for stage, entry in found.items()
    )
    raise InputError(
        "E_PERF_RED",
        f"{told}; no statistical change before that is settled",
        where=str(store.layout.performance / f"{CHECK}.json"),
        next_step="make it faster and `seg1b perf check` a run that made it again, waive it there by name, or say "
        "why it may wait with --waive-perf REASON",
    )
