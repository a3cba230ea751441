"""Outputs: published once, whole or in parts, and never believed unread."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import signal
import stat
import threading
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_filesystem import UnsyncedFileSystem
from store_cases import key, open_store, sites

from seg1b.errors import ContractError, InputError, StoreError
from seg1b.store import table_writer
from seg1b.store.layout import Layout
from seg1b.store.store import Store
from seg1b.store.table_writer import TableFiles

S4, S6 = key("s4"), key("s6")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "runs", UnsyncedFileSystem())


def _publish(store: Store, table: pa.Table, rows: int = 6) -> None:
    with store.transaction("s4", S4) as publication:
        publication.add_table("plan", table, partition_column="country_iso", sorted_by=("site_order",))
        publication.facts["rows"] = rows


def _part(store: Store, name: str, *countries: str, shift: float = 0.0) -> None:
    with store.part("s6", S6, name) as publication:
        publication.add_table("jitter", sites(*countries, shift=shift), partition_column="country_iso")


def test_what_is_published_is_read_back(store: Store) -> None:
    """All rows, one partition, some columns, a missing partition."""
    table = sites("AD", "NA")
    _publish(store, table)
    reader = store.open_table("s4", S4, "plan")
    assert reader.keys == ("AD", "NA")
    assert reader.read(verify=True).equals(table)
    assert reader.partition("NA", ["lon_deg"], verify=True).equals(table.slice(3).select(["lon_deg"]))
    assert reader.partition("ZW").num_rows == 0
    assert [part.num_rows for _, part in reader.partitions()] == [3, 3]
    assert store.verify_object("s4", S4).rows("plan") == 6


def test_several_partitions_come_in_the_order_asked_for(store: Store) -> None:
    """Neighbours in a file, apart, backwards, and one that is not there; none at all keeps the columns."""
    table = sites("AD", "FR", "NA")
    _publish(store, table, rows=9)
    reader = store.open_table("s4", S4, "plan")
    assert reader.several(["AD", "FR", "NA"]).equals(table)
    assert reader.several(["NA", "ZW", "AD"]).equals(pa.concat_tables([table.slice(6), table.slice(0, 3)]))
    assert reader.several(["ZW"]).equals(table.slice(0, 0))


def test_a_document_is_mapped_and_of_its_file_the_length_is_checked(store: Store) -> None:
    """It is memory that nobody can write; a file that is shorter, or gone, is no such document."""
    with store.transaction("s2m", S4) as publication:
        publication.add_bytes("image.bin", b"twelve bytes")
    mapped = store.map_document("s2m", S4, "image.bin")
    assert mapped[:] == b"twelve bytes"
    with pytest.raises(TypeError):
        mapped[0] = 0
    with pytest.raises(StoreError, match=r"has no document 'image\.npy'"):
        store.map_document("s2m", S4, "image.npy")
    path = store.layout.object("s2m", S4) / "image.bin"
    path.chmod(0o644)
    path.write_bytes(b"eleven byte")
    with pytest.raises(StoreError, match="it has 11 bytes, 12 were published") as error:
        store.map_document("s2m", S4, "image.bin")
    assert (error.value.code, error.value.where) == ("E_STORE_DAMAGED", str(path))
    path.unlink()
    with pytest.raises(StoreError):
        store.map_document("s2m", S4, "image.bin")


@pytest.mark.parametrize("files", get_args(TableFiles))
@pytest.mark.parametrize("columns", [None, ("lon_deg",), ("lon_deg", "site_order", "country_iso")])
@pytest.mark.parametrize("group_rows", [1, 2, 3, 1 << 20])
def test_a_slice_is_the_slice_of_the_whole(
    store: Store,
    files: TableFiles,
    columns: tuple[str, ...] | None,
    group_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every range of every partition, one after the other and back again, in row groups shared and of their own."""
    monkeypatch.setattr(table_writer, "ROW_GROUP_ROWS", group_rows)
    monkeypatch.setattr(table_writer, "_SHARED_GROUP_ROWS", group_rows)
    table = pa.concat_tables([sites("AD", rows=1), sites("BE", rows=5, shift=9.0), sites("NA", "ZW", rows=4)])
    with store.transaction("s4", S4) as publication:
        publication.add_table("plan", table, partition_column="country_iso", files=files)
    reader = store.open_table("s4", S4, "plan")
    assert dict(reader.partition_rows) == {"AD": 1, "BE": 5, "NA": 4, "ZW": 4}
    ranges = [
        (iso, first, rows)
        for iso, total in reader.partition_rows
        for first in range(total + 1)
        for rows in range(total - first + 1)
    ]
    assert len(ranges) == 3 + 21 + 15 + 15
    whole = {iso: reader.partition(iso, columns) for iso in reader.keys}
    for iso, first, rows in (*ranges, *reversed(ranges)):
        part = reader.slice(iso, first, rows, columns)
        assert part.schema.equals(whole[iso].schema), (iso, first, rows)
        assert part.equals(whole[iso].slice(first, rows)), (iso, first, rows)
    assert whole["BE"].column("lon_deg").to_pylist() == [9.0, 10.0, 11.0, 12.0, 13.0]


