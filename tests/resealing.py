"""1A bundles whose tables were changed and whose digests, index and flag were made to fit again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seg1b.catalogue.bundle_law import FLAG_NAME, INDEX_NAME, flag_digest, framed_digest, rows_digest
from seg1b.catalogue.tables import SCHEMAS
from seg1b.store.digest import sha256_bytes, sha256_file


def data_file(root: Path, dataset: str) -> Path:
    """The one data file of a dataset."""
    (path,) = root.glob(f"data/layer1/1A/{dataset}/**/*.parquet")
    return path


def table_of(root: Path, dataset: str) -> pa.Table:
    """All rows of a dataset."""
    return pq.read_table(data_file(root, dataset), partitioning=None)


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """A table with other values in one column."""
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def reseal(
    root: Path,
    changes: Mapping[str, Callable[[pa.Table], pa.Table] | None],
    *,
    restate: bool = True,
    kind: str | None = None,
) -> Path:
    """Change tables (None: drop) of the bundle at `root`; returns `root`.

    `restate`: logical digests are made to fit as well, else those of the honest tables stay. `kind`: what the manifest
    says from now on.
    """
    folder = next((root / "data/layer1/1A/validation").iterdir())
    checksums = json.loads((folder / "egress_checksums.json").read_bytes())
    for dataset, change in changes.items():
        path = data_file(root, dataset)
        if change is None:
            del checksums["datasets"][dataset]
            path.unlink()
            continue
        table = change(table_of(root, dataset)).cast(SCHEMAS[dataset])
        pq.write_table(table, path, store_schema=False)
        rows, digest = rows_digest(SCHEMAS[dataset], [table])
        checksums["datasets"][dataset]["rows"] = rows
        if restate:
            checksums["datasets"][dataset]["logical_sha256_hex"] = digest
    checksums["files"] = [
        {"path": e["path"], "sha256_hex": sha256_file(root / e["path"]),
         "size_bytes": (root / e["path"]).stat().st_size}
        for e in checksums["files"] if (root / e["path"]).is_file()
    ]  # fmt: skip
    files = [(e["path"], e["sha256_hex"], e["size_bytes"]) for e in checksums["files"]]
    checksums["framed_sha256_hex"] = framed_digest(files)
    (folder / "egress_checksums.json").write_text(json.dumps(checksums))
    if kind is not None:
        manifest = json.loads((folder / "MANIFEST.json").read_bytes())
        (folder / "MANIFEST.json").write_text(json.dumps({**manifest, "kind": kind}))
    _reflag(folder)
    return root


def _reflag(folder: Path) -> None:
    contents = {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in (FLAG_NAME, INDEX_NAME)}
    framed = framed_digest((name, sha256_bytes(data), len(data)) for name, data in contents.items())
    index = json.loads((folder / INDEX_NAME).read_bytes())
    for row in index:
        own = row["path"] == INDEX_NAME
        row["notes"] = f"framed_sha256_hex = {framed}" if own else None
        row["sha256_hex"] = None if own else sha256_bytes(contents[row["path"]])
    (folder / INDEX_NAME).write_text(json.dumps(index))
    contents[INDEX_NAME] = (folder / INDEX_NAME).read_bytes()
    (folder / FLAG_NAME).write_text(f"sha256_hex = {flag_digest(contents)}\n")
