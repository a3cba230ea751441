"""What the bootstrap over merchants resamples, and the statistics of many samples at once: plain array arithmetic.

What is drawn, and how, is the business of `bootstrap` (compiled, with distances between neighbours) and of
`bootstrap_counts` (not compiled, for what a catalogue's counts decide). The jackknife draws nothing.

Above MAX_UNITS merchants, GROUPS random groups of merchants are resampled instead of single ones (the random groups
method, Wolter 2007, chapter 2): the same variance but for a share of 1 / GROUPS, at a cost that no longer grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.random import Philox

from seg1b.kernels.quantiles import interpolate

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

STATISTICS = (
    "country_gini",
    "top1_share",
    "top5_share",
    "top10_share",
    "eligible_country_nonzero_share",
    "southern_hemisphere_share",
    "nn_p99_p50_ratio",
)
TOP_PERCENTS = (1, 5, 10)
LEVELS = (0.5, 0.99)
"""Of the distances: the ratio of these two quantiles is the last of the STATISTICS."""
MAX_UNITS = 1 << 16
GROUPS = 1 << 11

_SHIFT = np.uint64(32)
_GROUP_KEY, _GROUP_COUNTER = 0x72616E646F6D, 0x67726F757073
_MERCHANTS_AT_ONCE = 1 << 16
_ROWS_AT_ONCE = 128  # of 250 countries: they stay in a CPU's cache, and their memory with the process


@dataclass(frozen=True)
class MerchantSample:
    """What resampling M merchants (or groups of merchants) needs.

    Merchant m has sites in the countries `pair_country[pair_start[m]:pair_start[m+1]]`, `pair_sites` of them,
    and `southern` of its sites south of the equator. `distance_m` are the N nearest-neighbour distances
    ascending and `distance_merchant` the merchant of each; empty arrays where distances are not known. `region` is the
    region of each country, 0..regions-1, whose shares of the sites follow the STATISTICS.
    """

    pair_start: IntArray
    pair_country: npt.NDArray[np.int32]
    pair_sites: IntArray
    southern: IntArray
    eligible: npt.NDArray[np.bool_]
    distance_m: FloatArray
    distance_merchant: npt.NDArray[np.int32]
    region: npt.NDArray[np.int32]
    regions: int = 0

    @property
    def merchants(self) -> int:
        """Number of merchants M."""
        return len(self.pair_start) - 1


def word_stream(key: int, counter_upper: int, block: int) -> Philox:
    """Philox4x64-10, of which `random_raw` gives the words of `philox.block_4x64` from block number `block` on.

    numpy counts up before it draws.
    """
    return Philox(key=key, counter=((counter_upper << 128) + block - 1) % (1 << 256))


def resampling_units(merchant: npt.NDArray[np.integer[Any]]) -> tuple[IntArray, int]:
    """The unit of resampling that each pair's merchant (dense numbers 0..M-1) belongs to, int64[P], and how many there
    are: the merchants themselves, or GROUPS groups of them.
    """
    number: IntArray = np.asarray(merchant, np.int64)
    merchants = int(number.max()) + 1 if len(number) else 0
    if merchants <= MAX_UNITS:
        return number, merchants
    return _random_groups(merchants)[number], GROUPS


def _random_groups(merchants: int) -> IntArray:
    """Merchant m belongs to group w * GROUPS >> 32, w the upper half of word m of a stream of its own."""
    group, stream = np.empty(merchants, np.int64), word_stream(_GROUP_KEY, _GROUP_COUNTER, 0)
    for first in range(0, merchants, _MERCHANTS_AT_ONCE):
        part = group[first : first + _MERCHANTS_AT_ONCE]
        part[:] = ((stream.random_raw(len(part)) >> _SHIFT) * np.uint64(GROUPS)) >> _SHIFT
    return group


def count_sample(
    unit: IntArray,
    units: int,
    country: npt.NDArray[np.integer[Any]],
    sites: IntArray,
    southern: IntArray,
    eligible: npt.NDArray[np.bool_],
    region: npt.NDArray[np.integer[Any]] | None = None,
) -> MerchantSample:
    """Group P pairs of unit (`resampling_units`) and country, in any order, by unit; distances are not known.

    `country` integers[P]; `sites` int64[P] of each pair, `southern` int64[P] of them in the south; `eligible`
    bool[C]. `region`: the region of each country as a dense number, or None.
    """
    countries = max(len(eligible), 1)
    key, inverse = np.unique(unit * countries + country, return_inverse=True)
    held, south = np.zeros(len(key), np.int64), np.zeros(units, np.int64)
    np.add.at(held, inverse, sites)
    np.add.at(south, unit, southern)
    return MerchantSample(
        pair_start=np.searchsorted(key // countries, np.arange(units + 1)).astype(np.int64),
        pair_country=(key % countries).astype(np.int32),
        pair_sites=held,
        southern=south,
        eligible=np.ascontiguousarray(eligible, np.bool_),
        distance_m=np.empty(0),
        distance_merchant=np.empty(0, np.int32),
        region=np.full(len(eligible), -1, np.int32) if region is None else region.astype(np.int32),
        regions=0 if region is None or not len(region) else int(region.max()) + 1,
    )


def country_statistics(counts: IntArray, southern: IntArray, sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares of B samples, float64[B, 7 + regions]; no distances, so the last of the
    STATISTICS is NaN. Gini and top shares are over countries that have sites.

    `counts` int64[B, C] sites per country, `southern` int64[B].
    """
    statistics = np.full((len(counts), len(STATISTICS) + sample.regions), np.nan)
    some = counts.any(axis=1)
    if not some.all():
        counts, southern = counts[some], southern[some]
    countries = counts.shape[1]
    has_sites = counts > 0
    active = np.count_nonzero(has_sites, axis=1)
    held = np.cumsum(np.sort(counts, axis=1)[:, ::-1], axis=1)
    total = counts.sum(axis=1)
    # with d_k the k-th largest of C: sum of (active + 1 - 2k) d_k, and sum of held = sum of (C + 1 - k) d_k
    differences = 2 * held.sum(axis=1) + (active - 2 * countries - 1) * total
    statistics[some, 0] = differences / (active * total)
    for column, percent in enumerate(TOP_PERCENTS, start=1):
        top = np.maximum(1, -(-percent * active // 100))
        statistics[some, column] = held[np.arange(len(held)), top - 1] / total
    if eligible := np.count_nonzero(sample.eligible):
        statistics[some, 4] = np.count_nonzero(has_sites & sample.eligible, axis=1) / eligible
    statistics[some, 5] = southern / total
    for region in range(sample.regions):
        statistics[some, len(STATISTICS) + region] = counts[:, sample.region == region].sum(axis=1) / total
    return statistics


def distance_ratio(low: FloatArray, high: FloatArray, n: IntArray) -> FloatArray:
    """p99 / p50 of B samples, float64[B]; NaN where the p50 is 0.

    `low`, `high` float64[B, 2]: the order statistics about each of the LEVELS; `n` int64[B]: values in a sample.
    """
    rank: FloatArray = np.array(LEVELS) * (n[:, None] - 1)
    p50, p99 = interpolate(low, high, rank - np.floor(rank)).T
    ratio = np.full(len(n), np.nan)
    np.divide(p99, p50, out=ratio, where=p50 > 0.0)
    return ratio


def _sites_per_country(sample: MerchantSample) -> IntArray:
    counts = np.zeros(len(sample.eligible), np.int64)
    np.add.at(counts, sample.pair_country, sample.pair_sites)
    return counts


def observed_statistics(sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares of the full sample, float64[7 + regions]; NaN where one does not exist."""
    southern = sample.southern.sum(keepdims=True)
    row: FloatArray = country_statistics(_sites_per_country(sample)[None, :], southern, sample)[0]
    if n := len(sample.distance_m):
        rank = np.floor(np.array([LEVELS]) * (n - 1)).astype(np.int64)
        low, high = sample.distance_m[rank], sample.distance_m[np.minimum(rank + 1, n - 1)]
        row[6] = distance_ratio(low, high, np.array([n]))[0]
    return row


def jackknife_counts(sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares with each merchant left out in turn, float64[M, 7 + regions].

    NaN where one does not exist, and for the distances.
    """
    merchants, which = np.unique(_first_alike(sample), return_inverse=True)
    rows = np.empty((len(merchants), len(STATISTICS) + sample.regions))
    whole, southern = _sites_per_country(sample), sample.southern.sum() - sample.southern
    for first in range(0, len(merchants), _ROWS_AT_ONCE):
        some = merchants[first : first + _ROWS_AT_ONCE]
        start, length = sample.pair_start[some], np.diff(sample.pair_start)[some]
        pairs = np.repeat(start - np.cumsum(length) + length, length) + np.arange(length.sum())
        counts = np.tile(whole, (len(some), 1))
        own = np.repeat(np.arange(len(some)), length)
        counts[own, sample.pair_country[pairs]] -= sample.pair_sites[pairs]
        rows[first : first + len(some)] = country_statistics(counts, southern[some], sample)
    return rows[which]


def _first_alike(sample: MerchantSample) -> IntArray:
    """The first merchant that has what each merchant has, int64[M]: told of those in one country, itself for others."""
    first = np.arange(sample.merchants)
    single = np.flatnonzero(np.diff(sample.pair_start) == 1)
    if not len(single):
        return first
    pair, southern = sample.pair_start[single], sample.southern[single]
    held = sample.pair_country[pair] * (sample.pair_sites.max() + 1) + sample.pair_sites[pair]
    _, at, alike = np.unique(held * (southern.max() + 1) + southern, return_index=True, return_inverse=True)
    first[single] = single[at[alike]]
    return first
