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
from typing import Final, Literal

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
    n_sites = source.integers("n_sites", 1, MAX_SITES_PER_PAIR).astype(np.int64)
    order = np.lexsort((country, merchant_id))
    repeated = (np.diff(merchant_id[order]) == 0) & (np.diff(country[order]) == 0)
    _refuse_duplicates(source, order, repeated, merchant_id, country, iso, "merchant_id, country")
    home = _homes(source, merchant_id, country, n_sites, iso)
    return from_pairs(iso, merchant_id, country, n_sites.astype(np.int32), home)


# A row per outlet


def _from_outlet_rows(
    source: SourceTable, merchant_id: Unsigned, country: Countries, iso: tuple[str, ...]
) -> OutletCatalogue:
    site_order = source.integers("site_order", 1, MAX_SITES_PER_PAIR).astype(np.int64)
    order = np.lexsort((site_order, country, merchant_id))
    merchant, place, number = merchant_id[order], country[order], site_order[order]
    same_pair = (merchant[1:] == merchant[:-1]) & (place[1:] == place[:-1])
    repeated = same_pair & (number[1:] == number[:-1])
    _refuse_duplicates(
        source, order, repeated, merchant_id, country, iso, "merchant_id, legal_country_iso, site_order"
    )
    start = np.flatnonzero(np.r_[True, ~same_pair])
    n_sites = np.diff(np.r_[start, merchant.size])
    _check_site_order(source, order, number, start, n_sites)
    _check_optional_columns(source, order, site_order, np.repeat(n_sites, n_sites))
    home = _homes(source, merchant_id, country, np.ones(merchant_id.size, np.int64), iso)
    pairs = order[start]
    return from_pairs(iso, merchant[start], place[start], n_sites.astype(np.int32), home[pairs])


def _check_site_order(
    source: SourceTable, order: Integers, number: Integers, start: Integers, n_sites: Integers
) -> None:
    expected = np.arange(number.size) - np.repeat(start, n_sites) + 1
    wrong = np.flatnonzero(number != expected)
    if wrong.size:
        at = int(wrong[0])
        raise fault(
            source,
            "E314_SITE_ORDER_INTEGRITY",
            f"site_order is {number[at]} where {expected[at]} must follow: the outlets of a pair count 1..n",
            int(order[at]),
            "site_order",
            "number the outlets of each merchant and country from 1",
            count=wrong.size,
        )


def _check_optional_columns(
    source: SourceTable, order: Integers, site_order: Integers, pair_size: Integers
) -> None:
    rows_of_pair = np.empty_like(pair_size)
    rows_of_pair[order] = pair_size
    if "final_country_outlet_count" in source.names:
        stated = source.integers("final_country_outlet_count", 1, MAX_SITES_PER_PAIR).astype(np.int64)
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
        stated = source.integers("site_id", 0, MAX_SITES_PER_PAIR).astype(np.int64)
        wrong = np.flatnonzero(stated != site_order)
        if wrong.size:
            row = int(wrong[0])
            message = f"site_id is {stated[row]:06d}, but site_order is {site_order[row]}"
            step = "site_id is the zero-padded site_order; drop the column or correct it"
            raise fault(source, "E_CATALOGUE_SITE_ID", message, row, "site_id", step, count=wrong.size)


# Shared checks


def _refuse_duplicates(
    source: SourceTable,
    order: Integers,
    repeated: npt.NDArray[np.bool_],
    merchant_id: Unsigned,
    country: Countries,
    iso: tuple[str, ...],
    key: str,
) -> None:
    found = np.flatnonzero(repeated)
    if found.size:
        first, second = sorted((int(order[found[0]]), int(order[found[0] + 1])))
        raise fault(
            source,
            "E_CATALOGUE_DUPLICATE_KEY",
            f"merchant {merchant_id[second]} in {iso[country[second]]} repeats the key of row {first + 1}",
            second,
            key,
            "remove one of the two rows, or add their outlets together",
            count=found.size,
        )


def _homes(
    source: SourceTable, merchant_id: Unsigned, country: Countries, n_sites: Integers, iso: tuple[str, ...]
) -> Countries:
    """Home country of every row's merchant, stated or where most of its outlets are."""
    _, merchant = np.unique(merchant_id, return_inverse=True)
    if "home_country_iso" not in source.names:
        return _largest_country(merchant, country, n_sites)[merchant]
    stated = source.countries("home_country_iso", iso)
    order = np.argsort(merchant, kind="stable")
    first_row = order[np.searchsorted(merchant[order], np.arange(merchant.max() + 1))]
    wrong = np.flatnonzero(stated != stated[first_row[merchant]])
    if wrong.size:
        row = int(wrong[0])
        first = int(first_row[merchant[row]])
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
    return stated


def _largest_country(merchant: Integers, country: Countries, n_sites: Integers) -> Countries:
    """i16[M]: the country with most outlets of each merchant, ties to the smaller index."""
    key, pair = np.unique(merchant * (1 << 15) + country, return_inverse=True)
    sites = np.zeros(key.size, np.int64)
    np.add.at(sites, pair, n_sites)
    owner, place = np.divmod(key, 1 << 15)
    order = np.lexsort((place, -sites, owner))
    first = np.searchsorted(owner[order], np.arange(int(owner.max()) + 1))
    largest: Countries = place[order][first].astype(np.int16)
    return largest
