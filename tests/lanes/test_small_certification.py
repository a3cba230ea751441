"""What a certification is, and that nothing but its identity decides what is in it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lane_cases import (
    SMALL,
    WIDE,
    Certified,
    digests,
    facts,
    linked,
    one_seed,
    run_small,
    small_policies,
    world_only,
)

from seg1b.lanes import certify as certify_module
from seg1b.lanes import seed_tasks
from seg1b.lanes.executor import DirectRetention, SerialExecutor
from seg1b.lanes.shards import plan_shards
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies, policy_digests
from seg1b.scoring.measure import tally
from seg1b.scoring.score import score_tally
from seg1b.scoring.sites import make_sites
from seg1b.states import s8_egress
from seg1b.states.plan import BY_NAME
from seg1b.store.filesystem import FileSystem
from seg1b.store.retention import Plan
from seg1b.store.store import Store
from seg1b.world.content import World

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/vectors/golden_states.json"


S9_DOCUMENTS = {"gates.json", "evidence.json", "rng_accounting.json", "s9_summary.json", "egress_checksums.json",
                "measured.json", "replay.json"}  # fmt: skip
"""Those of S9 that state no hash of policies."""


def _measured_too(store: Store, keys: Mapping[str, str]) -> dict[str, str]:
    """Keys of S9's bundle and of what it rests on."""
    return {"s9": keys["s9"], **store.manifest("s9", keys["s9"]).inputs}


def golden_of(small: Certified) -> dict[str, Any]:
    """What every state of seed 42 put out, by state, next to the state's revision."""
    entry = next(entry for entry in small.result.certificate["seeds"] if entry["seed"] == 42)
    with Store.open(small.root, create=False) as store:
        run_id = entry["run_id"]
        keys = store.receipts.load(run_id).keys
        tables = {
            name: {
                table: item.logical_digest
                for table, item in sorted(store.manifest(name.lower(), keys[name.lower()]).tables.items())
            }
            for name in ("S1", "S2w", "S2s", "S3", "S4", "S5", "S6", "S8")
        }
        catalogue = store.manifest("cat", keys["cat"]).facts["catalogue_digest"]
        tables |= {
            name: {
                document: digest
                for document, digest in sorted(
                    store.manifest(name.lower(), keys[name.lower()]).documents.items()
                )
                if not document.startswith("bundle/")  # CAT's, with versions of whoever wrote the files
            }
            for name in ("S0w", "S0c", "S7")
        }
        documents = {
            Path(document).name: digest
            for state in ("s9", "s9m", "s9r")
            for document, digest in sorted(
                store.manifest(state, _measured_too(store, keys)[state]).documents.items()
            )
            if Path(document).name in S9_DOCUMENTS
        }
        assert set(documents) == S9_DOCUMENTS
        for name in ("S0c", "S7"):
            found = store.manifest(name.lower(), keys[name.lower()]).tables
            tables[name] |= {table: item.logical_digest for table, item in sorted(found.items())}
    output: dict[str, Any] = {
        **tables,
        "CAT": {"catalogue": catalogue},
        "S9": {
            "status": entry["status"],
            "checks": [check["name"] for check in entry["checks"]],
            "metrics": entry["metrics"],
            "documents": documents,
        },
    }
    return {name: {"revision": BY_NAME[name].revision, "output": output[name]} for name in sorted(output)}


