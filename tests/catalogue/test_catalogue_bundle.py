"""The 1A bundle: deterministic bytes, the flag law, and every way in which a bundle may be wrong."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue_cases import ISO, shares_policy, small_shares, small_synthesis
from resealing import data_file, reseal, with_column

from seg1b.catalogue.bundle import write_synthesis, write_user_catalogue
from seg1b.catalogue.bundle_law import pairs_digest
from seg1b.catalogue.guard import guard_bundle
from seg1b.catalogue.outlets import from_pairs
from seg1b.catalogue.tables import REQUIRED_OUTPUTS, SCHEMAS, Lineage, outlet_rows, slices
from seg1b.catalogue.verify import (
    BundleReceipt,
    catalogue_of,
    read_catalogue,
    read_datasets,
    read_runs,
    verify_bundle,
    verify_files,
)
from seg1b.errors import InputError, StoreError
from seg1b.policy.load import default_policies

WORLD = "ab" * 32


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the small synthesis."""
    root = tmp_path_factory.mktemp("bundle") / "1A"
    write_synthesis(root, small_synthesis(), small_shares(), shares_policy(), WORLD)
    return root


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def validation(root: Path) -> Path:
    """The validation folder."""
    return next((root / "data/layer1/1A/validation").iterdir())


def reflag(root: Path) -> None:
    """Forge a flag that fits the validation files as they are now."""
    folder = validation(root)
    names = sorted(p.name for p in folder.iterdir() if p.name != "_passed.flag")
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()
    (folder / "_passed.flag").write_text(f"sha256_hex = {digest}\n")


def edit_index(root: Path, edit: Callable[[list[dict[str, object]]], object]) -> None:
    """Change index.json and forge the flag."""
    path = validation(root) / "index.json"
    rows = json.loads(path.read_bytes())
    edit(rows)
    path.write_text(json.dumps(rows))
    reflag(root)


def refused(root: Path) -> str:
    """The code with which the bundle is refused."""
    with pytest.raises(InputError) as caught:
        verify_bundle(root)
    assert caught.value.next_step
    return caught.value.code


def outlets_file(root: Path) -> Path:
    """The outlet catalogue's data file."""
    return next(root.glob("data/layer1/1A/outlet_catalogue/seed=*/manifest_fingerprint=*/part-00000.parquet"))


# Round trip


def test_what_is_written_is_what_is_read(pristine: Path) -> None:
    """All pairs, homes, draws and the seed come back; all datasets are there with the contract's columns."""
    receipt = verify_bundle(pristine)
    catalogue, original = read_catalogue(receipt, ISO), small_synthesis().catalogue
    for name in ("merchant_id", "country", "n_sites", "home_country", "raw_outlet_draw"):
        assert getattr(catalogue, name).tolist() == getattr(original, name).tolist()
    assert (catalogue.seed, receipt.kind) == (42, "synthesis")
    assert set(receipt.dataset_rows) == set(SCHEMAS)
    assert receipt.dataset_rows["outlet_catalogue"] == original.site_count
    assert receipt.dataset_logical_sha256_hex["outlet_catalogue"] == pairs_digest(original)


def test_namibia_survives(pristine: Path) -> None:
    """NA is a country, in every dataset that names countries."""
    tables = read_datasets(verify_bundle(pristine))
    for name in ("outlet_catalogue", "s3_candidate_set", "sparse_flag"):
        column = "legal_country_iso" if name == "outlet_catalogue" else "country_iso"
        assert "NA" in tables[name].column(column).to_pylist()
        assert tables[name].column(column).null_count == 0


def test_the_same_catalogue_gives_the_same_bytes(pristine: Path, tmp_path: Path) -> None:
    """Every file, twice; no clock, no path."""
    write_synthesis(tmp_path / "again", small_synthesis(), small_shares(), shares_policy(), WORLD)
    files = {p.relative_to(pristine): p.read_bytes() for p in pristine.rglob("*") if p.is_file()}
    again = {
        p.relative_to(tmp_path / "again"): p.read_bytes()
        for p in (tmp_path / "again").rglob("*")
        if p.is_file()
    }
    assert files == again


