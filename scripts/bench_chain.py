"""Measure one seed's whole chain, S0 to S9, at any size: wall and CPU seconds, memory and bytes per state.

The catalogue is made for the purpose: the market's country shares, `--pairs` pairs of merchant and country, and sizes
that fall off like a power of their rank. It is written as a 1A bundle before the clock starts. World and JIT are warm:
S0w, S1, S2w and S2s (under `warm`) are measured apart, each computed and published once by compiled kernels, and are no
part of `wall_s` and `cpu_s`; everything from reading the bundle to S9's verdict is. Substages stand under `parts`;
those of S4 to S9 add up over threads, so they can sum to more than the chain's wall time.

    python scripts/bench_chain.py --sites 1000000 [--pairs 100000] [--seed 42] [--resolution 30] [--raster FILE]
                                  [--json]
    python scripts/bench_chain.py --sites 100000 1000000 --json       several sizes: growth exponents too

With `--raster`, the world is the embedded polygons with that GeoTIFF's people (`scripts/make_dense_raster.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_common import (
    bytes_moved,
    child,
    cpu_s,
    default_pairs,
    folder_bytes,
    growth,
    growth_line,
    peak_rss_mb,
    rounded,
    write_catalogue,
)

Times = dict[str, dict[str, float]]
Figures = dict[str, Any]

STATE_FOLDERS = ("s0c", "s3", "s4", "s5", "s6", "s7", "s8", "s9")
WARM = ("S0w", "S1", "S2w", "S2s")
STATES = {
    "S0": ("S0w", "CAT", "S0c"), "S1": ("S1",), "S2": ("S2w", "S2s"), "S3": ("S3",), "S4": ("S4",), "S5": ("S5",),
    "S6": ("S6",), "S7": ("S7",), "S8": ("S8",), "S9": ("S9",),
}  # fmt: skip
"""The states of the card and what each is made of in the store; CAT is the check of the user's bundle."""


def run_chain(runs: Path, bundle: Path, arguments: argparse.Namespace) -> Figures:
    """The chain itself, in a process of its own so that its peak memory is its own."""
    from seg1b.lanes.executor import ThreadExecutor
    from seg1b.lanes.identity import seed_hashes
    from seg1b.lanes.seed_tasks import STAGE, finish_seed, prepare_seed
    from seg1b.lanes.shards import plan_shards
    from seg1b.lanes.warm_up import placing, validating
    from seg1b.lanes.world_stage import run_world
    from seg1b.states.shard import StageTimes
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    placing()
    validating()
    with Store.open(runs) as store:
        stage = run_world(store, policies, world)
        shared = {STAGE: stage}
        times = StageTimes()
        wall, cpu, moved = time.perf_counter(), cpu_s(), bytes_moved()
        preparation = prepare_seed(shared, store, policies, arguments.seed, bundle)
        times.add(preparation.times.seconds)
        shards = {shard.name: shard for shard in plan_shards(preparation.sites_per_country)}
        executor = ThreadExecutor(shared)
        replays = place_and_check(executor, store, policies, preparation.identity, shards, times)
        hashes = seed_hashes(policies, world.digest, preparation.facts)
        names = tuple(sorted(shards))
        finish = finish_seed(shared, store, policies, preparation.identity, hashes, names, replays)
        times.add(finish.times.seconds)
        read, written = (after - before for after, before in zip(bytes_moved(), moved, strict=True))
        return {
            "sites": int(preparation.sites_per_country.sum()),
            "pairs": int(preparation.requirements["pairs"]),
            "wall_s": round(time.perf_counter() - wall, 3),
            "cpu_s": round(cpu_s() - cpu, 3),
            "peak_rss_mb": round(peak_rss_mb(), 1),
            "bytes_read": read,
            "bytes_written": written,
            "passed": finish.passed,
            "logical_digests": finish.logical_digests,
            "times": times.seconds,
            "bytes_out": bytes_by_state(runs, preparation.identity.keys),
        }


def place_and_check(
    executor: Any, store: Any, policies: Any, identity: Any, shards: Mapping[str, Any], times: Any
) -> tuple[Any, ...]:
    """S4, S5, S6, S8 and S9's replay of every shard; the replays by the shards' names."""
    from seg1b.lanes.executor import Task
    from seg1b.lanes.seed_tasks import check_shard, place_shard

    def submit(kind: str, name: str) -> None:
        function = place_shard if kind == "place" else check_shard
        given = (store, policies, identity, shards[name])
        executor.submit(Task((kind, name), function, given, float(shards[name].sites)))

    for name in shards:
        submit("place", name)
    checks = {}
    for done in executor.completions():
        kind, name = done.task.key
        if kind == "place":
            times.add(done.receipt.seconds)
            submit("check", name)
        else:
            times.add(done.receipt.times.seconds)
            checks[name] = done.receipt.replay
    return tuple(checks[name] for name in sorted(checks))


def bytes_by_state(runs: Path, keys: Mapping[str, str]) -> dict[str, int]:
    """Bytes of what is published under each key."""
    return {name: folder_bytes(runs / "objects" / name.lower() / key) for name, key in keys.items()}