@pytest.mark.parametrize(
    ("partition", "first", "rows"),
    [("AD", 0, 4), ("AD", 3, 1), ("AD", -1, 1), ("AD", 2, -1), ("AD", 4, 0), ("AD", 4, -1), ("ZW", 0, 0)],
)
def test_a_slice_outside_its_partition_is_refused(
    store: Store, partition: str, first: int, rows: int
) -> None:
    """Never the rows of the next partition, which follow in the same file, nor fewer than asked for."""
    _publish(store, sites("AD", "NA"))
    reader = store.open_table("s4", S4, "plan")
    with pytest.raises(KeyError, match=partition):
        reader.slice(partition, first, rows)


def test_nothing_is_visible_before_the_end_or_after_an_error(store: Store) -> None:
    """A block that raises publishes nothing and leaves nothing."""

    def stopped() -> None:
        with store.transaction("s4", S4) as publication:
            publication.add_table("plan", sites("AD"))
            assert not store.has("s4", S4)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert not store.has("s4", S4)
    assert not any(path.is_dir() for session in store.layout.staging.iterdir() if session.is_dir()
                   for path in session.iterdir())  # fmt: skip
    with pytest.raises(StoreError, match="E_STORE_MISSING"):
        store.manifest("s4", S4)


def test_the_same_content_again_is_no_operation(store: Store) -> None:
    """The published bytes are not touched, even when the new file would be laid out differently."""
    _publish(store, sites("AD", "NA"))
    path = store.layout.object("s4", S4) / "plan.parquet"
    before = path.stat()
    with store.transaction("s4", S4) as publication:
        publication.add_table(
            "plan", sites("AD", "NA"), partition_column="country_iso", sorted_by=("site_order",),
            files="per_partition",
        )  # fmt: skip
        publication.facts["rows"] = 6
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino
    assert publication.manifest == store.manifest("s4", S4)


def test_other_content_under_the_key_names_both_digests(store: Store) -> None:
    """Rows, documents and facts are all compared."""
    _publish(store, sites("AD", "NA"))
    published = store.manifest("s4", S4).tables["plan"].logical_digest
    with pytest.raises(StoreError) as error:
        _publish(store, sites("AD", "NA", shift=1e-9))
    assert error.value.code == "E_STORE_CONFLICT"
    assert published in str(error.value)
    assert str(error.value).count("table plan") == 1
    with pytest.raises(StoreError, match="facts"):
        _publish(store, sites("AD", "NA"), rows=7)
    with pytest.raises(StoreError, match="E_STORE_CONFLICT"), store.transaction("s4", S4):
        pass
    assert store.verify_object("s4", S4).rows("plan") == 6


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_parts_may_arrive_in_any_order(store: Store, order: tuple[str, ...]) -> None:
    """The committed table and its digest do not depend on the order or the cut of the shards."""
    content = {"a": ("NA",), "b": ("AD", "ZW"), "c": ("BR",)}
    for name in order:
        _part(store, name, *content[name])
        assert not store.has("s6", S6)
    manifest = store.commit("s6", S6, {"n": 1}, expected_parts="abc", expected_rows={"jitter": 12})
    assert store.read_table("s6", S6, "jitter", verify=True).equals(sites("AD", "BR", "NA", "ZW"))
    with store.transaction("s7", key("s7")) as publication:
        publication.add_table("jitter", sites("AD", "BR", "NA", "ZW"), partition_column="country_iso")
    assert publication.manifest is not None
    whole = publication.manifest.tables["jitter"]
    assert whole.logical_digest == manifest.tables["jitter"].logical_digest
    assert store.commit("s6", S6, {"n": 1}) == manifest
    assert store.verify_object("s6", S6) == manifest


