"""Quantiles: by hand, and bit for bit as numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.quantiles import quantile_sorted


def test_between_two_values_it_is_linear() -> None:
    """Of 10, 20, 40: the ends, the middle, and a quarter of the way."""
    values = np.array([10.0, 20.0, 40.0])
    assert [quantile_sorted(values, level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)] == [10, 15, 20, 30, 40]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.floats(0.0, 1.0))
def test_it_is_numpys_quantile_to_the_last_bit(values: list[float], level: float) -> None:
    """The published numbers can be checked with numpy alone."""
    ascending = np.sort(np.array(values))
    assert quantile_sorted(ascending, level) == float(np.quantile(ascending, level))


def test_no_values_have_no_quantile() -> None:
    """Nothing is made up for an empty list."""
    with pytest.raises(IndexError):
        quantile_sorted(np.empty(0), 0.5)
