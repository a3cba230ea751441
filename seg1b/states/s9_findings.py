"""What S9 found of a seed: where it is kept, how it is judged again, and the validation bundle.

The bundle follows the same flag law as the catalogue's; its flag is written only when every check and every B gate and
counter-metric holds, and a bundle without the flag is evidence of a failure, not permission to read. Nothing here
computes: lanes that only judge again load no compiled code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from seg1b.policy.gates import GatesPolicy
from seg1b.policy.load import POLICY_FILES, Policies, digest
from seg1b.scoring.measured import Judged, Measured, measuring_digest
from seg1b.scoring.values import plain
from seg1b.states.plan import BY_NAME
from seg1b.states.replay_checks import PLAN_CHECKS, Check, Replay
from seg1b.states.tables import TABLE_OF
from seg1b.store.digest import readable_json, sha256_bytes
from seg1b.store.manifest import conflict
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store

if TYPE_CHECKING:
    from seg1b.scoring.score import Score

STATE = "s9"
MEASURED_STATE = "s9m"
MEASURED_NAME = "measured.json"
REPLAY_STATE = "s9r"
REPLAY_NAME = "replay.json"
PLAN_STATE = "s9p"
PLAN_NAME = "plan.json"
OLD_PLACEMENT_STATE = "s9o"
FLAG_NAME = "_passed.flag"
INDEX_NAME = "index.json"

S = TypeVar("S", "Score", "Judged")


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


def publish(
    store: Store,
    key: str,
    validation: Validation[Score] | Validation[Judged],
    identity: Mapping[str, Any],
    policies: Policies,
    logical_digests: Mapping[str, str],
    kept: Mapping[str, str],
) -> None:
    """Publish the validation bundle of one seed; one that is there must be the same, whatever it was found by.

    `identity`: seed, manifest_fingerprint, parameter_hash and gates_hash; `logical_digests`: by table; `kept`: what the
    verdicts rest on, as `rests_on` says, which stays as long as the bundle does. Raises StoreError E_STORE_CONFLICT.
    """
    documents = bundle_documents(validation, identity, policies, logical_digests)
    if store.has(STATE, key):
        _require_same(store, key, documents)
        return
    with store.transaction(STATE, key, kept) as out:
        for name, data in documents.items():
            out.add_bytes(f"validation/{name}", data)
        out.facts = {"passed": validation.passed, "status": validation.score.status}


def _require_same(store: Store, key: str, documents: Mapping[str, bytes]) -> None:
    published = store.manifest(STATE, key).documents
    offered = {f"validation/{name}": sha256_bytes(data) for name, data in documents.items()}
    for name in sorted({*published, *offered}):
        old, new = published.get(name, "nothing"), offered.get(name, "nothing")
        if old != new:
            raise conflict(STATE, name, old, new, store.layout.object(STATE, key))


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


def plan_key(keys: Mapping[str, str], seed: int) -> str:
    """Key of what S9's replay says of a seed's plan and tiles: what it reads to make the draws of S4 and S5 again."""
    inputs = {name: keys[name] for name in ("S3", "S4", "S5")}
    return state_key(PLAN_STATE, BY_NAME["S9"].revision, None, inputs=inputs, seed=seed)


def old_placement_key(keys: Mapping[str, str], seed: int) -> str:
    """Key of the neighbours of the first engine's placement: the counts, the surface that people live on, the seed."""
    inputs = {name: keys[name] for name in ("S2w", "S3")}
    return state_key(OLD_PLACEMENT_STATE, BY_NAME["S9"].revision, None, inputs=inputs, seed=seed)


def findings_keys(keys: Mapping[str, str], gates: GatesPolicy, seed: int) -> dict[str, str]:
    """Keys, by state name, of what S9 may keep beside its bundle of a seed; none where S9's inputs are not known yet.

    S9's manifest names them, and nothing else does before it is published; so a run claims them with its lease.
    """
    if any(name not in keys for name in BY_NAME["S9"].inputs):
        return {}
    return {
        REPLAY_STATE: replay_key(keys, seed),
        MEASURED_STATE: measured_key(keys, gates, seed),
        PLAN_STATE: plan_key(keys, seed),
        OLD_PLACEMENT_STATE: old_placement_key(keys, seed),
    }


def keep_findings(
    store: Store, keys: Mapping[str, str], gates: GatesPolicy, seed: int, validation: Validation[Score]
) -> None:
    """Publish what the verdicts rest on, small and without the sites: the replay, and what was measured.

    What was measured is left out if it cannot be written as JSON. That the draws of S4 and S5 were made again and are
    the published ones is published under a key of its own, if the replay says so: other runs have the same plan.
    """
    replay, measured = validation.replay, validation.score.measured
    _keep(store, REPLAY_STATE, replay_key(keys, seed), REPLAY_NAME, asdict(replay))
    if _proves_plan(replay.checks):
        checks = [asdict(check) for check in replay.checks if check.name in PLAN_CHECKS]
        _keep(store, PLAN_STATE, plan_key(keys, seed), PLAN_NAME, {"checks": checks})
    if measured.finite():
        document = {"measured": measured.to_json(), "evidence": validation.evidence}
        _keep(store, MEASURED_STATE, measured_key(keys, gates, seed), MEASURED_NAME, document)


def rests_on(
    store: Store, keys: Mapping[str, str], gates: GatesPolicy, seed: int, replay: Replay
) -> dict[str, str]:
    """Keys, by state name, of what was kept for a seed's verdicts."""
    return {
        state: key
        for state, key in findings_keys(keys, gates, seed).items()
        if store.has(state, key) and (state != PLAN_STATE or _proves_plan(replay.checks))
    }


def _proves_plan(checks: Iterable[Check]) -> bool:
    """Whether every draw of S4 and S5 was made again, and is the published one."""
    return {check.name for check in checks if check.passed} >= set(PLAN_CHECKS)


def plan_is_proven(store: Store, keys: Mapping[str, str], seed: int) -> bool:
    """Whether `keep_findings` has published it. Raises StoreError if it is not what was published."""
    key = plan_key(keys, seed)
    if not store.has(PLAN_STATE, key):
        return False
    return _proves_plan(Check(**check) for check in store.read_json(PLAN_STATE, key, PLAN_NAME)["checks"])


def _keep(store: Store, state: str, key: str, name: str, document: Any) -> None:
    """Publish one JSON document as an output, if it is not there."""
    if not store.has(state, key):
        with store.transaction(state, key) as out:
            out.add_bytes(name, readable_json(plain(document)))


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


def logical_digests(store: Store, keys: Mapping[str, str]) -> dict[str, str]:
    """Logical digest of every table of a seed, by table name."""
    return {
        table: store.manifest(state.lower(), keys[state]).tables[table].logical_digest
        for state, table in TABLE_OF.items()
    }


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
