"""What a lane claims while it runs, and the pruning that goes before every expensive run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from seg1b.lanes.world_stage import world_keys
from seg1b.policy.load import Policies
from seg1b.states.plan import keys_for
from seg1b.store.locks import Lease
from seg1b.store.store import Store
from seg1b.world.bundle import World

KEEP_NEWEST_RUNS = 12


def anticipated_keys(
    store: Store, policies: Policies, world: World, seeds: Sequence[int], catalogue_digest: str | None
) -> set[str]:
    """Every key that a run is known to touch before it starts.

    `catalogue_digest`: a user's; None reads the digests of catalogues that were synthesised before.
    """
    keys = set(world_keys(policies, world).values())
    for seed in seeds:
        externals = {"world": world.digest}
        first = keys_for(policies, externals, seed)
        digest = catalogue_digest
        if digest is None and store.has("cat", first["CAT"]):
            digest = str(store.manifest("cat", first["CAT"]).facts["catalogue_digest"])
        if digest is not None:
            externals["catalogue"] = digest
        keys |= set(keys_for(policies, externals, seed).values())
    return keys


@contextmanager
def retained(store: Store, purpose: str, keys: set[str]) -> Iterator[Lease]:
    """Hold a lease on `keys`, then prune what nobody holds, then run.

    The newest runs are kept besides what pointers, certifications, locks and waves reach.
    """
    with store.lease(purpose) as lease:
        lease.hold(keys=keys)
        lease.start_heartbeat()
        store.retention.prune(dry_run=False, keep_newest_runs=KEEP_NEWEST_RUNS)
        yield lease
