"""Tables: what a manifest says about one, its partitions, and its logical digest.

They are written by `table_writer` and read by `table_reader`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seg1b.errors import ContractError, StoreError
from seg1b.store.digest import (
    PartitionHasher,
    PartitionKey,
    joined_digest,
    logical_schema,
    table_digest,
    type_name,
)


@dataclass(frozen=True)
class PartitionEntry:
    """Where one partition lies: `rows` rows of one file from row `first_row` on, whatever its row groups.

    `columns` has the digest of each column, from which `digest` follows: who joins two tables need not read them.
    Nothing is known of them (None) where an earlier release wrote the table.
    """

    key: PartitionKey
    rows: int
    digest: str
    file: str
    first_row: int
    columns: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return {name: value for name, value in vars(self).items() if value is not None}


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
        for item in entry.partitions:
            if item.columns is not None and item.digest != joined_digest(
                entry.schema, item.rows, item.columns
            ):
                raise ValueError(f"the digest of partition {item.key!r} does not follow from its columns")
        return entry


def split(table: pa.Table, column: str) -> Iterator[tuple[PartitionKey, pa.Table]]:
    """(key, rows) for each run of equal values of `column`.

    Raises ContractError E_STORE_NULL for nulls in it, E_STORE_TYPE if it is neither text nor integers.
    """
    values = table.column(column)
    if values.null_count:
        raise ContractError("E_STORE_NULL", f"nulls in the partition column {column!r}")
    if table.num_rows == 0:
        return
    is_text = type_name(values.type) == "string"
    if not is_text and not pa.types.is_integer(values.type):
        raise ContractError("E_STORE_TYPE", f"the partition column {column!r} is neither text nor integer")
    encoded = values.combine_chunks()
    if is_text and not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    array = (encoded.indices if is_text else encoded).to_numpy()
    starts = np.concatenate(([0], np.flatnonzero(array[1:] != array[:-1]) + 1, [len(array)]))
    for start, end in pairwise(starts.tolist()):
        yield values[start].as_py(), table.slice(start, end - start)


class TableHasher:
    """Logical digest of a table in memory whose rows come in pieces, partitions in ascending order."""

    def __init__(self, derived: Sequence[str] = ()) -> None:
        self._derived = tuple(derived)
        self._schema: pa.Schema | None = None
        self._partitions: dict[PartitionKey, PartitionHasher] = {}

    def append(self, key: PartitionKey, table: pa.Table) -> None:
        """Rows of one partition that follow those before."""
        self._schema = table.schema
        if key not in self._partitions:
            self._partitions[key] = PartitionHasher(table.schema, self._derived)
        self._partitions[key].update(table)

    def extend(self, table: pa.Table, column: str) -> None:
        """Rows that are sorted by the partition column."""
        for key, rows in split(table, column):
            self.append(key, rows)

    def hexdigest(self) -> str:
        """Digest of all rows so far, 64 hex. Raises ContractError E_STORE_PARTITION if there are none."""
        if self._schema is None:
            raise ContractError("E_STORE_PARTITION", "a table without rows has no digest here")
        entries = [(key, hasher.rows, hasher.hexdigest()) for key, hasher in self._partitions.items()]
        return table_digest(logical_schema(self._schema, self._derived), entries)


def partitioned_digest(table: pa.Table, column: str) -> str:
    """Logical digest of a table in memory that is sorted by its partition column; at least one row."""
    hasher = TableHasher()
    hasher.extend(table, column)
    return hasher.hexdigest()


def hive_digest(partitions: Mapping[PartitionKey, pa.Table], derived: Sequence[str] = ()) -> str:
    """Logical digest of a table whose partitions do not repeat their key; at least one partition."""
    hasher = TableHasher(derived)
    for key, rows in partitions.items():
        hasher.append(key, rows)
    return hasher.hexdigest()


MAKE_AGAIN = "remove this object with `seg1b runs prune` or by hand and run again: it will be made anew"
"""What helps where a published output is not whole."""


def damaged(path: Path, problem: str) -> StoreError:
    """The error E_STORE_DAMAGED about the published file `path`."""
    return StoreError(
        "E_STORE_DAMAGED",
        f"a published file is damaged: {problem}",
        where=str(path),
        next_step=MAKE_AGAIN,
    )
