"""The tables that states pass on, in memory (numpy) and on disk (Arrow).

Every table is sorted by country, merchant and site (or tile); the partition is the country, and a table's Arrow
form carries it as the column `legal_country_iso`, except in the egress, where the folder name says it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seg1b.errors import ContractError
from seg1b.store.digest import numbers_of

IntArray = NDArray[np.int64]
ScalarT = TypeVar("ScalarT", bound=np.generic)
COUNTRY = "legal_country_iso"
REQUIREMENTS_TABLE = "s3_requirements"
PLAN_TABLE = "s4_alloc_plan"
ASSIGNMENT_TABLE = "s5_site_tile_assignment"
JITTER_TABLE = "s6_site_jitter"
EGRESS_TABLE = "site_locations"
TABLE_OF = {
    "S3": REQUIREMENTS_TABLE, "S4": PLAN_TABLE, "S5": ASSIGNMENT_TABLE, "S6": JITTER_TABLE, "S8": EGRESS_TABLE,
}  # fmt: skip
"""The table that a state of a seed publishes."""


def country_slices(country: NDArray[np.int16]) -> Iterator[tuple[int, slice]]:
    """(country index, slice of its rows) of an ascending country column."""
    if not len(country):
        return
    starts = np.flatnonzero(np.diff(country)) + 1
    bounds = [0, *starts.tolist(), len(country)]
    for low, high in pairwise(bounds):
        yield int(country[low]), slice(low, high)


@dataclass(frozen=True)
class Pairs:
    """Requirements: P pairs (merchant, country) ascending by (country, merchant), with n_sites >= 1 each."""

    country: NDArray[np.int16]
    merchant_id: NDArray[np.uint64]
    n_sites: IntArray

    def countries(self) -> Iterator[tuple[int, slice]]:
        """(country index, slice of its pairs), ascending."""
        return country_slices(self.country)

    def rows(self, part: slice) -> Pairs:
        """Some consecutive pairs."""
        return Pairs(self.country[part], self.merchant_id[part], self.n_sites[part])

    def only(self, countries: Sequence[int]) -> Pairs:
        """The pairs of some countries."""
        keep = np.isin(self.country, np.asarray(countries, np.int16))
        return Pairs(self.country[keep], self.merchant_id[keep], self.n_sites[keep])

    def sites(self) -> tuple[NDArray[np.int16], NDArray[np.uint64], NDArray[np.int32]]:
        """Country, merchant and site_order (1..n) of every site, S entries each."""
        before = np.concatenate(([0], np.cumsum(self.n_sites)[:-1])) if len(self.n_sites) else self.n_sites
        order = np.arange(int(self.n_sites.sum()), dtype=np.int64) - np.repeat(before, self.n_sites) + 1
        return (
            np.repeat(self.country, self.n_sites),
            np.repeat(self.merchant_id, self.n_sites),
            order.astype(np.int32),
        )

    def merchants(self) -> int:
        """Number of merchants that have pairs."""
        ascending = np.sort(self.merchant_id)  # numpy's own `unique` imports its masked arrays first
        return int(np.count_nonzero(ascending[1:] != ascending[:-1])) + min(1, len(ascending))

    def sites_per_country(self, countries: int) -> IntArray:
        """Number of sites of every country, (countries,)."""
        totals = np.zeros(countries, np.int64)
        np.add.at(totals, self.country.astype(np.int64), self.n_sites)
        return totals


@dataclass(frozen=True)
class Plan:
    """Allocation plan: R rows ascending by (country, merchant, tile), n_sites_tile >= 1 each."""

    country: NDArray[np.int16]
    merchant_id: NDArray[np.uint64]
    tile_id: IntArray
    n_sites_tile: IntArray

    def rows(self, part: slice) -> Plan:
        """Some consecutive rows."""
        return Plan(self.country[part], self.merchant_id[part], self.tile_id[part], self.n_sites_tile[part])

    def rows_of_pairs(self, pairs: Pairs) -> IntArray:
        """Offsets (P + 1) of every pair's rows; raises ContractError E401 if plan and pairs do not match."""
        new = np.ones(len(self.country), np.bool_)
        new[1:] = (self.country[1:] != self.country[:-1]) | (self.merchant_id[1:] != self.merchant_id[:-1])
        first = np.flatnonzero(new)
        same = len(first) == len(pairs.country)
        if not (
            same
            and np.array_equal(self.country[first], pairs.country)
            and np.array_equal(self.merchant_id[first], pairs.merchant_id)
        ):
            raise ContractError("E401_NO_S3_REQUIREMENTS", "the plan's pairs are not the required pairs")
        return np.append(first, len(self.country)).astype(np.int64)


@dataclass(frozen=True)
class Placement:
    """Where every site of some pairs stands: S entries in (country, merchant, site_order) order.

    `attempts` counts draws of a position (0: the fallback took over), `component` is 0 core, 1 secondary,
    2 sparse tail, 255 where the method has none.
    """

    tile_id: IntArray
    lon_deg: NDArray[np.float64]
    lat_deg: NDArray[np.float64]
    attempts: NDArray[np.int32]
    component: NDArray[np.uint8]


