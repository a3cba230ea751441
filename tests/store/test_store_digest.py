"""Digests: what they depend on, and what they must not depend on."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.errors import ContractError
from seg1b.store.digest import (
    arrow_of,
    arrow_partition_digest,
    canonical_json,
    logical_schema,
    numbers_of,
    partition_digest,
    table_digest,
)
from seg1b.store.state_keys import state_key


def _frame(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def test_a_partition_digest_can_be_computed_by_hand() -> None:
    """Two rows of an integer and a text column, from the definition alone."""
    integers = hashlib.sha256(struct.pack("<qq", 1, -2)).digest()
    texts = hashlib.sha256(_frame("é") + _frame("")).digest()
    expected = hashlib.sha256(
        b"seg1b/partition/1"
        + (_frame("n") + _frame("int64") + struct.pack("<Q", 2) + integers)
        + (_frame("name") + _frame("string") + struct.pack("<Q", 2) + texts)
    ).hexdigest()
    assert partition_digest({"n": np.array([1, -2]), "name": ["é", ""]}) == expected
    assert arrow_partition_digest(pa.table({"n": [1, -2], "name": ["é", ""]})) == expected


def test_a_table_digest_can_be_computed_by_hand() -> None:
    """One text key and its partition, from the definition alone."""
    digest = "ab" * 32
    expected = hashlib.sha256(
        b"seg1b/table/1"
        + struct.pack("<I", 1)
        + _frame("n")
        + _frame("int64")
        + struct.pack("<Q", 1)
        + (b"s" + _frame("NA") + struct.pack("<Q", 3) + bytes.fromhex(digest))
    ).hexdigest()
    assert table_digest([("n", "int64")], [("NA", 3, digest)]) == expected


def test_the_order_in_which_shards_arrive_does_not_matter() -> None:
    """Partitions are put in key order; integers by value, not as text."""
    partitions = [(10, 1, "aa" * 32), (9, 2, "bb" * 32), (-1, 3, "cc" * 32)]
    assert table_digest([], partitions) == table_digest([], partitions[::-1])


@pytest.mark.parametrize("partitions", [[("AD", 0, "aa" * 32)], [("AD", 1, "aa" * 32), ("AD", 1, "bb" * 32)]])
def test_empty_and_repeated_partitions_are_refused(partitions: list[tuple[str, int, str]]) -> None:
    """An empty partition is absent, a repeated one an error."""
    with pytest.raises(ContractError, match="E_STORE_PARTITION"):
        table_digest([], list(partitions))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.text(max_size=4), st.integers(-(2**31), 2**31 - 1)), min_size=1, max_size=30),
    st.integers(1, 7),
)
def test_chunks_dictionaries_and_slices_do_not_change_a_digest(
    rows: list[tuple[str, int]], size: int
) -> None:
    """The same rows in other memory layouts are the same rows."""
    names, numbers = [name for name, _ in rows], [number for _, number in rows]
    plain = pa.table({"name": names, "n": pa.array(numbers, pa.int32())})
    chunked = pa.concat_tables([plain.slice(i, size) for i in range(0, len(rows), size)])
    encoded = plain.set_column(0, "name", plain.column("name").dictionary_encode())
    large = plain.set_column(0, "name", plain.column("name").cast(pa.large_string()))
    padded = pa.concat_tables([plain, plain]).combine_chunks().slice(len(rows))
    digests = {arrow_partition_digest(table) for table in (plain, chunked, encoded, large, padded)}
    assert digests == {partition_digest({"name": names, "n": np.array(numbers, np.int32)})}
    assert logical_schema(encoded.schema) == logical_schema(plain.schema)


@given(
    st.lists(st.text(max_size=3), min_size=1, max_size=6),
    st.lists(st.text(max_size=3), min_size=1, max_size=6),
)
def test_different_texts_have_different_digests(first: list[str], second: list[str]) -> None:
    """Lengths are framed: nothing can move from one value to the next."""
    equal = partition_digest({"a": first}) == partition_digest({"a": second})
    assert equal == (first == second)


def test_type_name_and_column_name_are_part_of_the_digest() -> None:
    """The same bytes under another name or type are other data."""
    digests = {
        partition_digest({"a": np.array([1], np.int32)}),
        partition_digest({"b": np.array([1], np.int32)}),
        partition_digest({"a": np.array([1], np.uint32)}),
    }
    assert len(digests) == 3


def test_byte_order_and_nan_payload_do_not_matter() -> None:
    """Values are digested little-endian, and all NaNs are one."""
    big = np.array([1.5, 2.5], dtype=">f8")
    assert partition_digest({"x": big}) == partition_digest({"x": big.astype("<f8")})
    other_nan = np.frombuffer(struct.pack("<Q", 0xFFF8000000000001), "<f8")
    assert partition_digest({"x": other_nan}) == partition_digest({"x": np.array([np.nan])})


def test_nulls_and_unknown_types_are_refused() -> None:
    """A null has no bytes, and a timestamp has no place in data."""
    with pytest.raises(ContractError, match="E_STORE_NULL"):
        partition_digest({"a": pa.array([1, None])})
    with pytest.raises(ContractError, match="E_STORE_TYPE"):
        logical_schema(pa.schema([("t", pa.timestamp("us"))]))
    with pytest.raises(ContractError, match="E_STORE_COLUMNS"):
        partition_digest({"a": [1.0] and np.array([1.0]), "b": np.array([1, 2])})


def test_derived_columns_are_left_out() -> None:
    """Geometry that follows from other columns is no part of the logical digest."""
    with_geometry = pa.table({"n": [1], "geometry": pa.array([b"x"], pa.binary())})
    plain = arrow_partition_digest(pa.table({"n": [1]}))
    assert arrow_partition_digest(with_geometry, ("geometry",)) == plain
    assert arrow_partition_digest(with_geometry) != plain


def test_canonical_json_refuses_what_is_no_json() -> None:
    """NaN is no number a document may hold."""
    assert canonical_json({"b": 1, "a": 0.1}) == b'{"a":0.1,"b":1}'
    for value in (float("nan"), object()):
        with pytest.raises(ContractError, match="E_STORE_DOCUMENT"):
            canonical_json(value)


def test_a_state_key_depends_on_each_of_its_facts() -> None:
    """Change one thing, get another key; name the inputs in another order, get the same."""
    a, b = "a" * 64, "b" * 64
    base = state_key("s4", 1, a, {"s3": a, "s2": b}, {"world": a}, 42)
    others = [
        state_key("s5", 1, a, {"s3": a, "s2": b}, {"world": a}, 42),
        state_key("s4", 2, a, {"s3": a, "s2": b}, {"world": a}, 42),
        state_key("s4", 1, b, {"s3": a, "s2": b}, {"world": a}, 42),
        state_key("s4", 1, None, {"s3": a, "s2": b}, {"world": a}, 42),
        state_key("s4", 1, a, {"s3": b, "s2": a}, {"world": a}, 42),
        state_key("s4", 1, a, {"s3": a, "s2": b}, {"world": b}, 42),
        state_key("s4", 1, a, {"s3": a, "s2": b}, {"world": a}, 7),
        state_key("s4", 1, a, {"s3": a, "s2": b}, {"world": a}, None),
    ]
    assert len({base, *others}) == 9
    assert state_key("s4", 1, a, {"s2": b, "s3": a}, {"world": a}, 42) == base


@pytest.mark.parametrize("bad", ["", "A" * 64, "a" * 63])
def test_a_state_key_refuses_what_is_no_digest(bad: str) -> None:
    """A path or an empty string must not slip into a key."""
    with pytest.raises(ContractError, match="E_STATE_KEY"):
        state_key("s4", 1, None, {"s3": bad})


def test_a_state_key_is_pinned() -> None:
    """The scheme itself must not drift: stores outlive versions."""
    assert state_key("s1", 1, "0" * 64) == "1be1a57cdd3c348d20df31a5f86c22e4c67436254408f4c05208d2602f0a7831"


@given(
    st.lists(st.sampled_from(["", "a", "é", "HOME", "x" * 64]), max_size=12),
    st.integers(0, 4),
    st.booleans(),
)
def test_texts_by_dictionary_are_the_texts(texts: list[str], skipped: int, large: bool) -> None:
    """Of equal lengths or not, none at all, cut anywhere, with 32 or 64 bits of offsets."""
    plain = pa.array(texts, pa.large_string() if large else pa.string())
    expected = partition_digest({"x": plain[skipped:]})
    assert partition_digest({"x": plain.dictionary_encode()[skipped:]}) == expected


def test_a_null_among_the_words_is_refused() -> None:
    """Where no index is null, the word behind it may be."""
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["a", None]))
    with pytest.raises(ContractError, match="E_STORE_NULL"):
        partition_digest({"x": words})


@pytest.mark.parametrize("kind", ["int32", "uint64", "float64"])
def test_numbers_go_to_arrow_and_back(kind: str) -> None:
    """Whole, cut, in steps and none at all: what Arrow's own way gives, of the same type."""
    numbers = np.arange(9).astype(kind)
    for part in (numbers, numbers[2:5], numbers[::-2], numbers[:0]):
        found = arrow_of(part)
        assert found.equals(pa.array(part))
        assert numbers_of(found).tolist() == part.tolist()
