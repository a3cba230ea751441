"""The KL projection: small exact cases, an independent conic solver, properties, and named infeasibility."""

from __future__ import annotations

import cvxpy
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.errors import InputError
from seg1b.kernels.projection import (
    COUNTRY_MAXIMA,
    COUNTRY_MINIMA,
    LinearLimit,
    OrderLimit,
    Projection,
    clashing_limits,
    gini_limit,
    project,
    quantise,
    top_share_limit,
)
from seg1b.kernels.projection_dual import Dual, Limits, pool_decreasing

Floats = npt.NDArray[np.float64]


def unbounded(
    prior: Floats, linear: list[LinearLimit] | None = None, order: list[OrderLimit] | None = None
) -> Projection:
    """Project without bounds of single countries."""
    return project(prior, linear or [], order or [], np.zeros(prior.size), np.ones(prior.size))


@pytest.mark.parametrize(
    ("values", "pooled"),
    [
        ([3.0, 2.0, 1.0], [3.0, 2.0, 1.0]),
        ([1.0, 3.0], [2.0, 2.0]),
        ([5.0, 1.0, 2.0, 3.0, 0.0], [5.0, 2.0, 2.0, 2.0, 0.0]),
        ([1.0, 2.0, 6.0], [3.0, 3.0, 3.0]),
    ],
)
def test_pooling_by_hand(values: list[float], pooled: list[float]) -> None:
    """Adjacent violators take their mean, nothing else moves."""
    np.testing.assert_allclose(pool_decreasing(np.array(values)), pooled, rtol=1e-15)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
@settings(max_examples=30)
def test_the_ranking_that_is_brought_along_changes_nothing(seed: int, n: int) -> None:
    """Shares are the same bit for bit, ties included, and the ranking ends in their order, ties by place."""
    rng = np.random.default_rng(seed)
    log_prior = np.log(rng.integers(1, 4, n).astype(np.float64))  # most are tied with some other
    limits = Limits.of(
        n, [LinearLimit("first", (np.arange(n) < 2).astype(np.float64), 0.5)], [gini_limit("gini", n, 0.3)]
    )
    price = rng.random(2)
    found = []
    for ranking in (np.arange(n), np.arange(n)[::-1].copy(), rng.permutation(n)):
        found.append(Dual(limits, log_prior, ranking).shares(price).tobytes())
        score = log_prior + price[0] * limits.linear[0]
        assert ranking.tolist() == np.argsort(-score, kind="stable").tolist()
    assert len(set(found)) == 1


def test_without_limits_the_prior_comes_back() -> None:
    """The prior itself is the closest point; its scale does not matter."""
    result = unbounded(np.array([2.0, 3.0, 5.0]))
    np.testing.assert_allclose(result.shares, [0.2, 0.3, 0.5], atol=1e-12)
    assert result.kl == pytest.approx(0.0, abs=1e-12)


def test_a_floor_lifts_its_region_and_scales_the_rest() -> None:
    """Exact: the floor binds, proportions inside and outside the region stay, its price is the log odds
    ratio.
    """
    floor = LinearLimit("floor", np.array([1.0, 1.0, 0.0, 0.0]), 0.6)
    result = unbounded(np.array([0.1, 0.3, 0.2, 0.4]), [floor])
    np.testing.assert_allclose(result.shares, [0.15, 0.45, 0.4 / 3, 0.8 / 3], atol=1e-9)
    assert result.prices["floor"] == pytest.approx(np.log((0.6 / 0.4) / (0.4 / 0.6)), abs=1e-7)


def test_a_top_share_limit_cuts_the_largest() -> None:
    """Exact: the largest country of three falls to the limit, the others grow in proportion."""
    result = unbounded(np.array([0.6, 0.3, 0.1]), order=[top_share_limit("top1_share", 3, 1, 0.4)])
    np.testing.assert_allclose(result.shares, [0.4, 0.4, 0.2], atol=1e-6)


def test_gini_zero_makes_all_equal() -> None:
    """The only distribution with Gini 0 is the uniform one."""
    result = unbounded(np.array([0.7, 0.2, 0.1]), order=[gini_limit("country_gini", 3, 0.0)])
    np.testing.assert_allclose(result.shares, np.full(3, 1 / 3), atol=1e-7)


