"""Open or create a store: its format version is checked before anything else is read."""

from __future__ import annotations

import json

from seg1b.errors import InputError, StoreError
from seg1b.store.digest import readable_json
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import Layout
from seg1b.store.staging import StagingArea

FORMAT_VERSION = 2


def open_root(layout: Layout, fs: FileSystem, *, create: bool) -> None:
    """Check the format version; create an empty store if allowed.

    Raises InputError E_STORE_MISSING, E_STORE_NOT_A_STORE or E_STORE_FORMAT, StoreError if it cannot be
    written.
    """
    root = layout.root
    if root.exists() and not root.is_dir():
        raise InputError(
            "E_STORE_NOT_A_STORE", "this is a file, not a folder", where=str(root), next_step="name a folder"
        )
    if not layout.format_file.exists():
        _create(layout, fs, create=create)
    _check_format(layout)


def _create(layout: Layout, fs: FileSystem, *, create: bool) -> None:
    root = layout.root
    if not create:
        raise InputError(
            "E_STORE_MISSING",
            "there is no run store here",
            where=str(root),
            next_step="check the path; the first certification creates the store",
        )
    known = layout.names()
    if root.is_dir():
        foreign = sorted(
            path.name for path in root.iterdir() if path.name not in known and path.name[0] != "."
        )
        if foreign:
            raise InputError(
                "E_STORE_NOT_A_STORE",
                f"the folder is not empty and is no run store (it holds {foreign[0]!r})",
                where=str(root),
                next_step="name an empty folder or an existing store",
            )
    staging = StagingArea(layout, fs)
    try:
        with storage_errors("creating the run store", root):
            root.mkdir(parents=True, exist_ok=True)
            temporary = staging.new_path()
            fs.write(temporary, readable_json({"format": FORMAT_VERSION, "product": "seg1b run store"}))
            fs.sync_file(temporary)
            fs.replace(temporary, layout.format_file)
            fs.sync_directory(root)
            fs.sync_directory(root.parent)
    finally:
        staging.close()


def _check_format(layout: Layout) -> None:
    path = layout.format_file
    with storage_errors("reading the store's format", path):
        data = path.read_bytes()
    try:
        version = json.loads(data)["format"]
        if not isinstance(version, int):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            "E_STORE_DAMAGED",
            "the FORMAT file of this store cannot be read",
            where=str(path),
            next_step='restore it ({"format": 2} is what this version writes) or start a new store',
        ) from None
    if version != FORMAT_VERSION:
        newer = version > FORMAT_VERSION
        raise InputError(
            "E_STORE_FORMAT",
            f"this store has format {version}; this seg1b reads format {FORMAT_VERSION}",
            where=str(path),
            next_step=(
                "upgrade seg1b, or use another store"
                if newer
                else "use another store: everything in it can be made again, and its certificates stay valid"
            ),
        )
