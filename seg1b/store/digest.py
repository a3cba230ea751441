"""Digests: SHA-256 of files, and the logical digest of tables.

Logical digest: the same rows give the same digest, whatever the file layout, compression or library version.

    column    = SHA-256 of the values in row order: little-endian fixed width (booleans one byte);
                strings and binary as u32 length and bytes
    partition = SHA-256 of "seg1b/partition/1" and, for each column,
                frame(name) frame(type) u64(rows) column
    table     = SHA-256 of "seg1b/table/1", u32(columns), for each frame(name) frame(type);
                u64(partitions), for each in ascending order of its key: key u64(rows) partition
    frame(s)  = u32 length and UTF-8 bytes
    key       = "s" frame(text) or "i" int64

Types carry Arrow's names. Nulls are refused. NaNs are all the same NaN; the two zeros of a float are
different.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg1b.errors import ContractError

PartitionKey: TypeAlias = str | int
Schema: TypeAlias = Sequence[tuple[str, str]]
Column: TypeAlias = npt.NDArray[Any] | Sequence[str] | Sequence[bytes]

_FIXED_WIDTH = {
    "int8": "<i1", "int16": "<i2", "int32": "<i4", "int64": "<i8",
    "uint8": "<u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8",
    "float": "<f4", "double": "<f8", "bool": "<u1",
}  # fmt: skip
_OF_NUMPY = {
    "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64",
    "f4": "float", "f8": "double", "b1": "bool",
}  # fmt: skip
_STRING_CHUNK_ROWS = 1 << 18


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, ASCII, shortest decimals that read back exactly.

    Raises ContractError E_STORE_DOCUMENT for NaN, infinity and whatever is not plain JSON.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _not_json(error) from error
    return text.encode("ascii")


def readable_json(value: Any) -> bytes:
    """As `canonical_json`, but indented and with a final newline: how documents are stored.

    Raises ContractError for what is no JSON value, NaN and infinity included.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _not_json(error) from error
    return text.encode("ascii") + b"\n"


def _not_json(error: Exception) -> ContractError:
    return ContractError(
        "E_STORE_DOCUMENT",
        f"a document cannot be written as JSON: {error}",
        next_step="use plain numbers, text, lists and mappings; a metric without a value is null",
    )


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of bytes, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 lower-case hex digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def frame(text: str) -> bytes:
    """U32 little-endian length of the UTF-8 bytes, then the bytes."""
    data = text.encode("utf-8")
    return struct.pack("<I", len(data)) + data


def type_name(arrow_type: pa.DataType) -> str:
    """Name of a type in the logical schema: dictionaries and large strings are strings.

    Raises ContractError E_STORE_TYPE for a type that no published table may have.
    """
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_large_string(arrow_type) or pa.types.is_string(arrow_type):
        return "string"
    if pa.types.is_large_binary(arrow_type) or pa.types.is_binary(arrow_type):
        return "binary"
    name = str(arrow_type)
    if name not in _FIXED_WIDTH:
        raise ContractError(
            "E_STORE_TYPE",
            f"the column type {name} has no place in a published table",
            next_step="use integers, floats, booleans, strings or binary",
        )
    return name