def test_country_bounds_bind_and_have_prices_of_opposite_sign() -> None:
    """A maximum is priced positive, a minimum negative, and the free country takes the rest."""
    lower, upper = np.array([0.0, 0.1, 0.0]), np.array([0.5, 1.0, 1.0])
    result = project(np.array([0.8, 0.01, 0.19]), [], [], lower, upper)
    np.testing.assert_allclose(result.shares, [0.5, 0.1, 0.4], atol=1e-9)
    assert result.bound_price[0] > 0.0 > result.bound_price[1]
    assert result.bound_price[2] == pytest.approx(0.0, abs=1e-9)
    assert abs(result.duality_gap) < 1e-8


def test_a_limit_that_does_not_bind_has_no_price() -> None:
    """Complementary slackness."""
    loose = LinearLimit("loose", np.array([1.0, 0.0]), 0.1)
    result = unbounded(np.array([0.5, 0.5]), [loose])
    assert result.prices["loose"] == 0.0
    assert result.violation["loose"] == pytest.approx(-0.4)


# Infeasible limits


def test_clashing_floors_are_named_and_innocent_limits_are_not() -> None:
    """Two floors above 1 together: exactly those two are named, with their values."""
    a = LinearLimit("floor A", np.array([1.0, 0.0, 0.0]), 0.7)
    b = LinearLimit("floor B", np.array([0.0, 1.0, 0.0]), 0.5)
    c = LinearLimit("floor C", np.array([0.0, 0.0, 1.0]), 0.1)
    with pytest.raises(InputError) as caught:
        unbounded(np.ones(3), [a, b, c])
    assert caught.value.code == "E_SHARES_INFEASIBLE"
    assert "floor A >= 0.7; floor B >= 0.5" in caught.value.message
    assert "floor C" not in caught.value.message


def test_a_floor_against_a_gini_limit_is_named() -> None:
    """One country with nine tenths cannot go with equality."""
    floor = LinearLimit("floor", np.array([1.0, 0.0, 0.0]), 0.9)
    with pytest.raises(InputError, match=r"floor >= 0\.9; country_gini <= 0\.1"):
        unbounded(np.ones(3), [floor], [gini_limit("country_gini", 3, 0.1)])


def test_country_maxima_that_cannot_hold_a_floor_are_named() -> None:
    """Capacities count as one limit, by name."""
    floor = LinearLimit("floor", np.array([1.0, 1.0, 0.0]), 0.5)
    upper = np.array([0.2, 0.2, 1.0])
    assert clashing_limits(3, [floor], [], np.zeros(3), upper) == ("floor", COUNTRY_MAXIMA)
    with pytest.raises(InputError, match=COUNTRY_MAXIMA):
        project(np.ones(3), [floor], [], np.zeros(3), upper)


def test_country_maxima_below_one_are_named() -> None:
    """Maxima alone may clash: their prices diverge, and no NaN slips through as a solution."""
    with pytest.raises(InputError, match=COUNTRY_MAXIMA) as caught:
        project(np.ones(3), [], [], np.zeros(3), np.full(3, 0.2))
    assert caught.value.code == "E_SHARES_INFEASIBLE"


def test_country_minima_above_one_are_named() -> None:
    """Minima alone may clash."""
    with pytest.raises(InputError, match=COUNTRY_MINIMA):
        project(np.ones(2), [], [], np.array([0.6, 0.6]), np.ones(2))


def test_feasible_limits_do_not_clash() -> None:
    """The proof of infeasibility never accuses a feasible set."""
    floor = LinearLimit("floor", np.array([1.0, 0.0, 0.0]), 0.5)
    assert clashing_limits(3, [floor], [gini_limit("gini", 3, 0.5)], np.zeros(3), np.ones(3)) == ()


@pytest.mark.parametrize("prior", [[0.0, 1.0], [-1.0, 1.0], [np.nan, 1.0], []])
def test_a_prior_must_be_positive(prior: list[float]) -> None:
    """Zero, negative, undefined and empty priors are refused by name."""
    with pytest.raises(InputError) as caught:
        unbounded(np.array(prior))
    assert caught.value.code == "E_SHARES_PRIOR"


# Against an independent solver


