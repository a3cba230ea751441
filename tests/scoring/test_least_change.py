"""The least change of outlets that reaches a grade: exact gates hold after it, and nothing smaller does."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.policy.load import default_policies, set_values
from seg1b.scoring.changed_pairs import changed_pairs
from seg1b.scoring.country_metrics import country_metrics, market_slope
from seg1b.scoring.least_change import Grade, least_change

REGIONS = ("Africa", "Asia", "Europe", "North America", "South America", "Oceania")
NO_FLOORS = {f"gates.region_floors.{name}": 0.0 for name in REGIONS}
OPEN: dict[str, Any] = {
    **{f"gates.hard_gates.{name}.{grade}": 1.0 for name in ("country_gini", "top10_share", "top5_share", "top1_share")
       for grade in ("b", "b_plus")},
    **{f"gates.hard_gates.{name}.{grade}": 0.0
       for name in ("eligible_country_nonzero_share", "southern_hemisphere_share") for grade in ("b", "b_plus")},
    **NO_FLOORS,
    "gates.counter_metrics.prior_kl.max": 100.0,
    "gates.counter_metrics.market_slope.min": -100.0,
    "gates.counter_metrics.country_gini_lower_bound.min": 0.0,
}  # fmt: skip
"""Every gate wide open; a test shuts the ones it is about."""


def solve(
    counts: list[int],
    grade: Grade = "B",
    south: list[float] | None = None,
    more: dict[str, Any] | None = None,
    **shut: float,
) -> Any:
    """Of a small world: all countries eligible, equal priors, regions in turn. `more`: of what `least_change` takes."""
    n = len(counts)
    names = {f"gates.{name.replace('__', '.')}": value for name, value in shut.items()}
    names |= {f"{name}_plus": value for name, value in names.items() if name.endswith(".b")}
    gates = set_values(default_policies(), {**OPEN, **names}).gates
    return least_change(
        np.array(counts, np.int64),
        eligible=np.ones(n, np.bool_),
        macro_region=tuple(itertools.islice(itertools.cycle(REGIONS), n)),
        south=np.array(south or [0.0] * n),
        prior=np.full(n, 1.0 / n),
        market=np.arange(1.0, n + 1.0),
        gates=gates,
        grade=grade,
        **(more or {}),
    )


def test_a_catalogue_that_holds_needs_no_change() -> None:
    """And no gate has a price."""
    found = solve([5, 5, 5])
    assert (found.moved, found.prices, found.unmet) == (0, {}, ())


def test_a_top_share_by_hand() -> None:
    """100 of 190 outlets in the largest of ten countries, at most a fifth allowed: 40 must remain beside 90 x 10 / 9.

    Removing x: (100 - x) / (190 - x) <= .25 -> x >= 70; adding y: 100 / (190 + y) <= .25 -> y >= 210.
    """
    found = solve([100, *[10] * 9], hard_gates__top1_share__b=0.25)
    assert found.change is not None
    assert found.change[0] == pytest.approx(-70, abs=1)
    assert found.moved <= 72
    assert set(found.prices) == {"top1_share"}


def test_southern_outlets_by_hand() -> None:
    """Ten north, none south, a fifth wanted; moving two is 4, adding 2.5 is 3 rounded up."""
    found = solve([100, 1], south=[0.0, 1.0], hard_gates__southern_hemisphere_share__b=0.2)
    assert found.change is not None
    after = np.array([100, 1]) + found.change
    assert after[1] / after.sum() >= 0.2
    assert found.moved <= 25


def test_missing_countries_are_opened_with_an_outlet_each() -> None:
    """Coverage of nine in ten."""
    found = solve([50, 50, *[0] * 8], hard_gates__eligible_country_nonzero_share__b=0.9)
    assert found.change is not None
    assert ((np.array([50, 50, *[0] * 8]) + found.change) > 0).sum() == 9
    assert found.moved == 7


def test_counts_that_are_too_even_are_moved_towards_a_shape_that_is_not() -> None:
    """The lower bound of the Gini is not convex and not in the programme: the way to the target passes it."""
    counts, target = [100] * 10, np.arange(1.0, 11.0) / 55.0
    assert solve(counts, counter_metrics__country_gini_lower_bound__min=0.2).change is None
    found = solve(counts, more={"target": target}, counter_metrics__country_gini_lower_bound__min=0.2)
    after = np.array(counts) + found.change
    gini = country_metrics(after, np.ones(10, np.bool_))["country_gini"].value
    assert gini is not None
    assert 0.2 <= gini < 0.21
    assert found.unmet == ()
    assert found.moved < int(np.abs(np.rint(1000 * target) - 100).sum())


def test_a_slope_is_reached_on_the_way_to_a_target() -> None:
    """Markets are 1 to 10; the target follows them."""
    target = np.arange(1.0, 11.0) / 55.0
    found = solve([100] * 10, more={"target": target}, counter_metrics__market_slope__min=0.4)
    after = np.array([100] * 10) + found.change
    slope = market_slope(after, np.arange(1.0, 11.0)).value
    assert slope is not None
    assert 0.4 <= slope < 0.42


def test_intervals_are_left_the_room_they_take() -> None:
    """As by hand above, with a width of .05: at most .2 of the outlets, 22.5 beside the other 90."""
    found = solve([100, *[10] * 9], more={"widths": {"top1_share": 0.05}}, hard_gates__top1_share__b=0.25)
    assert found.change is not None
    assert found.change[0] == pytest.approx(-77.5, abs=1)


def test_a_closed_country_gets_nothing_and_stays_in_the_prior() -> None:
    """Without it the others diverge from the prior by -log(9/10): a bound below that cannot be met."""
    closed = np.arange(10) == 9
    counts = [50, *[40] * 8, 0]
    bound = -math.log(0.9)
    assert solve(counts, more={"closed": closed}, counter_metrics__prior_kl__max=0.99 * bound).change is None
    found = solve(counts, more={"closed": closed}, counter_metrics__prior_kl__max=1.01 * bound)
    assert found.change is not None
    assert found.change[9] == 0


def test_merchants_grow_and_shrink_in_proportion() -> None:
    """Two merchants of 6 and 3 give up a third; a country that had none gets new ones; one is closed."""
    merchant, country, sites = changed_pairs(
        np.array([2, 7, 7], np.uint64),
        np.array([0, 0, 2], np.int16),
        np.array([6, 3, 4]),
        np.array([-3, 9, -4]),
    )
    assert merchant.tolist() == [2, 7, 1, 3, 4, 5, 6, 8, 9, 10, 11]
    assert country.tolist() == [0, 0, *[1] * 9]
    assert sites.tolist() == [4, 2, *[1] * 9]


def test_merchants_shrink_evenly_and_new_ones_come() -> None:
    """One from each in turn closes the smallest; the odd outlet is the largest's; the other country gets a newcomer."""
    merchant, country, sites = changed_pairs(
        np.array([2, 3, 4, 2], np.uint64),
        np.array([0, 0, 0, 1], np.int16),
        np.array([6, 3, 1, 5]),
        np.array([-6, 2]),
        evenly=True,
    )
    assert merchant.tolist() == [2, 3, 2, 1, 5]
    assert country.tolist() == [0, 0, 1, 1, 1]
    assert sites.tolist() == [3, 1, 5, 1, 1]


