"""BCa intervals: against scipy, and the cases in which there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from seg1b.kernels.bca import bca_interval


def test_bca_equals_scipy_on_the_same_replicates() -> None:
    """scipy is given our replicates and must find our interval."""
    rng = np.random.default_rng(12)
    data = rng.lognormal(0, 1, 40)
    replicates = np.array([rng.choice(data, 40).var() for _ in range(999)])
    jackknife = np.array([np.delete(data, i).var() for i in range(40)])
    own = bca_interval(float(data.var()), replicates, jackknife, 0.95)
    bootstrap: Any = stats.bootstrap
    scipys = bootstrap(
        (data,),
        np.var,
        n_resamples=0,
        method="BCa",
        confidence_level=0.95,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=replicates),
    ).confidence_interval
    assert own is not None
    assert own.method == "bca"
    assert (own.low, own.high) == pytest.approx((scipys.low, scipys.high), rel=1e-12)


def test_one_sided_replicates_have_no_bca_and_say_so() -> None:
    """All replicates below the observed value: percentile interval, labelled."""
    interval = bca_interval(5.0, np.arange(101.0) / 100, np.array([5.0, 4.0, 5.0]), 0.90)
    assert interval is not None
    assert interval.method == "percentile"
    assert (interval.low, interval.high) == pytest.approx((0.05, 0.95))


def test_a_constant_is_a_point() -> None:
    """Nothing varies: the interval is the value."""
    interval = bca_interval(0.25, np.full(50, 0.25), np.full(4, 0.25), 0.95)
    assert interval is not None
    assert (interval.low, interval.high, interval.method) == (0.25, 0.25, "point")


@pytest.mark.parametrize(
    ("observed", "replicates", "jackknife"),
    [
        (1.0, [], [1.0, 2.0]),
        (1.0, [1.0, 2.0], [1.0]),
        (float("nan"), [1.0], [1.0, 2.0]),
        (1.0, [1.0], [1.0, np.inf]),
    ],
)
def test_what_cannot_be_computed_is_none(
    observed: float, replicates: list[float], jackknife: list[float]
) -> None:
    """No replicates, one merchant, or a value that is not finite."""
    assert bca_interval(observed, np.array(replicates), np.array(jackknife), 0.95) is None
