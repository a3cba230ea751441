"""Largest-remainder apportionment, over runs and per tile."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import ContractError
from seg1b.kernels.apportionment import (
    MASS_SUM_MAX,
    TOTAL_MAX,
    apportion,
    blend_masses_v1,
    neumaier_sum,
    quantise_runs,
    quantise_v1,
)


def exact(masses: list[int], total: int) -> list[int]:
    """The definition in fractions; all-zero masses count as equal."""
    if not any(masses):
        masses = [1] * len(masses)
    quotas = [Fraction(m * total, sum(masses)) for m in masses]
    shares = [q.numerator // q.denominator for q in quotas]
    rank = sorted(range(len(masses)), key=lambda i: (shares[i] - quotas[i], i))
    for i in rank[: total - sum(shares)]:
        shares[i] += 1
    return shares


MASS = st.integers(0, 4) | st.integers(0, 10**15)
RUNS = st.lists(st.tuples(st.integers(1, 6), MASS), min_size=1, max_size=14)
TOTAL = st.integers(1, 50) | st.integers(1, 10**15) | st.just(TOTAL_MAX)


@given(RUNS, TOTAL)
def test_runs_give_what_tiles_give(runs: list[tuple[int, int]], total: int) -> None:
    """Runs, expanded, have the weights of the exact method on the expanded tiles; the sum is the total."""
    length = np.array([k for k, _ in runs], dtype=np.int32)
    mass = np.array([m for _, m in runs], dtype=np.int64)
    quantised = quantise_runs(length, mass, total)
    expanded = np.repeat(mass, length)
    assert np.repeat(quantised.weight, quantised.length).tolist() == exact(expanded.tolist(), total)
    assert int((quantised.weight * quantised.length).sum()) == total
    assert len(quantised.length) - len(length) == (quantised.split_run >= 0)
    tile0 = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.int64)
    assert quantised.tile0(tile0).tolist() == [0, *np.cumsum(quantised.length)[:-1].tolist()]
    assert quantised.zero_mass_fallback == (not mass.any())


@given(st.lists(MASS, min_size=1, max_size=20), st.integers(0, 10**16))
def test_single_masses_and_large_totals_are_exact(masses: list[int], total: int) -> None:
    """Both paths of apportion, machine integers and Python integers, follow the definition."""
    assert apportion(np.array(masses, dtype=np.int64), total).tolist() == exact(masses, total)


def test_the_cut_splits_one_run_in_row_major_order() -> None:
    """Ten equal tiles in one run and a total of 13: the first three tiles get 2."""
    quantised = quantise_runs(np.array([10], dtype=np.int32), np.array([5], dtype=np.int64), 13)
    assert quantised.length.tolist() == [3, 7]
    assert quantised.weight.tolist() == [2, 1]
    assert quantised.split_run == 0
    assert quantised.tile0(np.array([100], dtype=np.int64)).tolist() == [100, 103]


def test_zero_mass_falls_back_to_uniform_and_says_so() -> None:
    """No population anywhere: every tile counts the same."""
    quantised = quantise_runs(np.array([2, 3], dtype=np.int32), np.zeros(2, dtype=np.int64), 7)
    assert quantised.zero_mass_fallback
    assert np.repeat(quantised.weight, quantised.length).tolist() == [2, 2, 1, 1, 1]


def test_exact_at_the_bounds() -> None:
    """Sum of masses 2^60 and total 2^50, the largest that the machine arithmetic promises."""
    masses = [MASS_SUM_MAX - 1, 1]
    assert exact(masses, TOTAL_MAX) == apportion(np.array(masses), TOTAL_MAX).tolist()
    third = MASS_SUM_MAX // 3
    masses = [third, third, MASS_SUM_MAX - 2 * third]
    quantised = quantise_runs(np.ones(3, dtype=np.int32), np.array(masses), TOTAL_MAX)
    assert quantised.weight.tolist() == exact(masses, TOTAL_MAX)


def test_beyond_the_bounds_is_an_error() -> None:
    """Nothing wraps silently."""
    one = np.ones(1, dtype=np.int32)
    for mass, total in (([MASS_SUM_MAX + 1], 10), ([2**62], 10), ([1], TOTAL_MAX + 1), ([1], 0), ([-1], 5)):
        with pytest.raises(ContractError) as caught:
            quantise_runs(one, np.array(mass, dtype=np.int64), total)
        assert caught.value.code == "E105"
    with pytest.raises(ContractError) as caught:
        quantise_runs(np.array([2**31 - 1], dtype=np.int32), np.array([2**40], dtype=np.int64), 10)
    assert caught.value.code == "E105"
    for lengths in ([], [0]):
        with pytest.raises(ContractError) as caught:
            quantise_runs(np.array(lengths, dtype=np.int32), np.ones(len(lengths), dtype=np.int64), 10)
        assert caught.value.code == "E103"
    with pytest.raises(ContractError, match="E103"):
        apportion(np.empty(0, dtype=np.int64), 1)


def test_big_sums_of_masses_go_through_python_integers() -> None:
    """int64 masses whose sum does not fit are still apportioned exactly."""
    masses = [2**63 - 1, 2**63 - 1, 2**62]
    assert apportion(np.array(masses), 10**17).tolist() == exact(masses, 10**17)


@given(RUNS, st.integers(1, 10**6))
def test_a_larger_mass_never_gets_less(runs: list[tuple[int, int]], total: int) -> None:
    """Monotone, up to the one unit of a tie."""
    mass = np.array([m for _, m in runs], dtype=np.int64)
    weight = apportion(mass, total)
    order = np.argsort(mass, kind="stable")
    assert bool((np.diff(weight[order]) >= -1).all())


def test_v1_quotas_are_binary64_and_differ_from_exact_ones() -> None:
    """The published counter-example of the first engine's formula."""
    mass = np.array([12.0, 10, 10, 2, 11])
    assert quantise_v1(mass, 10)[0].tolist() == [3, 2, 2, 0, 3]
    assert quantise_v1(np.zeros(3), 10)[1]
    assert quantise_v1(np.array([1.0, 1, 1]), 10)[0].tolist() == [4, 3, 3]
    for bad in (np.array([np.nan]), np.array([-1.0]), np.empty(0)):
        with pytest.raises(ContractError):
            quantise_v1(bad, 10)


def test_v1_mix_of_components_is_normalised_and_replaces_an_empty_one() -> None:
    """A component that sums to 0 counts as uniform."""
    area = np.array([1.0, 3.0])
    assert blend_masses_v1(0.5, 0.5, 0.0, area, np.zeros(2)).tolist() == [0.375, 0.625]
    assert blend_masses_v1(0.0, 0.0, 1.0, area, np.zeros(2)).tolist() == [0.5, 0.5]


def test_the_compensated_sum_keeps_small_terms() -> None:
    """1 + 1e100 + 1 - 1e100 is 2."""
    assert neumaier_sum(np.array([1.0, 1e100, 1.0, -1e100])) == 2.0
