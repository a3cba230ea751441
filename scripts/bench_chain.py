"""Measure one seed's whole chain, S0 to S9, at any size: wall and CPU seconds, memory and bytes per state.

The catalogue is made for the purpose: the market's country shares, `--pairs` pairs of merchant and country, and sizes
that fall off like a power of their rank. It is written as a 1A bundle before the clock starts. World, JIT and S0w to S2
are warm; S0c to S9 are not. What S0w to S2 cost when they are made stands beside them (`world_made`).

    python scripts/bench_chain.py --sites 1000000 [--pairs 100000] [--seed 42] [--resolution 30] [--raster FILE]
                                  [--json]

With `--raster`, the world is the embedded polygons with that GeoTIFF's people (`scripts/make_dense_raster.py`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Returned = TypeVar("Returned")

SITES_PER_PAIR = 102_340 / 12_204
"""Sites per pair of the workload that the first engine was measured with."""

STATE_FOLDERS = ("s0c", "s3", "s4", "s5", "s6", "s7", "s8", "s9")


def pair_sizes(sites: int, pairs: int) -> npt.NDArray[np.int64]:
    """Sizes of `pairs` pairs that sum to `sites`, at least 1 each, largest first, falling off like rank ** -0.8."""
    shape = np.arange(1, pairs + 1, dtype=np.float64) ** -0.8
    sizes: npt.NDArray[np.int64] = 1 + np.floor(shape / shape.sum() * (sites - pairs)).astype(np.int64)
    sizes = np.minimum(sizes, 999_999)
    lacking = sites - int(sizes.sum())
    whole, rest = divmod(lacking, pairs)
    sizes += whole
    sizes[:rest] += 1
    return sizes


def write_catalogue(root: Path, sites: int, pairs: int, world: Any, shares: Any) -> None:
    """A 1A bundle with so many sites and pairs, countries in proportion to the governed shares."""
    from seg1b.catalogue.bundle import write_user_catalogue
    from seg1b.catalogue.outlets import from_pairs

    iso = world.countries.iso
    ppm = np.where(np.asarray(world.countries.eligible), shares.share_ppm, 0)
    served = np.flatnonzero(ppm)
    quota = np.maximum(1, sites * ppm[served] // ppm[served].sum())
    quota[np.argmax(quota)] += sites - int(quota.sum())
    counts = np.maximum(1, np.minimum(quota, pairs * quota // sites))
    merchant, country, size = [], [], []
    for c, n, p in zip(served.tolist(), quota.tolist(), counts.tolist(), strict=True):
        merchant.append(np.arange(1, p + 1, dtype=np.uint64))
        country.append(np.full(p, c, np.int16))
        size.append(pair_sizes(n, p))
    columns = np.concatenate(merchant), np.concatenate(country), np.concatenate(size).astype(np.int32)
    home = columns[1].copy()
    order = np.lexsort((columns[1], columns[0]))
    ids = columns[0][order]
    first = np.r_[True, ids[1:] != ids[:-1]]
    home[order] = columns[1][order][first][np.cumsum(first) - 1]
    write_user_catalogue(root, from_pairs(iso, *columns, home))


class Reading:
    """Bytes that this process and its children read and wrote (Linux: /proc/self/io)."""

    def __init__(self) -> None:
        self.path = Path("/proc/self/io")

    def now(self) -> tuple[int, int]:
        """(read, written)."""
        try:
            fields = dict(line.split(": ") for line in self.path.read_text().splitlines())
        except OSError:
            return 0, 0
        return int(fields["rchar"]), int(fields["wchar"])


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run_chain(runs: Path, bundle: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The chain itself, in a process of its own so that its peak memory is its own."""
    from seg1b.lanes.certificate import seed_hashes
    from seg1b.lanes.executor import Task, ThreadExecutor
    from seg1b.lanes.seed_tasks import STAGE, check_shard, finish_seed, place_shard, prepare_seed
    from seg1b.lanes.shards import plan_shards
    from seg1b.lanes.warm_up import placing, validating
    from seg1b.lanes.world_stage import run_world
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    placing()
    validating()
    with Store.open(runs) as store:
        stage = run_world(store, policies, world)
        shared = {STAGE: stage}
        states: dict[str, dict[str, float]] = {}
        io = Reading()
        wall, cpu, moved = time.perf_counter(), cpu_s(), io.now()
        preparation = prepare_seed(shared, store, policies, arguments.seed, bundle)
        add(states, preparation.times.seconds)
        shards = {shard.name: shard for shard in plan_shards(preparation.sites_per_country)}
        executor = ThreadExecutor(shared)
        for name, shard in shards.items():
            shard_arguments = (store, policies, preparation.identity, shard)
            executor.submit(Task(("place", name), place_shard, shard_arguments, float(shard.sites)))
        checks = {}
        for done in executor.completions():
            kind, name = done.task.key
            if kind == "check":
                checks[name] = done.receipt.replay
                add(states, done.receipt.times.seconds)
                continue
            add(states, done.receipt.seconds)
            checking = (store, policies, preparation.identity, shards[name])
            executor.submit(Task(("check", name), check_shard, checking, float(shards[name].sites)))
        hashes = seed_hashes(policies, world.digest, preparation.facts)
        names = tuple(sorted(shards))
        replays = tuple(checks[name] for name in names)
        finish = finish_seed(shared, store, policies, preparation.identity, hashes, names, replays)
        add(states, finish.times.seconds)
        read, written = (after - before for after, before in zip(io.now(), moved, strict=True))
        found: dict[str, dict[str, float]] = {}
        for name, times in states.items():
            folder = runs / "objects" / name.lower()
            found[name] = {**rounded(times), "bytes_out": folder_bytes(folder) if folder.is_dir() else 0}
        return {
            "sites": int(preparation.sites_per_country.sum()),
            "pairs": int(preparation.requirements["pairs"]),
            "wall_s": round(time.perf_counter() - wall, 3),
            "cpu_s": round(cpu_s() - cpu, 3),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "bytes_read": read,
            "bytes_written": written,
            "passed": finish.passed,
            "logical_digests": finish.logical_digests,
            "world": {name: rounded(times) for name, times in stage.times.seconds.items()},
            "states": found,
        }


