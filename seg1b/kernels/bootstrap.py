"""Bootstrap over merchants: replicates and jackknife of the core metrics. Intervals are made of them in `bca`.

A merchant, not a site, is the unit that is resampled: a chain's sites stand or fall together, so this is the
harder unit. A replicate draws M merchants out of M with replacement; all counts are integers. Draw j of
replicate r uses the (j mod 4)-th 32-bit word of Philox block (r * 2^32 + j // 4): a replicate depends on its
number and on M alone. An index is `word * M >> 32` (bias below M / 2^32).

The ratio of nearest-neighbour quantiles is resampled *given the neighbours*: every site keeps the distance
that it has in the full sample, and merchants' distances are resampled. Recomputing neighbours inside a
replicate would be wrong as well as dear: a merchant drawn twice would lie at distance 0 from itself. The
interval so covers which merchants exist, not how their absence would move their neighbours' distances.

Above MAX_UNITS merchants, GROUPS random groups of merchants are resampled instead of single ones (the random groups
method, Wolter 2007, chapter 2): the same variance but for a share of 1 / GROUPS, at a cost that no longer grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, njit
from seg1b.kernels.philox import block
from seg1b.kernels.quantiles import interpolate
from seg1b.kernels.sorting import ascending_with_order

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
MAX_UNITS = 1 << 16
GROUPS = 1 << 11

_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_WINDOW_SD = 3.0
_GROUP_KEY, _GROUP_COUNTER = np.uint64(0x72616E646F6D), np.uint64(0x67726F757073)
_LEVELS = (0.5, 0.99)  # of the distances: their ratio is the last of the STATISTICS
_ROWS_AT_ONCE = 256  # of 250 countries: they stay in a CPU's cache


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


def merchant_sample(
    merchant: npt.NDArray[np.integer[Any]],
    country: npt.NDArray[np.integer[Any]],
    sites: IntArray,
    southern: IntArray,
    eligible: npt.NDArray[np.bool_],
    distance_m: FloatArray | None,
    region: npt.NDArray[np.integer[Any]] | None = None,
) -> MerchantSample:
    """Group P pairs of merchant (dense numbers 0..M-1) and country, in any order, by merchant.

    `merchant`, `country` integers[P]; `sites` int64[P] of each pair, `southern` int64[P] of them in the south;
    `eligible` bool[C]. `distance_m` float64[sum(sites)] pair by pair, or None. `region`: the region of each country as
    a dense number, or None.
    """
    countries = max(len(eligible), 1)
    unit, units = _units(np.asarray(merchant, np.int64))
    key, inverse = np.unique(unit * countries + country, return_inverse=True)
    held, south = np.zeros(len(key), np.int64), np.zeros(units, np.int64)
    np.add.at(held, inverse, sites)
    np.add.at(south, unit, southern)
    if distance_m is None:
        distances, owner = np.empty(0), np.empty(0, np.int32)
    else:
        distances, order = ascending_with_order(distance_m)  # the order of equal ones changes no statistic
        owner = np.repeat(unit.astype(np.int32), sites)[order]
    return MerchantSample(
        pair_start=np.searchsorted(key // countries, np.arange(units + 1)).astype(np.int64),
        pair_country=(key % countries).astype(np.int32),
        pair_sites=held,
        southern=south,
        eligible=np.ascontiguousarray(eligible, np.bool_),
        distance_m=distances,
        distance_merchant=owner,
        region=np.full(len(eligible), -1, np.int32) if region is None else region.astype(np.int32),
        regions=0 if region is None or not len(region) else int(region.max()) + 1,
    )


def _units(merchant: IntArray) -> tuple[IntArray, int]:
    """The unit of resampling that each merchant belongs to, int64[P], and how many there are."""
    merchants = int(merchant.max()) + 1 if len(merchant) else 0
    if merchants <= MAX_UNITS:
        return merchant, merchants
    group = np.empty(merchants, np.int64)
    _random_groups(GROUPS, group)
    return group[merchant], GROUPS


@njit
def _random_groups(groups: Any, group: Any) -> None:
    """Merchant m belongs to group w * groups >> 32, w the upper half of x0 of Philox block m under a key of its own."""
    for m in range(group.shape[0]):
        word = block(np.uint64(m), _GROUP_COUNTER, _GROUP_KEY)[0] >> _SHIFT
        group[m] = np.int64((word * np.uint64(groups)) >> _SHIFT)


@njit
def draw_multiplicities(counter_lo: Any, counter_hi: Any, key: Any, multiplicity: Any) -> None:
    """Overwrite int32[M] with how often each merchant is drawn in M draws, from the blocks at `counter_lo`
    on.
    """
    n = multiplicity.shape[0]
    multiplicity[:] = 0
    bound = np.uint64(n)
    lo = np.uint64(counter_lo)
    drawn = 0
    while drawn < n:
        x0, x1 = block(lo, counter_hi, key)
        lo += np.uint64(1)
        for word in (x0 & _WORD, x0 >> _SHIFT, x1 & _WORD, x1 >> _SHIFT):
            if drawn < n:
                multiplicity[np.int64((word * bound) >> _SHIFT)] += 1
                drawn += 1


@njit
def _weighted_neighbours(
    distances: Any, merchant: Any, weight: Any, rank: Any, start: Any, below: Any
) -> tuple[float, float]:
    """Values at 0-based `rank` and at rank + 1 of the ascending distances, each as often as its merchant is drawn.

    The scan begins at position `start`, before which `below[m]` of merchant m's distances lie.
    """
    position = np.int64(start)
    passed = np.int64(0)
    for m in range(below.shape[0]):
        passed += np.int64(weight[m]) * below[m]
    if passed > rank:
        position, passed = np.int64(0), np.int64(0)
    last = distances.shape[0] - 1
    while passed + weight[merchant[position]] <= rank and position < last:
        passed += weight[merchant[position]]
        position += 1
    value = distances[position]
    passed += weight[merchant[position]]
    while passed <= rank + 1 and position < last:
        position += 1
        passed += weight[merchant[position]]
    return value, distances[position]


@njit
def _resample(
    pair_start: Any, pair_country: Any, pair_sites: Any, southern: Any, distances: Any, distance_merchant: Any,
    starts: Any, below: Any, key: Any, counter_hi: Any, first: int, counts: Any, south: Any, neighbours: Any,
) -> None:  # fmt: skip
    """Row i is replicate first + i: sites per country (0 on entry), southern sites, values about each quantile."""
    merchants = pair_start.shape[0] - 1
    weight = np.empty(merchants, np.int32)
    for r in range(counts.shape[0]):
        draw_multiplicities(np.uint64(first + r) << _SHIFT, counter_hi, key, weight)
        total = np.int64(0)
        southern_sites = np.int64(0)
        for m in range(merchants):
            times = np.int64(weight[m])
            if times > 0:
                southern_sites += times * southern[m]
                for p in range(pair_start[m], pair_start[m + 1]):
                    counts[r, pair_country[p]] += times * pair_sites[p]
                    total += times * pair_sites[p]
        south[r] = southern_sites
        if distances.shape[0] > 0 and total > 0:
            for i in range(len(_LEVELS)):
                rank = np.int64(np.floor(_LEVELS[i] * (total - 1)))
                low, high = _weighted_neighbours(
                    distances, distance_merchant, weight, rank, starts[i], below[i]
                )
                neighbours[r, i, 0], neighbours[r, i, 1] = low, high


def _country_statistics(counts: IntArray, southern: IntArray, sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares of B samples, float64[B, 7 + regions]; no distances, so the last of the
    STATISTICS is NaN. Gini and top shares are over countries that have sites.

    `counts` int64[B, C] sites per country, `southern` int64[B].
    """
    statistics = np.full((len(counts), len(STATISTICS) + sample.regions), np.nan)
    some = counts.any(axis=1)
    counts, southern = counts[some], southern[some]
    total = counts.sum(axis=1)
    active = np.count_nonzero(counts, axis=1)
    descending = np.sort(counts, axis=1)[:, ::-1]
    held = np.cumsum(descending, axis=1)
    place = active[:, None] + 1 - 2 * np.arange(1, counts.shape[1] + 1)
    statistics[some, 0] = (place * descending).sum(axis=1) / (active * total)
    for column, percent in enumerate(TOP_PERCENTS, start=1):
        top = np.maximum(1, -(-percent * active // 100))
        statistics[some, column] = held[np.arange(len(held)), top - 1] / total
    if eligible := np.count_nonzero(sample.eligible):
        statistics[some, 4] = np.count_nonzero(counts[:, sample.eligible], axis=1) / eligible
    statistics[some, 5] = southern / total
    for region in range(sample.regions):
        statistics[some, len(STATISTICS) + region] = counts[:, sample.region == region].sum(axis=1) / total
    return statistics


def _distance_ratio(low: FloatArray, high: FloatArray, n: IntArray) -> FloatArray:
    """p99 / p50 of B samples, float64[B]; NaN where the p50 is 0.

    `low`, `high` float64[B, 2]: the order statistics about each of the _LEVELS; `n` int64[B]: values in a sample.
    """
    rank: FloatArray = np.array(_LEVELS) * (n[:, None] - 1)
    p50, p99 = interpolate(low, high, rank - np.floor(rank)).T
    ratio = np.full(len(n), np.nan)
    np.divide(p99, p50, out=ratio, where=p50 > 0.0)
    return ratio


def _scan_start(sample: MerchantSample, q: float) -> tuple[int, IntArray]:
    """Where a replicate's scan for quantile q may begin, and how many distances of each merchant lie before.

    The rank of the full sample's quantile moves by `sum(w_m * (below_m - q * n_m))` in a replicate; the scan
    begins three standard deviations before it. A replicate beyond that is scanned from the first distance.
    """
    n = len(sample.distance_m)
    merchants = sample.merchants
    sites = np.bincount(sample.distance_merchant, minlength=merchants)
    centre = int(q * n)
    below = np.bincount(sample.distance_merchant[:centre], minlength=merchants)
    spread = math.sqrt(math.fsum(((below - q * sites) ** 2).tolist()))
    start = max(0, centre - int(_WINDOW_SD * spread) - 16)
    return start, np.bincount(sample.distance_merchant[:start], minlength=merchants)


def replicate_statistics(sample: MerchantSample, replicates: int, key: int, counter_hi: int) -> FloatArray:
    """The STATISTICS and region shares of each replicate, float64[replicates, 7 + regions].

    NaN where one does not exist.
    """
    countries = len(sample.eligible)
    counts = np.zeros((replicates, countries), np.int64)
    southern = np.empty(replicates, np.int64)
    neighbours = np.zeros((replicates, len(_LEVELS), 2))
    windows = [_scan_start(sample, level) for level in _LEVELS]
    starts = np.array([start for start, _ in windows], np.int64)
    below = np.stack([before for _, before in windows])

    def fill(low: int, high: int) -> None:
        _resample(
            sample.pair_start, sample.pair_country, sample.pair_sites, sample.southern, sample.distance_m,
            sample.distance_merchant, starts, below, np.uint64(key), np.uint64(counter_hi), low,
            counts[low:high], southern[low:high], neighbours[low:high],
        )  # fmt: skip

    in_chunks(fill, replicates)
    rows = _country_statistics(counts, southern, sample)
    rows[:, 6] = _distance_ratio(neighbours[:, :, 0], neighbours[:, :, 1], counts.sum(axis=1))
    return rows


def _sites_per_country(sample: MerchantSample) -> IntArray:
    counts = np.zeros(len(sample.eligible), np.int64)
    np.add.at(counts, sample.pair_country, sample.pair_sites)
    return counts


def observed_statistics(sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares of the full sample, float64[7 + regions]; NaN where one does not exist."""
    southern = sample.southern.sum(keepdims=True)
    row: FloatArray = _country_statistics(_sites_per_country(sample)[None, :], southern, sample)[0]
    if n := len(sample.distance_m):
        rank = np.floor(np.array([_LEVELS]) * (n - 1)).astype(np.int64)
        low, high = sample.distance_m[rank], sample.distance_m[np.minimum(rank + 1, n - 1)]
        row[6] = _distance_ratio(low, high, np.array([n]))[0]
    return row


def jackknife_statistics(sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares with each merchant left out in turn, float64[M, 7 + regions].

    NaN where one does not exist.
    """
    rows = np.empty((sample.merchants, len(STATISTICS) + sample.regions))
    whole, southern = _sites_per_country(sample), sample.southern.sum() - sample.southern
    for first in range(0, sample.merchants, _ROWS_AT_ONCE):
        bounds = sample.pair_start[first : first + _ROWS_AT_ONCE + 1]
        merchants = slice(first, first + len(bounds) - 1)
        pairs = slice(int(bounds[0]), int(bounds[-1]))
        counts = np.tile(whole, (len(bounds) - 1, 1))
        own = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        counts[own, sample.pair_country[pairs]] -= sample.pair_sites[pairs]
        rows[merchants] = _country_statistics(counts, southern[merchants], sample)
    if len(sample.distance_m):
        rows[:, 6] = _distance_ratios_without(sample)
    return rows


def _distance_ratios_without(sample: MerchantSample) -> FloatArray:
    """p99 / p50 of the distances with each merchant's left out, float64[M].

    Of a merchant's positions r_0 < r_1 < ... among all distances, those with r_j - j <= k lie before the value that
    has rank k once they are gone.
    """
    n, merchant = len(sample.distance_m), sample.distance_merchant
    left = n - np.bincount(merchant, minlength=sample.merchants)
    low = np.stack([np.floor(level * (left - 1)).astype(np.int64) for level in _LEVELS], axis=1)
    rank = np.stack((low, np.minimum(low + 1, left[:, None] - 1)), axis=2).reshape(sample.merchants, -1)
    gone = np.zeros_like(rank)
    _count_gone(merchant, rank, gone)
    value = sample.distance_m[np.clip(rank + gone, 0, n - 1)].reshape(sample.merchants, len(_LEVELS), 2)
    return np.where(left > 0, _distance_ratio(value[:, :, 0], value[:, :, 1], left), np.nan)


@njit
def _count_gone(merchant: Any, rank: Any, gone: Any) -> None:
    """For each merchant and rank (M, K), how many of its own values lie before the value of that rank without them."""
    seen = np.zeros(rank.shape[0], np.int64)
    for position in range(merchant.shape[0]):
        m = merchant[position]
        others_before = position - seen[m]
        for k in range(rank.shape[1]):
            gone[m, k] += others_before <= rank[m, k]
        seen[m] += 1
