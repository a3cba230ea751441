"""The sites that are scored: one row per outlet, in memory, in the order of their key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sites:
    """n sites sorted by (country, merchant_id, site_order); make one with `make_sites`.

    merchant_id uint64[n]; country int16[n], index into the world's country table; site_order int32[n];
    lon_deg, lat_deg float64[n]; tile_id int64[n].
    """

    merchant_id: npt.NDArray[np.uint64]
    country: npt.NDArray[np.int16]
    site_order: npt.NDArray[np.int32]
    lon_deg: FloatArray
    lat_deg: FloatArray
    tile_id: IntArray

    def __len__(self) -> int:
        return len(self.merchant_id)

    def country_bounds(self, countries: int) -> IntArray:
        """First row of each country, int64[countries + 1]: country c has rows bounds[c] to bounds[c + 1]."""
        return np.searchsorted(self.country, np.arange(countries + 1)).astype(np.int64)

    def pairs(self) -> tuple[IntArray, IntArray]:
        """Number of each site's pair of country and merchant, int64[n], and first row of each pair, int64[P]."""
        new = np.ones(len(self), np.bool_)
        new[1:] = (self.country[1:] != self.country[:-1]) | (self.merchant_id[1:] != self.merchant_id[:-1])
        return np.cumsum(new) - 1, np.flatnonzero(new)

    def counts(self, countries: int) -> IntArray:
        """Sites per country, int64[countries]."""
        return np.diff(self.country_bounds(countries))


def make_sites(
    merchant_id: npt.ArrayLike,
    country: npt.ArrayLike,
    site_order: npt.ArrayLike,
    lon_deg: npt.ArrayLike,
    lat_deg: npt.ArrayLike,
    tile_id: npt.ArrayLike,
) -> Sites:
    """Sites from columns of equal length in any order; sorts them. Raises ContractError E_SCORE_COLUMNS."""
    columns: list[npt.NDArray[Any]] = [
        np.asarray(merchant_id, np.uint64),
        np.asarray(country, np.int16),
        np.asarray(site_order, np.int32),
        np.asarray(lon_deg, np.float64),
        np.asarray(lat_deg, np.float64),
        np.asarray(tile_id, np.int64),
    ]
    if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
        raise ContractError(
            "E_SCORE_COLUMNS",
            f"the columns of sites differ in length: {[column.shape for column in columns]}",
            where="sites to be scored",
            next_step="read all columns from the same rows",
        )
    order = np.lexsort((columns[2], columns[0], columns[1]))
    if not np.array_equal(order, np.arange(len(order))):
        columns = [column[order] for column in columns]
    return Sites(*columns)


NO_SITES = make_sites([], [], [], [], [], [])
