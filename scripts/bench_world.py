"""Measure the world half of a run, state by state: wall time, CPU time, memory, and what is published.

Every row is measured in a process of its own, after imports, after numba has started and after the world is read
(the first row says what those cost), with a warm JIT cache. CPU is user and system time of all threads; memory is the
process's highest resident set. The best of `--repeat` runs counts for the times, the worst for memory.

    python scripts/bench_world.py [--resolution 30] [--raster FILE] [--only NAME]... [--repeat 3] [--json]

With `--raster`, a user's world is built of the embedded polygons and that GeoTIFF (`scripts/make_dense_raster.py` makes
one), and everything is measured on it. At another resolution than 30 arc-seconds only S0w and S1 are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "numba", "pyarrow", "rasterio")
STATES = ("S0w", "S1", "S2w", "S2s")
CASES = ("start", "S0w", "S1", "S1 read", "S2w", "S2w read", "S2s", "model", "cold store", "warm store")
Row = dict[str, float]


def cpu_s() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mb() -> float:
    """Highest resident set of this process in MB; `ru_maxrss` would count the parent's before exec too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measured(work: Callable[[], Path | None]) -> Row:
    """One row: what `work` costs, and the size of the folder that it returns."""
    wall, cpu = time.perf_counter(), cpu_s()
    folder = work()
    row = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_s() - cpu, "peak_mb": peak_mb()}
    return row | {"bytes_out": 0 if folder is None else bytes_below(folder)}


def child(case: str, resolution: int, world_folder: Path | None, raster: Path | None, scratch: Path) -> Row:
    """Measure one case in this process; the store in `scratch` holds what the case reads."""
    if case == "build world":
        from seg1b.world.custom import build_user_world

        shutil.rmtree(scratch / "world", ignore_errors=True)

        def build() -> None:
            build_user_world(None, raster, scratch / "world")

        return measured(build)

    def start() -> None:
        from seg1b.kernels.hilbert import hilbert_distance
        from seg1b.lanes import world_stage  # noqa: F401
        from seg1b.world.bundle import load_world

        hilbert_distance(1, 1, 1)
        load_world(world_folder)

    started = measured(start)
    if case == "start":
        return started
    from seg1b.lanes import world_stage as lane
    from seg1b.lanes.identity import world_keys
    from seg1b.policy.load import default_policies, set_values
    from seg1b.states import s0_gate, s1_tile_index, s2_shares, s2_weights
    from seg1b.states.shard import StageTimes
    from seg1b.store.store import Store
    from seg1b.world.bundle import load_world
    from seg1b.world.tile_index import TileIndex

    world = load_world(world_folder)
    policies = set_values(default_policies(), {"s1.resolution_arcsec": resolution})
    keys = world_keys(policies, world)
    countries = len(world.countries)
    with Store.open(scratch / "runs") as full, tempfile.TemporaryDirectory(dir=scratch) as folder:
        new = Store.open(Path(folder))

        def index() -> TileIndex:
            return s1_tile_index.load(full, keys["S1"], countries)

        if case in ("cold store", "warm store"):
            store = new if case == "cold store" else full

            def stage() -> Path:
                lane.run_world(store, policies, world)
                return store.root / "objects"

            return measured(stage)
        if case == "S0w":
            work: Callable[[], object] = lambda: s0_gate.seal_world(new, keys["S0w"], world)  # noqa: E731
        elif case == "S1":
            work = lambda: s1_tile_index.run(new, keys["S1"], world, policies.tile_index)  # noqa: E731
        elif case == "S1 read":
            work = index
        elif case == "S2w":
            spans = index()
            work = lambda: s2_weights.run_weights(  # noqa: E731
                new, keys["S2w"], world, spans, policies.tile_weights
            )
        else:
            spans = index()
            if case == "S2w read":
                work = lambda: s2_weights.load_weights(full, keys["S2w"], spans)  # noqa: E731
            else:
                surface, weights = s2_weights.load_weights(full, keys["S2w"], spans)
                if case == "S2s":
                    work = lambda: s2_shares.run(  # noqa: E731
                        new, keys["S2s"], world, spans, surface, policies.country_shares
                    )
                else:
                    shares = s2_shares.load(full, keys["S2s"])
                    times = StageTimes()
                    work = lambda: lane.compose(  # noqa: E731
                        world, policies, spans, surface, weights, shares, keys, (), times
                    )

        def run() -> Path:
            work()
            return new.root / "objects"

        row = measured(run)
        new.close()
        return row


