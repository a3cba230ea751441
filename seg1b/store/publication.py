"""What a state puts into one output, or one part of it, before anybody can see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from seg1b.errors import ContractError
from seg1b.store.layout import MANIFEST, PART_RECEIPT, PARTS
from seg1b.store.manifest import FileEntry, Manifest
from seg1b.store.staging import StagedFolder
from seg1b.store.table_writer import TableFiles, TableWriter
from seg1b.store.tables import TableEntry


class Publication:
    """What a state puts into one output or one part of it, while nobody sees it yet."""

    def __init__(self, folder: StagedFolder, inputs: Mapping[str, str]) -> None:
        self._folder = folder
        self._writers: list[TableWriter] = []
        self._tables: dict[str, TableEntry] = {}
        self._inputs = dict(inputs)
        self.facts: dict[str, Any] = {}
        self.manifest: Manifest | None = None

    def add_table(
        self,
        name: str,
        table: pa.Table,
        *,
        partition_column: str | None = None,
        sorted_by: Sequence[str] = (),
        derived: Sequence[str] = (),
        files: TableFiles = "single",
        encodings: Mapping[str, str] | None = None,
    ) -> TableEntry:
        """Write a table, sorted by its partition column. See `TableWriter` for the options."""
        with self.table_writer(
            name,
            table.schema,
            partition_column=partition_column,
            sorted_by=sorted_by,
            derived=derived,
            files=files,
            encodings=encodings,
        ) as writer:
            writer.write(table)
        return self._tables[name]

    @contextmanager
    def table_writer(
        self,
        name: str,
        schema: pa.Schema,
        *,
        partition_column: str | None = None,
        sorted_by: Sequence[str] = (),
        derived: Sequence[str] = (),
        files: TableFiles = "single",
        encodings: Mapping[str, str] | None = None,
    ) -> Iterator[TableWriter]:
        """Write a table partition by partition, in bounded memory."""
        writer = TableWriter(
            self._folder,
            name,
            schema,
            partition_column=partition_column,
            sorted_by=sorted_by,
            derived=derived,
            files=files,
            encodings=encodings,
        )
        try:
            yield writer
            entry = writer.finish()
        except BaseException:
            writer.abort()
            raise
        self._tables[name] = entry

    def add_json(self, name: str, value: Any) -> None:
        """Write a JSON document."""
        self._folder.add_json(document_name(name), value)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a document of any kind."""
        self._folder.add_bytes(document_name(name), data)

    def add_parts(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a document of these parts, one after the other, without putting them together in memory."""
        self._folder.add_parts(document_name(name), parts)

    def add_copy(self, name: str, source: Path, length_bytes: int, sha256: str) -> None:
        """Copy a file, as a document, of which length and digest are known: any other bytes are refused at the end."""
        self._folder.add_copy(document_name(name), source, length_bytes, sha256)

    def seal(self, state: str, key: str, manifest_name: str) -> Manifest:
        """Write the manifest and force everything to the disk; the store calls it at the end of the block."""
        table_files = {name for entry in self._tables.values() for name in entry.files}
        files = {name: FileEntry(*found) for name, found in self._folder.files.items()}
        documents = {name: entry.sha256 for name, entry in files.items() if name not in table_files}
        manifest = Manifest(state, key, self._tables, documents, files, self.facts, self._inputs)
        self._folder.add_json(manifest_name, manifest.to_json())
        self._folder.seal()
        return manifest


def document_name(name: str) -> str:
    """A document's name, which must not be one of the store's own.

    Raises ContractError E_STORE_NAME if it is.
    """
    if name in {MANIFEST, PART_RECEIPT} or name.split("/")[0] == PARTS:
        raise ContractError("E_STORE_NAME", f"the name {name!r} is the store's own")
    return name
