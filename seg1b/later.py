"""Values that are computed beside what does not need them yet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """A value that a thread of its own computes from now on, or (`when_asked`) from when somebody asks first.

    Copied to another process, it is the value.
    """

    def __init__(self, compute: Callable[[], T], *, when_asked: bool = False) -> None:
        self._compute, self._lock = compute, threading.Lock()
        self._future: Future[T] | None = None
        if not when_asked:
            self._begun()

    @classmethod
    def known(cls, value: T) -> Later[T]:
        """A value that is there."""
        one: Later[T] = cls(lambda: value, when_asked=True)
        one._future = Future()
        one._future.set_result(value)
        return one

    def _begun(self) -> Future[T]:
        with self._lock:
            if self._future is None:
                pool = ThreadPoolExecutor(1)
                self._future = pool.submit(self._compute)
                pool.shutdown(wait=False)
            return self._future

    def result(self) -> T:
        """The value, waited for if need be. Raises what computing it raised, every time."""
        return self._begun().result()

    def __reduce__(self) -> tuple[Any, ...]:
        return Later.known, (self.result(),)
