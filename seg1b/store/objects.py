"""Write-once outputs of states: `objects/<state>/<key>/`.

An output comes in one of two ways. A *transaction* writes the whole folder aside and renames it into place.
A sharded state publishes *parts*, each a small transaction of its own, in any order and by any number of
processes, and then *commits*: the manifest, written last, is what makes the output visible.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from seg1b.errors import StoreError
from seg1b.store.digest import PartitionKey, key_order, sha256_bytes, sha256_file
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import MANIFEST, PART_RECEIPT, PARTS, Layout, check_name
from seg1b.store.locks import StoreLock
from seg1b.store.manifest import (
    FileEntry,
    Holding,
    Manifest,
    conflict,
    read_holding,
    read_manifest,
    require_same,
)
from seg1b.store.publication import Publication, document_name
from seg1b.store.staging import StagedFolder, StagingArea
from seg1b.store.table_reader import TableReader
from seg1b.store.tables import MAKE_AGAIN, PartitionEntry, TableEntry, damaged


class ObjectStore:
    """Publish, find, read and verify outputs."""

    def __init__(self, layout: Layout, fs: FileSystem, staging: StagingArea, lock: StoreLock) -> None:
        self._layout, self._fs, self._staging, self._lock = layout, fs, staging, lock

    # -- find and read

    def has(self, state: str, key: str) -> bool:
        """Whether the output is published (committed)."""
        return (self._layout.object(state, key) / MANIFEST).is_file()

    def manifest(self, state: str, key: str) -> Manifest:
        """The output's manifest. Raises StoreError E_STORE_MISSING or E_STORE_DAMAGED."""
        return read_manifest(self._published(state, key), state, key)

    def _published(self, state: str, key: str) -> Path:
        path = self._layout.object(state, key) / MANIFEST
        if not path.is_file():
            raise StoreError(
                "E_STORE_MISSING",
                f"there is no published output of {state} under this key",
                where=str(path.parent),
                next_step="run the state again; it may have been pruned",
            )
        return path

    def holding(self, state: str, key: str) -> Holding:
        """What the output was made from, and its bytes. Raises as `manifest` does.

        The manifest's digest is checked, but not that of every partition of every table.
        """
        return read_holding(self._published(state, key), state, key)

    def open_table(self, state: str, key: str, table: str) -> TableReader:
        """A reader of one table of an output, in partition order whatever the shards."""
        return self._reader(self._layout.object(state, key), self.manifest(state, key), table)

    def read_table(
        self, state: str, key: str, table: str, columns: Sequence[str] | None = None, *, verify: bool = False
    ) -> pa.Table:
        """All rows of a table in partition order."""
        return self.open_table(state, key, table).read(columns, verify=verify)

    def read_document(self, state: str, key: str, name: str) -> bytes:
        """The bytes of a document, checked against the manifest.

        Raises StoreError E_STORE_MISSING or E_STORE_DAMAGED.
        """
        path, entry = self._document(state, key, name)
        with storage_errors("reading a document", path):
            data = path.read_bytes()
        if sha256_bytes(data) != entry.sha256:
            raise damaged(path, "its bytes are not those published")
        return data

    def map_document(self, state: str, key: str, name: str) -> mmap.mmap:
        """A document as read-only memory; as of a table, only its length is checked against the manifest.

        Raises StoreError E_STORE_MISSING or E_STORE_DAMAGED.
        """
        path, entry = self._document(state, key, name)
        with storage_errors("mapping a document", path), path.open("rb") as file:
            length_bytes = os.fstat(file.fileno()).st_size
            if length_bytes != entry.length_bytes:
                raise damaged(path, f"it has {length_bytes} bytes, {entry.length_bytes} were published")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def check_document(self, state: str, key: str, name: str) -> None:
        """Compare a document with its digest, without having it in memory. Raises as `read_document`."""
        path, entry = self._document(state, key, name)
        with storage_errors("reading a document", path):
            if sha256_file(path) != entry.sha256:
                raise damaged(path, "its bytes are not those published")

    def _document(self, state: str, key: str, name: str) -> tuple[Path, FileEntry]:
        """Where a document lies, and what was published there."""
        manifest = self.manifest(state, key)
        path = self._layout.object(state, key) / name
        if name not in manifest.documents:
            known = ", ".join(sorted(manifest.documents)) or "none"
            raise StoreError(
                "E_STORE_MISSING", f"{state} has no document {name!r} (it has: {known})", where=str(path),
                next_step=MAKE_AGAIN,
            )  # fmt: skip
        return path, manifest.files[name]

    def read_json(self, state: str, key: str, name: str) -> Any:
        """A JSON document, checked against the manifest."""
        data = self.read_document(state, key, name)
        try:
            return json.loads(data)
        except ValueError as error:
            raise damaged(self._layout.object(state, key) / name, f"it is no JSON ({error})") from error

    def _reader(self, folder: Path, manifest: Manifest, table: str) -> TableReader:
        entry = manifest.tables.get(table)
        if entry is None:
            known = ", ".join(sorted(manifest.tables)) or "none"
            message = f"{manifest.state} has no table {table!r} (it has: {known})"
            raise StoreError("E_STORE_MISSING", message, where=str(folder), next_step=MAKE_AGAIN)
        lengths = {name: item.length_bytes for name, item in manifest.files.items()}
        return TableReader(folder, table, entry, lengths)

    # -- publish as a whole

    @contextmanager
    def transaction(
        self, state: str, key: str, inputs: Mapping[str, str] | None = None
    ) -> Iterator[Publication]:
        """Publish a whole output at the end of the block; nothing if the block raises.

        `inputs` are the keys of the input states: what they name is kept as long as this output is.
        Same content under the key: nothing happens. Other content: StoreError E_STORE_CONFLICT.
        """
        target = self._layout.object(state, key)
        folder = self._staging.new_folder()
        try:
            publication = Publication(folder, inputs or {})
            yield publication
            manifest = publication.seal(state, key, MANIFEST)
            publication.manifest = self._place(folder, target, manifest)
        finally:
            folder.discard()

    def _place(self, folder: StagedFolder, target: Path, manifest: Manifest) -> Manifest:
        """Rename a sealed output into place, or compare it with what is there."""
        if folder.move_to(target, self._layout.root):
            return manifest
        with self._lock.hold(f"publishing {manifest.state}"):
            if not (target / MANIFEST).is_file():  # parts that nobody committed: the whole replaces them
                grave = self._bury(target)
                moved = folder.move_to(target, self._layout.root)
                with storage_errors("removing parts", grave):
                    self._fs.remove_tree(grave)
                if moved:
                    return manifest
            published = read_manifest(target / MANIFEST, manifest.state, manifest.key)
            require_same(published, manifest, target)
            return published

    # -- publish in parts

    @contextmanager
    def part(self, state: str, key: str, name: str) -> Iterator[Publication]:
        """Publish one part at the end of the block. Same content again: nothing happens; other: an error.

        After the commit a part is compared with what was committed, partition by partition.
        """
        target = self._layout.part(state, key, name)
        folder = self._staging.new_folder()
        try:
            publication = Publication(folder, {})
            yield publication
            receipt = publication.seal(state, key, PART_RECEIPT)
            if self.has(state, key) and not target.is_dir():
                _require_contained(self.manifest(state, key), receipt, target)
            elif not folder.move_to(target, self._layout.root):
                published = read_manifest(target / PART_RECEIPT, state, key)
                require_same(published, receipt, target)
                receipt = published
            publication.manifest = receipt
        finally:
            folder.discard()

    def parts(self, state: str, key: str) -> tuple[str, ...]:
        """Names of the published parts, sorted; committed or not."""
        folder = self._layout.object(state, key) / PARTS
        if not folder.is_dir():
            return ()
        with storage_errors("listing parts", folder):
            return tuple(sorted(entry.name for entry in folder.iterdir() if (entry / PART_RECEIPT).is_file()))

    def part_receipt(self, state: str, key: str, name: str) -> Manifest:
        """What a part holds."""
        return read_manifest(self._layout.part(state, key, name) / PART_RECEIPT, state, key)

    def open_part(self, state: str, key: str, name: str, table: str) -> TableReader:
        """A reader of a table of one part, committed or not."""
        receipt = self.part_receipt(state, key, name)
        return self._reader(self._layout.part(state, key, name), receipt, table)

    def read_part(
        self, state: str, key: str, name: str, table: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Rows of a table of one part, committed or not."""
        return self.open_part(state, key, name, table).read(columns)

    def published_partitions(self, state: str, key: str, table: str) -> dict[PartitionKey, str]:
        """Digest of every partition that some part holds: what a resumed run need not make again."""
        found: dict[PartitionKey, str] = {}
        for name in self.parts(state, key):
            entry = self.part_receipt(state, key, name).tables.get(table)
            for item in entry.partitions if entry is not None else ():
                found.setdefault(item.key, item.digest)
        return dict(sorted(found.items(), key=lambda pair: key_order(pair[0])))

    def commit(
        self,
        state: str,
        key: str,
        facts: Mapping[str, Any] | None = None,
        *,
        inputs: Mapping[str, str] | None = None,
        documents: Mapping[str, bytes] | None = None,
        expected_parts: Iterable[str] | None = None,
        expected_rows: Mapping[str, int] | None = None,
    ) -> Manifest:
        """Make the parts one visible output: write the manifest, last and once.

        A partition that several parts hold (shards were cut differently after a crash) is taken once, if
        they agree. Raises StoreError E_STORE_PARTS if parts or rows are missing, E_STORE_CONFLICT if parts
        disagree or the key is published with other content.
        """
        target = self._layout.object(state, key)
        with self._lock.hold(f"commit of {state}"):
            published = self.manifest(state, key) if self.has(state, key) else None
            if published is not None and not self.parts(state, key):  # published as a whole
                tables, files = dict(published.tables), dict(published.files)
                merged = Manifest(state, key, tables, {}, files, dict(facts or {}), dict(inputs or {}))
            else:
                merged = self._merge(state, key, dict(facts or {}), dict(inputs or {}), expected_parts)
            for table, rows in (expected_rows or {}).items():
                found = merged.tables[table].rows if table in merged.tables else 0
                if found != rows:
                    message = f"table {table!r} of {state} has {found} rows in its parts, {rows} are expected"
                    raise StoreError(
                        "E_STORE_PARTS", message, where=str(target), next_step="publish the missing parts"
                    )
            content = {document_name(name): data for name, data in (documents or {}).items()}
            entries = {name: FileEntry(len(data), sha256_bytes(data)) for name, data in content.items()}
            digests = {name: entry.sha256 for name, entry in entries.items()}
            merged = replace(merged, documents=digests, files={**merged.files, **entries})
            if published is not None:
                require_same(published, merged, target)
                with storage_errors(f"committing {state}", target):
                    self._fs.sync_up(target, self._layout.root)
                return published
            self._write_commit(target, merged, content)
        return merged

    def _merge(
        self,
        state: str,
        key: str,
        facts: dict[str, Any],
        inputs: dict[str, str],
        expected_parts: Iterable[str] | None,
    ) -> Manifest:
        names = self.parts(state, key)
        missing = sorted({check_name(name, "part") for name in expected_parts or ()} - set(names))
        if missing or not names:
            what = (
                f"{len(missing)} parts are missing, first {missing[0]!r}"
                if missing
                else "no part is published"
            )
            message, folder = f"{state} cannot be committed: {what}", self._layout.object(state, key)
            next_step = "publish the missing parts, then commit again"
            raise StoreError("E_STORE_PARTS", message, where=str(folder), next_step=next_step)
        files: dict[str, FileEntry] = {}
        shards: dict[str, list[TableEntry]] = {}
        for name in names:
            receipt = self.part_receipt(state, key, name)
            prefix = f"{PARTS}/{name}/"
            files.update({prefix + file: entry for file, entry in receipt.files.items()})
            for table, entry in receipt.tables.items():
                shards.setdefault(table, []).append(entry.moved(prefix))
        where = self._layout.object(state, key)
        tables = {table: _merge_table(state, table, shards[table], where) for table in sorted(shards)}
        used = {name for entry in tables.values() for name in entry.files}
        kept = {name: entry for name, entry in files.items() if name in used}
        return Manifest(state, key, tables, {}, kept, facts, inputs)

    def _write_commit(self, target: Path, manifest: Manifest, documents: Mapping[str, bytes]) -> None:
        folder = self._staging.new_folder()
        try:
            for name in sorted(documents):
                folder.add_bytes(name, documents[name])
            folder.add_json(MANIFEST, manifest.to_json())
            folder.seal()
            with storage_errors(f"committing {manifest.state}", target):
                for name in sorted(documents):
                    self._fs.make_directories((target / name).parent, target)
                    self._fs.replace(folder.path / name, target / name)
                    self._fs.sync_up((target / name).parent, target)
                self._fs.link(folder.path / MANIFEST, target / MANIFEST)
                self._fs.sync_up(target, self._layout.root)
        finally:
            folder.discard()

    # -- verify and copy

    def verify_object(self, state: str, key: str) -> Manifest:
        """Re-read every byte and every row of an output and compare with its manifest.

        Raises StoreError E_STORE_DAMAGED (or E_STORE_MISSING) at the first difference.
        """
        manifest = self.manifest(state, key)
        folder = self._layout.object(state, key)
        for name, entry in sorted(manifest.files.items()):
            path = folder / name
            with storage_errors("verifying a file", path):
                if path.stat().st_size != entry.length_bytes:
                    raise damaged(
                        path, f"it has {path.stat().st_size} bytes, {entry.length_bytes} were published"
                    )
                found = sha256_file(path)
            if found != entry.sha256:
                raise damaged(path, f"its SHA-256 is {found}, {entry.sha256} was published")
        for table in sorted(manifest.tables):
            for _ in self._reader(folder, manifest, table).partitions(verify=True):
                pass
        return manifest

    def copy_into(
        self, folder: StagedFolder, state: str, key: str, target: str, *, table: str | None = None
    ) -> list[str]:
        """Copy an output's files (or one table's) below `target` in a staged folder; real, read-only copies.

        `parts/<name>/` is dropped from the paths, so Hive folders of shards come together; where two shards
        have a file of the same name, the part's name is put before its suffix. Returns the new paths.
        """
        manifest = self.manifest(state, key)
        source = self._layout.object(state, key)
        names = sorted(manifest.files)
        if table is not None:
            names = sorted(self._reader(source, manifest, table).entry.files)
        short = [_without_part(name)[0] for name in names]
        copied = []
        for name in names:
            path, part = _without_part(name)
            if short.count(path) > 1:
                pure = PurePosixPath(path)
                path = str(pure.with_name(f"{pure.stem}.{part}{pure.suffix}"))
            path = f"{target}/{path}" if target else path
            item = manifest.files[name]
            folder.add_copy(path, source / name, item.length_bytes, item.sha256)
            copied.append(path)
        return copied

    def remove(self, state: str, key: str) -> None:
        """Take an output away (after `verify_object` found it damaged), so that it can be made again."""
        with self._lock.hold(f"removal of {state}"):
            grave = self._bury(self._layout.object(state, key))
        with storage_errors("removing an output", grave):
            self._fs.remove_tree(grave)

    def _bury(self, folder: Path) -> Path:
        """Take a folder out of sight by one rename; the caller has the lock and removes what is returned."""
        with storage_errors(f"removing {folder.name}", folder):
            grave = self._staging.new_path()
            self._fs.rename_directory(folder, grave)
            self._fs.sync_directory(folder.parent)
        return grave


def _without_part(name: str) -> tuple[str, str]:
    """(path without `parts/<name>/`, that name or nothing)."""
    pieces = name.split("/")
    return ("/".join(pieces[2:]), pieces[1]) if pieces[0] == PARTS else (name, "")


def _merge_table(state: str, table: str, shards: Sequence[TableEntry], where: Path) -> TableEntry:
    """One table from its shards; each partition once."""
    first = shards[0]
    chosen: dict[PartitionKey, PartitionEntry] = {}
    for shard in shards:
        if not shard.same_shape(first):
            message = f"the parts of {state} disagree about the columns or order of table {table!r}"
            raise StoreError("E_STORE_CONFLICT", message, where=str(where), next_step=MAKE_AGAIN)
        for item in shard.partitions:
            other = chosen.setdefault(item.key, item)
            if other.digest != item.digest:
                raise conflict(
                    state, f"table {table}, partition {item.key!r}", other.digest, item.digest, where
                )
    ordered = tuple(chosen[key] for key in sorted(chosen, key=key_order))
    empty_file = None if ordered else first.empty_file
    return TableEntry(
        first.schema, first.derived, first.partition_column, first.sorted_by, ordered, empty_file
    )


def _require_contained(committed: Manifest, part: Manifest, where: Path) -> None:
    """Every partition of a late part must be what was committed."""
    for table, entry in part.tables.items():
        known = (
            {item.key: item.digest for item in committed.tables[table].partitions}
            if (table in committed.tables)
            else {}
        )
        for item in entry.partitions:
            if known.get(item.key) != item.digest:
                what = f"table {table}, partition {item.key!r}"
                raise conflict(part.state, what, known.get(item.key, "nothing"), item.digest, where)