def logical_schema(schema: pa.Schema, derived: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """(name, type) of every column but the derived ones, in file order."""
    return tuple((field.name, type_name(field.type)) for field in schema if field.name not in derived)


def column_type(values: Column) -> str:
    """Logical type of a numpy array or of a list of strings or bytes.

    Raises ContractError E_STORE_TYPE for a numpy type that no published table may have.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind not in "OUST":
        name = _OF_NUMPY.get(f"{values.dtype.kind}{values.dtype.itemsize}")
        if name is None:
            raise ContractError("E_STORE_TYPE", f"the numpy type {values.dtype} cannot be published")
        return name
    return "binary" if len(values) and isinstance(values[0], bytes) else "string"


def _update_with_lengths(hasher: Any, lengths: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> None:
    """Feed u32(length) || bytes of every value, in order, without a loop over values."""
    rows = len(lengths)
    if rows and lengths[0] == lengths[-1] and np.all(lengths == lengths[0]):
        width = int(lengths[0])
        table = np.empty((rows, 4 + width), dtype=np.uint8)
        table[:, :4] = np.frombuffer(struct.pack("<I", width), dtype=np.uint8)
        table[:, 4:] = data.reshape(rows, width)
        hasher.update(table.data)
        return
    framed = np.empty(4 * rows + len(data), dtype=np.uint8)
    ends = np.cumsum(lengths + 4)
    heads = ends - lengths - 4
    head_bytes = lengths.astype("<u4").view(np.uint8).reshape(rows, 4)
    is_data = np.ones(len(framed), dtype=np.bool_)
    for i in range(4):
        framed[heads + i] = head_bytes[:, i]
        is_data[heads + i] = False
    framed[is_data] = data
    hasher.update(framed.data)


def _hash_variable_width(hasher: Any, array: pa.Array) -> None:
    wide = pa.large_binary() if type_name(array.type) == "binary" else pa.large_string()
    for start in range(0, len(array), _STRING_CHUNK_ROWS):
        chunk = array.slice(start, _STRING_CHUNK_ROWS).cast(wide)
        _, offset_buffer, data_buffer = chunk.buffers()
        offsets = np.frombuffer(offset_buffer, dtype="<i8")[chunk.offset : chunk.offset + len(chunk) + 1]
        whole = (
            np.frombuffer(data_buffer, dtype=np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
        )
        _update_with_lengths(hasher, np.diff(offsets), whole[offsets[0] : offsets[-1]])


def _hash_words(hasher: Any, array: pa.DictionaryArray) -> None:
    """Texts that repeat: each word is framed once, and Arrow lays the copies side by side."""
    words = array.dictionary
    if words.null_count:
        raise ContractError("E_STORE_NULL", "a null among the words of a column of a published table")
    data = [w.encode("utf-8") if isinstance(w, str) else w for w in words.to_pylist()]
    framed = pa.array([struct.pack("<I", len(word)) + word for word in data], pa.large_binary())
    for start in range(0, len(array), _STRING_CHUNK_ROWS):
        copies = framed.take(array.indices.slice(start, _STRING_CHUNK_ROWS))
        _, offset_buffer, data_buffer = copies.buffers()
        end = int(np.frombuffer(offset_buffer, "<i8")[len(copies)])
        if end:
            hasher.update(memoryview(data_buffer)[:end])


def _hash_fixed_width(hasher: Any, values: npt.NDArray[Any], name: str) -> None:
    plain = np.ascontiguousarray(values).astype(_FIXED_WIDTH[name], copy=False)
    if plain.dtype.kind == "f" and np.isnan(plain).any():
        plain = np.where(np.isnan(plain), np.array(np.nan, dtype=plain.dtype), plain)
    hasher.update(plain.view(np.uint8).data)


def numbers_of(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of numbers without nulls as a numpy array, on Arrow's own memory where that is in one piece.

    Arrow's `to_numpy` imports pandas, if there is one, before anything else; it is left to booleans and nulls.
    """
    if values.null_count or not pa.types.is_primitive(values.type) or pa.types.is_boolean(values.type):
        chunked = isinstance(values, pa.ChunkedArray)
        other: npt.NDArray[Any] = values.to_numpy() if chunked else values.to_numpy(zero_copy_only=False)
        return other
    kind = np.dtype(values.type.to_pandas_dtype())
    parts = [
        np.frombuffer(chunk.buffers()[1], kind, len(chunk), chunk.offset * kind.itemsize)
        for chunk in (values.chunks if isinstance(values, pa.ChunkedArray) else [values])
        if len(chunk)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, kind), *parts])


def arrow_of(numbers: npt.NDArray[Any]) -> pa.Array:
    """The reverse of `numbers_of`, on numpy's memory. Arrow's own `array` imports numpy's masked arrays first."""
    plain = np.ascontiguousarray(numbers)
    return pa.Array.from_buffers(pa.from_numpy_dtype(plain.dtype), len(plain), [None, pa.py_buffer(plain)])


def column_digest(values: Column | pa.Array | pa.ChunkedArray) -> tuple[str, int, bytes]:
    """(type, rows, 32-byte digest) of one column's values in row order. Raises ContractError for nulls."""
    hasher = hashlib.sha256()
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        name = column_type(values)
        if name in _FIXED_WIDTH:
            _hash_fixed_width(hasher, np.asarray(values), name)
            return name, len(values), hasher.digest()
        values = pa.array(list(values), type=pa.binary() if name == "binary" else pa.string())
    name = type_name(values.type)
    _hash_arrow(hasher, values, name)
    return name, len(values), hasher.digest()


def _hash_arrow(hasher: Any, values: pa.Array | pa.ChunkedArray, name: str) -> None:
    if values.null_count:
        raise ContractError("E_STORE_NULL", f"{values.null_count} nulls in a column of a published table")
    for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
        if pa.types.is_dictionary(chunk.type):
            if name not in _FIXED_WIDTH:
                _hash_words(hasher, chunk)
                continue
            chunk = chunk.dictionary_decode()
        if name in _FIXED_WIDTH:
            _hash_fixed_width(hasher, numbers_of(chunk), name)
        else:
            _hash_variable_width(hasher, chunk)


