"""Values that are computed later: waited for, raised, copied."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from seg1b.later import Later


def test_a_value_is_computed_beside_and_waited_for() -> None:
    """It begins at once, in a thread of its own, once; asking again gives the same object."""
    begun, go_on = threading.Event(), threading.Event()
    calls = []

    def compute() -> list[int]:
        begun.set()
        assert go_on.wait(10.0)
        calls.append(threading.get_ident())
        return [1]

    later = Later(compute)
    assert begun.wait(10.0)
    assert not calls
    go_on.set()
    assert later.result() == [1]
    assert later.result() is later.result()
    assert len(calls) == 1
    assert calls[0] != threading.get_ident()


def test_what_computing_raises_is_raised_when_it_is_asked_for() -> None:
    """Every time, and when it is copied."""
    later = Later(lambda: 1 // 0)
    for ask in (later.result, later.result, lambda: pickle.dumps(later)):
        with pytest.raises(ZeroDivisionError):
            ask()


def test_a_copy_is_the_value() -> None:
    """Another process gets what was computed, not a thread."""
    copy = pickle.loads(pickle.dumps(Later(lambda: "value")))
    assert copy.result() == "value"
    assert Later.known(3).result() == 3


def test_a_value_may_wait_until_somebody_asks() -> None:
    """Nothing begins before; whoever asks then, from however many threads, gets the one value."""
    calls: list[int] = []

    def compute() -> list[int]:
        calls.append(threading.get_ident())
        return [1]

    later = Later(compute, when_asked=True)
    assert not calls
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: later.result(), range(8)))
    assert len(calls) == 1
    assert all(one is found[0] for one in found)
    assert pickle.loads(pickle.dumps(Later(lambda: "value", when_asked=True))).result() == "value"