def in_process(case: str, arguments: argparse.Namespace, world: Path | None, scratch: Path) -> Row:
    """A case in a fresh process."""
    command = [sys.executable, __file__, "--child", case, "--scratch", str(scratch)]
    command += ["--resolution", str(arguments.resolution)]
    command += [] if world is None else ["--world", str(world)]
    command += [] if arguments.raster is None else ["--raster", str(arguments.raster)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    packages = {package: version(package) for package in PACKAGES}
    return {"cpus": os.cpu_count(), "processor": name, "python": platform.python_version(), **packages}


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resolution", type=int, default=30, help="arc-seconds")
    parser.add_argument("--raster", type=Path)
    parser.add_argument("--only", action="append", help="a row's name")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        given = arguments.resolution, arguments.world, arguments.raster, arguments.scratch
        print(json.dumps(child(arguments.child, *given)))
        return
    cases = CASES if arguments.resolution == 30 else ("start", "S0w", "S1", "S1 read")
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch, world = Path(folder), None
        if arguments.raster is not None:
            rows["build world"] = in_process("build world", arguments, None, scratch)
            world = scratch / "world"
        for case in prepare(cases, arguments, world, scratch):
            found = [in_process(case, arguments, world, scratch) for _ in range(arguments.repeat)]
            rows[case] = {name: min(row[name] for row in found) for name in found[0]}
            rows[case]["peak_mb"] = max(row["peak_mb"] for row in found)
    rounded = {
        case: {name: int(value) if name == "bytes_out" else round(value, 3) for name, value in row.items()}
        for case, row in rows.items()
    }
    result = {"machine": machine(), "resolution_arcsec": arguments.resolution, "rows": rounded}
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{arguments.resolution} arc-seconds, best of {arguments.repeat}")
    print(f"{'':<12} {'wall_s':>8} {'cpu_s':>8} {'peak_mb':>8} {'bytes_out':>12}")
    for case, row in rounded.items():
        figures = (
            f"{row['wall_s']:>8.3f} {row['cpu_s']:>8.3f} {row['peak_mb']:>8.0f} {row['bytes_out']:>12,.0f}"
        )
        print(f"{case:<12} {figures}")


def prepare(
    cases: tuple[str, ...], arguments: argparse.Namespace, world: Path | None, scratch: Path
) -> list[str]:
    """Fill the store that cases read and the JIT cache; the cases to measure."""
    from seg1b.lanes.identity import world_keys
    from seg1b.lanes.world_stage import run_world
    from seg1b.policy.load import default_policies, set_values
    from seg1b.states import s1_tile_index
    from seg1b.store.store import Store
    from seg1b.world.bundle import load_world

    policies = set_values(default_policies(), {"s1.resolution_arcsec": arguments.resolution})
    content = load_world(world)
    with Store.open(scratch / "runs") as store:
        if arguments.resolution == 30:
            run_world(store, policies, content)
        else:
            s1_tile_index.run(store, world_keys(policies, content)["S1"], content, policies.tile_index)
    if arguments.resolution == 30:
        in_process(
            "warm store", arguments, world, scratch
        )  # arrays read from a store are other types for the JIT
    return [case for case in cases if not arguments.only or case in arguments.only]


if __name__ == "__main__":
    main()
