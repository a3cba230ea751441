"""Whatever a lane makes or relies on is claimed first: another lane may prune after every step and takes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faulty_filesystem import UnsyncedFileSystem
from lane_cases import Certified, one_seed, run_small, world_only
from tune_cases import candidate, kept, opened, tried

from seg1b.errors import InputError
from seg1b.lanes import baseline, certificate_folder, phase_locks
from seg1b.lanes.executor import SerialExecutor
from seg1b.lanes.integrate import integrate
from seg1b.lanes.lock_phase import lock_phase
from seg1b.lanes.phase_locks import phase_named
from seg1b.lanes.witness import witness
from seg1b.store.locks import Lease, try_lock
from seg1b.store.receipts import Receipts
from seg1b.store.store import Store
from seg1b.world.content import World

pytestmark = pytest.mark.usefixtures("quick")
MILD = {"gates.hard_gates.top1_share.b": 0.295}
"""Judged again: nothing is measured."""

DEFINED = {"gates.bootstrap.replicates": 150}
"""Measured again: nothing is placed."""

PLACED = {"s6.cluster_v3.core_sd_tile": 0.3}


@pytest.fixture(autouse=True)
def short_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes longer than the rest and is not what these tests are about."""
    monkeypatch.setattr(
        certificate_folder, "write_report", lambda add, *_: add("report/index.html", b"short")
    )


def prune(root: Path) -> set[str]:
    """Prune as another process would, unless the store is locked; names of what went."""
    descriptor = try_lock(root / ".lock")
    if descriptor is None:
        return set()
    os.close(descriptor)
    with Store.open(root, fs=UnsyncedFileSystem()) as other:
        return {item.name for item in other.retention.prune(dry_run=False).collectable}


@contextmanager
def pruned_around_every_publication(root: Path) -> Iterator[set[str]]:
    """Another lane prunes before and after every output and receipt of the block; yields what it removed."""
    removed: set[str] = set()
    patch = pytest.MonkeyPatch()
    transaction = Store.transaction

    @contextmanager
    def published(store: Store, *arguments: Any, **named: Any) -> Iterator[Any]:
        with transaction(store, *arguments, **named) as publication:
            yield publication
            removed.update(prune(root) if store.root == root else ())
        removed.update(prune(root) if store.root == root else ())

    def followed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(owner: Any, *arguments: Any, **named: Any) -> Any:
            result = method(owner, *arguments, **named)
            removed.update(prune(root) if owner._layout.root == root else ())
            return result

        return call

    patch.setattr(Store, "transaction", published)
    patch.setattr(Store, "commit", followed(Store.commit))
    patch.setattr(Receipts, "publish", followed(Receipts.publish))
    try:
        yield removed
    finally:
        patch.undo()


def require_whole(root: Path) -> None:
    """Every output has what it was made from, and every run its outputs."""
    with opened(root) as store:
        there = {path.name for path in store.layout.objects.glob("*/*")}
        bundles = list(store.layout.objects.glob("s9/*"))
        assert bundles
        for path in bundles:
            assert set(store.manifest("s9", path.name).inputs.values()) <= there
        for run_id in store.receipts.run_ids():
            keys = store.receipts.load(run_id).keys
            assert {
                key for state, key in keys.items() if state in ("s3", "s4", "s5", "s6", "s7", "s8", "s9")
            } <= there


def test_a_certification_loses_nothing(tmp_path: Path, real_world: World) -> None:
    """What S9 rests on is there when S9 is; receipts are there when a pointer and a pack name them."""
    root = tmp_path / "runs"
    with pruned_around_every_publication(root) as removed:
        run_small(root, real_world, one_seed())
    assert removed == set()
    require_whole(root)
    assert prune(root) == set()


@pytest.mark.parametrize("overrides", [MILD, DEFINED, PLACED], ids=["judged", "measured", "placed"])
def test_a_candidate_and_its_reference_lose_nothing(
    tmp_path: Path, real_world: World, overrides: dict[str, Any]
) -> None:
    """In an empty store, where no key of the seed is known before its catalogue is made."""
    root = tmp_path / "runs"
    with pruned_around_every_publication(root) as removed:
        candidate(root, real_world, overrides, executor=SerialExecutor())
    assert removed == set()
    require_whole(root)


