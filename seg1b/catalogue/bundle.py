"""Write a catalogue as a 1A bundle: data files, validation folder, flag (engine-contracts 3.1, 3.2, 7.1).

    <root>/data/layer1/1A/<dataset>/<tokens>/part-00000.parquet
    <root>/data/layer1/1A/validation/manifest_fingerprint=<mf>/{MANIFEST.json, ..., index.json, _passed.flag}

The flag is the SHA-256 of the validation files' bytes in path order, as the law says. Two mends: `index.json`
carries the SHA-256 of each file, and a framed digest (lengths and names included) so that nothing can move
between files; and `egress_checksums.json`, which the flag covers, lists the SHA-256 of every data file, so
that a changed data file is found. The bundle holds no clock, path or user name: the same catalogue gives the
same bytes.

The caller stages: the bundle is written into a folder that nobody reads yet (`store` publishes it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seg1b.catalogue.bundle_law import (
    FLAG_NAME,
    INDEX_NAME,
    NO_COMMIT,
    PART_NAME,
    USER_KIND,
    VALIDATION_FOLDER,
    flag_digest,
    framed_digest,
    manifest_fingerprint,
    pairs_digest,
    parameter_hash,
    rows_digest,
    user_artefacts,
)
from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.shares import CountryShares
from seg1b.catalogue.synthesise import SYNTHESIS_REVISION, Synthesis
from seg1b.catalogue.tables import (
    OUTLET_CATALOGUE,
    SCHEMAS,
    SITE_SEQUENCE,
    Lineage,
    evidence_tables,
    outlet_rows,
    site_sequence_rows,
    slices,
)
from seg1b.errors import StoreError
from seg1b.kernels.streams import encode_u64
from seg1b.policy.digest import canonical
from seg1b.policy.models import CountrySharesPolicy
from seg1b.store.digest import readable_json, sha256_bytes, sha256_file

_ARTIFACTS: Final = {
    "MANIFEST.json": "manifest",
    "parameter_hash_resolved.json": "parameter_hash_resolved",
    "manifest_fingerprint_resolved.json": "manifest_fingerprint_resolved",
    "rng_accounting.json": "rng_accounting",
    "s9_summary.json": "s9_summary",
    "egress_checksums.json": "egress_checksums",
    INDEX_NAME: "index",
}
"""The minimum set of 3.2 (but the flag), file name -> artifact_id."""


@dataclass(frozen=True)
class DatasetDigest:
    """One dataset: its folder, rows, logical digest, and (path, SHA-256, bytes) of each file, POSIX and
    relative.
    """

    folder: str
    rows: int
    logical_sha256_hex: str
    files: tuple[tuple[str, str, int], ...]


def write_synthesis(
    root: Path,
    synthesis: Synthesis,
    shares: CountryShares,
    shares_policy: CountrySharesPolicy,
    world_digest: str,
) -> Lineage:
    """Write a synthesised catalogue with all its evidence into the new or empty folder `root`; returns its
    identity.

    Raises StoreError E_BUNDLE_EXISTS when the folder holds anything.
    """
    parameters = {
        "catalogue.synthesis.yaml": sha256_bytes(canonical(synthesis.policy)),
        "s2.country_shares.yaml": sha256_bytes(canonical(shares_policy)),
    }
    artefacts = {
        "country_shares": shares.digest,
        "run_seed": sha256_bytes(encode_u64(synthesis.seed)),
        "synthesis_revision": sha256_bytes(encode_u64(SYNTHESIS_REVISION)),
        "world": world_digest,
    }
    lineage = _lineage(synthesis.seed, parameters, artefacts)
    _prepare(root)
    datasets = _write_outlets(root, synthesis.catalogue, lineage)
    for name, table in evidence_tables(synthesis, lineage).items():
        datasets[name] = _write_dataset(root, name, [table], lineage, _logical_digest(table))
    summary = {
        "kind": "synthesis",
        "checks": _synthesis_checks(synthesis),
        "counts_equal_quotas": bool(np.array_equal(synthesis.catalogue.sites_per_country(), synthesis.quota)),
        "blocks_that_needed_help": {
            kind: sum(i.kind == kind for i in synthesis.incidents)
            for kind in ("swapped", "share_exceeded", "quota_exceeded")
        },
    }
    rng = {
        "generator": "philox2x64-10",
        "namespace": "seg1b/rng/v2",
        "seed": synthesis.seed,
        "blocks": synthesis.rng_blocks,
        "blocks_total": sum(synthesis.rng_blocks.values()),
    }
    _write_validation(root, lineage, parameters, artefacts, datasets, synthesis.catalogue, summary, rng)
    return lineage


def write_user_catalogue(root: Path, catalogue: OutletCatalogue) -> Lineage:
    """Wrap a user's catalogue into a bundle without 1A evidence (the guard is `not_applicable`); returns its
    identity.

    The fingerprint depends on the outlets alone, not on the file they came from. Raises StoreError
    E_BUNDLE_EXISTS.
    """
    parameters: dict[str, str] = {}
    artefacts = user_artefacts(pairs_digest(catalogue))
    lineage = _lineage(catalogue.seed, parameters, artefacts)
    _prepare(root)
    datasets = _write_outlets(root, catalogue, lineage)
    summary = {
        "kind": USER_KIND,
        "checks": {"contract_checked_row_by_row": True},
        "guard": "not_applicable: no candidate sets, memberships or dispersions came with the catalogue",
    }
    rng: dict[str, Any] = {
        "generator": None,
        "blocks": {},
        "blocks_total": 0,
        "note": "no random number was drawn",
    }
    _write_validation(root, lineage, parameters, artefacts, datasets, catalogue, summary, rng)
    return lineage


def _lineage(seed: int, parameters: Mapping[str, str], artefacts: Mapping[str, str]) -> Lineage:
    parameter_hash_hex = parameter_hash(parameters)
    return Lineage(
        seed, parameter_hash_hex, manifest_fingerprint({**artefacts, **parameters}, parameter_hash_hex)
    )


def _prepare(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise StoreError(
            "E_BUNDLE_EXISTS",
            "a bundle is written into a new or empty folder only: nothing is ever overwritten",
            where=str(root),
            next_step="name another folder",
        )


# Data files


def _write_outlets(root: Path, catalogue: OutletCatalogue, lineage: Lineage) -> dict[str, DatasetDigest]:
    digest = pairs_digest(catalogue)
    rows = (outlet_rows(catalogue, part, lineage) for part in slices(catalogue))
    sequence = (site_sequence_rows(catalogue, part) for part in slices(catalogue))
    return {
        OUTLET_CATALOGUE: _write_dataset(root, OUTLET_CATALOGUE, rows, lineage, digest),
        SITE_SEQUENCE: _write_dataset(root, SITE_SEQUENCE, sequence, lineage, digest),
    }


def _write_dataset(
    root: Path, dataset: str, tables: Iterable[pa.Table], lineage: Lineage, logical_digest: str
) -> DatasetDigest:
    """One Parquet file, one row group per table."""
    folder = lineage.partition(dataset)
    path = root / folder / PART_NAME
    path.parent.mkdir(parents=True)
    rows = 0
    schema = SCHEMAS[dataset]
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=text or False,
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
            rows += table.num_rows
    entry = (f"{folder}/{PART_NAME}", sha256_file(path), path.stat().st_size)
    return DatasetDigest(folder, rows, logical_digest, (entry,))


def _logical_digest(table: pa.Table) -> str:
    """Digest of a small table."""
    return rows_digest(table.schema, [table])[1]


# Validation folder


def _write_validation(
    root: Path,
    lineage: Lineage,
    parameters: Mapping[str, str],
    artefacts: Mapping[str, str],
    datasets: Mapping[str, DatasetDigest],
    catalogue: OutletCatalogue,
    summary: Mapping[str, Any],
    rng: Mapping[str, Any],
) -> None:
    identity = {
        "manifest_fingerprint": lineage.manifest_fingerprint,
        "parameter_hash": lineage.parameter_hash,
        "seed": lineage.seed,
    }
    totals = {
        "merchants": int(catalogue.merchant_start.size),
        "pairs": catalogue.pair_count,
        "outlets": catalogue.site_count,
        "active_countries": int((catalogue.sites_per_country() > 0).sum()),
    }
    documents = {
        "MANIFEST.json": {
            **identity,
            "bundle": "1A",
            "format_version": 1,
            "kind": summary["kind"],
            "datasets": {name: {"folder": d.folder, "rows": d.rows} for name, d in datasets.items()},
        },
        "parameter_hash_resolved.json": {
            "parameter_hash": lineage.parameter_hash,
            "artifacts": dict(parameters),
        },
        "manifest_fingerprint_resolved.json": {
            "manifest_fingerprint": lineage.manifest_fingerprint,
            "parameter_hash": lineage.parameter_hash,
            "git_commit_hex": NO_COMMIT.hex(),
            "artifacts": {**artefacts, **parameters},
        },
        "rng_accounting.json": dict(rng),
        "s9_summary.json": {**identity, **summary, "totals": totals, "decision": "PASS"},
        "egress_checksums.json": {**identity, **egress_checksums(datasets)},
    }
    contents = {name: readable_json(document) for name, document in documents.items()}
    contents[INDEX_NAME] = readable_json(list(_index_rows(contents)))
    folder = root / VALIDATION_FOLDER / f"manifest_fingerprint={lineage.manifest_fingerprint}"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / FLAG_NAME).write_bytes(f"sha256_hex = {flag_digest(contents)}\n".encode("ascii"))


def egress_checksums(datasets: Mapping[str, DatasetDigest]) -> dict[str, Any]:
    """Digests of all data files, by file, framed over all, and logical by dataset."""
    files = [entry for dataset in datasets.values() for entry in dataset.files]
    return {
        "files": [{"path": p, "sha256_hex": digest, "size_bytes": size} for p, digest, size in sorted(files)],
        "framed_sha256_hex": framed_digest(files),
        "datasets": {
            name: {"rows": d.rows, "logical_sha256_hex": d.logical_sha256_hex} for name, d in datasets.items()
        },
    }


def _index_rows(contents: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    """Rows of index.json; its own row cannot hold its own digest and holds the framed one of the others
    instead.
    """
    others = framed_digest((name, sha256_bytes(content), len(content)) for name, content in contents.items())
    for name in sorted([*contents, INDEX_NAME]):
        own = name == INDEX_NAME
        yield {
            "artifact_id": _ARTIFACTS[name],
            "kind": "summary",
            "path": name,
            "mime": "application/json",
            "notes": f"framed_sha256_hex = {others}" if own else None,
            "sha256_hex": None if own else sha256_bytes(contents[name]),
        }


def _synthesis_checks(synthesis: Synthesis) -> dict[str, bool]:
    """What the synthesiser proved about itself before anything was written."""
    member_sites, rows = synthesis.member_sites, synthesis.candidates
    return {
        "outlets_equal_draws": synthesis.catalogue.site_count == int(synthesis.plan.size.sum()),
        "realised_within_members_within_candidates": not bool(
            ((member_sites > 0) & ~rows.is_member & (rows.rank > 0)).any()
        ),
    }
