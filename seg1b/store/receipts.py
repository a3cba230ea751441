"""Receipts of runs: `runs/<run_id>/receipt.json` (facts) and, apart, `published.json`, `telemetry.json` (clocks)."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg1b.errors import ContractError, InputError, StoreError
from seg1b.store.digest import canonical_json, readable_json
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import Layout, check_key, check_name, is_run_id
from seg1b.store.locks import StoreLock
from seg1b.store.manifest import read_json
from seg1b.store.records import did_you_mean, utc_now, write_atomically
from seg1b.store.staging import StagingArea

_PREFIX_DIGITS = 6
_PUBLISHED = "published.json"
_RESTORE = "restore the run's folder from a copy, or remove it: what nothing refers to can be made again"
_UNIX_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def new_run_id() -> str:
    """A random run id, 32 hex. It names an attempt and never feeds data."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Receipt:
    """One attempt: its identity, the state keys it used, where it came from and what executed it."""

    run_id: str
    identity: Mapping[str, Any]
    keys: Mapping[str, str]
    lineage: Mapping[str, Any] = field(default_factory=dict)
    executor: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_run_id(self.run_id):
            raise ContractError(
                "E_STORE_NAME", f"{self.run_id!r} is no run id: 32 lower-case hex digits are expected"
            )
        for state, key in self.keys.items():
            check_name(state, "state")
            check_key(key)

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "run_id": self.run_id,
            "identity": dict(self.identity),
            "keys": dict(self.keys),
            "lineage": dict(self.lineage),
            "executor": dict(self.executor),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Receipt:
        """Inverse of `to_json`; raises KeyError or TypeError."""
        return cls(value["run_id"], value["identity"], value["keys"], value["lineage"], value["executor"])


