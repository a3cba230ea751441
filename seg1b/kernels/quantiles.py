"""Quantiles by linear interpolation between order statistics, bit for bit as numpy's default (Hyndman-Fan 7)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit


@njit
def interpolate(low: float, high: float, fraction: float) -> float:
    """Linear interpolation between neighbouring order statistics with numpy's rounding.

    `fraction` in [0, 1) of the way from `low` to `high`; from the nearer end, so that both ends are exact.
    """
    step = high - low
    if fraction >= 0.5:
        return high - step * (1.0 - fraction)
    return low + step * fraction


def quantile_sorted(ascending: npt.NDArray[np.float64], level: float) -> float:
    """Quantile at `level` in [0, 1] of float64[n] ascending values; n must be at least 1 (IndexError)."""
    position = level * (len(ascending) - 1)
    index = min(int(position), len(ascending) - 1)
    upper = min(index + 1, len(ascending) - 1)
    return float(interpolate(float(ascending[index]), float(ascending[upper]), position - index))
