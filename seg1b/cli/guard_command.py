"""`seg1b guard`: judge a reopened 1A catalogue against its frozen authority, and remember the verdict."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg1b.cli.options import Config, Json, Runs
from seg1b.cli.runtime import BELOW, Session, load_policies, running
from seg1b.errors import InputError, StoreError

if TYPE_CHECKING:
    from seg1b.lanes.guard import Judged
    from seg1b.policy.load import Policies

HELP = """1A freeze guard: judge a catalogue's bundle against the frozen authority. PASS or FAIL, and it stays.

CATALOGUE is the root folder of a 1A bundle. The authority is what this command printed with `--json` for the frozen
catalogue, the engine's `segment1a_p5_certification.json`, or another bundle's folder. Fourteen metrics are graded by
the bands of `guard.yaml`; PASS needs all five checks: the grade is not below B, no hard gate is lost, no metric leaves
the B band that the authority held, no fewer metrics are inside B, top-10 share and Gini rise by at most .01. A 1A
bundle whose evidence is missing, partial or inconsistent FAILs; a user's plain catalogue owes none and is not judged.

The verdict is kept in the run store: `certify` and `tune` refuse a catalogue with a FAIL, and with `--pin` every
catalogue below that authority. Judging again replaces the verdict against the same authority; `--lift` takes back all
verdicts on a catalogue. Both `--pin` and `--lift` need a name, and the ledger says who did so.

Examples:

    seg1b guard bundle --authority segment1a_p5_certification.json

    seg1b guard frozen-bundle --authority frozen-bundle --json > authority.json

    seg1b guard --authority authority.json --pin --approved-by "A. Person"

    seg1b guard bundle --lift --approved-by "A. Person" --reason "authority replaced"

