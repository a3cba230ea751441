"""Interrupted in any way, a certification goes on where it stopped and ends in the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_filesystem import FaultyFileSystem, UnsyncedFileSystem
from lane_cases import Certified, digests, facts, linked, one_seed, run_small, world_only

from seg1b.errors import StoreError
from seg1b.lanes import certificate_folder
from seg1b.lanes import certify as certify_module
from seg1b.lanes.certify import CertifyResult, certify
from seg1b.lanes.executor import Completion, SerialExecutor
from seg1b.lanes.seed_tasks import place_shard
from seg1b.lanes.shards import plan_shards
from seg1b.lanes.tune import tune
from seg1b.states import s4_allocation, s9_validation, shard
from seg1b.store.store import Store
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """About eight shards for a seed."""
    monkeypatch.setattr(certify_module, "plan_shards", lambda sites: plan_shards(sites, 1000))


@pytest.fixture(autouse=True)
def short_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes longer than the rest and is not what these tests are about."""
    monkeypatch.setattr(
        certificate_folder, "write_report", lambda add, *_: add("report/index.html", b"short")
    )


@pytest.fixture(scope="module")
def undisturbed(small: Certified) -> dict[str, str]:
    """Digests of seed 42."""
    return digests(small.result)[42]


class Interruption:
    """Raises at the n-th call of a task function, before or after its work."""

    def __init__(
        self, function: Callable[..., Any], at: int, error: type[BaseException], after: bool
    ) -> None:
        self.function, self.at, self.error, self.after, self.calls = function, at, error, after, 0

    def __call__(self, *arguments: Any) -> Any:
        """Count, work, raise."""
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise self.error("interrupted")
        result = self.function(*arguments)
        if self.calls == self.at:
            raise self.error("interrupted")
        return result


def no_certificate(root: Path) -> bool:
    """Whether nothing final is visible: no certification, no receipt, no pointer, no lease, no temporary folder."""
    names = ("certifications", "runs", "pointers")
    visible = [p for name in names if (root / name).is_dir() for p in (root / name).iterdir()]
    return visible == []


@pytest.mark.parametrize(
    ("task", "at", "error", "after"),
    [
        ("place_shard", 5, KeyboardInterrupt, True),
        ("prepare_seed", 1, KeyboardInterrupt, True),
        ("finish_seed", 1, RuntimeError, False),
        ("finish_seed", 1, KeyboardInterrupt, True),
    ],
)
def test_an_interrupted_run_is_resumed(
    tmp_path: Path, real_world: World, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    task: str, at: int, error: type[BaseException], after: bool,
) -> None:  # fmt: skip
    """Nothing final is visible before; parts are reused after; the digests are those of an undisturbed run."""
    root = tmp_path / "runs"
    interruption = Interruption(getattr(certify_module, task), at, error, after)
    monkeypatch.setattr(certify_module, task, interruption)
    with pytest.raises(error, match="interrupted"):
        run_small(root, real_world, one_seed())
    assert no_certificate(root)
    assert list((root / ".staging").glob("*")) == []
    assert list((root / "leases").glob("*.json")) == [] if (root / "leases").is_dir() else True
    parts = {p: p.stat().st_mtime_ns for p in (root / "objects").glob("*/*/parts/*/*") if p.is_file()}
    counting = Interruption(interruption.function, -1, RuntimeError, False)
    monkeypatch.setattr(certify_module, task, counting)
    result = run_small(root, real_world, one_seed())
    assert digests(result)[42] == undisturbed
    assert {p: p.stat().st_mtime_ns for p in parts} == parts
    if task in ("place_shard", "finish_seed"):
        assert parts
    if task != "prepare_seed":
        assert result.telemetry["seeds"]["42"]["reused"] == ["CAT", "S0c", "S3"]


