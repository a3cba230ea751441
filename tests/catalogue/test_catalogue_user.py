"""A user's own catalogue: good files in every layout, and every bad file with its exact code and place."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue_cases import ISO, small_synthesis
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.catalogue import user_columns
from seg1b.catalogue.bundle_law import pairs_digest
from seg1b.catalogue.tables import Lineage, outlet_rows
from seg1b.catalogue.user import UserCatalogue, load_user_catalogue
from seg1b.errors import InputError

OUTLETS = "merchant_id,legal_country_iso,site_order\n"
COUNTS = "merchant_id,country,n_sites\n"


def csv(folder: Path, text: str, name: str = "shops.csv") -> Path:
    """Write a text file."""
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def load(folder: Path, text: str) -> UserCatalogue:
    """Load a text catalogue."""
    return load_user_catalogue(csv(folder, text), ISO)


def refusal(path: Path) -> InputError:
    """The error with which a file is refused; it always says where and what next."""
    with pytest.raises(InputError) as caught:
        load_user_catalogue(path, ISO)
    assert str(path) in caught.value.where
    assert caught.value.next_step
    return caught.value


def pairs(loaded: UserCatalogue) -> list[tuple[int, str, int, str]]:
    """(merchant, country, outlets, home) in order."""
    c = loaded.catalogue
    return [
        (int(m), ISO[int(p)], int(n), ISO[int(h)])
        for m, p, n, h in zip(c.merchant_id, c.country, c.n_sites, c.home_country, strict=True)
    ]


# Good files


def test_counts_and_outlets_mean_the_same(tmp_path: Path) -> None:
    """Two layouts of one catalogue, in any row order; Namibia stays Namibia."""
    counts = load(tmp_path, COUNTS + "7,NA,2\n7,DE,1\n3,FR,1\n")
    outlets = load(tmp_path, OUTLETS + "7,NA,2\n3,FR,1\n7,DE,1\n7,NA,1\n")
    assert pairs(counts) == pairs(outlets) == [(3, "FR", 1, "FR"), (7, "DE", 1, "NA"), (7, "NA", 2, "NA")]
    assert (counts.layout, outlets.layout, outlets.rows) == ("counts", "outlets", 4)
    assert pairs_digest(counts.catalogue) == pairs_digest(outlets.catalogue)


def test_parquet_and_text_give_the_same_catalogue(tmp_path: Path) -> None:
    """The ten columns of 1A, as Parquet and as text."""
    catalogue = small_synthesis().catalogue
    table = outlet_rows(catalogue, slice(0, catalogue.pair_count), Lineage(42, "0" * 64, "1" * 64))
    pq.write_table(table, tmp_path / "shops.parquet")
    loaded = load_user_catalogue(tmp_path / "shops.parquet", ISO)
    assert pairs_digest(loaded.catalogue) == pairs_digest(catalogue)
    assert loaded.ignored_columns == (
        "global_seed", "manifest_fingerprint", "raw_nb_outlet_draw", "single_vs_multi_flag",
    )  # fmt: skip
    header = ",".join(table.column_names)
    lines = [",".join(str(value) for value in row.values()) for row in table.to_pylist()]
    assert pairs_digest(load(tmp_path, "\n".join([header, *lines])).catalogue) == pairs_digest(catalogue)


@pytest.mark.parametrize(
    "text",
    [
        "merchant_id;country;n_sites\n7;NA;2\n",
        "\ufeffmerchant_id,country,n_sites\r\n7,NA,2\r\n",
        'merchant_id, country ,n_sites\n" 7",NA , 2\n',
        '"merchant_id","country_iso","outlets","mood"\n"7","NA","2","fine, thanks"\n',
        "merchant_id\tlegal_country_iso\tsites\n007\tNA\t2",
    ],
)
def test_dialects_of_text(tmp_path: Path, text: str) -> None:
    """Semicolons, tabs, a byte order mark, Windows line ends, quotes, blanks, aliases, no final line end."""
    assert pairs(load(tmp_path, text)) == [(7, "NA", 2, "NA")]


def test_homes_stated_and_found(tmp_path: Path) -> None:
    """Stated homes are kept, even without outlets there; otherwise most outlets win, ties to the smaller
    code.
    """
    stated = load(tmp_path, "merchant_id,country,n_sites,home_country_iso\n7,DE,2,NA\n7,FR,9,NA\n")
    assert [home for *_, home in pairs(stated)] == ["NA", "NA"]
    assert [home for *_, home in pairs(load(tmp_path, COUNTS + "7,FR,2\n7,DE,2\n"))] == ["DE", "DE"]


def test_types_that_mean_whole_numbers(tmp_path: Path) -> None:
    """Whole doubles, unsigned, small integers, text, and dictionary columns in Parquet."""
    for values in (pa.array([7.0]), pa.array([7], pa.uint64()), pa.array([7], pa.int8()), pa.array(["7"])):
        country = pa.array(["NA"]).dictionary_encode()
        pq.write_table(
            pa.table({"merchant_id": values, "country": country, "n_sites": [2]}), tmp_path / "a.parquet"
        )
        assert pairs(load_user_catalogue(tmp_path / "a.parquet", ISO)) == [(7, "NA", 2, "NA")]


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.tuples(st.integers(1, 2**64 - 1), st.sampled_from(ISO)), st.integers(1, 9), min_size=1, max_size=30
    )
)
def test_whatever_counts_are_written_come_back(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[tuple[int, str], int]
) -> None:
    """Identifiers up to 2^64 - 1; every pair and count comes back, sorted."""
    text = COUNTS + "".join(f"{m},{c},{n}\n" for (m, c), n in wanted.items())
    loaded = load(tmp_path_factory.mktemp("counts"), text)
    assert [(m, c, n) for m, c, n, _ in pairs(loaded)] == sorted((m, c, n) for (m, c), n in wanted.items())


# Bad files

BAD_TEXT = {
    "duplicate outlet": (
        OUTLETS + "7,NA,1\n7,NA,1\n",
        "E_CATALOGUE_DUPLICATE_KEY",
        "row 2 (line 3)",
        "row 1",
    ),
    "duplicate pair": (COUNTS + "7,NA,1\n8,NA,1\n7,NA,2\n", "E_CATALOGUE_DUPLICATE_KEY", "row 3", "in NA"),
    "gap": (OUTLETS + "7,NA,1\n7,NA,3\n", "E314_SITE_ORDER_INTEGRITY", "row 2", "3 where 2"),
    "starts at two": (OUTLETS + "7,NA,2\n", "E314_SITE_ORDER_INTEGRITY", "row 1", "2 where 1"),
    "starts at zero": (OUTLETS + "7,NA,0\n7,NA,1\n", "E_CATALOGUE_RANGE", "row 1", "site_order is 0"),
    "unknown country": (COUNTS + "7,NA,1\n8,XX,1\n", "E302_FK_COUNTRY", "row 2 (line 3), field", "'XX'"),
    "lower case": (COUNTS + "7,na,1\n", "E302_FK_COUNTRY", "row 1", "did you mean 'NA'"),
    "old habit": (COUNTS + "7,UK,1\n", "E302_FK_COUNTRY", "row 1", "did you mean 'GB'"),
    "null country": (COUNTS + "7,NA,1\n8,,1\n", "E_CATALOGUE_NULL_COUNTRY", "row 2", "missing"),
    "null number": (COUNTS + "7,NA,\n", "E_CATALOGUE_NULL", "field n_sites", "missing"),
    "count mismatch": (
        "merchant_id,legal_country_iso,site_order,final_country_outlet_count\n7,NA,1,2\n",
        "E308_COUNTS_MISMATCH",
        "row 1",
        "is 2, but this pair has 1",
    ),
    "site id": (
        "merchant_id,legal_country_iso,site_order,site_id\n7,NA,1,000002\n",
        "E_CATALOGUE_SITE_ID",
        "field site_id",
        "000002",
    ),
    "two homes": (
        "merchant_id,country,n_sites,home_country_iso\n7,NA,1,NA\n7,DE,1,DE\n",
        "E_CATALOGUE_HOME_INCONSISTENT",
        "row 2",
        "in DE here but in NA in row 1",
    ),
    "word": (COUNTS + "seven,NA,1\n", "E_CATALOGUE_TYPE", "field merchant_id", "'seven'"),
    "fraction": (COUNTS + "7,NA,1.5\n", "E_CATALOGUE_TYPE", "field n_sites", "'1.5'"),
    "negative": (COUNTS + "-7,NA,1\n", "E_CATALOGUE_RANGE", "field merchant_id", "-7"),
    "zero merchant": (COUNTS + "0,NA,1\n", "E_CATALOGUE_RANGE", "field merchant_id", "is 0"),
    "zero outlets": (COUNTS + "7,NA,0\n", "E_CATALOGUE_RANGE", "field n_sites", "is 0"),
    "a million outlets": (COUNTS + "7,NA,1000000\n", "E_CATALOGUE_RANGE", "field n_sites", "999999"),
    "beyond 64 bits": (COUNTS + f"{2**64},NA,1\n", "E_CATALOGUE_RANGE", "row 1", "64 bits"),
    "far beyond": (COUNTS + f"7,NA,1\n{10**40},NA,1\n", "E_CATALOGUE_RANGE", "row 2", "64 bits"),
    "ragged": (COUNTS + "7,NA,1\n8,NA\n", "E_CATALOGUE_UNREADABLE", "shops.csv", "Expected 3 columns"),
    "empty": ("", "E_CATALOGUE_EMPTY", "shops.csv", "empty"),
    "blank header": ("\n7,NA,1\n", "E_CATALOGUE_EMPTY", "shops.csv", "first line"),
    "header only": (COUNTS, "E_CATALOGUE_EMPTY", "shops.csv", "no rows"),
    "missing column": ("merchant_id,n_sites\n7,1\n", "E_CATALOGUE_COLUMN_MISSING", "", "legal_country_iso"),
    "slip in a column": (
        "merchnat_id,country,n_sites\n7,NA,1\n",
        "E_CATALOGUE_COLUMN_MISSING",
        "",
        "did you mean column 'merchnat_id'",
    ),
    "no counts": ("merchant_id,country\n7,NA\n", "E_CATALOGUE_COLUMN_MISSING", "", "site_order (or n_sites"),
    "slip in an option": (
        "merchant_id,country,n_sites,home_county_iso\n7,NA,1,NA\n",
        "E_CATALOGUE_COLUMN_UNKNOWN",
        "",
        "did you mean 'home_country_iso'",
    ),
    "two names": (
        "merchant_id,country,country_iso,n_sites\n7,NA,NA,1\n",
        "E_CATALOGUE_COLUMN_DUPLICATE",
        "",
        "country, country_iso",
    ),
    "both layouts": (
        "merchant_id,country,n_sites,site_order\n7,NA,1,1\n",
        "E_CATALOGUE_LAYOUT_AMBIGUOUS",
        "",
        "both",
    ),
}


@pytest.mark.parametrize(("text", "code", "where", "what"), BAD_TEXT.values(), ids=BAD_TEXT)
def test_bad_text_files(tmp_path: Path, text: str, code: str, where: str, what: str) -> None:
    """Each fault has its own code and names file, row, field and value."""
    error = refusal(csv(tmp_path, text))
    assert error.code == code
    assert where in error.where
    assert what in error.message


def test_a_null_country_explains_namibia(tmp_path: Path) -> None:
    """The usual cause of a missing country is a reader that took NA for a null."""
    pq.write_table(pa.table({"merchant_id": [7], "country": [None], "n_sites": [1]}), tmp_path / "a.parquet")
    error = refusal(tmp_path / "a.parquet")
    assert error.code == "E_CATALOGUE_NULL_COUNTRY"
    assert "Namibia" in error.next_step


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.tuples(st.integers(1, 4), st.sampled_from(ISO)), st.integers(1, 4), min_size=1, max_size=8
    ),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_the_order_of_rows_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory,
    counts: dict[tuple[int, str], int],
    random: Random,
    stated: bool,
) -> None:
    """Ascending rows are not sorted, others are: the pairs and homes are the same, and those counted by hand."""
    best = {m: min((-n, c) for (o, c), n in counts.items() if o == m)[1] for m, _ in counts}
    home = {m: random.choice(ISO) for m in best} if stated else best
    expected = [(m, c, counts[m, c], home[m]) for m, c in sorted(counts)]
    rows = [(m, c, k) for m, c in sorted(counts) for k in range(1, counts[m, c] + 1)]
    shuffled = random.sample(rows, len(rows))
    folder = tmp_path_factory.mktemp("order")
    for some in (rows, shuffled):
        header, tail = (OUTLETS, "") if not stated else (OUTLETS.strip() + ",home_country_iso\n", "home")
        text = "".join(f"{m},{c},{k}{',' + home[m] if tail else ''}\n" for m, c, k in some)
        assert pairs(load(folder, header + text)) == expected
    pair_rows = random.sample(sorted(counts), len(counts))
    header = COUNTS if not stated else COUNTS.strip() + ",home_country_iso\n"
    text = "".join(f"{m},{c},{counts[m, c]}{',' + home[m] if stated else ''}\n" for m, c in pair_rows)
    assert pairs(load(folder, header + text)) == expected


def test_homes_that_differ_are_found_in_any_order(tmp_path: Path) -> None:
    """The first row of the file counts as the merchant's word, wherever sorting puts it."""
    header = COUNTS.strip() + ",home_country_iso\n"
    for text in ("7,DE,1,DE\n7,FR,1,FR\n", "7,FR,1,DE\n3,AU,1,AU\n7,DE,1,FR\n"):
        error = refusal(csv(tmp_path, header + text))
        assert error.code == "E_CATALOGUE_HOME_INCONSISTENT"
        assert "has its home in FR here but in DE in row 1" in error.message
        assert f"row {text.count(chr(10))} " in error.where


