"""Counter-metrics: what a gamed run cannot meet together with the core metrics.

Definitions are those of the calibration. Each function takes plain arrays, so that a reader can check it by
hand.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.inequality import gini
from seg1b.kernels.quantiles import quantile_sorted
from seg1b.kernels.sorting import ascending
from seg1b.policy.gates import COUNTER_METRICS
from seg1b.scoring.country_metrics import NO_SITES, largest_merchant_share, market_slope, prior_kl
from seg1b.scoring.measure import Measurement, ScoringContext, SurfaceTally
from seg1b.scoring.reference import SurfaceReference
from seg1b.scoring.results import CounterValue
from seg1b.scoring.values import Metric, exact_mean, exact_sum, known, rounded, sum_in_order, summed, unknown

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

SURFACE_METRICS = (
    "population_pit_mean",
    "population_pit_ks",
    "unpopulated_tile_share",
    "near_city_share_difference",
    "population_correlation_1deg",
)
_AT_ONCE = 1 << 20


def pit_mean(pit: FloatArray) -> Metric:
    """Mean of ascending PIT values: .5 for an honest placement."""
    if not len(pit):
        return unknown("no site lies in a country where the surface has people")
    return known(rounded(sum_in_order(pit) / len(pit)))


def pit_ks(pit: FloatArray) -> Metric:
    """Kolmogorov-Smirnov distance of ascending PIT values from the uniform distribution."""
    n = len(pit)
    if n == 0:
        return unknown("no site lies in a country where the surface has people")
    largest = 0.0
    for first in range(0, n, _AT_ONCE):
        part = pit[first : first + _AT_ONCE]
        step = np.arange(first, first + len(part) + 1) / n
        largest = max(largest, float(np.max(step[1:] - part)), float(np.max(part - step[:-1])))
    return known(rounded(largest))


def near_city_difference(near_city: int, counts: IntArray, near_share: FloatArray) -> Metric:
    """Share of sites near a city (`near_city` of them are) minus what population-proportional placement with the same
    counts would give.
    """
    total = int(counts.sum())
    if total == 0:
        return unknown(NO_SITES)
    expected = exact_sum(counts * near_share)
    return known(rounded((near_city - expected) / total))


def cell_correlation(
    country: npt.NDArray[np.int16], cell: npt.NDArray[np.int32], sites: IntArray, reference: SurfaceReference
) -> Metric:
    """Pearson correlation of sqrt(sites) and sqrt(people) over (country, cell), country means of both
    removed.

    Over the countries that have sites and people; their cells are those with either. People count in
    multiples of the country's people per site, so that one slope holds in every country: without this the
    correlation would measure how shares differ between countries, which other gates judge.
    """
    cells = int(max(cell.max(initial=0), reference.cell.max(initial=0))) + 1
    site_key, sites = summed(country.astype(np.int64) * cells + cell, sites)
    people_key = reference.cell_country.astype(np.int64) * cells + reference.cell
    counts = np.zeros(len(reference.population), np.int64)
    np.add.at(counts, site_key // cells, sites)
    used = (counts > 0) & (reference.population > 0)
    keys = np.union1d(site_key, people_key)
    keys = keys[used[keys // cells]]
    if not len(keys):
        return unknown("no country has both sites and people")
    owner = keys // cells
    x = np.sqrt(_looked_up(keys, site_key, sites.astype(np.float64)))
    rate = np.zeros(len(used))
    rate[used] = counts[used] / reference.population[used]
    y = np.sqrt(_looked_up(keys, people_key, reference.cell_people.astype(np.float64)) * rate[owner])
    return _within_correlation(owner, x, y)


def _looked_up(keys: IntArray, known_keys: IntArray, values: FloatArray) -> FloatArray:
    """Value of each key, 0 where it is unknown; `known_keys` ascending."""
    found = np.zeros(len(keys))
    if len(known_keys):
        position = np.minimum(np.searchsorted(known_keys, keys), len(known_keys) - 1)
        hit = known_keys[position] == keys
        found[hit] = values[position[hit]]
    return found


def _within_correlation(owner: IntArray, x: FloatArray, y: FloatArray) -> Metric:
    """Pooled correlation of deviations from the group means; groups are consecutive."""
    edges = np.concatenate(([0], np.flatnonzero(np.diff(owner)) + 1, [len(owner)]))
    dx, dy = np.empty(len(x)), np.empty(len(y))
    for first, end in itertools.pairwise(edges.tolist()):
        dx[first:end] = x[first:end] - exact_mean(x[first:end])
        dy[first:end] = y[first:end] - exact_mean(y[first:end])
    xx, yy = exact_sum(dx * dx), exact_sum(dy * dy)
    if xx <= 0.0 or yy <= 0.0:
        return unknown("sites or people do not vary between the cells of any country")
    return known(rounded(exact_sum(dx * dy) / math.sqrt(xx * yy)))


def nn_metrics(ascending_m: FloatArray | None, isolated_km: float) -> dict[str, Metric]:
    """Median and 90 % quantile of the nearest-neighbour distance in km, and the share of isolated sites.

    `ascending_m`: all distances in order, or None where nobody has a neighbour.
    """
    names = ("nn_p50_km", "nn_p90_km", "nn_isolated_10km_share")
    if ascending_m is None:
        return dict.fromkeys(names, unknown("fewer than two sites: nobody has a neighbour"))
    isolated = len(ascending_m) - int(np.searchsorted(ascending_m, isolated_km * 1000.0, side="right"))
    values = (
        quantile_sorted(ascending_m, 0.5) / 1000.0,
        quantile_sorted(ascending_m, 0.9) / 1000.0,
        isolated / len(ascending_m),
    )
    return {name: known(value) for name, value in zip(names, values, strict=True)}


def _surface_values(
    measurement: Measurement, surface: SurfaceTally, reference: SurfaceReference
) -> dict[str, Metric]:
    counts, total = measurement.counts(), len(measurement)
    pit = ascending(surface.pit)
    return {
        "population_pit_mean": pit_mean(pit),
        "population_pit_ks": pit_ks(pit),
        "unpopulated_tile_share": known(surface.unpopulated / total) if total else unknown(NO_SITES),
        "near_city_share_difference": near_city_difference(
            measurement.near_city, counts, reference.near_city_share()
        ),
        "population_correlation_1deg": cell_correlation(
            surface.cell_country, surface.cell, surface.cell_sites, reference
        ),
    }


def counter_values(
    measurement: Measurement, ascending_m: FloatArray | None, context: ScoringContext
) -> list[CounterValue]:
    """Every counter-metric in the policy's order; those about people once per surface.

    `ascending_m` are the measurement's distances in order.
    """
    parameters = context.gates.counter_metric_parameters
    counts = measurement.counts()
    total = len(measurement)
    lower_gini = gini(counts[counts > 0])
    plain = {
        **nn_metrics(ascending_m, parameters.isolated_distance_km),
        "duplicate_point_share": known(measurement.duplicates / total) if total else unknown(NO_SITES),
        "market_slope": market_slope(counts, context.market),
        "country_gini_lower_bound": unknown(NO_SITES) if lower_gini is None else known(lower_gini),
        "prior_kl": prior_kl(counts, context.prior),
        "largest_merchant_share": largest_merchant_share(
            measurement.merchant,
            measurement.pair_country,
            measurement.pair_sites,
            context.countries,
            parameters.largest_merchant_sites_min,
        ),
    }
    by_surface = [
        (named.name, _surface_values(measurement, measured, named.reference))
        for named, measured in zip(context.surfaces, measurement.surfaces, strict=True)
    ]
    values: list[CounterValue] = []
    for name in COUNTER_METRICS:
        if name in SURFACE_METRICS:
            values.extend(CounterValue(name, surface, metrics[name]) for surface, metrics in by_surface)
        else:
            values.append(CounterValue(name, None, plain[name]))
    return values
