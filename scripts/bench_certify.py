"""Measure a whole certification: wall time, CPU time and memory of all its processes, cold and warm.

Cold: an empty store and an empty JIT cache. Warm: JIT and the world (S0 to S2) cached, S3 to S9 absent. Memory is the
largest sum of proportional set sizes (PSS) over the process tree, sampled twice a second in a warm run of its own:
asking for it takes a tenth of the machine.

    python scripts/bench_certify.py [--executor ray|serial] [--repeat 3] [--json]
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
from pathlib import Path

WORLD_STATES = ("s0w", "s1", "s2w", "s2s")


def process_tree(root: int) -> list[int]:
    """Process ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        process = queue.pop()
        found.append(process)
        queue += children.get(process, [])
    return found


def pss_mb(processes: list[int]) -> float:
    """Sum of the proportional set sizes in MB; processes that are gone count nothing."""
    total_kb = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total_kb += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total_kb / 1024


def measure(store: Path, executor: str, jit_cache: Path, *, memory: bool = False) -> dict[str, float | str]:
    """One certification in a process of its own: its times, or its memory."""
    command = [
        sys.executable,
        "-m",
        "seg1b",
        "certify",
        "--runs",
        str(store),
        "--executor",
        executor,
        "--json",
    ]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(jit_cache)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    peak_mb = 0.0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, env=environment)
        while memory and process.poll() is None:
            peak_mb = max(peak_mb, pss_mb(process_tree(process.pid)))
            time.sleep(0.5)
        process.wait()
        wall_s = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        output.seek(0)
        document = json.loads(output.read())
    if memory:
        return {"grade": str(document["grade"]), "peak_pss_mb": round(peak_mb)}
    return {
        "grade": str(document["grade"]),
        "wall_s": round(wall_s, 2),
        "driver_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
    }


def forget_seeds(store: Path) -> None:
    """Leave only the world in a store."""
    for entry in (store / "objects").iterdir():
        if entry.name not in WORLD_STATES:
            shutil.rmtree(entry)
    for name in ("certifications", "runs", "pointers"):
        shutil.rmtree(store / name, ignore_errors=True)


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executor", choices=("ray", "serial"), default="ray")
    parser.add_argument("--repeat", type=int, default=3, help="warm runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store, jit_cache = Path(scratch) / "runs", Path(scratch) / "jit"
        cold = measure(store, arguments.executor, jit_cache)
        warm = []
        for _ in range(arguments.repeat):
            forget_seeds(store)
            warm.append(measure(store, arguments.executor, jit_cache))
        forget_seeds(store)
        memory = measure(store, arguments.executor, jit_cache, memory=True)
    result = {
        "executor": arguments.executor,
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
        "cold": cold,
        "warm": warm,
        "memory": memory,
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['machine']}, executor {arguments.executor}")
    for name, row in [("cold", cold), *(("warm", row) for row in warm), ("memory", memory)]:
        figures = ", ".join(f"{key} {value}" for key, value in row.items())
        print(f"{name}: {figures}")


if __name__ == "__main__":
    main()
