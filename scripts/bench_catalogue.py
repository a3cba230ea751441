"""Measure the catalogue's side of a seed at any size: write a bundle, S0c, S3, the sealed pairs again, and S7.

Each step runs in a process of its own, so that its CPU seconds and its peak of memory above what was there before are
its own. The bundle is `bench_chain`'s: the market's country shares, and sizes that fall off like a power of their rank.
S7 joins made-up S5 and S6 tables of the required keys, written while no clock runs.

    python scripts/bench_catalogue.py --sites 10000000 [--pairs 1200000] [--keep DIR] [--json]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bench_chain import inputs
from bench_common import child, cpu_s, default_pairs, folder_bytes, write_catalogue

PAIRS_AT_A_TIME = 10_000
CATALOGUE_KEY, REQUIREMENTS_KEY, JOIN_KEY = "c" * 64, "3" * 64, "7" * 64
KEYS = {"S0c": CATALOGUE_KEY, "S5": "5" * 64, "S6": "6" * 64}


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measured(function: Callable[[], Any]) -> dict[str, float]:
    """CPU seconds of a call, and its peak of memory above what the process held before (Linux with glibc).

    What the world's making has freed is given back first, or the call would hide in it.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before_mb, before_s = memory_mb("VmRSS"), cpu_s()
    function()
    return {
        "cpu_s": round(cpu_s() - before_s, 2),
        "peak_mb": round(max(memory_mb("VmHWM") - before_mb, 0.0), 1),
    }


def step(name: str, root: Path, bundle: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One step, on what the steps before it left in the store."""
    from seg1b.catalogue.verify import verify_bundle
    from seg1b.lanes.world_stage import run_world
    from seg1b.states import s0_gate, s3_requirements, s7_synthesis
    from seg1b.store.store import Store

    policies, world = inputs(arguments)
    with Store.open(root / "runs") as store:
        stage = run_world(store, policies, world)
        iso = world.countries.iso
        if name == "write":
            return measured(
                lambda: write_catalogue(bundle, arguments.sites, arguments.pairs, world, stage.shares)
            )
        if name == "S0c":
            return measured(lambda: s0_gate.seal_catalogue(store, CATALOGUE_KEY, verify_bundle(bundle)))
        if name == "S3":
            tiles = stage.world.index.tiles
            shares, policy = stage.shares, policies.requirements
            return measured(
                lambda: s3_requirements.run(
                    store, REQUIREMENTS_KEY, CATALOGUE_KEY, world.countries, tiles, shares, policy
                )
            )
        if name == "sealed pairs":
            return measured(lambda: s0_gate.read_sealed_catalogue(store, CATALOGUE_KEY, iso))
        pairs = s3_requirements.load(store, REQUIREMENTS_KEY, iso)
        write_placement(store, iso, pairs)
        return measured(lambda: s7_synthesis.run(store, JOIN_KEY, iso, pairs, KEYS))


def write_placement(store: Any, iso: tuple[str, ...], pairs: Any) -> None:
    """S5 and S6 with the keys of the required sites, all in one tile."""
    from seg1b.states.tables import (
        ASSIGNMENT_SCHEMA,
        ASSIGNMENT_TABLE,
        COUNTRY,
        JITTER_TABLE,
        SITE_KEY,
        Pairs,
        assignment_to_arrow,
    )

    for state, table in (("S5", ASSIGNMENT_TABLE), ("S6", JITTER_TABLE)):
        with (
            store.transaction(state.lower(), KEYS[state]) as out,
            out.table_writer(
                table, ASSIGNMENT_SCHEMA, partition_column=COUNTRY, sorted_by=SITE_KEY
            ) as writer,
        ):
            for country, rows in pairs.countries():
                for first in range(rows.start, rows.stop, PAIRS_AT_A_TIME):
                    part = slice(first, min(first + PAIRS_AT_A_TIME, rows.stop))
                    some = Pairs(pairs.country[part], pairs.merchant_id[part], pairs.n_sites[part])
                    tile_id = np.zeros(int(some.n_sites.sum()), np.int64)
                    writer.append(iso[country], assignment_to_arrow(iso, some, tile_id))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All steps of one size."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) if arguments.keep is None else arguments.keep
        root.mkdir(parents=True, exist_ok=True)
        bundle = root / f"bundle-{arguments.sites}-{arguments.pairs}"
        for state in ("s0c", "s3", "s5", "s6", "s7"):
            shutil.rmtree(root / "runs" / "objects" / state, ignore_errors=True)
        names = ["S0c", "S3", "sealed pairs", "S7"]
        if not bundle.is_dir():
            names.insert(0, "write")
        return {
            "sites": arguments.sites,
            "pairs": arguments.pairs,
            "steps": {name: child(step, name, root, bundle, arguments) for name in names},
            "bundle_bytes": folder_bytes(bundle),
        }


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, help="default: the first engine's sites per pair")
    parser.add_argument("--resolution", type=int, default=30, help="edge of a tile in arc-seconds")
    parser.add_argument("--world", type=Path, help="a world of your own (`seg1b world build`)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep store and bundle there and use them again"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.pairs = arguments.pairs or default_pairs(arguments.sites)
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"{result['sites']:,} sites, {result['pairs']:,} pairs, bundle of {result['bundle_bytes'] / 1e6:.1f} MB"
    )
    for name, row in result["steps"].items():
        print(f"  {name:13} CPU {row['cpu_s']:7.2f} s  peak +{row['peak_mb']:7.1f} MB")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
