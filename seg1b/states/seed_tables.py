"""Everything that was published of one seed, in memory, as S9 and `verify` compare and score it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.scoring.sites import Sites
from seg1b.states.s8_egress import wkb_points
from seg1b.states.tables import (
    COUNTRY,
    Pairs,
    Placement,
    Plan,
    column,
    country_indices,
    country_slices,
    placement_from_arrow,
    plan_from_arrow,
)
from seg1b.world.grid import Grid

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class SiteKeys:
    """Keys of S sites: country index, merchant, site number."""

    country: NDArray[np.int16]
    merchant_id: NDArray[np.uint64]
    site_order: NDArray[np.int32]

    @classmethod
    def of(cls, pairs: Pairs) -> SiteKeys:
        """The keys that a table of requirements asks for."""
        return cls(*pairs.sites())

    @classmethod
    def from_arrow(cls, iso: tuple[str, ...], table: pa.Table) -> SiteKeys:
        """Keys of a table with a country column."""
        return cls(
            country_indices(iso, table.column(COUNTRY)),
            column(table, "merchant_id", np.uint64),
            column(table, "site_order", np.int32),
        )

    def __len__(self) -> int:
        return len(self.country)

    def countries(self) -> Iterator[tuple[int, slice]]:
        """(country index, slice of its sites), ascending."""
        return country_slices(self.country)

    def differs_from(self, other: SiteKeys) -> NDArray[np.bool_]:
        """Row by row; both of one length."""
        return np.asarray(
            (self.country != other.country)
            | (self.merchant_id != other.merchant_id)
            | (self.site_order != other.site_order)
        )

    def duplicates(self) -> int:
        """Rows whose key occurred before."""
        order = np.lexsort((self.site_order, self.merchant_id, self.country))
        again = (
            (np.diff(self.country[order]) == 0)
            & (self.merchant_id[order][1:] == self.merchant_id[order][:-1])
            & (np.diff(self.site_order[order]) == 0)
        )
        return int(again.sum())

    def describe(self, row: int, iso: tuple[str, ...]) -> str:
        """A site in words."""
        return f"{iso[self.country[row]]}, merchant {self.merchant_id[row]}, site {self.site_order[row]}"


@dataclass(frozen=True)
class Numbering:
    """Where a block's sites stand among those of its one country: the first one's number, and how many there are."""

    first: int
    sites: int


@dataclass(frozen=True)
class SiteTables:
    """What S3 to S8 published of some countries of a seed; `geometry_matches` (S,) is None where it was not read."""

    pairs: Pairs
    plan: Plan
    assigned: SiteKeys
    assigned_tile: IntArray
    jittered: SiteKeys
    placement: Placement
    egress: SiteKeys
    lon_deg: NDArray[np.float64]
    lat_deg: NDArray[np.float64]
    geometry_matches: NDArray[np.bool_] | None

    @classmethod
    def from_arrow(
        cls,
        iso: tuple[str, ...],
        pairs: Pairs,
        plan: pa.Table,
        assigned: pa.Table,
        jittered: pa.Table,
        egress: Egress,
    ) -> SiteTables:
        """From the tables of S4, S5 and S6 as they are published; `iso` are the world's countries in order."""
        return SiteTables(
            pairs=pairs,
            plan=plan_from_arrow(iso, plan),
            assigned=SiteKeys.from_arrow(iso, assigned),
            assigned_tile=column(assigned, "tile_id", np.int64),
            jittered=SiteKeys.from_arrow(iso, jittered),
            placement=placement_from_arrow(jittered),
            egress=egress.keys,
            lon_deg=egress.lon_deg,
            lat_deg=egress.lat_deg,
            geometry_matches=egress.geometry_matches,
        )

    def sites(self, grid: Grid) -> Sites:
        """The egress, to be scored."""
        return egress_sites(self.egress, self.lon_deg, self.lat_deg, grid)


@dataclass(frozen=True)
class SeedTables(SiteTables):
    """Published tables of a whole seed, and the catalogue that they came from."""

    catalogue: OutletCatalogue

    @classmethod
    def of(cls, catalogue: OutletCatalogue, tables: SiteTables) -> SeedTables:
        """The tables of all countries with their catalogue."""
        columns = {field.name: getattr(tables, field.name) for field in fields(SiteTables)}
        return SeedTables(**columns, catalogue=catalogue)


def egress_sites(
    keys: SiteKeys, lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64], grid: Grid
) -> Sites:
    """Sites to be scored, each in the tile where it stands: nobody's word is taken for it.

    Coordinates must be valid.
    """
    tile = grid.tile_of(lon_deg, lat_deg)
    return Sites(keys.merchant_id, keys.country, keys.site_order, lon_deg, lat_deg, tile)


@dataclass(frozen=True)
class Egress:
    """The egress as read from its files: keys, coordinates, and whether each WKB point agrees with them."""

    keys: SiteKeys
    lon_deg: NDArray[np.float64]
    lat_deg: NDArray[np.float64]
    geometry_matches: NDArray[np.bool_]


def join_egress(iso: tuple[str, ...], partitions: Iterator[tuple[str, pa.Table]]) -> Egress:
    """Put the countries' files together; (iso, table) ascending by iso."""
    country, tables = [], []
    position = {code: index for index, code in enumerate(iso)}
    for code, table in partitions:
        country.append(np.full(table.num_rows, position[code], np.int16))
        tables.append(table)
    joined = pa.concat_tables(tables)
    lon, lat = column(joined, "lon_deg", np.float64), column(joined, "lat_deg", np.float64)
    keys = SiteKeys(
        np.concatenate(country),
        column(joined, "merchant_id", np.uint64),
        column(joined, "site_order", np.int32),
    )
    matches = np.array(
        pa.compute.equal(joined.column("geometry").combine_chunks(), wkb_points(lon, lat)).to_numpy(
            zero_copy_only=False
        ),
        np.bool_,
    )
    return Egress(keys, lon, lat, matches)
