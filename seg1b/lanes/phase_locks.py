"""Locked phases: what was accepted is not changed by what comes after, until somebody reopens it with evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg1b.errors import InputError
from seg1b.lanes.stored_run import StoredRun, lineage_policies
from seg1b.policy.load import POLICY_FILES, Policies, digest
from seg1b.scoring.grading import RunStatus
from seg1b.store.digest import sha256_file
from seg1b.store.receipts import Receipt
from seg1b.store.records import did_you_mean, utc_now
from seg1b.store.state_keys import HEX64
from seg1b.store.store import Store


@dataclass(frozen=True)
class Phase:
    """A phase of the plan: the states it closes, and the policy files that its lock freezes."""

    name: str
    title: str
    states: tuple[str, ...]
    prefixes: tuple[str, ...]


_GENERATION = tuple(file.prefix for file in POLICY_FILES if file.generation)
PHASES = (
    Phase("P0", "baseline authority", (), ()),
    Phase("P1", "country and region mass", ("S2w", "S2s"), ("s1", "s2w", "s2s")),
    Phase("P2", "allocation", ("S4",), ("s4",)),
    Phase("P3", "geometry", ("S6",), ("s6",)),
    Phase("P4", "integrated closure", ("S8", "S9"), _GENERATION),
    Phase("P5", "certification", ("S9",), (*_GENERATION, "gates", "certification")),
)
REOPENED = "reopened"
"""Status of a phase between its reopening and its next closure."""

LOCKABLE = tuple(phase.name for phase in PHASES if phase.prefixes)


def phase_named(text: str) -> Phase:
    """A phase that can be locked. Raises InputError E_PHASE_UNKNOWN."""
    for phase in PHASES:
        if phase.name == text.strip().upper() and phase.prefixes:
            return phase
    raise InputError(
        "E_PHASE_UNKNOWN",
        f"there is no phase {text!r} that can be locked{did_you_mean(text.upper(), list(LOCKABLE))}",
        where="PHASE",
        next_step="phases: "
        + ", ".join(f"{p.name} ({p.title})" for p in PHASES if p.prefixes)
        + "; P0 closes with `seg1b baseline pin RUN`",
    )


def locked(store: Store) -> dict[str, dict[str, Any]]:
    """The lock record of every locked phase, in order."""
    return {name.upper(): store.phase_locks.read(name) for name in store.phase_locks.names()}


def contradicted(store: Store, policies: Policies) -> tuple[str, ...]:
    """The locked phases that `policies` differ from."""
    return tuple(name for name, record in locked(store).items() if _differing(record, policies))


def require_unlocked(store: Store, policies: Policies) -> None:
    """Raise InputError E_PHASE_LOCKED if `policies` differ from what a locked phase was locked with."""
    for name, record in locked(store).items():
        differing = _differing(record, policies)
        if differing:
            shown = "; ".join(differing[:4]) + (
                f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
            )
            raise InputError(
                "E_PHASE_LOCKED",
                f"phase {name} ({phase_named(name).title}) is locked with run {record['run_id'][:12]} of "
                f"{record['locked']} and is not what is asked for: {shown}",
                where=str(store.layout.phase_locks / f"{name.lower()}.json"),
                next_step=f"work with what is locked (`seg1b config write DIR --run {record['run_id'][:12]}`, then "
                f"--config DIR), or `seg1b reopen {name} --evidence ARTIFACT --approved-by NAME`",
            )


def _differing(record: Mapping[str, Any], policies: Policies) -> list[str]:
    """Knobs, or whole files, in which policies differ from a lock's record."""
    now = lineage_policies(policies)
    found = []
    for file in POLICY_FILES:
        then = record["policy_digests"].get(file.path)
        if then is None or then == digest(getattr(policies, file.attribute)):
            continue
        own = [
            f"{knob} is {value}, locked at {record['knobs'].get(knob)}"
            for knob, value in now.items()
            if knob.split(".")[0] == file.prefix and record["knobs"].get(knob) != value
        ]
        found += own or [f"{file.path} differs"]
    return found


def require_lockable(store: Store, phase: Phase, run: StoredRun) -> None:
    """Raise InputError unless `phase` may be locked with `run`.

    E_PHASE_LOCKED if it is locked already, or by another phase's lock that the run contradicts. P4 closes with the run
    that `seg1b integrate` judged last, unless that is RED (E_LOCK_NOT_INTEGRATED); P5 with a run whose world, policies
    and gates a certification graded B or better (E_LOCK_NOT_CERTIFIED).
    """
    known = locked(store)
    if phase.name in known:
        record = known[phase.name]
        raise InputError(
            "E_PHASE_LOCKED",
            f"phase {phase.name} is locked already, with run {record['run_id'][:12]} of {record['locked']}",
            where=str(store.layout.phase_locks / f"{phase.name.lower()}.json"),
            next_step=f"`seg1b reopen {phase.name} --evidence ARTIFACT --approved-by NAME` comes first",
        )
    require_unlocked(store, run.policies())
    if phase.name == "P4":
        integrated = store.phases.find("P4")
        judged = integrated is not None and integrated["run_id"] == run.run_id
        red = judged and integrated is not None and integrated["status"] == "RED_REOPEN_REQUIRED"
        if integrated is None or not judged or integrated["status"] not in ("AMBER_NEAR_BPLUS", "GREEN_B"):
            raise InputError(
                "E_LOCK_NOT_INTEGRATED",
                f"run {run.run_id[:12]} " + ("is RED as a whole" if red else "was not judged as a whole"),
                where=str(store.layout.phases / "p4.json"),
                next_step=f"`seg1b integrate {run.run_id[:12]}` judges it and says what blocks it",
            )
    if phase.name == "P5" and not any(certifies(document, run.receipt) for document in _certificates(store)):
        raise InputError(
            "E_LOCK_NOT_CERTIFIED",
            f"no certification of grade B or better has the policies and gates of run {run.run_id[:12]}",
            where=str(store.layout.certifications),
            next_step=f"`seg1b config write DIR --run {run.run_id[:12]}` and `seg1b certify --config DIR` come first",
        )