Exit codes: 0 PASS (or pinned, lifted) · 3 FAIL · 2 bad input: no bundle, a damaged bundle, a plain catalogue, no
authority, a damaged or incomplete authority; then nothing is kept, and with `--json` the error stands beside
`"status": "FAIL"`.
"""


_PIN = '`seg1b guard --authority FILE --pin --approved-by "NAME"`'


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("guard", help=HELP)(guard)


def guard(
    catalogue: Annotated[
        Path | None,
        typer.Argument(metavar="CATALOGUE", help="A 1A bundle's root folder.", show_default=False),
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option("--authority", metavar="FILE|DIR", help="What is frozen. Default: the pinned one."),
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Make it the store's authority.")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Take back the verdicts on CATALOGUE.")] = False,
    approved_by: Annotated[str, typer.Option(metavar="NAME", help="Who approves `--pin` or `--lift`.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the ledger.")] = "",
    runs: Runs = Path("runs"),
    config: Config = None,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("guard", as_json=as_json) as session:
        if not lift:
            session.beside_error = {"status": "FAIL"}  # fail-closed for whoever reads the verdict only
        policies = load_policies(session, config)
        if lift:
            _lift(session, policies, catalogue, runs, approved_by, reason)
            return
        if catalogue is None and not (pin and authority is not None):
            raise InputError(
                "E_GUARD_NO_EVIDENCE",
                "name the catalogue to be judged" if not pin else "name the authority to be pinned",
                where="seg1b guard" + (" --pin" if pin else ""),
                next_step=f"`seg1b guard CATALOGUE --authority FILE`, or {_PIN}",
            )
        if pin and authority is None:
            raise InputError(
                "E_GUARD_NO_AUTHORITY", "name the authority to be pinned", where="seg1b guard --pin",
                next_step=_PIN,
            )  # fmt: skip
        if pin and not approved_by.strip():
            raise InputError(
                "E_GUARD_APPROVAL", "pinning an authority needs a name", where="seg1b guard --pin", next_step=_PIN,
            )  # fmt: skip
        judged = None
        if catalogue is not None:
            judged = _judge(session, policies, catalogue, authority, runs)
        if pin and authority is not None:
            _pin(session, policies, authority, runs, approved_by, quiet=judged is not None)
        if judged is not None and not judged.passed:
            raise typer.Exit(BELOW)


def _judge(
    session: Session, policies: Policies, catalogue: Path, authority: Path | None, runs: Path
) -> Judged:
    from seg1b.cli.screen_command import existing_store
    from seg1b.lanes import guard as lane

    judged = lane.judge(catalogue, policies, authority, existing_store(runs))
    kept = _record(judged, runs)
    if session.json:
        session.emit({**judged.facts(), "recorded": kept})
    else:
        show(session, judged, runs if kept else None)
    return judged


def _record(judged: Judged, runs: Path) -> bool:
    """Keep the verdict; a PASS makes no store of its own, and a store that cannot be written changes no verdict."""
    from seg1b.lanes import guard as lane
    from seg1b.store.store import Store

    if judged.passed and not (runs / "FORMAT").is_file():
        return False
    try:
        with Store.open(runs) as store:
            lane.record(store, judged)
    except StoreError as error:
        logging.getLogger("seg1b.cli").warning("the verdict could not be kept: %s", error)
        return False
    return True


def _pin(
    session: Session, policies: Policies, authority: Path, runs: Path, approved_by: str, *, quiet: bool
) -> None:
    from seg1b.lanes import guard as lane
    from seg1b.store.store import Store

    found, source = lane.find_authority(authority, policies, None)
    with Store.open(runs) as store:
        lane.pin(store, found, source, approved_by=approved_by)
    facts = {"pinned": found.digest, "grade": found.grade, "b_pass_count": sum(found.b_pass.values())}
    if session.json and not quiet:
        session.emit(facts)
    elif not session.json:
        session.line(
            f"pinned {source} ({found.digest[:12]}): {facts['b_pass_count']} of 14 metrics inside B; certify and tune "
            f"in {runs} refuse what falls below it"
        )


def _lift(
    session: Session, policies: Policies, catalogue: Path | None, runs: Path, approved_by: str, reason: str
) -> None:
    from seg1b.lanes import guard as lane
    from seg1b.store.store import Store

    if catalogue is None or not approved_by.strip() or not reason.strip():
        raise InputError(
            "E_GUARD_APPROVAL",
            "taking back a verdict needs the catalogue, a name and a reason",
            where="seg1b guard --lift",
            next_step='`seg1b guard CATALOGUE --lift --approved-by "NAME" --reason "WHY"`',
        )
    with Store.open(runs, create=False) as store:
        digest = lane.measured(catalogue, policies)[0]
        failed = lane.lift(store, digest, approved_by=approved_by, reason=reason)
    if session.json:
        session.emit({"lifted": digest, "failed_verdicts": failed})
    else:
        session.line(f"taken back: {failed} FAIL on catalogue {digest[:12]}; the ledger keeps them")


def show(session: Session, judged: Judged, runs: Path | None) -> None:
    """Verdict, checks, and the fourteen metrics."""
    from seg1b.cli.catalogue_commands import metric_table

    verdict = "PASS" if judged.passed else "FAIL"
    kept = f"; kept in {runs}/guards" if runs is not None else ""
    session.line(
        f"1A guard   {verdict}, grade {judged.report.grade}, against {judged.authority_from} "
        f"({judged.authority.digest[:12]}){kept}",
        style="bold green" if judged.passed else "bold red",
    )
    for name, held in judged.decision.checks.items():
        session.line(f"  {'holds' if held else 'FAILS':<6} {name}", style="" if held else "red")
    for text in judged.reasons():
        session.item(text)
    session.show(metric_table(judged.report, judged.authority.b_pass))
    loose = [name for name, metric in judged.report.metrics.items() if not metric.bands.nested]
    if loose:
        session.line(f"bands not nested (B+ reaches outside B): {', '.join(loose)}", style="dim")
    if judged.report.b_plus_without_b:
        session.line(
            "inside B+ but outside B (a B+ grade asks for B as well): "
            f"{', '.join(judged.report.b_plus_without_b)}",
            style="yellow",
        )
