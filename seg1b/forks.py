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
from typing import Any, Generic, TypeVar

from seg1b.cpus import usable_cpus

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_PARTS_MAX = 1 << 11
"""Two bytes each: they fit into the smallest pipe that Linux makes."""


def share_out(work: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
    """`work` of every item, in their order; whoever is free takes the next one. The results of copies are pickled.

    Raises what the first item to fail raises.
    """
    workers = min(usable_cpus(), len(items)) if _can_fork() else 1
    if workers > 1:
        copies: list[_Copy[ResultT]] = []
        parts = _Parts(items)
        try:
            for _ in range(workers - 1):
                copies.append(_Copy(work, parts, copies))
            found = parts.work_off(work)
            for copy in copies:
                found.update(copy.results())
            return [found[place] for place in range(len(items))]
        except Exception:  # noqa: BLE001 - whatever it was, it comes again below, with the first item that it befalls
            pass
        finally:
            for copy in copies:
                copy.end()
            parts.close()
    return [work(item) for item in items]


def _can_fork() -> bool:
    return sys.platform == "linux" and threading.active_count() == 1


class _Parts(Generic[ItemT]):
    """Items that processes take from a pipe, in order, each once: a part's number in it stands for a few of them.

    A read takes two bytes or none: Linux locks a pipe while it is read.
    """

    def __init__(self, items: Sequence[ItemT]) -> None:
        self._items, self._count = items, min(len(items), _PARTS_MAX)
        self.read_end, write = os.pipe()
        os.write(write, b"".join(number.to_bytes(2, "big") for number in range(self._count)))
        os.close(write)

    def work_off(self, work: Callable[[ItemT], ResultT]) -> dict[int, ResultT]:
        """Place of an item -> its result, of the parts that nobody else takes."""
        found = {}
        while number := os.read(self.read_end, 2):
            for place in range(int.from_bytes(number, "big"), len(self._items), self._count):
                found[place] = work(self._items[place])
        return found

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self.read_end)


class _Copy(Generic[ResultT]):
    """A copy of this process at work on some items; it ends with this process, whatever ends that."""

    def __init__(
        self, work: Callable[[ItemT], ResultT], parts: _Parts[ItemT], others: Sequence[_Copy[Any]]
    ) -> None:
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _work_and_end(work, parts, write, [self._read, *(other._read for other in others)])
        os.close(write)

    def results(self) -> dict[int, ResultT]:
        """What it found, waited for. Raises EOFError or UnpicklingError if it did not come to an end."""
        with open(self._read, "rb", closefd=False) as pipe:
            found: dict[int, ResultT] = pickle.load(pipe)
        return found

    def end(self) -> None:
        """Stop it if it still works, and leave nothing of it behind."""
        os.close(self._read)
        with suppress(
            ProcessLookupError, ChildProcessError
        ):  # where SIGCHLD is ignored nobody has to wait for it
            if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)


def _work_and_end(
    work: Callable[[ItemT], ResultT], parts: _Parts[ItemT], write: int, not_its_own: Sequence[int]
) -> None:
    """All that a copy does; it ends here whatever happens, without a word: its results are missing then.

    With the reading ends of pipes open (`not_its_own`) it would wait for ever for a reader that is gone, and with the
    streams of a process that was killed keep whoever reads them waiting.
    """
    try:
        for descriptor in not_its_own:
            os.close(descriptor)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in {1, 2} - {write, parts.read_end}:  # where they were closed they may be anything
            os.dup2(nowhere, stream)
        with open(write, "wb") as pipe:
            pipe.write(pickle.dumps(parts.work_off(work), pickle.HIGHEST_PROTOCOL))
    finally:
        os._exit(0)