def conic(prior: Floats, linear: list[LinearLimit], order: list[OrderLimit], upper: Floats) -> Floats:
    """The same problem by cvxpy and Clarabel; order limits as sums of largest values."""
    x = cvxpy.Variable(prior.size)
    p = prior / prior.sum()
    constraints = [cvxpy.sum(x) == 1, x <= upper]
    constraints += [limit.coefficients @ x >= limit.minimum for limit in linear]
    for limit in order:
        steps = limit.weights - np.r_[limit.weights[1:], 0.0]
        last = float(limit.weights[-1])
        terms = [float(s) * cvxpy.sum_largest(x, k + 1) for k, s in enumerate(steps[:-1]) if s > 1e-15]
        constraints.append(cvxpy.sum(cvxpy.hstack(terms)) + last * cvxpy.sum(x) <= limit.maximum)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.kl_div(x, p))), constraints)
    problem.solve(solver=cvxpy.CLARABEL)
    assert problem.status == "optimal"
    return np.asarray(x.value, dtype=np.float64)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_conic_solver(seed: int) -> None:
    """Same optimum as interior-point cones on mild priors, all kinds of limits at once."""
    generator = np.random.default_rng(seed)
    n = 40
    prior = np.exp(generator.normal(0.0, 1.0, n))
    region = (np.arange(n) % 4 == 0).astype(np.float64)
    linear = [LinearLimit("floor", region, 0.45), LinearLimit("south", generator.random(n), 0.5)]
    order = [
        top_share_limit("top5", n, 5, 0.12),
        top_share_limit("top10", n, 10, 0.2),
        gini_limit("gini", n, 0.3),
    ]
    upper = np.full(n, 0.08)
    ours = project(prior, linear, order, np.zeros(n), upper)
    np.testing.assert_allclose(ours.shares, conic(prior, linear, order, upper), atol=2e-5)
    assert abs(ours.duality_gap) < 1e-7
    assert max(ours.violation.values()) < 1e-7


# Properties


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.floats(0.25, 0.8), st.floats(0.0, 2.5))
def test_the_projection_is_feasible_optimal_and_does_not_depend_on_order(
    seed: int, n: int, gini_max: float, steepness: float
) -> None:
    """Any prior: limits hold, the duality gap closes, and relabelling the countries relabels the shares."""
    generator = np.random.default_rng(seed)
    prior = np.exp(generator.normal(0.0, steepness, n))
    order = [gini_limit("gini", n, gini_max)]
    result = unbounded(prior, order=order)
    assert result.shares.sum() == pytest.approx(1.0, abs=1e-12)
    assert max(result.violation.values()) < 1e-7
    assert abs(result.duality_gap) < 1e-6
    relabel = generator.permutation(n)
    np.testing.assert_allclose(
        unbounded(prior[relabel], order=order).shares, result.shares[relabel], atol=1e-7
    )


# Quantisation


def test_quantise_by_hand() -> None:
    """Largest remainder; what a minimum adds comes from the smallest remainder; ties to the smaller index."""
    none = np.zeros(3, np.int64)
    assert quantise(np.array([0.5, 0.3, 0.2]), 11, none).tolist() == [6, 3, 2]
    assert quantise(np.ones(3) / 3, 10, none).tolist() == [4, 3, 3]
    assert quantise(np.array([0.6, 0.399, 0.001]), 10, np.ones(3, np.int64)).tolist() == [6, 3, 1]
    assert quantise(np.array([0.55, 0.44, 0.01]), 10, np.array([0, 0, 2])).tolist() == [5, 3, 2]


def test_minima_above_the_total_are_refused() -> None:
    """Four countries cannot have one of three units each."""
    with pytest.raises(InputError) as caught:
        quantise(np.ones(4), 3, np.ones(4, np.int64))
    assert caught.value.code == "E_SHARES_MINIMUM"


@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=50), st.integers(50, 10**6))
def test_quantise_keeps_total_minimum_and_closeness(values: list[float], total: int) -> None:
    """The sum is exact, the minimum is kept, and who is above it moves by less than the minima cost."""
    shares = np.array(values)
    minimum = np.ones(shares.size, np.int64)
    result = quantise(shares, total, minimum)
    assert int(result.sum()) == total
    assert bool(np.all(result >= minimum))
    assert bool(np.all(np.abs(result - shares / shares.sum() * total) <= 1.0 + shares.size))
