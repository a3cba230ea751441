"""Every durable operation of the store, one method each, so that a test can fail the n-th of them.

A method either does its one thing or raises OSError; `storage_errors` turns that into a StoreError with a
code.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from seg1b.errors import Seg1bError, StoreAccessError, StoreError

_READ_ONLY_MODE = 0o444
_SYNC_THREADS = 8


class FileSystem:
    """The operating system's files; a test double overrides methods to fail or to lose un-synced bytes."""

    def create(self, path: Path, *, read_only: bool = True) -> BinaryIO:
        """Create a file that must not exist yet and open it for writing; read-only for everybody else."""
        mode = _READ_ONLY_MODE if read_only else 0o644
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")

    def append(self, path: Path, data: bytes) -> None:
        """Append to a file, creating it if need be."""
        with path.open("ab") as file:
            file.write(data)

    def truncate(self, path: Path, length_bytes: int) -> None:
        """Cut a file down to a length."""
        os.truncate(path, length_bytes)

    def sync_file(self, path: Path) -> None:
        """Force a file's bytes to the disk."""
        self._sync(path, os.O_RDONLY)

    def sync_directory(self, path: Path) -> None:
        """Force a folder's entries to the disk."""
        self._sync(path, os.O_RDONLY | os.O_DIRECTORY)

    @staticmethod
    def _sync(path: Path, flags: int) -> None:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, path: Path) -> None:
        """Create one folder; fine if it exists."""
        path.mkdir(exist_ok=True)

    def rename_directory(self, source: Path, target: Path) -> None:
        """Rename a folder to a name that is free; FileExistsError if it is taken by a non-empty folder."""
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            raise

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file, atomically replacing the target."""
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; FileExistsError if that name is taken."""
        os.link(source, target)

    def copy(self, source: Path, target: Path) -> None:
        """Copy the bytes of a file to a new read-only file (a real copy: no link to the original)."""
        with source.open("rb") as reader, self.create(target) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)

    def remove_file(self, path: Path) -> None:
        """Remove a file; fine if it is gone."""
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and all below it; fine if it is gone, or goes meanwhile."""

        def ignore_missing(_function: object, _path: object, information: Any) -> None:
            if not isinstance(information[1], FileNotFoundError):
                raise information[1]

        shutil.rmtree(path, onerror=ignore_missing)

    def write(self, path: Path, data: bytes, *, read_only: bool = True) -> None:
        """Create a file with these bytes."""
        with self.create(path, read_only=read_only) as file:
            file.write(data)

    def sync_files(self, paths: Iterable[Path]) -> None:
        """Force many files to the disk, several at a time."""
        todo = list(paths)
        if len(todo) < 3:
            for path in todo:
                self.sync_file(path)
            return
        with ThreadPoolExecutor(min(_SYNC_THREADS, len(todo))) as pool:
            for _ in pool.map(self.sync_file, todo):
                pass

    def sync_up(self, directory: Path, root: Path) -> None:
        """Force a folder's entries to the disk, and those of every folder above it up to `root`."""
        while True:
            self.sync_directory(directory)
            if directory == root:
                return
            directory = directory.parent

    def make_directories(self, path: Path, root: Path) -> None:
        """Create `path` and what is missing between it and `root`, which must exist."""
        if path == root or path.is_dir():
            return
        self.make_directories(path.parent, root)
        self.make_directory(path)


@contextmanager
def storage_errors(action: str, where: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError that says what to do."""
    try:
        yield
    except Seg1bError:
        raise
    except OSError as error:
        raise _translated(error, action, where) from error


def _translated(error: OSError, action: str, where: Path) -> StoreError:
    reason = error.strerror or str(error) or type(error).__name__
    kind = StoreError
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        kind, code = StoreAccessError, "E_STORE_FULL"
        next_step = "free space (`seg1b runs prune` shows what may go) and run again"
    elif error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        kind, code = StoreAccessError, "E_STORE_READ_ONLY"
        next_step = "make the folder writable, or choose another one"
    elif error.errno in {errno.ENOENT, errno.ENOTDIR}:
        code, next_step = "E_STORE_MISSING", "check that the store's folder is there and complete"
    else:
        code, next_step = "E_STORE_IO", "check the disk, then run again: nothing was half-published"
    return kind(code, f"{action} failed: {reason}", where=str(where), next_step=next_step)
