"""What a lane claims while it runs, and the pruning that goes before every expensive run.

A lane holds a lease on every key that it is known to touch before anything is pruned; so an interrupted run finds its
parts again, and two lanes on one store do not collect each other's work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from seg1b.errors import InputError
from seg1b.lanes.executor import RetentionAuthority
from seg1b.lanes.identity import externals_of, world_keys
from seg1b.policy.load import Policies
from seg1b.policy.retention import RetentionPolicy
from seg1b.report.wording import size_text
from seg1b.states import s9_findings
from seg1b.states.plan import keys_for, world_image_key
from seg1b.store.locks import Lease
from seg1b.store.retention import Plan
from seg1b.store.store import Store
from seg1b.store.usage import beside
from seg1b.world.content import World


def anticipated_keys(
    store: Store, policies: Policies, world: World, seeds: Sequence[int], catalogue_digest: str | None
) -> set[str]:
    """Every key that a run is known to touch before it starts.

    `catalogue_digest`: a user's; None reads the digests of catalogues that were synthesised before.
    """
    keys = set(world_keys(policies, world).values())
    for seed in seeds:
        keys |= claimed_keys(known_keys(store, policies, world, seed, catalogue_digest), policies, seed)
    return keys


def claimed_keys(keys: Mapping[str, str], policies: Policies, seed: int) -> set[str]:
    """What a lease must name of a seed whose states have these keys: theirs, the image of their world, and what S9 will
    rest on.
    """
    findings = s9_findings.findings_keys(keys, policies.gates, seed)
    return {*keys.values(), world_image_key(keys), *findings.values()}


def known_keys(
    store: Store, policies: Policies, world: World, seed: int, catalogue_digest: str | None
) -> dict[str, str]:
    """Key by state of one seed, as far as it is known before the seed starts: all, if its catalogue is."""
    externals = externals_of(world)
    first = keys_for(policies, externals, seed)
    digest = catalogue_digest
    if digest is None and store.has("cat", first["CAT"]):
        digest = str(store.manifest("cat", first["CAT"]).facts["catalogue_digest"])
    return first if digest is None else keys_for(policies, {**externals, "catalogue": digest}, seed)


@contextmanager
def leased(store: Store, purpose: str, keys: set[str]) -> Iterator[Lease]:
    """Hold a lease on `keys`, kept alive by a heartbeat."""
    with store.lease(purpose) as lease:
        lease.hold(keys=keys)
        lease.start_heartbeat()
        yield lease


def prune_before_run(authority: RetentionAuthority, policy: RetentionPolicy, root: Path) -> Plan:
    """Collect what nobody holds before an expensive run; the newest runs are kept besides what is reachable.

    The cap counts all that stays in the store at `root`: what is kept here, certification packs, logs and records.
    Where that is more, fewer of the newest runs are kept. Raises InputError E_STORE_CAP if it is more without any of
    them; then nothing was removed.
    """
    found = beside(root)
    room_bytes = policy.live_bytes_max - found.kept_bytes
    for newest in range(policy.keep_newest_runs, -1, -1):
        plan = authority.prune(dry_run=False, keep_newest_runs=newest, at_most_bytes=room_bytes)
        if plan.removed:
            return plan
    kept_bytes = plan.live_bytes + found.kept_bytes
    raise InputError(
        "E_STORE_CAP",
        f"{size_text(kept_bytes)} stay in the store whatever is pruned, "
        f"{size_text(kept_bytes - policy.live_bytes_max)} more than retention.live_bytes_max, "
        f"{size_text(policy.live_bytes_max)}: pointers, packs, locks, phases, waves and running commands reach "
        f"{size_text(plan.live_bytes)}, certification packs have {size_text(found.packs_bytes)}, logs and records "
        f"{size_text(found.other_bytes)}",
        where=str(root),
        next_step="`seg1b runs du` shows who holds how much; let go of some, remove packs (`seg1b runs remove ID`) "
        "or logs that you do not need, or raise the cap in retention.yaml (--config)",
    )
