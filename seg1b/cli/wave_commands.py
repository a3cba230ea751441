"""`seg1b wave show|keep|drop` and `seg1b ledger`: the candidates that are looked at, and what became of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from seg1b.cli.layout import settings_of
from seg1b.cli.options import Json, Runs
from seg1b.cli.runtime import Session, running

SHOW_HELP = """The open wave, or the last one: its candidates, what each changed, and what that did.

Examples:

    seg1b wave show

    seg1b wave show wave-0003 --json

Exit codes: 0 shown · 2 there is no such wave.
"""

KEEP_HELP = """Close the open wave and keep one candidate: it becomes the current candidate. The others may be pruned.

A candidate that was vetoed cannot be kept. To work on from the one you keep, `seg1b config write DIR --run candidate`
writes its policies into a folder.

Examples:

    seg1b wave keep 8c41f0

    seg1b wave keep                 (where the wave has one candidate)

Exit codes: 0 kept · 3 the candidate is vetoed · 2 no open wave, or no such candidate: nothing has changed.
"""

DROP_HELP = """Close the open wave and keep none of its candidates. The ledger remembers them.

Examples:

    seg1b wave drop

Exit codes: 0 dropped · 2 no wave is open.
"""

LEDGER_HELP = """Everything that was tried and decided in this store, oldest first: candidates with their effect on the
gates, waves, baselines, promotions, locks, reopenings, integrated runs, what was pruned. Nothing is ever taken out.

Examples:

    seg1b ledger

    seg1b ledger --last 5 --json

    seg1b ledger --kind reopened

Exit codes: 0 shown (an empty ledger too) · 2 there is no store, or no such kind of entry.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The candidates of the fast lane.", no_args_is_help=True)
    group.command("show", help=SHOW_HELP)(show)
    group.command("keep", help=KEEP_HELP)(keep)
    group.command("drop", help=DROP_HELP)(drop)
    app.add_typer(group, name="wave")
    app.command("ledger", help=LEDGER_HELP)(ledger)


def show(
    name: Annotated[str | None, typer.Argument(metavar="[WAVE]", help="A wave.", show_default=False)] = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """See SHOW_HELP."""
    with running("wave show", as_json=as_json) as session:
        from seg1b.lanes.waves import find_wave
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            wave = find_wave(store, name)
        if as_json:
            session.emit(public(wave))
            return
        kept = f", kept {wave['kept'][:12]}" if wave.get("kept") else ""
        session.line(
            f"{wave['wave_id']}  {wave['status']} since {wave.get('closed') or wave['opened']}{kept}", "bold"
        )
        for candidate in wave["candidates"]:
            show_candidate(session, candidate)


def show_candidate(session: Session, candidate: Mapping[str, Any]) -> None:
    """One candidate: what it is, its knobs, and what they did."""
    against = candidate["against"]
    who = against["name"] + (f" {against['run_id'][:12]}" if against["run_id"] else "")
    status = f"{candidate['status_before']} -> {candidate['status_after']}"
    session.line(f"  {candidate['run_id'][:12]}  seed {candidate['seed']}  against {who}: {status}")
    for text in (*settings_of(candidate["settings"]), *effect(candidate)):
        session.line(f"      {text}")


def effect(candidate: Mapping[str, Any]) -> list[str]:
    """What a candidate did, in words."""
    words = [
        f"{verdict}: {', '.join(names)}"
        for verdict in ("better", "worse")
        if (names := [name for name, row in candidate["gates"].items() if row[2] == verdict])
    ]
    if candidate.get("found"):
        words.append(f"found {', '.join(candidate['found'])}")
    return [*words, *([f"VETOED, lost {', '.join(candidate['lost'])}"] if candidate["vetoed"] else [])]


def public(wave: Mapping[str, Any]) -> dict[str, Any]:
    """A wave's record without what only pruning reads."""
    candidates = [{k: v for k, v in one.items() if k != "holds"} for one in wave["candidates"]]
    return {**wave, "candidates": candidates}


def keep(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The candidate.", show_default=False)
    ] = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """See KEEP_HELP."""
    with running("wave keep", as_json=as_json) as session:
        from seg1b.lanes import waves
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            wave = waves.keep(store, run)
        if as_json:
            session.emit(public(wave))
            return
        kept = next(one for one in wave["candidates"] if one["run_id"] == wave["kept"])
        session.line(f"{wave['wave_id']} is closed; {kept['run_id'][:12]} is the current candidate")
        session.listed("its knobs:", settings_of(kept["settings"]))
        session.item(
            "`seg1b config write DIR --run candidate` writes its policies into a folder to go on from"
        )
        session.item("`seg1b promote` makes it the last good run, `seg1b integrate` judges it as a whole")


def drop(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """See DROP_HELP."""
    with running("wave drop", as_json=as_json) as session:
        from seg1b.lanes import waves
        from seg1b.report.wording import counted
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            wave = waves.drop(store)
        if as_json:
            session.emit(public(wave))
        else:
            session.line(
                f"{wave['wave_id']} is closed; {counted(len(wave['candidates']), 'candidate')} may be pruned"
            )


def ledger(
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the last N.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only entries of this kind.")] = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """See LEDGER_HELP."""
    with running("ledger", as_json=as_json) as session:
        from seg1b.lanes.waves import history, of_kind
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            entries = history(store) if kind is None else of_kind(store, kind)
        entries = entries[-last:] if last else entries
        if as_json:
            session.emit({"entries": entries})
            return
        width = max((len(entry["kind"]) for entry in entries), default=0)
        for entry in entries:
            head, parts = told(entry)
            session.listed(f"{entry['at']:<20}  {entry['kind']:<{width}}  {head}".rstrip(), parts)
        if not entries:
            session.line(
                "the ledger is empty" if kind is None else f"the ledger has no entry of kind {kind!r}"
            )


def told(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    """A ledger entry in words: what it is about, and what there is to say of it."""
    run = str(entry.get("run_id") or "")[:12]
    kind = entry["kind"]
    if kind == "candidate":
        return f"{run}  {entry['wave']}", [*settings_of(entry["settings"]), *effect(entry)]
    if kind == "wave_closed":
        return f"{entry['wave']}  " + (f"kept {entry['kept'][:12]}" if entry["kept"] else "dropped"), []
    if kind == "pruned":
        return "", [", ".join(one["run_id"][:12] for one in entry["runs"])]
    if kind == "locked":
        return f"{run}  {entry['phase']}", []
    if kind == "reopened":
        proof = ", ".join(f"{name} {value[:40]}" for name, value in entry["evidence"].items())
        return f"{entry['phase']}", [f"approved by {entry['approved_by']}", f"evidence: {proof}"]
    if kind == "integrated":
        return f"{run}  {entry['status']}", [f"blocked by {name}" for name in entry["blockers"]]
    if kind in ("baseline_pinned", "promoted"):
        before = entry.get("instead_of")
        return run, [f"instead of {before[:12]}"] if before else []
    rest = {name: value for name, value in entry.items() if name not in ("at", "kind", "event", "run_id")}
    return run, [
        f"{name.replace('_', ' ')} {_plain(value)}" for name, value in rest.items()
    ]  # another lane's


def _plain(value: Any) -> str:
    """A value of a ledger entry as a reader writes it; ids are cut."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value[:12] if isinstance(value, str) and len(value) in (32, 64) else str(value)
