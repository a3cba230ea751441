"""Chunks of work: they cover everything once, in order, and are of about the same size."""

from __future__ import annotations

import itertools
import threading

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.jit import in_chunks


def chunks_of(n: int, threads: int, sizes: list[int] | None = None) -> list[tuple[int, int]]:
    """The ranges that a function is called with, in order."""
    calls: list[tuple[int, int]] = []
    lock = threading.Lock()

    def note(start: int, stop: int) -> None:
        with lock:
            calls.append((start, stop))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        in_chunks(note, n, None if sizes is None else np.cumsum([0, *sizes]))
    return sorted(calls)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 5), st.booleans())
def test_chunks_cover_everything_once(sizes: list[int], threads: int, weighed: bool) -> None:
    """From 0 to n, one after the other, no more than there are threads."""
    n = len(sizes)
    calls = chunks_of(n, threads, sizes if weighed else None)
    assert calls[0][0] == 0
    assert max(stop for _, stop in calls) == n
    assert all(a[1] == b[0] for a, b in itertools.pairwise(calls))
    assert len(calls) <= threads


def test_items_of_one_size_are_shared_evenly() -> None:
    """Two blocks and two threads: one each, told with sizes or without."""
    for sizes in (None, [5] * 6):
        assert chunks_of(6, 2, sizes) == [(0, 3), (3, 6)]
        assert chunks_of(6, 3, sizes) == [(0, 2), (2, 4), (4, 6)]
    assert chunks_of(2, 2, [7, 7]) == [(0, 1), (1, 2)]


def test_a_large_item_counts_for_what_it_is() -> None:
    """Ten small ones weigh as much as one large."""
    assert chunks_of(11, 2, [10] + [1] * 10) == [(0, 1), (1, 11)]
