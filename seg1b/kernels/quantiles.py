"""Quantiles by linear interpolation between order statistics, bit for bit as numpy's default (Hyndman-Fan 7)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]


def interpolate(low: FloatArray, high: FloatArray, fraction: FloatArray | float) -> FloatArray:
    """Linear interpolation between neighbouring order statistics with numpy's rounding; shapes broadcast.

    `fraction` in [0, 1) of the way from `low` to `high`; from the nearer end, so that both ends are exact.
    """
    step = high - low
    return np.where(np.asarray(fraction) >= 0.5, high - step * (1.0 - fraction), low + step * fraction)


def quantile_sorted(ascending: FloatArray, level: float) -> float:
    """Quantile at `level` in [0, 1] of float64[n] ascending values; n must be at least 1 (IndexError)."""
    position = level * (len(ascending) - 1)
    index = min(int(position), len(ascending) - 1)
    upper = min(index + 1, len(ascending) - 1)
    return float(interpolate(ascending[index], ascending[upper], position - index))
