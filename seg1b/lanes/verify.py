"""Check a certification folder with the package alone, believing nothing that it says.

Not its thresholds: gates come from this package (or the verifier's own `--config`). Not its digests: every file is read
and every table hashed again. Not its metrics: the world, the catalogue, every draw and every score are recomputed, and
the certificate that follows must equal the published one, fact by fact. Moving a shop, rehashing everything and
lowering a threshold is found three times over.

What cannot be recomputed is said: a user's raster that is not at hand makes the check partial.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seg1b.catalogue.bundle import write_synthesis
from seg1b.catalogue.guard import guard_metrics
from seg1b.catalogue.synthesise import synthesise
from seg1b.catalogue.verify import BundleReceipt, read_catalogue, read_datasets, verify_bundle
from seg1b.errors import InputError, Seg1bError
from seg1b.lanes import certificate
from seg1b.lanes.identity import SeedFacts, manifest_fingerprint, run_identity
from seg1b.lanes.seed_tasks import witness_digests
from seg1b.lanes.verify_files import check_catalogue_files, check_files, check_layout
from seg1b.lanes.verify_report import Finding as Finding
from seg1b.lanes.verify_report import VerifyReport
from seg1b.lanes.world_stage import WorldStage, compute_world
from seg1b.policy.load import POLICY_FILES, Policies, PolicySource, default_policies, gates_hash
from seg1b.policy.validate import build
from seg1b.scoring.values import plain
from seg1b.states import s9_validation
from seg1b.states.s3_requirements import required_pairs
from seg1b.states.s8_egress import DERIVED, TABLE, egress_schema
from seg1b.states.seed_tables import SeedTables, SiteKeys, join_egress
from seg1b.states.shard import ASSIGNMENT_TABLE, JITTER_TABLE, PLAN_TABLE
from seg1b.states.tables import (
    COUNTRY,
    Pairs,
    column,
    pairs_to_arrow,
    placement_from_arrow,
    plan_from_arrow,
)
from seg1b.store.digest import PartitionKey, canonical_json, readable_json
from seg1b.store.tables import hive_digest, partitioned_digest, split
from seg1b.world.bundle import World, load_world

Observer = Callable[[str], None]

_UNREADABLE = (
    Seg1bError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError,
    pa.ArrowException,
)  # fmt: skip
"""What a file that somebody wrote with intent may raise on the way."""


def verify(
    path: Path,
    policies: Policies | None = None,
    *,
    raster: Path | None = None,
    observer: Observer = lambda _: None,
) -> VerifyReport:
    """Verify the certification folder at `path`.

    `policies`: whose gates and seeds to trust (None: the package's own defaults); `raster`: a user's population
    raster. Raises InputError if there is no certificate to check; lies are findings, not exceptions.
    """
    trusted = policies or default_policies()
    report = VerifyReport(path)
    document = _read_certificate(path, report)
    observer("files and digests")
    check_files(path, report)
    try:
        check_layout(path, [int(entry["seed"]) for entry in document["seeds"]], report)
        published = _published_policies(path, trusted, document, report)
        observer("the world")
        world = _world(path, document, raster, report)
        stage = compute_world(
            published, dataclasses.replace(world, raster=None) if report.partially else world
        )
        _check_attribution(path, stage, report)
        evidence = []
        witness: dict[int, dict[str, str]] = {}
        for entry in document["seeds"]:
            observer(f"seed {entry['seed']}")
            seed_evidence, pairs = _verify_seed(path, stage, published, world, document, entry, report)
            evidence.append(seed_evidence)
            facts = seed_evidence.facts
            if facts.seed == published.certification.reproducibility_witness_seed and not report.partially:
                fingerprint = facts.manifest_fingerprint
                witness[facts.seed] = witness_digests(stage, published, facts.seed, fingerprint, pairs)
        _check_origin(document, evidence, report)
        if report.partially:
            report.unchecked.append(
                "tile weights, S4's plan, S6's points, surface metrics and the grade: no raster"
            )
        else:
            observer("the certificate")
            _compare_certificate(stage, published, world, document, evidence, witness, report)
    except _UNREADABLE as error:
        code = error.code if isinstance(error, Seg1bError) else "E_VERIFY_UNREADABLE"
        what = error.message if isinstance(error, Seg1bError) else f"{type(error).__name__}: {error}"
        report.find(code, what, getattr(error, "where", "") or str(path))
    report.unchecked.append("report/: the page is compared by its digest only")
    report.unchecked.append("telemetry.json and run ids: times and names of runs are no facts")
    return report


def _read_certificate(path: Path, report: VerifyReport) -> dict[str, Any]:
    file = path / certificate.CERTIFICATE
    if not file.is_file():
        raise InputError(
            "E_VERIFY_NO_CERTIFICATE",
            "there is no certificate.json here",
            where=str(path),
            next_step="name a certification folder: <runs>/certifications/<cert_id>",
        )
    try:
        document = dict(json.loads(file.read_bytes(), parse_constant=_no_number))
        if int(document["format"]) > certificate.FORMAT:
            raise InputError(
                "E_VERIFY_FORMAT",
                f"this certificate has format {document['format']}; this seg1b reads up to {certificate.FORMAT}",
                where=str(file),
                next_step="upgrade seg1b",
            )
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "E_VERIFY_NO_CERTIFICATE",
            f"certificate.json cannot be read: {error}",
            where=str(file),
            next_step="get the folder again from whoever published it",
        ) from error
    report.cert_id, report.grade = str(document.get("cert_id", "")), str(document.get("grade", ""))
    computed = certificate.certificate_id(document)
    if file.read_bytes() != readable_json(document):
        report.find("E_VERIFY_FORM", "certificate.json is not in the form that seg1b writes", str(file))
    if report.cert_id != computed:
        report.find("E_VERIFY_CERT_ID", f"cert_id is not the digest of the facts, {computed}", str(file))
    return document


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


# -- policies and world --------------------------------------------------------------------------------------------


def _published_policies(
    path: Path, trusted: Policies, document: Mapping[str, Any], report: VerifyReport
) -> Policies:
    """The folder's generation policies with the verifier's gates and seeds."""
    values: dict[str, Any] = {}
    sources = {}
    for file in POLICY_FILES:
        where = path / f"config/{file.path.removesuffix('.yaml')}.json"
        published = build(file.model, json.loads(where.read_bytes()), str(where))
        if file.generation:
            values[file.attribute] = published
        else:
            values[file.attribute] = getattr(trusted, file.attribute)
            if published != values[file.attribute]:
                report.find(
                    "E_VERIFY_GATES",
                    "the published file is not the one this verifier trusts; if you mean to trust it, give it "
                    "with --config",
                    str(where.relative_to(path)),
                )
        sources[file.path] = PolicySource("explicit", str(where))
    policies = Policies(**values, sources=sources)
    if document["identity"]["gates_hash"] != gates_hash(policies):
        report.find(
            "E_VERIFY_GATES",
            "the certificate was graded by other gates than those this verifier trusts",
            "certificate.json: identity.gates_hash",
        )
    return policies


def _world(path: Path, document: Mapping[str, Any], raster: Path | None, report: VerifyReport) -> World:
    """The embedded world, or the one in the folder; its digest must be the certified one."""
    own = path / "world"
    world = load_world(own, raster_path=raster, raster_required=False) if own.is_dir() else load_world()
    if world.digest != document["identity"]["world_digest"]:
        report.find(
            "E_VERIFY_WORLD",
            f"the certificate is about another world than this one ({world.digest[:12]})",
            "certificate.json: identity.world_digest",
        )
    report.partially = world.raster is not None and world.raster.path is None
    if report.partially:
        report.checked.append(
            f"world {world.digest[:12]}: tiles computed again; its raster is not at hand (--raster)"
        )
    else:
        whose = "the embedded one" if world.digest == load_world().digest else "a user's own, from world/"
        report.checked.append(
            f"world {world.digest[:12]} ({whose}): tiles, surface, weights and shares computed again"
        )
    return world


def _check_attribution(path: Path, stage: WorldStage, report: VerifyReport) -> None:
    file = path / "ATTRIBUTION.txt"
    if not file.is_file() or file.read_bytes() != (stage.attribution + "\n").encode():
        report.find("E_VERIFY_ATTRIBUTION", "the attribution is not the one its sources ask for", file.name)


def _check_origin(
    document: Mapping[str, Any], evidence: Sequence[certificate.SeedEvidence], report: VerifyReport
) -> None:
    """Only catalogues that policy and seed give may differ between seeds, and none may fail the 1A guard."""
    origin = document["identity"]["catalogue_origin"]
    where = "certificate.json: identity.catalogue_origin"
    if origin not in ("synthesised", "user"):
        report.find("E_VERIFY_CATALOGUE", f"there is no such origin as {_short(origin)}", where)
    elif origin == "user" and len({seed.facts.catalogue_digest for seed in evidence}) > 1:
        report.find("E_VERIFY_CATALOGUE", "a user's catalogue is one for all seeds; these differ", where)
    for seed in evidence:
        if seed.guard["grade"] == "below_B":
            report.find(
                "E_VERIFY_GUARD",
                "the 1A guard rejects the catalogue; certify refuses it",
                f"seed {seed.facts.seed}",
            )


# -- one seed ------------------------------------------------------------------------------------------------------


def _verify_seed(
    path: Path,
    stage: WorldStage,
    policies: Policies,
    world: World,
    document: Mapping[str, Any],
    entry: Mapping[str, Any],
    report: VerifyReport,
) -> tuple[certificate.SeedEvidence, Pairs]:
    seed = int(entry["seed"])
    folder = path / certificate.seed_folder(seed)
    receipt = verify_bundle(folder / "catalogue")
    check_catalogue_files(receipt, report)
    digest = receipt.content_sha256_hex
    if document["identity"]["catalogue_origin"] == "synthesised":
        _compare_synthesis(stage, policies, seed, receipt, report)
    facts = SeedFacts(seed, digest, manifest_fingerprint(world.digest, digest))
    tables, digests = _read_seed(folder, stage, policies, receipt, report)
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
        _compare_surfaceless(validation, entry, seed, report)
    else:
        _compare_validation(folder, validation, policies, world, facts, digests, report)
    _, denied = required_pairs(tables.catalogue, stage.world.countries, policies.requirements)
    report.checked.append(f"seed {seed}: {len(tables.egress)} sites replayed and scored again")
    evidence = certificate.SeedEvidence(
        facts,
        plain(guard_metrics(read_datasets(receipt))),
        denied,
        tables.pairs.sites_per_country(len(stage.world.iso)),
        validation.score,
        validation.passed,
        validation.checks(),
        validation.evidence,
        digests,
    )
    return evidence, tables.pairs


def _compare_synthesis(
    stage: WorldStage, policies: Policies, seed: int, receipt: BundleReceipt, report: VerifyReport
) -> None:
    """Synthesise the catalogue again and compare what it means."""
    again = synthesise(stage.world.countries, stage.shares, policies.synthesis, seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "bundle"
        write_synthesis(root, again, stage.shares, policies.country_shares, stage.world.digest)
        expected = verify_bundle(root)
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


def _read_seed(
    folder: Path, stage: WorldStage, policies: Policies, receipt: BundleReceipt, report: VerifyReport
) -> tuple[SeedTables, dict[str, str]]:
    """A seed's published tables and their logical digests, from the files."""
    iso = stage.world.iso
    catalogue = read_catalogue(receipt, iso)
    pairs, _ = required_pairs(catalogue, stage.world.countries, policies.requirements)
    plan, plan_digest = _read_table(folder / PLAN_TABLE)
    assigned, assigned_digest = _read_table(folder / ASSIGNMENT_TABLE)
    jittered, jittered_digest = _read_table(folder / JITTER_TABLE)
    partitions = dict(_egress_partitions(folder / TABLE))
    schema = egress_schema(stage.attribution)
    for code, rows in partitions.items():
        if not rows.schema.equals(schema, check_metadata=True):
            what = "its columns or metadata (GeoParquet, attribution) are not those of site_locations"
            report.find("E_VERIFY_EGRESS_SCHEMA", what, f"{folder.name}/{TABLE}/{COUNTRY}={code}")
    egress = join_egress(iso, ((str(code), rows) for code, rows in partitions.items()))
    tables = SeedTables(
        catalogue=catalogue,
        pairs=pairs,
        plan=plan_from_arrow(iso, plan),
        assigned=SiteKeys.from_arrow(iso, assigned),
        assigned_tile=column(assigned, "tile_id", np.int64),
        jittered=SiteKeys.from_arrow(iso, jittered),
        placement=placement_from_arrow(jittered),
        egress=egress.keys,
        lon_deg=egress.lon_deg,
        lat_deg=egress.lat_deg,
        geometry_matches=egress.geometry_matches,
    )
    return tables, {
        "s3_requirements": partitioned_digest(pairs_to_arrow(iso, pairs), COUNTRY),
        PLAN_TABLE: plan_digest,
        ASSIGNMENT_TABLE: assigned_digest,
        JITTER_TABLE: jittered_digest,
        TABLE: hive_digest(partitions, DERIVED),
    }


def _read_table(folder: Path) -> tuple[pa.Table, str]:
    """All part files of a table, its countries in order, and its logical digest."""
    parts: dict[PartitionKey, pa.Table] = {}
    for file in sorted(folder.glob("*.parquet")):
        for key, rows in split(pq.read_table(file), COUNTRY):
            if key in parts:
                raise InputError("E_VERIFY_TABLE", f"two files hold rows of {key}", where=str(folder))
            parts[key] = rows
    if not parts:
        raise InputError("E_VERIFY_TABLE", "the table has no rows", where=str(folder))
    table = pa.concat_tables([parts[key] for key in sorted(parts, key=str)])
    return table, partitioned_digest(table, COUNTRY)


def _egress_partitions(folder: Path) -> Iterator[tuple[PartitionKey, pa.Table]]:
    """(country, rows) of the egress."""
    for partition in sorted(folder.glob(f"{COUNTRY}=*")):
        files = sorted(partition.glob("*.parquet"))
        yield (
            partition.name.removeprefix(f"{COUNTRY}="),
            pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]),
        )


