"""Fail every operation of every publication, one after the other, in four ways."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_filesystem import FAULTS, Fault, FaultyFileSystem, PowerCutError, UnsyncedFileSystem
from store_cases import key, open_store, sites, visible_files

from seg1b.errors import Seg1bError
from seg1b.store.receipts import Receipt
from seg1b.store.store import Store

RUN_ID = "0123456789abcdef" * 2
CERT_ID = "c" * 64


def _whole(store: Store) -> None:
    with store.transaction("s4", key("s4")) as publication:
        publication.add_table(
            "alloc_plan", sites("AD", "NA"), partition_column="country_iso", sorted_by=("site_order",)
        )
        publication.add_json("report.json", {"rows": 6})
        publication.facts["rows"] = 6


def _parts(store: Store) -> None:
    for iso in ("NA", "AD"):
        with store.part("s6", key("s6"), f"part-{iso.lower()}") as publication:
            publication.add_table("jitter", sites(iso), partition_column="country_iso")
    store.commit(
        "s6", key("s6"), {"rows": 6}, documents={"report.json": b"{}\n"}, expected_rows={"jitter": 6}
    )


def _records(store: Store) -> None:
    _whole(store)
    store.receipts.publish(Receipt(RUN_ID, {"seed": 42}, {"s4": key("s4")}))
    store.pointers.set("current_candidate", RUN_ID)
    store.pointers.set("current_candidate", RUN_ID, {"note": "second"})
    with store.certifications.publish(CERT_ID) as folder:
        folder.add_json("certificate.json", {"grade": "B"})
        store.copy_into(folder, "s4", key("s4"), "egress")


SCENARIOS: dict[str, Callable[[Store], None]] = {"parts": _parts, "whole and records": _records}


def _check_nothing_is_half_visible(store: Store) -> None:
    for folder in store.layout.objects.glob("*/*"):
        if store.has(folder.parent.name, folder.name):
            store.verify_object(folder.parent.name, folder.name)
        for part in store.parts(folder.parent.name, folder.name):
            receipt = store.part_receipt(folder.parent.name, folder.name, part)
            for table in receipt.tables:
                assert store.read_part(folder.parent.name, folder.name, part, table).num_rows == 3
    for run_id in store.receipts.run_ids():
        for state, state_key in store.receipts.load(run_id).keys.items():
            store.verify_object(state, state_key)
    pointed = store.pointers.get("current_candidate")
    assert pointed is None or store.receipts.load(pointed).run_id == pointed
    for cert_id in store.certifications.ids():
        names = {path.name for path in store.certifications.path(cert_id).rglob("*") if path.is_file()}
        assert names == {"certificate.json", "alloc_plan.parquet", "report.json"}


def _abandon(store: Store) -> None:
    """What the kernel does when a process dies: its locks go."""
    descriptor = store._staging._descriptor
    if descriptor is not None:
        os.close(descriptor)


def _operations(scenario: Callable[[Store], None], root: Path) -> tuple[int, dict[str, bytes]]:
    fs = FaultyFileSystem()
    with open_store(root, fs) as store:
        scenario(store)
    return fs.operations, visible_files(root)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_at_any_operation_leaves_nothing_or_everything(
    name: str, fault: Fault, tmp_path: Path
) -> None:
    """After a failure at operation n nothing is half-visible, and running again gives the same bytes."""
    total, expected = _operations(SCENARIOS[name], tmp_path / "undisturbed")
    failures = 0
    for n in range(1, total + 1):
        root = tmp_path / f"n{n}"
        fs = FaultyFileSystem(n, fault)
        store: Store | None = None
        try:
            store = open_store(root, fs)
            SCENARIOS[name](store)
            store.close()
        except (Seg1bError, PowerCutError):
            failures += 1
        fs.crash()
        if store is not None:
            _abandon(store)
        with open_store(root, UnsyncedFileSystem()) as again:
            staging = again.layout.staging
            assert not staging.is_dir() or list(staging.iterdir()) == []
            _check_nothing_is_half_visible(again)
            SCENARIOS[name](again)
            _check_nothing_is_half_visible(again)
        assert visible_files(root) == expected, f"operation {n}: {fs.names[-1]}"
    assert failures > total * 0.5


def _is_half_visible_after_a_cut(scenario: Callable[[Store], None], root: Path, fs: FaultyFileSystem) -> bool:
    """Whether what a scenario left behind when the power went shows something half-written."""
    store: Store | None = None
    try:
        store = open_store(root, fs)
        scenario(store)
    except PowerCutError:
        fs.crash()
    if store is not None:
        _abandon(store)
    with open_store(root, UnsyncedFileSystem()) as again:
        try:
            _check_nothing_is_half_visible(again)
        except Seg1bError:
            return True
    return False


def test_the_double_sees_a_missing_sync(tmp_path: Path) -> None:
    """A publication that forgets to sync its files must fail the crash test: the double is not blind."""

    class Forgetful(FaultyFileSystem):
        def sync_files(self, paths: object) -> None:
            """Forget it."""

    total, _ = _operations(_whole, tmp_path / "undisturbed")
    torn = 0
    for n in range(1, total + 3):
        torn += _is_half_visible_after_a_cut(_whole, tmp_path / f"n{n}", Forgetful(n, "cut_kept"))
    assert torn > 0


def test_the_double_sees_a_missing_folder_sync(tmp_path: Path) -> None:
    """A receipt that outlives its output would be seen: without folder syncs the output is lost."""

    class Forgetful(FaultyFileSystem):
        def sync_up(self, directory: Path, root: Path) -> None:
            """Sync only below `runs`, as if outputs did not matter."""
            if "objects" not in directory.parts:
                super().sync_up(directory, root)

    lost = 0
    for n in range(1, 120):
        lost += _is_half_visible_after_a_cut(_records, tmp_path / f"n{n}", Forgetful(n, "cut_undone"))
    assert lost > 0
