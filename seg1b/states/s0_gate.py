"""S0: prove what comes in, then seal it.

S0w seals the world: the digest of every file that the tile index, the weights and the shares are made from. S0c
verifies one catalogue's 1A bundle (index, flag, identity, data files) and copies it into the store; nobody downstream
reads a catalogue from anywhere else. No PASS, no read. The policies of a run are sealed in its receipt, by the digest
of each file, and not here: so a knob changes the keys of exactly the states that it concerns.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from seg1b.catalogue.guard import guard_metrics
from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.verify import BundleReceipt, read_catalogue, read_datasets, verify_bundle
from seg1b.store.plain import plain
from seg1b.store.store import Store
from seg1b.world.content import World

WORLD_STATE = "s0w"
CATALOGUE_STATE = "s0c"
BUNDLE_FOLDER = "bundle"
RECEIPT_NAME = "s0_gate_receipt_1B.json"
SEALED_NAME = "sealed_inputs_1B.json"
GUARD_NAME = "guard_1A.json"


def seal_world(store: Store, key: str, world: World) -> None:
    """Publish S0w: what the world is made of, by digest, and nothing that the world's digest does not cover."""
    files = {name: str(entry["sha256"]) for name, entry in world.provenance.get("files", {}).items()}
    raster = None if world.raster is None else {**world.raster.header(), "file_name": ""}
    with store.transaction(WORLD_STATE, key) as out:
        out.add_json("sealed_world.json", {"world_digest": world.digest, "files": files, "raster": raster})
        out.facts = {"world_digest": world.digest}


def seal_catalogue(store: Store, key: str, source: Path) -> BundleReceipt:
    """Publish S0c: a verified copy of the bundle under `source`, its receipt, the sealed inputs and the 1A guard.

    Raises InputError E_* as `verify_bundle`; then nothing is published.
    """
    receipt = verify_bundle(source)
    guard = guard_metrics(read_datasets(receipt))
    with store.transaction(CATALOGUE_STATE, key) as out:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            out.add_bytes(f"{BUNDLE_FOLDER}/{path.relative_to(source).as_posix()}", path.read_bytes())
        out.add_json(RECEIPT_NAME, _receipt_document(receipt))
        out.add_json(SEALED_NAME, _sealed_inputs(receipt))
        out.add_json(GUARD_NAME, plain(guard))
        out.facts = {"catalogue_digest": receipt.content_sha256_hex, "kind": receipt.kind}
    return receipt


def open_bundle(store: Store, key: str) -> BundleReceipt:
    """The sealed bundle of a published S0c, verified again."""
    return verify_bundle(store.layout.object(CATALOGUE_STATE, key) / BUNDLE_FOLDER)


def read_sealed_catalogue(store: Store, key: str, iso: tuple[str, ...]) -> OutletCatalogue:
    """The outlet catalogue of a published S0c over the country table `iso`."""
    return read_catalogue(open_bundle(store, key), iso)


def _receipt_document(receipt: BundleReceipt) -> dict[str, Any]:
    """The gate receipt; it holds no clock, so an honest re-run writes the same bytes."""
    return {
        "manifest_fingerprint": receipt.lineage.manifest_fingerprint,
        "parameter_hash": receipt.lineage.parameter_hash,
        "seed": receipt.lineage.seed,
        "kind": receipt.kind,
        "flag_sha256_hex": receipt.flag_sha256_hex,
        "egress_framed_sha256_hex": receipt.egress_framed_sha256_hex,
        "catalogue_digest": receipt.content_sha256_hex,
        "sealed_inputs": sorted(receipt.dataset_rows),
    }


def _sealed_inputs(receipt: BundleReceipt) -> list[dict[str, Any]]:
    """Every dataset that downstream states may open, with its digest."""
    return [
        {
            "asset_id": name,
            "rows": receipt.dataset_rows[name],
            "sha256_hex": receipt.dataset_logical_sha256_hex[name],
            "partition": dataclasses.asdict(receipt.lineage),
        }
        for name in sorted(receipt.dataset_rows)
    ]
