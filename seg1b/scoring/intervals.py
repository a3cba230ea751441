"""Bootstrap intervals of the core metrics, and those of a catalogue's counts, without compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.kernels.bca import Interval, bca_interval
from seg1b.kernels.bootstrap_counts import replicates_and_jackknife
from seg1b.kernels.bootstrap_statistics import (
    STATISTICS,
    count_sample,
    observed_statistics,
    resampling_units,
)
from seg1b.kernels.streams import Stream, world_stream
from seg1b.policy.gates import CORE_METRICS, BootstrapPolicy
from seg1b.scoring.values import rounded

FloatArray = npt.NDArray[np.float64]

BOOTSTRAP_LABEL = "bootstrap"


def bootstrap_stream(policy: BootstrapPolicy) -> Stream:
    """Where the replicates' draws come from."""
    return world_stream(policy.seed, BOOTSTRAP_LABEL)


def bca_intervals(
    observed: FloatArray,
    replicates: FloatArray,
    jackknife: FloatArray,
    confidence: float,
    others: Sequence[str] = (),
) -> dict[str, Interval | None]:
    """BCa interval of every core metric and of `others`, whose columns follow those of the STATISTICS.

    Rounded to 12 significant digits: the normal distribution and powers behind them differ in the last bit between
    machines. Whatever is made of an interval (bounds, margins) starts from these numbers.
    """
    intervals = {
        name: _rounded(bca_interval(float(observed[i]), replicates[:, i], jackknife[:, i], confidence))
        for i, name in enumerate((*STATISTICS, *others))
    }
    return {name: intervals[name] for name in (*CORE_METRICS, *others)}


def catalogue_intervals(
    merchant: npt.NDArray[np.int64],
    country: npt.NDArray[np.integer[Any]],
    sites: npt.NDArray[np.int64],
    eligible: npt.NDArray[np.bool_],
    policy: BootstrapPolicy,
) -> dict[str, Interval | None]:
    """Interval of every core metric of P >= 1 pairs of merchant (dense number) and country with their sites.

    As S9's intervals, but for the southern share, of which counts say nothing, and neighbours (None).
    """
    unit, units = resampling_units(merchant)
    sample = count_sample(unit, units, country, sites, np.zeros_like(sites), eligible)
    stream = bootstrap_stream(policy)
    replicates, jackknife = replicates_and_jackknife(sample, policy.replicates, stream.key, stream.counter_hi)
    found = bca_intervals(observed_statistics(sample), replicates, jackknife, policy.confidence)
    del found["southern_hemisphere_share"]
    return found


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