@pytest.mark.parametrize("text", ["0x1F", "0X1f", "1e3", "1_0", "١"])
def test_only_decimal_digits_are_numbers(tmp_path: Path, text: str) -> None:
    """What other readers take for a number is no identifier here."""
    error = refusal(csv(tmp_path, COUNTS + f"5,DE,1\n{text},DE,1\n"))
    assert (error.code, "row 2" in error.where) == ("E_CATALOGUE_TYPE", True)


def test_signs_blanks_and_zeros_before_a_number(tmp_path: Path) -> None:
    """One row with a sign must not change what the others mean."""
    assert pairs(load(tmp_path, COUNTS + f"+5,DE,1\n 007 ,DE,2\n{2**64 - 1},DE,3\n")) == [
        (5, "DE", 1, "DE"),
        (7, "DE", 2, "DE"),
        (2**64 - 1, "DE", 3, "DE"),
    ]


@pytest.mark.parametrize("text", [str(2**64), "+18446744073709551616", "99999999999999999999", "1" * 21])
def test_numbers_beyond_64_bits_are_named(tmp_path: Path, text: str) -> None:
    """Of twenty digits and more, with a smaller one of twenty digits before it."""
    error = refusal(csv(tmp_path, COUNTS + f"{2**64 - 1},DE,1\n{text},DE,1\n{text},FR,1\n"))
    assert (error.code, "row 2" in error.where) == ("E_CATALOGUE_RANGE", True)
    assert "(2 rows in all)" in error.message