_ISO = pa.field(COUNTRY, pa.string(), nullable=False)
_MERCHANT = pa.field("merchant_id", pa.uint64(), nullable=False)
_SITE_ORDER = pa.field("site_order", pa.int32(), nullable=False)
_TILE = pa.field("tile_id", pa.uint64(), nullable=False)
_LON = pa.field("lon_deg", pa.float64(), nullable=False)
_LAT = pa.field("lat_deg", pa.float64(), nullable=False)

PAIR_SCHEMA = pa.schema([_ISO, _MERCHANT, pa.field("n_sites", pa.int64(), nullable=False)])
PLAN_SCHEMA = pa.schema([_ISO, _MERCHANT, _TILE, pa.field("n_sites_tile", pa.int64(), nullable=False)])
ASSIGNMENT_SCHEMA = pa.schema([_ISO, _MERCHANT, _SITE_ORDER, _TILE])
JITTER_SCHEMA = pa.schema(
    [
        _ISO, _MERCHANT, _SITE_ORDER, _TILE, _LON, _LAT,
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("component", pa.uint8(), nullable=False),
    ]
)  # fmt: skip
PAIR_KEY = (COUNTRY, "merchant_id")
PLAN_KEY = (COUNTRY, "merchant_id", "tile_id")
SITE_KEY = (COUNTRY, "merchant_id", "site_order")


def country_column(iso: Sequence[str], country: NDArray[np.int16]) -> pa.Array:
    """ISO codes of country indices, (n,) strings."""
    return pa.DictionaryArray.from_arrays(pa.array(country), pa.array(list(iso), pa.string())).cast(
        pa.string()
    )


def country_indices(iso: Sequence[str], column: pa.ChunkedArray) -> NDArray[np.int16]:
    """Inverse of `country_column`. Raises ContractError E302_FK_COUNTRY for a null or an unknown code."""
    if column.null_count:
        raise ContractError("E302_FK_COUNTRY", f"{column.null_count} rows have no country")
    encoded = column.combine_chunks().dictionary_encode()
    position = {code: index for index, code in enumerate(iso)}
    codes = encoded.dictionary.to_pylist()
    unknown = [code for code in codes if code not in position]
    if unknown:
        raise ContractError("E302_FK_COUNTRY", f"the world has no country {unknown[0]!r}")
    lookup = np.array([position[code] for code in codes], np.int16)
    return lookup[numbers_of(encoded.indices)] if len(lookup) else np.empty(0, np.int16)


def column(table: pa.Table, name: str, dtype: type[ScalarT]) -> NDArray[ScalarT]:
    """One column as a read-only numpy array of the given type.

    Read-only whether Arrow could lend its memory or had to copy: a kernel is compiled for each kind of array apart.
    """
    values: NDArray[ScalarT] = numbers_of(table.column(name)).astype(dtype, copy=False)
    values.setflags(write=False)
    return values


def pairs_to_arrow(iso: Sequence[str], pairs: Pairs) -> pa.Table:
    """Requirements as an Arrow table."""
    return pa.table(
        [country_column(iso, pairs.country), pairs.merchant_id, pairs.n_sites], schema=PAIR_SCHEMA
    )


def pairs_from_arrow(iso: Sequence[str], table: pa.Table) -> Pairs:
    """Inverse of `pairs_to_arrow`."""
    return Pairs(
        country_indices(iso, table.column(COUNTRY)),
        column(table, "merchant_id", np.uint64),
        column(table, "n_sites", np.int64),
    )


def plan_to_arrow(iso: Sequence[str], plan: Plan) -> pa.Table:
    """An allocation plan as an Arrow table."""
    arrays = [
        country_column(iso, plan.country),
        plan.merchant_id,
        plan.tile_id.astype(np.uint64),
        plan.n_sites_tile,
    ]
    return pa.table(arrays, schema=PLAN_SCHEMA)


def plan_from_arrow(iso: Sequence[str], table: pa.Table) -> Plan:
    """Inverse of `plan_to_arrow`."""
    return Plan(
        country_indices(iso, table.column(COUNTRY)),
        column(table, "merchant_id", np.uint64),
        column(table, "tile_id", np.int64),
        column(table, "n_sites_tile", np.int64),
    )


def assignment_to_arrow(iso: Sequence[str], pairs: Pairs, tile_id: IntArray) -> pa.Table:
    """S5's table: one row per site."""
    country, merchant_id, site_order = pairs.sites()
    arrays = [country_column(iso, country), merchant_id, site_order, tile_id.astype(np.uint64)]
    return pa.table(arrays, schema=ASSIGNMENT_SCHEMA)


def jitter_to_arrow(iso: Sequence[str], pairs: Pairs, placement: Placement) -> pa.Table:
    """S6's table: one row per site."""
    country, merchant_id, site_order = pairs.sites()
    return pa.table(
        [
            country_column(iso, country),
            merchant_id,
            site_order,
            placement.tile_id.astype(np.uint64),
            placement.lon_deg,
            placement.lat_deg,
            placement.attempts,
            placement.component,
        ],
        schema=JITTER_SCHEMA,
    )


def placement_from_arrow(table: pa.Table) -> Placement:
    """S6's table in memory."""
    return Placement(
        column(table, "tile_id", np.int64),
        column(table, "lon_deg", np.float64),
        column(table, "lat_deg", np.float64),
        column(table, "attempts", np.int32),
        column(table, "component", np.uint8),
    )
