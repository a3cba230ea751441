"""Bootstrap over merchants: replicates and jackknife of the core metrics. Intervals are made of them in `bca`.

A merchant, not a site, is the unit that is resampled: a chain's sites stand or fall together, so this is the
harder unit. A replicate draws M merchants out of M with replacement; all counts are integers. Draw j of
replicate r uses the (j mod 8)-th 32-bit word, lower halves first, of Philox4x64-10 block (r * ceil(M / 8) + j // 8):
a replicate depends on its number and on M alone. An index is `word * M >> 32` (bias below M / 2^32).

The ratio of nearest-neighbour quantiles is resampled *given the neighbours*: every site keeps the distance
that it has in the full sample, and merchants' distances are resampled. Recomputing neighbours inside a
replicate would be wrong as well as dear: a merchant drawn twice would lie at distance 0 from itself. The
interval so covers which merchants exist, not how their absence would move their neighbours' distances.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.kernels.bootstrap_statistics import (
    LEVELS,
    FloatArray,
    IntArray,
    MerchantSample,
    count_sample,
    country_statistics,
    distance_ratio,
    jackknife_counts,
    resampling_units,
)
from seg1b.kernels.jit import in_chunks, njit
from seg1b.kernels.philox import block_4x64
from seg1b.kernels.sorting import ascending_with_order

_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_WINDOW_SD = 3.0


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
    unit, units = resampling_units(merchant)
    sample = count_sample(unit, units, country, sites, southern, eligible, region)
    if distance_m is None:
        return sample
    distances, order = ascending_with_order(distance_m)  # the order of equal ones changes no statistic
    owner = np.repeat(unit.astype(np.int32), sites)[order]
    return replace(sample, distance_m=distances, distance_merchant=owner)


@njit
def draw_multiplicities(replicate: Any, counter_upper: Any, key: Any, multiplicity: Any) -> None:
    """Overwrite int32[M] with how often each merchant is drawn in a replicate."""
    n = multiplicity.shape[0]
    multiplicity[:] = 0
    bound = np.uint64(n)
    number = np.uint64(replicate) * np.uint64((n + 7) // 8)
    drawn = 0
    while drawn < n:
        words = block_4x64(number, counter_upper, key)
        number += np.uint64(1)
        for word in words:
            for half in (word & _WORD, word >> _SHIFT):
                if drawn < n:
                    multiplicity[np.int64((half * bound) >> _SHIFT)] += 1
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
        draw_multiplicities(first + r, counter_hi, key, weight)
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
            for i in range(len(LEVELS)):
                rank = np.int64(np.floor(LEVELS[i] * (total - 1)))
                low, high = _weighted_neighbours(
                    distances, distance_merchant, weight, rank, starts[i], below[i]
                )
                neighbours[r, i, 0], neighbours[r, i, 1] = low, high


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
    neighbours = np.zeros((replicates, len(LEVELS), 2))
    windows = [_scan_start(sample, level) for level in LEVELS]
    starts = np.array([start for start, _ in windows], np.int64)
    below = np.stack([before for _, before in windows])

    def fill(low: int, high: int) -> None:
        _resample(
            sample.pair_start, sample.pair_country, sample.pair_sites, sample.southern, sample.distance_m,
            sample.distance_merchant, starts, below, np.uint64(key), np.uint64(counter_hi), low,
            counts[low:high], southern[low:high], neighbours[low:high],
        )  # fmt: skip

    in_chunks(fill, replicates)
    rows = country_statistics(counts, southern, sample)
    rows[:, 6] = distance_ratio(neighbours[:, :, 0], neighbours[:, :, 1], counts.sum(axis=1))
    return rows


def jackknife_statistics(sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares with each merchant left out in turn, float64[M, 7 + regions].

    NaN where one does not exist.
    """
    rows = jackknife_counts(sample)
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
    low = np.stack([np.floor(level * (left - 1)).astype(np.int64) for level in LEVELS], axis=1)
    rank = np.stack((low, np.minimum(low + 1, left[:, None] - 1)), axis=2).reshape(sample.merchants, -1)
    gone = np.zeros_like(rank)
    _count_gone(merchant, rank, gone)
    value = sample.distance_m[np.clip(rank + gone, 0, n - 1)].reshape(sample.merchants, len(LEVELS), 2)
    return np.where(left > 0, distance_ratio(value[:, :, 0], value[:, :, 1], left), np.nan)


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
