"""Measure every state after the world's alone, from published inputs: time, memory and bytes of a process of its own.

The chain runs once. Then each state's output is taken away and made again by a fresh process with loaded kernels; its
peak memory holds the world (about 1 GB at 30 arc-seconds) and the state. S5 alone includes making S4's plan, which it
never reads from a file (`parts` has it apart). S1 and S2 are `bench_world.py`'s.

    python scripts/bench_states.py [--states S4,S6] [--sites 100000 1000000] [--pairs P] [--keep DIR] [--json]
    python scripts/bench_states.py --modes      S4's three methods in memory: 12,204 pairs, 102,340 sites
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_chain
from bench_chain import Figures, inputs
from bench_common import (
    FIRST_ENGINE_PAIRS,
    FIRST_ENGINE_SITES,
    bytes_moved,
    catalogue_of,
    child,
    cpu_s,
    folder_bytes,
    growth,
    growth_line,
    peak_rss_mb,
    rounded,
)

MEASURED = ("S0c", "S3", "S4", "S5", "S6", "S7", "S8", "S9")
MODES = ("two_stage_pps", "systematic_pps", "largest_remainder_v1")
REPEATS = 5


@dataclass
class Seed:
    """An open store with a seed whose inputs are published, and what its tasks are given."""

    store: Any
    policies: Any
    stage: Any
    bundle: Path
    preparation: Any
    hashes: dict[str, str]
    times: Any

    @property
    def keys(self) -> dict[str, str]:
        """State keys."""
        keys: dict[str, str] = self.preparation.identity.keys
        return keys

    def shards(self) -> dict[str, Any]:
        """Shards by name."""
        from seg1b.lanes.shards import plan_shards

        return {shard.name: shard for shard in plan_shards(self.preparation.sites_per_country)}


def seal(seed: Seed) -> None:
    """S0c: check the bundle, read its rows, seal its pairs."""
    from seg1b.catalogue.verify import verify_bundle
    from seg1b.states import s0_gate

    s0_gate.seal_catalogue(seed.store, seed.keys["S0c"], verify_bundle(seed.bundle))


def require(seed: Seed) -> None:
    """S3."""
    from seg1b.states import s3_requirements

    stage = seed.stage
    s3_requirements.run(
        seed.store, seed.keys["S3"], seed.keys["S0c"], stage.world.countries, stage.world.index.tiles, stage.shares,
        seed.policies.requirements,
    )  # fmt: skip


def place(state: str) -> Callable[[Seed], None]:
    """S4, S5, S6 or S8: every shard's part, and the commit."""

    def run(seed: Seed) -> None:
        from seg1b.lanes.executor import Task, ThreadExecutor
        from seg1b.lanes.seed_tasks import STAGE, commit_state, place_shard

        shards = seed.shards()
        executor = ThreadExecutor({STAGE: seed.stage})
        for name, shard in shards.items():
            given = (seed.store, seed.policies, seed.preparation.identity, shard)
            executor.submit(Task((name,), place_shard, given, float(shard.sites)))
        for done in executor.completions():
            seed.times.add(done.receipt.seconds)
        sites = int(seed.preparation.sites_per_country.sum())
        with seed.times.part(state, "commit"):
            commit_state(seed.store, state, seed.keys, tuple(sorted(shards)), sites)

    return run


def join(seed: Seed) -> None:
    """S7."""
    from seg1b.states import s3_requirements, s7_synthesis

    iso = seed.stage.world.iso
    pairs = s3_requirements.load(seed.store, seed.keys["S3"], iso)
    s7_synthesis.run(seed.store, seed.keys["S7"], iso, pairs, seed.keys)


def validate(seed: Seed) -> None:
    """S9: replay, tally, scores, bundle."""
    from seg1b.lanes.executor import Task, ThreadExecutor
    from seg1b.lanes.seed_tasks import STAGE, check_shard, finish_seed

    shards, shared = seed.shards(), {STAGE: seed.stage}
    identity = seed.preparation.identity
    executor = ThreadExecutor(shared)
    for name, shard in shards.items():
        given = (seed.store, seed.policies, identity, shard)
        executor.submit(Task((name,), check_shard, given, float(shard.sites)))
    checks = {}
    for done in executor.completions():
        seed.times.add(done.receipt.times.seconds)
        checks[done.task.key[0]] = done.receipt.replay
    names = tuple(sorted(shards))
    replays = tuple(checks[name] for name in names)
    finish = finish_seed(shared, seed.store, seed.policies, identity, seed.hashes, names, replays)
    seed.times.add(finish.times.seconds)


WORK: dict[str, Callable[[Seed], None]] = {
    "S0c": seal, "S3": require, "S4": place("S4"), "S5": place("S5"), "S6": place("S6"), "S7": join,
    "S8": place("S8"), "S9": validate,
}  # fmt: skip


