"""Read published tables in partition order, whatever files they lie in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seg1b.store.digest import PartitionKey, arrow_partition_digest, numbers_of
from seg1b.store.filesystem import storage_errors
from seg1b.store.tables import PartitionEntry, TableEntry, damaged

_OPEN_FILES = 16
_ROWS_AT_ONCE = 1 << 22


@dataclass
class _OpenFile:
    """A parquet file that was opened, the first row of each of its row groups, and the group read last."""

    parquet: pq.ParquetFile
    group_start: NDArray[np.int64]
    group: int = -1
    columns: tuple[str, ...] | None = None
    rows: pa.Table | None = None

    def read(self, first: int, rows: int, columns: tuple[str, ...] | None) -> pa.Table:
        """Some rows; fewer if the file ends before. Raises pa.ArrowException, OSError."""
        last = min(first + rows, int(self.group_start[-1]))
        low, high = np.searchsorted(self.group_start, [first, last - 1], side="right").tolist()
        parts = []
        for group in range(low - 1, high):
            start = int(self.group_start[group])
            whole = first <= start and last >= int(self.group_start[group + 1])
            table = self._groups(group, columns, keep=not whole)
            begin = max(first - start, 0)
            parts.append(table.slice(begin, last - start - begin))
        if parts:
            return pa.concat_tables(parts)
        nothing = self.parquet.schema_arrow.empty_table()
        return nothing if columns is None else nothing.select(list(columns))

    def _groups(self, group: int, columns: tuple[str, ...] | None, *, keep: bool) -> pa.Table:
        """A row group; partitions that share one are read one after the other, so the last is kept."""
        if self.rows is not None and (self.group, self.columns) == (group, columns):
            return self.rows
        wanted = None if columns is None else list(columns)
        table = self.parquet.read_row_group(group, columns=wanted)
        if columns is not None:
            table = table.select(wanted)
        self.group, self.columns, self.rows = (group, columns, table) if keep else (-1, None, None)
        return table


class TableReader:
    """Read a published table in partition order, whatever its shards."""

    def __init__(self, folder: Path, name: str, entry: TableEntry, lengths_bytes: dict[str, int]) -> None:
        self.name, self.entry = name, entry
        self._folder, self._lengths_bytes = folder, lengths_bytes
        self._open: dict[str, _OpenFile] = {}
        self._by_key = {item.key: item for item in entry.partitions}

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.entry.rows

    @property
    def keys(self) -> tuple[PartitionKey, ...]:
        """Partition keys, ascending."""
        return tuple(item.key for item in self.entry.partitions)

    @property
    def partition_rows(self) -> tuple[tuple[PartitionKey, int], ...]:
        """(key, rows) of every partition, ascending."""
        return tuple((item.key, item.rows) for item in self.entry.partitions)

    def partition(
        self, key: PartitionKey, columns: Sequence[str] | None = None, *, verify: bool = False
    ) -> pa.Table:
        """Rows of one partition; no rows if there is no such partition. `verify` recomputes its digest.

        Raises StoreError E_STORE_DAMAGED for a file that is not the published one.
        """
        item = self._by_key.get(key)
        if item is None:
            return self.schema(columns).empty_table()
        wanted = None if columns is None or verify else tuple(columns)
        table = self._rows(item.file, item.first_row, item.rows, wanted)
        if verify:
            if arrow_partition_digest(table, self.entry.derived) != item.digest:
                raise damaged(
                    self._folder / item.file, f"the rows of partition {key!r} are not those published"
                )
            if columns is not None:
                table = table.select(list(columns))
        return table

    def several(self, keys: Sequence[PartitionKey]) -> pa.Table:
        """All columns of some partitions, in the order of `keys`; no rows of one that is not there.

        What lies together in a file is read at once. Raises StoreError E_STORE_DAMAGED as `partition` does.
        """
        there = [self._by_key[key] for key in keys if key in self._by_key]
        tables = [self._rows(file, first, rows, None) for file, first, rows in _runs(there)]
        return pa.concat_tables(tables) if tables else self.schema().empty_table()

    def slice(
        self, key: PartitionKey, first: int, rows: int, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Some rows of a partition, from number `first` on; cheapest in ascending order.

        Raises StoreError E_STORE_DAMAGED for a file that is not the published one, KeyError without such rows.
        """
        item = self._by_key[key]
        if not 0 <= first <= first + rows <= item.rows:
            raise KeyError(f"partition {key!r} has {item.rows} rows")
        return self._rows(
            item.file, item.first_row + first, rows, None if columns is None else tuple(columns)
        )

    def partitions(
        self, columns: Sequence[str] | None = None, *, verify: bool = False
    ) -> Iterator[tuple[PartitionKey, pa.Table]]:
        """(key, rows) of every partition, ascending; one in memory at a time."""
        for item in self.entry.partitions:
            yield item.key, self.partition(item.key, columns, verify=verify)

    def read(self, columns: Sequence[str] | None = None, *, verify: bool = False) -> pa.Table:
        """All rows in partition order.

        Raises StoreError E_STORE_DAMAGED for a file that is not the published one.
        """
        if verify:
            tables = [table for _, table in self.partitions(columns, verify=True)]
        else:
            wanted = None if columns is None else tuple(columns)
            tables = [
                self._rows(file, first, rows, wanted) for file, first, rows in _runs(self.entry.partitions)
            ]
        return pa.concat_tables(tables) if tables else self.schema(columns).empty_table()

    def column(self, name: str) -> NDArray[Any]:
        """One column of numbers in partition order, read-only; beside it, some row groups at a time are in memory.

        Raises StoreError E_STORE_DAMAGED for a file that is not the published one.
        """
        kind = self.schema([name]).field(0).type.to_pandas_dtype()
        values = np.empty(self.rows, kind)
        done = 0
        for file, first, rows in _runs(self.entry.partitions):
            for part in range(first, first + rows, _ROWS_AT_ONCE):
                table = self._rows(file, part, min(_ROWS_AT_ONCE, first + rows - part), (name,))
                values[done : done + table.num_rows] = numbers_of(table.column(name))
                done += table.num_rows
        values.setflags(write=False)
        return values

    def schema(self, columns: Sequence[str] | None = None) -> pa.Schema:
        """Arrow schema, of all or some columns."""
        file = self.entry.empty_file or self.entry.partitions[0].file
        schema = self._parquet(file).parquet.schema_arrow
        return schema if columns is None else pa.schema([schema.field(name) for name in columns])

    def _parquet(self, file: str) -> _OpenFile:
        found = self._open.pop(file, None)
        if found is None:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open)))
            found = self._opened(file)
        self._open[file] = found  # the last in order is the one used last
        return found

    def _opened(self, file: str) -> _OpenFile:
        path = self._folder / file
        with storage_errors("opening a table", path):
            if path.stat().st_size != self._lengths_bytes[file]:
                raise damaged(path, f"its length is not the {self._lengths_bytes[file]} bytes published")
        try:
            parquet = pq.ParquetFile(path, memory_map=True)
            metadata = parquet.metadata
            lengths = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, str(error)) from error
        return _OpenFile(parquet, np.cumsum([0, *lengths], dtype=np.int64))

    def _rows(self, file: str, first: int, rows: int, columns: tuple[str, ...] | None) -> pa.Table:
        open_file = self._parquet(file)
        try:
            table = open_file.read(first, rows, columns)
        except (pa.ArrowException, OSError, IndexError) as error:
            raise damaged(self._folder / file, str(error)) from error
        if table.num_rows != rows:
            path = self._folder / file
            raise damaged(path, f"it gave {table.num_rows} rows where {rows} were published")
        return table


def _runs(partitions: Iterable[PartitionEntry]) -> Iterator[tuple[str, int, int]]:
    """(file, first row, rows) of partitions, those together that follow each other in one file."""
    run: tuple[str, int, int] | None = None
    for item in partitions:
        if run is not None and (run[0], run[1] + run[2]) == (item.file, item.first_row):
            run = (run[0], run[1], run[2] + item.rows)
            continue
        if run is not None:
            yield run
        run = (item.file, item.first_row, item.rows)
    if run is not None:
        yield run