def inputs(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Policies and world as the arguments want them."""
    from seg1b.policy.load import default_policies, set_values
    from seg1b.world.bundle import load_world

    policies = set_values(default_policies(), {"s1.resolution_arcsec": arguments.resolution})
    return policies, load_world(arguments.world)


def build_world(raster: Path, folder: Path) -> None:
    """A user's world of the embedded polygons and a raster; in a process of its own."""
    from seg1b.world.custom import build_user_world

    build_user_world(None, raster, folder)


def run_world_states(runs: Path, arguments: argparse.Namespace) -> Figures:
    """S0w, S1, S2w and S2s, computed and published in a process of their own; `runs` has them afterwards."""
    from seg1b.lanes.world_stage import run_world
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    with tempfile.TemporaryDirectory(dir=runs.parent) as scratch:
        with Store.open(Path(scratch) / "compiling") as store:
            run_world(store, policies, world)
        target = Path(scratch) / "measured" if runs.exists() else runs
        with Store.open(target) as store:
            stage = run_world(store, policies, world)
        found = bytes_by_state(target, stage.keys)
    peak_mb = round(peak_rss_mb(), 1)
    with Store.open(runs) as store:
        run_world(store, policies, world)
    return {"times": stage.times.seconds, "bytes_out": found, "peak_rss_mb": peak_mb}


def prepare(runs: Path, bundle: Path, arguments: argparse.Namespace) -> None:
    """Warm the world's outputs and write the catalogue; in a process of its own."""
    from seg1b.lanes.world_stage import run_world
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    with Store.open(runs) as store:
        stage = run_world(store, policies, world)
    write_catalogue(bundle, arguments.sites, arguments.pairs, world, stage.shares)


def measure(root: Path, arguments: argparse.Namespace, warm: Figures) -> Figures:
    """One size."""
    runs = root / "runs"
    bundle = bundle_of(root, arguments)
    for name in STATE_FOLDERS:
        shutil.rmtree(runs / "objects" / name, ignore_errors=True)
    found = child(run_chain, runs, bundle, arguments)
    times, out = found.pop("times"), found.pop("bytes_out")
    return {
        **found,
        "warm": list(WARM),
        "world_peak_rss_mb": warm["peak_rss_mb"],
        "states": by_state({**times, **warm["times"]}, {**out, **warm["bytes_out"]}),
    }


def bundle_of(root: Path, arguments: argparse.Namespace) -> Path:
    """The catalogue of a size, written if it is not there yet."""
    bundle = root / f"bundle-{arguments.sites}-{arguments.pairs}"
    if not bundle.is_dir():
        child(prepare, root / "runs", bundle, arguments)
    return bundle


def by_state(times: Times, bytes_out: Mapping[str, int]) -> dict[str, Figures]:
    """Times and bytes of S0 to S9, in order, with what each is made of under `parts`."""
    found = {}
    for state, halves in STATES.items():
        own = {name: value for name, value in times.items() if name.split(".")[0] in halves and name != state}
        whole = [times[name] for name in halves if name in times]
        found[state] = {
            "wall_s": round(sum(row["wall_s"] for row in whole), 3),
            "cpu_s": round(sum(row["cpu_s"] for row in whole), 3),
            "bytes_out": sum(bytes_out.get(name, 0) for name in halves),
            "parts": {name: rounded(value) for name, value in sorted(own.items())},
        }
    return found


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    arguments = parser.parse_args()
    if not arguments.json:
        machine()
    results = []
    with folder(arguments) as root:
        warm = child(run_world_states, root / "runs", arguments)
        for size in sizes(arguments):
            results.append(measure(root, size, warm))
            if not arguments.json:
                show(results[-1])
    steps = growth(results)
    if arguments.json:
        print(json.dumps({"runs": results, "exponents": steps} if len(results) > 1 else results[0], indent=2))
        return
    for step in steps:
        print(growth_line(step))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What says which chain is measured."""
    parser.add_argument("--sites", type=int, nargs="+", default=[100_000], help="one size or more")
    parser.add_argument("--pairs", type=int, help="default: the first engine's sites per pair")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--resolution", type=int, default=30, help="edge of a tile in arc-seconds")
    parser.add_argument("--world", type=Path, help="a world of your own (`seg1b world build`)")
    parser.add_argument("--raster", type=Path, help="a population GeoTIFF to make a world of")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep store and catalogue there and use them again"
    )
    parser.add_argument("--json", action="store_true")


def sizes(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments of every size."""
    pairs = [arguments.pairs or default_pairs(sites) for sites in arguments.sites]
    return [
        argparse.Namespace(**{**vars(arguments), "sites": n, "pairs": p})
        for n, p in zip(arguments.sites, pairs, strict=True)
    ]


@contextmanager
def folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """Where store and catalogues lie: below `--keep`, or in a folder that goes away; a raster's world is there too."""
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        if arguments.raster is not None:
            root = root / f"{arguments.raster.stem}-{arguments.raster.stat().st_size}"
            arguments.world = root / "world"
        root.mkdir(parents=True, exist_ok=True)
        if arguments.raster is not None and not arguments.world.is_dir():
            child(build_world, arguments.raster.absolute(), arguments.world)
        yield root


def machine() -> None:
    """What it was measured on."""
    print(f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}")


def show(result: Figures) -> None:
    """A table for people."""
    print(
        f"{result['sites']:,} sites, {result['pairs']:,} pairs: wall {result['wall_s']} s, CPU {result['cpu_s']} s, "
        f"peak {result['peak_rss_mb']} MB, read {result['bytes_read'] / 1e6:.1f} MB, "
        f"wrote {result['bytes_written'] / 1e6:.1f} MB"
    )
    print(f"  (warm, measured apart and not in these sums: {', '.join(result['warm'])})")
    for state, row in result["states"].items():
        print(f"  {figures(state, row)}  {row['bytes_out'] / 1e6:10.1f} MB")
        for name, part in row["parts"].items():
            print(f"    {figures(name, part)}")
    sys.stdout.flush()


def figures(name: str, row: Mapping[str, float]) -> str:
    """Name, wall and CPU."""
    return f"{name:16} wall {row['wall_s']:8.3f} s  CPU {row['cpu_s']:8.3f} s"


if __name__ == "__main__":
    main()
