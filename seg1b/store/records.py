"""Small JSON records that may change (pointers, phase locks, waves) and the append-only ledger.

Each write is atomic and happens under the store's lock: a reader sees the old record or the new one.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg1b.errors import InputError, StoreError
from seg1b.store.digest import canonical_json, readable_json
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import Layout, check_name, is_run_id
from seg1b.store.locks import StoreLock
from seg1b.store.manifest import read_json
from seg1b.store.staging import StagingArea

_RESTORE = "restore the file from a copy, or move it away: the command that wrote it writes it again"
_READ_BYTES = 1 << 16
POINTER_NAMES = ("baseline_authority", "current_candidate", "last_good")


def utc_now(*, microseconds: bool = False) -> str:
    """The time as the ledger and records state it; it never enters data. `microseconds`: where order depends on it."""
    now = datetime.datetime.now(datetime.UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if microseconds else "%Y-%m-%dT%H:%M:%SZ")


def did_you_mean(text: str, choices: list[str]) -> str:
    """`; did you mean x?`, or nothing when no choice is close."""
    import difflib

    close = difflib.get_close_matches(text, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def write_atomically(
    path: Path, data: bytes, layout: Layout, fs: FileSystem, staging: StagingArea, *, replace: bool
) -> bool:
    """Write a file aside, sync it and move it into place. False if it exists and may not be replaced."""
    with storage_errors(f"writing {path.name}", path):
        temporary = staging.new_path()
        written = True
        try:
            fs.write(temporary, data, read_only=False)
            fs.sync_file(temporary)
            fs.make_directories(path.parent, layout.root)
            if replace:
                fs.replace(temporary, path)
            else:
                try:
                    fs.link(temporary, path)
                except FileExistsError:
                    written = False
            fs.sync_up(path.parent, layout.root)
        finally:
            if temporary.exists():
                fs.remove_file(temporary)
    return written


class Records:
    """JSON records of one kind, one file each."""

    def __init__(
        self, folder: Path, kind: str, layout: Layout, fs: FileSystem, staging: StagingArea, lock: StoreLock
    ) -> None:
        self._folder, self._kind = folder, kind
        self._layout, self._fs, self._staging, self._lock = layout, fs, staging, lock

    def _path(self, name: str) -> Path:
        return self._folder / f"{check_name(name.lower(), self._kind)}.json"

    def names(self) -> tuple[str, ...]:
        """Names of all records, sorted."""
        if not self._folder.is_dir():
            return ()
        return tuple(sorted(path.stem for path in self._folder.glob("*.json")))

    def find(self, name: str) -> dict[str, Any] | None:
        """A record, or None.

        Raises StoreError E_STORE_DAMAGED if it is no JSON object.
        """
        path = self._path(name)
        if not path.is_file():
            return None
        value = read_json(path)
        if not isinstance(value, dict):
            message = f"the {self._kind} record is no JSON object"
            raise StoreError("E_STORE_DAMAGED", message, where=str(path), next_step=_RESTORE)
        return value

    def read(self, name: str) -> dict[str, Any]:
        """A record; InputError E_STORE_UNKNOWN_ID if there is none."""
        value = self.find(name)
        if value is None:
            known = list(self.names())
            raise InputError(
                "E_STORE_UNKNOWN_ID",
                f"there is no {self._kind} {name!r}{did_you_mean(name.lower(), known)}",
                where=str(self._folder),
                next_step="known: " + (", ".join(known) or "none yet"),
            )
        return value

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write or replace a record."""
        data = readable_json(dict(value))
        with self._lock.hold(f"writing {self._kind} {name}"):
            write_atomically(self._path(name), data, self._layout, self._fs, self._staging, replace=True)

    def attach(self, name: str, suffix: str, data: bytes) -> Path:
        """Write or replace a file for people beside a record; returns its path."""
        path = self._path(name).with_suffix(f".{check_name(suffix, 'suffix')}")
        with self._lock.hold(f"writing {self._kind} {name}"):
            write_atomically(path, data, self._layout, self._fs, self._staging, replace=True)
        return path

    def remove(self, name: str) -> None:
        """Remove a record; InputError if there is none."""
        with self._lock.hold(f"removing {self._kind} {name}"):
            self.read(name)
            with storage_errors(f"removing {self._kind} {name}", self._folder):
                self._fs.remove_file(self._path(name))
                self._fs.sync_directory(self._folder)


