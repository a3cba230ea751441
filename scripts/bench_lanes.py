"""Measure what a user of the lanes waits for: whole processes, start included, on a warm store.

    python scripts/bench_lanes.py [--repeat 5] [--only CASE ...] [--policies 100] [--json]

A store is warmed with one candidate, then every case runs `--repeat` times; a candidate has another value of its knob
each time, so that nothing of it is there yet. `start` is `seg1b --help`, which computes nothing: on a machine that
others use too, compare the rest with it. Bytecode is written and read as users have it, whatever this process's
environment says of it. Printed are minimum, median and maximum of wall seconds, and the median of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq

Case = Callable[["Bench", int], None]


class Bench:
    """A scratch folder with a warm store, a bundle, its catalogue as files, and folders of policies."""

    def __init__(self, scratch: Path, policies: int) -> None:
        self.scratch, self.wall_s, self.cpu_s = scratch, 0.0, 0.0
        self.seg1b("tune", "--set", "s6.max_attempts=63")
        self.seg1b("catalogue", "synth", "--seed", 42, "--out", "bundle")
        self._write_catalogues()
        self.policies = self._write_policies(policies)

    def seg1b(self, *arguments: object, stored: bool = True) -> None:
        """Run a command with `--json` and keep its times. Raises SystemExit with what it said if it fails."""
        command = [sys.executable, "-m", "seg1b", *map(str, arguments), *(("--json",) if stored else ())]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            command, cwd=self.scratch, env=environment, capture_output=True, text=True, check=False
        )
        self.wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        self.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def candidate(self, knob: str, value: float) -> None:
        """Time one candidate in a wave of its own."""
        self.seg1b("wave", "drop")
        self.seg1b("tune", "--set", f"{knob}={value}")

    def _write_catalogues(self) -> None:
        """`outlets.parquet`, a row per outlet, and `counts.csv`, a row per merchant and country."""
        files = sorted(self.scratch.glob("bundle/data/layer1/1A/outlet_catalogue/**/*.parquet"))
        outlets = ds.dataset([str(file) for file in files]).to_table(
            columns=["merchant_id", "legal_country_iso", "site_order"]
        )
        pq.write_table(outlets, self.scratch / "outlets.parquet")
        counts = outlets.group_by(["merchant_id", "legal_country_iso"], use_threads=False).aggregate(
            [("site_order", "count")]
        )
        with (self.scratch / "counts.csv").open("w", encoding="utf-8") as file:
            file.write("merchant_id,country,n_sites\n")
            for row in counts.to_pylist():
                file.write(f"{row['merchant_id']},{row['legal_country_iso']},{row['site_order_count']}\n")

    def _write_policies(self, count: int) -> list[Path]:
        """Folders with one policy file that no other folder has; the others are the packaged ones."""
        self.seg1b("config", "write", "packaged")
        name = "policy/s2.country_shares.yaml"
        text = (self.scratch / "packaged" / name).read_text(encoding="utf-8")
        folders = []
        for number in range(count):
            folders.append(self.scratch / "policies" / f"{number:03d}")
            changed = text.replace("gini_max: 0.55", f"gini_max: {0.5 + number / 2000:.4f}")
            assert changed != text
            (folders[-1] / name).parent.mkdir(parents=True)
            (folders[-1] / name).write_text(changed, encoding="utf-8")
        return folders


CASES: dict[str, Case] = {
    "start": lambda bench, _: bench.seg1b("--help", stored=False),
    "status": lambda bench, _: bench.seg1b("status"),
    "screen counts": lambda bench, _: bench.seg1b("screen", "counts.csv"),
    "screen outlets": lambda bench, _: bench.seg1b("screen", "outlets.parquet"),
    "screen policies": lambda bench, _: bench.seg1b("screen", *bench.policies),
    "guard": lambda bench, _: bench.seg1b("guard", "bundle", "--authority", "bundle"),
    "tune thresholds": lambda bench, run: bench.candidate("gates.top1_share.b", 0.099 - run / 10_000),
    "tune S6": lambda bench, run: bench.candidate("s6.component_weights.sparse_tail", 0.19 - run / 1000),
    "tune S4": lambda bench, run: bench.candidate("s4.dispersed_ppm", 3990 - run),
}


def measure(bench: Bench, case: Case, repeat: int) -> dict[str, Any]:
    """Times of one case in seconds."""
    walls, cpus = [], []
    for run in range(repeat):
        case(bench, run)
        walls.append(bench.wall_s)
        cpus.append(bench.cpu_s)
    return {
        "wall_s": [round(value, 2) for value in (min(walls), statistics.median(walls), max(walls))],
        "cpu_s": round(statistics.median(cpus), 2),
    }


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=tuple(CASES), default=tuple(CASES), metavar="CASE")
    parser.add_argument("--policies", type=int, default=100, help="folders that are screened at once")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), arguments.policies)
        found = {name: measure(bench, CASES[name], arguments.repeat) for name in arguments.only}
    machine = {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
    }
    if arguments.json:
        print(json.dumps({"machine": machine, "policies": arguments.policies, "cases": found}, indent=2))
        return
    print(f"{machine}, {arguments.policies} policies; wall min / median / max, CPU median")
    for name, row in found.items():
        print(f"{name:<16} {' / '.join(f'{value:5.2f}' for value in row['wall_s'])} s {row['cpu_s']:6.2f} s")


if __name__ == "__main__":
    main()
