"""Work that copies of this process share: for what holds Python's lock, and ends before other processes have started.

A copy (`fork`) has everything loaded that this process has, and takes some milliseconds. It is made on Linux alone, and
only of a process with one thread, since a copy has no other; elsewhere the work is done one after the other. What is
computed must depend on its item alone: then the results are the same either way.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from seg1b.cpus import usable_cpus

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def share_out(work: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
    """`work` of every item, in their order; the results of copies are pickled. Raises what the first to fail raises."""
    workers = min(usable_cpus(), len(items)) if _can_fork() else 1
    if workers > 1:
        copies: list[_Copy[ResultT]] = []
        try:
            copies += (_Copy(work, items[first::workers]) for first in range(1, workers))
            parts = [[work(item) for item in items[::workers]], *(copy.results() for copy in copies)]
            return [parts[place % workers][place // workers] for place in range(len(items))]
        except Exception:  # noqa: BLE001 - whatever it was, it comes again below, with the first item that it befalls
            pass
        finally:
            for copy in copies:
                copy.end()
    return [work(item) for item in items]


def _can_fork() -> bool:
    return sys.platform == "linux" and threading.active_count() == 1


class _Copy(Generic[ResultT]):
    """A copy of this process at work on some items."""

    def __init__(self, work: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> None:
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _work_and_end(work, items, write)
        os.close(write)

    def results(self) -> list[ResultT]:
        """What it found, waited for. Raises EOFError or UnpicklingError if it did not come to an end."""
        with open(self._read, "rb", closefd=False) as pipe:
            found: list[ResultT] = pickle.load(pipe)
        return found

    def end(self) -> None:
        """Stop it if it still works, and leave nothing of it behind."""
        os.close(self._read)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _work_and_end(work: Callable[[ItemT], ResultT], items: Sequence[ItemT], write: int) -> None:
    """All that a copy does; it ends here whatever happens, without a word: its results are missing then."""
    try:
        with open(write, "wb") as pipe:
            pipe.write(pickle.dumps([work(item) for item in items], pickle.HIGHEST_PROTOCOL))
    finally:
        os._exit(0)
