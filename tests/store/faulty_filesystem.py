"""A file system that fails at its n-th operation, and one on which the power fails there.

The model of a power cut: bytes of a file that were not synced are torn (half of them are left), and changes
of a folder that was not synced are either kept or undone, whichever the test asks for. Both happen on disks.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from seg1b.store.filesystem import FileSystem

Fault = Literal["error", "full", "cut_kept", "cut_undone"]
FAULTS: tuple[Fault, ...] = ("error", "full", "cut_kept", "cut_undone")


class PowerCutError(BaseException):
    """The machine stopped: nothing of the program runs any more."""


class UnsyncedFileSystem(FileSystem):
    """A fast file system for tests that are not about durability."""

    def sync_file(self, path: Path) -> None:
        """Do nothing."""

    def sync_directory(self, path: Path) -> None:
        """Do nothing."""


@dataclass
class _Change:
    """A change of a folder's entries that is not on the disk yet."""

    folder: Path
    kind: Literal["new", "renamed", "replaced"]
    path: Path
    source: Path | None = None
    old: bytes | None = None
    moved: list[Path] = field(default_factory=list)


class FaultyFileSystem(FileSystem):
    """Counts operations; the `fail_at`-th one fails in the way of `fault`."""

    def __init__(self, fail_at: int = 0, fault: Fault = "error") -> None:
        self.operations = 0
        self.names: list[str] = []
        self._fail_at, self._fault = fail_at, fault
        self._mutex = threading.Lock()
        self._dead = False
        self._unsynced: set[Path] = set()
        self._changes: list[_Change] = []

    def _step(self, name: str, *, needs_space: bool = False) -> None:
        with self._mutex:
            if self._dead:
                raise PowerCutError
            self.operations += 1
            self.names.append(name)
            if self._fail_at and self._fault == "full":
                if self.operations >= self._fail_at and needs_space:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return
            if self.operations == self._fail_at:
                if self._fault == "error":
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                self._dead = True
                raise PowerCutError

    def create(self, path: Path, *, read_only: bool = True) -> BinaryIO:
        """Create a file whose bytes and name are not on the disk yet."""
        self._step("create", needs_space=True)
        file = super().create(path, read_only=read_only)
        self._unsynced.add(path)
        self._changes.append(_Change(path.parent, "new", path))
        return cast(BinaryIO, _FaultyFile(self, file))

    def append(self, path: Path, data: bytes) -> None:
        """Append bytes that are not on the disk yet."""
        self._step("append", needs_space=True)
        if not path.exists():
            self._changes.append(_Change(path.parent, "new", path))
        super().append(path, data)
        self._unsynced.add(path)

    def truncate(self, path: Path, length_bytes: int) -> None:
        """Cut a file."""
        self._step("truncate")
        super().truncate(path, length_bytes)

    def sync_file(self, path: Path) -> None:
        """From here on the bytes survive."""
        self._step("sync_file")
        self._unsynced.discard(path)

    def sync_directory(self, path: Path) -> None:
        """From here on the entries survive."""
        self._step("sync_directory")
        self._changes = [change for change in self._changes if change.folder != path]

    def make_directory(self, path: Path) -> None:
        """Create a folder whose name is not on the disk yet."""
        self._step("make_directory", needs_space=True)
        if not path.exists():
            self._changes.append(_Change(path.parent, "new", path))
        super().make_directory(path)

    def rename_directory(self, source: Path, target: Path) -> None:
        """Rename, not on the disk yet."""
        self._step("rename_directory")
        super().rename_directory(source, target)
        self._follow(source, target)
        self._changes.append(_Change(target.parent, "renamed", target, source))

    def replace(self, source: Path, target: Path) -> None:
        """Replace, not on the disk yet."""
        self._step("replace")
        old = target.read_bytes() if target.exists() else None
        super().replace(source, target)
        self._follow(source, target)
        self._changes.append(_Change(target.parent, "replaced", target, source, old))

    def link(self, source: Path, target: Path) -> None:
        """Link, not on the disk yet."""
        self._step("link")
        super().link(source, target)
        if source in self._unsynced:
            self._unsynced.add(target)
        self._changes.append(_Change(target.parent, "new", target))

    def copy(self, source: Path, target: Path) -> None:
        """Copy."""
        self._step("copy", needs_space=True)
        super().copy(source, target)

    def remove_file(self, path: Path) -> None:
        """Remove."""
        self._step("remove_file")
        super().remove_file(path)
        self._unsynced.discard(path)

    def remove_tree(self, path: Path) -> None:
        """Remove."""
        self._step("remove_tree")
        super().remove_tree(path)
        self._unsynced = {name for name in self._unsynced if path not in name.parents}
        self._changes = [change for change in self._changes if path not in change.path.parents]

    def _follow(self, source: Path, target: Path) -> None:
        def moved(path: Path) -> Path:
            return target / path.relative_to(source) if path == source or source in path.parents else path

        self._unsynced = {moved(path) for path in self._unsynced}
        self._changes = [change for change in self._changes if change.path != source]  # its old name is gone
        for change in self._changes:
            change.path = moved(change.path)
            if change.folder == source or source in change.folder.parents:
                change.folder = moved(change.folder)

    def crash(self) -> None:
        """Leave on the disk what a power cut leaves."""
        if self._fault not in {"cut_kept", "cut_undone"}:
            return
        for path in self._unsynced:
            if path.is_file():
                path.chmod(0o644)
                os.truncate(path, path.stat().st_size // 2)
        if self._fault == "cut_undone":
            for change in reversed(self._changes):
                self._undo(change)

    @staticmethod
    def _undo(change: _Change) -> None:
        if not change.path.exists():
            return
        if change.kind == "renamed" and change.source is not None and change.source.parent.is_dir():
            change.path.rename(change.source)
        elif change.kind == "replaced" and change.old is not None:
            change.path.unlink()
            change.path.write_bytes(change.old)
        elif change.path.is_dir():
            FileSystem().remove_tree(change.path)
        else:
            change.path.unlink()


class _FaultyFile(io.RawIOBase):
    """A file of a `FaultyFileSystem`: writing is an operation too."""

    def __init__(self, fs: FaultyFileSystem, file: BinaryIO) -> None:
        super().__init__()
        self._fs, self._file = fs, file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._fs._step("write", needs_space=True)
        return self._file.write(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            super().close()