def test_a_resumed_run_may_cut_its_shards_differently(store: Store) -> None:
    """Partitions that two parts hold are taken once if they agree."""
    _part(store, "p1", "AD", "NA")
    assert list(store.published_partitions("s6", S6, "jitter")) == ["AD", "NA"]
    _part(store, "q1", "NA", "ZW")
    store.commit("s6", S6)
    assert store.read_table("s6", S6, "jitter").equals(sites("AD", "NA", "ZW"))
    _part(store, "late", "ZW")  # a straggler after the commit
    assert store.verify_object("s6", S6).rows("jitter") == 9
    with pytest.raises(StoreError, match="E_STORE_CONFLICT"):
        _part(store, "later", "ZW", shift=1.0)


def test_parts_that_disagree_are_an_error(store: Store) -> None:
    """Within a part's name and across parts."""
    _part(store, "p1", "AD")
    _part(store, "p1", "AD")
    with pytest.raises(StoreError, match="E_STORE_CONFLICT"):
        _part(store, "p1", "AD", shift=1.0)
    _part(store, "p2", "AD", shift=1.0)
    with pytest.raises(StoreError, match="partition 'AD'"):
        store.commit("s6", S6)
    assert not store.has("s6", S6)


def test_a_commit_without_all_parts_or_rows_is_refused(store: Store) -> None:
    """The missing part is named."""
    with pytest.raises(StoreError, match="no part is published"):
        store.commit("s6", S6)
    _part(store, "p1", "AD")
    with pytest.raises(StoreError, match="first 'p2'"):
        store.commit("s6", S6, expected_parts=["p1", "p2"])
    with pytest.raises(StoreError, match="3 rows in its parts, 4 are expected"):
        store.commit("s6", S6, expected_rows={"jitter": 4})


def test_a_commit_with_other_facts_is_refused(store: Store) -> None:
    """Facts and documents are write-once too."""
    _part(store, "p1", "AD")
    store.commit("s6", S6, {"n": 1}, documents={"r.json": b"{}"})
    assert store.read_document("s6", S6, "r.json") == b"{}"
    for facts, data in (({"n": 2}, b"{}"), ({"n": 1}, b"[]")):
        with pytest.raises(StoreError, match="E_STORE_CONFLICT"):
            store.commit("s6", S6, facts, documents={"r.json": data})


def test_a_whole_output_and_parts_of_it_may_meet(store: Store) -> None:
    """Uncommitted parts give way to the whole; parts of a published whole are compared with it."""
    _part(store, "p1", "AD")
    with store.transaction("s6", S6) as publication:
        publication.add_table("jitter", sites("AD", "NA"), partition_column="country_iso")
    assert store.parts("s6", S6) == ()
    assert [
        path for session in store.layout.staging.glob("*") if session.is_dir() for path in session.iterdir()
    ] == []
    _part(store, "p1", "AD")
    assert store.commit("s6", S6) == store.verify_object("s6", S6)


