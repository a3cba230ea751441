"""The law of a 1A bundle: where its files are, and which digests vouch for them (engine-contracts 2.2 and 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.tables import PAIR_SCHEMA, pair_tables
from seg1b.kernels.streams import encode_u64
from seg1b.store.digest import PartitionHasher, frame, logical_schema, table_digest

FLAG_NAME: Final = "_passed.flag"
INDEX_NAME: Final = "index.json"
VALIDATION_FOLDER: Final = "data/layer1/1A/validation"
PART_NAME: Final = "part-00000.parquet"

NO_COMMIT = bytes(32)


def pairs_digest(catalogue: OutletCatalogue) -> str:
    """Logical digest of what an outlet catalogue means: its pairs, whatever the row-per-outlet files look
    like.
    """
    hasher = PartitionHasher(PAIR_SCHEMA)
    for table in pair_tables(catalogue):
        hasher.update(table)
    return table_digest(logical_schema(PAIR_SCHEMA), [("", hasher.rows, hasher.hexdigest())])


def framed_digest(files: Iterable[tuple[str, str, int]]) -> str:
    """SHA-256 over frame(path), size and SHA-256 of (path, hex, bytes) in path order: names and boundaries
    count.
    """
    hasher = hashlib.sha256(b"seg1b/framed/1")
    for path, sha256_hex, size_bytes in sorted(files):
        hasher.update(frame(path) + encode_u64(size_bytes) + bytes.fromhex(sha256_hex))
    return hasher.hexdigest()


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


def _artefact_terms(digests: Mapping[str, str]) -> bytes:
    return b"".join(
        hashlib.sha256(frame(name) + bytes.fromhex(digests[name])).digest() for name in sorted(digests)
    )
