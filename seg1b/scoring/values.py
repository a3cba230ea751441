"""A metric's value, or the reason why there is none; and how results become plain JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg1b.store.plain import plain as plain

NOT_COMPUTABLE = "not_computable"
SIGNIFICANT_DIGITS = 12
_STRETCH = 1 << 16


@dataclass(frozen=True)
class Metric:
    """A finite value, or None with a reason that begins with `not_computable`. Never 0 for "unknown"."""

    value: float | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a metric has either a value or a reason")


def known(value: float) -> Metric:
    """The metric `value`; a value that is not finite becomes `not_computable`."""
    return Metric(float(value)) if math.isfinite(value) else unknown("the result is not a finite number")


def unknown(why: str) -> Metric:
    """The metric that cannot be computed, with its reason."""
    return Metric(None, f"{NOT_COMPUTABLE}: {why}")


def rounded(value: float) -> float:
    """`value` to 12 significant digits: logarithms differ in the last bit between machines, certificates must
    not.
    """
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def exact_mean(values: npt.NDArray[np.float64]) -> float:
    """Mean with an exactly rounded sum: independent of the order of the values. They must not be empty."""
    return math.fsum(values.tolist()) / len(values)


def exact_sum(values: npt.NDArray[np.float64]) -> float:
    """Exactly rounded sum: independent of the order of the values."""
    return math.fsum(values.tolist())


def sum_in_order(values: npt.NDArray[np.float64]) -> float:
    """Sum of float64[n] in a fixed order, a stretch at a time (each stretch, and their sum, exactly rounded).

    For values in a defined order, millions of them: `exact_sum` would hold them all as Python numbers.
    """
    return math.fsum(exact_sum(values[first : first + _STRETCH]) for first in range(0, len(values), _STRETCH))


def summed(
    key: npt.NDArray[np.int64], values: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each distinct key, ascending, and the sum of its values."""
    keys, inverse = np.unique(key, return_inverse=True)
    total = np.zeros(len(keys), np.int64)
    np.add.at(total, inverse, values)
    return keys, total