def measure_state(state: str, runs: Path, bundle: Path, arguments: argparse.Namespace) -> Figures:
    """One state, in a process of its own; its output must be the one that was taken away."""
    from seg1b.lanes.identity import seed_hashes
    from seg1b.lanes.seed_tasks import STAGE, prepare_seed
    from seg1b.lanes.warm_up import placing, validating
    from seg1b.lanes.world_stage import run_world
    from seg1b.states.shard import StageTimes
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    placing()
    validating()
    with Store.open(runs) as store:
        stage = run_world(store, policies, world)
        preparation = prepare_seed({STAGE: stage}, store, policies, arguments.seed, bundle)
        hashes = seed_hashes(policies, world.digest, preparation.facts)
        seed = Seed(store, policies, stage, bundle, preparation, hashes, StageTimes())
        name, key = state.lower(), seed.keys[state]
        before = {table: entry.logical_digest for table, entry in store.manifest(name, key).tables.items()}
        output = runs / "objects" / name / key
        shutil.rmtree(output)
        wall, cpu, moved = time.perf_counter(), cpu_s(), bytes_moved()
        WORK[state](seed)
        found = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_s() - cpu}
        read, written = (now - then for now, then in zip(bytes_moved(), moved, strict=True))
        after = {table: entry.logical_digest for table, entry in store.manifest(name, key).tables.items()}
        if after != before:
            raise SystemExit(f"{state} made other rows than before")
        return {
            **rounded(found),
            "peak_rss_mb": round(peak_rss_mb(), 1),
            "bytes_read": read,
            "bytes_written": written,
            "bytes_out": folder_bytes(output),
            "parts": {part: rounded(times) for part, times in sorted(seed.times.seconds.items())},
        }


def measure(root: Path, arguments: argparse.Namespace, states: tuple[str, ...]) -> Figures:
    """All states of one size."""
    bundle = bench_chain.bundle_of(root, arguments)
    runs = root / "runs"
    whole = child(bench_chain.run_chain, runs, bundle, arguments)  # publishes what is not there
    found = {state: child(measure_state, state, runs, bundle, arguments) for state in states}
    return {"sites": whole["sites"], "pairs": whole["pairs"], "states": found}


def measure_modes(runs: Path, arguments: argparse.Namespace) -> Figures:
    """S4's methods on the first engine's workload: plans in memory, the best of a few runs with loaded kernels."""
    from seg1b.lanes.world_stage import run_world
    from seg1b.policy.load import set_values
    from seg1b.states import s4_allocation
    from seg1b.states.required_pairs import required_pairs
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    with Store.open(runs) as store:
        stage = run_world(store, policies, world)
    catalogue = catalogue_of(FIRST_ENGINE_SITES, FIRST_ENGINE_PAIRS, stage.world, stage.shares)
    pairs, _ = required_pairs(catalogue, stage.world.countries, policies.requirements)
    found: Figures = {"sites": int(pairs.n_sites.sum()), "pairs": len(pairs.n_sites), "modes": {}}
    for mode in MODES:
        policy = set_values(policies, {"s4.mode": mode}).allocation
        runs_s = []
        for _ in range(1 + REPEATS):
            wall, cpu = time.perf_counter(), cpu_s()
            plan = s4_allocation.run(stage.world, pairs, policy, arguments.seed).plan
            runs_s.append((cpu_s() - cpu, time.perf_counter() - wall))
        best_cpu, wall = min(runs_s[1:])  # the first loads the kernels
        found["modes"][mode] = {**rounded({"wall_s": wall, "cpu_s": best_cpu}), "rows": len(plan.tile_id)}
    return found


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bench_chain.add_arguments(parser)
    parser.add_argument("--states", default=",".join(MEASURED), help=f"some of {','.join(MEASURED)}")
    parser.add_argument("--modes", action="store_true", help="only S4's methods, in memory")
    arguments = parser.parse_args()
    states = tuple(arguments.states.split(","))
    if unknown := sorted(set(states) - set(MEASURED)):
        parser.error(f"no state {', '.join(unknown)} here: choose of {', '.join(MEASURED)}")
    if not arguments.json:
        bench_chain.machine()
    with bench_chain.folder(arguments) as root:
        if arguments.modes:
            show_modes(child(measure_modes, root / "runs", arguments), arguments.json)
            return
        runs = []
        for size in bench_chain.sizes(arguments):
            runs.append(measure(root, size, states))
            if not arguments.json:
                show(runs[-1])
    steps = {
        state: growth([{"sites": run["sites"], **run["states"][state]} for run in runs]) for state in states
    }
    if arguments.json:
        print(json.dumps({"runs": runs, "exponents": steps} if len(runs) > 1 else runs[0], indent=2))
        return
    for state in states:
        for step in steps[state]:
            print(f"{state}: {growth_line(step)}")


def show(run: Figures) -> None:
    """A table for people."""
    print(f"{run['sites']:,} sites, {run['pairs']:,} pairs")
    for state, row in run["states"].items():
        megabytes = {name: row[name] / 1e6 for name in ("bytes_read", "bytes_written", "bytes_out")}
        print(
            f"  {bench_chain.figures(state, row)}  peak {row['peak_rss_mb']:8.1f} MB"
            f"  read {megabytes['bytes_read']:9.1f} MB  wrote {megabytes['bytes_written']:9.1f} MB"
            f"  published {megabytes['bytes_out']:9.1f} MB",
            flush=True,
        )


def show_modes(found: Figures, as_json: bool) -> None:
    """S4's methods."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['sites']:,} sites, {found['pairs']:,} pairs, plans in memory, best of {REPEATS}")
    for mode, row in found["modes"].items():
        print(f"  {bench_chain.figures(mode, row)}  {row['rows']:,} rows")


if __name__ == "__main__":
    main()