def test_what_no_counts_can_meet_is_said() -> None:
    """A region without any country cannot have a floor of outlets."""
    found = solve([10, 10], region_floors__Oceania=0.1)
    assert found.change is None
    assert "region_floor.Oceania" in found.unmet


@settings(max_examples=25)
@given(st.lists(st.integers(1, 400), min_size=8, max_size=30), st.floats(0.2, 0.5), st.floats(0.3, 0.8))
def test_the_changed_counts_hold_exactly(counts: list[int], gini: float, top: float) -> None:
    """Judged by the exact metrics, not by the programme that found them."""
    found = solve(
        [50 * n for n in counts],
        hard_gates__country_gini__b=gini,
        hard_gates__top10_share__b=top,
    )
    if found.change is None:
        assert found.unmet
        return
    after = np.array([50 * n for n in counts]) + found.change
    metrics = country_metrics(after, np.ones(len(counts), np.bool_))
    assert (metrics["country_gini"].value or 0.0) <= gini
    assert (metrics["top10_share"].value or 0.0) <= top
    assert (after >= 1).all()


@pytest.mark.parametrize("counts", [[9, 3, 2], [12, 1, 1], [8, 7, 1]])
def test_no_smaller_change_would_do(counts: list[int]) -> None:
    """All smaller changes of three countries are tried: at most rounding (an outlet per country) is lost."""
    scaled = [10 * n for n in counts]
    found = solve(scaled, hard_gates__country_gini__b=0.2)
    assert found.change is not None
    eligible = np.ones(3, np.bool_)
    best = found.moved
    reach = range(-60, 61, 2)
    for change in itertools.product(reach, repeat=3):
        size = sum(map(abs, change))
        after = np.array(scaled) + np.array(change)
        if size < best and (after >= 1).all():
            value = country_metrics(after, eligible)["country_gini"].value
            if value is not None and value <= 0.2:
                best = size
    assert found.moved - best <= 3
