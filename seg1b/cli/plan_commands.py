"""`seg1b status`, `seg1b integrate`, `seg1b lock`, `seg1b reopen`: where the plan stands, and its decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seg1b.cli.layout import settings_of
from seg1b.cli.options import Config, Json, Runs, WorldDirectory
from seg1b.cli.runtime import BELOW, Session, load_policies, running

STATUS_HELP = """The plan at a glance: phases, pointers, locks, the open wave, the last certification, what to do next.

Examples:

    seg1b status

    seg1b status --runs /data/runs --json

Exit codes: 0 shown · 2 there is no store.
"""

INTEGRATE_HELP = """Judge a run (by default the current candidate) as a whole: status, blockers, which phase to turn to.

RED_REOPEN_REQUIRED: a B gate or counter-metric fails, or a lock's metric or what the pinned baseline holds is lost.
AMBER_NEAR_BPLUS: only B+ gates fail; the recovery loop (`seg1b tune --recover`) has a few attempts, then the best B may
be accepted. GREEN_B: every B+ gate holds. The scorecard is published in the store. While P4 is locked a run is judged
all the same, but P4's record stays that of the run that it was locked with.

Examples:

    seg1b integrate

    seg1b integrate 8c41f0 --json

Exit codes: 0 GREEN or AMBER · 3 RED · 2 no such run, pruned, of another world, or it contradicts a locked phase.
"""

LOCK_HELP = """Lock a phase with a run: P1 (S2), P2 (S4), P3 (S6), P4 (integrated), P5 (certification).

The run is made a second time first and must come out the same. The record keeps its policies, metrics and witness.
From then on `tune` and `certify` refuse policies that differ in what the phase decided; `seg1b reopen` is the way back.

Examples:

    seg1b lock P3 --run 8c41f0

    seg1b lock P5 --run last_good --json

Exit codes: 0 locked · 3 made again it is not the same · 2 no such run or phase, or locked already: nothing has changed.
"""

REOPEN_HELP = """Reopen a locked phase. The ledger keeps the lock, the evidence (by digest) and who approved.

Evidence is a file, or the id of a scorecard (`seg1b integrate` prints it), a run or a certification.

Examples:

    seg1b reopen P3 --evidence scorecard.json --approved-by "A. Turing"

Exit codes: 0 reopened · 2 not locked, no such evidence, no approver, or a later lock covers it: nothing has changed.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status", help=STATUS_HELP)(status)
    app.command("integrate", help=INTEGRATE_HELP)(integrate)
    app.command("lock", help=LOCK_HELP)(lock)
    app.command("reopen", help=REOPEN_HELP)(reopen)


def status(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """See STATUS_HELP."""
    with running("status", as_json=as_json) as session:
        from seg1b.lanes.status import status as look
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            found = look(store)
        if as_json:
            session.emit(found)
        else:
            _show_status(session, found)


def _show_status(session: Session, found: dict[str, Any]) -> None:
    session.line("phases", "bold")
    width = max(len(phase["status"]) for phase in found["phases"])
    for phase in found["phases"]:
        run = f"  {phase['run_id'][:12]}  {phase['at']}" if phase["run_id"] else ""
        integrated = phase.get("integrated")
        judged = f"  (integrated {integrated})" if integrated not in (None, phase["status"]) else ""
        if phase.get("stands_otherwise_now"):
            judged += f"  (now {phase['stands_now']})"
        session.line(
            f"  {phase['phase']}  {phase['title']:<23}  {phase['status']:<{width}}{run}{judged}".rstrip(),
            indent=31,
        )
    session.line("pointers", "bold")
    for name, pointer in found["pointers"].items():
        told = "not set"
        if pointer is not None:
            told = pointer.get("problem") or _pointed(pointer)
        session.line(f"  {name:<20} {told}", indent=23)
    wave = found["wave"]
    session.line("wave", "bold")
    session.line(f"  {wave['wave_id']} since {wave['opened']}" if wave else "  none is open")
    for candidate in wave["candidates"] if wave else ():
        verdict = "VETOED" if candidate["vetoed"] else candidate["status_after"]
        lost = [f"lost {', '.join(candidate['lost'])}"] if candidate["vetoed"] else []
        session.listed(
            f"    {candidate['run_id'][:12]}  {verdict}", [*settings_of(candidate["settings"]), *lost]
        )
    _show_performance(session, found["performance"])
    certification = found["certification"]
    session.line("certification", "bold")
    if certification is None:
        session.line("  none yet")
    else:
        seeds = ", ".join(map(str, certification["seeds"]))
        session.line(f"  {certification['cert_id'][:12]}  grade {certification['grade']}  seeds {seeds}")
    session.line("next", "bold")
    session.item(found["next"])


def _pointed(pointer: dict[str, Any]) -> str:
    """A pointer's run, where it stands, and what its status does not say."""
    text = f"{pointer['run_id'][:12]}  ({pointer['lane']}, seed {pointer['seed']})  {pointer['status']}"
    if not pointer["gates_are_the_packaged_ones"]:
        text += ", by gates of its own"
    if pointer["contradicts"]:
        text += f", not as {' and '.join(pointer['contradicts'])} was locked"
    return text


def _show_performance(session: Session, found: dict[str, Any]) -> None:
    session.line("performance", "bold")
    last = "no run was checked yet"
    if found["run_id"]:
        verdict = "passed" if found["passed"] else "did not pass"
        last = f"{found['run_id'][:12]}  {found['status']}, {verdict}"
    session.line(f"  {last}")
    for stage, entry in found["open"].items():
        session.line(
            f"    {stage} of run {entry['run_id'][:12]} is {entry['why']}: tuning is refused", "bold red"
        )


def integrate(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run; else the current candidate.", show_default=False),
    ] = None,
    runs: Runs = Path("runs"),
    config: Config = None,
    as_json: Json = False,
) -> None:
    """See INTEGRATE_HELP."""
    with running("integrate", as_json=as_json) as session:
        from seg1b.lanes.integrate import integrate as judge
        from seg1b.store.store import Store

        policies = load_policies(session, config)
        with Store.open(runs, create=False) as store:
            found = judge(store, policies, run)
        if as_json:
            session.emit(found)
        else:
            _show_integrated(session, found)
        if found["status"] == "RED_REOPEN_REQUIRED":
            raise typer.Exit(BELOW)


