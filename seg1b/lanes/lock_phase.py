"""Locking a phase: the run it is locked with is made a second time first, and must come out the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seg1b.errors import VetoError
from seg1b.lanes.phase_locks import Phase, lock, require_lockable
from seg1b.lanes.seed_tasks import witness_digests
from seg1b.lanes.standing import Standing, standing_of
from seg1b.lanes.stored_run import StoredRun, load_run, require_outputs, require_world
from seg1b.lanes.witness import digests_of, scratch_store
from seg1b.lanes.world_stage import compute_world, run_world
from seg1b.states import s3_requirements
from seg1b.states.plan import WORLD_STATES
from seg1b.store.store import Store
from seg1b.world.content import World


def lock_phase(store: Store, phase: Phase, text: str, world: World) -> dict[str, Any]:
    """Make the run a second time, world and all, and lock the phase with it. Returns the lock's record.

    Raises InputError as `load_run` and `phase_locks.lock`, E_REFERENCE_WORLD for a run of another world, E_RUN_POLICIES
    for one whose receipt does not say its knobs; VetoError E_LOCK_VETO for one that lost to another lock or to the
    baseline, E_LOCK_WITNESS if the second time differs.
    """
    run = load_run(store, text)
    require_world(store, run, world.digest, "run")
    require_lockable(store, phase, run)  # before it is made again; `lock` asks once more
    status = _standing(store, run).status
    with store.lease("lock") as lease:
        lease.hold(run_ids=[run.run_id], keys=run.keys.values())
        lease.start_heartbeat()
        run = load_run(store, run.run_id)  # it may have been pruned before it was held
        digests = witness(store, run, world, phase)
        record = lock(store, phase, run, digests, status)
        closed = {
            "phase": phase.name,
            "status": "locked",
            "run_id": run.run_id,
            "seed": run.seed,
            "at": record["locked"],
        }
        if phase.name != "P4":  # P4's record is the integrated run's
            store.phases.write(phase.name, closed)
    return record


def _standing(store: Store, run: StoredRun) -> Standing:
    """Where the run stands; VetoError E_LOCK_VETO if it lost something: a lock must not lower what others hold."""
    found = standing_of(store, run)
    if found.lost:
        raise VetoError(
            "E_LOCK_VETO", f"run {run.run_id[:12]} lost {', '.join(found.lost)}",
            where=str(store.layout.runs / run.run_id),
            next_step=f"lock another run; `seg1b integrate {run.run_id[:12]}` says by how much",
        )  # fmt: skip
    return found


def witness(store: Store, run: StoredRun, world: World, phase: Phase) -> dict[str, str]:
    """Digests of a run made again from its policies: S4 to S8 of S3's pairs, and S1 and S2 where `phase` is theirs.

    Raises VetoError E_LOCK_WITNESS if one differs, InputError E_RUN_PRUNED.
    """
    policies = run.policies()
    published: dict[str, str] = {}
    again: dict[str, str] = {}
    if set(phase.states) & set(WORLD_STATES):
        require_outputs(store, run.run_id, run.keys, WORLD_STATES)
        keys = {name: run.keys[name] for name in WORLD_STATES}
        with scratch_store("seg1b-lock-") as other:
            stage = run_world(other, policies, world)
            again |= _named(digests_of(other, stage.keys))
        published |= _named(digests_of(store, keys))
    else:
        stage = compute_world(policies, world)
    pairs = s3_requirements.load(store, run.keys["S3"], stage.world.iso)
    proven = store.read_json("s9", run.keys["S9"], "validation/MANIFEST.json")
    again |= witness_digests(stage, policies, run.seed, str(proven["manifest_fingerprint"]), pairs)
    published |= proven["inputs"]
    different = [name for name, digest in again.items() if published.get(name) != digest]
    if different:
        store.ledger.note("witness_differs", run_id=run.run_id, tables=different)
        raise VetoError(
            "E_LOCK_WITNESS", f"run {run.run_id[:12]} made again is not the same: {', '.join(different)}",
            where=str(store.layout.runs / run.run_id),
            next_step="the code or the store changed since; `seg1b verify` and `seg1b tune` make it anew",
        )  # fmt: skip
    return again


def _named(digests: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Digests by `S2w.tile_weights` and the like."""
    return {f"{state}.{name}": digest for (state, name), digest in digests.items()}