def _certificates(store: Store) -> list[dict[str, Any]]:
    return [store.certifications.read_json(one, "certificate.json") for one in store.certifications.ids()]


def certifies(document: Mapping[str, Any], receipt: Receipt) -> bool:
    """Whether a certificate of grade B or better is of this run's world, policies and gates."""
    names = ("world_digest", "parameter_hash", "gates_hash")
    same = all(document["identity"][name] == receipt.identity[name] for name in names)
    return same and document["grade"] in ("B", "B+")


def lock(
    store: Store, phase: Phase, run: StoredRun, witness: Mapping[str, str], status: RunStatus
) -> dict[str, Any]:
    """Lock a phase with what `run` was made with. `witness`: logical digests of the run made a second time.

    Raises InputError as `require_lockable`.
    """
    policies = run.policies()
    with store.exclusive(f"locking {phase.name}"):
        require_lockable(store, phase, run)
        values = lineage_policies(policies)
        record = {
            "phase": phase.name,
            "title": phase.title,
            "states": {name: run.keys[name] for name in phase.states if name in run.keys},
            "run_id": run.run_id,
            "seed": run.seed,
            "world_digest": run.world_digest,
            "policy_digests": {
                file.path: digest(getattr(policies, file.attribute))
                for file in POLICY_FILES if file.prefix in phase.prefixes
            },
            "knobs": {knob: value for knob, value in values.items() if knob.split(".")[0] in phase.prefixes},
            "metrics": run.score.metrics,
            "no_regression_tolerance": policies.gates.no_regression_tolerance,
            "status": status,
            "witness": dict(witness),
            "locked": utc_now(),
        }  # fmt: skip
        facts = {
            name: record[name] for name in ("phase", "run_id", "seed", "policy_digests", "metrics", "witness")
        }
        store.ledger.note("locked", **facts)
        store.phase_locks.write(phase.name, record)
    return record


def reopen(store: Store, phase: Phase, evidence: str, approved_by: str) -> dict[str, Any]:
    """Take a lock away; the ledger keeps it with the evidence and who approved.

    `evidence`: a file, or a scorecard, run or certification of the store. Raises InputError E_PHASE_NOT_LOCKED,
    E_REOPEN_APPROVAL, E_REOPEN_EVIDENCE, or E_PHASE_COVERED if a later lock freezes the same policies.
    """
    with store.exclusive(f"reopening {phase.name}"):
        known = locked(store)
        if phase.name not in known:
            raise InputError(
                "E_PHASE_NOT_LOCKED", f"phase {phase.name} is not locked", where=str(store.layout.phase_locks),
                next_step="locked: " + (", ".join(known) or "none"),
            )  # fmt: skip
        if not approved_by.strip():
            raise InputError(
                "E_REOPEN_APPROVAL", "nobody approves", where="--approved-by", next_step="name a person"
            )
        covering = [name for name in ("P4", "P5") if name in known and name > phase.name]
        if covering:
            raise InputError(
                "E_PHASE_COVERED", f"{covering[-1]} is locked too and freezes the policies of {phase.name}",
                where=str(store.layout.phase_locks / f"{covering[-1].lower()}.json"),
                next_step=f"`seg1b reopen {covering[-1]}` comes first",
            )  # fmt: skip
        proof = _evidence(store, evidence)
        entry = {"phase": phase.name, "evidence": proof, "approved_by": approved_by.strip()}
        store.ledger.note("reopened", **entry, lock=known[phase.name])
        store.phase_locks.remove(phase.name)
        closed = store.phases.find(phase.name)
        if closed is not None:  # what it was closed with, or judged as, is so no more
            store.phases.write(phase.name, {**closed, "status": REOPENED, "at": utc_now()})
    return {**entry, "lock": known[phase.name]}


def _evidence(store: Store, text: str) -> dict[str, str]:
    """What was brought as evidence, by digest or id."""
    path = Path(text)
    if path.is_file():
        return {"file": str(path), "sha256": sha256_file(path)}
    if HEX64.fullmatch(text) and store.has("p4", text):
        return {"scorecard": text}
    for kind, find in (("run", store.receipts.resolve), ("certification", _certification(store))):
        try:
            return {kind: find(text)}
        except InputError:
            continue
    raise InputError(
        "E_REOPEN_EVIDENCE", f"{text!r} is no file, and no scorecard, run or certification of this store",
        where="--evidence",
        next_step="name the artifact that contradicts the lock, for example the scorecard that `seg1b integrate` wrote",
    )  # fmt: skip


def _certification(store: Store) -> Any:
    return lambda text: store.certifications.path(text).name
