"""Write tables: parquet files in key order, and a digest of every partition.

Small partitions share row groups (a row group costs about a millisecond to write and to read, whatever it holds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seg1b.errors import ContractError, Seg1bError
from seg1b.store.digest import PartitionHasher, PartitionKey, key_order, logical_schema, numbers_of, type_name
from seg1b.store.filesystem import storage_errors
from seg1b.store.layout import check_name
from seg1b.store.staging import HashingFile, StagedFolder
from seg1b.store.tables import PartitionEntry, TableEntry, split

TableFiles = Literal["single", "per_partition"]
ROW_GROUP_ROWS = 1 << 20
_SHARED_GROUP_ROWS = 1 << 16


class _OpenPartition:
    """The partition that is being written: its place, its digest so far, and its last row."""

    def __init__(self, key: PartitionKey, hasher: PartitionHasher, file: str, first_row: int) -> None:
        self.key, self._hasher, self._file, self._first_row = key, hasher, file, first_row
        self._last: pa.Table | None = None

    def add(self, table: pa.Table, sorted_by: Sequence[str], where: str) -> None:
        """Take in rows that follow; raises ContractError if they are not in order or hold a null."""
        try:
            self._hasher.update(table)
        except Seg1bError as error:
            error.where = error.where or where
            raise
        if self._last is not None:
            _check_sorted(pa.concat_tables([self._last, table.slice(0, 1)]), sorted_by, where)
        _check_sorted(table, sorted_by, where)
        self._last = table.slice(table.num_rows - 1)

    def entry(self) -> PartitionEntry:
        """What the manifest says about it."""
        hasher = self._hasher
        return PartitionEntry(
            self.key, hasher.rows, hasher.hexdigest(), self._file, self._first_row, hasher.columns()
        )


class TableWriter:
    """Write one table into a staged folder, partition by partition in ascending key order.

    `single` puts all partitions into `<name>.parquet`; `per_partition` writes
    `<name>/<column>=<key>/part-0.parquet` (Hive); the files then need not repeat the column. `derived`
    columns are not part of the logical digest. `encodings` names the Parquet encoding of columns that the
    usual one does not suit: files get smaller, rows stay the same.
    """

    def __init__(
        self,
        folder: StagedFolder,
        name: str,
        schema: pa.Schema,
        *,
        partition_column: str | None = None,
        sorted_by: Sequence[str] = (),
        derived: Sequence[str] = (),
        files: TableFiles = "single",
        encodings: Mapping[str, str] | None = None,
    ) -> None:
        in_file = [partition_column] if partition_column and files == "single" else []
        unknown = sorted({*sorted_by, *derived, *in_file, *(encodings or {})} - set(schema.names))
        if unknown:
            raise ContractError("E_STORE_COLUMNS", f"table {name!r} has no column {unknown[0]!r}")
        if files == "per_partition" and partition_column is None:
            raise ContractError(
                "E_STORE_COLUMNS", f"table {name!r} has no partition column to split files by"
            )
        self._folder, self._name, self._schema = folder, check_name(name, "table"), schema
        self._partition_column, self._files = partition_column, files
        self._sorted_by, self._derived = tuple(sorted_by), tuple(derived)
        self._logical_schema = logical_schema(schema, derived)
        self._layout = _layout(schema, encodings or {}, internal=files == "single")
        self._partitions: list[PartitionEntry] = []
        self._current: _OpenPartition | None = None
        self._file: HashingFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._file_name = ""
        self._file_rows = 0
        self._pending: list[pa.Table] = []
        self._pending_rows = 0

    def write_partition(self, key: PartitionKey, table: pa.Table) -> None:
        """Write one partition: rows of one key, in row order. Empty ones are skipped.

        Raises ContractError if the schema differs, keys do not ascend, rows are unsorted or a value is null.
        """
        if self._current is not None and key == self._current.key and table.num_rows:
            raise ContractError(
                "E_STORE_UNSORTED", f"partition {key!r} comes after {key!r}", where=self._where(key)
            )
        self.append(key, table)

    def append(self, key: PartitionKey, table: pa.Table) -> None:
        """Add rows to the last partition, or begin one whose key comes after it; raises as `write_partition`."""
        where = self._where(key)
        if not table.schema.equals(self._schema):
            raise ContractError("E_STORE_COLUMNS", f"the columns are {table.schema.names}", where=where)
        if table.num_rows == 0:
            return
        self._check_key(key, table, where)
        partition = self._partition(key, where)
        partition.add(table, [name for name in self._sorted_by if name != self._partition_column], where)
        self._put(table)

    def _where(self, key: PartitionKey) -> str:
        return f"table {self._name!r}, partition {key!r}"

    def _partition(self, key: PartitionKey, where: str) -> _OpenPartition:
        """The current partition if it has this key, or a new one."""
        current = self._current
        if current is not None:
            if current.key == key:
                return current
            if key_order(key) <= key_order(current.key):
                raise ContractError(
                    "E_STORE_UNSORTED", f"partition {key!r} comes after {current.key!r}", where=where
                )
            self._end_partition()
        if self._files == "per_partition":
            self._finish_file()
            self._start_file(f"{self._name}/{self._partition_column}={key}/part-0.parquet")
        elif self._writer is None:
            self._start_file(f"{self._name}.parquet")
        hasher = PartitionHasher(self._schema, self._derived)
        self._current = _OpenPartition(key, hasher, self._file_name, self._file_rows)
        return self._current

    def _end_partition(self) -> None:
        if self._current is not None:
            self._partitions.append(self._current.entry())
            self._current = None

    def _put(self, table: pa.Table) -> None:
        """Write rows, together with those of other small tables."""
        if self._pending_rows and self._pending_rows + table.num_rows > ROW_GROUP_ROWS:
            self._flush()
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self._file_rows += table.num_rows
        if self._pending_rows >= _SHARED_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._pending or self._writer is None:
            return
        rows = pa.concat_tables(self._pending) if len(self._pending) > 1 else self._pending[0]
        self._pending, self._pending_rows = [], 0
        with storage_errors(f"writing {self._file_name}", self._folder.path):
            self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)

    def _check_key(self, key: PartitionKey, table: pa.Table, where: str) -> None:
        """The partition column, where the file has it, holds the key in every row."""
        column = self._partition_column
        if column is not None and column in table.column_names:
            others = [value for value in table.column(column).unique().to_pylist() if value != key]
            if others:
                raise ContractError("E_STORE_COLUMNS", f"a row has {column} {others[0]!r}", where=where)

    def write(self, table: pa.Table) -> None:
        """Write a table that is sorted by its partition column (or has none)."""
        if self._partition_column is None:
            self.write_partition("", table)
            return
        for key, rows in split(table, self._partition_column):
            self.write_partition(key, rows)

    def extend(self, table: pa.Table) -> None:
        """Add rows that are sorted by the partition column; the first may belong to the last partition."""
        for key, rows in split(table, self._partition_column or ""):
            self.append(key, rows)

    def _start_file(self, name: str) -> None:
        self._file_name, self._file_rows = name, 0
        self._file = self._folder.create(name)
        with storage_errors(f"writing {name}", self._folder.path):
            self._writer = pq.ParquetWriter(self._file, self._schema, **self._layout)

    def _finish_file(self) -> None:
        if self._writer is None or self._file is None:
            return
        self._flush()
        with storage_errors(f"writing {self._file_name}", self._folder.path):
            self._writer.close()
            self._file.close()
        self._folder.finished(self._file_name, self._file)
        self._writer = self._file = None

    def finish(self) -> TableEntry:
        """Close the files and say what was written. A table without rows leaves a file with its schema."""
        empty_file = None
        self._end_partition()
        if not self._partitions:
            empty_file = f"{self._name}.parquet"
            self._start_file(empty_file)
        self._finish_file()
        return TableEntry(
            self._logical_schema,
            self._derived,
            self._partition_column,
            self._sorted_by,
            tuple(self._partitions),
            empty_file,
        )

    def abort(self) -> None:
        """Close the files without caring for their content."""
        writer, file = self._writer, self._file
        self._writer = self._file = None
        self._pending = []
        for closable in (writer, file):
            if closable is not None:
                try:
                    closable.close()
                except (OSError, pa.ArrowException):
                    continue


def _layout(schema: pa.Schema, wanted: Mapping[str, str], *, internal: bool) -> dict[str, Any]:
    """How columns are laid out in a file. Text repeats and gets a dictionary; numbers seldom do, and trying costs most.

    Our own tables use encodings that halve the time; published files keep to what every reader has. `wanted` names
    the encodings of single columns and goes before.
    """
    text = [field.name for field in schema if type_name(field.type) == "string"]
    encoding = {}
    for field in schema if internal else ():
        if pa.types.is_floating(field.type):
            encoding[field.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(field.type) and field.type.bit_width >= 32:
            encoding[field.name] = "DELTA_BINARY_PACKED"
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": text or False,
        "column_encoding": {**encoding, **wanted} or None,
    }


def _ranks(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Numbers that order text as it orders itself."""
    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    place = {text: rank for rank, text in enumerate(sorted(set(texts)))}
    ranks: npt.NDArray[np.int64] = np.array([place[text] for text in texts], np.int64)[
        numbers_of(encoded.indices)
    ]
    return ranks


def _check_sorted(table: pa.Table, columns: Sequence[str], where: str) -> None:
    """Rows must ascend strictly by `columns` (which makes them a key)."""
    if not columns or table.num_rows < 2:
        return
    undecided = np.ones(table.num_rows - 1, dtype=np.bool_)
    for name in columns:
        column = table.column(name)
        values = _ranks(column) if type_name(column.type) == "string" else numbers_of(column)
        before, after = values[:-1], values[1:]
        wrong = undecided & np.asarray(after < before, dtype=np.bool_)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0]) + 1
            raise ContractError(
                "E_STORE_UNSORTED", f"rows are out of order by {name}", where=f"{where}, row {row}"
            )
        undecided &= np.asarray(after == before, dtype=np.bool_)
    if undecided.any():
        row = int(np.flatnonzero(undecided)[0]) + 1
        key = ", ".join(columns)
        raise ContractError(
            "E_STORE_DUPLICATE_ROW", f"the key ({key}) is repeated", where=f"{where}, row {row}"
        )
