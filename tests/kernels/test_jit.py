"""Chunks of work cover everything once, in order, in about the same size; whoever asked for them pays for them."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.kernels.jit import cpu_s, in_chunks, side_by_side


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


def burn(seconds: float) -> None:
    """Use so much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_cpu_seconds_count_the_threads_that_worked_for_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four chunks of 0.05 s each, nested ones too; waiting costs nothing."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    before = cpu_s()
    in_chunks(lambda start, stop: burn(0.05 * (stop - start)), 2)
    flat = cpu_s() - before
    in_chunks(lambda *_: in_chunks(lambda *_: burn(0.05), 2), 2)
    nested = cpu_s() - before - flat
    time.sleep(0.05)
    idle = cpu_s() - before - flat - nested
    assert 0.1 <= flat < 0.2
    assert 0.2 <= nested < 0.35
    assert idle < 0.04


def test_cpu_seconds_of_one_thread_are_not_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shards side by side: what one's kernels used does not stand in the other's times."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    found: dict[str, float] = {}

    def measure(name: str, seconds: float) -> None:
        before = cpu_s()
        in_chunks(lambda *_: burn(seconds), 2)
        found[name] = cpu_s() - before

    threads = [threading.Thread(target=measure, args=given) for given in (("busy", 0.1), ("lazy", 0.001))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= found["busy"] < 0.3
    assert found["lazy"] < 0.1


def test_an_error_in_a_chunk_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the clock goes on."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)

    def fail(start: int, _: int) -> None:
        if start:
            raise ZeroDivisionError("second chunk")

    before = cpu_s()
    with pytest.raises(ZeroDivisionError, match="second chunk"):
        in_chunks(fail, 2)
    assert cpu_s() >= before


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_jobs_side_by_side_keep_their_order_and_their_errors(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Whatever finishes first; the first error is raised."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
    met = threading.Barrier(2, timeout=10.0) if threads > 1 else None

    def job(name: str) -> str:
        if met is not None:
            met.wait()  # both run at once, or this breaks
        return name

    assert side_by_side(lambda: job("slow"), lambda: job("quick")) == ["slow", "quick"]
    assert side_by_side() == []
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda: 1, lambda: 1 // 0)


def test_a_kernel_does_not_load_scipys_matrices_and_leaves_them_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what only compiling takes, once it is compiled. Numba looks for a BLAS, by importing `scipy.linalg`."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    code = (
        "import sys, numpy as np; from seg1b.kernels.philox import fill; x = np.zeros(2, np.uint64);"
        "fill(np.uint64(0), np.uint64(0), np.uint64(0), x, x.copy());"
        "assert int(x[0]) == 0xca00a0459843d731; assert 'scipy.linalg' not in sys.modules;"
        "print('numba.np.linalg' in sys.modules);"
        "import scipy.linalg; assert scipy.linalg.det(np.eye(2)) == 1.0"
    )
    compiled, cached = (
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
        for _ in range(2)
    )
    assert (compiled.stdout, cached.stdout) == ("True\n", "False\n")
