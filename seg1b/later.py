"""Values that are computed beside what does not need them yet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """A value that a thread of its own computes from now on. Copied to another process, it is the value."""

    def __init__(self, compute: Callable[[], T]) -> None:
        pool = ThreadPoolExecutor(1)
        self._future: Future[T] = pool.submit(compute)
        pool.shutdown(wait=False)

    @classmethod
    def known(cls, value: T) -> Later[T]:
        """A value that is there."""
        one: Later[T] = cls.__new__(cls)
        one._future = Future()
        one._future.set_result(value)
        return one

    def result(self) -> T:
        """The value, waited for if need be. Raises what computing it raised, every time."""
        return self._future.result()

    def __reduce__(self) -> tuple[Any, ...]:
        return Later.known, (self.result(),)
