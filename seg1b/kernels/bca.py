"""Bias-corrected and accelerated confidence intervals (BCa) from replicates and a jackknife."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.quantiles import quantile_sorted

FloatArray: TypeAlias = npt.NDArray[np.float64]


_NORMAL = NormalDist()
"""Not scipy's: importing `scipy.special` takes a fifth of a second, and screening has one."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval and how it came about: `bca`, `percentile` (BCa does not exist) or `point` (no spread).

    Bias correction and acceleration (Efron 1987) are those of a `bca` interval, None of another.
    """

    low: float
    high: float
    method: str
    bias_correction: float | None = None
    acceleration: float | None = None


def bca_interval(
    observed: float, replicates: FloatArray, jackknife: FloatArray, confidence: float
) -> Interval | None:
    """Bias-corrected and accelerated interval (Efron 1987) of one statistic.

    `replicates` float64[B], `jackknife` float64[M] (one unit left out). Percentiles by linear interpolation.
    Where all replicates lie on one side of the observed value the bias correction is infinite and BCa does
    not exist: the plain percentile interval is returned and says so. None if a value is not finite or there
    is nothing to resample.
    """
    if len(replicates) == 0 or len(jackknife) < 2 or not math.isfinite(observed):
        return None
    if not (np.isfinite(replicates).all() and np.isfinite(jackknife).all()):
        return None
    tail = (1.0 - confidence) / 2.0
    ascending = np.sort(replicates)
    if ascending[0] == ascending[-1] == observed:
        return Interval(observed, observed, "point")
    below = np.count_nonzero(replicates < observed) + np.count_nonzero(replicates <= observed)
    fraction = below / (2 * len(replicates))
    if not 0.0 < fraction < 1.0:
        return Interval(
            quantile_sorted(ascending, tail), quantile_sorted(ascending, 1.0 - tail), "percentile"
        )
    bias = _NORMAL.inv_cdf(fraction)
    acceleration = _acceleration(jackknife)
    low, high = (
        quantile_sorted(ascending, _adjusted_level(bias, acceleration, _NORMAL.inv_cdf(p)))
        for p in (tail, 1.0 - tail)
    )
    return Interval(low, high, "bca", bias, acceleration)


def _acceleration(jackknife: FloatArray) -> float:
    """Skewness of the jackknife influence values over 6; 0 where leaving out a unit changes nothing."""
    mean = math.fsum(jackknife.tolist()) / len(jackknife)
    influence = mean - jackknife
    second = math.fsum((influence**2).tolist())
    return math.fsum((influence**3).tolist()) / (6.0 * second**1.5) if second > 0.0 else 0.0


def _adjusted_level(bias: float, acceleration: float, z: float) -> float:
    shifted = bias + z
    return _cumulative(bias + shifted / (1.0 - acceleration * shifted))


def _cumulative(z: float) -> float:
    """Standard normal distribution, to full relative accuracy in both tails."""
    return 0.5 * math.erfc(-z * math.sqrt(0.5))
