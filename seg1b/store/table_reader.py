"""Read published tables in partition order, whatever files they lie in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from seg1b.store.digest import PartitionKey, arrow_partition_digest
from seg1b.store.filesystem import storage_errors
from seg1b.store.tables import TableEntry, damaged


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
                raise damaged(
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
                raise damaged(path, f"its length is not the {self._lengths_bytes[file]} bytes published")
        try:
            parquet = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, str(error)) from error
        self._open = (file, parquet)
        return parquet

    def _read_groups(self, file: str, first: int, groups: int, columns: list[str] | None) -> pa.Table:
        parquet = self._parquet(file)
        try:
            table = parquet.read_row_groups(
                list(range(first, first + groups)), columns=columns, use_threads=False
            )
        except (pa.ArrowException, OSError, IndexError) as error:
            raise damaged(self._folder / file, str(error)) from error
        return table if columns is None else table.select(columns)

    def _check_rows(self, file: str, found: int, expected: int) -> None:
        if found != expected:
            raise damaged(self._folder / file, f"it gave {found} rows where {expected} were published")
