"""Manifests of outputs and receipts of their parts: what was published, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from seg1b.errors import StoreError
from seg1b.store.digest import canonical_json, sha256_bytes
from seg1b.store.filesystem import storage_errors
from seg1b.store.tables import TableEntry, damaged

MANIFEST_FORMAT = 2


@dataclass(frozen=True)
class FileEntry:
    """Length and SHA-256 of one file."""

    length_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One published output (or part of one). `documents` are the files that are no tables, by SHA-256.

    `logical_digest` covers tables by their rows, documents by their bytes, facts and inputs, but no file
    layout: it is equal whenever the content is. No clocks, no paths outside the folder.
    """

    state: str
    key: str
    tables: Mapping[str, TableEntry]
    documents: Mapping[str, str]
    files: Mapping[str, FileEntry]
    facts: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each thing that must be equal for two publications to be the same."""
        tables = {name: entry.logical_digest for name, entry in self.tables.items()}
        return content_digests(tables, self.documents, self.facts, self.inputs)

    @property
    def logical_digest(self) -> str:
        """Digest of the content, 64 hex."""
        return sha256_bytes(canonical_json(self.digests))

    @property
    def length_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.length_bytes for entry in self.files.values())

    def rows(self, table: str) -> int:
        """Rows of a table."""
        return self.tables[table].rows

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "format": MANIFEST_FORMAT,
            "state": self.state,
            "key": self.key,
            "logical_digest": self.logical_digest,
            "tables": {name: entry.to_json() for name, entry in self.tables.items()},
            "documents": dict(self.documents),
            "files": {
                name: {"length_bytes": entry.length_bytes, "sha256": entry.sha256}
                for name, entry in self.files.items()
            },
            "facts": dict(self.facts),
            "inputs": dict(self.inputs),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        """Inverse of `to_json`; raises KeyError, TypeError or ValueError (also for a wrong digest)."""
        manifest = cls(
            value["state"],
            value["key"],
            {name: TableEntry.from_json(entry) for name, entry in value["tables"].items()},
            dict(value["documents"]),
            {name: FileEntry(**entry) for name, entry in value["files"].items()},
            dict(value["facts"]),
            dict(value["inputs"]),
        )
        _require_digest(value, manifest.logical_digest)
        return manifest


def content_digests(
    tables: Mapping[str, str],
    documents: Mapping[str, str],
    facts: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> dict[str, str]:
    """Digest of each thing that a manifest speaks of; `tables` and `documents`: digest by name."""
    found = {f"table {name}": digest for name, digest in tables.items()}
    found.update({f"document {name}": digest for name, digest in documents.items()})
    found["facts"] = sha256_bytes(canonical_json(dict(facts)))
    found["inputs"] = sha256_bytes(canonical_json(dict(inputs)))
    return found


def read_json(path: Path) -> Any:
    """Read a JSON file of the store; StoreError E_STORE_DAMAGED if it is none."""
    with storage_errors("reading a record", path):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except ValueError as error:
        raise damaged(path, f"it is no JSON ({error})") from error


@lru_cache(maxsize=32)
def _parsed(data: bytes) -> Manifest:
    """The manifest in these bytes: a task reads the same one many times. Raises what `from_json` does."""
    return Manifest.from_json(json.loads(data))


def read_manifest(path: Path, state: str, key: str) -> Manifest:
    """Read a manifest (or part receipt) and check that it is whole and speaks of `state` and `key`.

    Raises StoreError E_STORE_DAMAGED if not.
    """
    with _consistent(path) as data:
        manifest = _parsed(data)
        _require_speaks_of(state, key, manifest.state, manifest.key)
    return manifest


@dataclass(frozen=True)
class Holding:
    """What retention asks of an output: what it was made from (key by state), and bytes of its files and manifest."""

    inputs: Mapping[str, str]
    length_bytes: int


def read_holding(path: Path, state: str, key: str) -> Holding:
    """As a manifest says whose digest holds; whether its tables' digests follow from their parts is not asked.

    Raises StoreError E_STORE_DAMAGED.
    """
    with _consistent(path) as data:
        value = json.loads(data)
        tables = {name: table["logical_digest"] for name, table in value["tables"].items()}
        digests = content_digests(tables, value["documents"], value["facts"], value["inputs"])
        _require_digest(value, sha256_bytes(canonical_json(digests)))
        _require_speaks_of(state, key, value["state"], value["key"])
        length_bytes = len(data) + sum(int(file["length_bytes"]) for file in value["files"].values())
        return Holding(dict(value["inputs"]), length_bytes)


@contextmanager
def _consistent(path: Path) -> Iterator[bytes]:
    """The bytes of a manifest; what is wrong with them is told as damage."""
    with storage_errors("reading a record", path):
        data = path.read_bytes()
    try:
        yield data
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, f"the manifest is not consistent ({error})") from error


def _require_digest(value: Mapping[str, Any], digest: str) -> None:
    if value["format"] != MANIFEST_FORMAT or digest != value["logical_digest"]:
        raise ValueError("its digest does not follow from its content")


def _require_speaks_of(state: str, key: str, found_state: str, found_key: str) -> None:
    if (found_state, found_key) != (state, key):
        raise ValueError(f"it speaks of {found_state} {found_key}")


def require_same(published: Manifest, offered: Manifest, where: Path) -> None:
    """Two publications under one key must be the same; StoreError E_STORE_CONFLICT names both digests."""
    old, new = published.digests, offered.digests
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            raise conflict(offered.state, name, old.get(name, "nothing"), new.get(name, "nothing"), where)


def conflict(state: str, what: str, published: str, offered: str, where: Path) -> StoreError:
    """The error for different content under one key."""
    return StoreError(
        "E_STORE_CONFLICT",
        f"{state} gave different content for a key that is already published; {what}: published {published}, "
        f"now {offered}",
        where=str(where),
        next_step="equal keys must mean equal outputs: a file of this store was damaged since (another store, --runs, "
        "tells), the state's code changed without its revision, or something in it is not deterministic; the published "
        "object was not touched",
    )
