"""Concentration of integer counts: Gini, top shares, Lorenz curve.

Numerator and denominator are Python integers, so each result is one correctly rounded division: no order of
summation, no overflow, the same bits everywhere. Where nothing can be said (no values, or all zero) the
answer is None, never 0: a caller must not mistake "nothing there" for "perfectly equal".
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]


def _checked(counts: npt.ArrayLike) -> list[int]:
    values = np.asarray(counts)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise TypeError(f"counts must be a list of integers, got {values.dtype} of {values.ndim} dimensions")
    ascending: list[int] = np.sort(values).tolist()
    if ascending and ascending[0] < 0:
        raise ValueError(f"counts must not be negative, got {ascending[0]}")
    return ascending


def gini(counts: npt.ArrayLike) -> float | None:
    """Gini coefficient of n integer counts, zeros included: `sum((2i - n - 1) * x_i) / (n * sum(x))`, x
    ascending.

    None for no counts or a zero total. Raises TypeError for floats and ValueError for a negative count.
    """
    ascending = _checked(counts)
    n = len(ascending)
    total = sum(ascending)
    if total == 0:
        return None
    return sum((2 * i - n - 1) * value for i, value in enumerate(ascending, start=1)) / (n * total)


def top_count(n: int, percent: int) -> int:
    """How many of n items are "the top `percent` %": max(1, ceil(percent * n / 100)), in integers."""
    return max(1, -(-percent * n // 100))


def top_share(counts: npt.ArrayLike, percent: int) -> float | None:
    """Share of the total held by the largest `percent` % of n integer counts; None for a zero total."""
    ascending = _checked(counts)
    total = sum(ascending)
    if total == 0:
        return None
    return sum(ascending[-top_count(len(ascending), percent) :]) / total


def lorenz_curve(counts: npt.ArrayLike) -> tuple[FloatArray, FloatArray] | None:
    """Lorenz curve: (share of the items, share of the total), float64[n + 1] each from (0, 0) to (1, 1).

    Items ascend by count. None for a zero total.
    """
    ascending = np.array(_checked(counts), np.int64)
    cumulative = np.concatenate(([0], np.cumsum(ascending)))
    if cumulative[-1] == 0:
        return None
    return np.arange(len(cumulative)) / (len(cumulative) - 1), cumulative / cumulative[-1]
