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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from seg1b.errors import InputError, Seg1bError
from seg1b.lanes import certificate, verify_partial
from seg1b.lanes.identity import packaged_facts, run_identity
from seg1b.lanes.seed_tasks import witness_digests
from seg1b.lanes.verify_files import check_files, check_layout, strict_json
from seg1b.lanes.verify_report import Finding as Finding
from seg1b.lanes.verify_report import VerifyReport
from seg1b.lanes.verify_seed import verify_seed
from seg1b.lanes.verify_world import checked_world
from seg1b.lanes.world_stage import WorldStage, compute_world
from seg1b.policy.load import CERTIFIED_FILES, Policies, PolicySource, default_policies, gates_hash
from seg1b.policy.validate import build
from seg1b.report.page import SitePoints, draw_maps, write_report
from seg1b.store.digest import readable_json
from seg1b.world.content import World

Observer = Callable[[str], None]

_UNREADABLE = (
    Seg1bError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError,
    RecursionError, pa.ArrowException,
)  # fmt: skip
"""What a file that somebody wrote with intent may raise on the way."""

_PARTIALLY_UNCHECKED = (
    "no raster: tile weights, S4's plan, S6's points, metrics on the placement surface, evidence against the first "
    "engine's placement and the witness are the certificate's own claims",
    "no raster: so the grade follows from what the certificate claims, and is not verified",
    "report/: the page shows what needs the raster",
)


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
    try:
        if check_files(path, report):
            _recompute(path, trusted, document, raster, observer, report)
        else:
            report.unchecked.append("everything else: nothing is read through a link")
    except _UNREADABLE as error:
        code = error.code if isinstance(error, Seg1bError) else "E_VERIFY_UNREADABLE"
        what = error.message if isinstance(error, Seg1bError) else f"{type(error).__name__}: {error}"
        report.find(code, what, getattr(error, "where", "") or str(path))
    report.unchecked.append("telemetry.json and run ids: times and names of runs are no facts")
    return report


def _recompute(
    path: Path,
    trusted: Policies,
    document: Mapping[str, Any],
    raster: Path | None,
    observer: Observer,
    report: VerifyReport,
) -> None:
    """World, catalogues, draws, scores and certificate once more, each compared with what was published."""
    check_layout(path, [int(entry["seed"]) for entry in document["seeds"]], report)
    published = _published_policies(path, trusted, document, report)
    observer("the world")
    world = checked_world(path, str(document["identity"]["world_digest"]), raster, report)
    if report.partially:
        stage = verify_partial.stand_in(compute_world(published, dataclasses.replace(world, raster=None)))
    else:
        stage = compute_world(published, world)
    _check_attribution(path, stage, report)
    evidence, points = [], {}
    witness: dict[int, dict[str, str]] = {}
    for entry in document["seeds"]:
        observer(f"seed {entry['seed']}")
        seed_evidence, tables = verify_seed(path, stage, published, world, document, entry, report)
        evidence.append(seed_evidence)
        facts = seed_evidence.facts
        points[facts.seed] = SitePoints(tables.egress.country, tables.lon_deg, tables.lat_deg)
        if facts.seed != published.certification.reproducibility_witness_seed:
            continue
        if report.partially:
            digests = seed_evidence.logical_digests
            witness = verify_partial.claimed_witness(document, facts.seed, digests)
        else:
            fingerprint = facts.manifest_fingerprint
            witness[facts.seed] = witness_digests(stage, published, facts.seed, fingerprint, tables.pairs)
    _check_origin(document, evidence, report)
    observer("the certificate")
    again = _compare_certificate(stage, published, world, document, evidence, witness, report)
    if report.partially:
        report.unchecked += _PARTIALLY_UNCHECKED
        if document["identity"]["catalogue_origin"] == "synthesised":
            report.unchecked.append("catalogues against policy and seed: country shares need the raster")
    else:
        observer("the report")
        _compare_report(path, again, points, world, report)


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
        document = dict(strict_json(file.read_bytes()))
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


# -- policies and world --------------------------------------------------------------------------------------------


def _published_policies(
    path: Path, trusted: Policies, document: Mapping[str, Any], report: VerifyReport
) -> Policies:
    """The folder's generation policies with the verifier's gates and seeds."""
    values: dict[str, Any] = {}
    sources = {}
    for file in CERTIFIED_FILES:
        where = path / f"config/{file.path.removesuffix('.yaml')}.json"
        data = where.read_bytes()
        published = build(file.model, strict_json(data), str(where))
        if data != readable_json(published.model_dump(mode="json")):
            report.find(
                "E_VERIFY_FORM",
                "the policy is not in the form that seg1b writes",
                str(where.relative_to(path)),
            )
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
    policies = Policies(
        **values, retention=trusted.retention, budgets=trusted.budgets, lanes=trusted.lanes, sources=sources
    )
    if document["identity"]["gates_hash"] != gates_hash(policies):
        report.find(
            "E_VERIFY_GATES",
            "the certificate was graded by other gates than those this verifier trusts",
            "certificate.json: identity.gates_hash",
        )
    return policies


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


# -- the certificate -----------------------------------------------------------------------------------------------


def _compare_certificate(
    stage: WorldStage,
    policies: Policies,
    world: World,
    document: Mapping[str, Any],
    evidence: list[certificate.SeedEvidence],
    witness: Mapping[int, Mapping[str, str]],
    report: VerifyReport,
) -> certificate.Assembled:
    """Build the certificate again from what was recomputed and compare every fact."""
    identity = run_identity(
        policies,
        world.digest,
        [seed.facts for seed in evidence],
        str(document["identity"]["catalogue_origin"]),
    )
    run_ids = {int(entry["seed"]): str(entry["run_id"]) for entry in document["seeds"]}
    if report.partially:
        amend = verify_partial.pool_amendment(stage, document)
        again = certificate.assemble(stage, policies, identity, evidence, run_ids, witness, amend)
    else:
        again = certificate.assemble(stage, policies, identity, evidence, run_ids, witness)
    report.packaged = packaged_facts(identity)
    expected = certificate.as_published(again.document)
    for where, published, recomputed in _differences(expected, dict(document), ""):
        report.find("E_VERIFY_FACT", f"published {_short(published)}, recomputed {_short(recomputed)}", where)
    if report.partially:
        report.checked.append(
            "every fact that needs no raster, and that gates and grade follow from the claimed ones"
        )
    else:
        report.checked.append("every fact of the certificate, its gates and its grade")
    return again


def _compare_report(
    path: Path,
    again: certificate.Assembled,
    points: Mapping[int, SitePoints],
    world: World,
    report: VerifyReport,
) -> None:
    """Render the report page from what was recomputed and compare its bytes: it is what people read."""
    pages: dict[str, bytes] = {}
    document = certificate.as_published(again.document)
    first = int(document["seeds"][0]["seed"]) if document["seeds"] else None
    maps = draw_maps(None if first is None else points.get(first), first, world)
    write_report(pages.__setitem__, document, again.scores, again.pooled, maps, world)
    for name, page in pages.items():
        file = path / name
        if not file.is_file() or file.read_bytes() != page:
            report.find(
                "E_VERIFY_REPORT", "the page is not the one that follows from what was recomputed", name
            )
    report.checked.append("the report page, byte by byte")


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
