"""Closest shares to a prior inside a set of limits: a KL projection, solved by its smooth dual.

    minimise  sum x log(x / p)   over shares x (x >= 0, sum 1)
    such that sum_i a_i x_i >= b          linear limits: region floors, southern share
              sum_k w_k x_(k) <= c        order limits on x sorted descending, w non-increasing: top shares,
              Gini lower_i <= x_i <= upper_i   bounds of single countries

For fixed multipliers of the linear and order limits the minimiser is a softmax of `log p + A' price` minus
the rank weights, made monotone by pooling adjacent violators. The concave dual (about ten dimensions) is
maximised by L-BFGS-B. Bounds are priced outside, by the fixed point `nu += log(x / bound)`.

Infeasible limits are proven to be so (weak duality: the dual of a feasible problem cannot exceed the largest
possible divergence) and the smallest clashing set found by deletion is named; nothing is ever approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError, InputError
from seg1b.kernels.inequality import top_count
from seg1b.kernels.jit import njit

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

COUNTRY_MAXIMA = "country maxima"
COUNTRY_MINIMA = "country minima"

_BOUND_ROUNDS = 300
_BOUND_TOLERANCE = 1e-13
_MAXIMUM_TOLERANCE = 1e-12
_NEWTON_STEPS = 12
_NEWTON_DIFFERENCE = 1e-6
_LARGEST_BOUND_PRICE = 500.0
_VIOLATION_TOLERANCE = 1e-7
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
class Projection:
    """Solution of `project`.

    `prices` are the multipliers of the linear and order limits (nats of divergence per unit of the limit);
    `bound_price` f64[n] is positive where the upper bound binds and negative where the lower one does.
    `kl` is in nats, `duality_gap = kl - dual` bounds how far from the optimum the solution can be,
    `violation` says by how much each limit is exceeded (negative: slack), bounds included.
    """

    shares: Floats
    prices: dict[str, float]
    bound_price: Floats
    kl: float
    duality_gap: float
    violation: dict[str, float]
    rounds: int


def top_share_limit(name: str, n: int, percent: int, maximum: float) -> OrderLimit:
    """The largest `top_count(n, percent)` shares sum to at most `maximum`."""
    return OrderLimit(name, (np.arange(n) < top_count(n, percent)).astype(np.float64), maximum)


def gini_limit(name: str, n: int, maximum: float) -> OrderLimit:
    """Gini coefficient of the n shares at most `maximum`: rank weights `(n + 1 - 2k) / n`, k = 1 the
    largest.
    """
    return OrderLimit(name, (n + 1 - 2 * np.arange(1, n + 1)) / n, maximum)


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
def _minimiser(price: Floats, log_prior: Floats, linear: Floats, order: Floats) -> tuple[Floats, Integers]:
    """Shares that minimise the Lagrangian at these prices, and their descending order."""
    n = log_prior.shape[0]
    rows = linear.shape[0]
    score = log_prior.copy()
    for row in range(rows):
        if price[row] != 0.0:
            for i in range(n):
                score[i] += price[row] * linear[row, i]
    ranking = np.empty(n, np.int64)
    for i in range(n):  # insertion sort, descending and stable: a few hundred countries at most
        k = i
        while k > 0 and score[ranking[k - 1]] < score[i]:
            ranking[k] = ranking[k - 1]
            k -= 1
        ranking[k] = i
    level = score[ranking]
    for row in range(order.shape[0]):
        for k in range(n):
            level[k] -= price[rows + row] * order[row, k]
    level = pool_decreasing(level)
    total = 0.0
    for k in range(n):
        total += np.exp(level[k] - level[0])
    shares = np.empty(n)
    for k in range(n):
        shares[ranking[k]] = np.exp(level[k] - level[0]) / total
    return shares, ranking


@njit
def _negative_dual(
    price: Floats, log_prior: Floats, linear: Floats, minimum: Floats, order: Floats, maximum: Floats
) -> tuple[float, Floats]:
    """Minus the dual function and minus its gradient (the gradient is the violation of each limit)."""
    n = log_prior.shape[0]
    rows = linear.shape[0]
    shares, ranking = _minimiser(price, log_prior, linear, order)
    value = 0.0
    for i in range(n):
        if shares[i] > 0.0:
            value += shares[i] * (np.log(shares[i]) - log_prior[i])
    gradient = np.empty(price.shape[0])
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
    return -value, gradient


class _Unbounded(Exception):  # noqa: N818 - a signal out of the optimiser, not an error
    """The dual exceeded every value that a feasible problem can have, or a bound's price diverged."""


