"""Two-sample tests with their large-sample distributions.

`scipy` has both tests and distributions (the tests compare), but importing it takes longer than scoring a seed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def kolmogorov_smirnov(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """Two-sided Kolmogorov-Smirnov test of float64[n] and float64[m]: (D, p).

    D is the largest distance of the empirical distribution functions; p = Q(sqrt(nm / (n + m)) D), Q the survival
    function of Kolmogorov's limit distribution (Smirnov 1948). Raises ValueError for an empty sample.
    """
    n, m = _sizes(a, b)
    a, b = np.sort(a), np.sort(b)
    distance = 0.0
    for points in (a, b):  # ascending, so that the searches walk through memory
        apart = np.searchsorted(a, points, side="right") / n - np.searchsorted(b, points, side="right") / m
        distance = max(distance, float(np.abs(apart).max()))
    return distance, kolmogorov_survival(math.sqrt(n * m / (n + m)) * distance)


def kolmogorov_survival(x: float) -> float:
    """1 - K(x), K Kolmogorov's distribution function, to a relative error of some 1e-15.

    Two series of the same theta function (Feller 1948), each where it converges at once.
    """
    if x <= 0.0:
        return 1.0
    if x < 0.75:
        terms = (math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8.0 * x * x)) for k in (1, 2, 3))
        return 1.0 - math.sqrt(2.0 * math.pi) / x * math.fsum(terms)
    return 2.0 * math.fsum((-1) ** (k - 1) * math.exp(-2.0 * k * k * x * x) for k in range(1, 9))


def mann_whitney(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """Two-sided Mann-Whitney U test of float64[n] and float64[m]: (U of the first sample, p).

    Normal limit with the correction for ties and for continuity (Hollander and Wolfe 1973, section 4.1); p is 1 where
    every value is the same. Raises ValueError for an empty sample.
    """
    n, m = _sizes(a, b)
    total = n + m
    _, inverse, ties = np.unique(np.concatenate((a, b)), return_inverse=True, return_counts=True)
    middle = np.cumsum(ties) - (ties - 1) / 2.0  # mean rank of each distinct value
    u = float(middle[inverse[:n]].sum()) - n * (n + 1) / 2.0
    tied = int((ties**3 - ties).sum())
    variance = n * m / 12.0 * ((total + 1) - tied / (total * (total - 1)))
    if variance <= 0.0:
        return u, 1.0
    z = (max(u, n * m - u) - n * m / 2.0 - 0.5) / math.sqrt(variance)
    return u, min(1.0, math.erfc(z / math.sqrt(2.0)))


def _sizes(a: FloatArray, b: FloatArray) -> tuple[int, int]:
    if not len(a) or not len(b):
        raise ValueError("both samples need at least one value")
    return len(a), len(b)