class Pointers(Records):
    """`baseline_authority`, `current_candidate` and `last_good`: each names a run."""

    def set(self, name: str, run_id: str, details: Mapping[str, Any] | None = None) -> None:
        """Point a name to a run that has a receipt; atomic.

        Raises InputError E_STORE_UNKNOWN_ID for another name or a run without a receipt.
        """
        if name not in POINTER_NAMES:
            raise InputError(
                "E_STORE_UNKNOWN_ID",
                f"there is no pointer {name!r}{did_you_mean(name, list(POINTER_NAMES))}",
                where=str(self._folder),
                next_step="pointers: " + ", ".join(POINTER_NAMES),
            )
        with self._lock.hold(f"setting pointer {name}"):
            if not is_run_id(run_id) or not (self._layout.runs / run_id / "receipt.json").is_file():
                raise InputError(
                    "E_STORE_UNKNOWN_ID", f"pointer {name} cannot be set: there is no run {run_id!r}",
                    where=str(self._layout.runs), next_step="`seg1b runs list` shows the runs",
                )  # fmt: skip
            self.write(name, {**(details or {}), "run_id": run_id})

    def get(self, name: str) -> str | None:
        """The run a name points to, or None if it was never set.

        Raises StoreError E_STORE_DAMAGED if what is stored names no run.
        """
        record = self.find(name)
        if record is None:
            return None
        run_id = record.get("run_id")
        if not isinstance(run_id, str) or not is_run_id(run_id):
            where = str(self._path(name))
            raise StoreError(
                "E_STORE_DAMAGED", f"pointer {name} names no run", where=where, next_step=_RESTORE
            )
        return run_id


class Ledger:
    """Append-only list of JSON entries, one a line. A line torn by a crash is dropped at the next append."""

    def __init__(self, layout: Layout, fs: FileSystem, lock: StoreLock) -> None:
        self._layout, self._fs, self._lock = layout, fs, lock

    def note(self, kind: str, **facts: Any) -> None:
        """Add an entry with `at`, its `kind` and `facts`, durably."""
        self.append({"at": utc_now(), "kind": kind, **facts})

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry as it is, durably. Lanes use `note`."""
        line = canonical_json(dict(entry)) + b"\n"
        path = self._layout.ledger
        with self._lock.hold("writing the ledger"), storage_errors("writing the ledger", path):
            whole, length_bytes = _whole_lines(path) if path.exists() else (0, 0)
            if whole != length_bytes:
                self._fs.truncate(path, whole)
            try:
                self._fs.append(path, line)
            except OSError:
                if path.exists():
                    self._fs.truncate(path, whole)
                raise
            self._fs.sync_file(path)
            self._fs.sync_directory(self._layout.root)

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first. Raises StoreError E_STORE_DAMAGED for a line that is no JSON."""
        path = self._layout.ledger
        if not path.exists():
            return []
        with storage_errors("reading the ledger", path):
            data = path.read_bytes()
        found = []
        lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
        for number, line in enumerate(lines, start=1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise StoreError(
                    "E_STORE_DAMAGED", f"a ledger entry is no JSON ({error})", where=f"{path}, line {number}",
                    next_step="restore the ledger from a copy; the tool never rewrites it",
                ) from error  # fmt: skip
        return found


def _whole_lines(path: Path) -> tuple[int, int]:
    """(bytes up to the last newline, bytes) of a file, which is read backwards, and only as far as that newline."""
    with path.open("rb") as file:
        length_bytes = end = file.seek(0, os.SEEK_END)
        step = 1  # as a rule the last byte is the newline
        while end:
            start = max(0, end - step)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1, length_bytes
            end, step = start, _READ_BYTES
    return 0, length_bytes
