"""`seg1b wave show|keep|drop` and `seg1b ledger`: the candidates that are looked at, and what became of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

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

Exit codes: 0 shown (an empty ledger too) · 2 there is no store.
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
    """One candidate in three lines."""
    against = candidate["against"]
    who = against["name"] + (f" {against['run_id'][:12]}" if against["run_id"] else "")
    session.line(f"  {candidate['run_id'][:12]}  seed {candidate['seed']}  {candidate['settings']}")
    status = f"{candidate['status_before']} -> {candidate['status_after']}"
    session.line(f"      against {who}: {status}{effect(candidate)}")


def effect(candidate: Mapping[str, Any]) -> str:
    """What a candidate did, in words."""
    words = "".join(
        f"; {verdict}: {', '.join(names)}"
        for verdict in ("better", "worse")
        if (names := [name for name, row in candidate["gates"].items() if row[2] == verdict])
    )
    found = f"; found {', '.join(candidate['found'])}" if candidate.get("found") else ""
    return words + found + (f"; VETOED, lost {', '.join(candidate['lost'])}" if candidate["vetoed"] else "")


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
        session.line(f"its knobs: {kept['settings']}")
        session.line(
            "`seg1b config write DIR --run candidate` writes its policies into a folder to go on from"
        )
        session.line("`seg1b promote` makes it the last good run, `seg1b integrate` judges it as a whole")


def drop(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """See DROP_HELP."""
    with running("wave drop", as_json=as_json) as session:
        from seg1b.lanes import waves
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            wave = waves.drop(store)
        if as_json:
            session.emit(public(wave))
        else:
            session.line(
                f"{wave['wave_id']} is closed; its {len(wave['candidates'])} candidates may be pruned"
            )


def ledger(
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the last N.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only entries of this kind.")] = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """See LEDGER_HELP."""
    with running("ledger", as_json=as_json) as session:
        from seg1b.lanes.waves import history
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            entries = [entry for entry in history(store) if kind in (None, entry["kind"])]
        entries = entries[-last:] if last else entries
        if as_json:
            session.emit({"entries": entries})
            return
        for entry in entries:
            session.line(f"{entry['at']:<20}  {entry['kind']:<16} {told(entry)}")
        if not entries:
            session.line(
                "the ledger is empty" if kind is None else f"the ledger has no entry of kind {kind!r}"
            )


def told(entry: Mapping[str, Any]) -> str:
    """A ledger entry in a line."""
    run = str(entry.get("run_id") or "")[:12]
    kind = entry["kind"]
    if kind == "candidate":
        return f"{run}  {entry['wave']}  {entry['settings']}{effect(entry)}"
    if kind == "wave_closed":
        return f"{entry['wave']}  " + (f"kept {entry['kept'][:12]}" if entry["kept"] else "dropped")
    if kind == "pruned":
        return ", ".join(one["run_id"][:12] for one in entry["runs"])
    if kind == "locked":
        return f"{run}  {entry['phase']}"
    if kind == "reopened":
        proof = ", ".join(f"{name} {value[:40]}" for name, value in entry["evidence"].items())
        return f"{entry['phase']}  approved by {entry['approved_by']}; evidence: {proof}"
    if kind == "integrated":
        return f"{run}  {entry['status']}" + (
            f": {', '.join(entry['blockers'])}" if entry["blockers"] else ""
        )
    if kind not in ("baseline_pinned", "promoted"):  # another lane's
        rest = {name: value for name, value in entry.items() if name not in ("at", "kind", "event")}
        return ", ".join(f"{name} {value}" for name, value in rest.items())
    before = entry.get("instead_of")
    return run + (f"  instead of {before[:12]}" if before else "")
