"""Concentration of integer counts: Gini and top shares.

Numerator and denominator are Python integers, so each result is one correctly rounded division: no order of
summation, no overflow, the same bits everywhere. Where nothing can be said (no values, or all zero) the
answer is None, never 0: a caller must not mistake "nothing there" for "perfectly equal".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_INT64_MAX = 2**63 - 1


def exact_dot(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> int:
    """Sum of the products of two lists of n integers, exact whatever its size."""
    bound = int(np.abs(a).max(initial=0)) * int(np.abs(b).max(initial=0))
    rows = _INT64_MAX // max(bound, 1)
    if rows == 0:
        return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return sum(
        int(np.dot(a[first : first + rows], b[first : first + rows])) for first in range(0, len(a), rows)
    )


def _checked(counts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    values = np.asarray(counts)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise TypeError(f"counts must be a list of integers, got {values.dtype} of {values.ndim} dimensions")
    ascending = np.sort(values)
    if ascending.size and ascending[0] < 0:
        raise ValueError(f"counts must not be negative, got {ascending[0]}")
    if ascending.size and int(ascending[-1]) > _INT64_MAX:
        raise ValueError(f"counts must fit into 64 bits with a sign, got {ascending[-1]}")
    return ascending.astype(np.int64)


def _total(counts: npt.NDArray[np.int64]) -> int:
    return exact_dot(counts, np.ones_like(counts))


def gini(counts: npt.ArrayLike) -> float | None:
    """Gini coefficient of n integer counts, zeros included: `sum((2i - n - 1) * x_i) / (n * sum(x))`, x
    ascending.

    None for no counts or a zero total. Raises TypeError for floats and ValueError for a negative count.
    """
    ascending = _checked(counts)
    n = len(ascending)
    total = _total(ascending)
    if total == 0:
        return None
    return exact_dot(np.arange(1 - n, n, 2, dtype=np.int64), ascending) / (n * total)


def top_count(n: int, percent: int) -> int:
    """How many of n items are "the top `percent` %": max(1, ceil(percent * n / 100)), in integers."""
    return max(1, -(-percent * n // 100))


def top_share(counts: npt.ArrayLike, percent: int) -> float | None:
    """Share of the total held by the largest `percent` % of n integer counts; None for a zero total."""
    ascending = _checked(counts)
    total = _total(ascending)
    if total == 0:
        return None
    return _total(ascending[-top_count(len(ascending), percent) :]) / total