class Receipts:
    """Publish and find receipts."""

    def __init__(self, layout: Layout, fs: FileSystem, staging: StagingArea, lock: StoreLock) -> None:
        self._layout, self._fs, self._staging, self._lock = layout, fs, staging, lock

    def publish(self, receipt: Receipt) -> None:
        """Publish a receipt, once, and when; the same receipt again is fine, another under its id is an error.

        Raises StoreError E_STORE_CONFLICT for another one, and where the disk refuses.
        """
        path = self._layout.runs / receipt.run_id / "receipt.json"
        data = readable_json(receipt.to_json())
        with self._lock.hold(f"publishing run {receipt.run_id}"):
            self._sync_outputs(receipt)
            if not path.exists():  # first, so that no receipt is seen without its time
                self._write(receipt.run_id, _PUBLISHED, {"at": utc_now(microseconds=True)})
            if write_atomically(path, data, self._layout, self._fs, self._staging, replace=False):
                return
            if canonical_json(read_json(path)) != canonical_json(receipt.to_json()):
                raise StoreError(
                    "E_STORE_CONFLICT", f"run {receipt.run_id} already has another receipt", where=str(path),
                    next_step="give every attempt a new run id",
                )  # fmt: skip

    def _sync_outputs(self, receipt: Receipt) -> None:
        """Data first: what the receipt names must survive a power cut that the receipt survives."""
        with storage_errors("syncing outputs", self._layout.objects):
            for state, key in sorted(receipt.keys.items()):
                folder = self._layout.object(state, key)
                if folder.is_dir():
                    self._fs.sync_up(folder, self._layout.root)

    def write_telemetry(self, run_id: str, telemetry: Mapping[str, Any]) -> None:
        """Write or replace a run's telemetry; the run must have a receipt."""
        self.load(run_id)
        with self._lock.hold(f"writing telemetry of {run_id}"):
            self._write(run_id, "telemetry.json", telemetry)

    def _write(self, run_id: str, name: str, value: Mapping[str, Any]) -> None:
        """Write or replace a document beside a receipt."""
        path, data = self._layout.runs / run_id / name, readable_json(dict(value))
        write_atomically(path, data, self._layout, self._fs, self._staging, replace=True)

    def telemetry(self, run_id: str) -> dict[str, Any]:
        """A run's telemetry; empty if none was written."""
        path = self._layout.runs / run_id / "telemetry.json"
        return dict(read_json(path)) if path.is_file() else {}

    def run_ids(self) -> tuple[str, ...]:
        """All runs that have a receipt, sorted by id."""
        folder = self._layout.runs
        if not folder.is_dir():
            return ()
        return tuple(sorted(path.parent.name for path in folder.glob("*/receipt.json")))

    def newest_first(self) -> tuple[str, ...]:
        """All runs, the latest published first (ties by id). Raises as `published_ns`."""
        return tuple(sorted(self.run_ids(), key=lambda run_id: (-self.published_ns(run_id), run_id)))

    def published_ns(self, run_id: str) -> int:
        """When a run was published, in ns since 1970 (UTC); 0 if there is none.

        Of a run of an earlier version it is the time of the receipt's file, which a copy of the store may not keep.
        Raises StoreError E_STORE_DAMAGED if what is stored is no time.
        """
        path = self._layout.runs / run_id / _PUBLISHED
        try:
            value = read_json(path)
        except StoreError as error:
            if error.code == "E_STORE_MISSING":
                return self._file_time_ns(run_id)
            if error.code == "E_STORE_DAMAGED":
                raise _timeless(path) from error
            raise
        try:
            since = datetime.datetime.fromisoformat(value["at"]) - _UNIX_EPOCH
        except (KeyError, TypeError, ValueError) as error:
            raise _timeless(path) from error
        return since // datetime.timedelta(microseconds=1) * 1000

    def _file_time_ns(self, run_id: str) -> int:
        try:
            return (self._layout.runs / run_id / "receipt.json").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def load(self, run_id: str) -> Receipt:
        """A run's receipt. Raises InputError E_STORE_UNKNOWN_ID (with a suggestion) or StoreError."""
        path = self._layout.runs / run_id / "receipt.json" if is_run_id(run_id) else Path()
        if not is_run_id(run_id) or not path.is_file():
            raise self._unknown(run_id)
        value = read_json(path)
        try:
            receipt = Receipt.from_json(value)
        except (KeyError, TypeError, AttributeError, ContractError) as error:
            raise StoreError(
                "E_STORE_DAMAGED",
                f"the receipt is not consistent ({error})",
                where=str(path),
                next_step=_RESTORE,
            ) from error
        if receipt.run_id != run_id:
            raise StoreError(
                "E_STORE_DAMAGED",
                f"the receipt speaks of run {receipt.run_id}",
                where=str(path),
                next_step=_RESTORE,
            )
        return receipt

    def resolve(self, text: str, names: Sequence[str] = ()) -> str:
        """A run id from what a user typed: the id, or a unique prefix of at least six digits.

        `names`: what the caller takes besides, for the suggestion. Raises InputError
        E_STORE_UNKNOWN_ID if there is none or more than one.
        """
        runs = self.run_ids()
        if text in runs:
            return text
        matches = [run_id for run_id in runs if run_id.startswith(text)]
        if len(text) >= _PREFIX_DIGITS and len(matches) == 1:
            return matches[0]
        raise self._unknown(text, names)

    def _unknown(self, text: str, names: Sequence[str] = ()) -> InputError:
        return InputError(
            "E_STORE_UNKNOWN_ID",
            f"there is no run {text!r}{did_you_mean(text, [*names, *self.run_ids()])}",
            where=str(self._layout.runs),
            next_step="`seg1b runs list` shows the runs; a unique prefix of six digits is enough"
            + (f"; or one of {', '.join(names)}" if names else ""),
        )


def _timeless(path: Path) -> StoreError:
    return StoreError(
        "E_STORE_DAMAGED",
        "this does not say when the run was published",
        where=str(path),
        next_step="restore the file from a copy, or remove it: the time of the receipt's file counts then",
    )
