"""The seven core metrics, site counts, region shares, and the bootstrap intervals of the core metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.bca import Interval
from seg1b.kernels.bootstrap import jackknife_statistics, merchant_sample, replicate_statistics
from seg1b.kernels.bootstrap_statistics import MerchantSample, observed_statistics
from seg1b.kernels.inequality import gini
from seg1b.kernels.quantiles import quantile_sorted
from seg1b.policy.gates import CORE_METRICS, BootstrapPolicy
from seg1b.scoring.country_metrics import country_metrics, coverage, ratio, region_shares
from seg1b.scoring.intervals import bca_intervals, bootstrap_stream
from seg1b.scoring.measure import Measurement, ScoringContext
from seg1b.scoring.results import CoreScore
from seg1b.scoring.values import Metric, known, unknown

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

NN_QUANTILES = {"q50": 0.5, "q75": 0.75, "q90": 0.9, "q95": 0.95, "q99": 0.99}


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
        eligible_country_gini=ratio(gini(eligible_counts)),
        all_country_nonzero_share=coverage(counts, np.ones(len(counts), np.bool_)),
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

    None where there is none: without sites, and for the neighbour ratio without distances.
    """
    names = tuple(f"region_share.{name}" for name in sorted(set(macro_region)))
    if not sample.merchants:
        return dict.fromkeys((*CORE_METRICS, *names))
    stream = bootstrap_stream(policy)
    replicates = replicate_statistics(sample, policy.replicates, stream.key, stream.counter_hi)
    return bca_intervals(
        observed_statistics(sample), replicates, jackknife_statistics(sample), policy.confidence, names
    )
