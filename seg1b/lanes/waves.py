"""Waves: at most two candidates are looked at together, then one is kept or all are dropped.

A wave's record holds its candidates' runs, so pruning leaves them alone until the wave is closed. Whatever happens to a
candidate is first written to the ledger, which nobody rewrites: whoever is killed in between does it again, and it
stands there twice, which is better than never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from seg1b.errors import InputError, VetoError
from seg1b.lanes.phase_locks import require_unlocked
from seg1b.lanes.standing import standing_of
from seg1b.lanes.stored_run import load_run
from seg1b.report.wording import counted
from seg1b.store.receipts import Receipt
from seg1b.store.records import did_you_mean, utc_now
from seg1b.store.store import Store

OPEN, CLOSED, ABANDONED = "open", "closed", "abandoned"
KINDS = (
    "candidate", "compared_again", "wave_closed", "baseline_pinned", "promoted", "integrated", "locked", "reopened",
    "witness_differs",
    "certification_removed", "pruned", "guard_authority_pinned", "guard_verdict", "guard_verdict_lifted",
    "perf_baseline_pinned", "perf_waived", "perf_waived_for_tune", "perf_closure",
)  # fmt: skip
"""Kinds of entries that lanes write to the ledger."""


def history(store: Store) -> list[dict[str, Any]]:
    """The ledger, oldest first. Older entries that have `event` and no time get a `kind` and an empty `at`."""
    return [
        {**entry, "at": entry.get("at", ""), "kind": str(entry.get("kind") or entry.get("event", ""))}
        for entry in store.ledger.entries()
    ]


def of_kind(store: Store, kind: str) -> list[dict[str, Any]]:
    """The entries of one kind. Raises InputError E_LEDGER_KIND for a kind that no lane writes and no entry has."""
    entries = history(store)
    known = sorted({*KINDS, *(entry["kind"] for entry in entries)})
    if kind not in known:
        raise InputError(
            "E_LEDGER_KIND", f"there is no kind of entry {kind!r}{did_you_mean(kind, known)}", where="--kind",
            next_step="kinds: " + ", ".join(known),
        )  # fmt: skip
    return [entry for entry in entries if entry["kind"] == kind]


def open_wave(store: Store) -> dict[str, Any] | None:
    """The wave that is open, or None."""
    for name in reversed(store.waves.names()):
        record = store.waves.read(name)
        if record.get("status") == OPEN:
            return record
    return None


def find_wave(store: Store, name: str | None) -> dict[str, Any]:
    """A wave by name; None takes the open one, else the last. Raises InputError E_WAVE_NONE, E_STORE_UNKNOWN_ID."""
    if name is not None:
        return store.waves.read(name)
    record = open_wave(store)
    names = store.waves.names()
    if record is None and names:
        record = store.waves.read(names[-1])
    if record is None:
        raise InputError(
            "E_WAVE_NONE", "there was no wave yet", where=str(store.layout.waves),
            next_step="`seg1b tune --set KNOB=VALUE` opens one",
        )  # fmt: skip
    return record


def candidate_of(wave: Mapping[str, Any] | None, s9_key: str | None) -> dict[str, Any] | None:
    """The candidate of a wave that is this very seed and set of policies, if there is one."""
    for candidate in wave["candidates"] if wave is not None else ():
        if s9_key is not None and candidate["s9"] == s9_key:
            return dict(candidate)
    return None


def require_room(store: Store, wave: Mapping[str, Any] | None, at_most: int) -> None:
    """Raise InputError E_WAVE_FULL if the open wave has as many candidates as it may have."""
    if wave is None or len(wave["candidates"]) < at_most:
        return
    had = ", ".join(f"{one['run_id'][:12]} ({one['settings']})" for one in wave["candidates"])
    raise InputError(
        "E_WAVE_FULL",
        f"{wave['wave_id']} has {counted(len(wave['candidates']), 'candidate')} and takes no more: {had}",
        where=_where(store, wave),
        next_step="`seg1b wave keep RUN` keeps one and closes the wave, `seg1b wave drop` drops them",
    )  # fmt: skip


def add_candidate(
    store: Store, candidate: Mapping[str, Any], receipt: Receipt, at_most: int, holds: Iterable[str]
) -> dict[str, Any]:
    """Publish a candidate's receipt and enter it into the open wave, opening one if there is none.

    `holds`: keys that the wave keeps besides its candidates' own: those of what they are compared with.
    """
    with store.exclusive("entering a candidate"):
        wave = open_wave(store)
        require_room(store, wave, at_most)
        if wave is None:
            number = 1 + max((int(name.rpartition("-")[2]) for name in store.waves.names()), default=0)
            wave = {"wave_id": f"wave-{number:04d}", "status": OPEN, "opened": utc_now(), "candidates": []}
        store.receipts.publish(receipt)
        wave["candidates"] = [*wave["candidates"], {**candidate, "holds": sorted(set(holds))}]
        store.ledger.note("candidate", wave=wave["wave_id"], **candidate)
        store.waves.write(wave["wave_id"], wave)
    return wave


def compared_again(
    store: Store, run_id: str, against: Mapping[str, Any], lost: Iterable[str]
) -> dict[str, Any]:
    """Enter another comparison of a candidate of the open wave: what it lost there it has lost.

    Raises InputError E_WAVE_NONE if somebody closed it meanwhile.
    """
    with store.exclusive("comparing a candidate again"):
        wave = _required(store)
        name = wave["wave_id"]
        store.ledger.note("compared_again", wave=name, run_id=run_id, against=dict(against), lost=list(lost))
        for one in wave["candidates"]:
            if one["run_id"] == run_id:
                one["lost"] = list(dict.fromkeys((*one["lost"], *lost)))
                one["vetoed"] = bool(one["lost"])
        store.waves.write(name, wave)
    return wave


def keep(store: Store, text: str | None = None) -> dict[str, Any]:
    """Close the open wave, keeping one candidate: it becomes `current_candidate`.

    `text`: its run or the beginning of it; None if there is only one. Raises InputError E_WAVE_NONE,
    E_WAVE_CANDIDATE or E_PHASE_LOCKED for policies that a lock forbids, VetoError E_WAVE_VETOED for a candidate that
    lost a gate, whenever it was compared or by what is locked and pinned now.
    """
    with store.exclusive("closing a wave"):
        wave = _required(store)
        kept = _chosen(store, wave, text)
        run = load_run(store, kept["run_id"])
        if run.knobs() is not None:
            require_unlocked(store, run.policies())
        lost = dict.fromkeys((*kept["lost"], *standing_of(store, run).lost))
        if lost:
            raise VetoError(
                "E_WAVE_VETOED",
                f"candidate {kept['run_id'][:12]} is vetoed: it lost {', '.join(lost)}",
                where=_where(store, wave),
                next_step="keep another candidate, or `seg1b wave drop`",
            )
        store.ledger.note("wave_closed", wave=wave["wave_id"], kept=kept["run_id"], settings=kept["settings"])
        store.pointers.set("current_candidate", kept["run_id"], {"lane": "tune", "wave": wave["wave_id"]})
        wave |= {"status": CLOSED, "closed": utc_now(), "kept": kept["run_id"]}
        store.waves.write(wave["wave_id"], wave)
    return wave


def drop(store: Store) -> dict[str, Any]:
    """Close the open wave and keep nothing of it. Raises InputError E_WAVE_NONE."""
    with store.exclusive("closing a wave"):
        wave = _required(store)
        dropped = [candidate["run_id"] for candidate in wave["candidates"]]
        store.ledger.note("wave_closed", wave=wave["wave_id"], kept=None, dropped=dropped)
        wave |= {"status": ABANDONED, "closed": utc_now(), "kept": None}
        store.waves.write(wave["wave_id"], wave)
    return wave


def _where(store: Store, wave: Mapping[str, Any]) -> str:
    return str(store.layout.waves / f"{wave['wave_id']}.json")


def _required(store: Store) -> dict[str, Any]:
    wave = open_wave(store)
    if wave is None:
        raise InputError(
            "E_WAVE_NONE", "no wave is open", where=str(store.layout.waves),
            next_step="`seg1b tune --set KNOB=VALUE` opens one",
        )  # fmt: skip
    return wave


def _chosen(store: Store, wave: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    candidates = wave["candidates"]
    found = [one for one in candidates if text is None or one["run_id"].startswith(text)]
    if len(found) == 1 and text != "":
        return dict(found[0])
    known = ", ".join(one["run_id"][:12] for one in candidates)
    raise InputError(
        "E_WAVE_CANDIDATE",
        f"{wave['wave_id']} has {len(candidates)} candidates; say which" if text is None
        else f"{text!r} is none of {wave['wave_id']}'s candidates",
        where=_where(store, wave),
        next_step=f"`seg1b wave keep RUN` with one of {known}",
    )  # fmt: skip
