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
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError, InputError
from seg1b.kernels.inequality import top_count
from seg1b.kernels.projection_dual import Dual, Limits, Unbounded
from seg1b.kernels.projection_dual import LinearLimit as LinearLimit
from seg1b.kernels.projection_dual import OrderLimit as OrderLimit

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

COUNTRY_MAXIMA = "country maxima"
COUNTRY_MINIMA = "country minima"

_BOUND_ROUNDS = 300
_BOUND_TOLERANCE = 1e-13
_LARGEST_BOUND_PRICE = 500.0
_VIOLATION_TOLERANCE = 1e-7


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
    limits = Limits.of(n, linear, order)
    log_prior = np.log(prior / prior.sum())
    try:
        shares, price, bound_price, rounds = _solve(log_prior, limits, lower, upper)
    except Unbounded:
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
    log_prior: Floats, limits: Limits, lower: Floats, upper: Floats
) -> tuple[Floats, Floats, Floats, int]:
    """(shares, prices of the limits, prices of the bounds, rounds) at the fixed point of the bound prices."""
    price = np.zeros(len(limits.names))
    bound_price = np.zeros(log_prior.size)
    ranking = np.argsort(-log_prior)
    rounds = 0
    while True:
        rounds += 1
        priced = log_prior - bound_price
        priced -= np.log(np.exp(priced).sum())
        dual = Dual(limits, priced, ranking)
        price = dual.maximise(price)
        shares = dual.shares(price)
        unpriced = shares * np.exp(bound_price)
        updated = np.log(unpriced / np.clip(unpriced, lower, upper))
        if not float(np.abs(updated).max()) < _LARGEST_BOUND_PRICE:
            raise Unbounded
        if float(np.abs(updated - bound_price).max()) < _BOUND_TOLERANCE or rounds == _BOUND_ROUNDS:
            return shares, price, bound_price, rounds
        bound_price = updated


def _dual_value(
    shares: Floats,
    log_prior: Floats,
    price: Floats,
    bound_price: Floats,
    limits: Limits,
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
        limits = Limits.of(n, linear, order)
        Dual(limits, np.full(n, -np.log(n)), np.arange(n)).maximise(np.zeros(len(limits.names)))
    except Unbounded:
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
