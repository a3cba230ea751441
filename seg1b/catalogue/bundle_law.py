"""The law of a 1A bundle: where its files are, and which digests vouch for them (engine-contracts 2.2 and 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.tables import PAIR_SCHEMA, pair_tables
from seg1b.kernels.streams import encode_u64
from seg1b.store.digest import PartitionHasher, frame, logical_schema, table_digest

FLAG_NAME: Final = "_passed.flag"
INDEX_NAME: Final = "index.json"
VALIDATION_FOLDER: Final = "data/layer1/1A/validation"
PART_NAME: Final = "part-00000.parquet"

USER_KIND: Final = "user_catalogue"
"""Kind of a bundle that wraps a user's own catalogue."""

NO_COMMIT = bytes(32)


def pairs_digest(catalogue: OutletCatalogue) -> str:
    """Logical digest of what an outlet catalogue means: its pairs, whatever the row-per-outlet files look
    like.
    """
    hasher = PartitionHasher(PAIR_SCHEMA)
    for table in pair_tables(catalogue):
        hasher.update(table)
    return table_digest(logical_schema(PAIR_SCHEMA), [("", hasher.rows, hasher.hexdigest())])


def rows_digest(schema: pa.Schema, tables: Iterable[pa.Table]) -> tuple[int, str]:
    """(rows, logical digest) of a dataset that comes in tables; lists of words count as the words joined by a bar.

    Raises ContractError E_STORE_NULL.
    """
    text = pa.string()
    flat = pa.schema([f.with_type(text) if pa.types.is_list(f.type) else f for f in schema])
    hasher = PartitionHasher(flat)
    for table in tables:
        hasher.update(pa.table({name: _flat(table.column(name)) for name in schema.names}))
    partitions = [("", hasher.rows, hasher.hexdigest())] if hasher.rows else []
    return hasher.rows, table_digest(logical_schema(flat), partitions)


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join(column, "|").dictionary_encode() if pa.types.is_list(column.type) else column


def framed_digest(files: Iterable[tuple[str, str, int]]) -> str:
    """SHA-256 over frame(path), size and SHA-256 of (path, hex, bytes) in path order: names and boundaries
    count.
    """
    hasher = hashlib.sha256(b"seg1b/framed/1")
    for path, sha256_hex, size_bytes in sorted(files):
        hasher.update(frame(path) + encode_u64(size_bytes) + bytes.fromhex(sha256_hex))
    return hasher.hexdigest()


def bundle_digest(fingerprint: str, rows: Mapping[str, int], logical_sha256_hex: Mapping[str, str]) -> str:
    """Digest of what a bundle's tables mean, over rows and logical digest of each; the fingerprint counts too."""
    entries = [(name, digest, rows[name]) for name, digest in logical_sha256_hex.items()]
    return framed_digest([*entries, ("manifest_fingerprint", fingerprint, 0)])


def flag_digest(contents: Mapping[str, bytes]) -> str:
    """The flag law: SHA-256 over the raw bytes of the indexed files in ASCII order of their paths."""
    return hashlib.sha256(b"".join(contents[path] for path in sorted(contents))).hexdigest()


def parameter_hash(parameters: Mapping[str, str]) -> str:
    """Engine-contracts 2.2: SHA-256 over T(name) in name order, T = SHA-256(frame(name) || digest of its
    content).
    """
    return hashlib.sha256(_artefact_terms(parameters)).hexdigest()


def manifest_fingerprint(artefacts: Mapping[str, str], parameter_hash_hex: str) -> str:
    """Engine-contracts 2.2, over artefacts and parameters; no commit id belongs to a packaged product (32
    zero bytes).

    Mend: the seed is an artefact, so that catalogues of different seeds never share a fingerprint.
    """
    return hashlib.sha256(
        _artefact_terms(artefacts) + NO_COMMIT + bytes.fromhex(parameter_hash_hex)
    ).hexdigest()


def user_artefacts(pairs_sha256_hex: str) -> dict[str, str]:
    """What a user's catalogue is made from: its outlets and nothing else."""
    return {USER_KIND: pairs_sha256_hex}


def user_identity(pairs_sha256_hex: str) -> tuple[str, str]:
    """(parameter_hash, manifest_fingerprint) of a user's catalogue with these pairs."""
    parameters = parameter_hash({})
    return parameters, manifest_fingerprint(user_artefacts(pairs_sha256_hex), parameters)


def _artefact_terms(digests: Mapping[str, str]) -> bytes:
    return b"".join(
        hashlib.sha256(frame(name) + bytes.fromhex(digests[name])).digest() for name in sorted(digests)
    )
