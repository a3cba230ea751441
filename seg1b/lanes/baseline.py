"""Pointers: the pinned baseline, and the promotion of a candidate to last good.

A pinned baseline adds comparisons and vetoes; a grade is always given against the published baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg1b.errors import Seg1bError, VetoError
from seg1b.lanes.phase_locks import require_unlocked
from seg1b.lanes.standing import BASELINE, Standing, authorities, lost_to, of_seed_if_any, standing_of
from seg1b.lanes.stored_run import StoredRun, load_run, require_world
from seg1b.policy.gates import GatesPolicy
from seg1b.store.records import utc_now
from seg1b.store.store import Store
from seg1b.world.content import World


def pin(store: Store, text: str, world: World, gates: GatesPolicy) -> dict[str, Any]:
    """Make a run the baseline, with the artifacts of P0. Returns the pointer's record.

    Raises InputError E_STORE_UNKNOWN_ID, E_RUN_PRUNED, or E_BASELINE_WORLD for a run of another world.
    """
    from seg1b.lanes import p0_artifacts

    run = load_run(store, text)
    require_world(store, run, world.digest, "run", "E_BASELINE_WORLD")
    with store.lease("baseline") as lease:
        lease.hold(run_ids=[run.run_id], keys=run.keys.values())
        lease.start_heartbeat()
        key = p0_artifacts.publish(store, run, world, gates, lambda made: lease.hold(keys=[made]))
        identity = run.receipt.identity
        record = {
            "run_id": run.run_id,
            "seed": run.seed,
            "manifest_fingerprint": identity["manifest_fingerprint"],
            "parameter_hash": identity["parameter_hash"],
            "world_digest": run.world_digest,
            "catalogue_digest": identity["catalogue_digests"][str(run.seed)],
            "artifacts": key,
            "pinned": utc_now(),
        }
        with store.exclusive("pinning the baseline"):
            before = store.pointers.get(BASELINE)
            store.ledger.note("baseline_pinned", run_id=run.run_id, instead_of=before, artifacts=key)
            store.pointers.set(BASELINE, run.run_id, record)
            phase = {
                "phase": "P0",
                "status": "closed",
                "run_id": run.run_id,
                "artifacts": key,
                "at": record["pinned"],
            }
            store.phases.write("P0", phase)
    return record


def show(store: Store) -> dict[str, Any]:
    """The baseline's pointer, scorecard and the folder of its artifacts. Raises InputError E_POINTER_UNSET."""
    from seg1b.lanes import p0_artifacts

    run = load_run(store, "baseline")
    record = store.pointers.read(BASELINE)
    key = str(record["artifacts"])
    card = store.read_json(p0_artifacts.STATE, key, p0_artifacts.SCORECARD)
    files = sorted(store.manifest(p0_artifacts.STATE, key).files)
    folder = store.layout.object(p0_artifacts.STATE, key)
    return {
        **record,
        "status": standing_of(store, run).status,
        "scorecard": card,
        "folder": str(folder),
        "files": files,
    }


def promote(store: Store, text: str | None = None) -> dict[str, Any]:
    """Make a run (by default the current candidate) the last good one.

    Raises VetoError E_PROMOTE_VETO if it fell behind a lock's metrics, or lost a B gate or counter-metric that holds in
    the baseline or in the last good run; InputError as `load_run`, E_BASELINE_WORLD, E_LOCK_WORLD, and E_PHASE_LOCKED
    for policies that a lock forbids.
    """
    with store.exclusive("promoting a run"):
        run = load_run(store, text or "candidate")
        if run.knobs() is not None:
            require_unlocked(store, run.policies())
        found = _against_all(store, run)
        if found.reasons:
            raise VetoError(
                "E_PROMOTE_VETO", f"run {run.run_id[:12]} is not promoted: {'; '.join(found.reasons)}",
                where=str(store.layout.runs / run.run_id),
                next_step="promote another run; `seg1b tune --against last_good` shows what a knob does to these gates",
            )  # fmt: skip
        before = store.pointers.get("last_good")
        if before != run.run_id:
            record = {"lane": run.receipt.lineage.get("lane"), "seed": run.seed, "promoted": utc_now()}
            store.ledger.note("promoted", run_id=run.run_id, instead_of=before, compared=found.compared)
            store.pointers.set("last_good", run.run_id, record)
    return {
        "run_id": run.run_id, "seed": run.seed, "status": found.standing.status, "instead_of": before,
        "compared_with": found.compared, "metrics": run.score.metrics,
    }  # fmt: skip


@dataclass(frozen=True)
class _Compared:
    """Where a run stands, whom it was compared with, by name, and what it lost against each, in words."""

    standing: Standing
    compared: dict[str, str]
    reasons: tuple[str, ...]


def _against_all(store: Store, run: StoredRun) -> _Compared:
    held_to = authorities(store, run.world_digest, run.seed)
    standing = held_to.judge(run.score, run.gates())
    compared: dict[str, str] = {}
    reasons = []
    if held_to.phase:
        compared[f"lock of {held_to.phase}"] = store.phase_locks.read(held_to.phase)["run_id"]
        reasons += [
            f"{row.name}: {row.reason}" for row in standing.report.gates if row.name in standing.lost_to_locks
        ]
    last = _last(store, run)
    lost_to_last = () if last is None else lost_to(last, run.score)
    for name, reference, lost in (
        ("baseline", held_to.baseline, standing.lost_to_baseline),
        ("last good", last, lost_to_last),
    ):
        if reference is not None and reference.run_id != run.run_id:
            compared[name] = reference.run_id
            if lost:
                reasons.append(f"{', '.join(lost)} held in the {name} run {reference.run_id[:12]}")
    return _Compared(standing, compared, tuple(reasons))


def certified(store: Store, run_id: str, details: Mapping[str, Any]) -> tuple[str, ...]:
    """Make a certified run the last good one, unless it lost something; then the reasons, and the pointer stays."""
    with store.exclusive("promoting a run"):
        try:
            found = _against_all(store, load_run(store, run_id))
        except (
            Seg1bError
        ) as error:  # a baseline or a lock of another world, or a baseline that lost its outputs
            return (error.message,)
        before = store.pointers.get("last_good")
        if not found.reasons:
            if before != run_id:
                store.ledger.note(
                    "promoted", run_id=run_id, instead_of=before, compared=found.compared, **details
                )
            store.pointers.set("last_good", run_id, details)
    return found.reasons


def _last(store: Store, run: StoredRun) -> StoredRun | None:
    """The last good run, if it is of the same world: another world's gates say nothing about this one."""
    if store.pointers.get("last_good") is None:
        return None
    last = load_run(store, "last_good")
    return of_seed_if_any(store, last, run.seed) if last.world_digest == run.world_digest else None


def last_good(store: Store) -> dict[str, Any]:
    """The last good run with its metrics, as it stands now. Raises InputError E_POINTER_UNSET."""
    run = load_run(store, "last_good")
    record = store.pointers.read("last_good")
    status = standing_of(store, run).status
    return {**record, "seed": run.seed, "status": status, "metrics": run.score.metrics}