def test_the_number_of_faulty_rows_is_told(tmp_path: Path) -> None:
    """The first row is named, the others are counted."""
    error = refusal(csv(tmp_path, COUNTS + "7,XX,1\n8,YY,1\n9,NA,1\n"))
    assert "(2 rows in all)" in error.message


@pytest.mark.parametrize(
    ("merchant", "code"),
    [
        (pa.array([1.5]), "E_CATALOGUE_TYPE"),
        (pa.array([2.0**60]), "E_CATALOGUE_TYPE"),
        (pa.array([float("nan")]), "E_CATALOGUE_TYPE"),
        (pa.array([True]), "E_CATALOGUE_TYPE"),
        (pa.array([None], pa.int64()), "E_CATALOGUE_NULL"),
        (pa.array([-1]), "E_CATALOGUE_RANGE"),
    ],
)
def test_bad_parquet_types(tmp_path: Path, merchant: pa.Array, code: str) -> None:
    """Fractions, doubles beyond 2^53, NaN, booleans, nulls and negative numbers are no identifiers."""
    pq.write_table(
        pa.table({"merchant_id": merchant, "country": ["NA"], "n_sites": [1]}), tmp_path / "a.parquet"
    )
    assert refusal(tmp_path / "a.parquet").code == code


def test_a_country_column_of_numbers(tmp_path: Path) -> None:
    """Numeric country codes are refused as a type."""
    pq.write_table(pa.table({"merchant_id": [7], "country": [516], "n_sites": [1]}), tmp_path / "a.parquet")
    assert refusal(tmp_path / "a.parquet").code == "E_CATALOGUE_TYPE"


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    """Half a Parquet file, text that is not UTF-8, unknown endings, folders, nothing."""
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"merchant_id": [7], "country": ["NA"], "n_sites": [1]}), whole)
    half = tmp_path / "half.parquet"
    half.write_bytes(whole.read_bytes()[:-40])
    assert refusal(half).code == "E_CATALOGUE_UNREADABLE"
    latin = tmp_path / "latin.csv"
    latin.write_bytes(COUNTS.encode() + "7,Curaçao,1\n".encode("latin-1"))
    assert refusal(latin).code == "E_CATALOGUE_UNREADABLE"
    assert refusal(csv(tmp_path, COUNTS, "shops.xlsx")).code == "E_CATALOGUE_FORMAT_UNKNOWN"
    assert refusal(tmp_path / "nothing.csv").code == "E_CATALOGUE_FILE_MISSING"
    assert refusal(tmp_path).code == "E_CATALOGUE_FILE_MISSING"


