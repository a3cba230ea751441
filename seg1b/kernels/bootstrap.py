"""Bootstrap over merchants: replicates and jackknife of the core metrics. Intervals are made of them in `bca`.

A merchant, not a site, is the unit that is resampled: a chain's sites stand or fall together, so this is the
harder unit. A replicate draws M merchants out of M with replacement; all counts are integers. Draw j of
replicate r uses the (j mod 4)-th 32-bit word of Philox block (r * 2^32 + j // 4): a replicate depends on its
number and on M alone. An index is `word * M >> 32` (bias below M / 2^32).

The ratio of nearest-neighbour quantiles is resampled *given the neighbours*: every site keeps the distance
that it has in the full sample, and merchants' distances are resampled. Recomputing neighbours inside a
replicate would be wrong as well as dear: a merchant drawn twice would lie at distance 0 from itself. The
interval so covers which merchants exist, not how their absence would move their neighbours' distances.
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
MAX_MERCHANTS = 1 << 31

_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_WINDOW_SD = 3.0


@dataclass(frozen=True)
class MerchantSample:
    """What resampling M merchants needs.

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
    southern: npt.NDArray[np.bool_],
    eligible: npt.NDArray[np.bool_],
    distance_m: FloatArray | None,
    region: npt.NDArray[np.integer[Any]] | None = None,
) -> MerchantSample:
    """Group n sites by merchant (dense numbers 0..M-1) and country; `distance_m` float64[n] or None.

    `merchant`, `country` integers[n], `southern` bool[n], `eligible` bool[C]. Raises ValueError from 2^31 merchants on.
    `region`: the region of each country as a dense number, or None.
    """
    countries = len(eligible)
    merchant = np.asarray(merchant, np.int64)
    merchants = int(merchant.max()) + 1 if len(merchant) else 0
    if merchants >= MAX_MERCHANTS:
        raise ValueError(f"at most {MAX_MERCHANTS - 1} merchants can be resampled, got {merchants}")
    pair, sites = np.unique(merchant * countries + country, return_counts=True)
    pair_start = np.searchsorted(pair // max(countries, 1), np.arange(merchants + 1))
    if distance_m is None:
        order, distances = np.empty(0, np.int64), np.empty(0)
    else:
        order = np.lexsort((merchant, distance_m))
        distances = distance_m[order]
    return MerchantSample(
        pair_start=pair_start.astype(np.int64),
        pair_country=(pair % max(countries, 1)).astype(np.int32),
        pair_sites=sites.astype(np.int64),
        southern=np.bincount(merchant[southern], minlength=merchants).astype(np.int64),
        eligible=np.ascontiguousarray(eligible, np.bool_),
        distance_m=distances,
        distance_merchant=merchant[order].astype(np.int32),
        region=np.full(countries, -1, np.int32) if region is None else region.astype(np.int32),
        regions=0 if region is None or not len(region) else int(region.max()) + 1,
    )


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
def _country_statistics(counts: Any, eligible: Any, southern: Any, buffer: Any, row: Any) -> None:
    """Fill row[0:6] from int64 counts per country; Gini and top shares over countries that have sites."""
    n = 0
    total = np.int64(0)
    covered = 0
    eligible_total = 0
    for c in range(counts.shape[0]):
        eligible_total += eligible[c]
        if counts[c] > 0:
            buffer[n] = counts[c]
            n += 1
            total += counts[c]
            covered += eligible[c]
    row[:] = np.nan
    if total == 0:
        return
    ascending = np.sort(buffer[:n])
    weighted = np.int64(0)
    for i in range(n):
        weighted += (2 * (i + 1) - n - 1) * ascending[i]
    row[0] = weighted / (n * total)
    for index in range(3):
        top = max(1, -((-TOP_PERCENTS[index] * n) // 100))
        held = np.int64(0)
        for i in range(n - top, n):
            held += ascending[i]
        row[1 + index] = held / total
    if eligible_total > 0:
        row[4] = covered / eligible_total
    row[5] = southern / total


@njit
def _region_shares(counts: Any, region: Any, row: Any) -> None:
    """Fill row[0:regions] from int64 counts per country."""
    held = np.zeros(row.shape[0], np.int64)
    total = np.int64(0)
    for c in range(counts.shape[0]):
        total += counts[c]
        if region[c] >= 0:
            held[region[c]] += counts[c]
    for k in range(row.shape[0]):
        row[k] = held[k] / total if total > 0 else np.nan


@njit
def _weighted_rank(distances: Any, merchant: Any, weight: Any, start: int, cumulative: Any, rank: Any) -> Any:
    """Value at 0-based `rank` of the weighted ascending distances, scanning from `start`; and at rank + 1."""
    position = start
    below = cumulative
    last = distances.shape[0] - 1
    while below + weight[merchant[position]] <= rank and position < last:
        below += weight[merchant[position]]
        position += 1
    value = distances[position]
    below += weight[merchant[position]]
    while below <= rank + 1 and position < last:
        position += 1
        below += weight[merchant[position]]
    return value, distances[position]


@njit
def _weighted_quantile(
    distances: Any, merchant: Any, weight: Any, total: Any, q: float, start: Any, below: Any
) -> float:
    """Quantile of the replicate's `total` distances; `below[m]` of merchant m's distances lie before
    `start`.
    """
    rank_real = q * (total - 1)
    rank = np.int64(np.floor(rank_real))
    cumulative = np.int64(0)
    for m in range(below.shape[0]):
        cumulative += np.int64(weight[m]) * below[m]
    if cumulative > rank:
        start, cumulative = 0, np.int64(0)
    low, high = _weighted_rank(distances, merchant, weight, start, cumulative, rank)
    if rank + 1 >= total:
        high = low
    return interpolate(low, high, rank_real - rank)


@njit
def _replicates(
    pair_start: Any,
    pair_country: Any,
    pair_sites: Any,
    southern: Any,
    eligible: Any,
    region: Any,
    distances: Any,
    distance_merchant: Any,
    starts: Any,
    below: Any,
    key: Any,
    counter_hi: Any,
    first: int,
    rows: Any,
) -> None:
    """Row i is replicate first + i."""
    merchants = pair_start.shape[0] - 1
    weight = np.empty(merchants, np.int32)
    counts = np.empty(eligible.shape[0], np.int64)
    buffer = np.empty(eligible.shape[0], np.int64)
    for r in range(rows.shape[0]):
        draw_multiplicities(np.uint64(first + r) << _SHIFT, counter_hi, key, weight)
        counts[:] = 0
        south = np.int64(0)
        total = np.int64(0)
        for m in range(merchants):
            times = np.int64(weight[m])
            if times > 0:
                south += times * southern[m]
                for p in range(pair_start[m], pair_start[m + 1]):
                    counts[pair_country[p]] += times * pair_sites[p]
                    total += times * pair_sites[p]
        _country_statistics(counts, eligible, south, buffer, rows[r, :6])
        _region_shares(counts, region, rows[r, 7:])
        rows[r, 6] = np.nan
        if distances.shape[0] > 0 and total > 0:
            p50 = _weighted_quantile(distances, distance_merchant, weight, total, 0.5, starts[0], below[0])
            p99 = _weighted_quantile(distances, distance_merchant, weight, total, 0.99, starts[1], below[1])
            if p50 > 0.0:
                rows[r, 6] = p99 / p50


@njit
def _counts_before(distance_merchant: Any, start: int, below: Any) -> None:
    for i in range(start):
        below[distance_merchant[i]] += 1


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
    before = np.zeros(merchants, np.int64)
    _counts_before(sample.distance_merchant, start, before)
    return start, before


def replicate_statistics(sample: MerchantSample, replicates: int, key: int, counter_hi: int) -> FloatArray:
    """The STATISTICS and region shares of each replicate, float64[replicates, 7 + regions].

    NaN where one does not exist.
    """
    rows = np.empty((replicates, len(STATISTICS) + sample.regions))
    windows = [_scan_start(sample, 0.5), _scan_start(sample, 0.99)]
    starts = np.array([start for start, _ in windows], np.int64)
    below = np.stack([before for _, before in windows])

    def fill(low: int, high: int) -> None:
        _replicates(
            sample.pair_start,
            sample.pair_country,
            sample.pair_sites,
            sample.southern,
            sample.eligible,
            sample.region,
            sample.distance_m,
            sample.distance_merchant,
            starts,
            below,
            np.uint64(key),
            np.uint64(counter_hi),
            low,
            rows[low:high],
        )

    in_chunks(fill, replicates)
    return rows


@njit
def _rank_without(distances: Any, ranks: Any, rank: Any) -> float:
    """Value at 0-based `rank` once the ascending positions `ranks` are taken out."""
    position = rank
    for removed in ranks:
        if removed > position:
            break
        position += 1
    value: float = distances[position]
    return value


@njit
def _quantile_without(distances: Any, ranks: Any, q: float) -> float:
    left = distances.shape[0] - ranks.shape[0]
    rank_real = q * (left - 1)
    rank = np.int64(np.floor(rank_real))
    low = _rank_without(distances, ranks, rank)
    high = low if rank + 1 >= left else _rank_without(distances, ranks, rank + 1)
    return interpolate(low, high, rank_real - rank)


@njit
def _leave_one_out(
    pair_start: Any,
    pair_country: Any,
    pair_sites: Any,
    southern: Any,
    eligible: Any,
    region: Any,
    distances: Any,
    rank_start: Any,
    ranks: Any,
    first: int,
    rows: Any,
) -> None:
    """Row i leaves out merchant first + i; merchant -1 does not exist, so first = -1 gives the full
    sample.
    """
    counts = np.zeros(eligible.shape[0], np.int64)
    buffer = np.empty(eligible.shape[0], np.int64)
    for p in range(pair_country.shape[0]):
        counts[pair_country[p]] += pair_sites[p]
    south = southern.sum()
    for i in range(rows.shape[0]):
        m = first + i
        pairs = range(pair_start[m], pair_start[m + 1]) if m >= 0 else range(0)
        for p in pairs:
            counts[pair_country[p]] -= pair_sites[p]
        left_south = south - southern[m] if m >= 0 else south
        _country_statistics(counts, eligible, left_south, buffer, rows[i, :6])
        _region_shares(counts, region, rows[i, 7:])
        for p in pairs:
            counts[pair_country[p]] += pair_sites[p]
        own = ranks[rank_start[m] : rank_start[m + 1]] if m >= 0 else ranks[:0]
        rows[i, 6] = np.nan
        if distances.shape[0] > own.shape[0]:
            p50 = _quantile_without(distances, own, 0.5)
            if p50 > 0.0:
                rows[i, 6] = _quantile_without(distances, own, 0.99) / p50


def _without(sample: MerchantSample, first: int, count: int) -> FloatArray:
    rows = np.empty((count, len(STATISTICS) + sample.regions))
    ranks = np.argsort(sample.distance_merchant, kind="stable")
    per_merchant = np.bincount(sample.distance_merchant, minlength=sample.merchants)
    rank_start = np.concatenate((np.zeros(1, np.int64), np.cumsum(per_merchant)))
    _leave_one_out(
        sample.pair_start,
        sample.pair_country,
        sample.pair_sites,
        sample.southern,
        sample.eligible,
        sample.region,
        sample.distance_m,
        rank_start,
        ranks,
        first,
        rows,
    )
    return rows


def observed_statistics(sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares of the full sample, float64[7 + regions]; NaN where one does not exist."""
    row: FloatArray = _without(sample, -1, 1)[0]
    return row


def jackknife_statistics(sample: MerchantSample) -> FloatArray:
    """The STATISTICS and region shares with each merchant left out in turn, float64[M, 7 + regions]."""
    return _without(sample, 0, sample.merchants)
