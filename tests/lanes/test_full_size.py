"""The default workload at its full size: some 128,000 sites on the real Earth, the same whoever makes them how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import full_size
import pytest
from faulty_filesystem import UnsyncedFileSystem
from full_size import EXECUTORS, SEED, facts_of, run_seed
from lane_cases import Certified, linked

from seg1b.lanes import seed_tasks
from seg1b.lanes.world_stage import WorldStage
from seg1b.states import shard
from seg1b.store.store import Store

pytestmark = pytest.mark.end_to_end

PLACED = ("s4", "s5", "s6", "s7", "s8", "s9")


@pytest.fixture(scope="module")
def expected(default_certification: Certified) -> dict[str, Any]:
    """As the certification made it: this process's threads, one task after the other, packaged sizes."""
    entries = default_certification.result.certificate["seeds"]
    run_id = next(entry["run_id"] for entry in entries if entry["seed"] == SEED)
    with Store.open(default_certification.root, create=False) as store:
        keys = store.receipts.load(run_id).keys
        return facts_of(store, {state: keys[state.lower()] for state in ("S4", "S5", "S6", "S8", "S9")})


@pytest.fixture
def root(default_certification: Certified, tmp_path: Path) -> Path:
    """A store with the world and the catalogue, and nothing placed."""
    Store.open(tmp_path / "runs").close()
    for state in (default_certification.root / "objects").iterdir():
        if state.name not in PLACED:
            linked(state, tmp_path / "runs" / "objects" / state.name)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("executor", "shard_sites", "block_sites", "shards"),
    [("serial", 10**9, 10_000, 1), ("threads", 5_000, 700, 26), ("threads", 40_000, 1 << 20, 4)],
)
def test_executors_shards_and_blocks_change_nothing(
    expected: dict[str, Any], world_stage: WorldStage, root: Path, monkeypatch: pytest.MonkeyPatch,
    executor: str, shard_sites: int, block_sites: int, shards: int,
) -> None:  # fmt: skip
    """One shard or 26, whole countries or blocks of 700 sites: the same rows, diagnostics and verdict."""
    monkeypatch.setattr(shard, "BLOCK_SITES", block_sites)
    monkeypatch.setattr(seed_tasks, "BLOCK_SITES", block_sites)
    with Store.open(root, fs=UnsyncedFileSystem()) as store:
        found, cut = run_seed(store, world_stage, EXECUTORS[executor](), shard_sites)
    assert found == expected
    assert cut == shards


@pytest.mark.parametrize(
    ("threads", "executor", "shard_sites", "block_sites"),
    [(1, "serial", 40_000, 1 << 20), (2, "threads", 20_000, 3_000), (4, "threads", 10**9, 1 << 20)],
)
def test_the_number_of_threads_changes_nothing(
    expected: dict[str, Any], root: Path, threads: int, executor: str, shard_sites: int, block_sites: int
) -> None:
    """In processes of their own, for numba, BLAS, OpenMP and polars alike."""
    names = ("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, full_size.__file__, str(root), str(shard_sites), str(block_sites), executor],
        env={**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["threads"] == threads
    assert found["facts"] == expected