def rounded(times: dict[str, float]) -> dict[str, float]:
    """To the millisecond."""
    return {name: round(value, 3) for name, value in times.items()}


def add(states: dict[str, dict[str, float]], more: dict[str, dict[str, float]]) -> None:
    """Add up times by state."""
    for state, times in more.items():
        entry = states.setdefault(state, {})
        for name, value in times.items():
            entry[name] = entry.get(name, 0.0) + value


def cpu_s() -> float:
    """User and system seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


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


def prepare(runs: Path, bundle: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the world's outputs, which says what they cost, and write the catalogue; in a process of its own."""
    from seg1b.lanes.world_stage import run_world
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    with Store.open(runs) as store:
        stage = run_world(store, policies, world)
    made: dict[str, Any] = {name: rounded(times) for name, times in stage.times.seconds.items()}
    made["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    write_catalogue(bundle, arguments.sites, arguments.pairs, world, stage.shares)
    return made


def child(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call a function in a fresh process and return its result."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One size."""
    if arguments.keep is not None:
        root, temporary = arguments.keep, None
        root.mkdir(parents=True, exist_ok=True)
    else:
        temporary = tempfile.TemporaryDirectory()
        root = Path(temporary.name)
    try:
        if arguments.raster is not None:
            root = root / f"{arguments.raster.stem}-{arguments.raster.stat().st_size}"
            arguments.world = root / "world"
            if not arguments.world.is_dir():
                child(build_world, arguments.raster.absolute(), arguments.world)
        runs, bundle = root / "runs", root / f"bundle-{arguments.sites}-{arguments.pairs}"
        made = {}
        if not bundle.is_dir():
            made = child(prepare, runs, bundle, arguments)
        for name in STATE_FOLDERS:
            shutil.rmtree(runs / "objects" / name, ignore_errors=True)
        return child(run_chain, runs, bundle, arguments) | {"world_made": made}
    finally:
        if temporary is not None:
            temporary.cleanup()


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    arguments = parser.parse_args()
    results = []
    asked = arguments.pairs
    for sites in arguments.sites:
        arguments.sites = sites
        arguments.pairs = asked or max(1, round(sites / SITES_PER_PAIR))
        results.append(measure(arguments))
        if not arguments.json:
            show(results[-1])
    if arguments.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print(f"{result['sites']:,} sites, {result['pairs']:,} pairs: wall {result['wall_s']} s, CPU {result['cpu_s']} s, "
          f"peak {result['peak_rss_mb']} MB; {os.cpu_count()} CPUs, {platform.machine()}, "
          f"Python {platform.python_version()}")  # fmt: skip
    for name, row in result["states"].items():
        print(
            f"  {name:4} wall {row['wall_s']:8.3f} s  CPU {row['cpu_s']:8.3f} s  {row['bytes_out'] / 1e6:10.1f} MB"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