@dataclass(frozen=True)
class _Limits:
    """The limits as matrices: linear f64[rows, n], minimum f64[rows], order f64[m, n], maximum f64[m]."""

    names: tuple[str, ...]
    linear: Floats
    minimum: Floats
    order: Floats
    maximum: Floats

    @staticmethod
    def of(n: int, linear: Sequence[LinearLimit], order: Sequence[OrderLimit]) -> _Limits:
        """Stack the limits on n shares: one row of coefficients or weights a limit."""
        return _Limits(
            names=(*(limit.name for limit in linear), *(limit.name for limit in order)),
            linear=np.array([limit.coefficients for limit in linear], dtype=np.float64).reshape(-1, n),
            minimum=np.array([limit.minimum for limit in linear], dtype=np.float64),
            order=np.array([limit.weights for limit in order], dtype=np.float64).reshape(-1, n),
            maximum=np.array([limit.maximum for limit in order], dtype=np.float64),
        )

    def maximise(self, log_prior: Floats, start: Floats) -> Floats:
        """Prices at the maximum of the dual. Raises `_Unbounded` when the limits are proven infeasible.

        From a start near the maximum, as the round before has it, Newton's method alone arrives there: a tenth of the
        time of the quasi-Newton method, which is asked where it does not.
        """
        if start.any():
            price = self._polished(log_prior, start)
            if self._is_maximum(log_prior, price):
                return price
        largest_divergence = float(-log_prior.min()) + 1e-9

        def objective(price: Floats) -> tuple[float, Floats]:
            value, gradient = _negative_dual(
                price, log_prior, self.linear, self.minimum, self.order, self.maximum
            )
            if -value > largest_divergence:
                raise _Unbounded
            return float(value), gradient

        if start.size == 0:
            return start
        from scipy.optimize import minimize  # slow to import, and most processes only read a published table

        bounds = [(0.0, None)] * start.size
        options: Any = dict(_DUAL_OPTIONS)
        result = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return self._polished(log_prior, np.asarray(result.x, dtype=np.float64))

    def _is_maximum(self, log_prior: Floats, price: Floats) -> bool:
        """Whether every limit with a price is met exactly, and the others are met."""
        slack = _negative_dual(price, log_prior, self.linear, self.minimum, self.order, self.maximum)[1]
        return bool(np.all(np.where(price > 0.0, -np.abs(slack), slack) >= -_MAXIMUM_TOLERANCE))

    def _polished(self, log_prior: Floats, price: Floats) -> Floats:
        """Newton's method on the limits that bind, while it brings their violations down.

        The quasi-Newton maximum is good to 1e-8 and differs from CPU to CPU as far as that; what is read off it in
        parts per million must not.
        """

        def gradient(at: Floats) -> Floats:
            found: Floats = _negative_dual(
                at, log_prior, self.linear, self.minimum, self.order, self.maximum
            )[1]
            return found

        binding = np.flatnonzero(price > 0.0)
        now = gradient(price)
        inverse: Floats | None = None  # of the slope, kept for as long as it brings violations down tenfold
        for _ in range(_NEWTON_STEPS):
            fresh = inverse is None
            if fresh:
                slope = np.empty((binding.size, binding.size))
                for column, limit in enumerate(binding):
                    nearby = price.copy()
                    nearby[limit] += _NEWTON_DIFFERENCE
                    slope[:, column] = (gradient(nearby) - now)[binding] / _NEWTON_DIFFERENCE
                if not np.isfinite(slope).all():
                    break
                inverse = np.asarray(np.linalg.pinv(slope), np.float64)
            assert inverse is not None
            better = price.copy()
            better[binding] -= inverse @ now[binding]
            then = gradient(better)
            before, after = (np.abs(violation[binding]).max(initial=0.0) for violation in (now, then))
            if not (after < before and better.min(initial=0.0) >= 0.0):
                if fresh:
                    break
                inverse = None
                continue
            if after > 0.1 * before:
                inverse = None
            price, now = better, then
        return price