def test_seeds_never_share_a_fingerprint(pristine: Path, tmp_path: Path) -> None:
    """Same policies, other seed: same parameter hash, another fingerprint and another content."""
    write_synthesis(tmp_path / "7", small_synthesis(7), small_shares(), shares_policy(), WORLD)
    one, two = verify_bundle(pristine), verify_bundle(tmp_path / "7")
    assert one.lineage.parameter_hash == two.lineage.parameter_hash
    assert one.lineage.manifest_fingerprint != two.lineage.manifest_fingerprint
    assert one.content_sha256_hex != two.content_sha256_hex


def test_slices_do_not_change_the_rows() -> None:
    """Row-per-outlet tables come in slices of whole pairs, of any size."""
    catalogue = small_synthesis().catalogue
    lineage = Lineage(42, "0" * 64, "1" * 64)
    whole = outlet_rows(catalogue, slice(0, catalogue.pair_count), lineage)
    parts = [outlet_rows(catalogue, part, lineage) for part in slices(catalogue, rows=50)]
    assert len(parts) > 10
    assert pa.concat_tables(parts).equals(whole)


def test_the_required_outputs_have_real_content(pristine: Path) -> None:
    """Counts sum to the outlets, the sequence has a row per outlet, the stationarity note says what it is."""
    tables = read_datasets(verify_bundle(pristine))
    sites = small_synthesis().catalogue.site_count
    assert sum(tables["s3_integerised_counts"].column("count").to_pylist()) == sites
    assert 0 in tables["s3_integerised_counts"].column("count").to_pylist()
    assert tables["s3_site_sequence"].num_rows == sites
    assert sum(tables["sparse_flag"].column("quota").to_pylist()) == sites
    windows = tables["hurdle_stationarity_tests"].to_pylist()
    assert sum(row["single_site_merchants"] for row in windows) == 111
    assert "no coefficients to test" in windows[0]["note"]
    assert set(REQUIRED_OUTPUTS) <= set(tables)


def test_nothing_is_overwritten(pristine: Path) -> None:
    """A second write into the same folder is refused."""
    with pytest.raises(StoreError) as caught:
        write_synthesis(pristine, small_synthesis(), small_shares(), shares_policy(), WORLD)
    assert caught.value.code == "E_BUNDLE_EXISTS"


def test_a_users_catalogue_is_wrapped_and_has_no_guard(tmp_path: Path) -> None:
    """Same law, no evidence: the guard is not applicable, and the fingerprint depends on the outlets
    alone.
    """
    merchant = np.array([7, 7, 9], np.uint64)
    place, sites = np.array([8, 3, 8], np.int16), np.array([2, 5, 1], np.int32)
    catalogue = from_pairs(ISO, merchant, place, sites, np.array([3, 3, 8], np.int16))
    lineage = write_user_catalogue(tmp_path / "a", catalogue)
    assert lineage == write_user_catalogue(tmp_path / "b", catalogue)
    receipt = verify_bundle(tmp_path / "a", expected=lineage)
    assert read_catalogue(receipt, ISO).n_sites.tolist() == [5, 2, 1]
    report = guard_bundle(read_runs(receipt), receipt, default_policies().guard)
    assert (report.status, report.grade, report.hard_gates) == ("not_applicable", "not_applicable", {})


# No PASS, no read


def test_an_absent_or_ambiguous_bundle(bundle: Path, tmp_path: Path) -> None:
    """No validation folder, or two."""
    assert refused(tmp_path / "nowhere") == "E_BUNDLE_MISSING"
    shutil.copytree(validation(bundle), validation(bundle).with_name("manifest_fingerprint=" + "0" * 64))
    assert refused(bundle) == "E_BUNDLE_MISSING"


