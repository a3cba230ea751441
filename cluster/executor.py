"""The executor that runs a lane's tasks on Ray.

Large values are put into the object store once; a task is one call of one generic remote function; results
are small and are collected by key, so nothing depends on the order in which they arrive.
"""

from __future__ import annotations

import heapq
import os
import pickle
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cluster.failures import translated
from cluster.retention import DistributedRetention
from cluster.session import RayOptions, RaySession
from cluster.worker import Outcome, run_payload
from seg1b.errors import ContractError, InputError
from seg1b.lanes.executor import Completion, RetentionAuthority, Task
from seg1b.store.store import Store

_WAIT_S = 1.0
_CANCEL_WAIT_S = 5.0
_MIN_IN_FLIGHT_JOINED = 8  # an autoscaler starts nodes for what is waiting: show it something


@dataclass
class _Slot:
    """A shared value until it is in the object store, then its reference."""

    value: object
    reference: Any = None

    def resolve(self) -> Any:
        """Put the value, once."""
        if self.reference is None:
            import ray

            self.reference, self.value = ray.put(self.value), None
        return self.reference


@dataclass(frozen=True)
class _Entry:
    """A queued or running task."""

    task: Task
    payload: bytes
    slots: dict[str, _Slot]

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"task {'/'.join(self.task.key)}"


