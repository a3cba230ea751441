"""Tables on disk: parquet with row groups per partition, written in key order, read back in any layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seg1b.errors import ContractError, Seg1bError, StoreError
from seg1b.store.digest import (
    PartitionKey,
    arrow_partition_digest,
    key_order,
    logical_schema,
    table_digest,
    type_name,
)
from seg1b.store.filesystem import storage_errors
from seg1b.store.layout import check_name
from seg1b.store.staging import HashingFile, StagedFolder

TableFiles = Literal["single", "per_partition"]
ROW_GROUP_ROWS = 1 << 20


@dataclass(frozen=True)
class PartitionEntry:
    """Where one partition lies: a run of row groups of one file."""

    key: PartitionKey
    rows: int
    digest: str
    file: str
    first_row_group: int
    row_groups: int

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return dict(vars(self))


@dataclass(frozen=True)
class TableEntry:
    """What a manifest says about a table. `partitions` ascend by key."""

    schema: tuple[tuple[str, str], ...]
    derived: tuple[str, ...]
    partition_column: str | None
    sorted_by: tuple[str, ...]
    partitions: tuple[PartitionEntry, ...]
    empty_file: str | None

    @property
    def rows(self) -> int:
        """Rows of all partitions."""
        return sum(entry.rows for entry in self.partitions)

    @property
    def logical_digest(self) -> str:
        """Digest of the rows, whatever the layout."""
        return table_digest(self.schema, [(entry.key, entry.rows, entry.digest) for entry in self.partitions])

    @property
    def files(self) -> frozenset[str]:
        """Every file that holds a part of it."""
        named = {entry.file for entry in self.partitions}
        return frozenset(named if self.empty_file is None else {*named, self.empty_file})

    def same_shape(self, other: TableEntry) -> bool:
        """Whether both describe shards of one table."""
        mine = (self.schema, self.derived, self.partition_column, self.sorted_by)
        return mine == (other.schema, other.derived, other.partition_column, other.sorted_by)

    def moved(self, prefix: str) -> TableEntry:
        """The same table with every file below `prefix`."""
        partitions = tuple(replace(entry, file=prefix + entry.file) for entry in self.partitions)
        empty_file = None if self.empty_file is None else prefix + self.empty_file
        return replace(self, partitions=partitions, empty_file=empty_file)

    def to_json(self) -> dict[str, Any]:
        """JSON form, with rows and digest written out for readers."""
        return {
            "schema": [list(column) for column in self.schema],
            "derived": list(self.derived),
            "partition_column": self.partition_column,
            "sorted_by": list(self.sorted_by),
            "rows": self.rows,
            "logical_digest": self.logical_digest,
            "partitions": [entry.to_json() for entry in self.partitions],
            "empty_file": self.empty_file,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TableEntry:
        """Inverse of `to_json`; raises KeyError, TypeError or ValueError (also when its digest is wrong)."""
        entry = cls(
            tuple((str(name), str(kind)) for name, kind in value["schema"]),
            tuple(value["derived"]),
            value["partition_column"],
            tuple(value["sorted_by"]),
            tuple(PartitionEntry(**item) for item in value["partitions"]),
            value["empty_file"],
        )
        if entry.rows != value["rows"] or entry.logical_digest != value["logical_digest"]:
            raise ValueError("rows or logical digest of a table do not follow from its partitions")
        return entry


def _check_sorted(table: pa.Table, columns: Sequence[str], where: str) -> None:
    """Rows must ascend strictly by `columns` (which makes them a key)."""
    if not columns or table.num_rows < 2:
        return
    undecided = np.ones(table.num_rows - 1, dtype=np.bool_)
    for name in columns:
        column = table.column(name)
        if type_name(column.type) == "string":
            values = np.asarray(column.to_pylist(), dtype=object)
        else:
            values = column.to_numpy()
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


class TableWriter:
    """Write one table into a staged folder, partition by partition in ascending key order.

    `single` puts all partitions into `<name>.parquet`; `per_partition` writes
    `<name>/<column>=<key>/part-0.parquet` (Hive); the files then need not repeat the column. `derived`
    columns are not part of the logical digest.
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
    ) -> None:
        in_file = [partition_column] if partition_column and files == "single" else []
        unknown = sorted({*sorted_by, *derived, *in_file} - set(schema.names))
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
        self._partitions: list[PartitionEntry] = []
        self._file: HashingFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._file_name = ""
        self._row_groups = 0

    def write_partition(self, key: PartitionKey, table: pa.Table) -> None:
        """Write one partition: rows of one key, in row order. Empty ones are skipped.

        Raises ContractError if the schema differs, keys do not ascend, rows are unsorted or a value is null.
        """
        where = f"table {self._name!r}, partition {key!r}"
        if not table.schema.equals(self._schema):
            raise ContractError("E_STORE_COLUMNS", f"the columns are {table.schema.names}", where=where)
        if table.num_rows == 0:
            return
        if self._partitions and key_order(key) <= key_order(self._partitions[-1].key):
            last = self._partitions[-1].key
            raise ContractError("E_STORE_UNSORTED", f"partition {key!r} comes after {last!r}", where=where)
        self._check_key(key, table, where)
        try:
            digest = arrow_partition_digest(table, self._derived)
        except Seg1bError as error:
            error.where = error.where or where
            raise
        _check_sorted(table, self._sorted_by, where)
        if self._files == "per_partition":
            self._finish_file()
            self._start_file(f"{self._name}/{self._partition_column}={key}/part-0.parquet")
        elif self._writer is None:
            self._start_file(f"{self._name}.parquet")
        assert self._writer is not None
        with storage_errors(f"writing {self._file_name}", self._folder.path):
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        groups = -(-table.num_rows // ROW_GROUP_ROWS)
        entry = PartitionEntry(key, table.num_rows, digest, self._file_name, self._row_groups, groups)
        self._partitions.append(entry)
        self._row_groups += groups

    def _check_key(self, key: PartitionKey, table: pa.Table, where: str) -> None:
        """The partition column, where the file has it, holds the key in every row."""
        column = self._partition_column
        if column is not None and column in table.column_names:
            others = [value for value in pc.unique(table.column(column)).to_pylist() if value != key]
            if others:
                raise ContractError("E_STORE_COLUMNS", f"a row has {column} {others[0]!r}", where=where)

    def write(self, table: pa.Table) -> None:
        """Write a table that is sorted by its partition column (or has none)."""
        if self._partition_column is None:
            self.write_partition("", table)
            return
        for key, rows in split(table, self._partition_column):
            self.write_partition(key, rows)

    def _start_file(self, name: str) -> None:
        self._file_name, self._row_groups = name, 0
        self._file = self._folder.create(name)
        with storage_errors(f"writing {name}", self._folder.path):
            self._writer = pq.ParquetWriter(
                self._file, self._schema, compression="zstd", compression_level=3, write_statistics=True
            )

    def _finish_file(self) -> None:
        if self._writer is None or self._file is None:
            return
        with storage_errors(f"writing {self._file_name}", self._folder.path):
            self._writer.close()
            self._file.close()
        self._folder.finished(self._file_name, self._file)
        self._writer = self._file = None

    def finish(self) -> TableEntry:
        """Close the files and say what was written. A table without rows leaves a file with its schema."""
        empty_file = None
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
        for closable in (writer, file):
            if closable is not None:
                try:
                    closable.close()
                except (OSError, pa.ArrowException):
                    continue


def split(table: pa.Table, column: str) -> Iterator[tuple[PartitionKey, pa.Table]]:
    """(key, rows) for each run of equal values of `column`."""
    values = table.column(column)
    if values.null_count:
        raise ContractError("E_STORE_NULL", f"nulls in the partition column {column!r}")
    if table.num_rows == 0:
        return
    is_text = type_name(values.type) == "string"
    array = np.asarray(values.to_pylist(), dtype=object) if is_text else values.to_numpy()
    if not is_text and array.dtype.kind not in "iu":
        raise ContractError("E_STORE_TYPE", f"the partition column {column!r} is neither text nor integer")
    starts = np.concatenate(([0], np.flatnonzero(array[1:] != array[:-1]) + 1, [len(array)]))
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        key = array[start]
        yield (str(key) if is_text else int(key)), table.slice(start, end - start)


def partitioned_digest(table: pa.Table, column: str) -> str:
    """Logical digest of a table in memory that is sorted by its partition column."""
    partitions = [(key, rows.num_rows, arrow_partition_digest(rows)) for key, rows in split(table, column)]
    return table_digest(logical_schema(table.schema), partitions)


def hive_digest(partitions: Mapping[PartitionKey, pa.Table], derived: Sequence[str] = ()) -> str:
    """Logical digest of a table whose partitions do not repeat their key; at least one partition."""
    schema = next(iter(partitions.values())).schema
    entries = [
        (key, rows.num_rows, arrow_partition_digest(rows, derived)) for key, rows in partitions.items()
    ]
    return table_digest(logical_schema(schema, derived), entries)


class TableReader:
    """Read a published table in partition order, whatever its shards."""

    def __init__(self, folder: Path, name: str, entry: TableEntry, lengths_bytes: dict[str, int]) -> None:
        self.name, self.entry = name, entry
        self._folder, self._lengths_bytes = folder, lengths_bytes
        self._open: tuple[str, pq.ParquetFile] | None = None
        self._by_key = {item.key: item for item in entry.partitions}

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.entry.rows

    @property
    def keys(self) -> tuple[PartitionKey, ...]:
        """Partition keys, ascending."""
        return tuple(item.key for item in self.entry.partitions)

    def partition(
        self, key: PartitionKey, columns: Sequence[str] | None = None, *, verify: bool = False
    ) -> pa.Table:
        """Rows of one partition; no rows if there is no such partition. `verify` recomputes its digest."""
        item = self._by_key.get(key)
        if item is None:
            return self.schema(columns).empty_table()
        wanted = None if columns is None or verify else list(columns)
        table = self._read_groups(item.file, item.first_row_group, item.row_groups, wanted)
        self._check_rows(item.file, table.num_rows, item.rows)
        if verify:
            if arrow_partition_digest(table, self.entry.derived) != item.digest:
                raise _damaged(
                    self._folder / item.file, f"the rows of partition {key!r} are not those published"
                )
            if columns is not None:
                table = table.select(list(columns))
        return table

    def partitions(
        self, columns: Sequence[str] | None = None, *, verify: bool = False
    ) -> Iterator[tuple[PartitionKey, pa.Table]]:
        """(key, rows) of every partition, ascending; one in memory at a time."""
        for item in self.entry.partitions:
            yield item.key, self.partition(item.key, columns, verify=verify)

    def read(self, columns: Sequence[str] | None = None, *, verify: bool = False) -> pa.Table:
        """All rows in partition order."""
        if verify:
            tables = [table for _, table in self.partitions(columns, verify=True)]
        else:
            wanted = None if columns is None else list(columns)
            tables = []
            for file, first, groups, rows in self._runs():
                tables.append(self._read_groups(file, first, groups, wanted))
                self._check_rows(file, tables[-1].num_rows, rows)
        return pa.concat_tables(tables) if tables else self.schema(columns).empty_table()

    def schema(self, columns: Sequence[str] | None = None) -> pa.Schema:
        """Arrow schema, of all or some columns."""
        file = self.entry.empty_file or self.entry.partitions[0].file
        schema = self._parquet(file).schema_arrow
        return schema if columns is None else pa.schema([schema.field(name) for name in columns])

    def _runs(self) -> Iterator[tuple[str, int, int, int]]:
        """(file, first row group, row groups, rows) of partitions that follow each other in one file."""
        run: tuple[str, int, int, int] | None = None
        for item in self.entry.partitions:
            if run is not None and run[0] == item.file and run[1] + run[2] == item.first_row_group:
                run = (run[0], run[1], run[2] + item.row_groups, run[3] + item.rows)
                continue
            if run is not None:
                yield run
            run = (item.file, item.first_row_group, item.row_groups, item.rows)
        if run is not None:
            yield run

    def _parquet(self, file: str) -> pq.ParquetFile:
        if self._open is not None and self._open[0] == file:
            return self._open[1]
        path = self._folder / file
        with storage_errors("opening a table", path):
            if path.stat().st_size != self._lengths_bytes[file]:
                raise _damaged(path, f"its length is not the {self._lengths_bytes[file]} bytes published")
        try:
            parquet = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, str(error)) from error
        self._open = (file, parquet)
        return parquet

    def _read_groups(self, file: str, first: int, groups: int, columns: list[str] | None) -> pa.Table:
        parquet = self._parquet(file)
        try:
            table = parquet.read_row_groups(
                list(range(first, first + groups)), columns=columns, use_threads=False
            )
        except (pa.ArrowException, OSError, IndexError) as error:
            raise _damaged(self._folder / file, str(error)) from error
        return table if columns is None else table.select(columns)

    def _check_rows(self, file: str, found: int, expected: int) -> None:
        if found != expected:
            raise _damaged(self._folder / file, f"it gave {found} rows where {expected} were published")


def _damaged(path: Path, problem: str) -> StoreError:
    return StoreError(
        "E_STORE_DAMAGED",
        f"a published file is damaged: {problem}",
        where=str(path),
        next_step="remove this object with `seg1b runs prune` or by hand and run again: it will be made anew",
    )


damaged = _damaged
