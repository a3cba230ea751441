"""The certificate: facts of all seeds, the grade, and a folder that a stranger can check without the store.

`cert_id` is the digest of the facts; timings and run ids are not facts, so certifying the same identity again finds
the same certificate. The folder is `certificate_folder`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg1b.lanes.identity import SeedFacts, packaged_facts
from seg1b.lanes.seed_tasks import Finish, Preparation
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies
from seg1b.scoring.gates import GateReport, counter_key
from seg1b.scoring.grading import CertificationGrade, StabilityRow, certification_grade, stability
from seg1b.scoring.results import CounterValue
from seg1b.scoring.score import Score, all_metrics, score_pooled
from seg1b.scoring.values import plain
from seg1b.store.digest import canonical_json, sha256_bytes
from seg1b.world.bundle import MANIFEST_NAME, SCHEMAS

FORMAT = 1
CERTIFICATE = "certificate.json"
TELEMETRY = "telemetry.json"
FILES = "files.json"
FLAG = "_passed.flag"
NOT_FACTS = ("cert_id", "run_id")
WORLD_FILES = (MANIFEST_NAME, *SCHEMAS)


@dataclass(frozen=True)
class SeedEvidence:
    """What the certificate says of one seed, and the score behind it. `guard`: the 1A guard's report as JSON."""

    facts: SeedFacts
    guard: Mapping[str, Any]
    denied: Mapping[str, Any]
    sites_per_country: NDArray[np.int64]
    score: Score
    passed: bool
    checks: Sequence[Mapping[str, Any]]
    evidence: Mapping[str, Any]
    logical_digests: Mapping[str, str]


@dataclass(frozen=True)
class Assembled:
    """A certificate before it is published, with the scores behind it."""

    document: dict[str, Any]
    scores: dict[int, Score]
    pooled: Score
    stability: tuple[StabilityRow, ...]


def evidence_of(preparation: Preparation, finish: Finish) -> SeedEvidence:
    """The evidence of a seed that this run prepared and finished."""
    return SeedEvidence(
        preparation.facts,
        preparation.guard,
        preparation.requirements["denied"],
        preparation.sites_per_country,
        finish.score,
        finish.passed,
        finish.checks,
        finish.evidence,
        finish.logical_digests,
    )


def assemble(
    stage: WorldStage,
    policies: Policies,
    identity: Mapping[str, Any],
    evidence: Sequence[SeedEvidence],
    run_ids: Mapping[int, str],
    witness: Mapping[int, Mapping[str, str]],
    amend_pool: Callable[[Score], Score] = lambda pooled: pooled,
) -> Assembled:
    """Grade all seeds together and write down every fact. `verify` calls this too, with what it recomputed.

    `witness`: logical digests of the seeds that were made a second time. `amend_pool`: what `verify` does to the
    pool's score where it cannot recompute all of it.
    """
    scores = {seed.facts.seed: seed.score for seed in evidence}
    shared = identity["catalogue_origin"] == "user"
    vetoes = [
        f"seed {seed.facts.seed}: the replay differs from what was published"
        for seed in evidence
        if not all(check["passed"] for check in seed.checks)
    ]
    witnessed = [
        witness_facts(seed, witness[seed.facts.seed]) for seed in evidence if seed.facts.seed in witness
    ]
    vetoes += [f"seed {row['seed']}: made again, it is not the same" for row in witnessed if not row["same"]]
    if policies.certification.reproducibility_witness_seed not in witness:
        vetoes.append("the reproducibility witness was not run")
    pooled = amend_pool(score_pooled(list(scores.values()), stage.context, shared_catalogue=shared))
    rows, grade = grade_scores(scores, pooled, policies, shared, vetoes)
    document: dict[str, Any] = {
        "format": FORMAT,
        "product": "seg1b",
        "grade": grade.grade,
        "reasons_against_b": list(grade.reasons_against_b),
        "reasons_against_b_plus": list(grade.reasons_against_b_plus),
        "identity": dict(identity),
        "world": world_facts(stage),
        "denylist": list(policies.requirements.denylist_country_iso) if policies.requirements.enabled else [],
        "baseline": policies.gates.baseline.model_dump(mode="json"),
        **packaged_facts(identity),
        "seeds": [seed_facts(seed, run_ids[seed.facts.seed]) for seed in evidence],
        "pooled": {"status": pooled.status, **report_facts(pooled.report), "metrics": metrics_of(pooled)},
        "cv": {row.name: row.cv for row in rows},
        "stability": plain(rows),
        "reproducibility_witness": witnessed,
        "country_shares": share_facts(stage, [seed.sites_per_country for seed in evidence]),
    }
    document["cert_id"] = certificate_id(document)
    return Assembled(document, scores, pooled, tuple(rows))