class RayExecutor:
    """Runs tasks on a local Ray that it starts, or on a cluster that it joins."""

    def __init__(self, options: RayOptions | None = None, session: RaySession | None = None) -> None:
        self._own_session = session is None
        self.session = session or RaySession(options or RayOptions())
        self.options = options or self.session.options
        self._slots: dict[str, _Slot] = {}
        self._queue: list[tuple[float, int, _Entry]] = []
        self._submitted = 0
        self._running: dict[Any, _Entry] = {}
        self._tasks_by_worker: Counter[str] = Counter()
        self._largest_payload_bytes = 0
        self._function: Any = None
        self._cpus, self._cpus_read_s = 0.0, -1.0e9
        self._cluster: dict[str, Any] = {}
        self._closed = False
        self._retention: DistributedRetention | None = None

    @property
    def name(self) -> str:
        """`ray`."""
        return "ray"

    def start(self) -> None:
        """Start or join Ray in the background; cheap to call twice. Problems are raised when tasks run."""
        self.session.start()

    def wait_until_ready(self) -> None:
        """Raise now what is wrong with the session (InputError), e.g. before expensive work of the driver."""
        self.session.wait()

    def retention(self, store: Store) -> RetentionAuthority:
        """The retention actor, once Ray is up; before, the store itself (nobody waits for Ray to prune)."""
        if self._retention is None:
            self._retention = DistributedRetention(store, lambda: self.session.connected)
        return self._retention

    def share(self, name: str, value: object) -> None:
        """Make a value available to tasks submitted from now on; it is copied once, when first needed."""
        self._slots = {**self._slots, name: _Slot(value)}
        if self.session.connected:
            self._guard(self._slots[name].resolve, f"sharing {name!r}")

    def submit(self, task: Task) -> None:
        """Queue a task. Raises ContractError E_RAY_PICKLE if it cannot be sent to another process."""
        if self._closed:
            raise ContractError("E_RAY_CLOSED", "this executor was closed")
        payload = _pickled_task(task)
        self._largest_payload_bytes = max(self._largest_payload_bytes, len(payload))
        heapq.heappush(self._queue, (-task.cost, self._submitted, _Entry(task, payload, self._slots)))
        self._submitted += 1

    def completions(self) -> Iterator[Completion]:
        """Finished tasks until none is pending. After an error the tasks that remain are cancelled."""
        if not (self._queue or self._running):
            return
        yield from self._meanwhile()
        self.session.wait()
        if self._retention is not None:
            self._retention.begin()
        idle_since_s = time.monotonic()
        while self._queue or self._running:
            try:
                self._fill()
                finished = self._wait()
            except BaseException as error:
                self._abandon(_CANCEL_WAIT_S if isinstance(error, Exception) else 0.0)  # Ctrl-C: at once
                raise
            if not finished:
                self._check_progress(idle_since_s)
                continue
            idle_since_s = time.monotonic()
            for entry, outcome in finished:
                self._tasks_by_worker[outcome.worker] += 1
                yield Completion(entry.task, pickle.loads(outcome.payload), outcome.worker)

    def describe(self) -> dict[str, Any]:
        """What ran where: Ray's version, nodes, CPUs, tasks per worker process, start-up time."""
        self._snapshot()
        return {
            "executor": "ray",
            "workers": len(self._tasks_by_worker),
            "tasks": sum(self._tasks_by_worker.values()),
            "tasks_by_worker": dict(sorted(self._tasks_by_worker.items())),
            "address": self.options.address or "local",
            "started_here": self.session.owned,
            "start_s": round(self.session.start_s, 3),
            "task_cpus": self.options.task_cpus,
            "max_retries": self.options.max_retries,
            "largest_task_bytes": self._largest_payload_bytes,
            **self._cluster,
        }

    def close(self) -> None:
        """Cancel what is pending; stop a session that we started, leave one that we joined."""
        if self._closed:
            return
        self._closed = True
        self._snapshot()
        try:
            if not (self._own_session and self.session.owned):  # else ending the session ends the tasks
                self._abandon()
        finally:
            self._queue.clear()
            self._running.clear()
            self._slots = {}
            if self._own_session:
                self.session.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside

    def _meanwhile(self) -> Iterator[Completion]:
        """While our own Ray starts, which is mostly waiting, the driver runs what it can: the costliest task first."""
        worker = f"driver/pid-{os.getpid()}"
        while self._queue and self.options.address is None and self.session.starting:
            entry = heapq.heappop(self._queue)[2]
            shared = {name: slot.value for name, slot in entry.slots.items()}
            receipt = entry.task.function(shared, *entry.task.arguments)
            self._tasks_by_worker[worker] += 1
            yield Completion(entry.task, receipt, worker)

    def _fill(self) -> None:
        """Submit the costliest tasks, up to a bound on what is in flight."""
        limit = self._limit()
        while self._queue and len(self._running) < limit:
            entry = heapq.heappop(self._queue)[2]
            references = self._guard(
                lambda entry=entry: {name: slot.resolve() for name, slot in entry.slots.items()},
                f"sharing the inputs of {entry.label}",
            )
            reference = self._remote().remote(entry.payload, references, self.session.settings)
            self._running[reference] = entry

    def _remote(self) -> Any:
        if self._function is None:
            import ray

            options: dict[str, Any] = {
                "num_cpus": self.options.task_cpus,
                "max_retries": self.options.max_retries,
                "retry_exceptions": False,
            }
            if self.options.task_memory_bytes:
                options["memory"] = self.options.task_memory_bytes
            if not self.session.owned:
                options["scheduling_strategy"] = "SPREAD"
            self._function = ray.remote(**options)(run_payload)
        return self._function

    def _limit(self) -> int:
        floor = 1 if self.session.owned else _MIN_IN_FLIGHT_JOINED
        return max(floor, int(self._cluster_cpus() / self.options.task_cpus * self.options.in_flight_per_cpu))

    def _cluster_cpus(self) -> float:
        """CPUs of the cluster, read again every few seconds: nodes come and go."""
        import ray

        now_s = time.monotonic()
        if now_s - self._cpus_read_s > 5.0 and not (self.session.owned and self._cpus):
            self._cpus, self._cpus_read_s = float(ray.cluster_resources().get("CPU", 0.0)), now_s
        return self._cpus

    def _wait(self) -> list[tuple[_Entry, Outcome]]:
        """What has finished by now, at least one if that happens within a second.

        Workers get new tasks first.
        """
        import ray

        done, _ = ray.wait(list(self._running), num_returns=1, timeout=_WAIT_S)
        if done and len(self._running) > 1:
            done, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        finished = []
        for reference in done:
            entry = self._running.pop(reference)
            outcome: Outcome = self._guard(lambda reference=reference: ray.get(reference), entry.label)
            if outcome.failed:
                raise _raised_there(outcome)
            finished.append((entry, outcome))
        self._fill()
        return finished

    def _guard(self, action: Any, what: str) -> Any:
        try:
            return action()
        except Exception as error:
            meant = translated(error, what)
            if meant is error:
                raise
            raise meant from None

    def _check_progress(self, idle_since_s: float) -> None:
        """Without a CPU in the cluster, nothing will ever finish: say so instead of waiting for ever."""
        if self._cluster_cpus() < self.options.task_cpus:
            waited_s = time.monotonic() - idle_since_s
            if waited_s > self.options.stall_timeout_s:
                self._abandon()
                raise InputError(
                    "E_RAY_NO_CPU",
                    f"the Ray cluster had no worker with {self.options.task_cpus} CPU for {waited_s:.0f} s",
                    where=f"--address {self.options.address or 'local'}",
                    next_step="add worker nodes (`ray start --address`); does the autoscaler start none?",
                )

    def _abandon(self, wait_s: float = _CANCEL_WAIT_S) -> None:
        """Forget queued tasks and cancel running ones; wait a little for them to stop."""
        self._queue.clear()
        running, self._running = list(self._running), {}
        if not running or not self.session.connected:
            return
        import ray

        for reference in running:
            try:
                ray.cancel(reference, force=False)
            except Exception:  # noqa: BLE001 (cancelling is a courtesy; the error on its way matters more)
                continue
        ray.wait(running, num_returns=len(running), timeout=wait_s)

    def _snapshot(self) -> None:
        if not self.session.connected:
            return
        import platform

        import ray

        nodes = [
            {"node": node["NodeID"][:12], "alive": node["Alive"], "cpus": node["Resources"].get("CPU", 0.0)}
            for node in ray.nodes()
        ]
        self._cluster = {
            "ray_version": ray.__version__,
            "python_version": platform.python_version(),
            "nodes": sorted(nodes, key=lambda node: str(node["node"])),
            "cpus": float(ray.cluster_resources().get("CPU", 0.0)),
        }


def _pickled_task(task: Task) -> bytes:
    try:
        return pickle.dumps((task.function, task.arguments), protocol=5)
    except Exception as error:
        raise ContractError(
            "E_RAY_PICKLE",
            f"task {'/'.join(task.key)} cannot be sent to a worker: {error}",
            next_step="use a module-level function, plain arguments, and `share` for large values",
        ) from error


def _raised_there(outcome: Outcome) -> BaseException:
    """The task's own exception; where it happened goes into its notes, not into its message."""
    error: BaseException = pickle.loads(outcome.payload)
    error.add_note(f"In worker {outcome.worker}:\n{outcome.trace}")
    return error
