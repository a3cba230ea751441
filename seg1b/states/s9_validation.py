"""S9: prove a seed, score it, and issue the PASS flag for its consumers.

The replay (`s9_replay.py`) comes first. Scores are computed from the published coordinates, not from what a state
reported. The bundle follows the same flag law as the catalogue's; its flag is written only when every check and every
B gate and counter-metric holds, and a bundle without the flag is evidence of a failure, not permission to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from seg1b.errors import ContractError
from seg1b.kernels.jit import side_by_side
from seg1b.policy.gates import GatesPolicy
from seg1b.policy.load import POLICY_FILES, Policies, digest
from seg1b.scoring.evidence import old_placement_tests, soft_diagnostics
from seg1b.scoring.measure import Measurement, ScoringContext, SiteTally, measure, tally
from seg1b.scoring.measured import Judged, Measured, measuring_digest
from seg1b.scoring.score import Score, score_measured
from seg1b.scoring.sentinel import collapse_sentinel
from seg1b.scoring.values import plain
from seg1b.states import s9_replay
from seg1b.states.plan import BY_NAME
from seg1b.states.s9_replay import Check, Replay
from seg1b.states.seed_tables import SeedTables
from seg1b.states.world_model import WorldModel
from seg1b.store.digest import readable_json, sha256_bytes
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store

STATE = "s9"
MEASURED_STATE = "s9m"
MEASURED_NAME = "measured.json"
REPLAY_STATE = "s9r"
REPLAY_NAME = "replay.json"
FLAG_NAME = "_passed.flag"
INDEX_NAME = "index.json"
_SITES_HELD = 1_000_000
"""So many sites (60 bytes each) may be held while intervals are computed, beside what these need."""


S = TypeVar("S", Score, Judged)


@dataclass(frozen=True)
class Validation(Generic[S]):
    """What S9 found: the replay, the score, and evidence that decides nothing but that a sceptic asks for.

    The score is a `Judged` where no site was looked at: what was measured before, judged again.
    """

    replay: Replay
    score: S
    evidence: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Every check of the replay and every B gate and counter-metric."""
        return self.replay.passed and self.score.report.pass_b

    def checks(self) -> list[dict[str, Any]]:
        """The replay's checks as plain data."""
        return [{**asdict(check), "passed": check.passed} for check in self.replay.checks]


def validate(
    world: WorldModel,
    tables: SeedTables,
    context: ScoringContext,
    policies: Policies,
    seed: int,
    manifest_fingerprint: str,
    surface_known: bool = True,
) -> Validation[Score]:
    """Replay and score one seed. The same call serves S9 and `seg1b verify`.

    Without the placement surface (a user's raster that is not at hand) draws that need weights are not replayed.
    Raises ContractError E901_ROW_MISSING or E904_EGRESS_SCHEMA_VIOLATION for tables that cannot be scored at all.
    """
    replayed = s9_replay.run(world, tables, policies, seed, manifest_fingerprint, surface_known=surface_known)
    require_scorable(replayed)
    return conclude(tally(tables.sites(world.grid), seed, context), replayed, context, seed)


def conclude(
    sites: SiteTally,
    replayed: Replay,
    context: ScoringContext,
    seed: int,
) -> Validation[Score]:
    """Score the egress of a seed that was replayed; `require_scorable` must have passed.

    A caller who keeps no reference to `sites` has their memory back when intervals are computed.
    """
    sentinel = collapse_sentinel(
        sites.points(context.countries), context.iso, context.gates.collapse_sentinel
    )
    measurement = measure(sites, context)

    def scored() -> Score:
        return score_measured(measurement, sentinel, seed, context, replayed.violations)

    if len(measurement) <= _SITES_HELD:
        found, score = side_by_side(partial(evidence, sites, measurement, context, seed), scored)
        return Validation(replayed, score, found)
    found = evidence(sites, measurement, context, seed)
    del sites
    return Validation(replayed, scored(), found)


