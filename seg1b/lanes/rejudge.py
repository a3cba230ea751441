"""S9 of a seed of which only thresholds changed, from what was measured before."""

from __future__ import annotations

from collections.abc import Mapping

from seg1b.catalogue.guard import GuardMeasurement
from seg1b.lanes.guard import require_guard
from seg1b.lanes.seed_tasks import logical_digests
from seg1b.policy.load import Policies
from seg1b.states import s0_gate, s9_validation
from seg1b.states.plan import BY_NAME
from seg1b.states.shard import SeedIdentity
from seg1b.store.store import Store


def judge_seed(store: Store, policies: Policies, identity: SeedIdentity, hashes: Mapping[str, str]) -> bool:
    """S9 of a seed of which only thresholds changed: judged again from what was measured. False if that is not kept.

    Everything before S9 must be there. The bundle is the same to the last byte as one that was made from the sites.
    Raises InputError E_GUARD_FAIL if the 1A guard rejects the catalogue.
    """
    keys = identity.keys
    measured = s9_validation.measured_key(keys, policies.gates, identity.seed)
    before = [state for state in BY_NAME["S9"].inputs if not store.has(state.lower(), keys[state])]
    if before or not store.has(s9_validation.MEASURED_STATE, measured):
        return False
    sealed = (s0_gate.CATALOGUE_STATE, keys["S0c"])
    catalogue_digest = str(store.manifest(*sealed).facts["catalogue_digest"])
    guard = GuardMeasurement.from_json(store.read_json(*sealed, s0_gate.GUARD_NAME))
    require_guard(store, policies, catalogue_digest, guard)
    found = s9_validation.judge_again(store, measured, policies.gates)
    facts = {"seed": identity.seed, "manifest_fingerprint": identity.manifest_fingerprint, **hashes}
    s9_validation.run(store, keys["S9"], found, facts, policies, logical_digests(store, keys), measured)
    return True
