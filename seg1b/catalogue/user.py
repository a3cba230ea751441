"""Load a user's own catalogue, checked row by row against the contract.

Two layouts, as Parquet or as comma-, semicolon- or tab-separated text:

* a row per outlet: merchant_id, legal_country_iso, site_order [, home_country_iso,
final_country_outlet_count, site_id]
* a row per merchant and country: merchant_id, country, n_sites [, home_country_iso]

Without home_country_iso a merchant's home is the country where it has most outlets, ties to the smaller code.
Every fault is an InputError that names file, row, field and the next step. The country "NA" is Namibia and
stays Namibia.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from seg1b.catalogue.outlets import MAX_SITES_PER_PAIR, OutletCatalogue, from_pairs
from seg1b.catalogue.user_columns import SourceTable, fault, read_source
from seg1b.errors import InputError
from seg1b.policy.validate import did_you_mean
from seg1b.store.digest import sha256_file

Unsigned = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Countries = npt.NDArray[np.int16]
Counts = npt.NDArray[np.int32]

ALIASES: Final = {
    "country": "legal_country_iso",
    "country_iso": "legal_country_iso",
    "home_country": "home_country_iso",
    "sites": "n_sites",
    "outlets": "n_sites",
}
_USED: Final = (
    "merchant_id",
    "legal_country_iso",
    "site_order",
    "n_sites",
    "home_country_iso",
    "final_country_outlet_count",
    "site_id",
)
_KNOWN_BUT_UNUSED: Final = (
    "single_vs_multi_flag",
    "raw_nb_outlet_draw",
    "global_seed",
    "manifest_fingerprint",
)


@dataclass(frozen=True)
class UserCatalogue:
    """A checked catalogue, where it came from, and the columns that were not used."""

    catalogue: OutletCatalogue
    layout: Literal["outlets", "counts"]
    rows: int
    source_sha256_hex: str
    ignored_columns: tuple[str, ...]


def load_user_catalogue(path: Path, iso: tuple[str, ...]) -> UserCatalogue:
    """Read and check the catalogue at `path` against the ascending country codes `iso` of the world.

    Raises InputError E_CATALOGUE_FILE_MISSING, E_CATALOGUE_FORMAT_UNKNOWN, E_CATALOGUE_UNREADABLE,
    E_CATALOGUE_EMPTY, E_CATALOGUE_COLUMN_MISSING, E_CATALOGUE_COLUMN_UNKNOWN, E_CATALOGUE_COLUMN_DUPLICATE,
    E_CATALOGUE_LAYOUT_AMBIGUOUS, E_CATALOGUE_TYPE, E_CATALOGUE_NULL, E_CATALOGUE_NULL_COUNTRY,
    E_CATALOGUE_RANGE, E_CATALOGUE_DUPLICATE_KEY, E_CATALOGUE_HOME_INCONSISTENT, E_CATALOGUE_SITE_ID,
    E302_FK_COUNTRY, E308_COUNTS_MISMATCH, E314_SITE_ORDER_INTEGRITY.
    """
    source = read_source(path, ALIASES)
    layout, ignored = _layout(source)
    merchant_id = source.integers("merchant_id", 1, 2**64 - 1)
    country = source.countries("legal_country_iso", iso)
    read = _from_outlet_rows if layout == "outlets" else _from_count_rows
    catalogue = read(source, merchant_id, country, iso)
    return UserCatalogue(catalogue, layout, source.rows, sha256_file(path), ignored)


def _layout(source: SourceTable) -> tuple[Literal["outlets", "counts"], tuple[str, ...]]:
    """Which layout the columns make, and which columns are ignored. A column that looks like a slip is
    refused.
    """
    names = set(source.names)
    if {"site_order", "n_sites"} <= names:
        raise InputError(
            "E_CATALOGUE_LAYOUT_AMBIGUOUS",
            "the file has both site_order (a row per outlet) and n_sites (a row per merchant and country)",
            where=source.where(),
            next_step="keep one of the two columns",
        )
    required = ["merchant_id", "legal_country_iso"]
    if "site_order" not in names and "n_sites" not in names:
        required.append("site_order")
    others = sorted(names - set(_USED) - set(_KNOWN_BUT_UNUSED))
    for name in required:
        if name not in names:
            alternative = " (or n_sites for counts)" if name == "site_order" else ""
            choices = [other for other in others if did_you_mean(other, _accepted_names(name))]
            hint = f"; did you mean column {choices[0]!r}?" if choices else ""
            raise InputError(
                "E_CATALOGUE_COLUMN_MISSING",
                f"the column {name}{alternative} is missing{hint}",
                where=source.where(),
                next_step=f"rename or add it; the file has {', '.join(source.names)}",
            )
    optional = [
        name for name in ("home_country_iso", "final_country_outlet_count", "site_id") if name not in names
    ]
    for other in others:
        if hint := did_you_mean(other, optional):
            raise InputError(
                "E_CATALOGUE_COLUMN_UNKNOWN",
                f"unknown column {other!r}{hint}",
                where=source.where(),
                next_step="correct its name, or rename it to something that is not taken for a slip",
            )
    unused = tuple(sorted(names & set(_KNOWN_BUT_UNUSED)))
    return ("counts" if "n_sites" in names else "outlets"), (*others, *unused)


def _accepted_names(name: str) -> list[str]:
    extra = ["n_sites"] if name == "site_order" else []
    return [name, *(alias for alias, meant in ALIASES.items() if meant in (name, *extra)), *extra]


# A row per merchant and country


def _from_count_rows(
    source: SourceTable, merchant_id: Unsigned, country: Countries, iso: tuple[str, ...]
) -> OutletCatalogue:
    n_sites = source.integers("n_sites", 1, MAX_SITES_PER_PAIR).astype(np.int32)
    order = _row_order(country, merchant_id)
    merchant, place, sites = _in_order(order, merchant_id, country, n_sites)
    repeated = (merchant[1:] == merchant[:-1]) & (place[1:] == place[:-1])
    _refuse_duplicates(source, order, repeated, merchant_id, country, iso, "merchant_id, country")
    home = _stated_homes(source, order, merchant_id, merchant, iso)
    if home is None:
        home = _largest_countries(merchant, place, sites)
    return from_pairs(iso, merchant, place, sites, home)


# A row per outlet


def _from_outlet_rows(
    source: SourceTable, merchant_id: Unsigned, country: Countries, iso: tuple[str, ...]
) -> OutletCatalogue:
    site_order = source.integers("site_order", 1, MAX_SITES_PER_PAIR).astype(np.int32)
    order = _row_order(site_order, country, merchant_id)
    merchant, place, number = _in_order(order, merchant_id, country, site_order)
    same_pair = (merchant[1:] == merchant[:-1]) & (place[1:] == place[:-1])
    repeated = same_pair & (number[1:] == number[:-1])
    _refuse_duplicates(
        source, order, repeated, merchant_id, country, iso, "merchant_id, legal_country_iso, site_order"
    )
    start = np.flatnonzero(np.r_[True, ~same_pair])
    n_sites = np.diff(start, append=merchant.size).astype(np.int32)
    _check_site_order(source, order, number, start, n_sites)
    _check_optional_columns(source, order, site_order, n_sites)
    stated = _stated_homes(source, order, merchant_id, merchant, iso)
    pairs = merchant[start], place[start], n_sites
    return from_pairs(iso, *pairs, _largest_countries(*pairs) if stated is None else stated[start])


def _check_site_order(
    source: SourceTable, order: Integers | None, number: Counts, start: Integers, n_sites: Counts
) -> None:
    expected = np.arange(1, number.size + 1)
    expected -= np.repeat(start, n_sites)
    wrong = np.flatnonzero(number != expected)
    if wrong.size:
        at = int(wrong[0])
        raise fault(
            source,
            "E314_SITE_ORDER_INTEGRITY",
            f"site_order is {number[at]} where {expected[at]} must follow: the outlets of a pair count 1..n",
            _row(order, at),
            "site_order",
            "number the outlets of each merchant and country from 1",
            count=wrong.size,
        )


def _check_optional_columns(
    source: SourceTable, order: Integers | None, site_order: Counts, n_sites: Counts
) -> None:
    if "final_country_outlet_count" in source.names:
        rows_of_pair = np.repeat(n_sites, n_sites)
        if order is not None:
            in_order, rows_of_pair = rows_of_pair, np.empty_like(rows_of_pair)
            rows_of_pair[order] = in_order
        stated = source.integers("final_country_outlet_count", 1, MAX_SITES_PER_PAIR).astype(np.int32)
        wrong = np.flatnonzero(stated != rows_of_pair)
        if wrong.size:
            row = int(wrong[0])
            raise fault(
                source,
                "E308_COUNTS_MISMATCH",
                f"final_country_outlet_count is {stated[row]}, but this pair has {rows_of_pair[row]} rows",
                row,
                "final_country_outlet_count",
                "add the missing rows or correct the count",
                count=wrong.size,
            )
    if "site_id" in source.names:
        stated = source.integers("site_id", 0, MAX_SITES_PER_PAIR).astype(np.int32)
        wrong = np.flatnonzero(stated != site_order)
        if wrong.size:
            row = int(wrong[0])
            message = f"site_id is {stated[row]:06d}, but site_order is {site_order[row]}"
            step = "site_id is the zero-padded site_order; drop the column or correct it"
            raise fault(source, "E_CATALOGUE_SITE_ID", message, row, "site_id", step, count=wrong.size)


# Order of rows


def _row_order(*keys: npt.NDArray[Any]) -> Integers | None:
    """Rows in ascending order by the keys, of which the last counts most; None if they stand so."""
    undecided = np.ones(max(keys[0].size - 1, 0), np.bool_)
    for values in reversed(keys):
        if bool(np.any(undecided & (values[1:] < values[:-1]))):
            return np.lexsort(keys)
        undecided &= values[1:] == values[:-1]
    return None


def _in_order(order: Integers | None, *columns: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    return columns if order is None else tuple(values[order] for values in columns)


def _row(order: Integers | None, at: int) -> int:
    """Row of the file that is the `at`-th in order."""
    return at if order is None else int(order[at])


# Shared checks


def _refuse_duplicates(
    source: SourceTable,
    order: Integers | None,
    repeated: npt.NDArray[np.bool_],
    merchant_id: Unsigned,
    country: Countries,
    iso: tuple[str, ...],
    key: str,
) -> None:
    found = np.flatnonzero(repeated)
    if found.size:
        first, second = sorted(_row(order, int(found[0]) + step) for step in (0, 1))
        raise fault(
            source,
            "E_CATALOGUE_DUPLICATE_KEY",
            f"merchant {merchant_id[second]} in {iso[country[second]]} repeats the key of row {first + 1}",
            second,
            key,
            "remove one of the two rows, or add their outlets together",
            count=found.size,
        )


def _stated_homes(
    source: SourceTable,
    order: Integers | None,
    merchant_id: Unsigned,
    merchant: Unsigned,
    iso: tuple[str, ...],
) -> Countries | None:
    """Home country of every row in order, if the file states them. `merchant` is `merchant_id` in order."""
    if "home_country_iso" not in source.names:
        return None
    stated = source.countries("home_country_iso", iso)
    (home,) = _in_order(order, stated)
    if not bool(np.any((merchant[1:] == merchant[:-1]) & (home[1:] != home[:-1]))):
        return home
    _, first_row, of_row = np.unique(merchant_id, return_index=True, return_inverse=True)
    wrong = np.flatnonzero(stated != stated[first_row[of_row]])
    row = int(wrong[0])
    first = int(first_row[of_row[row]])
    raise fault(
        source,
        "E_CATALOGUE_HOME_INCONSISTENT",
        f"merchant {merchant_id[row]} has its home in {iso[stated[row]]} here but "
        f"in {iso[stated[first]]} in row {first + 1}",
        row,
        "home_country_iso",
        "give each merchant one home country",
        count=wrong.size,
    )


def _largest_countries(merchant: Unsigned, place: Countries, sites: Counts) -> Countries:
    """i16[P]: where the merchant of each pair has most outlets, ties to the smaller index; pairs ascend."""
    start = np.flatnonzero(np.r_[True, merchant[1:] != merchant[:-1]])
    pairs = np.diff(start, append=merchant.size)
    most = np.repeat(np.maximum.reduceat(sites, start), pairs)
    candidates = np.where(sites == most, place, np.iinfo(np.int16).max)
    largest: Countries = np.repeat(np.minimum.reduceat(candidates, start), pairs).astype(np.int16)
    return largest