def test_an_empty_table_keeps_its_columns(store: Store) -> None:
    """No rows is a result, not an absence; also when some shards are empty."""
    _publish(store, sites("AD").slice(0, 0))
    assert store.read_table("s4", S4, "plan").schema == sites("AD").schema
    _part(store, "p1", "AD")
    with store.part("s6", S6, "p0") as publication:
        publication.add_table("jitter", sites("AD").slice(0, 0), partition_column="country_iso")
    store.commit("s6", S6)
    assert store.read_table("s6", S6, "jitter").equals(sites("AD"))


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (sites("NA", "AD"), "E_STORE_UNSORTED"),
        (sites("AD", "NA", "AD"), "E_STORE_UNSORTED"),
        (pa.concat_tables([sites("AD"), sites("AD")]), "E_STORE_UNSORTED"),
        (sites("AD").take([0, 0, 1]), "E_STORE_DUPLICATE_ROW"),
        (sites("AD").set_column(2, "lon_deg", [[0.0, None, 1.0]]), "E_STORE_NULL"),
    ],
)
def test_a_table_that_breaks_its_own_contract_is_refused(store: Store, table: pa.Table, code: str) -> None:
    """Order, uniqueness and completeness are checked by the writer."""
    with pytest.raises(ContractError) as error:
        _publish(store, table)
    assert error.value.code == code
    assert "partition" in error.value.where
    assert not store.has("s4", S4)


def test_rows_of_another_partition_are_refused(store: Store) -> None:
    """The key that a writer names is the key that the rows have."""
    with (
        pytest.raises(ContractError, match="a row has country_iso 'NA'"),
        store.transaction("s4", S4) as publication,
        publication.table_writer("plan", sites("AD").schema, partition_column="country_iso") as writer,
    ):
        writer.write_partition("AD", sites("AD", "NA"))
    assert not store.has("s4", S4)


def _damage(store: Store, how: str) -> None:
    path = store.layout.object("s4", S4) / "plan.parquet"
    path.chmod(0o644)
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "missing":
        path.unlink()
    elif how == "flipped":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif how == "other rows":
        pq.write_table(sites("AD", "NA", shift=1.0), path)
    else:
        manifest = path.with_name("manifest.json")
        manifest.chmod(0o644)
        text = manifest.read_text()
        manifest.write_text(text[:-20] if how == "torn manifest" else text.replace('"rows": 6', '"rows": 7'))


@pytest.mark.parametrize(
    "how", ["truncated", "missing", "flipped", "other rows", "torn manifest", "changed manifest"]
)
def test_damage_is_found_and_can_be_repaired(store: Store, how: str) -> None:
    """Verification names the file; removal and a new run heal the store."""
    _publish(store, sites("AD", "NA"))
    _damage(store, how)
    with pytest.raises(StoreError) as error:
        store.verify_object("s4", S4)
    assert error.value.code in {"E_STORE_DAMAGED", "E_STORE_MISSING"}
    assert "s4" in error.value.where
    if how in {"truncated", "missing"}:
        with pytest.raises(StoreError):
            store.read_table("s4", S4, "plan")
        with pytest.raises(StoreError):
            store.open_table("s4", S4, "plan").slice("NA", 0, 1)
    store.remove("s4", S4)
    _publish(store, sites("AD", "NA"))
    store.verify_object("s4", S4)


def test_a_slice_of_another_file_of_the_same_length_is_refused(store: Store) -> None:
    """Fewer rows than published, in as many bytes: the reader counts what it got."""
    _publish(store, sites("AD", "NA", rows=500))
    path = store.layout.object("s4", S4) / "plan.parquet"
    length = path.stat().st_size
    path.chmod(0o644)
    pq.write_table(sites("AD", rows=4), path)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    path.write_bytes(data[:footer] + bytes(length - len(data)) + data[footer:])
    assert path.stat().st_size == length
    reader = store.open_table("s4", S4, "plan")
    assert reader.slice("AD", 0, 4).num_rows == 4
    for iso, first, got in (("AD", 0, 4), ("AD", 2, 2), ("AD", 490, 0), ("NA", 0, 0)):
        with pytest.raises(StoreError, match=f"it gave {got} rows where 10 were published") as error:
            reader.slice(iso, first, 10)
        assert error.value.code == "E_STORE_DAMAGED"


