"""A certification goes when somebody names it, and only if nothing rests on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from faulty_filesystem import FAULTS, Fault, FaultyFileSystem, PowerCutError, UnsyncedFileSystem
from store_cases import key, open_store

from seg1b.errors import InputError, Seg1bError
from seg1b.lanes.removal import remove_certification
from seg1b.store.receipts import Receipt
from seg1b.store.store import Store

RUN, OTHER = "1" * 32, "2" * 32
CERT, OLD = "c" * 64, "d" * 64
IDENTITY = {"world_digest": "w", "parameter_hash": "p", "gates_hash": "g"}


def _publish(store: Store, cert_id: str, run_id: str, grade: str = "B") -> None:
    with store.transaction("s4", key(run_id)) as publication:
        publication.add_bytes("data", bytes(1000))
    store.receipts.publish(Receipt(run_id, IDENTITY, {"s4": key(run_id)}))
    seeds = [{"seed": 7, "run_id": run_id}]
    with store.certifications.publish(cert_id) as folder:
        folder.add_json("certificate.json", {"grade": grade, "seeds": seeds, "identity": IDENTITY})
        folder.add_bytes("report/index.html", b"<html>")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two certifications, each of one run."""
    store = open_store(tmp_path / "runs", UnsyncedFileSystem())
    _publish(store, CERT, RUN)
    _publish(store, OLD, OTHER)
    return store


def _kinds(store: Store) -> list[str]:
    return [entry["kind"] for entry in store.ledger.entries()]


def test_a_look_changes_nothing(store: Store) -> None:
    """A prefix is enough; it says what the pack takes and what it alone holds."""
    found = remove_certification(store, CERT[:8])
    assert (found.cert_id, found.grade, found.seeds, found.removed) == (CERT, "B", (7,), False)
    assert found.pack_bytes == sum(p.stat().st_size for p in store.certifications.path(CERT).rglob("*.*"))
    held = [item for item in store.retention.plan().live if f"certification {CERT[:12]}" in item.held_by]
    assert found.held_bytes == sum(item.length_bytes for item in held) > 1000
    assert store.certifications.ids() == (CERT, OLD)
    assert _kinds(store) == []


def test_what_it_alone_held_may_be_pruned_afterwards(store: Store) -> None:
    """The ledger says that it went; the other one is whole and holds what is its own."""
    expected = remove_certification(store, CERT).held_bytes
    assert remove_certification(store, CERT, dry_run=False).removed
    assert store.certifications.ids() == (OLD,)
    (entry,) = store.ledger.entries()
    assert (entry["kind"], entry["cert_id"], entry["grade"]) == ("certification_removed", CERT, "B")
    plan = store.retention.prune(dry_run=False)
    assert {item.name for item in plan.collectable} == {RUN, key(RUN)}
    assert plan.collectable_bytes == expected
    assert store.has("s4", key(OTHER))


@pytest.mark.parametrize("text", ["c" * 8, "e" * 64, "", "abc"])
def test_only_a_full_id_removes(store: Store, text: str) -> None:
    """A prefix or a slip removes nothing and is not in the ledger."""
    with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
        remove_certification(store, text, dry_run=False)
    assert store.certifications.ids() == (CERT, OLD)
    assert _kinds(store) == []


def _point(store: Store) -> None:
    store.pointers.set("last_good", RUN)


def _lock(store: Store) -> None:
    store.phase_locks.write("P3", {"run_id": RUN})


def _close(store: Store) -> None:
    """P5 was locked with another run of the same policies: a certificate is why it could be."""
    store.receipts.publish(Receipt("3" * 32, IDENTITY, {"s4": key(OTHER)}))
    store.phase_locks.write("P5", {"run_id": "3" * 32})


@pytest.mark.parametrize(
    ("rest", "name"), [(_point, "pointer last_good"), (_lock, "lock p3"), (_close, "lock p5")]
)
def test_what_something_rests_on_stays(store: Store, rest: Any, name: str) -> None:
    """The refusal names what; so does the look."""
    rest(store)
    for dry_run in (True, False):
        with pytest.raises(InputError, match="E_CERTIFICATION_HELD") as error:
            remove_certification(store, CERT, dry_run=dry_run)
        assert name in error.value.message
        assert error.value.where == str(store.certifications.path(CERT))
    assert _kinds(store) == []
    if rest is not _close:
        assert remove_certification(store, OLD, dry_run=False).removed


def test_nothing_goes_while_a_command_runs(store: Store) -> None:
    """Whatever it holds: it may be about to look at this very certification."""
    with store.lease("certify"), pytest.raises(InputError, match="E_STORE_DRIVEN") as error:
        remove_certification(store, CERT, dry_run=False)
    assert "certify" in error.value.message
    assert str(os.getpid()) in error.value.message
    with store.sole_driver("tune"), pytest.raises(InputError, match="E_STORE_DRIVEN"):
        remove_certification(store, CERT, dry_run=False)
    assert store.certifications.ids() == (CERT, OLD)
    assert remove_certification(store, CERT, dry_run=False).removed


def test_a_damaged_pack_can_go(store: Store) -> None:
    """Nobody can verify it any more; its grade is unknown."""
    path = store.certifications.path(CERT) / "certificate.json"
    path.chmod(0o644)
    path.write_text("{")
    found = remove_certification(store, CERT, dry_run=False)
    assert (found.grade, found.seeds, found.removed) == (None, (), True)


def _prepared(root: Path) -> None:
    with open_store(root, UnsyncedFileSystem()) as store:
        _publish(store, CERT, RUN)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_operation_leaves_the_pack_whole_or_nothing_of_it(
    fault: Fault, tmp_path: Path
) -> None:
    """What is left can be removed again, and what is gone is in the ledger."""
    _prepared(tmp_path / "undisturbed")
    with open_store(tmp_path / "undisturbed", fs := FaultyFileSystem()) as store:
        remove_certification(store, CERT, dry_run=False)
    seen = set()
    for n in range(1, fs.operations + 1):
        root = tmp_path / f"n{n}"
        _prepared(root)
        broken = FaultyFileSystem(n, fault)
        interrupted = None
        try:
            interrupted = open_store(root, broken)
            remove_certification(interrupted, CERT, dry_run=False)
        except (Seg1bError, PowerCutError):
            pass
        broken.crash()
        if interrupted is not None and interrupted._staging._descriptor is not None:
            os.close(interrupted._staging._descriptor)  # as the kernel does when a process dies
        with open_store(root, UnsyncedFileSystem()) as store:
            assert not store.layout.staging.is_dir() or list(store.layout.staging.iterdir()) == []
            there = store.certifications.ids() == (CERT,)
            seen.add(there)
            if there:
                pack = store.certifications.path(CERT)
                names = {path.name for path in pack.rglob("*") if path.is_file()}
                assert names == {"certificate.json", "index.html"}
                assert remove_certification(store, CERT, dry_run=False).removed
            assert store.certifications.ids() == ()
            assert set(_kinds(store)) == {"certification_removed"}
            assert {item.name for item in store.retention.prune(dry_run=False).collectable} == {RUN, key(RUN)}
    assert seen == {True, False}
