"""Collapse sentinel: do the sites of a large country lie on a strip or on a lattice?

Old formula, kept: covariance of (lon, lat); flagged if anisotropy sqrt(largest/smallest eigenvalue) *and*
linearity largest/sum exceed their limits, or if too few latitudes or longitudes are distinct. Two repairs:
longitudes of a country over the antimeridian are unwrapped at their widest gap, and countries above a size
are judged on a seeded systematic sample, since the share of distinct coordinates falls with the mere number
of sites.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.philox import draw_below
from seg1b.kernels.streams import country_stream
from seg1b.policy.gates import CollapseSentinel
from seg1b.scoring.measure import Points
from seg1b.scoring.results import COLLAPSED, OK, TOO_FEW, SentinelRow
from seg1b.scoring.values import exact_mean, exact_sum, rounded

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

SAMPLE_LABEL = "collapse_sentinel"


def collapse_sentinel(sites: Points, iso: tuple[str, ...], policy: CollapseSentinel) -> list[SentinelRow]:
    """Verdicts on the largest countries (most sites first, ties by ISO code) that have sites at all."""
    bounds = sites.start
    counts = np.diff(bounds)
    largest = np.argsort(-counts, kind="stable")[: policy.countries]
    rows = []
    for c in largest[counts[largest] > 0].tolist():
        n = int(counts[c])
        if n < policy.sites_min:
            rows.append(SentinelRow(iso[c], n, 0, TOO_FEW, reason=f"fewer than {policy.sites_min} sites"))
            continue
        picked = int(bounds[c]) + sample_positions(n, policy.sample_sites_max, policy.sample_seed, iso[c])
        rows.append(_judge(iso[c], n, sites.lon_deg[picked], sites.lat_deg[picked], policy))
    return rows


def sample_positions(n: int, at_most: int, seed: int, country_iso: str) -> IntArray:
    """Positions 0..n-1 of a systematic sample of `at_most` out of n sites in key order; all of them if they
    fit.
    """
    if n <= at_most:
        return np.arange(n)
    offset = draw_below(country_stream(seed, SAMPLE_LABEL, country_iso), n)
    return (offset + np.arange(at_most, dtype=np.int64) * n) // at_most


def unwrapped(lon_deg: FloatArray) -> FloatArray:
    """Longitudes cut at the widest gap between them, so that a country over the antimeridian is in one
    piece.
    """
    if not len(lon_deg) or float(lon_deg.max() - lon_deg.min()) < 180.0:
        return lon_deg  # the gap round the back of the globe is wider than any other
    ascending = np.sort(lon_deg)
    gaps = np.diff(np.concatenate((ascending, ascending[:1] + 360.0)))
    widest = int(np.argmax(gaps))
    if widest == len(ascending) - 1:
        return lon_deg
    return np.where(lon_deg <= ascending[widest], lon_deg + 360.0, lon_deg)


def _judge(
    iso: str, n: int, lon_deg: FloatArray, lat_deg: FloatArray, policy: CollapseSentinel
) -> SentinelRow:
    scale = 10**policy.coordinate_decimals
    distinct_lat = len(np.unique(np.rint(lat_deg * scale))) / len(lat_deg)
    distinct_lon = len(np.unique(np.rint(lon_deg * scale))) / len(lon_deg)
    anisotropy, linearity = shape_of(unwrapped(lon_deg), lat_deg)
    reasons = []
    too_thin = anisotropy is None or anisotropy > policy.anisotropy_max
    if too_thin and linearity > policy.linearity_max:
        reasons.append("the sites form a strip")
    if distinct_lat < policy.distinct_share_min:
        reasons.append("too few distinct latitudes")
    if distinct_lon < policy.distinct_share_min:
        reasons.append("too few distinct longitudes")
    return SentinelRow(
        iso,
        n,
        len(lon_deg),
        COLLAPSED if reasons else OK,
        anisotropy,
        linearity,
        distinct_lat,
        distinct_lon,
        "; ".join(reasons),
    )


def shape_of(x: FloatArray, y: FloatArray) -> tuple[float | None, float]:
    """(anisotropy, linearity) of a cloud of at least two points; anisotropy None and linearity 1 for a
    line.
    """
    dx, dy = x - exact_mean(x), y - exact_mean(y)
    a, d, b = exact_sum(dx * dx), exact_sum(dy * dy), exact_sum(dx * dy)
    largest = (a + d) / 2.0 + math.hypot((a - d) / 2.0, b)
    if largest <= 0.0:
        return None, 1.0
    smallest = max((a * d - b * b) / largest, 0.0)
    if smallest <= 1e-12 * largest:
        return None, 1.0
    return rounded(math.sqrt(largest / smallest)), rounded(largest / (largest + smallest))
