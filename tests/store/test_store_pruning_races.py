"""What happens between any two steps of a pruning: publications that do not wait for it, leases, errors, crashes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from faulty_filesystem import FaultyFileSystem, PowerCutError, UnsyncedFileSystem
from store_cases import key, open_store

from seg1b.errors import StoreError
from seg1b.store.locks import Lease
from seg1b.store.receipts import Receipt
from seg1b.store.store import Store

RUN = "a" * 32
_WATCHED: list[Callable[[], None]] = []


def _watch(event: str, _: tuple[Any, ...]) -> None:
    if _WATCHED and event in ("open", "os.listdir", "os.scandir", "os.rename"):
        watcher = _WATCHED.pop()  # what it does itself is not watched
        watcher()
        _WATCHED.append(watcher)


sys.addaudithook(_watch)  # cannot be removed; without a watcher it does nothing


@contextmanager
def interrupted(at: int, action: Callable[[], None]) -> Iterator[list[int]]:
    """Run `action` before the `at`-th look at the disk of the block; yields a list with the number of looks so far."""
    looks = [0]

    def count() -> None:
        looks[0] += 1
        if looks[0] == at:
            action()

    _WATCHED.append(count)
    try:
        yield looks
    finally:
        _WATCHED.remove(count)


def publish(store: Store, name: str, *inputs: str) -> None:
    """Publish an output made from others."""
    with store.transaction("s4", key(name), {f"i{at}": key(made) for at, made in enumerate(inputs)}) as out:
        out.facts["name"] = name


def publish_part(store: Store, name: str) -> None:
    """Publish a part."""
    with store.part("s4", key(name), "p") as part:
        part.facts["name"] = name


def require_whole(store: Store) -> None:
    """No output without what it was made from, no receipt without what it names."""
    folders = store.layout.objects.glob("*/*")
    there = {path.name for path in folders}
    for path in store.layout.objects.glob("*/*/manifest.json"):
        manifest = store.manifest(path.parts[-3], path.parts[-2])
        assert set(manifest.inputs.values()) <= there, path
    for run_id in store.receipts.run_ids():
        assert set(store.receipts.load(run_id).keys.values()) <= there, run_id


def garbage(store: Store) -> None:
    """Things that nobody holds, some made from others."""
    publish(store, "old-a")
    publish(store, "old-b", "old-a")
    publish(store, "old-c", "old-b", "old-a")
    publish_part(store, "old-p")
    store.receipts.publish(Receipt(RUN, {}, {"s4": key("old-c")}))


def _part(store: Store) -> None:
    publish_part(store, "new")


def _second_part(store: Store) -> None:
    with store.part("s4", key("half"), "q") as part:
        part.facts["name"] = "q"


def _whole(store: Store) -> None:
    publish(store, "new")


def _made_from_another(store: Store) -> None:
    publish(store, "rested on")
    publish(store, "new", "rested on")


def _completed(store: Store) -> None:
    store.commit("s4", key("half"), inputs={"i": key("rested on")})


def _pack(store: Store) -> None:
    publish(store, "new")
    with store.certifications.publish("c" * 64) as folder:
        folder.add_json("telemetry.json", {"keys": [key("new")]})


@pytest.mark.parametrize("action", [_part, _second_part, _whole, _made_from_another, _completed, _pack])
def test_what_a_lease_claims_may_be_published_at_any_moment_of_a_pruning(
    tmp_path: Path, action: Callable[[Store], None]
) -> None:
    """Wherever a publication falls, its output is there afterwards, whole; and all that nobody claims is gone."""
    at, looks = 0, 1
    while at < looks:
        at += 1
        store = open_store(tmp_path / str(at), UnsyncedFileSystem())
        garbage(store)
        publish_part(store, "half")
        claimed = {"half", "new", "rested on"}
        lease = store.lease("certify")
        lease.hold(keys=[key(name) for name in claimed])
        if action is _completed:
            publish(store, "rested on")
        with interrupted(at, lambda opened=store: action(opened)) as seen:  # type: ignore[misc]
            done = store.retention.prune(dry_run=False)
        looks = seen[0]
        assert {item.name for item in done.collectable} == {
            RUN,
            *map(key, ("old-a", "old-b", "old-c", "old-p")),
        }
        there = {path.name for path in store.layout.objects.glob("*/*")}
        assert there <= set(map(key, claimed))
        assert key("half") in there
        if action in (_part, _whole, _pack, _made_from_another):
            assert key("new") in there, at
        assert set(store.parts("s4", key("half"))) >= ({"p", "q"} if action is _second_part else {"p"})
        require_whole(store)
        store.close()
    assert looks > 10


class Between(UnsyncedFileSystem):
    """Does something before the n-th removal of a pruning."""

    def __init__(self) -> None:
        self.countdown = 0
        self.action: Callable[[], None] = lambda: None

    def rename_directory(self, source: Path, target: Path) -> None:
        """Count what is taken out of sight."""
        if ".staging" in target.parts:
            self.countdown -= 1
            if self.countdown == 0:
                self.action()
        super().rename_directory(source, target)


@pytest.mark.parametrize("name", ["old-a", "old-b", "old-c"])
@pytest.mark.parametrize("removal", [1, 2, 3, 4])
def test_a_lease_that_comes_between_plan_and_removal_protects(
    tmp_path: Path, removal: int, name: str
) -> None:
    """As on a file system that does not show one machine's lock to another. What is found after the claim stays.

    The removal that is under way goes on; so a claim on it comes too late, and `has` says so afterwards.
    """
    fs = Between()
    store = open_store(tmp_path / "runs", fs)
    garbage(store)
    lease = store.lease("tune")
    found: list[bool] = []

    def claim() -> None:
        assert store.widen_lease(lease.record.lease_id, [key(name)])
        found.append(store.has("s4", key(name)))

    fs.countdown, fs.action = removal, claim
    done = store.retention.prune(dry_run=False)
    going = [RUN, "old-c", "old-b", "old-a"][removal - 1] if removal < 4 else ""
    assert store.has("s4", key(name)) == (found == [True] and name != going)
    require_whole(store)
    kept = [item for item in done.live if item.name == key(name)]
    assert [item.held_by for item in kept] == ([("lease of tune",)] if store.has("s4", key(name)) else [])
    assert {item.name for item in done.collectable}.isdisjoint(item.name for item in done.live)
    lease.release()
    store.retention.prune(dry_run=False)
    assert not list(store.layout.objects.glob("*/*"))


def test_a_lease_that_comes_back_to_life_is_not_removed(tmp_path: Path) -> None:
    """Its driver slept longer than its time to live, and wakes up while it is pruned."""
    fs, now = Between(), [1000.0]
    store = Store.open(tmp_path / "runs", fs=fs, clock=lambda: now[0])
    garbage(store)
    lease = store.lease("tune", ttl_s=10.0)
    lease.hold(keys=[key("old-b")], run_ids=[])
    now[0] += 60.0
    fs.countdown, fs.action = 1, lease.heartbeat
    store.retention.prune(dry_run=False)
    assert store.has("s4", key("old-b"))
    assert [item.name for item in store.retention.plan().live if item.kind == "lease"] == [
        lease.record.lease_id
    ]
    require_whole(store)


@pytest.mark.parametrize("fault", ["error", "cut_kept"])
def test_a_pruning_that_stops_anywhere_leaves_no_output_without_what_it_rests_on(
    tmp_path: Path, fault: Any
) -> None:
    """What names another goes before it, whatever their names are."""
    at, failed = 0, True
    while failed:
        at += 1
        root = tmp_path / str(at)
        with open_store(root, UnsyncedFileSystem()) as store:
            garbage(store)
        store = open_store(root, FaultyFileSystem(at, fault))
        try:
            store.retention.prune(dry_run=False)
            failed = False
        except (StoreError, PowerCutError):
            pass
        require_whole(open_store(root, UnsyncedFileSystem()))
    assert at > 5


def test_damaged_garbage_goes_too(tmp_path: Path) -> None:
    """What it was made from cannot be read, and need not be."""
    store = open_store(tmp_path / "runs", UnsyncedFileSystem())
    garbage(store)
    path = store.layout.object("s4", key("old-c")) / "manifest.json"
    path.chmod(0o644)
    path.write_text("{")
    store.retention.prune(dry_run=False)
    assert not list(store.layout.objects.glob("*/*"))


def test_a_lease_that_is_released_while_it_is_listed_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only store nobody can be kept out while one looks."""
    store = open_store(tmp_path / "runs", UnsyncedFileSystem())
    garbage(store)
    lease: Lease = store.lease("tune")

    def refuse(*_: Any) -> NoReturn:
        raise StoreError("E_STORE_READ_ONLY", "locking the store failed")

    glob = Path.glob

    def listed(folder: Path, pattern: str) -> list[Path]:
        found = sorted(glob(folder, pattern))
        if folder == store.layout.leases and found:
            found[0].unlink()
        return found

    monkeypatch.setattr(store._lock, "hold", refuse)
    monkeypatch.setattr(Path, "glob", listed)
    plan = store.retention.plan()
    assert not [item for item in plan.live if lease.record.lease_id in item.name]
    assert len(plan.collectable) == 5


