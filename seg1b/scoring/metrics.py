"""The seven core metrics, site counts, region shares, and the bootstrap intervals of the core metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.bca import Interval, bca_interval
from seg1b.kernels.bootstrap import (
    STATISTICS,
    MerchantSample,
    jackknife_statistics,
    merchant_sample,
    observed_statistics,
    replicate_statistics,
)
from seg1b.kernels.inequality import gini, top_share
from seg1b.kernels.inequality import top_count as top_count
from seg1b.kernels.quantiles import quantile_sorted
from seg1b.kernels.streams import world_stream
from seg1b.policy.gates import CORE_METRICS, BootstrapPolicy
from seg1b.scoring.measure import Measurement, ScoringContext
from seg1b.scoring.values import Metric, known, rounded, unknown

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

BOOTSTRAP_LABEL = "bootstrap"
NN_QUANTILES = {"q50": 0.5, "q75": 0.75, "q90": 0.9, "q95": 0.95, "q99": 0.99}


@dataclass(frozen=True)
class CoreScore:
    """Core metrics by name, and what else a reader of them wants to know."""

    metrics: dict[str, Metric]
    site_count: int
    active_countries: int
    eligible_countries: int
    eligible_country_gini: Metric
    all_country_nonzero_share: Metric
    nn_quantiles_m: dict[str, float | None]
    region_shares: dict[str, Metric]


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
        metrics = {"country_gini": _metric(gini(active))}
        for percent in (1, 5, 10):
            metrics[f"top{percent}_share"] = _metric(top_share(active, percent))
    metrics["eligible_country_nonzero_share"] = _coverage(counts, eligible)
    return metrics


def _metric(value: float | None) -> Metric:
    return unknown("the total is zero") if value is None else known(value)


def _coverage(counts: IntArray, included: BoolArray) -> Metric:
    total = int(np.count_nonzero(included))
    if total == 0:
        return unknown("no country is eligible")
    return known(int(np.count_nonzero(included & (counts > 0))) / total)


def nn_p99_p50_ratio(ascending_m: npt.NDArray[np.float64] | None) -> Metric:
    """Quantile .99 over quantile .50 of ascending nearest-neighbour distances; a zero median is a failure."""
    if ascending_m is None or not len(ascending_m):
        return unknown("fewer than two sites: nobody has a neighbour")
    p50 = quantile_sorted(ascending_m, 0.5)
    if p50 <= 0.0:
        return unknown(
            "the median nearest-neighbour distance is zero: most sites share their point with another"
        )
    return known(quantile_sorted(ascending_m, 0.99) / p50)


def region_shares(counts: IntArray, macro_region: tuple[str, ...]) -> dict[str, Metric]:
    """Share of all sites in each macro-region that the country table knows, sorted by name."""
    total = int(counts.sum())
    names = np.array(macro_region)
    shares = {}
    for name in sorted(set(macro_region)):
        held = int(counts[names == name].sum())
        shares[name] = known(held / total) if total else unknown("there are no sites")
    return shares


def core_score(
    measurement: Measurement, distances: npt.NDArray[np.float64] | None, context: ScoringContext
) -> CoreScore:
    """All core metrics of one seed, or of pooled seeds; `distances` are the measurement's, ascending."""
    counts = measurement.counts()
    total = len(measurement)
    metrics = country_metrics(counts, context.eligible)
    metrics["southern_hemisphere_share"] = (
        known(int(measurement.pair_southern.sum()) / total) if total else unknown("there are no sites")
    )
    metrics["nn_p99_p50_ratio"] = nn_p99_p50_ratio(distances)
    eligible_counts = counts[context.eligible]
    return CoreScore(
        metrics={name: metrics[name] for name in CORE_METRICS},
        site_count=total,
        active_countries=int(np.count_nonzero(counts)),
        eligible_countries=int(np.count_nonzero(context.eligible)),
        eligible_country_gini=_metric(gini(eligible_counts)),
        all_country_nonzero_share=_coverage(counts, np.ones(len(counts), np.bool_)),
        nn_quantiles_m={
            name: None if distances is None else quantile_sorted(distances, level)
            for name, level in NN_QUANTILES.items()
        },
        region_shares=region_shares(counts, context.macro_region),
    )


def resampled(measurement: Measurement, eligible: BoolArray, macro_region: Sequence[str]) -> MerchantSample:
    """What the intervals of a measurement are made from; `distance_m` are its distances in ascending order."""
    m = measurement
    region = _region_numbers(macro_region)
    return merchant_sample(
        m.merchant, m.pair_country, m.pair_sites, m.pair_southern, eligible, m.distance_m, region
    )


def _region_numbers(macro_region: Sequence[str]) -> npt.NDArray[np.int32] | None:
    regions = sorted(set(macro_region))
    return np.array([regions.index(name) for name in macro_region], np.int32) if regions else None


def core_intervals(
    sample: MerchantSample, policy: BootstrapPolicy, macro_region: Sequence[str] = ()
) -> dict[str, Interval | None]:
    """Bootstrap interval of every core metric and `region_share.<macro-region>` (merchants resampled, BCa).

    None where there is none: without sites, and for the neighbour ratio without distances. Rounded to 12 significant
    digits: the normal distribution and powers behind them differ in the last bit between machines and versions of
    scipy. Whatever is made of an interval (bounds, margins) starts from these numbers.
    """
    names = tuple(f"region_share.{name}" for name in sorted(set(macro_region)))
    if not sample.merchants:
        return dict.fromkeys((*CORE_METRICS, *names))
    stream = world_stream(policy.seed, BOOTSTRAP_LABEL)
    replicates = replicate_statistics(sample, policy.replicates, stream.key, stream.counter_hi)
    jackknife = jackknife_statistics(sample)
    observed = observed_statistics(sample)
    intervals = {
        name: _rounded(bca_interval(float(observed[i]), replicates[:, i], jackknife[:, i], policy.confidence))
        for i, name in enumerate((*STATISTICS, *names))
    }
    return {name: intervals[name] for name in (*CORE_METRICS, *names)}


def _rounded(interval: Interval | None) -> Interval | None:
    if interval is None:
        return None
    bias, acceleration = interval.bias_correction, interval.acceleration
    return Interval(
        rounded(interval.low),
        rounded(interval.high),
        interval.method,
        None if bias is None else rounded(bias),
        None if acceleration is None else rounded(acceleration),
    )
