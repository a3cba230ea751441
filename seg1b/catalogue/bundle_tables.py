"""The tables of a bundle: read with the contract's columns, and proven against the digests that the bundle states.

The logical digest of a table is recomputed from its rows before anything rests on it: what runs share, and what
verdicts are filed under, is made from these digests. A row-per-outlet table has the digest of its pairs where all its
rows follow from them, s3_site_sequence that of the catalogue whose outlets it numbers; any other table, and these two
where they do not follow, the digest of its rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seg1b.catalogue.bundle_law import bundle_digest, pairs_digest, rows_digest
from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.receipt import BundleReceipt, fault
from seg1b.catalogue.rows import MULTI_FLAG, ROW_COLUMNS, OutletRuns, RunCollapser
from seg1b.catalogue.site_sequence import follows
from seg1b.catalogue.tables import OUTLET_CATALOGUE, SCHEMAS, SITE_SEQUENCE, Lineage
from seg1b.errors import ContractError, InputError

BATCH_ROWS = 1 << 17
"""Rows in memory at a time."""

_BUFFER_BYTES: Final = 1 << 20
_LINEAGE: Final = ("manifest_fingerprint", "global_seed")


# Reading


def read_dataset(
    receipt: BundleReceipt, dataset: str, columns: Sequence[str] | None = None, *, dictionaries: bool = False
) -> pa.Table:
    """One dataset of a verified bundle, with its declared types, or some of its columns.

    `dictionaries`: texts as dictionaries. Raises InputError E305_SCHEMA_INVALID.
    """
    wanted = None if columns is None else list(columns)
    tables = []
    for path in receipt.part_files(dataset):
        try:
            with _open_parquet(path, dataset, dictionaries=dictionaries) as file:
                tables.append(file.read(wanted))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
    schema = SCHEMAS[dataset]
    empty = (schema if wanted is None else pa.schema([schema.field(name) for name in wanted])).empty_table()
    return pa.concat_tables(tables) if tables else empty


def read_datasets(receipt: BundleReceipt) -> dict[str, pa.Table]:
    """Every dataset that the bundle has."""
    return {name: read_dataset(receipt, name) for name in SCHEMAS if name in receipt.dataset_rows}


def read_runs(receipt: BundleReceipt) -> OutletRuns:
    """The rows of a verified bundle's outlet catalogue, collapsed as they stream by, unless they were before.

    Raises InputError E_PATH_EMBED_MISMATCH (lineage in the rows is not the path's) or E305_SCHEMA_INVALID; what else
    the rows promise is for `catalogue_of` to demand.
    """
    if receipt.runs is not None:
        return receipt.runs
    collapser = RunCollapser()
    columns = [*_LINEAGE, MULTI_FLAG, *ROW_COLUMNS]
    for path in receipt.part_files(OUTLET_CATALOGUE):
        collapser.begin(str(path))
        for batch in _batches(path, OUTLET_CATALOGUE, columns):
            _require_lineage(batch, receipt.lineage, path)
            collapser.add(batch)
    return collapser.finish()


def read_catalogue(receipt: BundleReceipt, iso: tuple[str, ...]) -> OutletCatalogue:
    """The outlet catalogue of a verified bundle over the country table `iso`; raises as `read_runs`, `catalogue_of`."""
    return catalogue_of(read_runs(receipt), receipt, iso)


def catalogue_of(
    runs: OutletRuns, receipt: BundleReceipt, iso: tuple[str, ...] | None = None
) -> OutletCatalogue:
    """The pairs of a verified bundle's rows, as its logical digest says them.

    Raises InputError as `OutletRuns.catalogue` and `OutletRuns.require_derived`, and E_EGRESS_HASH_MISMATCH for other
    pairs.
    """
    catalogue = runs.catalogue(receipt.lineage.seed, iso)
    if runs is not receipt.runs:
        _require_stated(receipt, OUTLET_CATALOGUE, runs.rows, pairs_digest(catalogue))
    runs.require_derived()
    return catalogue


# Proving


def prove_tables(receipt: BundleReceipt) -> BundleReceipt:
    """The receipt of a bundle whose files are proven, once every table has the rows and the digest that it states.

    Raises InputError E_EGRESS_HASH_MISMATCH, naming the file and both digests, E305_SCHEMA_INVALID, and for outlets
    that break the contract under a digest that is not theirs what `catalogue_of` raises for them.
    """
    runs = read_runs(receipt)
    pairs = _prove_outlets(receipt, runs)
    numbered = False
    for dataset in receipt.dataset_rows:
        if dataset == SITE_SEQUENCE:
            numbered = _prove_sequence(receipt, runs, pairs)
        elif dataset != OUTLET_CATALOGUE:
            _require_stated(receipt, dataset, *_digest_of_rows(receipt, dataset))
    content = bundle_digest(
        receipt.lineage.manifest_fingerprint, receipt.dataset_rows, receipt.dataset_logical_sha256_hex
    )
    return dataclasses.replace(receipt, content_sha256_hex=content, sequence_follows=numbered, runs=runs)


def _prove_outlets(receipt: BundleReceipt, runs: OutletRuns) -> str | None:
    """Digest of the pairs, None where the rows make none; such rows, and wrong ids, are still the guard's to judge."""
    pairs = None
    try:
        pairs = pairs_digest(runs.catalogue(receipt.lineage.seed))
        runs.require_derived()
    except InputError as error:
        if _digest_of_rows(receipt, OUTLET_CATALOGUE) != _stated(receipt, OUTLET_CATALOGUE):
            raise error from None  # it names the row
    else:
        _require_stated(receipt, OUTLET_CATALOGUE, runs.rows, pairs)
    return pairs


def _prove_sequence(receipt: BundleReceipt, runs: OutletRuns, pairs: str | None) -> bool:
    """Whether it numbers the catalogue's outlets."""
    batches = (batch for path in receipt.part_files(SITE_SEQUENCE) for batch in _batches(path, SITE_SEQUENCE))
    if pairs is not None and follows(runs, batches):
        _require_stated(receipt, SITE_SEQUENCE, runs.rows, pairs)
        return True
    _require_stated(receipt, SITE_SEQUENCE, *_digest_of_rows(receipt, SITE_SEQUENCE))
    return False


def _stated(receipt: BundleReceipt, dataset: str) -> tuple[int, str]:
    return receipt.dataset_rows[dataset], receipt.dataset_logical_sha256_hex[dataset]


def _require_stated(receipt: BundleReceipt, dataset: str, rows: int, found: str) -> None:
    stated_rows, stated = _stated(receipt, dataset)
    if found != stated:
        what = f"the rows of {dataset} give the logical digest {found}, the bundle states {stated}"
    elif rows != stated_rows:
        what = f"{dataset} has {rows} rows, the bundle states {stated_rows}"
    else:
        return
    raise fault("E_EGRESS_HASH_MISMATCH", what, receipt.place(dataset))


def _digest_of_rows(receipt: BundleReceipt, dataset: str) -> tuple[int, str]:
    """(rows, logical digest) of a dataset, read as it streams by."""
    tables = (
        pa.Table.from_batches([batch])
        for path in receipt.part_files(dataset)
        for batch in _batches(path, dataset)
    )
    try:
        return rows_digest(SCHEMAS[dataset], tables)
    except ContractError as error:
        raise fault("E305_SCHEMA_INVALID", f"{dataset}: {error.message}", receipt.place(dataset)) from error


# Parquet


def _batches(path: Path, dataset: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a part, texts as dictionaries."""
    wanted = None if columns is None else list(columns)
    try:
        with _open_parquet(path, dataset, dictionaries=True) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _open_parquet(path: Path, dataset: str, *, dictionaries: bool = False) -> pq.ParquetFile:
    """A part of a dataset, once its columns are those of the contract; `dictionaries`: text repeats, read it so."""
    schema = SCHEMAS[dataset]
    try:
        file = pq.ParquetFile(path)
        if file.schema_arrow.names != schema.names or file.schema_arrow.types != schema.types:
            raise fault("E305_SCHEMA_INVALID", f"columns of {dataset} are not those of the contract", path)
        if not dictionaries:
            return file
        text = [field.name for field in schema if pa.types.is_string(field.type)]
        metadata = file.metadata
        file.close()
        return pq.ParquetFile(path, metadata=metadata, read_dictionary=text, buffer_size=_BUFFER_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return fault("E305_SCHEMA_INVALID", f"cannot be read as Parquet: {error}", path)


def _require_lineage(batch: pa.RecordBatch, lineage: Lineage, path: Path) -> None:
    """Every row says the seed and fingerprint of its path."""
    for name, token in zip(_LINEAGE, (lineage.manifest_fingerprint, lineage.seed), strict=True):
        other = [value for value in pc.unique(batch.column(name)).to_pylist() if value != token]
        if other:
            raise fault(
                "E_PATH_EMBED_MISMATCH", f"{name} {other[0]!r} in the rows, {token!r} in the path", path
            )
