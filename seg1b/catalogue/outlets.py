"""The outlet catalogue in memory: how many outlets each merchant has in each country.

One entry per pair (merchant, country), never one per outlet: 100 million outlets are a few million pairs.
The row-per-outlet form of engine-contracts 7.1 exists only on disk (`catalogue.tables`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError

Merchants = npt.NDArray[np.uint64]
Countries = npt.NDArray[np.int16]
Counts = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]

MAX_SITES_PER_PAIR = 999_999
"""A site_id has six digits."""


@dataclass(frozen=True)
class OutletCatalogue:
    """Pairs in ascending (merchant_id, country); countries are positions in `iso`, which is ascending.

    merchant_id u64[P] >= 1, country i16[P], n_sites i32[P] in 1..999999, home_country i16[P] (the merchant's,
    the same in all its pairs), raw_outlet_draw i32[P] (outlets the merchant was meant to have, the same in
    all its pairs), seed of the synthesis (0 for a user's own catalogue).
    """

    iso: tuple[str, ...]
    merchant_id: Merchants
    country: Countries
    n_sites: Counts
    home_country: Countries
    raw_outlet_draw: Counts
    seed: int

    def __post_init__(self) -> None:
        """Raise ContractError E_CATALOGUE_CONTRACT when the pairs break the class's own promise."""
        step_up = self.merchant_id[1:] > self.merchant_id[:-1]
        same = self.merchant_id[1:] == self.merchant_id[:-1]
        promises = {
            "one length": len({a.shape for a in self._columns()}) == 1,
            "not empty": self.merchant_id.size > 0,
            "ascending and unique": bool(np.all(step_up | (same & (self.country[1:] > self.country[:-1])))),
            "merchant_id >= 1": bool(np.all(self.merchant_id >= 1)),
            "n_sites in 1..999999": bool(np.all((self.n_sites >= 1) & (self.n_sites <= MAX_SITES_PER_PAIR))),
            "countries inside the table": bool(
                np.all((self.country >= 0) & (self.country < len(self.iso)))
                and np.all((self.home_country >= 0) & (self.home_country < len(self.iso)))
            ),
            "one home per merchant": bool(np.all(~same | (self.home_country[1:] == self.home_country[:-1]))),
        }
        broken = [name for name, holds in promises.items() if not holds]
        if broken:
            raise ContractError(
                "E_CATALOGUE_CONTRACT",
                "the outlet catalogue is not " + ", not ".join(broken),
                next_step="load it with seg1b.catalogue.user, which names the row at fault",
            )

    def _columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        return self.merchant_id, self.country, self.n_sites, self.home_country, self.raw_outlet_draw

    @property
    def pair_count(self) -> int:
        """Number of (merchant, country) pairs."""
        return int(self.merchant_id.size)

    @property
    def site_count(self) -> int:
        """Number of outlets."""
        return int(self.n_sites.sum(dtype=np.int64))

    @property
    def merchant_start(self) -> Integers:
        """int64[M]: first pair of each merchant."""
        return np.flatnonzero(np.r_[True, self.merchant_id[1:] != self.merchant_id[:-1]])

    @property
    def merchant_sites(self) -> Integers:
        """int64[M]: outlets of each merchant over all its countries, merchants ascending."""
        return np.add.reduceat(self.n_sites.astype(np.int64), self.merchant_start)

    def sites_per_country(self) -> Integers:
        """int64[C]: outlets in each country of `iso`."""
        counts = np.zeros(len(self.iso), np.int64)
        np.add.at(counts, self.country, self.n_sites)
        return counts

    def largest_pair_per_country(self) -> Integers:
        """int64[C]: outlets of the largest merchant in each country."""
        largest = np.zeros(len(self.iso), np.int64)
        np.maximum.at(largest, self.country, self.n_sites)
        return largest

    def site_order(self) -> Counts:
        """i32[N]: 1..n_sites of every pair, pairs in order."""
        end = np.cumsum(self.n_sites, dtype=np.int64)
        return (np.arange(end[-1]) - np.repeat(end - self.n_sites, self.n_sites) + 1).astype(np.int32)


def from_pairs(
    iso: tuple[str, ...],
    merchant_id: Merchants,
    country: Countries,
    n_sites: Counts,
    home_country: Countries,
    seed: int = 0,
) -> OutletCatalogue:
    """Sort pairs into an OutletCatalogue; the raw draw of a merchant is the sum of its outlets.

    Raises ContractError E_CATALOGUE_CONTRACT when a pair occurs twice.
    """
    order = np.lexsort((country, merchant_id))
    merchant_id, n_sites = merchant_id[order], n_sites[order]
    start = np.flatnonzero(np.r_[True, merchant_id[1:] != merchant_id[:-1]][: merchant_id.size])
    total = np.add.reduceat(n_sites, start, dtype=np.int64) if start.size else start
    pairs = np.diff(start, append=merchant_id.size)
    return OutletCatalogue(
        iso=iso,
        merchant_id=merchant_id.astype(np.uint64),
        country=country[order].astype(np.int16),
        n_sites=n_sites.astype(np.int32),
        home_country=home_country[order].astype(np.int16),
        raw_outlet_draw=np.repeat(total.astype(np.int32), pairs),
        seed=seed,
    )