def project(
    prior: Floats,
    linear: Sequence[LinearLimit],
    order: Sequence[OrderLimit],
    lower: Floats,
    upper: Floats,
) -> Projection:
    """Project `prior` f64[n] (positive, any scale) onto the limits; `lower`, `upper` f64[n] bound the shares.

    Raises InputError E_SHARES_INFEASIBLE (naming the clashing limits), E_SHARES_PRIOR when the prior is not
    positive and finite, ContractError E_SHARES_NOT_CONVERGED when the optimiser stops short of the tolerance.
    """
    n = prior.shape[0]
    if n == 0 or not np.all(np.isfinite(prior)) or prior.min() <= 0.0:
        raise InputError(
            "E_SHARES_PRIOR",
            "the market prior must be positive and finite for every country that is served",
            next_step="check population and GDP per head in the world's country table",
        )
    limits = _Limits.of(n, linear, order)
    log_prior = np.log(prior / prior.sum())
    try:
        shares, price, bound_price, rounds = _solve(log_prior, limits, lower, upper)
    except _Unbounded:
        _raise_infeasible(n, linear, order, lower, upper)
    violation = _violations(shares, linear, order, lower, upper)
    if not all(excess <= _VIOLATION_TOLERANCE for excess in violation.values()):
        _raise_infeasible(n, linear, order, lower, upper)
    kl = float(np.sum(shares * (np.log(shares) - log_prior)))
    return Projection(
        shares=shares,
        prices=dict(zip(limits.names, price.tolist(), strict=True)),
        bound_price=bound_price,
        kl=kl,
        duality_gap=kl - _dual_value(shares, log_prior, price, bound_price, limits, lower, upper),
        violation=violation,
        rounds=rounds,
    )


def _solve(
    log_prior: Floats, limits: _Limits, lower: Floats, upper: Floats
) -> tuple[Floats, Floats, Floats, int]:
    """(shares, prices of the limits, prices of the bounds, rounds) at the fixed point of the bound prices."""
    price = np.zeros(len(limits.names))
    bound_price = np.zeros(log_prior.size)
    rounds = 0
    while True:
        rounds += 1
        priced = log_prior - bound_price
        priced -= np.log(np.exp(priced).sum())
        price = limits.maximise(priced, price)
        shares, _ = _minimiser(price, priced, limits.linear, limits.order)
        unpriced = shares * np.exp(bound_price)
        updated = np.log(unpriced / np.clip(unpriced, lower, upper))
        if not float(np.abs(updated).max()) < _LARGEST_BOUND_PRICE:
            raise _Unbounded
        if float(np.abs(updated - bound_price).max()) < _BOUND_TOLERANCE or rounds == _BOUND_ROUNDS:
            return shares, price, bound_price, rounds
        bound_price = updated


def _dual_value(
    shares: Floats,
    log_prior: Floats,
    price: Floats,
    bound_price: Floats,
    limits: _Limits,
    lower: Floats,
    upper: Floats,
) -> float:
    """Lagrangian at its minimiser: a lower bound of the optimum, whatever the prices."""
    rows = limits.minimum.size
    ranked = np.sort(shares)[::-1]
    divergence = float(np.sum(shares * (np.log(shares) - log_prior)))
    linear = float(price[:rows] @ (limits.minimum - limits.linear @ shares))
    order = float(price[rows:] @ (limits.order @ ranked - limits.maximum))
    above = float(np.maximum(bound_price, 0.0) @ (shares - upper))
    below = float(np.maximum(-bound_price, 0.0) @ (lower - shares))
    return divergence + linear + order + above + below


def _violations(
    shares: Floats,
    linear: Sequence[LinearLimit],
    order: Sequence[OrderLimit],
    lower: Floats,
    upper: Floats,
) -> dict[str, float]:
    ranked = np.sort(shares)[::-1]
    found = {limit.name: float(limit.minimum - limit.coefficients @ shares) for limit in linear}
    found |= {limit.name: float(limit.weights @ ranked - limit.maximum) for limit in order}
    found[COUNTRY_MAXIMA] = float((shares - upper).max())
    found[COUNTRY_MINIMA] = float((lower - shares).max())
    return found