def test_an_absent_index(bundle: Path) -> None:
    """Without index.json nothing says what the flag covers."""
    (validation(bundle) / "index.json").unlink()
    assert refused(bundle) == "E_INDEX_MISSING"


def test_an_index_that_is_no_list(bundle: Path) -> None:
    """Broken JSON, and JSON of another kind."""
    for text in ("{not json", "{}"):
        (validation(bundle) / "index.json").write_text(text)
        assert refused(bundle) == "E_INDEX_INVALID"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../MANIFEST.json", "a\\b", "c:x", "ä.json", "", "_passed.flag", None]
)
def test_illegal_index_paths(bundle: Path, path: str | None) -> None:
    """Absolute, climbing, foreign, non-ASCII and empty paths, and the flag itself."""
    edit_index(bundle, lambda rows: rows[0].update(path=path))
    assert refused(bundle) == "E_INDEX_INVALID"


def test_unlisted_missing_and_repeated_files(bundle: Path) -> None:
    """Every file but the flag is listed exactly once, and every listed file is there."""
    (validation(bundle) / "extra.txt").write_text("x")
    assert refused(bundle) == "E_INDEX_INVALID"
    (validation(bundle) / "extra.txt").unlink()
    edit_index(bundle, lambda rows: rows.append(dict(rows[0])))
    assert refused(bundle) == "E_INDEX_INVALID"
    edit_index(bundle, lambda rows: rows.pop())
    edit_index(bundle, lambda rows: rows[1].update(artifact_id=rows[0]["artifact_id"]))
    assert refused(bundle) == "E_INDEX_INVALID"
    (validation(bundle) / "rng_accounting.json").unlink()
    assert refused(bundle) == "E_INDEX_INVALID"


def test_an_absent_flag(bundle: Path) -> None:
    """No PASS, no read."""
    (validation(bundle) / "_passed.flag").unlink()
    assert refused(bundle) == "E_PASS_MISSING"


@pytest.mark.parametrize(
    "line", ["", "sha256_hex=abc", "SHA256_HEX = " + "a" * 64, "sha256_hex = " + "A" * 64]
)
def test_a_malformed_flag(bundle: Path, line: str) -> None:
    """Only `sha256_hex = <64 lower-case hex digits>` is a flag."""
    (validation(bundle) / "_passed.flag").write_text(line)
    assert refused(bundle) == "E_FLAG_FORMAT_INVALID"


def test_a_changed_validation_file_is_named(bundle: Path) -> None:
    """The flag finds any change; the index's digests say which file it was."""
    path = validation(bundle) / "s9_summary.json"
    path.write_text(path.read_text().replace('"PASS"', '"PASS "'))
    with pytest.raises(InputError, match=r"s9_summary\.json was changed") as caught:
        verify_bundle(bundle)
    assert caught.value.code == "E_FLAG_HASH_MISMATCH"


def test_bytes_moved_between_files_are_found_although_the_flag_fits(bundle: Path) -> None:
    """The flag concatenates without separators: a byte moved to the next file keeps it. The framed digests do
    not.
    """
    folder = validation(bundle)
    first, second = folder / "MANIFEST.json", folder / "egress_checksums.json"
    head = first.read_bytes()
    first.write_bytes(head[:-1])
    second.write_bytes(head[-1:] + second.read_bytes())
    assert refused(bundle) == "E_INDEX_INVALID"


def test_identity_in_documents_and_path_must_agree(bundle: Path) -> None:
    """A folder under another fingerprint, and a run that expects another identity."""
    lineage = verify_bundle(bundle).lineage
    with pytest.raises(InputError) as caught:
        verify_bundle(bundle, expected=Lineage(43, lineage.parameter_hash, lineage.manifest_fingerprint))
    assert caught.value.code == "E_PATH_EMBED_MISMATCH"
    validation(bundle).rename(validation(bundle).with_name("manifest_fingerprint=" + "0" * 64))
    assert refused(bundle) == "E_PATH_EMBED_MISMATCH"


