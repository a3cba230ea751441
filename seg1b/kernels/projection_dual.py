"""The dual of the KL projection (`projection`), and where it is largest.

For fixed multipliers (prices) of the linear and order limits the Lagrangian is least at a softmax of `log p + A' price`
minus the rank weights, made monotone by pooling adjacent violators. The dual so made is concave, in about ten
dimensions, and maximised by L-BFGS-B, or from nearby by Newton's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_MAXIMUM_TOLERANCE = 1e-12
_NEWTON_STEPS = 12
_NEWTON_DIFFERENCE = 1e-6
_DUAL_OPTIONS = {"maxiter": 3000, "maxfun": 20000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 30}


@dataclass(frozen=True)
class LinearLimit:
    """`sum(coefficients * shares) >= minimum`; coefficients f64[n]."""

    name: str
    coefficients: Floats
    minimum: float


@dataclass(frozen=True)
class OrderLimit:
    """`sum(weights * shares sorted descending) <= maximum`; weights f64[n], non-increasing."""

    name: str
    weights: Floats
    maximum: float


@dataclass(frozen=True)
class Limits:
    """The limits as matrices: linear f64[rows, n], minimum f64[rows], order f64[m, n], maximum f64[m]."""

    names: tuple[str, ...]
    linear: Floats
    minimum: Floats
    order: Floats
    maximum: Floats

    @staticmethod
    def of(n: int, linear: Sequence[LinearLimit], order: Sequence[OrderLimit]) -> Limits:
        """Stack the limits on n shares: one row of coefficients or weights a limit."""
        return Limits(
            names=(*(limit.name for limit in linear), *(limit.name for limit in order)),
            linear=np.array([limit.coefficients for limit in linear], dtype=np.float64).reshape(-1, n),
            minimum=np.array([limit.minimum for limit in linear], dtype=np.float64),
            order=np.array([limit.weights for limit in order], dtype=np.float64).reshape(-1, n),
            maximum=np.array([limit.maximum for limit in order], dtype=np.float64),
        )


class Unbounded(Exception):  # noqa: N818 - a signal out of the optimiser, not an error
    """The dual exceeded every value that a feasible problem can have, or a bound's price diverged."""


@njit
def pool_decreasing(values: Floats) -> Floats:
    """Closest non-increasing sequence in least squares: pool adjacent violators, unit weights."""
    n = values.shape[0]
    level = np.empty(n)
    size = np.empty(n, np.int64)
    pools = 0
    for i in range(n):
        level[pools] = values[i]
        size[pools] = 1
        pools += 1
        while pools > 1 and level[pools - 2] < level[pools - 1]:
            joint = size[pools - 2] + size[pools - 1]
            level[pools - 2] += (level[pools - 1] - level[pools - 2]) * size[pools - 1] / joint
            size[pools - 2] = joint
            pools -= 1
    pooled = np.empty(n)
    position = 0
    for pool in range(pools):
        for _ in range(size[pool]):
            pooled[position] = level[pool]
            position += 1
    return pooled


@njit
def _rank(score: Floats, ranking: Integers) -> None:
    """Put the places 0..n-1 in `ranking`, in whatever order, in that of their scores: descending, ties by place.

    Insertion sort: a few hundred countries at most, and hardly any moves between two prices that are close.
    """
    for i in range(1, ranking.shape[0]):
        one = ranking[i]
        k = i
        while k > 0 and (
            score[ranking[k - 1]] < score[one]
            or (score[ranking[k - 1]] == score[one] and ranking[k - 1] > one)
        ):
            ranking[k] = ranking[k - 1]
            k -= 1
        ranking[k] = one


@njit
def _minimiser(price: Floats, log_prior: Floats, linear: Floats, order: Floats, ranking: Integers) -> Floats:
    """Shares that minimise the Lagrangian at these prices; `ranking` becomes their descending order."""
    n = log_prior.shape[0]
    rows = linear.shape[0]
    score = log_prior.copy()
    for row in range(rows):
        if price[row] != 0.0:
            for i in range(n):
                score[i] += price[row] * linear[row, i]
    _rank(score, ranking)
    level = score[ranking]
    for row in range(order.shape[0]):
        for k in range(n):
            level[k] -= price[rows + row] * order[row, k]
    level = pool_decreasing(level)
    total = 0.0
    mass = np.empty(n)
    for k in range(n):
        mass[k] = np.exp(level[k] - level[0])
        total += mass[k]
    shares = np.empty(n)
    for k in range(n):
        shares[ranking[k]] = mass[k] / total
    return shares


