"""What a verifier without the user's raster can still demand of a certificate.

The bundled surface stands in for the unknown one wherever code needs a surface; whatever was measured on the stand-in
is then replaced by what the certificate claims: metrics on the placement surface, evidence against the first engine's
placement, and the replayed draws of S4 and S6. From those claims and from everything recomputed, rows, statuses,
stability and grade are derived again; so a claim may be false, but nothing that follows from it may be.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from seg1b.lanes.world_stage import WorldStage
from seg1b.later import Later
from seg1b.policy.load import Policies
from seg1b.scoring.gates import evaluate
from seg1b.scoring.measure import NamedSurface
from seg1b.scoring.results import CounterValue
from seg1b.scoring.score import Score
from seg1b.scoring.values import NOT_COMPUTABLE, Metric, unknown
from seg1b.states.replay_checks import Check, Replay
from seg1b.states.s9_findings import Validation
from seg1b.states.seed_tables import SeedTables

BUNDLED = "bundled"
DEMANDS = {
    "s3_requirements": None,
    "s5_keys": None,
    "s6_keys": None,
    "s8_keys": None,
    "s4_rows": None,
    "s4_plan": "the replayed plan has the published rows",
    "s5_tiles": "the replayed assignment gives the published tile",
    "s6_tiles": "S6 kept S5's tile",
    "s6_points": "the replayed jitter gives the published point, to the last bit",
    "s6_attempts": "the replayed jitter took the published attempts",
    "s6_components": "the replayed jitter chose the published component",
    "s8_coordinates": None,
    "s8_geometry": None,
}
"""S9's checks in its order; a demand where a replay without a surface states another one or makes no check."""
_LOWEST = {"near_city_share_difference": -1.0, "population_correlation_1deg": -1.0}
_SURFACE_DIAGNOSTICS = ("within_country_cluster_score", "bounding_box_dispersion")


def stand_in(stage: WorldStage) -> WorldStage:
    """A stage that was computed without the raster, with the certificate's surfaces: the bundled one twice."""
    (placement,) = stage.context.surfaces
    bundled = NamedSurface(placement.surface, dataclasses.replace(placement.reference, name=BUNDLED))
    context = dataclasses.replace(stage.context, surfaces=(placement, bundled))
    return dataclasses.replace(stage, context_later=Later.known(context))


def amended(stage: WorldStage, score: Score, published: Mapping[str, Any]) -> Score:
    """`score` with the claimed values on the placement surface, judged again by the trusted gates.

    `published`: the certificate's entry of the seed or of the pool.
    """
    surface = stage.context.surfaces[0].name
    rows = {str(row["name"]): row for row in published["counter_metrics"] if row["surface"] == surface}
    counters = tuple(
        dataclasses.replace(value, metric=_claimed(value, rows.get(value.name)))
        if value.surface == surface
        else value
        for value in score.counters
    )
    report = evaluate(
        score.core, counters, score.intervals, score.sentinel, score.violations, stage.context.gates,
        seeds=score.measurement.seeds,
    )  # fmt: skip
    return dataclasses.replace(score, counters=counters, report=report)


def _claimed(value: CounterValue, row: Mapping[str, Any] | None) -> Metric:
    """The claimed metric; a claim that no measurement can yield becomes `not_computable`, and so a difference."""
    observed = None if row is None else row["observed"]
    if row is not None and observed is None and str(row["reason"]).startswith(NOT_COMPUTABLE):
        return Metric(None, str(row["reason"]))  # it fails its row, so nobody gains by a false one
    if not isinstance(observed, float) or not math.isfinite(observed):
        return unknown("the certificate states no number")
    if not _LOWEST.get(value.name, 0.0) <= observed <= 1.0:
        return unknown("the certificate states an impossible number")
    return Metric(observed)


def completed(
    stage: WorldStage,
    policies: Policies,
    tables: SeedTables,
    validation: Validation[Score],
    entry: Mapping[str, Any],
) -> Validation[Score]:
    """`validation`, made on the stand-in, with what the certificate's `entry` claims about the placement surface."""
    return Validation(
        _completed_replay(policies, tables, validation.replay, entry),
        amended(stage, validation.score, entry),
        _completed_evidence(validation.evidence, entry["evidence"]),
    )


def _completed_replay(
    policies: Policies, tables: SeedTables, replay: Replay, entry: Mapping[str, Any]
) -> Replay:
    own = {check.name: check for check in replay.checks}
    if "s5_tiles" not in own:  # keys or plan do not fit, and nothing was replayed: here as in S9
        return replay
    moved = int((tables.placement.tile_id != tables.assigned_tile).sum())
    own["s6_tiles"] = Check("s6_tiles", "", moved)
    claims = {str(claim["name"]): claim for claim in entry["checks"]}
    checks = []
    for name, demand in DEMANDS.items():
        check = own.get(name) or _claimed_check(name, claims.get(name, {}))
        checks.append(check if demand is None else dataclasses.replace(check, demand=demand))
    attempts = int(tables.placement.attempts.sum())
    blocks = {
        "site_tile_assign": len(tables.assigned_tile),
        "in_cell_jitter": attempts * (2 if policies.jitter.mode == "cluster_v3" else 1),
    }
    return Replay(tuple(checks), replay.violations, blocks)


def _claimed_check(name: str, claim: Mapping[str, Any]) -> Check:
    differing = claim.get("differing")
    if type(differing) is not int or differing < 0:
        return Check(name, "", 1, "the certificate does not say")
    return Check(name, "", differing, str(claim.get("first", "")) if differing else "")


def _completed_evidence(own: Mapping[str, Any], claimed: Mapping[str, Any]) -> dict[str, Any]:
    """Tests against the first engine's placement and two diagnostics are claims; nothing else is."""
    diagnostics = dict(own["soft_diagnostics"])
    for name in _SURFACE_DIAGNOSTICS:
        diagnostics[name] = _numbers(diagnostics[name], claimed["soft_diagnostics"][name])
    tests = _numbers(own["neighbour_tests"], claimed["neighbour_tests"])
    return {**own, "neighbour_tests": tests, "soft_diagnostics": diagnostics}


def _numbers(own: Any, claimed: Any) -> Any:
    """`own` with the claimed numbers in the same places; a claim of another shape is not taken over."""
    if isinstance(own, dict) and isinstance(claimed, dict):
        return {name: _numbers(value, claimed.get(name)) for name, value in own.items()}
    if isinstance(own, list) and isinstance(claimed, list) and len(own) == len(claimed):
        return [_numbers(one, two) for one, two in zip(own, claimed, strict=True)]
    if isinstance(own, dict | list | str | bool):
        return own
    return claimed if claimed is None or type(claimed) in (int, float) else own


def pool_amendment(stage: WorldStage, document: Mapping[str, Any]) -> Callable[[Score], Score]:
    """What `certificate.assemble` is to do with the pool before it grades."""
    return lambda pooled: amended(stage, pooled, document["pooled"])


def claimed_witness(
    document: Mapping[str, Any], seed: int, recomputed: Mapping[str, str]
) -> dict[int, dict[str, str]]:
    """The witness's digests as claimed, if they are of the right form; a run made again needs the raster."""
    names = set(recomputed) - {"s3_requirements"}
    for row in document["reproducibility_witness"]:
        claimed = row["logical_digests"]
        if row["seed"] == seed and set(claimed) == names:
            return {seed: {name: str(digest) for name, digest in claimed.items()}}
    return {}