def test_reading_with_verify_finds_changed_rows(store: Store) -> None:
    """Same length, valid parquet, other rows: only the logical digest can tell."""
    table = sites("AD", rows=1)
    with store.transaction("s4", S4) as publication:
        publication.add_table("plan", table)
    path = store.layout.object("s4", S4) / "plan.parquet"
    data = path.read_bytes()
    with store.transaction("s5", key("s5")) as publication:
        publication.add_table("plan", sites("ZW", rows=1))
    other = (store.layout.object("s5", key("s5")) / "plan.parquet").read_bytes()
    assert len(other) == len(data)
    path.chmod(0o644)
    path.write_bytes(other)
    with pytest.raises(StoreError, match="not those published"):
        store.read_table("s4", S4, "plan", verify=True)


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    """The error says that nothing was published and what to do."""

    class Full(UnsyncedFileSystem):
        def make_directory(self, path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    open_store(tmp_path / "runs", UnsyncedFileSystem()).close()
    store = open_store(tmp_path / "runs", Full())
    with pytest.raises(StoreError, match="E_STORE_FULL") as error:
        _publish(store, sites("AD"))
    assert "free space" in error.value.next_step


def test_a_read_only_store_can_be_read_but_not_written(tmp_path: Path) -> None:
    """Also by a user who may write nowhere in it."""

    class ReadOnly(UnsyncedFileSystem):
        def make_directory(self, path: Path) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

    _publish(open_store(tmp_path / "runs", UnsyncedFileSystem()), sites("AD"))
    store = open_store(tmp_path / "runs", ReadOnly())
    assert store.read_table("s4", S4, "plan").num_rows == 3
    with pytest.raises(StoreError, match="E_STORE_READ_ONLY"):
        _part(store, "p1", "AD")


def test_a_torn_write_is_not_published(tmp_path: Path) -> None:
    """A disk that gives back other bytes than were written is found before the rename."""

    class Torn(UnsyncedFileSystem):
        def write(self, path: Path, data: bytes, *, read_only: bool = True) -> None:
            super().write(path, data[:-1] if path.name == "report.json" else data, read_only=read_only)

    store = open_store(tmp_path / "runs", Torn())
    with pytest.raises(StoreError, match="E_STORE_TORN"), store.transaction("s4", S4) as publication:
        publication.add_json("report.json", {"a": 1})
    assert not store.has("s4", S4)


def test_published_files_are_read_only_and_copies_are_real(store: Store, tmp_path: Path) -> None:
    """A pack shares no inode with an output, so neither can damage the other."""
    _part(store, "p1", "AD")
    _part(store, "p2", "NA")
    store.commit("s6", S6)
    with store.certifications.publish("c" * 64) as folder:
        folder.add_json("certificate.json", {"grade": "B"})
        copied = store.copy_into(folder, "s6", S6, "egress", table="jitter")
    assert copied == ["egress/jitter.p1.parquet", "egress/jitter.p2.parquet"]
    pack = store.certifications.path("cccccc")
    original = store.layout.part("s6", S6, "p1") / "jitter.parquet"
    for path in (pack / copied[0], original):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert path.stat().st_nlink == 1
    assert (pack / copied[0]).read_bytes() == original.read_bytes()


def test_hive_folders_of_shards_come_together(store: Store) -> None:
    """`per_partition` files of several parts make one Hive dataset in a pack."""
    for name, iso in (("p1", "AD"), ("p2", "NA")):
        with store.part("s6", S6, name) as publication:
            publication.add_table("s", sites(iso), partition_column="country_iso", files="per_partition")
    store.commit("s6", S6)
    with store.certifications.publish("c" * 64) as folder:
        store.copy_into(folder, "s6", S6, "")
    pack = store.certifications.path("c" * 64)
    files = sorted(path.relative_to(pack).as_posix() for path in pack.rglob("*.parquet"))
    assert files == ["s/country_iso=AD/part-0.parquet", "s/country_iso=NA/part-0.parquet"]


def test_a_store_travels_to_a_worker(store: Store) -> None:
    """Pickled, it writes from its own temporary folder."""
    worker: Store = pickle.loads(pickle.dumps(store))
    _publish(worker, sites("AD"))
    assert store.has("s4", S4)


def test_newer_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    """Each with a sentence; a user's folder never becomes a store by accident."""
    root = tmp_path / "runs"
    with pytest.raises(InputError, match="E_STORE_MISSING"):
        Store.open(root, create=False)
    Store.open(root).close()
    for version, advice in ((1, "everything in it can be made again"), (3, "upgrade seg1b")):
        (root / "FORMAT").write_text(f'{{"format": {version}}}')
        with pytest.raises(
            InputError, match=f"this store has format {version}; this seg1b reads format 2"
        ) as e:
            Store.open(root)
        assert advice in str(e.value.next_step)
    (root / "FORMAT").write_text("{")
    with pytest.raises(StoreError, match="E_STORE_DAMAGED"):
        Store.open(root)
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"cat\.jpg"):
        Store.open(foreign)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "", "manifest.json", "parts/x", "a\\b", "c:x", "é"])
