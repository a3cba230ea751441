"""Prove a 1A bundle before anything in it is read: no PASS, no read (engine-contracts 3.1 and 10.0).

Order of the checks: folder, index, flag, the bundle's own identity, data files against the flag's checksums.
Only then may `outlet_catalogue` be opened; its lineage columns are compared with the path, and its rows with
the contract.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seg1b.catalogue.bundle import (
    FLAG_NAME,
    INDEX_NAME,
    VALIDATION_FOLDER,
    flag_digest,
    framed_digest,
    pairs_digest,
)
from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.tables import OUTLET_CATALOGUE, SCHEMAS, Lineage
from seg1b.errors import InputError
from seg1b.store.digest import sha256_bytes, sha256_file

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
_RESTORE: Final = "restore the bundle from where it was made, or make it again; never edit its files"


@dataclass(frozen=True)
class BundleReceipt:
    """What was proven. `content_sha256_hex` depends on the tables' meaning only, not on Parquet's bytes.

    `flag_sha256_hex` is the flag's own value, `egress_framed_sha256_hex` covers every data file's bytes.
    """

    root: Path
    lineage: Lineage
    kind: str
    flag_sha256_hex: str
    egress_framed_sha256_hex: str
    content_sha256_hex: str
    dataset_rows: Mapping[str, int]
    dataset_logical_sha256_hex: Mapping[str, str]

    def part_files(self, dataset: str) -> list[Path]:
        """Parquet files of a dataset, in name order."""
        return sorted((self.root / self.lineage.partition(dataset)).glob("*.parquet"))


def verify_bundle(root: Path, expected: Lineage | None = None) -> BundleReceipt:
    """Check the bundle under `root` and say what it is; `expected` demands an identity.

    Raises InputError E_BUNDLE_MISSING, E_INDEX_MISSING, E_INDEX_INVALID, E_PASS_MISSING,
    E_FLAG_FORMAT_INVALID, E_FLAG_HASH_MISMATCH, E_PATH_EMBED_MISMATCH, E_PARTITION_MISPLACED,
    E_EGRESS_CHECKSUMS_INVALID, E_EGRESS_MISSING, E_EGRESS_HASH_MISMATCH.
    """
    folder = _validation_folder(root)
    contents = _indexed_contents(folder)
    flag = _verify_flag(folder, contents)
    documents = {name: _json(folder / name, contents[name]) for name in _REQUIRED if name != INDEX_NAME}
    lineage = _verify_identity(folder, documents, expected)
    checksums = documents["egress_checksums.json"]
    files = _egress_files(folder, checksums)
    _verify_files(root, lineage, files, checksums)
    return BundleReceipt(
        root=root,
        lineage=lineage,
        kind=str(documents["MANIFEST.json"].get("kind", "")),
        flag_sha256_hex=flag,
        egress_framed_sha256_hex=checksums["framed_sha256_hex"],
        content_sha256_hex=_content_digest(lineage, checksums["datasets"]),
        dataset_rows={name: d["rows"] for name, d in checksums["datasets"].items()},
        dataset_logical_sha256_hex={
            name: d["logical_sha256_hex"] for name, d in checksums["datasets"].items()
        },
    )


def _fault(code: str, message: str, where: Path, next_step: str = _RESTORE) -> InputError:
    return InputError(code, message, where=str(where), next_step=next_step)


def _content_digest(lineage: Lineage, datasets: Mapping[str, Any]) -> str:
    entries = [(name, d["logical_sha256_hex"], d["rows"]) for name, d in datasets.items()]
    return framed_digest([*entries, ("manifest_fingerprint", lineage.manifest_fingerprint, 0)])


# The validation folder


def _validation_folder(root: Path) -> Path:
    parent = root / VALIDATION_FOLDER
    found = sorted(parent.glob("manifest_fingerprint=*")) if parent.is_dir() else []
    if len(found) != 1:
        what = "no validation bundle" if not found else f"{len(found)} validation bundles, expected one"
        raise _fault(
            "E_BUNDLE_MISSING", f"{what} under this folder", parent, "name the root folder of one 1A bundle"
        )
    return found[0]


def _indexed_contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every indexed file. The index must list exactly the files that are there, but the flag."""
    index = folder / INDEX_NAME
    if not index.is_file():
        raise _fault("E_INDEX_MISSING", "the validation folder has no index.json", index)
    rows = _json(index, index.read_bytes(), code="E_INDEX_INVALID", kind=list)
    paths = [_index_path(index, number, row) for number, row in enumerate(rows, start=1)]
    for name, values in (("path", paths), ("artifact_id", [row.get("artifact_id") for row in rows])):
        repeated = sorted({str(v) for v in values if values.count(v) > 1})
        if repeated:
            raise _fault("E_INDEX_INVALID", f"{name} {repeated[0]!r} is listed more than once", index)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {FLAG_NAME}
    for what, names in (
        ("is not listed", present - set(paths)),
        ("is listed but missing", set(paths) - present),
        ("belongs to the minimum set but is not listed", set(_REQUIRED) - set(paths)),
    ):
        if names:
            raise _fault("E_INDEX_INVALID", f"{min(names)} {what}", index)
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
        raise _fault("E_INDEX_INVALID", f"row {number} has an illegal path {path!r}", index)
    return str(path)


