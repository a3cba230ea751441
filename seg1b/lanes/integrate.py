"""P4: one run judged as a whole, its status, what blocks it, and which phase to reopen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from seg1b.lanes.phase_locks import locked, require_unlocked
from seg1b.lanes.recovery import attempts_of
from seg1b.lanes.standing import Standing, authorities
from seg1b.lanes.stored_run import StoredRun, load_run
from seg1b.policy.load import Policies, gates_hash
from seg1b.scoring.triage import triage
from seg1b.scoring.values import plain
from seg1b.store.digest import canonical_json, readable_json, sha256_bytes
from seg1b.store.records import utc_now
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store

STATE = "p4"
REVISION = 1
NAME = "integrated.json"

_MASS = ("country_gini", "top", "eligible_country_nonzero_share", "southern_hemisphere_share", "region_floor.",
         "bootstrap_", "market_slope", "prior_kl", "largest_merchant_share")  # fmt: skip
_CONCENTRATION = ("country_gini", "top", "bootstrap_")


def integrate(store: Store, policies: Policies, text: str | None = None) -> dict[str, Any]:
    """Judge a run (by default the current candidate) as P4 does; publish the scorecard, and write P4's record unless P4
    is locked: then the record stays that of the run that it was locked with.

    `status` is that of `standing`: RED_REOPEN_REQUIRED if a B gate, a counter-metric or a lock's metric fails, or
    something is lost to the baseline; AMBER_NEAR_BPLUS if only B+ gates fail; GREEN_B if every B+ gate holds.
    Raises InputError as `load_run` and `authorities`, and E_PHASE_LOCKED for a run that contradicts a lock.
    """
    with store.exclusive("integrating"):
        run = load_run(store, text or "candidate")
        if run.knobs() is not None:
            require_unlocked(store, run.policies())
        held_to = authorities(store, run.world_digest, run.seed)
        standing, pinned, locks = held_to.judge(run.score, run.gates()), held_to.baseline, locked(store)
        used = attempts_of(store)
        envelope = {
            "run_id": run.run_id,
            "seed": run.seed,
            "world_digest": run.world_digest,
            "parameter_hash": run.receipt.identity["parameter_hash"],
            "gates_hash": run.receipt.identity["gates_hash"],
            "state_revisions": run.receipt.identity["state_revisions"],
            "locks": {
                name: {"run_id": record["run_id"], "policy_digests": record["policy_digests"]}
                for name, record in locks.items()
            },
            "not_locked": [name for name in ("P1", "P2", "P3") if name not in locks],
            "baseline": None if pinned is None else pinned.run_id,
            "recovery": {"attempts": used, "at_most": policies.lanes.recovery_attempts_max},
        }
        document = _scorecard(run, standing, envelope)
        document["judged_by_these_gates"] = gates_hash(policies) == envelope["gates_hash"]
        key = _publish(store, run, document)
        record = {
            "phase": "P4", "status": document["status"], "run_id": run.run_id, "seed": run.seed, "artifact": key,
            "blockers": [row["name"] for row in document["blockers"]], "at": utc_now(),
            "recovery_at_most": policies.lanes.recovery_attempts_max,
        }  # fmt: skip
        store.ledger.note("integrated", **{k: v for k, v in record.items() if k not in ("phase", "at")})
        if "P4" not in locks:
            store.phases.write("P4", record)
    return {**document, "artifact": key, "path": str(store.layout.object(STATE, key) / NAME)}


def _scorecard(run: StoredRun, standing: Standing, envelope: Mapping[str, Any]) -> dict[str, Any]:
    status, report, recovery = standing.status, standing.report, envelope["recovery"]
    locks = envelope["locks"]
    blockers = triage(report, "B") if status == "RED_REOPEN_REQUIRED" else triage(report, "B+")
    blockers += [
        {"name": name, "reason": "it holds in the pinned baseline", "advice": "Compare the two runs' knobs."}
        for name in standing.lost_to_baseline if name not in {row["name"] for row in blockers}
    ]  # fmt: skip
    return {
        "status": status,
        "seed": run.seed,
        "run_id": run.run_id,
        "envelope": dict(envelope),
        "gates": plain(report.gates),
        "counter_metrics": plain(report.counters),
        "lost_to_baseline": list(standing.lost_to_baseline),
        "blockers": blockers,
        "reopen": recommendation([row["name"] for row in blockers], locks),
        "recovery_allowed": status == "AMBER_NEAR_BPLUS" and recovery["attempts"] < recovery["at_most"],
    }


def recommendation(failed: Sequence[str], locks: Collection[str]) -> list[dict[str, Any]]:
    """Which phase to turn to for the rows that fail, the first one first (plan, section 6).

    Its `action`: `reopen` one that is locked, `tune` one that is not; `mend` the code.

    Structure is code, whatever else fails. What a catalogue's counts decide no later state can move, so it comes before
    geometry: a neighbour tail is worth tuning once concentration passes.
    """
    structural = [name for name in failed if name.startswith("structural.")]
    mass = [name for name in failed if _bare(name).startswith(_MASS)]
    rest = [name for name in failed if name not in structural and name not in mass]
    sparse = [name for name in rest if _bare(name).startswith("nn_")]
    placed = [name for name in rest if name not in sparse]
    found: list[dict[str, Any]] = []
    if structural:
        found.append(
            _entry("code", structural, "a structural check failed: mend the code or the store first")
        )
    if mass:
        concentrated = any(_bare(name).startswith(_CONCENTRATION) for name in mass)
        why = "counts per country are fixed at S3: the catalogue's country mass" + (
            ", S2's limits and the largest merchants"
            if concentrated
            else ", its coverage and S2's region floors"
        )
        found.append(_entry("P1", mass, why))
    if sparse:
        why = "neighbours: S6's sparse component, then S4's dispersed share and areas (P2), then S2's mix"
        found.append(_entry("P3", sparse, why))
    if placed:
        found.append(
            _entry("P2", placed, "how sites follow people: S4's areas and dispersed share, S2's mix")
        )
    for entry in found:
        reopened = "reopen" if entry["phase"] in locks else "tune"
        entry["action"] = "mend" if entry["phase"] == "code" else reopened
    return found


def _bare(name: str) -> str:
    return name.removeprefix("no_regression.")


def _entry(phase: str, gates: Sequence[str], why: str) -> dict[str, Any]:
    return {"phase": phase, "gates": list(gates), "why": why}


def _publish(store: Store, run: StoredRun, document: Mapping[str, Any]) -> str:
    """Publish the scorecard once under the digest of what it says."""
    external = {"scorecard": sha256_bytes(canonical_json(plain(dict(document))))}
    key = state_key(STATE, REVISION, None, inputs={"S9": run.keys["S9"]}, external=external, seed=run.seed)
    with store.transaction(STATE, key, {"S9": run.keys["S9"]}) as out:
        out.add_bytes(NAME, readable_json(plain(dict(document))))
    return key