@pytest.mark.parametrize("overrides", [MILD, DEFINED], ids=["judged", "measured"])
def test_findings_that_nothing_but_the_lease_names_are_relied_on(
    tmp_path: Path, real_world: World, overrides: dict[str, Any]
) -> None:
    """The replay and the measurement are there, S9's bundles of them are not: they are used, and stay."""
    root = tmp_path / "runs"
    run_id = tried(root, real_world, MILD).run_id
    with opened(root) as store:
        key = store.receipts.load(run_id).keys["s9"]
        rested_on = set(store.manifest("s9", key).inputs.values())
        for path in list(store.layout.objects.glob("s9/*")):
            store.remove("s9", path.name)
    with pruned_around_every_publication(root) as removed:
        found = candidate(root, real_world, overrides, executor=SerialExecutor())
    assert found.reran == ("S9",)
    assert removed == {run_id}
    assert rested_on
    require_whole(root)


@pytest.fixture(scope="module")
def root(small: Certified, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all that follows, with the world's states."""
    return world_only(small.root, tmp_path_factory.mktemp("held") / "runs")


def test_the_artifacts_of_a_baseline_are_held_before_its_pointer_names_them(
    root: Path, real_world: World
) -> None:
    """As is the run."""
    run_id = kept(root, real_world, MILD)
    with opened(root) as store, pruned_around_every_publication(root):
        record = baseline.pin(store, run_id, real_world, one_seed().gates)
        assert store.has("p0", record["artifacts"])


def test_the_receipt_of_a_witness_is_held_until_its_times_are_written(root: Path, real_world: World) -> None:
    """It is published first."""
    run_id = kept(root, real_world, MILD)
    with opened(root) as store, pruned_around_every_publication(root):
        made = witness(store, one_seed(**{name.replace(".", "__"): value for name, value in MILD.items()}),
                       real_world, run_id).run_id  # fmt: skip
    assert made


def _lock(store: Store, run_id: str, world: World) -> None:
    lock_phase(store, phase_named("P3"), run_id, world)


def _integrate(store: Store, run_id: str, _: World) -> None:
    integrate(store, one_seed(), run_id)


def _pin(store: Store, run_id: str, world: World) -> None:
    baseline.pin(store, run_id, world, one_seed().gates)


def _against(store: Store, run_id: str, world: World) -> None:
    candidate(store.root, world, {"gates.hard_gates.top1_share.b": 0.296}, against=run_id)


def _witness(store: Store, run_id: str, world: World) -> None:
    witness(store, one_seed(s6__cluster_v3__core_sd_tile=0.3), world, run_id)


@pytest.mark.parametrize("command", [_lock, _integrate, _pin, _against, _witness])
def test_a_run_that_is_pruned_before_it_is_claimed_is_not_relied_on(
    root: Path,
    real_world: World,
    command: Callable[[Store, str, World], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command says that it is gone, and no record names it."""
    run_id = tried(root, real_world, PLACED).run_id
    lease, exclusive = Store.lease, Store.exclusive

    def claimed(store: Store, *arguments: Any) -> Lease:
        prune(root)
        return lease(store, *arguments)

    def entered(store: Store, *arguments: Any) -> Any:
        prune(root)
        return exclusive(store, *arguments)

    with opened(root) as store:
        phase = store.phases.find("P4")
        pointer = store.pointers.get("baseline_authority")
        with monkeypatch.context() as patch:
            patch.setattr(Store, "lease", claimed)
            patch.setattr(Store, "exclusive", entered)
            with pytest.raises(InputError, match=r"E_RUN_PRUNED|E_STORE_UNKNOWN_ID|E_WITNESS_PRUNED"):
                command(store, run_id, real_world)
        assert run_id not in store.receipts.run_ids()
        assert "P3" not in phase_locks.locked(store)
        assert store.phases.find("P4") == phase
        assert store.pointers.get("baseline_authority") == pointer
        assert not list(store.layout.leases.iterdir())