# Data files are tied to the flag


def test_a_changed_data_file_is_found(bundle: Path) -> None:
    """One flipped bit in the outlet catalogue, of the same length."""
    path = outlets_file(bundle)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert refused(bundle) == "E_EGRESS_HASH_MISMATCH"


def test_a_missing_or_stray_data_file_is_found(bundle: Path) -> None:
    """A partition holds its data files and nothing else."""
    stray = outlets_file(bundle).with_name("part-00001.parquet")
    shutil.copy(outlets_file(bundle), stray)
    assert refused(bundle) == "E_PARTITION_MISPLACED"
    stray.unlink()
    outlets_file(bundle).unlink()
    assert refused(bundle) == "E_EGRESS_MISSING"


def test_checksums_that_are_none(bundle: Path) -> None:
    """A flag over a document without checksums vouches for nothing."""
    path = validation(bundle) / "egress_checksums.json"
    document = json.loads(path.read_bytes())
    for broken in ({**document, "files": None}, {**document, "framed_sha256_hex": "0" * 64}):
        path.write_text(json.dumps(broken))
        edit_index(bundle, lambda rows: [row.update(sha256_hex=None, notes=None) for row in rows])
        assert refused(bundle) == "E_EGRESS_CHECKSUMS_INVALID"


def forged(bundle: Path, receipt: BundleReceipt, table: pa.Table) -> str:
    """The code with which a forged outlet table is refused, although receipt and flag were made to fit."""
    pq.write_table(table, outlets_file(bundle), store_schema=False)
    with pytest.raises(InputError) as caught:
        read_catalogue(receipt, ISO)
    return caught.value.code


def test_forged_rows_are_refused_row_by_row(bundle: Path) -> None:
    """Wrong lineage, unknown country, gap, wrong count, wrong order, repeated pair, foreign columns, other
    rows. The receipt is of the files alone: whoever reads the rows checks them again.
    """
    receipt = verify_files(bundle)
    table = pq.read_table(outlets_file(bundle), partitioning=None)
    rows = table.num_rows

    def other(name: str, values: list[object]) -> pa.Table:
        return with_column(table, name, values)

    assert forged(bundle, receipt, other("global_seed", [1] * rows)) == "E_PATH_EMBED_MISMATCH"
    assert (
        forged(bundle, receipt, other("manifest_fingerprint", ["0" * 64] * rows)) == "E_PATH_EMBED_MISMATCH"
    )
    assert forged(bundle, receipt, other("legal_country_iso", ["ZZ"] * rows)) == "E302_FK_COUNTRY"
    assert forged(bundle, receipt, other("site_order", [2] * rows)) == "E314_SITE_ORDER_INTEGRITY"
    assert forged(bundle, receipt, other("final_country_outlet_count", [99] * rows)) == "E308_COUNTS_MISMATCH"
    assert forged(bundle, receipt, other("raw_nb_outlet_draw", [5] * rows)) == "E_EGRESS_HASH_MISMATCH"
    wrong_ids = other("site_id", ["000009"] * rows)
    assert forged(bundle, receipt, wrong_ids) == "E_CATALOGUE_SITE_ID"
    flags: list[object] = [not flag for flag in table.column("single_vs_multi_flag").to_pylist()]
    assert forged(bundle, receipt, other("single_vs_multi_flag", flags)) == "E308_COUNTS_MISMATCH"
    assert forged(bundle, receipt, table.drop_columns("site_id")) == "E305_SCHEMA_INVALID"
    counts = table.column("final_country_outlet_count").to_pylist()
    blocks = [table.slice(0, counts[0]), table.slice(counts[0])]
    assert forged(bundle, receipt, pa.concat_tables(blocks[::-1])) == "E310_UNSORTED"
    with pq.ParquetWriter(outlets_file(bundle), table.schema, store_schema=False) as writer:
        writer.write_table(blocks[0])
        writer.write_table(table)
    with pytest.raises(InputError) as caught:
        read_catalogue(receipt, ISO)
    assert caught.value.code == "E307_PK_DUPLICATE"


