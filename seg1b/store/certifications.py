"""Certification packs: `certifications/<cert_id>/`, published whole, once, and kept until removed by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seg1b.errors import InputError, StoreError
from seg1b.store.digest import sha256_file
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import Layout, check_key
from seg1b.store.locks import StoreLock
from seg1b.store.manifest import read_json
from seg1b.store.records import did_you_mean
from seg1b.store.staging import StagedFolder, StagingArea

VOLATILE = ("telemetry.json",)


class Certifications:
    """Publish and find certification packs."""

    def __init__(self, layout: Layout, fs: FileSystem, staging: StagingArea, lock: StoreLock) -> None:
        self._layout, self._fs, self._staging, self._lock = layout, fs, staging, lock

    def ids(self) -> tuple[str, ...]:
        """All certifications, sorted."""
        folder = self._layout.certifications
        if not folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))

    def has(self, cert_id: str) -> bool:
        """Whether this certification is published."""
        return (self._layout.certifications / check_key(cert_id)).is_dir()

    def path(self, cert_id: str) -> Path:
        """Folder of a certification, by id or unique prefix; else InputError E_STORE_UNKNOWN_ID."""
        known = list(self.ids())
        matches = [name for name in known if name.startswith(cert_id)] if len(cert_id) >= 6 else []
        if cert_id in known or len(matches) == 1:
            return self._layout.certifications / (cert_id if cert_id in known else matches[0])
        raise InputError(
            "E_STORE_UNKNOWN_ID",
            f"there is no certification {cert_id!r}{did_you_mean(cert_id, known)}",
            where=str(self._layout.certifications),
            next_step="known: " + (", ".join(known) or "none yet"),
        )

    def read_json(self, cert_id: str, name: str) -> Any:
        """A JSON file of a certification."""
        return read_json(self.path(cert_id) / name)

    @contextmanager
    def publish(self, cert_id: str, volatile: Collection[str] = VOLATILE) -> Iterator[StagedFolder]:
        """Publish a pack at the end of the block; nothing if the block raises.

        The staged folder takes bytes, JSON and copies of published files (`Store.copy_into`). The same
        files again: nothing happens (`volatile` files, such as timings, are not compared). Other files:
        E_STORE_CONFLICT.
        """
        check_key(cert_id)
        with self.draft() as folder:
            yield folder
            self.publish_draft(folder, cert_id, volatile)

    @contextmanager
    def draft(self) -> Iterator[StagedFolder]:
        """The folder of a pack whose id is not known yet; `publish_draft` makes it visible, else nothing stays."""
        folder = self._staging.new_folder()
        try:
            yield folder
        finally:
            folder.discard()

    def publish_draft(self, folder: StagedFolder, cert_id: str, volatile: Collection[str] = VOLATILE) -> None:
        """Publish a draft under its id, as `publish` does."""
        target = self._layout.certifications / check_key(cert_id)
        folder.seal()
        if not folder.move_to(target, self._layout.root):
            self._require_same(target, folder, volatile)

    def _require_same(self, target: Path, folder: StagedFolder, volatile: Collection[str]) -> None:
        with storage_errors("reading a certification", target):
            published = {
                path.relative_to(target).as_posix(): sha256_file(path)
                for path in sorted(target.rglob("*"))
                if path.is_file()
            }
        offered = {name: sha256 for name, (_, sha256) in folder.files.items()}
        for name in sorted({*published, *offered} - set(volatile)):
            old, new = published.get(name, "nothing"), offered.get(name, "nothing")
            if old != new:
                raise StoreError(
                    "E_STORE_CONFLICT",
                    f"this certification is already published with other content; "
                    f"{name}: published {old}, now {new}",
                    where=str(target),
                    next_step="the id is a digest of the facts, so something in it is not deterministic; the "
                    "published pack was not touched",
                )

    def require_full_id(self, cert_id: str) -> Path:
        """Folder of a certification. Raises InputError E_STORE_UNKNOWN_ID for an unknown id or a mere prefix."""
        target = self.path(cert_id)
        if target.name != cert_id:
            raise InputError(
                "E_STORE_UNKNOWN_ID", "a certification is removed by its full id only", where=str(target),
                next_step=f"repeat with {target.name}",
            )  # fmt: skip
        return target

    def remove(self, cert_id: str) -> None:
        """Remove a pack by its full id. Nothing else ever does.

        Raises InputError as `require_full_id`, StoreError where the disk refuses.
        """
        with self._lock.hold(f"removing certification {cert_id}"):
            target = self.require_full_id(cert_id)
            with storage_errors("removing a certification", target):
                grave = self._staging.new_path()
                self._fs.rename_directory(target, grave)
                self._fs.sync_directory(target.parent)
        with storage_errors("removing a certification", grave):
            self._fs.remove_tree(grave)