def _verify_flag(folder: Path, contents: Mapping[str, bytes]) -> str:
    flag = folder / FLAG_NAME
    if not flag.is_file():
        raise _fault("E_PASS_MISSING", "the bundle has no PASS flag: it may not be read", flag)
    line = _FLAG_LINE.match(flag.read_bytes())
    if line is None:
        raise _fault("E_FLAG_FORMAT_INVALID", "the flag is not the line `sha256_hex = <64 hex digits>`", flag)
    stated = line.group(1).decode("ascii")
    computed = flag_digest(contents)
    if stated != computed:
        culprit = _culprit(contents)
        raise _fault(
            "E_FLAG_HASH_MISMATCH", f"the flag says {stated}, the files give {computed}{culprit}", flag
        )
    if _culprit(contents):
        raise _fault(
            "E_INDEX_INVALID",
            f"the digests in index.json are not those of the files{_culprit(contents)}",
            flag,
        )
    return stated


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
        raise _fault(code, f"not readable as JSON: {error}", path) from error
    if not isinstance(document, kind):
        raise _fault(code, f"expected a JSON {'list' if kind is list else 'object'}", path)
    return document


def _verify_identity(folder: Path, documents: Mapping[str, Any], expected: Lineage | None) -> Lineage:
    """The fingerprint in path and documents must agree, and so must parameter hash and seed."""
    manifest = documents["MANIFEST.json"]
    seed = manifest.get("seed")
    parameter_hash = documents["parameter_hash_resolved.json"].get("parameter_hash")
    if not isinstance(seed, int) or not isinstance(parameter_hash, str) or not _HEX64.match(parameter_hash):
        raise _fault("E_PATH_EMBED_MISMATCH", "seed or parameter_hash is missing or malformed", folder)
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
                raise _fault("E_PATH_EMBED_MISMATCH", message, folder / name)
    if expected is not None and expected != lineage:
        raise _fault(
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
        sound = all(set(d) == {"rows", "logical_sha256_hex"} for d in datasets.values())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _fault("E_EGRESS_CHECKSUMS_INVALID", f"not a list of data files: {error!r}", where) from error
    if not sound or OUTLET_CATALOGUE not in datasets or checksums.get("framed_sha256_hex") != digest:
        raise _fault("E_EGRESS_CHECKSUMS_INVALID", "the framed digest or the dataset list is wrong", where)
    return files


def _verify_files(
    root: Path, lineage: Lineage, files: list[tuple[str, str, int]], checksums: Mapping[str, Any]
) -> None:
    """Every listed data file is in its partition, unchanged, and nothing lies beside it."""
    folders = {lineage.partition(dataset) for dataset in checksums["datasets"]}
    for path, stated, size_bytes in files:
        file = root / path
        if str(PurePosixPath(path).parent) not in folders:
            raise _fault(
                "E_PARTITION_MISPLACED", "a data file lies outside the partitions of this identity", file
            )
        if not file.is_file():
            raise _fault("E_EGRESS_MISSING", "a data file that the flag vouches for is missing", file)
        if file.stat().st_size != size_bytes or sha256_file(file) != stated:
            raise _fault(
                "E_EGRESS_HASH_MISMATCH", f"the data file was changed: its SHA-256 is not {stated}", file
            )
    listed = {path for path, _, _ in files}
    for dataset in checksums["datasets"]:
        folder = root / lineage.partition(dataset)
        stray = [p for p in sorted(folder.rglob("*")) if p.relative_to(root).as_posix() not in listed]
        if stray or not folder.is_dir():
            file = stray[0] if stray else folder
            raise _fault("E_PARTITION_MISPLACED", "a partition holds its data files and nothing else", file)


def read_dataset(receipt: BundleReceipt, dataset: str) -> pa.Table:
    """One dataset of a verified bundle, with its declared types. Raises InputError E305_SCHEMA_INVALID."""
    tables = []
    for path in receipt.part_files(dataset):
        table = pq.read_table(path, partitioning=None)
        if table.schema.names != SCHEMAS[dataset].names or table.schema.types != SCHEMAS[dataset].types:
            raise _fault("E305_SCHEMA_INVALID", f"columns of {dataset} are not those of the contract", path)
        tables.append(table)
    return pa.concat_tables(tables)


def read_datasets(receipt: BundleReceipt) -> dict[str, pa.Table]:
    """Every dataset that the bundle has: what the guard judges. Row-per-outlet tables come whole."""
    return {name: read_dataset(receipt, name) for name in SCHEMAS if name in receipt.dataset_rows}


def read_catalogue(receipt: BundleReceipt, iso: tuple[str, ...]) -> OutletCatalogue:
    """The outlet catalogue of a verified bundle, over the country table `iso`, row group by row group.

    Raises InputError E_PATH_EMBED_MISMATCH, E302_FK_COUNTRY, E307_PK_DUPLICATE, E308_COUNTS_MISMATCH,
    E310_UNSORTED, E314_SITE_ORDER_INTEGRITY, E305_SCHEMA_INVALID, E_EGRESS_HASH_MISMATCH (rows are not those
    of the logical digest).
    """
    groups = [
        _pairs_of_rows(rows, receipt, path, iso)
        for path in receipt.part_files(OUTLET_CATALOGUE)
        for rows in _row_groups(path)
    ]
    where = receipt.root / receipt.lineage.partition(OUTLET_CATALOGUE)
    columns = {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}
    _require_ascending(columns["merchant_id"], columns["country"], where)
    catalogue = OutletCatalogue(iso=iso, seed=receipt.lineage.seed, **columns)
    if pairs_digest(catalogue) != receipt.dataset_logical_sha256_hex[OUTLET_CATALOGUE]:
        raise _fault("E_EGRESS_HASH_MISMATCH", "the rows are not those of the bundle's logical digest", where)
    return catalogue


def _row_groups(path: Path) -> list[pa.Table]:
    file = pq.ParquetFile(path)
    expected = SCHEMAS[OUTLET_CATALOGUE]
    if file.schema_arrow.names != expected.names or file.schema_arrow.types != expected.types:
        raise _fault(
            "E305_SCHEMA_INVALID", "the outlet catalogue does not have the contract's ten columns", path
        )
    return [file.read_row_group(i) for i in range(file.num_row_groups)]


def _pairs_of_rows(
    rows: pa.Table, receipt: BundleReceipt, path: Path, iso: tuple[str, ...]
) -> dict[str, npt.NDArray[Any]]:
    tokens = {
        "manifest_fingerprint": receipt.lineage.manifest_fingerprint,
        "global_seed": receipt.lineage.seed,
    }
    for name, token in tokens.items():
        other = [value for value in pc.unique(rows.column(name)).to_pylist() if value != token]
        if other:
            raise _fault(
                "E_PATH_EMBED_MISMATCH", f"{name} {other[0]!r} in the rows, {token!r} in the path", path
            )
    merchant_id = rows.column("merchant_id").to_numpy()
    country = _country_index(rows.column("legal_country_iso"), iso, path)
    home = _country_index(rows.column("home_country_iso"), iso, path)
    order = rows.column("site_order").to_numpy()
    count = rows.column("final_country_outlet_count").to_numpy()
    first = np.r_[True, (merchant_id[1:] != merchant_id[:-1]) | (country[1:] != country[:-1])]
    start = np.flatnonzero(first)
    n_sites = np.diff(np.r_[start, merchant_id.size])
    if not np.array_equal(order, np.arange(order.size) - np.repeat(start, n_sites) + 1):
        raise _fault("E314_SITE_ORDER_INTEGRITY", "site_order is not 1..n in every pair", path)
    if not np.array_equal(count, np.repeat(n_sites, n_sites)):
        raise _fault(
            "E308_COUNTS_MISMATCH", "final_country_outlet_count is not the number of the pair's rows", path
        )
    return {
        "merchant_id": merchant_id[start],
        "country": country[start],
        "n_sites": n_sites.astype(np.int32),
        "home_country": home[start],
        "raw_outlet_draw": rows.column("raw_nb_outlet_draw").to_numpy()[start],
    }


def _country_index(column: pa.ChunkedArray, iso: tuple[str, ...], path: Path) -> npt.NDArray[np.int16]:
    index = pc.index_in(column, value_set=pa.array(iso, pa.string())).combine_chunks()
    if index.null_count:
        unknown = column.combine_chunks().filter(pc.is_null(index))[0].as_py()
        message = f"country {unknown!r} is not in the world's country table"
        raise _fault("E302_FK_COUNTRY", message, path, "use a world that has this country")
    positions: npt.NDArray[np.int16] = index.to_numpy().astype(np.int16)
    return positions


def _require_ascending(merchant_id: npt.NDArray[Any], country: npt.NDArray[Any], where: Path) -> None:
    same = merchant_id[1:] == merchant_id[:-1]
    if bool(np.any(same & (country[1:] == country[:-1]))):
        raise _fault("E307_PK_DUPLICATE", "a pair of merchant and country occurs twice", where)
    if not bool(np.all((merchant_id[1:] > merchant_id[:-1]) | (same & (country[1:] > country[:-1])))):
        raise _fault("E310_UNSORTED", "rows are not ascending by merchant_id, legal_country_iso", where)