# Tables are what their logical digests say


def other_dispersions(table: pa.Table) -> pa.Table:
    """One phi for all."""
    return with_column(table, "dispersion_k", [2.0] * table.num_rows)


def swapped_reasons(table: pa.Table) -> pa.Table:
    """Other words in a list."""
    return with_column(table, "reason_codes", [["HOME"]] * table.num_rows)


def other_site_ids(table: pa.Table) -> pa.Table:
    """Texts that no pair depends on."""
    return with_column(table, "site_id", ["000009"] * table.num_rows)


def other_flags(table: pa.Table) -> pa.Table:
    """Truths that no pair depends on."""
    flags = table.column("single_vs_multi_flag").to_pylist()
    return with_column(table, "single_vs_multi_flag", [not flag for flag in flags])


def reversed_rows(table: pa.Table) -> pa.Table:
    """The same rows in another order."""
    return table.take(list(range(table.num_rows))[::-1])


@pytest.mark.parametrize(
    ("dataset", "change", "code"),
    [
        ("nb_dispersion", other_dispersions, "E_EGRESS_HASH_MISMATCH"),
        ("s3_candidate_set", swapped_reasons, "E_EGRESS_HASH_MISMATCH"),
        ("s6_membership", lambda table: table.slice(1), "E_EGRESS_HASH_MISMATCH"),
        ("s6_membership", reversed_rows, "E_EGRESS_HASH_MISMATCH"),
        ("sparse_flag", lambda table: table.slice(0, 0), "E_EGRESS_HASH_MISMATCH"),
        ("s3_site_sequence", other_site_ids, "E_EGRESS_HASH_MISMATCH"),
        ("s3_site_sequence", reversed_rows, "E_EGRESS_HASH_MISMATCH"),
        ("s3_site_sequence", lambda table: table.slice(0, 9), "E_EGRESS_HASH_MISMATCH"),
        ("s3_site_sequence", lambda table: pa.concat_tables([table, table]), "E_EGRESS_HASH_MISMATCH"),
        ("outlet_catalogue", other_site_ids, "E_CATALOGUE_SITE_ID"),
        ("outlet_catalogue", other_flags, "E308_COUNTS_MISMATCH"),
        ("outlet_catalogue", reversed_rows, "E314_SITE_ORDER_INTEGRITY"),
    ],
)
def test_a_stale_logical_digest_is_found(
    bundle: Path, dataset: str, change: Callable[[pa.Table], pa.Table], code: str
) -> None:
    """Files, index and flag fit, the digest of the meaning was kept: file, stated and found digest are named."""
    honest = verify_bundle(bundle)
    reseal(bundle, {dataset: change}, restate=False)
    with pytest.raises(InputError) as caught:
        verify_bundle(bundle)
    assert caught.value.code == code
    assert str(data_file(bundle, dataset)) in caught.value.where
    if code == "E_EGRESS_HASH_MISMATCH":
        found = re.findall("[a-f0-9]{64}", caught.value.message)
        assert found[1] == honest.dataset_logical_sha256_hex[dataset]
        assert found[0] != found[1]