def test_a_shard_interrupted_between_states_keeps_what_it_published(
    tmp_path: Path, real_world: World, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4 and S5 of the second shard are there, S6 is not: S4 is not drawn again for it."""
    root, honest = tmp_path / "runs", shard._Sink.close
    publishing = Interruption(honest, 4 + 3, KeyboardInterrupt, False)
    monkeypatch.setattr(shard._Sink, "close", lambda sink: publishing(sink))
    with pytest.raises(KeyboardInterrupt):
        certify_without_witness(root, real_world, monkeypatch)
    monkeypatch.setattr(shard._Sink, "close", honest)
    counts = {s: len(list((root / "objects" / s).glob("*/parts/*"))) for s in ("s4", "s5", "s6", "s8")}
    assert counts == {"s4": 2, "s5": 2, "s6": 1, "s8": 1}
    plan = Interruption(s4_allocation.run, -1, RuntimeError, False)
    monkeypatch.setattr("seg1b.states.shard.s4_allocation.run", plan)
    result = certify_without_witness(root, real_world, monkeypatch)
    assert plan.calls == len(result.telemetry["seeds"]["42"]["shards"]) - 2
    assert digests(result)[42] == undisturbed


def certify_without_witness(root: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> CertifyResult:
    """The witness calls the states too; here only shards may."""
    monkeypatch.setattr(certify_module, "witness_seed", lambda *_: {})
    return run_small(root, world, one_seed())


@pytest.mark.parametrize("lost", [("s4",), ("s4", "s5"), ("s4", "s5", "s6"), ("s6", "s7"), ("s8",)])
def test_outputs_that_a_crashed_pruning_took_are_made_again(
    tmp_path: Path, real_world: World, small: Certified, undisturbed: dict[str, str], lost: tuple[str, ...]
) -> None:
    """A pruning removes state by state: a crash in it can leave S8 without what it was made of."""
    root = linked(small.root, tmp_path / "runs")
    for state in lost:
        shutil.rmtree(root / "objects" / state)
    result = run_small(root, real_world, small.policies)
    assert result.found
    assert digests(result)[42] == undisturbed
    with Store.open(root) as store:
        keys = store.receipts.load(result.certificate["seeds"][0]["run_id"]).keys
        assert all(store.has(state, key) for state, key in keys.items())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_full_disk_leaves_nothing_half_visible(
    tmp_path: Path, real_world: World, undisturbed: dict[str, str], operations: int, share: float
) -> None:
    """E_STORE_FULL by name; with space again the run goes on to the same digests."""
    root = tmp_path / "runs"
    full = FaultyFileSystem(max(int(operations * share), 8), "full")
    with pytest.raises(StoreError) as caught, Store.open(root, fs=full) as store:
        certify(store, one_seed(), real_world)
    assert caught.value.code == "E_STORE_FULL"
    assert not (root / "certifications").is_dir() or list((root / "certifications").iterdir()) == []
    result = run_small(root, real_world, one_seed())
    assert digests(result)[42] == undisturbed


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory, real_world: World, world_cache: Any) -> int:
    """How many operations of the file system a whole certification takes."""
    from lane_cases import fast_world

    patch = pytest.MonkeyPatch()
    patch.setattr(certify_module, "plan_shards", lambda sites: plan_shards(sites, 1000))
    counting = FaultyFileSystem()
    try:
        with (
            fast_world(world_cache),
            Store.open(tmp_path_factory.mktemp("count") / "runs", fs=counting) as store,
        ):
            certify(store, one_seed(), real_world)
    finally:
        patch.undo()
    assert counting.operations > 500
    return counting.operations


def test_a_killed_process_is_resumed(
    tmp_path: Path, real_world: World, undisturbed: dict[str, str], small: Certified
) -> None:
    """SIGKILL in the middle of the shards; the next run cleans up after the dead process and goes on."""
    root = world_only(small.root, tmp_path / "runs")
    code = (
        "import sys; from pathlib import Path\n"
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT)!r}]\n"
        "from lane_cases import one_seed, run_small\n"
        "import seg1b.lanes.certify as c\n"
        "from seg1b.lanes.shards import plan_shards\n"
        "c.plan_shards = lambda sites: plan_shards(sites, 300)\n"
        "from seg1b.world.bundle import load_world\n"
        f"run_small(Path({str(root)!r}), load_world(), one_seed())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120.0
    while len(list(root.glob("objects/s6/*/parts/*"))) < 3:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with contextlib.suppress(AttributeError):
        process.stderr.close()  # type: ignore[union-attr]
    assert no_certificate(root)
    result = run_small_with(root, real_world, 300)
    assert digests(result)[42] == undisturbed
    assert list((root / ".staging").glob("*")) == []


def run_small_with(root: Path, world: World, shard_sites: int) -> CertifyResult:
    """The cut must be the dead run's: a part is resumed by its name."""
    patch = pytest.MonkeyPatch()
    patch.setattr(certify_module, "plan_shards", lambda sites: plan_shards(sites, shard_sites))
    try:
        return run_small(root, world, one_seed())
    finally:
        patch.undo()


def test_the_executor_is_closed_and_the_lease_released_on_an_error(
    tmp_path: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure must not keep Ray or a claim on the store."""

    @dataclasses.dataclass
    class Watched(SerialExecutor):
        closed: int = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    def bug(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(certify_module, "place_shard", bug)
    executor = Watched()
    with Store.open(tmp_path / "runs") as store:
        with pytest.raises(ZeroDivisionError):
            certify(store, one_seed(), real_world, executor=executor)
        assert executor.closed == 1
        assert not list(store.layout.leases.glob("*.json"))


def test_while_it_runs_a_certification_holds_the_keys_of_its_seeds(
    tmp_path: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of catalogues that were made on the way: another lane's pruning leaves the parts alone."""
    root, honest, seen = tmp_path / "runs", place_shard, []

    def prune_first(shared: Any, store: Store, policies: Any, identity: Any, shard: Any) -> Any:
        with Store.open(root) as other:
            gone = other.retention.prune(dry_run=True)
        seen.append([item.state for item in gone.collectable if item.kind != "run"])
        return honest(shared, store, policies, identity, shard)

    monkeypatch.setattr(certify_module, "place_shard", prune_first)
    result = run_small(root, real_world, one_seed())
    assert seen
    assert set(map(tuple, seen)) == {()}
    assert facts(result)["seeds"]


class PrunedBetween(SerialExecutor):
    """Another lane prunes after every task, before the driver hears of it."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root, self.removed = root, 0

    def completions(self) -> Iterator[Completion]:
        """As usual, each held up by a pruning that keeps no run for its newness."""
        for completion in super().completions():
            with Store.open(self.root, fs=UnsyncedFileSystem()) as other:
                self.removed += len(other.retention.prune(dry_run=False).collectable)
            yield completion


@pytest.mark.parametrize("lane", ["certify", "tune"])
def test_another_lanes_pruning_takes_nothing_that_a_task_has_just_made(
    real_world: World, tmp_path: Path, undisturbed: dict[str, str], lane: str
) -> None:
    """Keys that follow from the catalogue are known to the task first; they are held all the same."""
    root = tmp_path / "runs"
    executor = PrunedBetween(root)
    if lane == "certify":
        assert digests(run_small(root, real_world, one_seed(), executor=executor))[42] == undisturbed
    else:
        with Store.open(root, fs=UnsyncedFileSystem()) as store:
            tune(store, one_seed(), real_world, seed=42, overrides={"gates.cv.b": 0.29}, executor=executor)
    assert executor.removed == 0
    with Store.open(root, create=False) as store:
        assert not list(store.layout.leases.iterdir())


def test_a_bundle_that_is_there_must_say_what_is_found_now(
    small: Certified, tmp_path: Path, real_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published by damaged files is not what a certification finds; nothing contradictory is published."""
    root = linked(small.root, tmp_path / "runs")
    shutil.rmtree(root / "certifications")
    honest = s9_validation.conclude

    def other(*arguments: Any) -> Any:
        found = honest(*arguments)
        checks = (dataclasses.replace(found.replay.checks[0], differing=1), *found.replay.checks[1:])
        return dataclasses.replace(found, replay=dataclasses.replace(found.replay, checks=checks))

    monkeypatch.setattr(s9_validation, "conclude", other)
    with (
        Store.open(root, fs=UnsyncedFileSystem()) as store,
        pytest.raises(StoreError, match=r"E_STORE_CONFLICT.*validation/_passed\.flag"),
    ):
        certify(store, small.policies, real_world)
    assert not list((root / "certifications").glob("*"))