def _is_infeasible(n: int, linear: Sequence[LinearLimit], order: Sequence[OrderLimit]) -> bool:
    """True when the dual for a uniform prior rises above log n, which no feasible problem's dual can."""
    try:
        limits = _Limits.of(n, linear, order)
        limits.maximise(np.full(n, -np.log(n)), np.zeros(len(limits.names)))
    except _Unbounded:
        return True
    return False


def _names(linear: Sequence[LinearLimit], order: Sequence[OrderLimit]) -> tuple[str, ...]:
    """Distinct names, in order; the bounds of all countries share one."""
    return tuple(dict.fromkeys([*(limit.name for limit in linear), *(limit.name for limit in order)]))


def clashing_limits(
    n: int,
    linear: Sequence[LinearLimit],
    order: Sequence[OrderLimit],
    lower: Floats,
    upper: Floats,
) -> tuple[str, ...]:
    """Names of an irreducible set of limits that cannot hold together; empty when none can be proven to
    clash.

    Deletion filter: a limit whose removal leaves the rest infeasible does not belong to the set.
    """
    unit = np.eye(n)
    maxima = [LinearLimit(COUNTRY_MAXIMA, -unit[i], -float(upper[i])) for i in np.flatnonzero(upper < 1.0)]
    minima = [LinearLimit(COUNTRY_MINIMA, unit[i], float(lower[i])) for i in np.flatnonzero(lower > 0.0)]
    kept_linear: list[LinearLimit] = [*linear, *maxima, *minima]
    kept_order = list(order)
    if not _is_infeasible(n, kept_linear, kept_order):
        return ()
    for name in _names(kept_linear, kept_order):
        fewer_linear = [limit for limit in kept_linear if limit.name != name]
        fewer_order = [limit for limit in kept_order if limit.name != name]
        if _is_infeasible(n, fewer_linear, fewer_order):
            kept_linear, kept_order = fewer_linear, fewer_order
    return _names(kept_linear, kept_order)


def _raise_infeasible(
    n: int,
    linear: Sequence[LinearLimit],
    order: Sequence[OrderLimit],
    lower: Floats,
    upper: Floats,
) -> NoReturn:
    names = clashing_limits(n, linear, order, lower, upper)
    if names:
        described = {limit.name: f"{limit.name} >= {limit.minimum:g}" for limit in linear}
        described |= {limit.name: f"{limit.name} <= {limit.maximum:g}" for limit in order}
        raise InputError(
            "E_SHARES_INFEASIBLE",
            "these limits on country shares cannot hold together: "
            + "; ".join(described.get(name, name) for name in names),
            where=f"{n} served countries",
            next_step="relax at least one of them in the country-shares policy",
        )
    raise ContractError(
        "E_SHARES_NOT_CONVERGED",
        "the projection of country shares stopped before its tolerance was reached",
        where=f"{n} served countries",
        next_step="the limits are feasible but nearly clash: widen one of them slightly",
    )


def quantise(shares: Floats, total: int, minimum: Integers) -> Integers:
    """Integers int64[n] that sum to `total`, by largest remainder, never below `minimum` int64[n].

    Ties go to the smaller index. What the minimum adds is taken from the entries with the smallest remainder
    above their own minimum. Raises InputError E_SHARES_MINIMUM when the minima alone exceed the total.
    """
    if int(minimum.sum()) > total:
        raise InputError(
            "E_SHARES_MINIMUM",
            f"the minima sum to {int(minimum.sum())}, more than the total {total}",
            next_step="serve fewer countries or raise the total",
        )
    exact = shares / shares.sum() * total
    rounded: Integers = np.maximum(np.floor(exact).astype(np.int64), minimum)
    while rounded.sum() != total:
        missing = int(total - rounded.sum())
        step = 1 if missing > 0 else -1
        movable = np.flatnonzero((step > 0) | (rounded > minimum))
        priority = np.argsort(-step * (exact - rounded)[movable], kind="stable")
        rounded[movable[priority[: abs(missing)]]] += step
    return rounded
