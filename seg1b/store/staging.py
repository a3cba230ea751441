"""Temporary folders in which outputs grow before one atomic rename makes them visible.

Each process that writes has a session folder below `.staging/`, guarded by a lock file that its kernel
releases when it dies. Opening or closing a store removes the sessions whose owners are dead, and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seg1b.errors import ContractError, StoreError
from seg1b.store.digest import readable_json, sha256_file
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import Layout, check_relative_path
from seg1b.store.locks import try_lock

_SESSIONS = threading.Lock()
"""Held while a session is opened or given up. Whoever forks waits for it, so that no child is born with it locked."""

os.register_at_fork(
    before=_SESSIONS.acquire, after_in_parent=_SESSIONS.release, after_in_child=_SESSIONS.release
)


class StagingArea:
    """The session folder of one process in one store; created at the first write. A pickled copy gets its own."""

    def __init__(self, layout: Layout, fs: FileSystem) -> None:
        self._layout, self._fs = layout, fs
        self._descriptor: int | None = None
        self._session: Path | None = None
        self._process_id = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return StagingArea, (self._layout, self._fs)

    def remove_leftovers(self) -> int:
        """Remove the sessions of dead processes; returns how many entries went. Needs write access.

        Safe against a session that begins meanwhile: a lock counts only while its file has its name (`try_lock`), so
        whoever loses the file before or while locking it takes another name.
        """
        root = self._layout.staging
        if not root.is_dir():
            return 0
        removed = 0
        for entry in sorted(root.iterdir()):
            if entry.suffix == ".lock":
                removed += self._remove_if_dead(entry)
        for entry in sorted(
            root.iterdir()
        ):  # what has no lock file: its lock was made before it, so it is dead
            if entry.suffix != ".lock" and not entry.with_suffix(".lock").exists():
                self._remove(entry)
                removed += 1
        return removed

    def _remove_if_dead(self, lock_file: Path) -> int:
        if not lock_file.exists():
            return 0
        descriptor = try_lock(lock_file)
        if descriptor is None:
            return 0
        try:
            self._remove(lock_file.with_suffix(""))
            self._fs.remove_file(lock_file)
        finally:
            os.close(descriptor)
        return 1

    def _remove(self, path: Path) -> None:
        if path.is_dir():
            self._fs.remove_tree(path)
        else:
            self._fs.remove_file(path)

    def session(self) -> Path:
        """This process's session folder, one for all its threads. A forked child gets its own."""
        with _SESSIONS:
            if self._session is None or self._process_id != os.getpid():
                self._session, self._descriptor = self._open_session()
                self._process_id = os.getpid()
            return self._session

    def _open_session(self) -> tuple[Path, int]:
        root = self._layout.staging
        with storage_errors("preparing the staging folder", root):
            self._fs.make_directory(root)
            descriptor: int | None = None
            while descriptor is None:  # somebody who cleans up may have been faster
                session = root / secrets.token_hex(8)
                descriptor = try_lock(session.with_suffix(".lock"))
            try:
                self._fs.make_directory(session)
            except BaseException:
                os.close(descriptor)
                raise
        return session, descriptor

    def new_path(self) -> Path:
        """A fresh name in the session folder."""
        return self.session() / secrets.token_hex(8)

    def new_folder(self) -> StagedFolder:
        """A fresh folder in the session folder."""
        path = self.new_path()
        with storage_errors("preparing a temporary folder", path):
            self._fs.make_directory(path)
        return StagedFolder(path, self._fs)

    def close(self) -> None:
        """Remove the session folder and release its lock."""
        with _SESSIONS:
            session, self._session = self._session, None
            descriptor, self._descriptor = self._descriptor, None
            mine = self._process_id == os.getpid()
        if session is None or not mine:
            return
        try:
            with storage_errors("removing the temporary folder", session):
                self._fs.remove_tree(session)
                self._fs.remove_file(session.with_suffix(".lock"))
        finally:
            if descriptor is not None:
                os.close(descriptor)


