"""Sorts made for what is sorted: against numpy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.kernels.sorting import sort_with_values


@settings(max_examples=40)
@given(data=st.data())
def test_values_follow_their_keys(data: st.DataObject) -> None:
    """Few keys and many, all equal, negative, and as far apart as 64 bits allow: sorted, each with its value."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    n = data.draw(st.sampled_from([0, 1, 40, 41, 300, 5000]))
    kind = data.draw(st.sampled_from(["equal", "few", "dense", "skewed", "extreme"]))
    if kind == "equal":
        key = np.full(n, 7, np.int64)
    elif kind == "skewed":
        key = rng.pareto(0.3, n).view(np.int64)
    else:
        low, high = {"few": (-3, 3), "dense": (0, n + 1), "extreme": (-(2**63), 2**63 - 1)}[kind]
        key = rng.integers(low, high, n, dtype=np.int64)
    value = np.arange(n, dtype=np.int64)
    found = key.copy()
    sort_with_values(found, value, np.empty(n, np.int64), np.empty(n, np.int64))
    assert np.array_equal(found, np.sort(key))
    assert np.array_equal(key[value], found)
    assert np.array_equal(np.sort(value), np.arange(n))