def test_who_looks_keeps_pruning_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan is of one moment: what it reads cannot be removed by another process meanwhile."""
    store = open_store(tmp_path / "runs", UnsyncedFileSystem())
    garbage(store)
    other = open_store(tmp_path / "runs", UnsyncedFileSystem())
    newest = store.receipts.newest_first

    def disturbed() -> tuple[str, ...]:
        with pytest.raises(StoreError, match="E_STORE_LOCKED"), other._lock.hold("prune", timeout_s=0.1):
            pass
        return newest()

    monkeypatch.setattr(store.receipts, "newest_first", disturbed)
    assert len(store.retention.plan(keep_newest_runs=1).live) == 4


class Stopping(UnsyncedFileSystem):
    """Raises `error` at the n-th call of one operation, counted from when it is told to."""

    def __init__(self) -> None:
        self.name, self.countdown = "", 0
        self.error: BaseException = OSError(errno.EIO, os.strerror(errno.EIO))

    def _step(self, name: str) -> None:
        if name == self.name:
            self.countdown -= 1
            if self.countdown == 0:
                raise self.error

    def remove_tree(self, path: Path) -> None:
        """Remove."""
        self._step("remove_tree")
        super().remove_tree(path)

    def rename_directory(self, source: Path, target: Path) -> None:
        """Rename."""
        self._step("rename_directory")
        super().rename_directory(source, target)

    def sync_directory(self, path: Path) -> None:
        """Do nothing."""
        self._step("sync_directory")


def noted(store: Store) -> list[str]:
    """Runs that the ledger says were pruned."""
    return [
        run["run_id"]
        for entry in store.ledger.entries()
        if entry["kind"] == "pruned"
        for run in entry["runs"]
    ]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt(), PowerCutError()])
@pytest.mark.parametrize(
    ("operation", "at"), [("remove_tree", 1), ("remove_tree", 3), ("rename_directory", 2)]
)
def test_a_pruned_run_is_noted_whatever_befalls_the_rest(
    tmp_path: Path, operation: str, at: int, error: BaseException
) -> None:
    """The ledger knows what a run was as soon as it is out of sight."""
    fs = Stopping()
    store = open_store(tmp_path / "runs", fs)
    garbage(store)
    fs.name, fs.countdown, fs.error = operation, at, error
    with pytest.raises((StoreError, KeyboardInterrupt, PowerCutError)):
        store.retention.prune(dry_run=False)
    assert store.receipts.run_ids() == ()
    assert noted(store) == [RUN]
    store.retention.prune(dry_run=False)
    assert noted(store) == [RUN]


@pytest.mark.parametrize(("operation", "at", "gone"), [("rename_directory", 2, 1), ("sync_directory", 2, 2)])
def test_of_runs_those_are_noted_that_went_before_an_error(
    tmp_path: Path, operation: str, at: int, gone: int
) -> None:
    """Neither more nor fewer, also where the rename was done and only its way to the disk failed."""
    fs = Stopping()
    store = open_store(tmp_path / "runs", fs)
    runs = [f"{number:032x}" for number in range(4)]
    for run_id in runs:
        store.receipts.publish(Receipt(run_id, {"seed": 42}, {}))
    fs.name, fs.countdown = operation, at
    with pytest.raises(StoreError, match="E_STORE_IO"):
        store.retention.prune(dry_run=False)
    assert noted(store) == runs[:gone]
    assert list(store.receipts.run_ids()) == runs[gone:]


class Full(UnsyncedFileSystem):
    """Nothing can be appended before something was removed (or ever)."""

    def __init__(self, *, for_ever: bool) -> None:
        self.full, self._for_ever = False, for_ever

    def append(self, path: Path, data: bytes) -> None:
        """Append, if there is room."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().append(path, data)

    def remove_tree(self, path: Path) -> None:
        """Make room."""
        super().remove_tree(path)
        self.full = self.full and self._for_ever


@pytest.mark.parametrize("for_ever", [False, True])
def test_a_full_disk_is_pruned_and_then_noted(tmp_path: Path, for_ever: bool) -> None:
    """Pruning makes the room that the note needs; if there is none even then, the failure is told."""
    fs = Full(for_ever=for_ever)
    store = open_store(tmp_path / "runs", fs)
    garbage(store)
    fs.full = True
    if for_ever:
        with pytest.raises(StoreError, match="E_STORE_FULL"):
            store.retention.prune(dry_run=False)
    else:
        store.retention.prune(dry_run=False)
    assert noted(store) == ([] if for_ever else [RUN])
    assert not list(store.layout.objects.glob("*/*"))
    left = set(store.layout.staging.iterdir())
    assert left == {store._staging.session(), store._staging.session().with_suffix(".lock")}
    assert not list(store._staging.session().iterdir())