class HashingFile(io.RawIOBase):
    """A file for writing that counts and digests what passes; no seeking."""

    def __init__(self, fs: FileSystem, path: Path) -> None:
        super().__init__()
        self._file = fs.create(path)
        self._hasher = hashlib.sha256()
        self.length_bytes = 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        view = memoryview(data)
        self._file.write(view)
        self._hasher.update(view)
        self.length_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Bytes written so far."""
        return self.length_bytes

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            try:
                self._file.close()
            finally:
                super().close()

    def hexdigest(self) -> str:
        """SHA-256 of what passed."""
        return self._hasher.hexdigest()


class StagedFolder:
    """A folder that nobody sees yet; `files` maps each relative path to (bytes, SHA-256) as written."""

    def __init__(self, path: Path, fs: FileSystem) -> None:
        self.path, self.fs = path, fs
        self.files: dict[str, tuple[int, str]] = {}
        self._sources: dict[str, Path] = {}

    def _prepare(self, name: str) -> Path:
        if check_relative_path(name) in self.files:
            raise ContractError("E_STORE_NAME", f"the file {name!r} is written twice in one publication")
        path = self.path / name
        self.fs.make_directories(path.parent, self.path)
        return path

    def create(self, name: str) -> HashingFile:
        """Open a new file; call `finished` when it is closed."""
        with storage_errors(f"writing {name}", self.path):
            return HashingFile(self.fs, self._prepare(name))

    def finished(self, name: str, file: HashingFile) -> None:
        """Record what was written to a file from `create`."""
        self.files[name] = (file.length_bytes, file.hexdigest())

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a file."""
        with storage_errors(f"writing {name}", self.path):
            self.fs.write(self._prepare(name), data)
        self.files[name] = (len(data), hashlib.sha256(data).hexdigest())

    def add_parts(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file of these parts, one after the other."""
        # The file is closed within: that writes what is still buffered.
        with storage_errors(f"writing {name}", self.path), self.create(name) as file:
            for part in parts:
                file.write(part)
        self.finished(name, file)

    def add_json(self, name: str, value: Any) -> None:
        """Write a JSON document, keys sorted."""
        self.add_bytes(name, readable_json(value))

    def add_copy(self, name: str, source: Path, length_bytes: int, sha256: str) -> None:
        """Copy a file of known length and digest: `seal` checks the copy against them."""
        with storage_errors(f"copying {source.name}", source):
            self.fs.copy(source, self._prepare(name))
        self.files[name] = (length_bytes, sha256)
        self._sources[name] = source

    def seal(self) -> None:
        """Re-read every file, compare with what was written, and force all of it to the disk.

        Raises StoreError E_STORE_TORN if the disk gives back something else.
        """
        with storage_errors("checking what was written", self.path):
            for name, (length_bytes, sha256) in sorted(self.files.items()):
                path = self.path / name
                if path.stat().st_size != length_bytes or sha256_file(path) != sha256:
                    raise self._torn(name)
            self.fs.sync_files(self.path / name for name in sorted(self.files))
            folders = {self.path}
            for name in self.files:
                folder = (self.path / name).parent
                while folder != self.path:
                    folders.add(folder)
                    folder = folder.parent
            for folder in sorted(folders, reverse=True):
                self.fs.sync_directory(folder)

    def _torn(self, name: str) -> StoreError:
        source = self._sources.get(name)
        if source is not None:
            return StoreError(
                "E_STORE_DAMAGED",
                "a file that was to be copied is not what it was when its digest was taken; nothing was published",
                where=str(source),
                next_step="restore the file; if it is an object of the store, remove that object: it will be made anew",
            )
        return StoreError(
            "E_STORE_TORN",
            "a file reads back differently from what was written; nothing was published",
            where=str(self.path / name),
            next_step="check the disk, then run again",
        )

    def move_to(self, target: Path, root: Path) -> bool:
        """Make the sealed folder visible under `target`; False if that name is taken."""
        with storage_errors(f"publishing {target.name}", target):
            self.fs.make_directories(target.parent, root)
            try:
                self.fs.rename_directory(self.path, target)
                moved = True
            except FileExistsError:
                moved = False
            self.fs.sync_up(
                target.parent, root
            )  # also for what is there: its writer may have died before this
        return moved

    def discard(self) -> None:
        """Remove the folder, if it is still here; a failure is left to the next open."""
        try:
            self.fs.remove_tree(self.path)
        except OSError:
            return
