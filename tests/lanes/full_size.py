"""Seed 42 of the default workload, placed and validated again in a store of its own, cut and run as one likes.

As a program, in a process of its own: `python full_size.py STORE SHARD_SITES BLOCK_SITES EXECUTOR` prints the facts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from seg1b.lanes.executor import Executor, SerialExecutor, Task, ThreadExecutor
from seg1b.lanes.identity import seed_hashes
from seg1b.lanes.seed_tasks import STAGE, check_shard, finish_seed, place_shard, prepare_seed
from seg1b.lanes.shards import plan_shards
from seg1b.lanes.world_stage import WorldStage, run_world
from seg1b.policy.load import default_policies
from seg1b.store.store import Store
from seg1b.world.bundle import load_world

SEED = 42
EXECUTORS = {"serial": SerialExecutor, "threads": ThreadExecutor}


def facts_of(store: Store, keys: dict[str, str]) -> dict[str, Any]:
    """Logical digest of every table of S4, S5, S6 and S8, and the digest of every file of S9."""
    found: dict[str, Any] = {}
    for state in ("S4", "S5", "S6", "S8"):
        manifest = store.manifest(state.lower(), keys[state])
        found[state] = {name: entry.logical_digest for name, entry in manifest.tables.items()}
        found[f"{state} documents"] = dict(manifest.documents)
    found["S9"] = {name: entry.sha256 for name, entry in store.manifest("s9", keys["S9"]).files.items()}
    return found


def run_seed(
    store: Store, stage: WorldStage, executor: Executor, shard_sites: int | None
) -> tuple[dict[str, Any], int]:
    """The seed's facts, and in how many shards it was placed. The store has its catalogue or makes it."""
    policies = default_policies()
    executor.share(STAGE, stage)
    shared = {STAGE: stage}
    preparation = prepare_seed(shared, store, policies, SEED, None)
    identity = preparation.identity
    shards = {shard.name: shard for shard in plan_shards(preparation.sites_per_country, shard_sites)}
    for name, shard in shards.items():
        given = (store, policies, identity, shard)
        executor.submit(Task(("place", name), place_shard, given, float(shard.sites)))
    replays = {}
    for done in executor.completions():
        kind, name = done.task.key
        if kind == "check":
            replays[name] = done.receipt.replay
            continue
        given = (store, policies, identity, shards[name])
        executor.submit(Task(("check", name), check_shard, given, float(shards[name].sites)))
    names = tuple(sorted(shards))
    hashes = seed_hashes(policies, stage.world.digest, preparation.facts)
    finish_seed(shared, store, policies, identity, hashes, names, tuple(replays[name] for name in names))
    return facts_of(store, identity.keys), len(shards)


def set_block_sites(block_sites: int) -> None:
    """Place, replay and tally in blocks of so many sites."""
    from seg1b.lanes import seed_tasks
    from seg1b.states import shard

    shard.BLOCK_SITES = seed_tasks.BLOCK_SITES = block_sites  # type: ignore[misc, attr-defined, unused-ignore]


def main() -> None:
    """In a process of its own: numba reads its number of threads when it starts."""
    from seg1b.kernels.jit import threads

    root, shard_sites, block_sites, executor = sys.argv[1:]
    set_block_sites(int(block_sites))
    with Store.open(Path(root)) as store:
        stage = run_world(store, default_policies(), load_world())
        facts, shards = run_seed(store, stage, EXECUTORS[executor](), int(shard_sites))
    sys.stdout.write(json.dumps({"facts": facts, "shards": shards, "threads": threads()}) + "\n")


if __name__ == "__main__":
    main()