@lru_cache(maxsize=256)
def _column_header(name: str, kind: str) -> bytes:
    return frame(name) + frame(kind)


def _joined(columns: Iterable[tuple[str, str, int, bytes]]) -> str:
    """Digest of a partition from (name, type, rows, digest) of its columns."""
    hasher = hashlib.sha256(b"seg1b/partition/1")
    for name, kind, rows, digest in columns:
        hasher.update(_column_header(name, kind) + struct.pack("<Q", rows) + digest)
    return hasher.hexdigest()


def partition_digest(columns: Mapping[str, Column | pa.Array | pa.ChunkedArray]) -> str:
    """Digest of one partition, 64 hex; columns in schema order, all of the same length, no nulls.

    Raises ContractError E_STORE_COLUMNS for columns of unequal length, and as `column_digest` does.
    """
    found = [(name, *column_digest(values)) for name, values in columns.items()]
    lengths = {rows for _, _, rows, _ in found}
    if len(lengths) > 1:
        raise ContractError(
            "E_STORE_COLUMNS", f"columns of one partition differ in length: {sorted(lengths)}"
        )
    return _joined(found)


class ColumnHasher:
    """Digest of one column whose values come in several arrays; `kind` is its logical type."""

    def __init__(self, kind: str) -> None:
        self._kind, self._hasher = kind, hashlib.sha256()

    def update(self, values: npt.NDArray[Any] | pa.Array | pa.ChunkedArray) -> None:
        """Add values. Raises ContractError E_STORE_NULL."""
        if isinstance(values, np.ndarray):
            _hash_fixed_width(self._hasher, values, self._kind)
        else:
            _hash_arrow(self._hasher, values, self._kind)

    def digest(self) -> bytes:
        """Digest of all values so far."""
        return self._hasher.digest()


def joined_digest(schema: Schema, rows: int, columns: Mapping[str, str]) -> str:
    """Digest of a partition from the digests (hex) of its columns; raises KeyError if one is missing."""
    return _joined((name, kind, rows, bytes.fromhex(columns[name])) for name, kind in schema)


class PartitionHasher:
    """Digest of one partition whose rows come in several tables of one schema; derived columns are left out."""

    def __init__(self, schema: pa.Schema, derived: Sequence[str] = ()) -> None:
        self._schema = logical_schema(schema, derived)
        self._columns = {name: ColumnHasher(kind) for name, kind in self._schema}
        self.rows = 0

    def update(self, table: pa.Table) -> None:
        """Add rows. Raises ContractError E_STORE_NULL."""
        for name, hasher in self._columns.items():
            hasher.update(table.column(name))
        self.rows += table.num_rows

    def columns(self) -> dict[str, str]:
        """Digest of every column of all rows so far, 64 hex."""
        return {name: hasher.digest().hex() for name, hasher in self._columns.items()}

    def hexdigest(self) -> str:
        """Digest of all rows so far, 64 hex."""
        return joined_digest(self._schema, self.rows, self.columns())


def arrow_partition_digest(table: pa.Table, derived: Sequence[str] = ()) -> str:
    """Digest of a table that is one partition; derived columns are left out."""
    hasher = PartitionHasher(table.schema, derived)
    hasher.update(table)
    return hasher.hexdigest()


def key_bytes(key: PartitionKey) -> bytes:
    """Framed partition key."""
    return b"i" + struct.pack("<q", key) if isinstance(key, int) else b"s" + frame(key)


def key_order(key: PartitionKey) -> tuple[int, int, bytes]:
    """Sort key of partition keys: integers by value, strings by UTF-8 bytes."""
    return (0, key, b"") if isinstance(key, int) else (1, 0, key.encode("utf-8"))


def table_digest(schema: Schema, partitions: Sequence[tuple[PartitionKey, int, str]]) -> str:
    """Digest of a table from its (name, type) list and its (key, rows, partition digest) list, in any order.

    Raises ContractError for a repeated key and for an empty partition (it must be absent).
    """
    hasher = hashlib.sha256(b"seg1b/table/1" + struct.pack("<I", len(schema)))
    for name, kind in schema:
        hasher.update(frame(name) + frame(kind))
    ordered = sorted(partitions, key=lambda item: key_order(item[0]))
    hasher.update(struct.pack("<Q", len(ordered)))
    previous: PartitionKey | None = None
    for key, rows, digest in ordered:
        if rows < 1 or key == previous:
            fault = "has no rows" if rows < 1 else "appears twice"
            raise ContractError("E_STORE_PARTITION", f"partition {key!r} {fault}")
        hasher.update(key_bytes(key) + struct.pack("<Q", rows) + bytes.fromhex(digest))
        previous = key
    return hasher.hexdigest()
