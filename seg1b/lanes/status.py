"""The whole plan at a glance: phases, pointers, locks, the open wave, the last certification, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seg1b.errors import Seg1bError
from seg1b.lanes.perf import CHECK, RED, open_stages
from seg1b.lanes.phase_locks import PHASES, REOPENED, locked
from seg1b.lanes.recovery import attempts_of
from seg1b.lanes.standing import Standing, standing_of
from seg1b.lanes.stored_run import load_run
from seg1b.lanes.waves import open_wave
from seg1b.policy.load import default_policies, gates_hash
from seg1b.store.records import POINTER_NAMES
from seg1b.store.store import Store


def status(store: Store) -> dict[str, Any]:
    """Everything that a person wants to know before the next step. Changes nothing."""
    locks = locked(store)
    found: dict[str, Any] = {
        "runs": len(store.receipts.run_ids()),
        "phases": [_phase(store, locks, phase.name, phase.title) for phase in PHASES],
        "pointers": {name: _pointer(store, name) for name in POINTER_NAMES},
        "locks": {
            name: {
                key: record[key]
                for key in ("run_id", "seed", "locked", "status", "policy_digests", "metrics")
            }
            for name, record in locks.items()
        },
        "wave": _wave(store),
        "performance": _performance(store),
        "certification": _certification(store),
        "ledger_entries": len(store.ledger.entries()),
    }
    found["next"] = next_step(found)
    return found


def _phase(store: Store, locks: dict[str, dict[str, Any]], name: str, title: str) -> dict[str, Any]:
    record = store.phases.find(name) or {}
    state = "locked" if name in locks else record.get("status", "open")
    if state == "locked" and name not in locks:  # the lock is what counts
        state = REOPENED
    run_id = locks[name]["run_id"] if name in locks else record.get("run_id")
    at = locks[name]["locked"] if name in locks else record.get("at")
    entry = {"phase": name, "title": title, "status": state, "run_id": run_id, "at": at}
    if name == "P4" and record and record["status"] != REOPENED:
        now = _standing(store, record["run_id"])
        entry |= {
            "integrated": record["status"],
            "integrated_run_id": record["run_id"],
            "artifact": record["artifact"],
            "blockers": record["blockers"],
            "stands_otherwise_now": isinstance(now, Standing) and now.status != record["status"],
            "stands_now": now.status if isinstance(now, Standing) else now,
            "recovery_spent": attempts_of(store) >= record.get("recovery_at_most", math.inf),
        }
    if name == "P4" and name in locks:
        entry["parameter_hash"] = store.receipts.load(str(run_id)).identity["parameter_hash"]
    return entry


def _standing(store: Store, run_id: str) -> Standing | str:
    """Where a run stands now, or why that cannot be said."""
    try:
        return standing_of(store, load_run(store, run_id))
    except Seg1bError as error:
        return error.message


def _pointer(store: Store, name: str) -> dict[str, Any] | None:
    run_id = store.pointers.get(name)
    if run_id is None:
        return None
    try:
        receipt = store.receipts.load(run_id)
    except Seg1bError as error:
        return {"run_id": run_id, "problem": error.message}
    now = _standing(store, run_id)
    return {
        "run_id": run_id,
        "lane": receipt.lineage.get("lane"),
        "seed": receipt.identity.get("seed"),
        "status": now.status if isinstance(now, Standing) else now,
        "contradicts": list(now.contradicts) if isinstance(now, Standing) else [],
        "gates_are_the_packaged_ones": receipt.identity.get("gates_hash") == gates_hash(default_policies()),
    }


def _wave(store: Store) -> dict[str, Any] | None:
    """The open wave: its candidates as they stand now, and the `best` of those that nothing forbids."""
    wave = open_wave(store)
    if wave is None:
        return None
    names = ("run_id", "seed", "settings", "status_before", "status_after", "vetoed", "lost")
    candidates, ranks = [], {}
    for one in wave["candidates"]:
        entry, now = {name: one[name] for name in names}, _standing(store, one["run_id"])
        if isinstance(now, Standing):
            lost = tuple(dict.fromkeys((*one["lost"], *now.forbidden)))
            entry |= {"status_after": now.status, "lost": list(lost), "vetoed": bool(lost)}
            if not lost:
                ranks[one["run_id"]] = now.rank
        candidates.append(entry)
    best = min(ranks, key=lambda run_id: ranks[run_id], default=None)
    return {"wave_id": wave["wave_id"], "opened": wave["opened"], "candidates": candidates, "best": best}


def _performance(store: Store) -> dict[str, Any]:
    """What the last check said, and what checks found that nobody settled."""
    last = store.performance.find(CHECK) or {}
    return {
        "run_id": last.get("run_id"),
        "status": last.get("status"),
        "passed": last.get("passed"),
        "open": open_stages(store),
    }


def _certification(store: Store) -> dict[str, Any] | None:
    """The certification published last."""
    ids = store.certifications.ids()
    if not ids:
        return None
    documents = {one: store.certifications.read_json(one, "certificate.json") for one in ids}
    cert_id = max(ids, key=lambda one: (_published_ns(store, one, documents[one]), one))
    document = documents[cert_id]
    return {
        "cert_id": cert_id,
        "grade": document["grade"],
        "parameter_hash": document["identity"]["parameter_hash"],
        "seeds": [entry["seed"] for entry in document["seeds"]],
        "reasons_against_b_plus": document["reasons_against_b_plus"],
        "certifications": len(ids),
    }


def _published_ns(store: Store, cert_id: str, document: Mapping[str, Any]) -> int:
    """When the runs of a certification were published; the age of its folder if they were pruned."""
    published = store.receipts.published_ns(document["seeds"][0]["run_id"])
    return published or store.certifications.path(cert_id).stat().st_mtime_ns


def next_step(found: dict[str, Any]) -> str:
    """One sentence with the command."""
    phases = {phase["phase"]: phase for phase in found["phases"]}
    certification, wave = found["certification"], found["wave"]
    broken = [name for name, pointer in found["pointers"].items() if pointer and "problem" in pointer]
    if broken:
        return (
            f"pointer {broken[0]} names a run that is gone: `seg1b baseline pin RUN` or `seg1b promote RUN`"
        )
    if not found["runs"]:
        return "there is no run yet: `seg1b certify` runs the whole chain, `seg1b tune --set KNOB=VALUE` one seed"
    if wave is not None:
        if wave["best"] is None:
            return f"no candidate of {wave['wave_id']} may be kept: `seg1b wave drop` drops them"
        status = next(one["status_after"] for one in wave["candidates"] if one["run_id"] == wave["best"])
        which = "the best candidate" if len(wave["candidates"]) > 1 else "the candidate"
        return (
            f"decide about {wave['wave_id']}: `seg1b wave keep {wave['best'][:12]}` keeps {which} ({status}), "
            "`seg1b wave drop` drops them"
        )
    if found["pointers"]["baseline_authority"] is None:
        which = (
            "last_good"
            if found["pointers"]["last_good"]
            else "candidate"
            if found["pointers"]["current_candidate"]
            else "RUN"
        )
        return f"no baseline is pinned (P0): `seg1b baseline pin {which}`"
    settle = _unsettled(found["performance"]["open"])
    for name, knob in (
        ("P1", "s2.mix.area=0.02"),
        ("P2", "s4.sites_per_area=6"),
        ("P3", "s6.sparse_tail=0.1"),
    ):
        if phases[name]["status"] in ("open", REOPENED):
            return settle or (
                f"{name} ({phases[name]['title']}) is {phases[name]['status']}: tune it (`seg1b tune --set {knob}`), "
                f"then `seg1b lock {name} --run RUN`"
            )
    candidate = found["pointers"]["current_candidate"]
    if phases["P4"]["status"] != "locked" and candidate and candidate["contradicts"]:
        return (
            f"the current candidate has not the policies of {' and '.join(candidate['contradicts'])} as locked: "
            "tune and keep another from those (`seg1b tune --set KNOB=VALUE`), or `seg1b integrate RUN` judges a run "
            "that has them, such as last_good"
        )
    return _closing(phases["P4"], phases["P5"], certification, candidate and candidate["run_id"], settle)


def _unsettled(findings: Mapping[str, Mapping[str, str]]) -> str:
    """What to do about what performance checks found, while it forbids tuning; empty if nothing does."""
    if not findings:
        return ""
    told = ", ".join(
        f"{stage} is {'RED' if entry['why'] == RED else 'slower than the baseline'}"
        for stage, entry in findings.items()
    )
    return (
        f"{told}, so tuning is refused: make it faster, then `seg1b perf check RUN` of a witnessed run that made it "
        "again, or waive it there by name (`--waive STAGE=REASON`)"
    )


def _closing(
    p4: dict[str, Any],
    p5: dict[str, Any],
    certification: dict[str, Any] | None,
    candidate: str | None,
    settle: str,
) -> str:
    """The last steps: integrate, recover or reopen, lock, certify. `candidate`: run of the current candidate."""
    if p4["status"] != "locked":
        integrated = p4.get("integrated")
        if integrated is None or p4["integrated_run_id"] != candidate or p4.get("stands_otherwise_now"):
            return "P1 to P3 are locked: `seg1b integrate` judges the current candidate as a whole"
        if integrated == "RED_REOPEN_REQUIRED":
            why = ", ".join(p4["blockers"][:3])
            return (
                f"the integrated run is RED ({why}): `seg1b integrate` says which phase to reopen, "
                f"`seg1b reopen PHASE --evidence {p4['artifact'][:12]}... --approved-by NAME` reopens it"
            )
        lock = f"`seg1b lock P4 --run {p4['integrated_run_id'][:12]}`"
        if integrated == "AMBER_NEAR_BPLUS" and p4.get("recovery_spent"):
            return f"B holds and the recovery loop is used up: {lock} accepts the best B"
        if integrated == "AMBER_NEAR_BPLUS":
            return settle or (
                "B holds and B+ is near: `seg1b tune --recover --set KNOB=VALUE` is an attempt of the recovery loop; "
                f"{lock} accepts B as it is"
            )
        return f"the integrated run is {integrated}: {lock}"
    certified = certification is not None and certification["parameter_hash"] == p4["parameter_hash"]
    if certification is None or not certified or certification["grade"] == "below_B":
        return (
            f"P4 is locked: `seg1b config write DIR --run {p4['run_id'][:12]}` and `seg1b certify --config DIR` "
            "certify all seeds with its policies"
        )
    if p5["status"] != "locked":
        return f"certified {certification['grade']}: `seg1b lock P5 --run {p4['run_id'][:12]}` freezes it"
    grade, cert_id = certification["grade"], certification["cert_id"]
    return f"certified {grade} and frozen; `seg1b verify {cert_id[:12]}` proves it again"