# Text that is read without Arrow's functions

WORDS = st.one_of(
    st.integers(0, 10**19 - 1).map(str),
    st.sampled_from(["", " 7", "0x1F", "+3", "-1", "12a", "007", "18446744073709551615", "9" * 20, "é", "٣"]),
)


@settings(max_examples=200)
@given(
    st.lists(WORDS, min_size=1, max_size=6),
    st.sampled_from([pa.string(), pa.large_string()]),
    st.integers(0, 2),
)
def test_digits_are_read_as_python_reads_them_and_anything_else_is_left(
    words: list[str], kind: pa.DataType, skipped: int
) -> None:
    """Also of a slice: Arrow's bytes then begin somewhere in the middle."""
    found = user_columns._digits(pa.array(["1", "22"][:skipped] + words, kind).slice(skipped))
    if all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        assert found is not None
        assert found.tolist() == [int(word) for word in words]
    else:
        assert found is None


@settings(max_examples=200)
@given(st.lists(st.sampled_from(["AA", "NA", "ZZ", "aa", "A", "", " NA", "é", "AAA", "ZZ "]), min_size=1, max_size=6),
       st.sampled_from([pa.string(), pa.large_string()]), st.integers(0, 2))  # fmt: skip
def test_codes_of_two_letters_are_found_and_anything_else_is_left(
    words: list[str], kind: pa.DataType, skipped: int
) -> None:
    """Codes of a world that are no two letters (a user's own) are left to the careful way, too."""
    iso = ("AA", "AAA", "NA", "ZZ", "é")
    found = user_columns._two_letters(pa.array(["NA", "A"][:skipped] + words, kind).slice(skipped), iso)
    if set(words) <= {"AA", "NA", "ZZ"}:
        assert found is not None
        assert found.dtype == np.int16
        assert found.tolist() == [iso.index(word) for word in words]
    else:
        assert found is None
