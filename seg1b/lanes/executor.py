"""What a lane needs from whoever runs its tasks, and the plain implementations that run them here.

A task is a module-level function, its small arguments, and a predicted cost. Large read-only inputs are *shared*
once by name and handed to every task as its first argument. Results are small receipts: durable state is in files
that the task itself published. An executor may run tasks in any order, anywhere, and again after a crash; it
returns the same receipts.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from seg1b.cpus import usable_cpus
from seg1b.store.retention import Plan
from seg1b.store.store import Store

Shared = Mapping[str, Any]
TaskFunction = Callable[..., Any]


@dataclass(frozen=True)
class Task:
    """One unit of work: `function(shared, *arguments)`, named by `key`; larger `cost` starts earlier."""

    key: tuple[str, ...]
    function: TaskFunction
    arguments: tuple[Any, ...] = ()
    cost: float = 0.0


@dataclass(frozen=True)
class Completion:
    """A finished task, its receipt, and which process ran it."""

    task: Task
    receipt: Any
    worker: str


class RetentionAuthority(Protocol):
    """Owner of pointers and pruning during a run: the store itself, or an actor that is the store's client."""

    def prune(
        self,
        *,
        dry_run: bool = True,
        keep_newest_runs: int = 0,
        keep_runs: Iterable[str] = (),
        at_most_bytes: int | None = None,
    ) -> Plan:
        """Remove what nobody holds (by default only say what would go), unless more than `at_most_bytes` would stay."""
        ...

    def set_pointer(self, name: str, run_id: str, details: Mapping[str, Any] | None = None) -> None:
        """Point a name to a run that has a receipt."""
        ...


@dataclass(frozen=True)
class DirectRetention:
    """The store as its own authority."""

    store: Store

    def prune(
        self,
        *,
        dry_run: bool = True,
        keep_newest_runs: int = 0,
        keep_runs: Iterable[str] = (),
        at_most_bytes: int | None = None,
    ) -> Plan:
        """Remove what nobody holds, under the store's lock."""
        return self.store.retention.prune(
            dry_run=dry_run,
            keep_newest_runs=keep_newest_runs,
            keep_runs=keep_runs,
            at_most_bytes=at_most_bytes,
        )

    def set_pointer(self, name: str, run_id: str, details: Mapping[str, Any] | None = None) -> None:
        """Point a name to a run."""
        self.store.pointers.set(name, run_id, details)


class Executor(Protocol):
    """Runs tasks; used as a context manager, closed on leaving."""

    @property
    def name(self) -> str:
        """The word for it on the command line: `serial`, `threads` or `ray`."""
        ...

    def start(self) -> None:
        """Begin to get ready in the background; cheap to call twice."""
        ...

    def retention(self, store: Store) -> RetentionAuthority:
        """Who prunes and moves pointers of `store` during this run."""
        ...

    def share(self, name: str, value: object) -> None:
        """Make a large read-only value available to every task submitted from now on."""
        ...

    def submit(self, task: Task) -> None:
        """Queue a task."""
        ...

    def completions(self) -> Iterator[Completion]:
        """Finished tasks until none is pending; tasks submitted meanwhile are run too.

        An exception of a task is raised here as it was raised there.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What ran where, for the telemetry."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@dataclass
class SerialExecutor:
    """Every task in this process, the costliest first."""

    shared: dict[str, Any] = field(default_factory=dict)
    queue: list[tuple[float, int, Task]] = field(default_factory=list)
    submitted: int = 0

    @property
    def name(self) -> str:
        """`serial`."""
        return "serial"

    def start(self) -> None:
        """Nothing to get ready."""

    def retention(self, store: Store) -> RetentionAuthority:
        """The store itself."""
        return DirectRetention(store)

    def share(self, name: str, value: object) -> None:
        """Keep a reference."""
        self.shared[name] = value

    def submit(self, task: Task) -> None:
        """Queue a task."""
        heapq.heappush(self.queue, (-task.cost, self.submitted, task))
        self.submitted += 1

    def completions(self) -> Iterator[Completion]:
        """Run the queue. After an error the tasks that remain are dropped."""
        worker = f"pid-{os.getpid()}"
        while self.queue:
            task = heapq.heappop(self.queue)[2]
            try:
                receipt = task.function(self.shared, *task.arguments)
            except BaseException:
                self.queue.clear()
                raise
            yield Completion(task, receipt, worker)

    def describe(self) -> dict[str, Any]:
        """One worker."""
        return {"executor": "serial", "workers": 1}

    def close(self) -> None:
        """Let go of the shared values."""
        self.shared.clear()


@dataclass
class ThreadExecutor(SerialExecutor):
    """Tasks in threads of this process, the costliest first: kernels, hashing and compression run side by side."""

    workers: int = field(default_factory=usable_cpus)

    @property
    def name(self) -> str:
        """`threads`."""
        return "threads"

    def completions(self) -> Iterator[Completion]:
        """Run the queue. After an error, tasks that run are waited for and the others are dropped."""
        running: dict[Future[Any], Task] = {}
        with ThreadPoolExecutor(self.workers) as pool:
            while self.queue or running:
                try:
                    finished = self._next(pool, running)
                except BaseException:
                    self.queue.clear()
                    raise
                yield from finished

    def _next(self, pool: ThreadPoolExecutor, running: dict[Future[Any], Task]) -> list[Completion]:
        """Give every thread a task, the costliest first, and wait until one has finished."""
        while self.queue and len(running) < self.workers:
            task = heapq.heappop(self.queue)[2]
            running[pool.submit(task.function, self.shared, *task.arguments)] = task
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        ordered = sorted(done, key=lambda one: running[one].key)
        return [Completion(running.pop(one), one.result(), f"pid-{os.getpid()}") for one in ordered]

    def describe(self) -> dict[str, Any]:
        """How many threads."""
        return {"executor": "threads", "workers": self.workers}
