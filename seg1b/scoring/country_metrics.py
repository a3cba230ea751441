"""What sites per country decide, exactly: the metrics that no placement can move.

From counts alone and without compiled code, so that screening a catalogue imports little.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.inequality import gini, top_share
from seg1b.kernels.inequality import top_count as top_count
from seg1b.scoring.values import Metric, exact_mean, exact_sum, known, rounded, summed, unknown

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

NO_SITES = "there are no sites"


def country_metrics(counts: IntArray, eligible: BoolArray) -> dict[str, Metric]:
    """Gini, top shares and coverage of sites per country, int64[C].

    Gini and top shares over countries that have sites; coverage: eligible countries with sites over eligible
    ones. Needs no coordinates: `screen` computes these from a catalogue alone.
    """
    active = counts[counts > 0]
    if not len(active):
        none = unknown("there are no sites")
        metrics = dict.fromkeys(("country_gini", "top1_share", "top5_share", "top10_share"), none)
    else:
        metrics = {"country_gini": ratio(gini(active))}
        for percent in (1, 5, 10):
            metrics[f"top{percent}_share"] = ratio(top_share(active, percent))
    metrics["eligible_country_nonzero_share"] = coverage(counts, eligible)
    return metrics


def ratio(value: float | None) -> Metric:
    """A share as a metric; None is a share of nothing."""
    return unknown("the total is zero") if value is None else known(value)


def coverage(counts: IntArray, included: BoolArray) -> Metric:
    """Countries with sites over countries, among those `included`."""
    total = int(np.count_nonzero(included))
    if total == 0:
        return unknown("no country is eligible")
    return known(int(np.count_nonzero(included & (counts > 0))) / total)


def region_shares(counts: IntArray, macro_region: tuple[str, ...]) -> dict[str, Metric]:
    """Share of all sites in each macro-region that the country table knows, sorted by name."""
    total = int(counts.sum())
    names = np.array(macro_region)
    shares = {}
    for name in sorted(set(macro_region)):
        held = int(counts[names == name].sum())
        shares[name] = known(held / total) if total else unknown("there are no sites")
    return shares


def market_slope(counts: IntArray, market: FloatArray) -> Metric:
    """Least-squares slope of log(sites) on log(untempered market size) over countries with both."""
    used = (counts > 0) & (market > 0.0)
    if np.count_nonzero(used) < 2:
        return unknown("fewer than two countries have both sites and a market size")
    x = np.array([math.log(v) for v in market[used].tolist()])
    y = np.array([math.log(v) for v in counts[used].tolist()])
    dx = x - exact_mean(x)
    xx = exact_sum(dx * dx)
    if xx <= 1e-18 * len(x):
        return unknown("all countries have the same market size")
    return known(rounded(exact_sum(dx * (y - exact_mean(y))) / xx))


def prior_kl(counts: IntArray, prior: FloatArray) -> Metric:
    """Kullback-Leibler divergence of the sites' country shares from the market prior, in nats."""
    total, mass = int(counts.sum()), exact_sum(prior)
    if total == 0:
        return unknown(NO_SITES)
    active = counts > 0
    if mass <= 0.0 or bool(np.any(prior[active] <= 0.0)):
        return unknown("a country with sites has no share in the market prior")
    ratios = zip((counts[active] / total).tolist(), (prior[active] / mass).tolist(), strict=True)
    return known(rounded(math.fsum(p * math.log(p / q) for p, q in ratios)))


def largest_merchant_share(
    merchant: IntArray, country: npt.NDArray[np.int16], sites: IntArray, countries: int, sites_min: int
) -> Metric:
    """Largest share that one merchant holds of the sites of any country with at least `sites_min` sites."""
    pair, sites = summed(merchant * countries + country, sites)
    counts = np.zeros(countries, np.int64)
    np.add.at(counts, pair % max(countries, 1), sites)
    owner = pair % countries
    judged = counts[owner] >= sites_min
    if not judged.any():
        return unknown(f"no country has {sites_min} sites")
    return known(float(np.max(sites[judged] / counts[owner[judged]])))
