"""Rows that stream by are judged as if they had been there at once, wherever a batch, row group or file ends."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue_cases import ISO, collapse, small_synthesis
from hypothesis import given
from hypothesis import strategies as st

from seg1b.catalogue import bundle_tables
from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.catalogue.bundle_law import pairs_digest
from seg1b.catalogue.guard import measure_bundle
from seg1b.catalogue.guard_values import MerchantOutlets
from seg1b.catalogue.outlets import OutletCatalogue, from_pairs
from seg1b.catalogue.rows import OutletRuns
from seg1b.catalogue.tables import OUTLET_CATALOGUE, Lineage, outlet_rows, pair_tables
from seg1b.catalogue.verify import read_catalogue, read_runs, verify_files
from seg1b.errors import InputError

LINEAGE = Lineage(0, "0" * 64, "1" * 64)
COLUMNS = ("merchant_id", "country", "n_sites", "home_country", "raw_outlet_draw")


def catalogue(pairs: dict[tuple[int, int], int]) -> OutletCatalogue:
    """(merchant, country) -> outlets; a merchant is at home in its first country."""
    keys = sorted(pairs)
    merchant, country = (np.array(values) for values in zip(*keys, strict=True))
    home = [min(c for m, c in keys if m == own) for own, _ in keys]
    return from_pairs(
        ISO,
        merchant.astype(np.uint64),
        country.astype(np.int16),
        np.array([pairs[key] for key in keys], np.int32),
        np.array(home, np.int16),
    )


def rows_of(outlets: OutletCatalogue) -> pa.Table:
    """All rows in one table."""
    return outlet_rows(outlets, slice(0, outlets.pair_count), LINEAGE)


def changed(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    """A table with one other value."""
    values = table.column(name).to_pylist()
    values[row] = value
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def same(a: OutletCatalogue, b: OutletCatalogue) -> bool:
    """Equal in every column."""
    return a.iso == b.iso and all(getattr(a, name).tolist() == getattr(b, name).tolist() for name in COLUMNS)


CATALOGUES = st.dictionaries(
    st.tuples(st.integers(1, 4), st.integers(0, len(ISO) - 1)), st.integers(1, 7), min_size=1, max_size=8
).map(catalogue)


@given(CATALOGUES, st.integers(1, 9), st.integers(0, 60))
def test_no_boundary_changes_the_pairs(outlets: OutletCatalogue, batch_rows: int, cut: int) -> None:
    """Every size of batch down to a row, and a file that ends anywhere, also within a pair."""
    table = rows_of(outlets)
    found = collapse(table.slice(0, cut), table.slice(cut), rows=batch_rows).catalogue(0, ISO)
    assert same(found, outlets)


@given(CATALOGUES, st.data())
def test_one_wrong_row_is_found_and_named(outlets: OutletCatalogue, data: st.DataObject) -> None:
    """Whatever the field, and wherever the batches end: the same code, file, row and field as in one piece."""
    table = rows_of(outlets)
    row = data.draw(st.integers(0, table.num_rows - 1))
    name, value = data.draw(
        st.sampled_from(
            [
                ("site_order", 9),
                ("final_country_outlet_count", 9),
                ("legal_country_iso", "ZZ"),
                ("home_country_iso", "ZZ"),
                ("site_order", 0),
            ]
        )
    )
    wrong = changed(table, name, row, value)

    def refusal(rows: int | None) -> tuple[str, str, str]:
        with pytest.raises(InputError) as caught:
            collapse(wrong, rows=rows).catalogue(0, ISO)
        return caught.value.code, caught.value.message, caught.value.where

    code, _, where = refusal(None)
    assert {refusal(rows) for rows in (1, 2, 3, 5)} == {refusal(None)}
    assert where.startswith("file 0, row ")
    expected = {
        "site_order": {"E314_SITE_ORDER_INTEGRITY"},
        "final_country_outlet_count": {"E308_COUNTS_MISMATCH"},
        "legal_country_iso": {"E302_FK_COUNTRY"},
        "home_country_iso": {"E302_FK_COUNTRY", "E_EGRESS_HASH_MISMATCH"},
    }[name]
    assert code in expected
    if name == "site_order":
        assert where == f"file 0, row {row + 1}, field site_order"


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from("ABC"), st.integers(1, 3)), min_size=1), st.data()
)
def test_soundness_is_what_counting_says(rows: list[tuple[int, str, int]], data: st.DataObject) -> None:
    """Against a count by hand of any rows in any order: outlets, countries, and whether every key is there once."""
    home = {merchant: "A" for merchant, _, _ in rows}
    table = pa.table(
        {
            "merchant_id": pa.array([m for m, _, _ in rows], pa.uint64()),
            "site_id": [f"{k:06d}" for _, _, k in rows],
            "home_country_iso": [home[m] for m, _, _ in rows],
            "legal_country_iso": [c for _, c, _ in rows],
            "raw_nb_outlet_draw": pa.array([1] * len(rows), pa.int32()),
            "final_country_outlet_count": pa.array([1] * len(rows), pa.int32()),
            "site_order": pa.array([k for _, _, k in rows], pa.int32()),
        }
    )
    found = MerchantOutlets.of(collapse(table, rows=data.draw(st.integers(1, 4))))
    merchants = sorted(home)
    assert found.merchant_id.tolist() == merchants
    assert found.outlets.tolist() == [Counter(m for m, _, _ in rows)[m] for m in merchants]
    assert found.abroad.tolist() == [sum(1 for n, c, _ in rows if n == m and c != "A") for m in merchants]
    assert found.legal_countries.tolist() == [len({c for n, c, _ in rows if n == m}) for m in merchants]
    orders: dict[tuple[int, str], list[int]] = {}
    for m, c, k in rows:
        orders.setdefault((m, c), []).append(k)
    contiguous = all(sorted(held) == list(range(1, len(held) + 1)) for held in orders.values())
    if found.sound:
        assert contiguous
    pieces = sum(1 for a, b in pairwise([(0, ""), *(row[:2] for row in rows)]) if a != b)
    if contiguous and pieces == len(orders) and all(held == sorted(held) for held in orders.values()):
        assert found.sound


@pytest.mark.parametrize(
    ("wrong", "value"),
    [("site_id", "000009"), ("site_id", "2"), ("site_id", "00002x"), ("site_id", "0000020"), ("site_id", "")],
)
def test_a_site_id_is_six_digits(wrong: str, value: str) -> None:
    """It is the guard's to judge: the row is remembered, the pairs are what they are."""
    outlets = catalogue({(1, 3): 3, (2, 3): 1})
    runs = collapse(changed(rows_of(outlets), wrong, 1, value), rows=1)
    assert runs.naming is not None
    assert runs.naming.where == "file 0, row 2, field site_id"
    assert not MerchantOutlets.of(runs).sound
    assert same(runs.catalogue(0, ISO), outlets)


