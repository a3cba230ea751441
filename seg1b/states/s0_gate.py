"""S0: prove what comes in, then seal it.

S0w seals the world: the digest of every file that the tile index, the weights and the shares are made from. S0c
verifies one catalogue's 1A bundle (index, flag, identity, data files, rows) and copies it into the store, with a table
of its pairs beside it: the bundle has a row per outlet, and nobody downstream needs to read those again. No PASS, no
read. The policies of a run are sealed in its receipt, by the digest
of each file, and not here: so a knob changes the keys of exactly the states that it concerns.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg1b.catalogue.guard import measure_bundle
from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.catalogue.tables import PAIR_SCHEMA, pair_tables
from seg1b.catalogue.verify import BundleReceipt, catalogue_of, read_runs, verify_bundle, verify_files
from seg1b.errors import InputError
from seg1b.store.digest import numbers_of, sha256_bytes
from seg1b.store.manifest import FileEntry
from seg1b.store.plain import plain
from seg1b.store.publication import Publication
from seg1b.store.store import Store
from seg1b.store.tables import damaged
from seg1b.world.content import World

WORLD_STATE = "s0w"
CATALOGUE_STATE = "s0c"
BUNDLE_FOLDER = "bundle"
RECEIPT_NAME = "s0_gate_receipt_1B.json"
SEALED_NAME = "sealed_inputs_1B.json"
GUARD_NAME = "guard_1A.json"
PAIRS_TABLE = "s0c_outlet_pairs"


def seal_world(store: Store, key: str, world: World) -> None:
    """Publish S0w: what the world is made of, by digest, and nothing that the world's digest does not cover."""
    files = {name: str(entry["sha256"]) for name, entry in world.provenance.get("files", {}).items()}
    raster = None if world.raster is None else {**world.raster.header(), "file_name": ""}
    with store.transaction(WORLD_STATE, key) as out:
        out.add_json("sealed_world.json", {"world_digest": world.digest, "files": files, "raster": raster})
        out.facts = {"world_digest": world.digest}


def seal_catalogue(store: Store, key: str, receipt: BundleReceipt) -> None:
    """Publish S0c: a copy of a verified bundle, its pairs, its receipt, the sealed inputs and the 1A guard's
    values, which no band has judged yet.

    The logical digest of the table of pairs is the one that the bundle states of its outlets. Raises InputError as
    `read_runs` and `catalogue_of` for rows that are not the contract's; then nothing is published.
    """
    runs = read_runs(receipt)
    catalogue = catalogue_of(runs, receipt)
    guard = measure_bundle(runs, receipt)
    del runs
    with store.transaction(CATALOGUE_STATE, key) as out:
        add_bundle(out, receipt)
        with out.table_writer(
            PAIRS_TABLE, PAIR_SCHEMA, sorted_by=("merchant_id", "legal_country_iso")
        ) as writer:
            for pairs in pair_tables(catalogue):
                writer.append("", pairs)
        out.add_json(RECEIPT_NAME, _receipt_document(receipt))
        out.add_json(SEALED_NAME, _sealed_inputs(receipt))
        out.add_json(GUARD_NAME, plain(guard))
        out.facts = {"catalogue_digest": receipt.content_sha256_hex, "kind": receipt.kind}


def sealed_bundle(store: Store, key: str, receipt: BundleReceipt) -> Path:
    """The root folder of a verified bundle's copy in the store, where every worker can read it; sealed if need be."""
    if not store.has(CATALOGUE_STATE, key):
        seal_catalogue(store, key, receipt)
    return store.layout.object(CATALOGUE_STATE, key) / BUNDLE_FOLDER


def bundle_receipt(store: Store, bundle: Path) -> BundleReceipt:
    """The receipt of a bundle: proven here, or found to be what the store published.

    The tables of a published bundle were proven, or written, by who published it: it is enough that every file is the
    one that the manifest lists. Raises InputError as `verify_bundle`, and StoreError E_STORE_DAMAGED for a bundle in
    the store that is not what was published.
    """
    published = bundle.parent
    if bundle.name != BUNDLE_FOLDER or published.parent.parent.resolve() != store.layout.objects.resolve():
        return verify_bundle(bundle)
    manifest = store.manifest(published.parent.name, published.name)
    receipt = verify_files(bundle)
    found = {path: FileEntry(*entry) for path, entry in receipt.data_files.items()}
    found |= {path: FileEntry(len(data), sha256_bytes(data)) for path, data in receipt.documents.items()}
    changed = [
        path for path, entry in found.items() if manifest.files.get(f"{BUNDLE_FOLDER}/{path}") != entry
    ]
    if changed or receipt.content_sha256_hex != manifest.facts.get("catalogue_digest"):
        where = bundle / (changed[0] if changed else "")
        raise damaged(where, "the bundle is not the one that was published")
    return receipt


def add_bundle(out: Publication, receipt: BundleReceipt) -> None:
    """Copy a verified bundle, exactly what was verified and nothing that lies beside it."""
    for path, (length_bytes, sha256) in sorted(receipt.data_files.items()):
        out.add_copy(f"{BUNDLE_FOLDER}/{path}", receipt.root / path, length_bytes, sha256)
    for path, content in sorted(receipt.documents.items()):
        out.add_bytes(f"{BUNDLE_FOLDER}/{path}", content)


def read_sealed_catalogue(store: Store, key: str, iso: tuple[str, ...]) -> OutletCatalogue:
    """The outlet catalogue of a published S0c over the country table `iso`.

    Raises InputError E302_FK_COUNTRY, StoreError E_STORE_DAMAGED.
    """
    table = store.read_table(CATALOGUE_STATE, key, PAIRS_TABLE, verify=True)
    return OutletCatalogue(
        iso=iso,
        merchant_id=numbers_of(table.column("merchant_id")),
        country=_country_index(table, "legal_country_iso", iso),
        n_sites=numbers_of(table.column("n_sites")),
        home_country=_country_index(table, "home_country_iso", iso),
        raw_outlet_draw=numbers_of(table.column("raw_nb_outlet_draw")),
        seed=int(store.read_json(CATALOGUE_STATE, key, RECEIPT_NAME)["seed"]),
    )


def _country_index(table: pa.Table, field: str, iso: tuple[str, ...]) -> npt.NDArray[np.int16]:
    import pyarrow.compute as pc  # dear to load, and most commands that know this state never read a catalogue

    column = table.column(field)
    index = pc.index_in(column, value_set=pa.array(iso, pa.string()))
    if index.null_count:
        row = int(np.flatnonzero(index.is_null().to_numpy())[0])
        raise InputError(
            "E302_FK_COUNTRY",
            f"country {column[row].as_py()!r} is not in the world's country table",
            where=f"merchant {table.column('merchant_id')[row]} of the sealed catalogue, field {field}",
            next_step="use a world that has this country",
        )
    return numbers_of(index).astype(np.int16)


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
