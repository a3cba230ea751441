"""Prove a 1A bundle before anything in it is read: no PASS, no read (engine-contracts 3.1 and 10.0).

Order of the checks: folder, index, flag, the bundle's own identity, data files against the flag's checksums, and then
every table against the logical digest that the bundle states of it (`bundle_tables`). A receipt that says what a
bundle means is made of nothing that the bundle only claims.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from seg1b.catalogue.bundle_law import (
    FLAG_NAME,
    INDEX_NAME,
    VALIDATION_FOLDER,
    bundle_digest,
    flag_digest,
    framed_digest,
)
from seg1b.catalogue.bundle_tables import (
    catalogue_of,
    prove_tables,
    read_catalogue,
    read_dataset,
    read_datasets,
    read_runs,
)
from seg1b.catalogue.receipt import BundleReceipt, fault
from seg1b.catalogue.tables import OUTLET_CATALOGUE, SCHEMAS, SITE_SEQUENCE, Lineage
from seg1b.store.digest import sha256_bytes, sha256_file

__all__ = [
    "BundleReceipt",
    "catalogue_of",
    "read_catalogue",
    "read_dataset",
    "read_datasets",
    "read_runs",
    "verify_bundle",
    "verify_files",
]

_FLAG_LINE = re.compile(rb"^sha256_hex = ([a-f0-9]{64})\s*$")
_HEX64 = re.compile(r"^[a-f0-9]{64}$")
_REQUIRED: Final = (
    "MANIFEST.json",
    "parameter_hash_resolved.json",
    "manifest_fingerprint_resolved.json",
    "rng_accounting.json",
    "s9_summary.json",
    "egress_checksums.json",
    INDEX_NAME,
)


def verify_bundle(root: Path, expected: Lineage | None = None) -> BundleReceipt:
    """Check the bundle under `root`, files and tables, and say what it is; `expected` demands an identity.

    Raises InputError as `verify_files` and `prove_tables`.
    """
    return prove_tables(verify_files(root, expected))


def verify_files(root: Path, expected: Lineage | None = None) -> BundleReceipt:
    """Check a bundle but for what is in its tables: the receipt repeats the rows and digests that the bundle states.

    For a bundle whose tables are known: this process wrote it, or the store published it (`states.s0_gate`).
    Raises InputError E_BUNDLE_MISSING, E_INDEX_MISSING, E_INDEX_INVALID, E_PASS_MISSING,
    E_FLAG_FORMAT_INVALID, E_FLAG_HASH_MISMATCH, E_PATH_EMBED_MISMATCH, E_PARTITION_MISPLACED,
    E_EGRESS_CHECKSUMS_INVALID, E_EGRESS_MISSING, E_EGRESS_HASH_MISMATCH.
    """
    folder = _validation_folder(root)
    contents = _indexed_contents(folder)
    flag, flag_line = _verify_flag(folder, contents)
    documents = {name: _json(folder / name, contents[name]) for name in _REQUIRED if name != INDEX_NAME}
    lineage = _verify_identity(folder, documents, expected)
    checksums = documents["egress_checksums.json"]
    files = _egress_files(folder, checksums)
    _verify_files(root, lineage, files, checksums)
    rows = {name: d["rows"] for name, d in checksums["datasets"].items()}
    logical = {name: d["logical_sha256_hex"] for name, d in checksums["datasets"].items()}
    return BundleReceipt(
        root=root,
        lineage=lineage,
        kind=str(documents["MANIFEST.json"].get("kind", "")),
        flag_sha256_hex=flag,
        egress_framed_sha256_hex=checksums["framed_sha256_hex"],
        content_sha256_hex=bundle_digest(lineage.manifest_fingerprint, rows, logical),
        dataset_rows=rows,
        dataset_logical_sha256_hex=logical,
        data_files={path: (size_bytes, sha256_hex) for path, sha256_hex, size_bytes in files},
        documents={
            (folder / name).relative_to(root).as_posix(): content
            for name, content in {**contents, FLAG_NAME: flag_line}.items()
        },
        sequence_follows=logical.get(SITE_SEQUENCE) == logical[OUTLET_CATALOGUE],
    )


# The validation folder


def _validation_folder(root: Path) -> Path:
    parent = root / VALIDATION_FOLDER
    found = sorted(parent.glob("manifest_fingerprint=*")) if parent.is_dir() else []
    if len(found) != 1:
        what = "no validation bundle" if not found else f"{len(found)} validation bundles, expected one"
        raise fault(
            "E_BUNDLE_MISSING", f"{what} under this folder", parent, "name the root folder of one 1A bundle"
        )
    return found[0]


def _indexed_contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every indexed file. The index must list exactly the files that are there, but the flag."""
    index = folder / INDEX_NAME
    if not index.is_file():
        raise fault("E_INDEX_MISSING", "the validation folder has no index.json", index)
    rows = _json(index, index.read_bytes(), code="E_INDEX_INVALID", kind=list)
    paths = [_index_path(index, number, row) for number, row in enumerate(rows, start=1)]
    for name, values in (("path", paths), ("artifact_id", [row.get("artifact_id") for row in rows])):
        repeated = sorted({str(v) for v in values if values.count(v) > 1})
        if repeated:
            raise fault("E_INDEX_INVALID", f"{name} {repeated[0]!r} is listed more than once", index)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {FLAG_NAME}
    for what, names in (
        ("is not listed", present - set(paths)),
        ("is listed but missing", set(paths) - present),
        ("belongs to the minimum set but is not listed", set(_REQUIRED) - set(paths)),
    ):
        if names:
            raise fault("E_INDEX_INVALID", f"{min(names)} {what}", index)
    return {path: (folder / path).read_bytes() for path in paths}


