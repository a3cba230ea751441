"""One way to compile a kernel, so that every kernel has the same numeric contract.

No fast-math and no parallel loops: results must not depend on the CPU's reassociation or on a thread count.
The GIL is released, so a caller may run kernels on different countries in different threads.

Compiling is the dear part of a first run, so what it does not need is left out: the entry for callers in C
(`no_cfunc_wrapper`, an eighth of the time), and looking for garbage among the compiler's many live objects (a seventh).
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core import cpu, event
from numba.core.runtime import rtsys


def _refresh_when_compiling(context: Any) -> None:
    """What numba does before it compiles a kernel or reads one from the cache; here only if it compiles.

    It looks for new implementations of all that a kernel could call, and imports them the first time, which is half of
    what a process with cached kernels would wait for; code that is read needs the memory runtime alone. It also imports
    `scipy.linalg`, to see whether `np.dot` could be compiled. No kernel multiplies matrices; one that did would not
    compile.
    """
    if not _compilations.depth:
        rtsys.initialize(context)
        return
    if "scipy.linalg" in sys.modules:
        _refresh(context)
        return
    sys.modules["scipy.linalg"] = None  # type: ignore[assignment]  # to import it is an ImportError
    try:
        _refresh(context)
    finally:
        del sys.modules["scipy.linalg"]


_refresh = cpu.CPUContext.refresh
cpu.CPUContext.refresh = _refresh_when_compiling

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
ArrayT = TypeVar("ArrayT", bound=npt.NDArray[np.generic])

_helpers = threading.local()
_OPTIONS: dict[str, Any] = {
    "cache": True, "nogil": True, "fastmath": False, "error_model": "numpy", "no_cfunc_wrapper": True,
}  # fmt: skip


def njit(function: FunctionT) -> FunctionT:
    """Compile `function` to machine code, cached on disk, without the GIL, in strict IEEE arithmetic."""
    return cast(FunctionT, numba.njit(**_OPTIONS)(function))


def inline(function: FunctionT) -> FunctionT:
    """As `njit`, but copied into its callers: for the small functions inside hot loops."""
    return cast(FunctionT, numba.njit(**_OPTIONS, inline="always")(function))


class _Compilations(event.Listener):  # type: ignore[misc]
    """Knows how many there are (they nest, under numba's own lock), and stops the garbage collector meanwhile."""

    def __init__(self) -> None:
        self.depth = 0
        self._was_enabled = False

    def on_start(self, event: object) -> None:
        """A compilation begins."""
        if self.depth == 0:
            self._was_enabled = gc.isenabled()
            gc.disable()
        self.depth += 1

    def on_end(self, event: object) -> None:
        """A compilation has ended, with a result or an error."""
        self.depth -= 1
        if self.depth == 0 and self._was_enabled:
            gc.enable()


_compilations = _Compilations()
event.register("numba:compile", _compilations)


def read_only(array: ArrayT) -> ArrayT:
    """A view that cannot be written: a kernel is compiled for read-only and for writable arrays apart."""
    view = array.view()
    view.setflags(write=False)
    return view


def threads() -> int:
    """Threads that this process may use (NUMBA_NUM_THREADS, else the CPUs it may run on)."""
    return int(numba.config.NUMBA_NUM_THREADS)


def in_chunks(
    function: Callable[[int, int], object], n: int, before: npt.NDArray[np.int64] | None = None
) -> None:
    """Call `function(start, stop)` for consecutive ranges that cover 0..n, one thread each.

    For kernels whose results for one range do not depend on the others: then neither do they on the thread count.
    `before` (n + 1 ascending offsets) says how much work comes before each item, if items differ.
    """
    workers = max(1, min(threads(), n))
    if workers == 1:
        function(0, n)
        return
    if before is None:
        bounds = [n * i // workers for i in range(workers + 1)]
    else:
        aims = [int(before[-1]) * i // workers for i in range(1, workers)]
        bounds = [0, *np.searchsorted(before[1:], aims, side="right").tolist(), n]

    def timed(start: int, stop: int) -> float:
        before_s = cpu_s()
        function(start, stop)
        return cpu_s() - before_s

    with ThreadPoolExecutor(workers) as pool:
        _helpers.cpu_s = _helped_s() + sum(
            pool.map(timed, bounds[:-1], bounds[1:])
        )  # raises what a call raised


def side_by_side(*jobs: Callable[[], object]) -> list[Any]:
    """The results of independent jobs, in the order of the jobs, which run at once where this process has threads."""
    results: list[Any] = [None] * len(jobs)

    def run(start: int, stop: int) -> None:
        for place in range(start, stop):
            results[place] = jobs[place]()

    in_chunks(run, len(jobs))
    return results


def cpu_s() -> float:
    """CPU seconds of this thread and of those that `in_chunks` ran for it; only differences mean anything."""
    return time.thread_time() + _helped_s()


def _helped_s() -> float:
    return float(getattr(_helpers, "cpu_s", 0.0))