def test_names_that_leave_the_folder_are_refused(store: Store, name: str) -> None:
    """Neither a path out nor one of the store's own names."""
    with pytest.raises(ContractError, match="E_STORE_NAME"), store.transaction("s4", S4) as publication:
        publication.add_bytes(name, b"x")


def test_files_of_a_dead_process_are_removed_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    """A leftover is what no living process holds."""
    living = open_store(tmp_path / "runs")
    with living.transaction("s4", S4) as publication:
        publication.add_table("plan", sites("AD"))
        (living.layout.staging / "dead").mkdir()
        (living.layout.staging / "dead2.lock").touch()
        with open_store(tmp_path / "runs"):
            names = {path.suffix for path in living.layout.staging.iterdir()}
            assert len(list(living.layout.staging.iterdir())) == 2, names
    assert living.has("s4", S4)


def test_closing_a_store_removes_what_killed_workers_left(tmp_path: Path) -> None:
    """A worker that was killed in the middle of a publication leaves folder and lock file until then, no longer."""
    with open_store(tmp_path / "runs") as store:
        child = os.fork()
        if child == 0:  # pragma: no cover (another process)
            with store.transaction("s4", S4) as publication:
                publication.add_json("x.json", {})
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        left = {path.suffix for path in store.layout.staging.iterdir()}
        assert left == {"", ".lock"}
    assert list(store.layout.staging.iterdir()) == []
    assert not store.has("s4", S4)


def test_cleaners_and_beginners_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    """Many sessions begin and end while others clean up: none loses its folder or its lock, and none is left."""
    root = tmp_path / "runs"
    open_store(root).close()
    lost: list[str] = []

    def work() -> None:
        for number in range(30):
            with open_store(root) as store:
                session = store._staging.session()
                if not (session.is_dir() and session.with_suffix(".lock").is_file()):
                    lost.append(f"at the start of {number}")
                store._staging.remove_leftovers()
                if not (session.is_dir() and session.with_suffix(".lock").is_file()):
                    lost.append(f"at the end of {number}")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list((root / ".staging").iterdir()) == []


def test_a_json_document_is_what_was_checked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not what the file holds a moment later."""
    with store.transaction("s4", S4) as publication:
        publication.add_json("x.json", {"rows": 6})
        publication.add_bytes("y.json", b"{")
    path = store.layout.object("s4", S4) / "x.json"
    check = store.read_document

    def then_altered(state: str, state_key: str, name: str) -> bytes:
        data = check(state, state_key, name)
        path.chmod(0o644)
        path.write_bytes(b'{"rows": 7}')
        return data

    monkeypatch.setattr(store, "read_document", then_altered)
    assert store.read_json("s4", S4, "x.json") == {"rows": 6}
    with pytest.raises(StoreError, match=r"E_STORE_DAMAGED.*it is no JSON"):
        store.read_json("s4", S4, "y.json")


@pytest.mark.parametrize(
    "name", sorted(name for name, value in vars(Layout).items() if isinstance(value, property))
)
def test_a_store_that_lost_its_format_is_still_known(tmp_path: Path, name: str) -> None:
    """By anything that a store has; by nothing else."""
    root = tmp_path / "runs"
    (found,) = {getattr(Layout(root), name).relative_to(root).parts[0]}
    root.mkdir()
    if name != "format_file":
        (root / found).mkdir()
    open_store(root).close()
    assert Layout(root).format_file.is_file()
    (tmp_path / "other" / "photos").mkdir(parents=True)
    with pytest.raises(InputError, match=r"E_STORE_NOT_A_STORE.*'photos'"):
        open_store(tmp_path / "other")
