"""Evidence beside the gates: tests against a reference set of sites, and soft diagnostics.

Nothing here decides a grade.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.neighbours import nearest_neighbour_m
from seg1b.scoring.controls import old_placement
from seg1b.scoring.measure import Measurement, Points, ScoringContext, SiteTally
from seg1b.scoring.reference import SurfaceReference
from seg1b.scoring.sentinel import unwrapped
from seg1b.scoring.sites import Sites
from seg1b.scoring.two_sample import kolmogorov_smirnov, mann_whitney
from seg1b.scoring.values import exact_sum, rounded

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

MEDIAN_SITES_MIN = 2
DIAGNOSTIC_SITES_MIN = 50
REFERENCE_SITES_MAX = 500_000
"""Above it the tests are not made: finding the reference's neighbours would cost as much as finding the seed's, and
tests of so many sites call any difference significant."""

NEIGHBOUR_TESTS = ("kolmogorov_smirnov_nn_distance", "mann_whitney_country_median")
SOFT_DIAGNOSTICS = (
    "country_entropy",
    "within_country_cluster_score",
    "bounding_box_dispersion",
    "top1_top2_gap",
    "region_balance_drift",
)


@dataclass(frozen=True)
class TestResult:
    """A two-sample test; everything None, with a reason, where it cannot be made."""

    __test__ = False

    test: str
    statistic: float | None
    p_value: float | None
    n: int
    n_reference: int
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """n sites, country by country: country int16[n], distance_m float64[n] to the nearest other site (NaN: none)."""

    country: npt.NDArray[np.int16]
    distance_m: FloatArray


Recall: TypeAlias = Callable[[Callable[[], Neighbours]], Neighbours]
"""Gives what the function given to it computes: by calling it, or because it was computed before."""


def computed(compute: Callable[[], Neighbours]) -> Neighbours:
    """Recall nothing."""
    return compute()


def neighbours_of(sites: Sites) -> Neighbours:
    """Of sites in the order of their countries."""
    if len(sites) < 2:
        return Neighbours(sites.country, np.full(len(sites), np.nan))
    return Neighbours(sites.country, nearest_neighbour_m(sites.lon_deg, sites.lat_deg))


def country_medians(country: npt.NDArray[np.int16], distance_m: FloatArray, countries: int) -> FloatArray:
    """Median nearest-neighbour distance of every country with at least two sites, ascending by country
    index.
    """
    order = np.lexsort((distance_m, country))
    bounds = np.searchsorted(country[order], np.arange(countries + 1))
    ascending = distance_m[order]
    parts = [ascending[a:b] for a, b in itertools.pairwise(bounds.tolist()) if b - a >= MEDIAN_SITES_MIN]
    return np.array([float(np.median(part)) for part in parts])


def old_placement_tests(
    sites: SiteTally, measurement: Measurement, context: ScoringContext, seed: int, recall: Recall = computed
) -> list[TestResult]:
    """`neighbour_tests` against the first engine's placement of the same counts.

    That placement depends on the counts, the surface and the seed alone, not on where the sites stand: `recall` may
    know its neighbours.
    """
    n = len(measurement)
    if n > REFERENCE_SITES_MAX:
        reason = f"not_computed: more than {REFERENCE_SITES_MAX:,} sites"
        return [TestResult(name, None, None, n, 0, reason) for name in NEIGHBOUR_TESTS]

    def compute() -> Neighbours:
        outlets = _outlets(sites, context)
        return neighbours_of(old_placement(outlets, context.surfaces[0].surface, context.grid, seed))

    return neighbour_tests(measurement, recall(compute))


def _outlets(sites: SiteTally, context: ScoringContext) -> Sites:
    """The sites one by one, those of a pair numbered from 1, in however many rows the pair stands."""
    lon, lat = sites.lon_deg, sites.lat_deg
    outlets = Sites(
        np.repeat(sites.pair_merchant_id, sites.pair_sites),
        np.repeat(sites.pair_country, sites.pair_sites),
        np.empty(len(lon), np.int32),
        lon,
        lat,
        context.grid.tile_of(lon, lat),
    )
    pair, first = outlets.pairs()
    outlets.site_order[:] = np.arange(1, len(lon) + 1) - first[pair]
    return outlets


def neighbour_tests(measurement: Measurement, reference: Neighbours) -> list[TestResult]:
    """Nearest-neighbour distances against those of a reference set of sites.

    Kolmogorov-Smirnov on the distances of all sites, Mann-Whitney on the medians of the countries. The
    reference is a pinned baseline run or the old-placement control; the published baseline has only point
    values.
    """
    names = NEIGHBOUR_TESTS
    n, m = len(measurement), len(reference.country)
    if measurement.distance_m is None or m < 2:
        reason = "not_computable: one of the samples has fewer than two sites"
        return [TestResult(name, None, None, n, m, reason) for name in names]
    country = np.repeat(measurement.pair_country, measurement.pair_sites)
    ks = kolmogorov_smirnov(measurement.distance_m, reference.distance_m)
    a = country_medians(country, measurement.distance_m, measurement.countries)
    b = country_medians(reference.country, reference.distance_m, measurement.countries)
    results = [TestResult(names[0], rounded(ks[0]), rounded(ks[1]), n, m)]
    if not len(a) or not len(b):
        reason = "not_computable: no country has two sites in one of the samples"
        return [*results, TestResult(names[1], None, None, len(a), len(b), reason)]
    mw = mann_whitney(a, b)
    mw_row = TestResult(names[1], rounded(mw[0]), rounded(mw[1]), len(a), len(b))
    return [*results, mw_row]


def soft_diagnostics(
    points: Points, measurement: Measurement, context: ScoringContext
) -> dict[str, float | None]:
    """Five numbers that describe a run without judging it; None where one cannot be computed.

    country_entropy: Shannon entropy of the country shares in nats. within_country_cluster_score: Herfindahl
    index of a country's sites over cells minus that of its people, mean over sites. bounding_box_dispersion:
    area of the longitude-latitude box of a country's sites over that of its populated cells, mean over sites.
    top1_top2_gap: difference of the two largest country shares. region_balance_drift: half the absolute
    difference between the regions' shares of sites and of the prior.
    """
    counts = measurement.counts()
    total = int(counts.sum())
    if total == 0:
        return dict.fromkeys(SOFT_DIAGNOSTICS)
    shares = counts[counts > 0] / total
    largest = np.sort(counts)[::-1]
    cluster, box = _within_country(points, measurement, context)
    return {
        "country_entropy": rounded(-math.fsum(p * math.log(p) for p in shares.tolist())),
        "within_country_cluster_score": cluster,
        "bounding_box_dispersion": box,
        "top1_top2_gap": int(largest[0] - (largest[1] if len(largest) > 1 else 0)) / total,
        "region_balance_drift": _region_drift(counts, context),
    }


def _region_drift(counts: IntArray, context: ScoringContext) -> float | None:
    mass, total = exact_sum(context.prior), int(counts.sum())
    if mass <= 0.0:
        return None
    regions = np.array(context.macro_region)
    differences = [
        abs(int(counts[regions == name].sum()) / total - exact_sum(context.prior[regions == name]) / mass)
        for name in sorted(set(context.macro_region))
    ]
    return rounded(math.fsum(differences) / 2.0)


def _within_country(
    points: Points, measurement: Measurement, context: ScoringContext
) -> tuple[float | None, float | None]:
    reference, surface = context.surfaces[0].reference, measurement.surfaces[0]
    bounds = points.start
    cell_bounds = np.searchsorted(reference.cell_country, np.arange(context.countries + 1))
    site_bounds = np.searchsorted(surface.cell_country, np.arange(context.countries + 1))
    judged, cluster, box = 0, [], []
    for c in np.flatnonzero(np.diff(bounds) >= DIAGNOSTIC_SITES_MIN).tolist():
        cells = slice(int(cell_bounds[c]), int(cell_bounds[c + 1]))
        if cells.start == cells.stop:
            continue
        part = slice(int(bounds[c]), int(bounds[c + 1]))
        n = part.stop - part.start
        own = surface.cell_sites[site_bounds[c] : site_bounds[c + 1]]
        people = _herfindahl(reference.cell_people[cells])
        cluster.append(n * (_herfindahl(own) - people))
        box.append(n * _box_ratio(points.lon_deg[part], points.lat_deg[part], reference, cells, context))
        judged += n
    if not judged:
        return None, None
    return rounded(math.fsum(cluster) / judged), rounded(math.fsum(box) / judged)


def _herfindahl(values: npt.NDArray[Any]) -> float:
    total = int(values.sum())
    return math.fsum((value / total) ** 2 for value in values.tolist())


def _box_ratio(
    lon: FloatArray, lat: FloatArray, reference: SurfaceReference, cells: slice, context: ScoringContext
) -> float:
    edge_deg = reference.tiles_per_cell / context.grid.tiles_per_degree
    row, col = np.divmod(
        reference.cell[cells].astype(np.int64), -(-context.grid.ncols // reference.tiles_per_cell)
    )
    west = unwrapped(np.unique(col * edge_deg - 180.0))
    height = (int(row.max()) - int(row.min()) + 1) * edge_deg
    width = float(west.max() - west.min()) + edge_deg
    own = unwrapped(lon)
    return float((lat.max() - lat.min()) * (own.max() - own.min())) / (height * width)