def _show_integrated(session: Session, found: dict[str, Any]) -> None:
    envelope = found["envelope"]
    session.line(f"{found['status']}  run {found['run_id'][:12]}  seed {found['seed']}", "bold")
    passed = {grade: sum(row[f"pass_{grade}"] for row in found["gates"]) for grade in ("b", "b_plus")}
    counters = sum(row["passed"] for row in found["counter_metrics"])
    session.line(
        f"gates: {passed['b']} of {len(found['gates'])} at B, {passed['b_plus']} at B+; "
        f"{counters} of {len(found['counter_metrics'])} counter-metrics"
    )
    if not found["judged_by_these_gates"]:
        session.line("judged by gates of its own, which are not those of the policies in force", "yellow")
    for row in found["blockers"]:
        reason = f"{row['reason'].removesuffix('.')}. " if row["reason"] else ""
        session.item(f"{row['name']}: {reason}{row['advice']}")
    for entry in found["reopen"]:
        session.line(
            f"{entry['action']} {entry['phase']}: {entry['why']} ({', '.join(entry['gates'])})", "bold"
        )
    if envelope["not_locked"]:
        session.line(f"not locked: {', '.join(envelope['not_locked'])}")
    if found["status"] == "AMBER_NEAR_BPLUS":
        recovery = envelope["recovery"]
        session.line(
            f"recovery loop: {recovery['attempts']} of {recovery['at_most']} attempts used; "
            + (
                "`seg1b tune --recover --set KNOB=VALUE` makes one"
                if found["recovery_allowed"]
                else f"`seg1b lock P4 --run {found['run_id'][:12]}` accepts this B"
            )
        )
    session.line(f"scorecard {found['artifact']}")


def lock(
    phase: Annotated[str, typer.Argument(metavar="PHASE", help="P1 to P5.", show_default=False)],
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="The accepted run.")],
    runs: Runs = Path("runs"),
    world: WorldDirectory = None,
    as_json: Json = False,
) -> None:
    """See LOCK_HELP."""
    with running("lock", as_json=as_json) as session:
        from seg1b.lanes.lock_phase import lock_phase
        from seg1b.lanes.phase_locks import phase_named
        from seg1b.store.store import Store
        from seg1b.world.bundle import load_world

        chosen = phase_named(phase)
        with Store.open(runs, create=False) as store:
            record = lock_phase(store, chosen, run, load_world(world))
        if as_json:
            session.emit(record)
            return
        session.line(f"{chosen.name} ({chosen.title}) is locked with run {record['run_id'][:12]}", "bold")
        session.line(f"frozen: {', '.join(record['policy_digests'])}", indent=8)
        session.line(f"witness: {len(record['witness'])} tables made again, all the same")


def reopen(
    phase: Annotated[str, typer.Argument(metavar="PHASE", help="P1 to P5.", show_default=False)],
    evidence: Annotated[
        str, typer.Option("--evidence", metavar="ARTIFACT", help="What contradicts the lock.")
    ],
    approved_by: Annotated[str, typer.Option("--approved-by", metavar="NAME", help="Who approves.")],
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """See REOPEN_HELP."""
    with running("reopen", as_json=as_json) as session:
        from seg1b.lanes.phase_locks import phase_named
        from seg1b.lanes.phase_locks import reopen as run_lane
        from seg1b.store.store import Store

        chosen = phase_named(phase)
        with Store.open(runs, create=False) as store:
            entry = run_lane(store, chosen, evidence, approved_by)
        if as_json:
            session.emit(entry)
        else:
            session.line(f"{chosen.name} ({chosen.title}) is open again, approved by {entry['approved_by']}")
            session.line("the ledger keeps its lock: `seg1b ledger --kind reopened`")