def _compare_surfaceless(
    validation: s9_validation.Validation, entry: Mapping[str, Any], seed: int, report: VerifyReport
) -> None:
    """Compare the metrics that need no population surface, and the structure."""
    recomputed = certificate.metrics_of(validation.score)
    on_surface = {
        certificate.counter_name(row) for row in validation.score.counters if row.surface is not None
    }
    for name, value in sorted(recomputed.items()):
        if name not in on_surface and entry["metrics"].get(name) != value:
            published = _short(entry["metrics"].get(name))
            report.find(
                "E_VERIFY_FACT", f"published {published}, recomputed {_short(value)}", f"seed {seed}, {name}"
            )
    for name, count in validation.replay.violations.items():
        if count != 0:
            report.find("E_VERIFY_STRUCTURE", f"{name}: {count}", f"seed {seed}")


def _compare_validation(
    folder: Path,
    validation: s9_validation.Validation,
    policies: Policies,
    world: World,
    facts: SeedFacts,
    digests: Mapping[str, str],
    report: VerifyReport,
) -> None:
    """Compare the seed's validation bundle with the one that follows from what was recomputed."""
    hashes = certificate.seed_hashes(policies, world.digest, facts)
    identity = {"seed": facts.seed, "manifest_fingerprint": facts.manifest_fingerprint, **hashes}
    documents = s9_validation.bundle_documents(validation, identity, policies, digests)
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


