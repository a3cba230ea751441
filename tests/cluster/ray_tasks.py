"""Module-level task functions for the executor tests; worker processes import them from here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seg1b.errors import InputError
from seg1b.store.store import Store

Shared = Mapping[str, Any]
HERE = str(Path(__file__).parent)


def square(shared: Shared, number: int) -> int:
    """The square, after a moment in which others can work too."""
    time.sleep(0.02)
    return number * number


def process_id(shared: Shared, wait_s: float) -> int:
    """Who runs this."""
    time.sleep(wait_s)
    return os.getpid()


def total(shared: Shared, name: str, index: int) -> int:
    """Use a shared array."""
    return int(shared[name].values[index:].sum())


def array_facts(shared: Shared, name: str) -> dict[str, Any]:
    """Whether a shared array may be written, and whether it owns its memory."""
    values: np.ndarray[Any, Any] = shared[name].values
    return {"writeable": values.flags.writeable, "owns": values.flags.owndata, "address": values.ctypes.data}


def shared_names(shared: Shared) -> list[str]:
    """Which shared values a task sees."""
    return sorted(shared)


def shared_value(shared: Shared, name: str) -> Any:
    """A shared value."""
    return shared[name]


def note_and_fail(shared: Shared, folder: str, code: str) -> None:
    """Leave a trace of each execution, then raise our own error."""
    note(folder)
    raise InputError(code, "the catalogue has a gap", where="row 7", next_step="close the gap")


def note_and_divide(shared: Shared, folder: str) -> float:
    """Leave a trace of each execution, then hit a bug."""
    note(folder)
    return 1 / 0


def fail_with_odd_exception(shared: Shared) -> None:
    """Raise something that cannot be unpickled."""

    class OddError(Exception):
        """Local to this function, so no other process can build it."""

    raise OddError("seven is odd")


def unpicklable_receipt(shared: Shared) -> Any:
    """Return something that cannot leave the process."""
    return lambda: 7


def die_at_first(shared: Shared, folder: str, deaths: int, number: int) -> int:
    """Kill this process the first `deaths` times, then work."""
    if note(folder) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def publish(shared: Shared, store: Store, key: str) -> int:
    """Publish an output; who did."""
    with store.transaction("s3", key) as publication:
        publication.facts["n"] = 1
    return os.getpid()


def note(folder: str) -> int:
    """Count the executions so far in a folder, this one included."""
    Path(folder, f"{time.monotonic_ns()}-{os.getpid()}").touch()
    return len(list(Path(folder).iterdir()))


def thread_limits(shared: Shared) -> dict[str, Any]:
    """How many threads the libraries in this process would use."""
    import numba
    import polars

    return {"polars": polars.thread_pool_size(), "numba": numba.config.NUMBA_NUM_THREADS}


def python_path() -> str:
    """PYTHONPATH with which worker processes find the task functions of these tests, and the packages."""
    return os.pathsep.join([HERE, str(Path(HERE).parents[1])])
