"""Pointers: the pinned baseline, and the promotion of a candidate to last good.

A pinned baseline adds comparisons and vetoes; a grade is always given against the published baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seg1b.errors import InputError, Seg1bError, VetoError
from seg1b.lanes import waves
from seg1b.lanes.comparison import lost_gates
from seg1b.lanes.phase_locks import lock_metrics, require_unlocked
from seg1b.lanes.stored_run import StoredRun, load_run, require_world, same_seed
from seg1b.policy.gates import GatesPolicy
from seg1b.store.store import Store
from seg1b.world.content import World

BASELINE = "baseline_authority"


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
            "pinned": waves.now(),
        }
        with store.exclusive("pinning the baseline"):
            before = store.pointers.get(BASELINE)
            store.pointers.set(BASELINE, run.run_id, record)
            phase = {
                "phase": "P0",
                "status": "closed",
                "run_id": run.run_id,
                "artifacts": key,
                "at": record["pinned"],
            }
            store.phases.write("P0", phase)
            waves.note(store, "baseline_pinned", run_id=run.run_id, instead_of=before, artifacts=key)
    return record


def pinned(store: Store, world_digest: str, seed: int) -> StoredRun | None:
    """The pinned baseline, of `seed` if it was certified with it; None if nothing is pinned.

    Raises InputError E_BASELINE_WORLD for one of another world, E_RUN_PRUNED for one that lost its outputs.
    """
    if store.pointers.get(BASELINE) is None:
        return None
    run = load_run(store, "baseline")
    require_world(store, run, world_digest, "the pinned baseline", "E_BASELINE_WORLD")
    try:
        return same_seed(store, run, seed)
    except InputError as error:
        if error.code != "E_REFERENCE_SEED":
            raise
        return run


def show(store: Store) -> dict[str, Any]:
    """The baseline's pointer, scorecard and the folder of its artifacts. Raises InputError E_POINTER_UNSET."""
    from seg1b.lanes import p0_artifacts

    run = load_run(store, "baseline")
    record = store.pointers.read(BASELINE)
    key = str(record["artifacts"])
    card = store.read_json(p0_artifacts.STATE, key, p0_artifacts.SCORECARD)
    files = sorted(store.manifest(p0_artifacts.STATE, key).files)
    folder = store.layout.object(p0_artifacts.STATE, key)
    return {**record, "status": run.score.status, "scorecard": card, "folder": str(folder), "files": files}


def promote(store: Store, text: str | None = None) -> dict[str, Any]:
    """Make a run (by default the current candidate) the last good one.

    Raises VetoError E_PROMOTE_VETO if it lost a B gate or counter-metric that holds in the baseline or in the last good
    run; InputError as `load_run`, E_BASELINE_WORLD, and E_PHASE_LOCKED for policies that a lock forbids.
    """
    with store.exclusive("promoting a run"):
        run = load_run(store, text or "candidate")
        if run.knobs() is not None:
            require_unlocked(store, run.policies())
        compared, reasons = _lost(store, run)
        if reasons:
            raise VetoError(
                "E_PROMOTE_VETO", f"run {run.run_id[:12]} is not promoted: {'; '.join(reasons)}",
                where=str(store.layout.runs / run.run_id),
                next_step="promote another run; `seg1b tune --against last_good` shows what a knob does to these gates",
            )  # fmt: skip
        before = store.pointers.get("last_good")
        if before != run.run_id:
            record = {"lane": run.receipt.lineage.get("lane"), "seed": run.seed, "promoted": waves.now()}
            store.pointers.set("last_good", run.run_id, record)
            waves.note(store, "promoted", run_id=run.run_id, instead_of=before, compared=compared)
    return {
        "run_id": run.run_id, "seed": run.seed, "status": run.score.status, "instead_of": before,
        "compared_with": compared, "metrics": run.score.metrics,
    }  # fmt: skip


def _lost(store: Store, run: StoredRun) -> tuple[dict[str, str], list[str]]:
    """The runs that one is compared with, by name, and what it lost against each, in words."""
    compared: dict[str, str] = {}
    reasons = []
    references = (
        ("baseline", pinned(store, run.world_digest, run.seed)),
        ("last good", _last(store, run)),
    )
    for name, reference in references:
        if reference is not None and reference.run_id != run.run_id:
            compared[name] = reference.run_id
            lost = lost_gates(reference.score.report, run.score.report)
            if lost:
                reasons.append(f"{', '.join(lost)} held in the {name} run {reference.run_id[:12]}")
    return compared, reasons


def certified(store: Store, run_id: str, details: Mapping[str, Any], gates: GatesPolicy) -> tuple[str, ...]:
    """Make a certified run the last good one, unless it lost something; then the reasons, and the pointer stays.

    What counts besides the gates that `promote` looks at are the metrics of a locked phase of the same seed.
    """
    run = load_run(store, run_id)
    try:
        _, reasons = _lost(store, run)
    except Seg1bError as error:  # a baseline of another world, or one that lost its outputs
        reasons = [error.message]
    report = run.score.against_lock(lock_metrics(store, run.seed), gates)
    reasons += [
        f"{row.name}: {row.reason}"
        for row in report.gates
        if row.name.startswith("no_reg") and not row.pass_b
    ]
    if not reasons:
        store.pointers.set("last_good", run_id, details)
    return tuple(reasons)


def _last(store: Store, run: StoredRun) -> StoredRun | None:
    """The last good run, if it is of the same world: another world's gates say nothing about this one."""
    if store.pointers.get("last_good") is None:
        return None
    last = load_run(store, "last_good")
    if last.world_digest != run.world_digest:
        return None
    try:
        return same_seed(store, last, run.seed)
    except InputError as error:
        if error.code != "E_REFERENCE_SEED":
            raise
        return last


def last_good(store: Store) -> dict[str, Any]:
    """The last good run with its metrics. Raises InputError E_POINTER_UNSET."""
    run = load_run(store, "last_good")
    record = store.pointers.read("last_good")
    return {**record, "seed": run.seed, "status": run.score.status, "metrics": run.score.metrics}
