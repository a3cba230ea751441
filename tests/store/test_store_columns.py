"""Columns: digests that a join can trust, text in its order, and documents copied as they were vouched for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_cases import key, open_store, sites

from seg1b.errors import ContractError, StoreError
from seg1b.store.digest import column_digest, sha256_bytes
from seg1b.store.store import Store

S3, S4, S6 = key("s3"), key("s4"), key("s6")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "runs")


def test_a_manifest_says_the_digest_of_every_column(store: Store) -> None:
    """Per partition, so that a join needs no rows; equal columns have equal digests, whatever else differs."""
    with store.transaction("s6", S6) as out:
        out.add_table("jitter", sites("DE", "FR"), partition_column="country_iso", derived=("lon_deg",))
        out.add_table("other", sites("DE", "FR", shift=1.0), partition_column="country_iso")
    tables = store.manifest("s6", S6).tables
    for one, two in zip(tables["jitter"].partitions, tables["other"].partitions, strict=True):
        assert set(one.columns or {}) == {"country_iso", "site_order"}
        assert (two.columns or {}).items() >= (one.columns or {}).items()
        assert (two.columns or {})["site_order"] == column_digest(np.arange(3, dtype=np.int32))[2].hex()
        assert one.digest != two.digest


@pytest.mark.parametrize("damage", ["other", "missing"])
def test_column_digests_that_do_not_give_the_partitions_are_refused(store: Store, damage: str) -> None:
    """A manifest cannot claim columns that its partition does not have."""
    with store.transaction("s6", S6) as out:
        out.add_table("jitter", sites("DE", "FR"), partition_column="country_iso")
    path = store.layout.object("s6", S6) / "manifest.json"
    document = json.loads(path.read_bytes())
    columns = document["tables"]["jitter"]["partitions"][1]["columns"]
    if damage == "other":
        columns["lon_deg"] = "0" * 64
    else:
        del columns["lon_deg"]
    path.chmod(0o644)
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="E_STORE_DAMAGED"):
        store.manifest("s6", S6)


def test_a_manifest_without_column_digests_is_read(store: Store) -> None:
    """An earlier release wrote none; the rows are as good."""
    with store.transaction("s6", S6) as out:
        out.add_table("jitter", sites("DE", "FR"), partition_column="country_iso")
    path = store.layout.object("s6", S6) / "manifest.json"
    document = json.loads(path.read_bytes())
    for partition in document["tables"]["jitter"]["partitions"]:
        del partition["columns"]
    path.chmod(0o644)
    path.write_text(json.dumps(document))
    assert store.read_table("s6", S6, "jitter", verify=True).equals(sites("DE", "FR"))


def test_a_document_is_copied_only_as_it_was_vouched_for(store: Store, tmp_path: Path) -> None:
    """A real, read-only copy; a source that changed since its digest was taken publishes nothing."""
    source = tmp_path / "source.bin"
    source.write_bytes(b"as verified")
    with store.transaction("s3", S3) as out:
        out.add_copy("folder/copy.bin", source, 11, sha256_bytes(b"as verified"))
    source.write_bytes(b"as modified")
    assert store.read_document("s3", S3, "folder/copy.bin") == b"as verified"
    with pytest.raises(StoreError, match="E_STORE_DAMAGED") as caught, store.transaction("s4", S4) as out:
        out.add_copy("copy.bin", source, 11, sha256_bytes(b"as verified"))
    assert caught.value.where == str(source)
    assert not store.has("s4", S4)


@pytest.mark.parametrize("encoded", [False, True])
def test_text_is_ordered_by_its_letters(store: Store, encoded: bool) -> None:
    """Not by the order in which words are met; also where they come as a dictionary."""

    def words(*texts: str) -> pa.Table:
        column = pa.array(texts, pa.string())
        return pa.table({"word": column.dictionary_encode() if encoded else column})

    with store.transaction("s3", S3) as out:
        out.add_table("words", words("a", "b", "c", "\u00e9"), sorted_by=("word",))
    for wrong, code in (
        (words("b", "a", "c"), "E_STORE_UNSORTED"),
        (words("a", "a"), "E_STORE_DUPLICATE_ROW"),
    ):
        with pytest.raises(ContractError, match=code), store.transaction("s4", S4) as out:
            out.add_table("words", wrong, sorted_by=("word",))
