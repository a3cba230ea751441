"""The run store: one object through which every other room reads and writes durable files."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seg1b.errors import StoreError
from seg1b.store.certifications import Certifications
from seg1b.store.digest import readable_json
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import Layout
from seg1b.store.locks import Clock, Lease, LeaseRecord, StoreLock
from seg1b.store.objects import ObjectStore
from seg1b.store.opening import open_root
from seg1b.store.receipts import Receipts
from seg1b.store.records import Ledger, Pointers, Records, write_atomically
from seg1b.store.retention import Retention
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
        self.waves = Records(layout.waves, "wave", layout, fs, staging, lock)
        self.ledger = Ledger(layout, fs, lock)
        self.certifications = Certifications(layout, fs, staging, lock)
        self.retention = Retention(layout, fs, staging, lock, self, self.receipts, clock)

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
        try:
            with storage_errors("cleaning up", layout.staging):
                store._staging.remove_leftovers()
        except StoreError as error:
            if error.code != "E_STORE_READ_ONLY":
                raise
        return store

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

    def lease(self, purpose: str, ttl_s: float = 120.0) -> Lease:
        """A claim that pruning respects. Register all keys of a run before relying on `has`."""

        def write(record: LeaseRecord) -> None:
            path = self._layout.leases / f"{record.lease_id}.json"
            with self._lock.hold("renewing a lease"):
                data = readable_json(record.to_json())
                write_atomically(path, data, self._layout, self._fs, self._staging, replace=True)

        def remove(lease_id: str) -> None:
            path = self._layout.leases / f"{lease_id}.json"
            with self._lock.hold("releasing a lease"), storage_errors("releasing a lease", path):
                self._fs.remove_file(path)

        return Lease(write, remove, purpose, ttl_s, self._clock)

    def close(self) -> None:
        """Remove this process's temporary folder."""
        self._staging.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self._layout, self._fs, self._clock)
