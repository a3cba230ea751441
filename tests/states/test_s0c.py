"""S0c proves a bundle, seals exactly what it proved, and the pairs beside it mean the same as the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from resealing import reseal, with_column
from seed_cases import catalogue

from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.catalogue.guard import measure_bundle
from seg1b.catalogue.tables import OUTLET_CATALOGUE
from seg1b.catalogue.verify import BundleReceipt, read_catalogue, verify_bundle, verify_files
from seg1b.errors import InputError, StoreError
from seg1b.lanes.world_stage import WorldStage
from seg1b.states import s0_gate
from seg1b.store.store import Store

KEY = "c" * 64


@pytest.fixture
def receipt(world_stage: WorldStage, tmp_path: Path) -> BundleReceipt:
    """A user's bundle, verified."""
    write_user_catalogue(tmp_path / "bundle", catalogue(world_stage.world.countries))
    return verify_bundle(tmp_path / "bundle")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "runs")


def published_bundle(store: Store) -> Path:
    """The sealed copy."""
    return store.layout.object("s0c", KEY) / s0_gate.BUNDLE_FOLDER


def test_the_sealed_copy_is_the_bundle_and_nothing_else(store: Store, receipt: BundleReceipt) -> None:
    """Byte for byte; what lies beside the bundle stays outside."""
    (receipt.root / "notes.txt").write_text("mine")
    (receipt.root / "data" / "more").mkdir()
    (receipt.root / "data" / "more" / "large.parquet").write_bytes(b"x" * 1000)
    s0_gate.seal_catalogue(store, KEY, receipt)
    copy = published_bundle(store)
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert names == {*receipt.data_files, *receipt.documents}
    assert all((copy / name).read_bytes() == (receipt.root / name).read_bytes() for name in names)
    assert verify_bundle(copy).content_sha256_hex == receipt.content_sha256_hex


def test_the_sealed_pairs_have_the_digest_that_the_bundle_states(
    store: Store, receipt: BundleReceipt, world_stage: WorldStage
) -> None:
    """And read as the rows do."""
    s0_gate.seal_catalogue(store, KEY, receipt)
    entry = store.manifest("s0c", KEY).tables[s0_gate.PAIRS_TABLE]
    assert entry.logical_digest == receipt.dataset_logical_sha256_hex[OUTLET_CATALOGUE]
    iso = world_stage.world.iso
    sealed, rows = s0_gate.read_sealed_catalogue(store, KEY, iso), read_catalogue(receipt, iso)
    assert (sealed.iso, sealed.seed) == (rows.iso, rows.seed)
    for name in ("merchant_id", "country", "n_sites", "home_country", "raw_outlet_draw"):
        assert getattr(sealed, name).tolist() == getattr(rows, name).tolist()


def test_a_country_that_the_world_lacks(
    store: Store, receipt: BundleReceipt, world_stage: WorldStage
) -> None:
    """Sealing asks no world; reading names the country and the merchant."""
    s0_gate.seal_catalogue(store, KEY, receipt)
    iso = tuple(code for code in world_stage.world.iso if code != "NA")
    with pytest.raises(InputError, match=r"E302_FK_COUNTRY.*'NA'") as caught:
        s0_gate.read_sealed_catalogue(store, KEY, iso)
    assert "merchant" in caught.value.where


def test_damaged_pairs_are_not_believed(
    store: Store, receipt: BundleReceipt, world_stage: WorldStage
) -> None:
    """One pair with other outlets, in a file of the published length or not."""
    s0_gate.seal_catalogue(store, KEY, receipt)
    path = store.layout.object("s0c", KEY) / f"{s0_gate.PAIRS_TABLE}.parquet"
    table = pq.read_table(path)
    counts = table.column("n_sites").to_pylist()
    counts[0] += 1
    at = table.schema.get_field_index("n_sites")
    path.chmod(0o644)
    length = path.stat().st_size
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(counts, pa.int32())), path)
    manifest = path.with_name("manifest.json")
    document = json.loads(manifest.read_bytes())
    for entry in document["files"].values():
        if entry["length_bytes"] == length:
            entry["length_bytes"] = path.stat().st_size
    manifest.chmod(0o644)
    manifest.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="E_STORE_DAMAGED"):
        s0_gate.read_sealed_catalogue(store, KEY, world_stage.world.iso)


