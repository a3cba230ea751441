"""The run store: one object through which every other room reads and writes durable files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seg1b.errors import StoreError
from seg1b.store.certifications import Certifications
from seg1b.store.digest import readable_json
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import Layout, check_name
from seg1b.store.locks import Clock, Lease, LeaseRecord, StoreLock, sole_driver
from seg1b.store.objects import ObjectStore
from seg1b.store.opening import open_root
from seg1b.store.receipts import Receipts
from seg1b.store.records import Ledger, Pointers, Records, write_atomically
from seg1b.store.retention import Retention
from seg1b.store.roots import read_lease
from seg1b.store.staging import StagingArea


class Store(ObjectStore):
    """Outputs (`transaction`, `part`, `commit`, `open_table`, ...) and, as attributes, everything else.

    Open it with `Store.open`. A store may be pickled to a worker process, which then has its own staging
    folder.
    """

    def __init__(self, layout: Layout, fs: FileSystem, clock: Clock = time.time) -> None:
        staging, lock = StagingArea(layout, fs), StoreLock(layout.lock_file)
        super().__init__(layout, fs, staging, lock)
        self._clock = clock
        self.receipts = Receipts(layout, fs, staging, lock)
        self.pointers = Pointers(layout.pointers, "pointer", layout, fs, staging, lock)
        self.phase_locks = Records(layout.phase_locks, "lock", layout, fs, staging, lock)
        self.phases = Records(layout.phases, "phase", layout, fs, staging, lock)
        self.waves = Records(layout.waves, "wave", layout, fs, staging, lock)
        self.guards = Records(layout.guards, "guard verdict", layout, fs, staging, lock)
        self.performance = Records(layout.performance, "performance record", layout, fs, staging, lock)
        self.ledger = Ledger(layout, fs, lock)
        self.certifications = Certifications(layout, fs, staging, lock)
        self.retention = Retention(layout, fs, staging, lock, self, self.receipts, self.ledger, clock)

    @classmethod
    def open(
        cls, root: Path | str, *, create: bool = True, fs: FileSystem | None = None, clock: Clock = time.time
    ) -> Store:
        """Open a store, creating it if allowed, and clean up after processes that died.

        Raises InputError E_STORE_MISSING, E_STORE_NOT_A_STORE or E_STORE_FORMAT; StoreError if `root`
        cannot be written while it must be created. A read-only store opens and can be read.
        """
        layout, fs = Layout(Path(root)), fs or FileSystem()
        open_root(layout, fs, create=create)
        store = cls(layout, fs, clock)
        store._clean_up()
        return store

    def _clean_up(self) -> None:
        """Remove what dead processes left in the staging folder."""
        try:
            with storage_errors("cleaning up", self._layout.staging):
                self._staging.remove_leftovers()
        except StoreError as error:
            if error.code != "E_STORE_READ_ONLY":
                raise

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        return self._layout

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._layout.root

    def exclusive(self, purpose: str, timeout_s: float = 60.0) -> AbstractContextManager[None]:
        """The store's lock, for a decision that reads and then writes; re-entrant within a thread."""
        return self._lock.hold(purpose, timeout_s)

    def sole_driver(self, purpose: str) -> AbstractContextManager[None]:
        """Be the only one who tunes this store during the block; else InputError E_STORE_DRIVEN, which names who is."""
        return sole_driver(self._layout.driver_file, purpose)

    def lease(self, purpose: str, ttl_s: float = 120.0) -> Lease:
        """A claim that pruning respects. Register all keys of a run before relying on `has`.

        Renewing it raises StoreError E_STORE_LEASE_LOST if it is gone.
        """

        def write(record: LeaseRecord, renewed: bool) -> LeaseRecord:
            with self._lock.hold("renewing a lease"):
                known = self._find_lease(record.lease_id)
                if renewed and known is None:
                    raise StoreError(
                        "E_STORE_LEASE_LOST",
                        f"nothing was heard of this command for more than {record.ttl_s:.0f} s (was the machine "
                        "suspended?), and somebody pruned meanwhile: what it relied on may be gone",
                        where=str(self._layout.leases / f"{record.lease_id}.json"),
                        next_step="run it again: what is still there is not made twice",
                    )
                joined = record.joined(known)
                self._write_lease(joined)
            return joined

        def remove(lease_id: str) -> None:
            path = self._layout.leases / f"{lease_id}.json"
            with self._lock.hold("releasing a lease"), storage_errors("releasing a lease", path):
                self._fs.remove_file(path)

        return Lease(write, remove, purpose, ttl_s, self._clock)

    def widen_lease(self, lease_id: str, keys: Iterable[str]) -> bool:
        """Add keys to a lease that another process holds; False if it is gone, and nothing is held then.

        What a task finds out it will touch, it claims for its driver before it relies on `has`: the claim ends with
        the driver's lease, whatever becomes of the task.
        """
        with self._lock.hold("widening a lease"):
            record = self._find_lease(lease_id)
            if record is not None:
                self._write_lease(record.joined(replace(record, keys=tuple(keys))))
        return record is not None

    def _find_lease(self, lease_id: str) -> LeaseRecord | None:
        path = self._layout.leases / f"{check_name(lease_id, 'lease')}.json"
        return read_lease(path) if path.is_file() else None

    def _write_lease(self, record: LeaseRecord) -> None:
        path = self._layout.leases / f"{record.lease_id}.json"
        data = readable_json(record.to_json())
        write_atomically(path, data, self._layout, self._fs, self._staging, replace=True)

    def close(self) -> None:
        """Remove this process's temporary folder, and those of workers that died meanwhile."""
        self._staging.close()
        self._clean_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self._layout, self._fs, self._clock)