# -- the certificate -----------------------------------------------------------------------------------------------


def _compare_certificate(
    stage: WorldStage,
    policies: Policies,
    world: World,
    document: Mapping[str, Any],
    evidence: list[certificate.SeedEvidence],
    witness: Mapping[int, Mapping[str, str]],
    report: VerifyReport,
) -> None:
    """Build the certificate again from what was recomputed and compare every fact."""
    identity = run_identity(
        policies,
        world.digest,
        [seed.facts for seed in evidence],
        str(document["identity"]["catalogue_origin"]),
    )
    run_ids = {int(entry["seed"]): str(entry["run_id"]) for entry in document["seeds"]}
    again = certificate.assemble(stage, policies, identity, evidence, run_ids, witness).document
    expected = json.loads(canonical_json(again))
    for where, published, recomputed in _differences(expected, dict(document), ""):
        report.find("E_VERIFY_FACT", f"published {_short(published)}, recomputed {_short(recomputed)}", where)
    report.checked.append("every fact of the certificate, its gates and its grade")


def _differences(expected: Any, published: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """(path, published, recomputed) wherever two JSON values differ."""
    if isinstance(expected, dict) and isinstance(published, dict):
        for name in sorted({*expected, *published}):
            absent = object()
            one, two = expected.get(name, absent), published.get(name, absent)
            if one is absent or two is absent:
                yield (
                    f"{where}.{name}".lstrip("."),
                    None if two is absent else two,
                    None if one is absent else one,
                )
            else:
                yield from _differences(one, two, f"{where}.{name}".lstrip("."))
    elif isinstance(expected, list) and isinstance(published, list) and len(expected) == len(published):
        for number, (one, two) in enumerate(zip(expected, published, strict=True)):
            yield from _differences(one, two, f"{where}[{number}]")
    elif expected != published or type(expected) is not type(published):
        yield where, published, expected


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