def test_a_stated_number_of_rows_is_checked(bundle: Path) -> None:
    """It is part of what a bundle means, and of its digest."""
    path = validation(bundle) / "egress_checksums.json"
    document = json.loads(path.read_bytes())
    document["datasets"]["sparse_flag"]["rows"] += 1
    path.write_text(json.dumps(document))
    reseal(bundle, {})
    with pytest.raises(InputError, match=r"E_EGRESS_HASH_MISMATCH: sparse_flag has \d+ rows"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("dataset", "summary"),
    [
        ("sparse_flag", {"rows": -1, "logical_sha256_hex": "0" * 64}),
        ("sparse_flag", {"rows": True, "logical_sha256_hex": "0" * 64}),
        ("sparse_flag", {"rows": 1, "logical_sha256_hex": "0" * 63}),
        ("sparse_flag", {"rows": 1, "logical_sha256_hex": 7}),
        ("sparse_flag", {"rows": 1}),
        ("my_own_table", {"rows": 1, "logical_sha256_hex": "0" * 64}),
    ],
)
def test_what_is_stated_of_a_table_has_a_form(bundle: Path, dataset: str, summary: dict[str, object]) -> None:
    """A number of rows and a digest, of a table that a bundle can have."""
    path = validation(bundle) / "egress_checksums.json"
    document = json.loads(path.read_bytes())
    document["datasets"][dataset] = summary
    path.write_text(json.dumps(document))
    reseal(bundle, {})
    assert refused(bundle) == "E_EGRESS_CHECKSUMS_INVALID"


def test_missing_values_in_evidence_are_refused_by_name(bundle: Path) -> None:
    """Parquet may hold them whatever the contract says."""
    path = data_file(bundle, "nb_dispersion")
    table = pq.read_table(path, partitioning=None)
    nullable = table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))
    pq.write_table(with_column(nullable, "dispersion_k", [None] * table.num_rows), path, store_schema=False)
    reseal(bundle, {})
    with pytest.raises(InputError, match=r"E305_SCHEMA_INVALID: nb_dispersion: .*nulls") as caught:
        verify_bundle(bundle)
    assert caught.value.where == str(path)


def test_honest_changes_mean_another_catalogue(bundle: Path) -> None:
    """With digests that fit, the bundle is read, and it is not the one it was made from."""
    before = verify_bundle(bundle)
    reseal(bundle, {"nb_dispersion": other_dispersions})
    after = verify_bundle(bundle)
    assert after.content_sha256_hex != before.content_sha256_hex
    assert after.sequence_follows


def test_rows_that_break_the_contract_under_their_own_digest_are_the_guards_to_judge(bundle: Path) -> None:
    """The bundle says what it is, so it can be measured; nobody can use its pairs."""
    reseal(bundle, {"outlet_catalogue": other_site_ids})
    receipt = verify_bundle(bundle)
    report = guard_bundle(read_runs(receipt), receipt, default_policies().guard)
    assert report.metrics["identity_semantics_no_unexplained_duplicate_anomalies"].value == 0.0
    with pytest.raises(InputError, match="E_CATALOGUE_SITE_ID"):
        catalogue_of(read_runs(receipt), receipt)


def test_files_alone_prove_no_meaning(bundle: Path) -> None:
    """What `verify_files` is for: it repeats what a bundle states, and has no rows."""
    reseal(bundle, {"nb_dispersion": other_dispersions}, restate=False)
    assert verify_files(bundle).runs is None


# Who owes evidence


def test_a_stripped_bundle_is_no_plain_catalogue(bundle: Path, tmp_path: Path) -> None:
    """Whatever it says of its kind: its fingerprint is that of the run that made it. A wrapped catalogue is plain."""
    evidence = dict.fromkeys(name for name in SCHEMAS if name not in ("outlet_catalogue", "s3_site_sequence"))
    write_user_catalogue(tmp_path / "plain", small_synthesis().catalogue)
    assert verify_bundle(tmp_path / "plain").is_plain
    assert not verify_bundle(reseal(bundle, {}, kind="user_catalogue")).is_plain
    assert not verify_bundle(reseal(bundle, evidence, kind="synthesis")).is_plain
    receipt = verify_bundle(reseal(bundle, {}, kind="user_catalogue"))
    assert not receipt.is_plain
    report = guard_bundle(read_runs(receipt), receipt, default_policies().guard)
    assert (report.status, report.grade) == ("graded", "below_B")
    assert not verify_bundle(reseal(tmp_path / "plain", {}, kind="synthesis")).is_plain