def grade_scores(
    scores: Mapping[int, Score],
    pooled: Score,
    policies: Policies,
    shared_catalogue: bool,
    vetoes: Sequence[str],
) -> tuple[list[StabilityRow], CertificationGrade]:
    """Stability across seeds and the grade; `vetoes` rule out both grades."""
    note = None
    if shared_catalogue:
        note = "all seeds share the user's catalogue"
    elif policies.synthesis.countries.shock_sigma == 0.0:
        note = "shock_sigma is 0: every seed has the same country quotas"
    rows = stability(
        {seed: score.core.metrics for seed, score in scores.items()}, policies.gates.cv, country_note=note
    )
    reports: dict[int, GateReport] = {seed: score.report for seed, score in scores.items()}
    grade = certification_grade(
        reports,
        pooled.report,
        rows,
        list(policies.certification.seeds),
        vetoes=vetoes,
    )
    return rows, grade


def as_published(document: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate as its readers have it, names in order: the report page follows from this and no other form."""
    return dict(json.loads(canonical_json(document)))


def certificate_id(document: Mapping[str, Any]) -> str:
    """Digest of a certificate's facts (hex64)."""
    return sha256_bytes(canonical_json(facts_only(document)))


def facts_only(value: Any) -> Any:
    """A document without what is not a fact."""
    if isinstance(value, Mapping):
        return {name: facts_only(item) for name, item in value.items() if name not in NOT_FACTS}
    if isinstance(value, list | tuple):
        return [facts_only(item) for item in value]
    return value


def metrics_of(score: Score) -> dict[str, float | None]:
    """Every metric of a score by name: core, regions, counter-metrics and what is reported beside them."""
    return dict(all_metrics(score))


def counter_name(value: CounterValue) -> str:
    """Unique name of a counter-metric: with the surface where it was measured on one."""
    return counter_key(value.name, value.surface)


def report_facts(report: GateReport) -> dict[str, Any]:
    """Gates and counter-metrics as the certificate lists them."""
    counters = []
    for row in report.counters:
        entry = plain(row)
        entry["pass"] = entry.pop("passed")
        counters.append(entry)
    return {"gates": plain(report.gates), "counter_metrics": counters}


def seed_facts(evidence: SeedEvidence, run_id: str) -> dict[str, Any]:
    """One seed's entry."""
    score, facts, guard = evidence.score, evidence.facts, evidence.guard
    return {
        "seed": facts.seed,
        "status": score.status,
        "run_id": run_id,
        "site_locations": f"{seed_folder(facts.seed)}/site_locations",
        "logical_digest": evidence.logical_digests["site_locations"],
        "logical_digests": dict(evidence.logical_digests),
        "catalogue_digest": facts.catalogue_digest,
        "manifest_fingerprint": facts.manifest_fingerprint,
        "sites": len(score.measurement),
        "validation_passed": evidence.passed,
        "checks": [dict(check) for check in evidence.checks],
        "guard": {
            "status": guard["status"],
            "grade": guard["grade"],
            "metrics": {name: metric["value"] for name, metric in guard["metrics"].items()},
            "realised_ratio_median": guard["realised_ratio_median"],
        },
        "denied": dict(evidence.denied),
        "metrics": metrics_of(score),
        **report_facts(score.report),
        "collapse_sentinel": plain(score.sentinel),
        "evidence": dict(evidence.evidence),
    }


def witness_facts(evidence: SeedEvidence, digests: Mapping[str, str]) -> dict[str, Any]:
    """Whether a seed that was made again has the published digests."""
    same = all(evidence.logical_digests[table] == digest for table, digest in digests.items())
    return {"seed": evidence.facts.seed, "same": same, "logical_digests": dict(digests)}


def seed_folder(seed: int) -> str:
    """Where a seed's files lie in a certification."""
    return f"seeds/{seed}"


def world_facts(stage: WorldStage) -> dict[str, Any]:
    """What the world is, for readers of the certificate."""
    countries = stage.world.countries
    excluded = {
        iso: reason
        for iso, reason, eligible in zip(
            countries.iso, countries.exclusion_reason, countries.eligible.tolist(), strict=True
        )
        if not eligible
    }
    return {
        "digest": stage.world.digest,
        "resolution_arcsec": stage.world.grid.resolution_arcsec,
        "tiles": int(stage.world.index.tiles[countries.eligible].sum()),
        "countries": len(countries),
        "eligible_countries": int(countries.eligible.sum()),
        "not_eligible": excluded,
        "population_surface": [surface.name for surface in stage.context.surfaces],
        "attribution": stage.attribution,
    }


def share_facts(stage: WorldStage, counts: Sequence[Any]) -> dict[str, dict[str, float | None]]:
    """Prior against certified share per country, and the design weight prior / share that undoes the distortion."""
    total = sum(int(count.sum()) for count in counts)
    facts = {}
    for index, iso in enumerate(stage.world.iso):
        sites = sum(int(count[index]) for count in counts)
        prior = float(stage.shares.prior[index])
        if sites == 0 and prior == 0.0:
            continue
        share = sites / total
        facts[iso] = {
            "prior": prior,
            "share": share,
            "design_weight": prior / share if share > 0.0 else None,
        }
    return facts


def load(path: Path) -> dict[str, Any]:
    """A published certificate."""
    return dict(json.loads((path / CERTIFICATE).read_bytes()))