def _index_path(index: Path, number: int, row: Any) -> str:
    path = row.get("path") if isinstance(row, dict) else None
    legal = (
        isinstance(path, str)
        and bool(path)
        and path.isascii()
        and not path.startswith("/")
        and not set(path) & set("\\:")
        and ".." not in PurePosixPath(path).parts
        and path != FLAG_NAME
    )
    if not legal:
        raise fault("E_INDEX_INVALID", f"row {number} has an illegal path {path!r}", index)
    return str(path)


def _verify_flag(folder: Path, contents: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The flag's digest, and its bytes."""
    flag = folder / FLAG_NAME
    if not flag.is_file():
        raise fault("E_PASS_MISSING", "the bundle has no PASS flag: it may not be read", flag)
    content = flag.read_bytes()
    line = _FLAG_LINE.match(content)
    if line is None:
        raise fault("E_FLAG_FORMAT_INVALID", "the flag is not the line `sha256_hex = <64 hex digits>`", flag)
    stated = line.group(1).decode("ascii")
    computed = flag_digest(contents)
    if stated != computed:
        culprit = _culprit(contents)
        raise fault(
            "E_FLAG_HASH_MISMATCH", f"the flag says {stated}, the files give {computed}{culprit}", flag
        )
    if _culprit(contents):
        raise fault(
            "E_INDEX_INVALID",
            f"the digests in index.json are not those of the files{_culprit(contents)}",
            flag,
        )
    return stated, content


def _culprit(contents: Mapping[str, bytes]) -> str:
    """Which file differs from the digest that the index states for it; the flag alone cannot tell."""
    rows = json.loads(contents[INDEX_NAME])
    for row in rows:
        stated = row.get("sha256_hex")
        if stated is not None and stated != sha256_bytes(contents[row["path"]]):
            return f"; {row['path']} was changed"
    others = {name: content for name, content in contents.items() if name != INDEX_NAME}
    framed = framed_digest((name, sha256_bytes(content), len(content)) for name, content in others.items())
    notes = [str(row.get("notes")) for row in rows if row["path"] == INDEX_NAME]
    if any(note.startswith("framed_sha256_hex = ") and not note.endswith(framed) for note in notes):
        return f"; the framed digest in {INDEX_NAME} does not fit"
    return ""


def _json(path: Path, content: bytes, code: str = "E_PATH_EMBED_MISMATCH", kind: type = dict) -> Any:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise fault(code, f"not readable as JSON: {error}", path) from error
    if not isinstance(document, kind):
        raise fault(code, f"expected a JSON {'list' if kind is list else 'object'}", path)
    return document


def _verify_identity(folder: Path, documents: Mapping[str, Any], expected: Lineage | None) -> Lineage:
    """The fingerprint in path and documents must agree, and so must parameter hash and seed."""
    manifest = documents["MANIFEST.json"]
    seed = manifest.get("seed")
    parameter_hash = documents["parameter_hash_resolved.json"].get("parameter_hash")
    if not isinstance(seed, int) or not isinstance(parameter_hash, str) or not _HEX64.match(parameter_hash):
        raise fault("E_PATH_EMBED_MISMATCH", "seed or parameter_hash is missing or malformed", folder)
    lineage = Lineage(seed, parameter_hash, folder.name.partition("=")[2])
    identity = {
        "manifest_fingerprint": lineage.manifest_fingerprint,
        "parameter_hash": lineage.parameter_hash,
        "seed": lineage.seed,
    }
    for name, document in documents.items():
        for key, value in identity.items():
            if key in document and document[key] != value:
                message = (
                    f"{key} is {document[key]!r} in {name} but {value!r} in the bundle's path or manifest"
                )
                raise fault("E_PATH_EMBED_MISMATCH", message, folder / name)
    if expected is not None and expected != lineage:
        raise fault(
            "E_PATH_EMBED_MISMATCH",
            f"this is the bundle of {lineage}, expected {expected}",
            folder,
            "name the bundle of this run, or start a run for this bundle",
        )
    return lineage


# Data files


def _egress_files(folder: Path, checksums: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    where = folder / "egress_checksums.json"
    try:
        files = [(str(f["path"]), str(f["sha256_hex"]), int(f["size_bytes"])) for f in checksums["files"]]
        digest = framed_digest(files)
        datasets = checksums["datasets"]
        sound = all(name in SCHEMAS and _is_summary(d) for name, d in datasets.items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise fault("E_EGRESS_CHECKSUMS_INVALID", f"not a list of data files: {error!r}", where) from error
    if not sound or OUTLET_CATALOGUE not in datasets or checksums.get("framed_sha256_hex") != digest:
        raise fault("E_EGRESS_CHECKSUMS_INVALID", "the framed digest or the dataset list is wrong", where)
    return files


def _is_summary(dataset: Mapping[str, Any]) -> bool:
    """Whether this is what is stated of a dataset: its number of rows, and its logical digest."""
    rows, digest = dataset.get("rows"), dataset.get("logical_sha256_hex")
    return (
        len(dataset) == 2
        and type(rows) is int
        and rows >= 0
        and isinstance(digest, str)
        and bool(_HEX64.fullmatch(digest))
    )


def _verify_files(
    root: Path, lineage: Lineage, files: list[tuple[str, str, int]], checksums: Mapping[str, Any]
) -> None:
    """Every listed data file is in its partition, unchanged, and nothing lies beside it."""
    folders = {lineage.partition(dataset) for dataset in checksums["datasets"]}
    for path, stated, size_bytes in files:
        file = root / path
        if str(PurePosixPath(path).parent) not in folders:
            raise fault(
                "E_PARTITION_MISPLACED", "a data file lies outside the partitions of this identity", file
            )
        if not file.is_file():
            raise fault("E_EGRESS_MISSING", "a data file that the flag vouches for is missing", file)
        if file.stat().st_size != size_bytes or sha256_file(file) != stated:
            raise fault(
                "E_EGRESS_HASH_MISMATCH", f"the data file was changed: its SHA-256 is not {stated}", file
            )
    listed = {path for path, _, _ in files}
    for dataset in checksums["datasets"]:
        folder = root / lineage.partition(dataset)
        stray = [p for p in sorted(folder.rglob("*")) if p.relative_to(root).as_posix() not in listed]
        if stray or not folder.is_dir():
            file = stray[0] if stray else folder
            raise fault("E_PARTITION_MISPLACED", "a partition holds its data files and nothing else", file)