def require_scorable(replayed: Replay) -> None:
    """Compiled code that scores does not look at bounds: one row per required site, and valid coordinates."""
    for check in replayed.checks:
        if check.name in ("s3_requirements", "s5_keys", "s6_keys", "s8_keys") and not check.passed:
            raise ContractError(
                "E901_ROW_MISSING",
                f"{check.name}: {check.differing} rows are not as demanded ({check.demand})",
                where=check.first,
            )
    invalid = replayed.violations["invalid_coordinates"]
    if invalid:
        raise ContractError("E904_EGRESS_SCHEMA_VIOLATION", f"{invalid} coordinates are none")


def evidence(
    sites: SiteTally, measurement: Measurement, context: ScoringContext, seed: int
) -> dict[str, Any]:
    """Two-sample tests against the first engine's placement of the same counts, and soft diagnostics."""
    points = sites.points(context.countries)
    return {
        "reference": "the same counts placed by largest remainder, as the first engine did",
        "neighbour_tests": plain(old_placement_tests(sites, measurement, context, seed)),
        "soft_diagnostics": plain(soft_diagnostics(points, measurement, context)),
    }


def run(
    store: Store,
    key: str,
    validation: Validation[Score] | Validation[Judged],
    identity: Mapping[str, Any],
    policies: Policies,
    logical_digests: Mapping[str, str],
    rests_on: Mapping[str, str],
) -> None:
    """Publish the validation bundle of one seed.

    `identity`: seed, manifest_fingerprint, parameter_hash and gates_hash; `logical_digests`: by table; `rests_on`:
    where `keep_findings` put what the verdicts rest on, which is kept as long as the bundle is.
    """
    documents = bundle_documents(validation, identity, policies, logical_digests)
    inputs = dict(rests_on)
    with store.transaction(STATE, key, inputs) as out:
        for name, data in documents.items():
            out.add_bytes(f"validation/{name}", data)
        out.facts = {"passed": validation.passed, "status": validation.score.status}


def measured_key(keys: Mapping[str, str], gates: GatesPolicy, seed: int) -> str:
    """Key of what S9 measures of a seed: everything that S9 reads but the thresholds."""
    inputs = {name: keys[name] for name in BY_NAME["S9"].inputs}
    return state_key(
        MEASURED_STATE, BY_NAME["S9"].revision, measuring_digest(gates), inputs=inputs, seed=seed
    )


def replay_key(keys: Mapping[str, str], seed: int) -> str:
    """Key of S9's replay of a seed: everything that S9 reads but the gates, which no draw depends on."""
    inputs = {name: keys[name] for name in BY_NAME["S9"].inputs}
    return state_key(REPLAY_STATE, BY_NAME["S9"].revision, None, inputs=inputs, seed=seed)


def findings_keys(keys: Mapping[str, str], gates: GatesPolicy, seed: int) -> dict[str, str]:
    """Keys, by state name, of all that `keep_findings` may publish of a seed; none where S9's inputs are not known yet.

    S9's manifest names them, and nothing else does before it is published; so a run claims them with its lease.
    """
    if any(name not in keys for name in BY_NAME["S9"].inputs):
        return {}
    return {REPLAY_STATE: replay_key(keys, seed), MEASURED_STATE: measured_key(keys, gates, seed)}


def keep_findings(
    store: Store, keys: Mapping[str, str], gates: GatesPolicy, seed: int, validation: Validation[Score]
) -> dict[str, str]:
    """Publish what the verdicts rest on, small and without the sites: the replay, and what was measured.

    Returns the keys by state name; what was measured is not among them if it cannot be written as JSON.
    """
    found = findings_keys(keys, gates, seed)
    if not store.has(REPLAY_STATE, found[REPLAY_STATE]):
        with store.transaction(REPLAY_STATE, found[REPLAY_STATE]) as out:
            out.add_bytes(REPLAY_NAME, readable_json(plain(asdict(validation.replay))))
    measured = validation.score.measured
    if not measured.finite():
        return {REPLAY_STATE: found[REPLAY_STATE]}
    if not store.has(MEASURED_STATE, found[MEASURED_STATE]):
        document = {"measured": measured.to_json(), "evidence": validation.evidence}
        with store.transaction(MEASURED_STATE, found[MEASURED_STATE]) as out:
            out.add_bytes(MEASURED_NAME, readable_json(plain(document)))
    return found


