"""Concentration of integer counts: Gini and top shares.

Numerator and denominator are Python integers, so each result is one correctly rounded division: no order of
summation, no overflow, the same bits everywhere. Where nothing can be said (no values, or all zero) the
answer is None, never 0: a caller must not mistake "nothing there" for "perfectly equal".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