def forge(receipt: BundleReceipt, column: str, row: int, value: Any) -> None:
    """Change one value of the outlets, and make checksums, index and flag fit."""

    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[row] = value
        return with_column(table, column, values)

    reseal(receipt.root, {OUTLET_CATALOGUE: change}, restate=False)


@pytest.mark.parametrize(
    ("column", "row", "value", "code"),
    [
        ("global_seed", 3, 1, "E_PATH_EMBED_MISMATCH"),
        ("site_order", 7, 99, "E314_SITE_ORDER_INTEGRITY"),
        ("final_country_outlet_count", 7, 99, "E308_COUNTS_MISMATCH"),
        ("raw_nb_outlet_draw", 0, 99, "E_EGRESS_HASH_MISMATCH"),
        ("home_country_iso", 7, "XX", "E_EGRESS_HASH_MISMATCH"),
    ],
)
def test_rows_that_break_the_contract_are_not_sealed(
    store: Store, receipt: BundleReceipt, column: str, row: int, value: Any, code: str
) -> None:
    """Although every checksum and the flag were made to fit: nothing is published, nothing is left."""
    forge(receipt, column, row, value)
    with pytest.raises(InputError) as sealing:
        s0_gate.seal_catalogue(store, KEY, verify_files(receipt.root))
    with pytest.raises(InputError) as verifying:
        verify_bundle(receipt.root)
    for error in (sealing.value, verifying.value):
        assert error.code == code
        assert str(receipt.root) in error.where
        assert error.next_step
    assert not list(store.layout.root.glob("objects/**/*"))


def test_a_bundle_that_changes_between_proof_and_copy_is_not_sealed(
    store: Store, receipt: BundleReceipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy must have the digest that was verified."""
    (path,) = receipt.part_files(OUTLET_CATALOGUE)

    def meanwhile(*arguments: Any) -> Any:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        return measure_bundle(*arguments)

    monkeypatch.setattr("seg1b.states.s0_gate.measure_bundle", meanwhile)
    with pytest.raises(StoreError, match="E_STORE_DAMAGED") as caught:
        s0_gate.seal_catalogue(store, KEY, receipt)
    assert caught.value.where == str(path)
    assert not store.has("s0c", KEY)


def test_a_published_bundle_is_known_by_its_files(
    store: Store, receipt: BundleReceipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables were proven before it was published, and are not read again."""
    s0_gate.seal_catalogue(store, KEY, receipt)
    monkeypatch.setattr(s0_gate, "verify_bundle", None)
    again = s0_gate.bundle_receipt(store, published_bundle(store))
    assert again.content_sha256_hex == receipt.content_sha256_hex
    assert again.runs is None


def test_a_bundle_elsewhere_is_proven(store: Store, receipt: BundleReceipt) -> None:
    """However its digests were kept."""
    assert s0_gate.bundle_receipt(store, receipt.root).runs is not None
    forge(receipt, "site_id", 7, "000009")
    with pytest.raises(InputError, match="E_CATALOGUE_SITE_ID"):
        s0_gate.bundle_receipt(store, receipt.root)


def test_a_published_bundle_that_was_resealed_is_damaged(store: Store, receipt: BundleReceipt) -> None:
    """Files, index and flag fit each other, but not the manifest."""
    s0_gate.seal_catalogue(store, KEY, receipt)
    copy = published_bundle(store)
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    reseal(copy, {OUTLET_CATALOGUE: lambda table: table.slice(0, 5)}, restate=False)
    with pytest.raises(StoreError, match="E_STORE_DAMAGED") as caught:
        s0_gate.bundle_receipt(store, copy)
    assert str(copy) in caught.value.where