def known_replay(store: Store, keys: Mapping[str, str], seed: int) -> Replay | None:
    """S9's replay of a seed, if it was kept. Raises StoreError if it is not what was published."""
    key = replay_key(keys, seed)
    if not store.has(REPLAY_STATE, key):
        return None
    document = store.read_json(REPLAY_STATE, key, REPLAY_NAME)
    checks = tuple(Check(**check) for check in document["checks"])
    return Replay(checks, dict(document["violations"]), dict(document["blocks"]))


def judge_again(store: Store, key: str, replay: Replay, gates: GatesPolicy) -> Validation[Judged]:
    """Verdicts under `gates` of what `keep_findings` published under a key of the same measuring parameters.

    Raises StoreError if it is not there or not what was published.
    """
    document = store.read_json(MEASURED_STATE, key, MEASURED_NAME)
    return Validation(
        replay,
        Measured.from_json(document["measured"]).judged(gates),
        dict(document["evidence"]),
    )


def bundle_documents(
    validation: Validation[Score] | Validation[Judged],
    identity: Mapping[str, Any],
    policies: Policies,
    logical_digests: Mapping[str, str],
) -> dict[str, bytes]:
    """The bundle's files by name, `index.json` and (on PASS) the flag included. No clock, no run id."""
    policy_digests = {file.path: digest(getattr(policies, file.attribute)) for file in POLICY_FILES}
    sites = validation.score.core.site_count
    documents: dict[str, Any] = {
        "MANIFEST.json": {
            "version": "1B.validation.v2",
            **identity,
            "outputs": {"site_locations": logical_digests["site_locations"]},
            "inputs": dict(logical_digests),
        },
        "parameter_hash_resolved.json": {
            "parameter_hash": identity["parameter_hash"],
            "artifact_count": sum(file.generation for file in POLICY_FILES),
            "files": {file.path: policy_digests[file.path] for file in POLICY_FILES if file.generation},
        },
        "manifest_fingerprint_resolved.json": {
            "manifest_fingerprint": identity["manifest_fingerprint"],
            "world_digest": identity["world_digest"],
            "catalogue_digest": identity["catalogue_digest"],
        },
        "rng_accounting.json": _rng_accounting(validation, sites),
        "s9_summary.json": {
            "identity": dict(identity),
            "sizes": {"sites": sites},
            "checks": validation.checks(),
            "structural": validation.replay.violations,
            "decision": "PASS" if validation.passed else "FAIL",
        },
        "gates.json": {"gates_hash": identity["gates_hash"], **validation.score.facts()},
        "evidence.json": validation.evidence,
        "egress_checksums.json": {
            "dataset_id": "site_locations",
            "seed": identity["seed"],
            "logical_digest": logical_digests["site_locations"],
        },
    }
    files = {name: readable_json(plain(value)) for name, value in documents.items()}
    rows: list[dict[str, str | None]] = [
        {"artifact_id": name.split(".")[0], "kind": "summary", "path": name, "mime": "application/json",
         "sha256_hex": sha256_bytes(data)}
        for name, data in sorted(files.items())
    ]  # fmt: skip
    rows.append(
        {
            "artifact_id": "index",
            "kind": "summary",
            "path": INDEX_NAME,
            "mime": "application/json",
            "sha256_hex": None,
        }
    )
    files[INDEX_NAME] = readable_json(sorted(rows, key=lambda row: str(row["path"])))
    if validation.passed:
        joined = b"".join(files[name] for name in sorted(files))
        files[FLAG_NAME] = f"sha256_hex = {sha256_bytes(joined)}\n".encode()
    return files


def _rng_accounting(validation: Validation[Score] | Validation[Judged], sites: int) -> dict[str, Any]:
    """Blocks that the replay used, per family; a block gives two 64-bit words."""
    used = validation.replay.blocks
    families = []
    for family, per_event in (("site_tile_assign", 1), ("in_cell_jitter", 2)):
        blocks = used.get(family)
        families.append(
            {
                "id": family,
                "coverage": {"sites_total": sites, "sites_replayed": sites if blocks is not None else 0},
                "blocks_total": blocks,
                "words_per_block_used": per_event,
                "replayed_by": "second implementation",
            }
        )
    return {"generator": "philox2x64-10", "families": families}