@njit
def _negative_dual(
    prices: Floats, log_prior: Floats, linear: Floats, minimum: Floats, order: Floats, maximum: Floats,
    ranking: Integers,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """At each of the prices f64[k, m] minus the dual, f64[k], and minus its gradient, f64[k, m] (the gradient is the
    violation of each limit); and the shares f64[n] at the last of them.

    `ranking`: the places 0..n-1 in any order, in the shares' descending order afterwards.
    """
    n = log_prior.shape[0]
    rows = linear.shape[0]
    values = np.empty(prices.shape[0])
    gradients = np.empty(prices.shape)
    shares = np.empty(n)
    for at in range(prices.shape[0]):
        price, gradient = prices[at], gradients[at]
        shares = _minimiser(price, log_prior, linear, order, ranking)
        value = 0.0
        for i in range(n):
            if shares[i] > 0.0:
                value += shares[i] * (np.log(shares[i]) - log_prior[i])
        for row in range(rows):
            violation = minimum[row]
            for i in range(n):
                violation -= linear[row, i] * shares[i]
            value += price[row] * violation
            gradient[row] = -violation
        for row in range(order.shape[0]):
            violation = -maximum[row]
            for k in range(n):
                violation += order[row, k] * shares[ranking[k]]
            value += price[rows + row] * violation
            gradient[rows + row] = -violation
        values[at] = -value
    return values, gradients, shares


class Dual:
    """The dual of `limits` at one prior, `log_prior` f64[n], whose exponentials sum to 1.

    `ranking` int64[n]: the places 0..n-1 in any order, best in that of the solution; it is written to.
    """

    def __init__(self, limits: Limits, log_prior: Floats, ranking: Integers) -> None:
        self._limits, self._log_prior, self._ranking = limits, log_prior, ranking

    def shares(self, price: Floats) -> Floats:
        """Shares f64[n] that minimise the Lagrangian at these prices."""
        return self._at(price[None])[2]

    def _at(self, prices: Floats) -> tuple[Floats, Floats, Floats]:
        limits = self._limits
        return _negative_dual(
            prices,
            self._log_prior,
            limits.linear,
            limits.minimum,
            limits.order,
            limits.maximum,
            self._ranking,
        )

    def _slack(self, price: Floats) -> Floats:
        """By how much every limit is met, negative where it is violated: minus the gradient."""
        found: Floats = self._at(price[None])[1][0]
        return found

    def maximise(self, start: Floats) -> Floats:
        """Prices at the maximum of the dual. Raises `Unbounded` when the limits are proven infeasible.

        From a start near the maximum, as the round before has it, Newton's method alone arrives there: a tenth of the
        time of the quasi-Newton method, which is asked where it does not.
        """
        if start.any():
            price = self._polished(start)
            if self._is_maximum(price):
                return price
        largest_divergence = float(-self._log_prior.min()) + 1e-9

        def objective(price: Floats) -> tuple[float, Floats]:
            values, gradients, _ = self._at(price[None])
            if -values[0] > largest_divergence:
                raise Unbounded
            return float(values[0]), gradients[0]

        if start.size == 0:
            return start
        from scipy.optimize import minimize  # slow to import, and most processes only read a published table

        bounds = [(0.0, None)] * start.size
        options: Any = dict(_DUAL_OPTIONS)
        result = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return self._polished(np.asarray(result.x, dtype=np.float64))

    def _is_maximum(self, price: Floats) -> bool:
        """Whether every limit with a price is met exactly, and the others are met."""
        slack = self._slack(price)
        return bool(np.all(np.where(price > 0.0, -np.abs(slack), slack) >= -_MAXIMUM_TOLERANCE))

    def _polished(self, price: Floats) -> Floats:
        """Newton's method on the limits that bind, while it brings their violations down.

        The quasi-Newton maximum is good to 1e-8 and differs from CPU to CPU as far as that; what is read off it in
        parts per million must not.
        """
        binding = np.flatnonzero(price > 0.0)
        now = self._slack(price)
        inverse: Floats | None = None  # of the slope, kept for as long as it brings violations down tenfold
        for _ in range(_NEWTON_STEPS):
            fresh = inverse is None
            if fresh:
                slope = self._slope(price, now, binding)
                if not np.isfinite(slope).all():
                    break
                inverse = np.asarray(np.linalg.pinv(slope), np.float64)
            assert inverse is not None
            better = price.copy()
            better[binding] -= inverse @ now[binding]
            then = self._slack(better)
            before, after = (np.abs(slack[binding]).max(initial=0.0) for slack in (now, then))
            if not (after < before and better.min(initial=0.0) >= 0.0):
                if fresh:
                    break
                inverse = None
                continue
            if after > 0.1 * before:
                inverse = None
            price, now = better, then
        return price

    def _slope(self, price: Floats, slack: Floats, binding: Integers) -> Floats:
        """Derivatives of the slack of the b limits that bind, by row, by their prices, f64[b, b]."""
        nearby = np.repeat(price[None], binding.size, axis=0)
        nearby[np.arange(binding.size), binding] += _NEWTON_DIFFERENCE
        changes = (self._at(nearby)[1] - slack)[:, binding] / _NEWTON_DIFFERENCE
        return np.ascontiguousarray(changes.T)
