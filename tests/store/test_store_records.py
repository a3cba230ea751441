"""Receipts, pointers, locks, leases, the ledger and certification packs."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest
from faulty_filesystem import UnsyncedFileSystem
from store_cases import key, open_store

from seg1b.errors import ContractError, InputError, StoreError
from seg1b.store.receipts import Receipt, new_run_id
from seg1b.store.store import Store

RUN = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one run."""
    store = open_store(tmp_path / "runs", UnsyncedFileSystem())
    store.receipts.publish(Receipt(RUN, {"seed": 42}, {"s4": key("s4")}))
    return store


def test_a_receipt_is_read_back_and_written_once(store: Store) -> None:
    """The same receipt again is fine; another under its id is not."""
    receipt = Receipt(RUN, {"seed": 42}, {"s4": key("s4")})
    assert store.receipts.load(RUN) == receipt
    store.receipts.publish(receipt)
    with pytest.raises(StoreError, match="E_STORE_CONFLICT"):
        store.receipts.publish(Receipt(RUN, {"seed": 43}, {"s4": key("s4")}))


def test_telemetry_may_change_and_is_no_part_of_the_receipt(store: Store) -> None:
    """Clocks live apart from facts."""
    assert store.receipts.telemetry(RUN) == {}
    store.receipts.write_telemetry(RUN, {"wall_s": 1.0})
    store.receipts.write_telemetry(RUN, {"wall_s": 2.0})
    assert store.receipts.telemetry(RUN) == {"wall_s": 2.0}
    with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
        store.receipts.write_telemetry(OTHER, {})


def test_a_mistyped_run_is_an_error_with_a_suggestion(store: Store) -> None:
    """One wrong digit suggests the right id; a unique prefix is enough; a short one is not."""
    with pytest.raises(InputError, match=f"did you mean {RUN}"):
        store.receipts.load(RUN[:-1] + "0")
    assert store.receipts.resolve(RUN[:6]) == RUN
    for text in (RUN[:5], "", "ffffff", "../../x"):
        with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
            store.receipts.resolve(text)


def test_run_ids_are_random_and_malformed_ones_are_refused() -> None:
    """32 hex digits, never the same twice."""
    assert len({new_run_id() for _ in range(100)}) == 100
    with pytest.raises(ContractError):
        Receipt("x", {}, {})
    with pytest.raises(ContractError):
        Receipt(RUN, {}, {"s4": "short"})


def test_a_pointer_names_a_run_that_exists(store: Store) -> None:
    """Unknown pointers and unknown runs are errors; setting again replaces."""
    assert store.pointers.get("last_good") is None
    store.pointers.set("last_good", RUN, {"grade": "B"})
    assert store.pointers.get("last_good") == RUN
    assert store.pointers.read("last_good")["grade"] == "B"
    with pytest.raises(InputError, match="did you mean last_good"):
        store.pointers.set("last_god", RUN)
    with pytest.raises(InputError, match="there is no run"):
        store.pointers.set("last_good", OTHER)
    assert store.pointers.get("last_good") == RUN


def test_records_are_listed_replaced_and_removed(store: Store) -> None:
    """Phase locks and waves; an unknown name suggests a known one."""
    store.phase_locks.write("P2", {"run_id": RUN})
    store.phase_locks.write("P2", {"run_id": RUN, "note": 1})
    assert store.phase_locks.names() == ("p2",)
    assert store.phase_locks.read("P2")["note"] == 1
    with pytest.raises(InputError, match="known: p2"):
        store.phase_locks.read("P3")
    store.phase_locks.remove("P2")
    assert store.phase_locks.find("P2") is None


def test_the_ledger_drops_a_torn_line_and_keeps_the_rest(store: Store) -> None:
    """A crash in the middle of an append costs that entry only."""
    store.ledger.append({"n": 1})
    with store.layout.ledger.open("ab") as file:
        file.write(b'{"n": 2, "half')
    assert store.ledger.entries() == [{"n": 1}]
    store.ledger.append({"n": 3})
    assert store.ledger.entries() == [{"n": 1}, {"n": 3}]
    store.layout.ledger.write_bytes(b'{"n": 1}\nnonsense\n')
    with pytest.raises(StoreError, match="line 2"):
        store.ledger.entries()


