"""The retention actor: owner of pointers and pruning while a distributed run is under way.

It holds nothing that is not in the store: every call reads the store, decides under the store's own lock and
writes. So a restarted actor goes on where the killed one stopped, and two drivers (or a plain command) at
once exclude each other by that lock, not by the actor's name, which is unique only within one Ray cluster.

It is named, so that the drivers of a cluster that work on one store share it, but not detached: it ends with
the driver that created it and leaves nothing behind; whoever still needs it creates it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.failures import translated
from seg1b.errors import ContractError, Seg1bError
from seg1b.lanes.executor import DirectRetention, RetentionAuthority
from seg1b.store.filesystem import FileSystem
from seg1b.store.locks import LeaseRecord, StoreLock, owner_information
from seg1b.store.records import POINTER_NAMES, Records
from seg1b.store.retention import Plan
from seg1b.store.staging import StagingArea
from seg1b.store.store import Store

NAMESPACE = "seg1b"
CALL_TIMEOUT_S = 120.0
_ATTEMPTS = 4


class RetentionKeeper:
    """What the actor does, as a plain class (which a serial run or a test may use as it is)."""

    def __init__(self, root: str) -> None:
        self._store = Store.open(Path(root), create=False)
        layout, fs = self._store.layout, FileSystem()
        self._staging = StagingArea(layout, fs)
        self._lock = StoreLock(layout.lock_file)
        self._leases = Records(layout.leases, "lease", layout, fs, self._staging, self._lock)

    def set_pointer(self, name: str, run_id: str, details: Mapping[str, Any] | None = None) -> None:
        """Point a name to a run that has a receipt. Raises InputError E_STORE_UNKNOWN_ID."""
        self._store.pointers.set(name, run_id, details)

    def pointers(self) -> dict[str, str]:
        """The pointers that are set."""
        found = {name: self._store.pointers.get(name) for name in POINTER_NAMES}
        return {name: run_id for name, run_id in found.items() if run_id is not None}

    def prune(
        self,
        *,
        dry_run: bool = True,
        keep_newest_runs: int = 0,
        keep_runs: Iterable[str] = (),
        at_most_bytes: int | None = None,
    ) -> Plan:
        """Remove what nobody holds; by default only say what would go."""
        return self._store.retention.prune(
            dry_run=dry_run,
            keep_newest_runs=keep_newest_runs,
            keep_runs=tuple(keep_runs),
            at_most_bytes=at_most_bytes,
        )

    def claim(
        self,
        lease_id: str,
        owner: Mapping[str, Any],
        run_ids: Iterable[str],
        keys: Iterable[str],
        ttl_s: float,
    ) -> None:
        """Write or widen a driver's lease, so that pruning leaves its runs and keys alone; also a heartbeat.

        The driver names the lease: asked twice (a retry), it is still one lease.
        """
        with self._lock.hold("claiming a lease"):
            old = self._leases.find(lease_id)
            known = (
                LeaseRecord.from_json(old) if old else LeaseRecord(lease_id, dict(owner), (), (), 0.0, ttl_s)
            )
            record = replace(
                known,
                run_ids=tuple(sorted({*known.run_ids, *run_ids})),
                keys=tuple(sorted({*known.keys, *keys})),
                heartbeat_unix_s=time.time(),
                ttl_s=ttl_s,
            )
            self._leases.write(lease_id, record.to_json())

    def heartbeat(self, lease_id: str) -> None:
        """Say that a lease's driver is alive.

        Raises InputError E_STORE_UNKNOWN_ID if the lease is gone: it expired and was collected, so what it
        held may be collected too; the driver must claim again and check what it relies on.
        """
        with self._lock.hold("renewing a lease"):
            record = LeaseRecord.from_json(self._leases.read(lease_id))
            self._leases.write(lease_id, replace(record, heartbeat_unix_s=time.time()).to_json())

    def release(self, lease_id: str) -> None:
        """Give a lease back; fine if it is gone."""
        with self._lock.hold("releasing a lease"):
            if self._leases.find(lease_id) is not None:
                self._leases.remove(lease_id)

    def close(self) -> None:
        """Remove temporary folders; a later call makes new ones."""
        self._staging.close()
        self._store.close()

    def status(self) -> dict[str, Any]:
        """Process, pointers, unexpired leases, and how much is live and collectable."""
        plan = self._store.retention.plan()
        leases = [self._leases.find(name) for name in self._leases.names()]
        alive = [
            record
            for value in leases
            if value is not None and not (record := LeaseRecord.from_json(value)).expired(time.time())
        ]
        return {
            "pid": os.getpid(),
            "store": str(self._store.root),
            "pointers": self.pointers(),
            "leases": {record.lease_id: str(record.owner.get("purpose", "")) for record in alive},
            "live_bytes": plan.live_bytes,
            "collectable_bytes": plan.collectable_bytes,
        }


class _RetentionActor:
    """The keeper in its own process. A store that cannot be opened is reported by the call that needs it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._keeper: RetentionKeeper | None = None
        with contextlib.suppress(Seg1bError):  # Ray would swallow the words of a constructor's error
            self._keeper = RetentionKeeper(root)

    def call(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the keeper. Nothing is left in between: an actor's process is killed, not ended."""
        if self._keeper is None:
            self._keeper = RetentionKeeper(self._root)
        try:
            return getattr(self._keeper, method)(*arguments, **named)
        finally:
            self._keeper.close()


class DistributedRetention:
    """Retention for a driver: the actor once Ray is up, until then the store itself under the same lock.

    So that pruning before a run need not wait for Ray, which starts in the background.
    """

    def __init__(self, store: Store, connected: Callable[[], bool]) -> None:
        self._direct, self._client = DirectRetention(store), RetentionClient(store.root)
        self._connected = connected

    def begin(self) -> None:
        """Have the actor's process started, without waiting for it. Ray must be up."""
        self._client.begin()

    def _authority(self) -> RetentionAuthority:
        return self._client if self._connected() else self._direct

    def prune(
        self,
        *,
        dry_run: bool = True,
        keep_newest_runs: int = 0,
        keep_runs: Iterable[str] = (),
        at_most_bytes: int | None = None,
    ) -> Plan:
        """Remove what nobody holds; by default only say what would go."""
        return self._authority().prune(
            dry_run=dry_run,
            keep_newest_runs=keep_newest_runs,
            keep_runs=tuple(keep_runs),
            at_most_bytes=at_most_bytes,
        )

    def set_pointer(self, name: str, run_id: str, details: Mapping[str, Any] | None = None) -> None:
        """Point a name to a run that has a receipt. Raises InputError E_STORE_UNKNOWN_ID."""
        self._authority().set_pointer(name, run_id, details)


class RetentionClient:
    """A driver's handle of the retention actor. Survives restarts of the actor and the end of its creator."""

    def __init__(self, root: Path) -> None:
        """Find or create the actor for the store at `root` (as all nodes see it). Ray must be running."""
        self._root = str(root.resolve())
        digest = hashlib.sha256(self._root.encode()).hexdigest()[:16]
        self.actor_name = f"seg1b-retention-{digest}"
        self._handle: Any = None
        self._owner = owner_information("certification on Ray")

    def set_pointer(self, name: str, run_id: str, details: Mapping[str, Any] | None = None) -> None:
        """See `RetentionKeeper.set_pointer`."""
        self._call("set_pointer", name, run_id, details)

    def pointers(self) -> dict[str, str]:
        """See `RetentionKeeper.pointers`."""
        found: dict[str, str] = self._call("pointers")
        return found

    def prune(
        self,
        *,
        dry_run: bool = True,
        keep_newest_runs: int = 0,
        keep_runs: Iterable[str] = (),
        at_most_bytes: int | None = None,
    ) -> Plan:
        """See `RetentionKeeper.prune`."""
        plan: Plan = self._call(
            "prune",
            dry_run=dry_run,
            keep_newest_runs=keep_newest_runs,
            keep_runs=tuple(keep_runs),
            at_most_bytes=at_most_bytes,
        )
        return plan

    def claim(
        self, lease_id: str, *, run_ids: Iterable[str] = (), keys: Iterable[str] = (), ttl_s: float = 120.0
    ) -> None:
        """See `RetentionKeeper.claim`; `lease_id`: 32 hex digits that the driver made up."""
        self._call("claim", lease_id, self._owner, tuple(run_ids), tuple(keys), ttl_s)

    def heartbeat(self, lease_id: str) -> None:
        """See `RetentionKeeper.heartbeat`."""
        self._call("heartbeat", lease_id)

    def release(self, lease_id: str) -> None:
        """See `RetentionKeeper.release`."""
        self._call("release", lease_id)

    def status(self) -> dict[str, Any]:
        """See `RetentionKeeper.status`."""
        found: dict[str, Any] = self._call("status")
        return found

    def begin(self) -> None:
        """Find or create the actor, without waiting until it answers; what is wrong is raised by the first call."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            self._handle = self._handle or _actor(self.actor_name, self._root)

    def close(self) -> None:
        """Let go of the actor; it ends when its creator does."""
        self._handle = None

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call the actor; create it again if its creator ended. Every method may be repeated."""
        import ray
        from ray import exceptions

        what = f"retention ({method})"
        deadline_s = time.monotonic() + CALL_TIMEOUT_S
        for attempt in range(_ATTEMPTS):
            try:
                if self._handle is None:
                    self._handle = _actor(self.actor_name, self._root)
                reference = self._handle.call.remote(method, arguments, named)
                return ray.get(reference, timeout=max(1.0, deadline_s - time.monotonic()))
            except exceptions.GetTimeoutError:
                raise ContractError(
                    "E_RAY_ACTOR_LOST",
                    f"{what} did not answer within {CALL_TIMEOUT_S:g} s",
                    where=self._root,
                    next_step="check the cluster with `ray status`; what is published is kept",
                ) from None
            except exceptions.RayActorError as error:
                self._handle = None
                if attempt == _ATTEMPTS - 1:
                    raise translated(error, what) from None
                time.sleep(0.25 * 2**attempt)
            except exceptions.RayError as error:
                raise translated(error, what) from None
        raise AssertionError("unreachable")


def _actor(name: str, root: str) -> Any:
    """The actor, on the driver's own node if that lives: there the store's path is known to be right."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": _ATTEMPTS,
        "scheduling_strategy": here,
    }
    return ray.remote(_RetentionActor).options(**options).remote(root)
