"""S9 of a seed of which only the gates changed: what was replayed stays, and what was measured if that did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seg1b.catalogue.guard import GuardMeasurement
from seg1b.lanes.guard import require_guard
from seg1b.policy.load import Policies
from seg1b.scoring.measured import Judged
from seg1b.states import s0_gate, s9_findings
from seg1b.states.plan import BY_NAME, SeedIdentity
from seg1b.states.replay_checks import Replay
from seg1b.states.s9_findings import Validation
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.grid import Grid

if TYPE_CHECKING:
    from seg1b.scoring.score import Score


def judge_seed(
    store: Store, policies: Policies, world: World, identity: SeedIdentity, hashes: Mapping[str, str]
) -> bool:
    """S9 of a seed of which only the gates changed. False if something that it takes is not kept.

    Where only thresholds changed, what was measured is judged again; else the published coordinates are measured
    again. The bundle is the same to the last byte as one of a seed that was replayed anew. A lease must hold what
    `claimed_keys` says of the seed. Raises InputError E_GUARD_FAIL if the 1A guard rejects the catalogue.
    """
    keys, seed = identity.keys, identity.seed
    there = [store.has(state.lower(), keys[state]) for state in BY_NAME["S9"].inputs]
    replay = s9_findings.known_replay(store, keys, seed) if all(there) else None
    if replay is None:
        return False
    sealed = (s0_gate.CATALOGUE_STATE, keys["S0c"])
    catalogue_digest = str(store.manifest(*sealed).facts["catalogue_digest"])
    guard = GuardMeasurement.from_json(store.read_json(*sealed, s0_gate.GUARD_NAME))
    require_guard(store, policies, catalogue_digest, guard)
    measured = s9_findings.measured_key(keys, policies.gates, seed)
    found: Validation[Judged] | Validation[Score] | None
    if store.has(s9_findings.MEASURED_STATE, measured):
        found = s9_findings.judge_again(store, measured, replay, policies.gates)
    else:
        found = _measure(store, policies, world, identity, replay)
        if found is None:
            return False
        s9_findings.keep_findings(store, keys, policies.gates, seed, found)
    kept = s9_findings.rests_on(store, keys, policies.gates, seed, replay)
    facts = {"seed": seed, "manifest_fingerprint": identity.manifest_fingerprint, **hashes}
    s9_findings.publish(
        store, keys["S9"], found, facts, policies, s9_findings.logical_digests(store, keys), kept
    )
    return True


def _measure(
    store: Store, policies: Policies, world: World, identity: SeedIdentity, replay: Replay
) -> Validation[Score] | None:
    """Score the published coordinates of a seed that was replayed before; None without S1, S2w and S2s."""
    from seg1b.lanes.seed_tasks import read_tally  # compiled code, which judging again does without
    from seg1b.lanes.world_stage import load_context
    from seg1b.states import s9_validation

    s9_validation.require_scorable(replay)
    context = load_context(store, policies, world)
    if context is None:
        return None
    grid = Grid(policies.tile_index.resolution_arcsec)
    keys, seed = identity.keys, identity.seed
    sites = [read_tally(store, context, grid, keys, seed)]
    recall = s9_validation.recalling(store, keys, seed)
    return s9_validation.conclude(sites.pop(), replay, context, seed, recall)