def test_a_certification_is_published_once(store: Store) -> None:
    """The same files again are fine, whatever their telemetry; other files name both digests."""
    for wall_s in (1, 2):
        with store.certifications.publish("c" * 64) as folder:
            folder.add_json("certificate.json", {"grade": "B"})
            folder.add_json("telemetry.json", {"wall_s": wall_s})
    assert store.certifications.read_json("c" * 64, "telemetry.json") == {"wall_s": 1}
    with (
        pytest.raises(StoreError, match="E_STORE_CONFLICT"),
        store.certifications.publish("c" * 64) as folder,
    ):
        folder.add_json("certificate.json", {"grade": "B+"})
    with pytest.raises(StoreError, match="now nothing"), store.certifications.publish("c" * 64) as folder:
        folder.add_json("telemetry.json", {})
    assert store.certifications.ids() == ("c" * 64,)
    assert store.certifications.has("c" * 64)


def test_a_certification_goes_by_its_full_name_only(store: Store) -> None:
    """A prefix finds a pack, but does not remove it."""
    with store.certifications.publish("c" * 64) as folder:
        folder.add_json("certificate.json", {})
    for text in ("c" * 8, "d" * 64):
        with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
            store.certifications.remove(text)
    store.certifications.remove("c" * 64)
    assert store.certifications.ids() == ()


def _hold_lock(root: Path, ready: object, seconds: float) -> None:
    with open_store(root) as store, store.exclusive("a long prune"):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(seconds)


def test_the_lock_excludes_other_processes_and_goes_with_its_owner(store: Store) -> None:
    """The error names the owner; a killed owner leaves no lock behind."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_lock, args=(store.root, ready, 60.0))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(StoreError, match="a long prune") as error, store.exclusive("set", timeout_s=0.2):
            pass
        assert error.value.code == "E_STORE_LOCKED"
        assert str(process.pid) in error.value.message
    finally:
        process.kill()
        process.join()
    with store.exclusive("set", timeout_s=5), store.exclusive("again"):
        store.pointers.set("last_good", RUN)


def test_a_lease_lives_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    """An expired lease holds nothing; a released one is gone."""
    now = [1000.0]
    store = Store.open(tmp_path / "runs", fs=UnsyncedFileSystem(), clock=lambda: now[0])
    with store.transaction("s4", key("s4")) as publication:
        publication.facts["a"] = 1
    with store.lease("certify", ttl_s=10) as lease:
        lease.hold(keys=[key("s4")])
        assert [item.held_by for item in store.retention.plan().live if item.kind == "object"] == [
            ("lease of certify",)
        ]
        now[0] += 11
        assert store.retention.plan().live == ()
        lease.heartbeat()
        assert len(store.retention.prune(dry_run=False).collectable) == 0
    assert list(store.layout.leases.iterdir()) == []
    assert [item.kind for item in store.retention.plan().collectable] == ["object"]


def test_the_background_heartbeat_renews_the_lease(tmp_path: Path) -> None:
    """Without it the record would stay as it was."""
    store = Store.open(tmp_path / "runs", fs=UnsyncedFileSystem())
    with store.lease("certify", ttl_s=0.2) as lease:
        first = lease.record.heartbeat_unix_s
        lease.start_heartbeat()
        deadline = time.monotonic() + 10
        while lease.record.heartbeat_unix_s == first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert lease.record.heartbeat_unix_s > first


LONG = "x" * (1 << 18)


@pytest.mark.parametrize("torn", ["", '{"n": 2, "half', '{"long": "' + LONG])
@pytest.mark.parametrize("whole", ["", '{"n": 1}\n', f'{{"long": "{LONG}"}}\n{{"n": 1}}\n'])
def test_a_torn_line_goes_however_long_it_is(store: Store, whole: str, torn: str) -> None:
    """And the whole ones before it stay."""
    store.layout.ledger.write_text(whole + torn)
    store.ledger.append({"n": 3})
    assert store.layout.ledger.read_text() == whole + '{"n":3}\n'


@pytest.mark.parametrize("torn", ["", '{"n": 2, "half'])
def test_the_ledger_is_not_read_to_append_to_it(store: Store, torn: str) -> None:
    """However long it has grown."""
    with store.layout.ledger.open("wb") as file:
        file.truncate(1 << 25)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + torn.encode())
    tracemalloc.start()
    try:
        store.ledger.append({"n": 3})
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20
    with store.layout.ledger.open("rb") as file:
        file.seek(1 << 25)
        assert file.read() == b'\n{"n":3}\n'


def _copied(store: Store, to: Path) -> Store:
    """A copy of a store in which every file has the same time."""
    shutil.copytree(store.root, to)
    for path in to.rglob("*"):
        os.utime(path, (1000.0, 1000.0))
    return open_store(to, UnsyncedFileSystem())


def test_a_copied_store_has_the_order_and_the_times_of_the_runs(store: Store, tmp_path: Path) -> None:
    """They do not depend on the files' times."""
    runs = (RUN, OTHER, "5" * 32, "0" * 32)
    for run_id in runs[1:]:
        store.receipts.publish(Receipt(run_id, {}, {}))
    assert store.receipts.newest_first() == runs[::-1]
    copy = _copied(store, tmp_path / "copy")
    assert copy.receipts.newest_first() == runs[::-1]
    assert [copy.receipts.published_ns(run) for run in runs] == [
        store.receipts.published_ns(run) for run in runs
    ]
    kept = copy.retention.prune(dry_run=False, keep_newest_runs=1)
    assert [item.name for item in kept.live] == ["0" * 32]
    assert [path.name for path in copy.layout.runs.iterdir()] == ["0" * 32]


