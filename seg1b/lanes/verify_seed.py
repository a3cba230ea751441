"""One seed of a certification folder: catalogue, draws and scores made again, each compared with the published."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg1b.catalogue.bundle import write_synthesis
from seg1b.catalogue.guard import guard_bundle
from seg1b.catalogue.synthesise import synthesise
from seg1b.catalogue.verify import BundleReceipt, catalogue_of, read_runs, verify_bundle, verify_files
from seg1b.lanes import certificate, verify_partial
from seg1b.lanes.identity import SeedFacts, manifest_fingerprint, seed_hashes
from seg1b.lanes.verify_files import check_catalogue_files
from seg1b.lanes.verify_report import VerifyReport
from seg1b.lanes.verify_tables import read_seed
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies
from seg1b.scoring.score import Score
from seg1b.scoring.values import plain
from seg1b.states import s9_findings, s9_validation
from seg1b.states.required_pairs import required_pairs
from seg1b.states.seed_tables import SeedTables
from seg1b.world.content import World


def verify_seed(
    path: Path,
    stage: WorldStage,
    policies: Policies,
    world: World,
    document: Mapping[str, Any],
    entry: Mapping[str, Any],
    report: VerifyReport,
) -> tuple[certificate.SeedEvidence, SeedTables]:
    """Read one seed of the folder at `path`, recompute it and compare; lies are findings of `report`.

    `stage` is the world as computed again, `policies` those of the folder with the verifier's gates; `entry` is the
    seed's in the certificate's `document`. Returns the evidence that the seed gives, and its published tables. Raises
    what reading does (InputError, StoreError, OSError, ValueError and so on) where a file cannot be read.
    """
    seed = int(entry["seed"])
    folder = path / certificate.seed_folder(seed)
    receipt = verify_bundle(folder / "catalogue")
    check_catalogue_files(receipt, report)
    digest = receipt.content_sha256_hex
    if document["identity"]["catalogue_origin"] == "synthesised" and not report.partially:
        _compare_synthesis(stage, policies, seed, receipt, report)
    facts = SeedFacts(seed, digest, manifest_fingerprint(world.digest, digest))
    runs = read_runs(receipt)
    guard = guard_bundle(runs, receipt, policies.guard)
    catalogue = catalogue_of(runs, receipt, stage.world.iso)
    tables, digests = read_seed(folder, stage, policies, catalogue, report)
    validation = s9_validation.validate(
        stage.world,
        tables,
        stage.context,
        policies,
        seed,
        facts.manifest_fingerprint,
        surface_known=not report.partially,
    )
    for check in validation.replay.checks:
        if not check.passed:
            report.find(
                "E_VERIFY_REPLAY", f"{check.demand}: {check.differing} differ", f"seed {seed}, {check.first}"
            )
    if report.partially:
        for name, count in validation.replay.violations.items():
            if count != 0:
                report.find("E_VERIFY_STRUCTURE", f"{name}: {count}", f"seed {seed}")
        validation = verify_partial.completed(stage, policies, tables, validation, entry)
    _compare_validation(folder, validation, policies, world, facts, digests, report)
    _, denied = required_pairs(tables.catalogue, stage.world.countries, policies.requirements)
    replayed = (
        "scored again, as far as no raster is needed" if report.partially else "replayed and scored again"
    )
    report.checked.append(f"seed {seed}: {len(tables.egress)} sites {replayed}")
    evidence = certificate.SeedEvidence(
        facts,
        plain(guard),
        denied,
        tables.pairs.sites_per_country(len(stage.world.iso)),
        validation.score,
        validation.passed,
        validation.checks(),
        validation.evidence,
        digests,
    )
    return evidence, tables


def _compare_synthesis(
    stage: WorldStage, policies: Policies, seed: int, receipt: BundleReceipt, report: VerifyReport
) -> None:
    """Synthesise the catalogue again and compare what it means."""
    again = synthesise(stage.world.countries, stage.shares, policies.synthesis, seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "bundle"
        write_synthesis(root, again, stage.shares, policies.country_shares, stage.world.digest)
        expected = verify_files(root)
    if expected.content_sha256_hex != receipt.content_sha256_hex:
        differing = sorted(
            name
            for name in {**expected.dataset_logical_sha256_hex, **receipt.dataset_logical_sha256_hex}
            if expected.dataset_logical_sha256_hex.get(name) != receipt.dataset_logical_sha256_hex.get(name)
        )
        report.find(
            "E_VERIFY_CATALOGUE",
            f"the catalogue is not the one that policy and seed give ({', '.join(differing) or 'identity'})",
            f"seed {seed}",
        )


def _compare_validation(
    folder: Path,
    validation: s9_findings.Validation[Score],
    policies: Policies,
    world: World,
    facts: SeedFacts,
    digests: Mapping[str, str],
    report: VerifyReport,
) -> None:
    """Compare the seed's validation bundle with the one that follows from what was recomputed."""
    hashes = seed_hashes(policies, world.digest, facts)
    identity = {"seed": facts.seed, "manifest_fingerprint": facts.manifest_fingerprint, **hashes}
    documents = s9_findings.bundle_documents(validation, identity, policies, digests)
    _compare_bundle(folder / "validation", documents, facts.seed, report)


def _compare_bundle(folder: Path, documents: Mapping[str, bytes], seed: int, report: VerifyReport) -> None:
    present = {p.name: p.read_bytes() for p in sorted(folder.glob("*")) if p.is_file()}
    for name in sorted({*present, *documents}):
        if present.get(name) != documents.get(name):
            report.find(
                "E_VERIFY_BUNDLE",
                "the validation bundle is not the one that was recomputed",
                f"seed {seed}, {name}",
            )