def refused(runs: OutletRuns, code: str) -> str:
    """Where the rows are refused with this code."""
    with pytest.raises(InputError) as caught:
        runs.catalogue(0, ISO)
    assert caught.value.code == code
    assert caught.value.next_step
    return caught.value.where


def test_what_belongs_to_a_pair_or_merchant_does_not_change_within_it() -> None:
    """Home and draw are the pair's, the home is the merchant's; 0 is no merchant."""
    table = rows_of(catalogue({(1, 3): 3, (1, 5): 1}))
    other_home = changed(table, "home_country_iso", 2, "FR")
    assert refused(collapse(other_home, rows=1), "E_EGRESS_HASH_MISMATCH").endswith(
        "row 3, field home_country_iso"
    )
    other_draw = changed(table, "raw_nb_outlet_draw", 1, 5)
    assert refused(collapse(other_draw, rows=2), "E_EGRESS_HASH_MISMATCH").endswith(
        "row 2, field raw_nb_outlet_draw"
    )
    two_homes = changed(table, "home_country_iso", 3, "FR")
    assert refused(collapse(two_homes), "E_CATALOGUE_HOME_INCONSISTENT").endswith(
        "row 4, field home_country_iso"
    )
    nobody = changed(rows_of(catalogue({(1, 3): 1, (2, 3): 1})), "merchant_id", 0, 0)
    assert refused(collapse(nobody), "E_CATALOGUE_RANGE") == "file 0, row 1, field merchant_id"


def test_pairs_out_of_order_and_repeated() -> None:
    """Also when whole pairs lie between the two, and when the second is in another file."""
    first, second, third = (rows_of(catalogue({(m, 3): 2})) for m in (1, 2, 3))
    repeated = refused(collapse(first, second, third, second, rows=1), "E307_PK_DUPLICATE")
    assert repeated == "file 3, row 1, field merchant_id, legal_country_iso"
    assert refused(collapse(first, first), "E307_PK_DUPLICATE").startswith("file 1, row 1,")
    swapped = refused(collapse(pa.concat_tables([first, third, second]), rows=3), "E310_UNSORTED")
    assert swapped == "file 0, row 5, field merchant_id, legal_country_iso"


def test_a_missing_value_and_no_rows() -> None:
    """A hole in a column names its row; a table without rows is no catalogue."""
    table = rows_of(catalogue({(1, 3): 3}))
    nullable = table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))
    with pytest.raises(InputError, match="E305_SCHEMA_INVALID") as caught:
        collapse(changed(nullable, "site_order", 1, None), rows=1)
    assert caught.value.where == "file 0, row 2, field site_order"
    with pytest.raises(InputError, match="E_CATALOGUE_EMPTY"):
        collapse(table.slice(0, 0)).catalogue(0, ISO)


@pytest.mark.parametrize(("batch_rows", "group_rows"), [(1, 7), (3, 1000), (64, 5), (1000, 64)])
def test_a_bundle_reads_the_same_from_row_groups_and_batches_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int, group_rows: int
) -> None:
    """Pairs are cut by row groups and by batches, and come out whole."""
    outlets = small_synthesis().catalogue
    write_user_catalogue(tmp_path / "1A", outlets)
    receipt = verify_files(tmp_path / "1A")
    (file,) = receipt.part_files(OUTLET_CATALOGUE)
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table, file, row_group_size=group_rows, store_schema=False)
    monkeypatch.setattr(bundle_tables, "BATCH_ROWS", batch_rows)
    assert same(read_catalogue(receipt, ISO), outlets)
    whole = measure_bundle(collapse(table), receipt)
    assert measure_bundle(read_runs(receipt), receipt) == whole
    proven = bundle_tables.prove_tables(receipt)
    assert (proven.sequence_follows, proven.content_sha256_hex) == (True, receipt.content_sha256_hex)


def test_pairs_mean_the_same_in_tables_of_any_size() -> None:
    """And over the countries that occur as over the world's."""
    outlets = small_synthesis().catalogue
    whole = pa.concat_tables(list(pair_tables(outlets)))
    assert pa.concat_tables(list(pair_tables(outlets, rows=7))).equals(whole)
    own = collapse(rows_of(outlets)).catalogue(outlets.seed)
    assert set(own.iso) < set(ISO)
    assert pairs_digest(own) == pairs_digest(outlets)