def test_a_time_of_publication_is_written_once_and_not_into_the_receipt(store: Store) -> None:
    """The same receipt again changes nothing, and of a run of an earlier version the file's time counts."""
    folder = store.layout.runs / RUN
    published = (folder / "published.json").read_bytes()
    (at,) = json.loads(published).values()
    told_ns = store.receipts.published_ns(RUN)
    assert datetime.datetime.fromisoformat(at).timestamp() == pytest.approx(told_ns / 1e9, abs=1e-6)
    assert abs(time.time() - told_ns / 1e9) < 600
    assert b"at" not in (folder / "receipt.json").read_bytes().split(b'"')
    store.receipts.publish(Receipt(RUN, {"seed": 42}, {"s4": key("s4")}))
    with pytest.raises(StoreError, match="E_STORE_CONFLICT"):
        store.receipts.publish(Receipt(RUN, {"seed": 43}, {"s4": key("s4")}))
    assert (folder / "published.json").read_bytes() == published
    (folder / "published.json").unlink()
    store.receipts.publish(Receipt(RUN, {"seed": 42}, {"s4": key("s4")}))
    os.utime(folder / "receipt.json", ns=(1, 12345))
    assert store.receipts.published_ns(RUN) == 12345
    assert store.receipts.published_ns(OTHER) == 0


def test_runs_of_one_time_are_ordered_by_their_ids(store: Store) -> None:
    """So that the order is total."""
    store.receipts.publish(Receipt(OTHER, {}, {}))
    same = (store.layout.runs / RUN / "published.json").read_bytes()
    (store.layout.runs / OTHER / "published.json").write_bytes(same)
    assert store.receipts.newest_first() == (RUN, OTHER)


@pytest.mark.parametrize(
    "document", ["{", "[]", "{}", '{"at": 1}', '{"at": "noon"}', '{"at": "2026-01-01T00:00:00"}']
)
def test_a_spoiled_time_of_publication_is_named(store: Store, document: str) -> None:
    """Nobody guesses; but where no order is asked for, none is needed, and pruning takes the run as any other."""
    path = store.layout.runs / RUN / "published.json"
    path.write_text(document)
    for ask in (
        store.receipts.newest_first,
        lambda: store.retention.prune(dry_run=False, keep_newest_runs=1),
    ):
        with pytest.raises(StoreError, match="E_STORE_DAMAGED") as caught:
            ask()
        assert caught.value.where == str(path)
        assert "remove it" in caught.value.next_step
    assert [item.name for item in store.retention.prune(dry_run=False).collectable] == [RUN]
    assert not path.exists()
