"""Mutual exclusion between processes, and leases that say what a running driver needs.

The lock is `flock` on one file: the kernel releases it when its owner dies. Leases are files with a
heartbeat: whoever prunes must leave alone what an unexpired lease names.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seg1b.errors import InputError, StoreAccessError, StoreError
from seg1b.store.digest import readable_json
from seg1b.store.filesystem import storage_errors

Clock = Callable[[], float]
_POLL_S = 0.05


def owner_information(purpose: str) -> dict[str, Any]:
    """Who this process is: for messages to people, never part of data."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "purpose": purpose}


def try_lock(path: Path) -> int | None:
    """Take an exclusive lock on a file (created if need be); its descriptor, or None if somebody has it.

    Raises OSError where the file system cannot lock.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN}:
                return None
            raise
        try:  # the file may have been removed between open and lock
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


@contextmanager
def sole_driver(path: Path, purpose: str) -> Iterator[None]:
    """Hold a file's lock during the block, without waiting for it: the kernel gives it back when its owner dies.

    Raises InputError E_STORE_DRIVEN, which names the process that has it.
    """
    with storage_errors("claiming the store", path):
        descriptor = try_lock(path)
    if descriptor is None:
        raise InputError(
            "E_STORE_DRIVEN", f"{_owner(path)} is tuning this store", where=str(path.parent),
            next_step="wait for it to finish, or use another store with --runs",
        )  # fmt: skip
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, readable_json(owner_information(purpose)), 0)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _owner(path: Path) -> str:
    """Who wrote a lock file, for a message."""
    try:
        owner = json.loads(path.read_bytes())
        return f"process {owner['pid']} on {owner['host']} ({owner['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


class StoreLock:
    """The store's exclusive lock: pointers, pruning, commits. Re-entrant within a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread_lock = threading.RLock()
        self._descriptor: int | None = None
        self._depth = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    @contextmanager
    def hold(self, purpose: str, timeout_s: float = 60.0) -> Iterator[None]:
        """Hold the lock during the block.

        Raises StoreAccessError E_STORE_LOCKED, which names the owner, if it cannot be had within `timeout_s`.
        """
        deadline_s = time.monotonic() + timeout_s
        if not self._thread_lock.acquire(timeout=timeout_s):
            raise self._locked(timeout_s)
        try:
            if self._depth == 0:
                self._acquire(purpose, deadline_s, timeout_s)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._release()
        finally:
            self._thread_lock.release()

    def _acquire(self, purpose: str, deadline_s: float, timeout_s: float) -> None:
        with storage_errors("locking the store", self._path):
            while (descriptor := try_lock(self._path)) is None:
                if time.monotonic() >= deadline_s:
                    raise self._locked(timeout_s)
                time.sleep(_POLL_S)
            self._descriptor = descriptor
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, readable_json(owner_information(purpose)), 0)

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # not only close: a forked child may have a copy
            os.close(descriptor)

    def _locked(self, timeout_s: float) -> StoreAccessError:
        return StoreAccessError(
            "E_STORE_LOCKED",
            f"the store is locked by {_owner(self._path)}; waited {timeout_s:g} s",
            where=str(self._path),
            next_step="wait for it to finish, or stop it; the lock goes with the process",
        )


@dataclass(frozen=True)
class LeaseRecord:
    """What is on disk of a lease."""

    lease_id: str
    owner: dict[str, Any]
    run_ids: tuple[str, ...]
    keys: tuple[str, ...]
    heartbeat_unix_s: float
    ttl_s: float

    def expired(self, now_unix_s: float) -> bool:
        """Whether its heart stopped longer ago than its time to live."""
        return now_unix_s > self.heartbeat_unix_s + self.ttl_s

    def joined(self, other: LeaseRecord | None) -> LeaseRecord:
        """This record with the runs and keys of `other` besides its own."""
        if other is None:
            return self
        runs, keys = {*self.run_ids, *other.run_ids}, {*self.keys, *other.keys}
        return replace(self, run_ids=tuple(sorted(runs)), keys=tuple(sorted(keys)))

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "heartbeat_unix_s": self.heartbeat_unix_s,
            "keys": list(self.keys),
            "lease_id": self.lease_id,
            "owner": self.owner,
            "run_ids": list(self.run_ids),
            "ttl_s": self.ttl_s,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LeaseRecord:
        """Inverse of `to_json`; raises KeyError, TypeError or ValueError."""
        return cls(
            str(value["lease_id"]),
            dict(value["owner"]),
            tuple(map(str, value["run_ids"])),
            tuple(map(str, value["keys"])),
            float(value["heartbeat_unix_s"]),
            float(value["ttl_s"]),
        )


class Lease:
    """A driver's claim on runs and keys, kept alive by a heartbeat. Use it as a context manager.

    Others may widen the claim on the driver's behalf (`Store.widen_lease`), so `write` joins what it is given with what
    is on disk and returns that; where it is told to renew a lease and there is none any more, it raises.
    """

    def __init__(
        self,
        write: Callable[[LeaseRecord, bool], LeaseRecord],
        remove: Callable[[str], None],
        purpose: str,
        ttl_s: float,
        clock: Clock,
    ) -> None:
        self._write, self._remove, self._clock = write, remove, clock
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        owner = owner_information(purpose)
        self.record = self._write(LeaseRecord(secrets.token_hex(16), owner, (), (), clock(), ttl_s), False)

    def hold(self, *, run_ids: Iterable[str] = (), keys: Iterable[str] = ()) -> None:
        """Add runs and state keys; also a heartbeat."""
        with self._mutex:
            runs = tuple(sorted({*self.record.run_ids, *run_ids}))
            self._renew(runs, tuple(sorted({*self.record.keys, *keys})))

    def heartbeat(self) -> None:
        """Say that the driver is alive."""
        with self._mutex:
            self._renew(self.record.run_ids, self.record.keys)

    def _renew(self, run_ids: tuple[str, ...], keys: tuple[str, ...]) -> None:
        old = self.record
        renewed = LeaseRecord(old.lease_id, old.owner, run_ids, keys, self._clock(), old.ttl_s)
        self.record = self._write(renewed, True)

    def start_heartbeat(self) -> None:
        """Beat in a background thread, four times per time to live, until `release`."""

        def beat() -> None:
            while not self._stop.wait(self.record.ttl_s / 4):
                try:
                    self.heartbeat()
                except (
                    StoreError
                ):  # a full disk may have room at the next beat; a lost lease, the driver hears of
                    continue

        if self._thread is None:
            self._thread = threading.Thread(target=beat, name="seg1b-lease", daemon=True)
            self._thread.start()

    def release(self) -> None:
        """Stop the heartbeat and remove the lease."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._remove(self.record.lease_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