@pytest.mark.parametrize("block_sites", [5, 37, 1 << 20])
def test_published_sites_are_tallied_alike_in_blocks_of_any_size(
    small: Certified, world_stage: WorldStage, block_sites: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read block by block, cut inside pairs, or as one table: the same columns and the same facts."""
    monkeypatch.setattr(seed_tasks, "BLOCK_SITES", block_sites)
    iso, context = world_stage.world.iso, world_stage.context
    entry = next(entry for entry in small.result.certificate["seeds"] if entry["seed"] == 42)
    with Store.open(small.root, create=False) as store:
        key = store.receipts.load(entry["run_id"]).keys["s8"]
        told = seed_tasks.read_tally(store, context, world_stage.world.grid, {"S8": key}, 42)
        reader = store.open_table("s8", key, s8_egress.TABLE)
        table = reader.read()
    lon, lat = (table.column(name).to_numpy() for name in ("lon_deg", "lat_deg"))
    country = [iso.index(str(code)) for code, rows in reader.partition_rows for _ in range(rows)]
    merchant, order = (table.column(name).to_numpy() for name in ("merchant_id", "site_order"))
    tile = world_stage.world.grid.tile_of(lon, lat)
    whole = tally(make_sites(merchant, country, order, lon, lat, tile), 42, context)
    assert len(told.lon_deg) == entry["metrics"]["site_count"] > 7000
    for name in ("lon_deg", "lat_deg"):
        assert getattr(told, name).tobytes() == getattr(whole, name).tobytes()
    assert told.surfaces[0].pit.tobytes() == whole.surfaces[0].pit.tobytes()
    assert (len(told.pair_sites) > len(whole.pair_sites)) == (block_sites < 100)
    scores = [score_tally(each, 42, context, {}).facts() for each in (told, whole)]
    assert scores[0] == scores[1]


def test_no_state_changed_its_output_without_a_new_revision(small: Certified) -> None:
    """Golden digests of a small run; SEG1B_UPDATE_GOLDEN=1 records them anew."""
    found = golden_of(small)
    assert set(found) == set(BY_NAME), "every state has a golden output"
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    silent = [
        name
        for name, state in found.items()
        if name in golden
        and golden[name]["revision"] == state["revision"]
        and golden[name]["output"] != state["output"]
    ]
    if os.environ.get("SEG1B_UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return
    assert silent == [], (
        f"{', '.join(silent)} put out something else under the same code revision: stores would mix old and new "
        "outputs under one key. Give the first of them a new revision in seg1b/states/plan.py, then run this test "
        "with SEG1B_UPDATE_GOLDEN=1. (A state after it changes because its input did: its key follows by itself.)"
    )
    assert found == golden, "a revision is new: run this test with SEG1B_UPDATE_GOLDEN=1 to record its output"


# -- the folder ----------------------------------------------------------------------------------------------------


def test_the_folder_is_complete_and_times_are_apart(small: Certified) -> None:
    """Egress, plan, tiles, points, catalogue, validation, policies, world, report; no time in any fact."""
    path = small.result.path
    for seed in (42, 7):
        root = path / "seeds" / str(seed)
        assert {p.name for p in root.iterdir()} == {
            "site_locations", "s4_alloc_plan", "s5_site_tile_assignment", "s6_site_jitter", "catalogue", "validation",
        }  # fmt: skip
    assert {p.name for p in path.iterdir()} >= {
        "certificate.json", "files.json", "_passed.flag", "telemetry.json", "config", "report", "seeds",
        "ATTRIBUTION.txt",
    }  # fmt: skip
    text = (path / "certificate.json").read_text()
    assert "wall_s" not in text
    assert "cpu_s" not in text
    telemetry = json.loads((path / "telemetry.json").read_bytes())
    assert telemetry["wall_s"] > 0.0
    assert set(telemetry["seeds"]["42"]["states"]) >= {"S3", "S4", "S5", "S6", "S8", "S7", "S9"}
    assert path.name == small.result.certificate["cert_id"]
    assert not any(p.is_symlink() for p in path.rglob("*"))


def test_certifying_the_same_again_finds_the_same(
    small: Certified, real_world: World, tmp_path: Path, quick: None
) -> None:
    """Nothing is placed again, the certificate keeps its first run ids, and only a receipt is new."""
    root = linked(small.root, tmp_path / "runs")
    before = set((root / "objects").rglob("*"))
    again = run_small(root, real_world, small.policies)
    assert again.found
    assert again.certificate == small.result.certificate
    assert set((root / "objects").rglob("*")) == before
    assert all(seed["reused"] == ["CAT", "S0c", "S3"] for seed in again.telemetry["seeds"].values())
    assert len(list((root / "runs").iterdir())) == 4


class Recorder(DirectRetention):
    """Notes how many of the newest runs are kept."""

    kept: ClassVar[list[int]] = []

    def prune(
        self,
        *,
        dry_run: bool = True,
        keep_newest_runs: int = 0,
        keep_runs: Iterable[str] = (),
        at_most_bytes: int | None = None,
    ) -> Plan:
        """As usual."""
        self.kept.append(keep_newest_runs)
        return super().prune(
            dry_run=dry_run,
            keep_newest_runs=keep_newest_runs,
            keep_runs=keep_runs,
            at_most_bytes=at_most_bytes,
        )


def test_what_the_store_keeps_is_a_policy_and_decides_nothing(
    small: Certified, real_world: World, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another cap the same certificate is found, which neither states nor publishes it."""
    monkeypatch.setattr(SerialExecutor, "retention", lambda _, store: Recorder(store))
    root = linked(small.root, tmp_path / "runs")
    again = run_small(root, real_world, small_policies(retention__keep_newest_runs=3))
    assert set(Recorder.kept) == {3}
    assert again.found
    assert again.certificate == small.result.certificate
    assert not list(again.path.glob("config/retention*"))


def test_only_gates_changed_only_s9_runs(
    small: Certified, real_world: World, tmp_path: Path, quick: None
) -> None:
    """New objects of S9 and of no other state; the digests of all tables stay."""
    root = linked(small.root, tmp_path / "runs")
    before = {p.relative_to(root) for p in (root / "objects").glob("*/*")}
    other = small_policies(gates__hard_gates__top1_share__b=0.295)
    again = run_small(root, real_world, other)
    fresh = {p.relative_to(root) for p in (root / "objects").glob("*/*")} - before
    assert {p.parts[1] for p in fresh} == {"s9"}
    assert len(fresh) == 2
    assert not again.found
    assert digests(again) == digests(small.result)


def test_every_gate_on_a_sample_has_an_interval(small: Certified) -> None:
    """Region floors too; a count of violations has none, for there is nothing to resample."""
    for entry in [*small.result.certificate["seeds"], small.result.certificate["pooled"]]:
        regions = [row for row in entry["gates"] if row["name"].startswith("region_floor.")]
        assert len(regions) == 6
        for row in regions:
            low, high = row["ci95"]
            assert 0.0 <= low < row["observed"] < high <= 1.0
            assert row["ci_method"] == "bca"
        without = {row["name"].split(".")[0] for row in entry["gates"] if row["ci95"] is None}
        assert without == {"collapse_sentinel", "structural"}


def test_pointers_follow_the_grade(small: Certified) -> None:
    """A graded run is the candidate and the last good one; each seed has a receipt with all keys."""
    with Store.open(small.root, create=False) as store:
        first = small.result.certificate["seeds"][0]["run_id"]
        for name in ("current_candidate", "last_good"):
            text = (store.layout.pointers / f"{name}.json").read_text()
            assert first in text
        promoted = [entry for entry in store.ledger.entries() if entry["kind"] == "promoted"]
        assert (promoted[0]["run_id"], promoted[0]["grade"]) == (first, small.result.grade)
        for entry in small.result.certificate["seeds"]:
            receipt = store.receipts.load(entry["run_id"])
            assert set(receipt.keys) == {name.lower() for name in BY_NAME}
            assert all(store.has(state, key) for state, key in receipt.keys.items())
            assert receipt.identity["policy_digests"] == policy_digests(small.policies)


def test_a_run_below_b_gets_no_flag_and_is_not_the_last_good(
    real_world: World, tmp_path: Path, quick: None
) -> None:
    """One seed cannot be graded: the certificate is published, without permission to believe it."""
    result = run_small(tmp_path / "runs", real_world, one_seed())
    assert result.grade == "below_B"
    assert any("fewer than two seeds" in reason for reason in result.certificate["reasons_against_b"])
    assert not (result.path / "_passed.flag").exists()
    assert not (tmp_path / "runs/pointers/last_good.json").exists()
    assert (tmp_path / "runs/pointers/current_candidate.json").exists()


def test_a_seed_that_the_policy_asks_for_and_nobody_ran_rules_a_grade_out(
    real_world: World, tmp_path: Path, quick: None
) -> None:
    """Certifying a subset says so instead of grading it; without seed 42 there is no witness either."""
    result = run_small(tmp_path / "runs", real_world, small_policies(), seeds=(7,))
    reasons = result.certificate["reasons_against_b"]
    assert result.grade == "below_B"
    assert "seed 42: no result" in reasons
    assert "the reproducibility witness was not run" in reasons


# -- determinism ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def alone(real_world: World, world_cache: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Seed 42 alone, undisturbed, in this process."""
    from lane_cases import fast_world

    with fast_world(world_cache):
        return run_small(tmp_path_factory.mktemp("alone") / "runs", real_world, one_seed())


def test_a_seed_does_not_know_which_others_run(alone: Any, small: Certified) -> None:
    """Seed 42 alone and beside seed 7."""
    assert digests(alone)[42] == digests(small.result)[42]


@pytest.mark.parametrize("shard_sites", [500, 10**9])
def test_the_cut_into_shards_changes_no_row(
    alone: Any,
    real_world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: None,
    shard_sites: int,
) -> None:
    """Sixteen shards or one: the same facts, down to the certificate's id."""
    shards: list[int] = []

    def cut(sites: Any) -> Any:
        found = plan_shards(sites, shard_sites)
        shards.append(len(found))
        return found

    monkeypatch.setattr(certify_module, "plan_shards", cut)
    result = run_small(tmp_path / "runs", real_world, one_seed())
    assert shards == [1 if shard_sites > 10**6 else 16]
    assert facts(result) == facts(alone)


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing(alone: Any, small: Certified, tmp_path: Path, threads: int) -> None:
    """A process of its own with so many threads for numba, polars, BLAS and OpenMP."""
    names = (
        "NUMBA_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "ARROW_NUM_THREADS",
    )
    root = world_only(small.root, tmp_path / "runs")
    code = (
        "import json, sys; from pathlib import Path\n"
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT)!r}]\n"
        "from lane_cases import digests, one_seed, run_small\n"
        "from seg1b.world.bundle import load_world\n"
        f"result = run_small(Path({str(root)!r}), load_world(), one_seed())\n"
        "print(json.dumps([digests(result)[42], result.certificate['cert_id']]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONHASHSEED": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [digests(alone)[42], alone.certificate["cert_id"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_workers_change_nothing(
    small: Certified, tmp_path: Path, real_world: World, quick: None, workers: int
) -> None:
    """The same certificate; with two workers at least two processes did the work."""
    pytest.importorskip("ray")
    from cluster.executor import RayExecutor
    from cluster.session import RayOptions

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(ROOT))
    executor = RayExecutor(RayOptions(workers=workers, object_store_bytes=400 << 20))
    try:
        executor.start()
        executor.wait_until_ready()  # else the driver may have done nearly all of this small work by then
        result = run_small(tmp_path / "runs", real_world, small.policies, FileSystem(), executor=executor)
    finally:
        patch.undo()
    assert facts(result) == facts(small.result)
    processes = {name for name in result.telemetry["tasks_per_worker"] if str(os.getpid()) not in name}
    assert len(processes) >= workers, result.telemetry["tasks_per_worker"]
    assert result.telemetry["executor"]["executor"] == "ray"
    assert list((tmp_path / "runs/.staging").iterdir()) == []


def test_the_small_policies_differ_from_the_defaults_in_what_they_say() -> None:
    """Only size, seeds, replicates and gates."""
    small, default = small_policies(), default_policies()
    same = {field.name for field in dataclasses.fields(default) if field.name != "sources"} - {
        "synthesis", "gates", "certification",
    }  # fmt: skip
    assert all(getattr(small, name) == getattr(default, name) for name in same)
    assert set(SMALL) & set(WIDE) == set()
