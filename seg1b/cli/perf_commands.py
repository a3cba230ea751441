"""`seg1b perf baseline|check|closure`: how long states take, and whether that is good enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg1b.cli.options import Config, Json, Runs
from seg1b.cli.runtime import BELOW, Session, load_policies, running
from seg1b.errors import InputError

if TYPE_CHECKING:
    from seg1b.lanes.perf import Check

BASELINE_HELP = """Pin a run's times as the baseline. It must have made every state; the run is kept while it is pinned.

Times are compared only with those of the same kind of executor and number of workers. A certification runs on Ray where
there are several CPUs, a tuning in threads, a witness in one process unless it is told `--executor`: make the runs that
you will check as the baseline was made. Two certifications on one machine are comparable, and so are two witnesses with
the same `--executor`.

Examples:

    seg1b perf baseline 8c41f0

    seg1b witness 8c41f0 --executor ray && seg1b perf baseline WITNESS_RUN_ID

Exit codes: 0 pinned · 2 no such run, no times, or states that it read instead of made.
"""

CHECK_HELP = """Judge a run's times: GREEN within target, AMBER within stretch, RED above, per state and substage.

Budgets are in `budgets.yaml` (`seg1b config show`). Against the pinned baseline a slow-down of more than 10 % on the
same inputs, the same kind of executor and as many workers is rejected unless it is waived by name; where none of the
run's times may be compared the check is refused. While something is RED or slower, `seg1b tune` refuses. No check
passes without a witness: a run that was made again and came out the same (`seg1b witness RUN`, by whatever executor).
The whole is GREEN only if every state was made by the run and is GREEN, and the run was witnessed.

Examples:

    seg1b witness 8c41f0 && seg1b perf check 8c41f0

    seg1b perf check 8c41f0 --waive S8="larger row groups, agreed" --json

Exit codes: 0 nothing RED, nothing slower, witnessed · 3 something is, or a witness differs · 2 not witnessed (the times
are shown), or bad input, such as a baseline of other inputs or of another executor.
"""

CLOSURE_HELP = """Close a performance phase: budgets, slow-down, determinism of two runs, stable hotspots; one record.

Needs two executions of the run's identity that made every state, and a witness's comparison of digests (`seg1b
witness RUN`, by whatever executor). Times are those of the executions that ran on what the baseline ran on (without a
baseline: on what the run itself did); others are left out and named. Hotspots are stable if several such executions
have the same. Writes `perf/closure-RUN.json` and `.md` into the store.

Examples:

    seg1b witness 8c41f0 --executor ray && seg1b perf closure 8c41f0

    seg1b perf closure 8c41f0 --waive hotspots="S8.write and S9.replay take the same time"

Exit codes: 0 GO · 3 HOLD · 2 bad input, such as no witness, or none that ran as the baseline did.
"""

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run, a prefix of it, or last_good, candidate, baseline.", show_default=False
    ),
]
Waive = Annotated[
    list[str] | None,
    typer.Option("--waive", metavar="STAGE=REASON", help="Accept a RED or slower stage (repeat for more)."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="How long states take, and whether that is good enough.", no_args_is_help=True)
    group.command("baseline", help=BASELINE_HELP)(baseline)
    group.command("check", help=CHECK_HELP)(check)
    group.command("closure", help=CLOSURE_HELP)(closure)
    app.add_typer(group, name="perf")


def baseline(run: Run, runs: Runs = Path("runs"), config: Config = None, as_json: Json = False) -> None:
    """See BASELINE_HELP."""
    with running("perf baseline", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b.lanes.perf import pin_baseline
        from seg1b.lanes.perf_times import hotspots
        from seg1b.lanes.stored_run import named_run
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            timings = pin_baseline(store, policies, named_run(store, run))
        top = hotspots(timings, policies.budgets)
        clock = policies.budgets.comparison_clock
        if as_json:
            session.emit({
                "run_id": timings.run_id, "seed": timings.seed, "sites": timings.sites, "executor": timings.executor,
                "clock": clock, "seconds": {stage: times[clock] for stage, times in timings.seconds.items()},
                "hotspots": [stage for stage, _ in top],
            })  # fmt: skip
        else:
            session.line(
                f"pinned run {timings.run_id[:12]}: seed {timings.seed}, {timings.sites:,} sites, {timings.executor}",
                style="green",
            )
            session.line("hotspots: " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in top))


def check(
    run: Run, waive: Waive = None, runs: Runs = Path("runs"), config: Config = None, as_json: Json = False
) -> None:
    """See CHECK_HELP."""
    with running("perf check", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b.lanes.perf import check as lane
        from seg1b.lanes.perf import require_witness
        from seg1b.lanes.stored_run import named_run
        from seg1b.store.store import Store

        waivers = parse_waivers(waive or [])
        with Store.open(runs, create=False) as store:
            found = lane(store, policies, named_run(store, run), waivers)
        if not as_json:
            show(session, found)
        if found.rejected or found.deterministic is not None:
            if as_json:
                session.emit(found.facts())
            if found.rejected:
                raise typer.Exit(BELOW)
            return
        session.beside_error = found.facts()
        require_witness(found)


def closure(
    run: Run, waive: Waive = None, runs: Runs = Path("runs"), config: Config = None, as_json: Json = False
) -> None:
    """See CLOSURE_HELP."""
    with running("perf closure", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b.lanes.perf import close
        from seg1b.lanes.stored_run import named_run
        from seg1b.store.store import Store

        waivers = parse_waivers(waive or [])
        with Store.open(runs, create=False) as store:
            found = close(store, policies, named_run(store, run), waivers)
            path = store.layout.performance / f"{found.name}.md"
        if as_json:
            session.emit({**found.facts(), "path": str(path)})
        else:
            show(session, found.check)
            for run_id, stages in found.hotspots.items():
                session.line(f"hotspots   {run_id[:12]} {', '.join(stages)}")
            if not found.hotspots_stable:
                session.line(f"hotspots   {found.stability}", style="yellow")
            for run_id, why in found.left_out:
                session.line(f"left out   {run_id[:12]} {why}", style="yellow")
            session.line(f"decision   {found.decision}; {path}",
                         style="bold green" if found.decision == "GO" else "bold red")  # fmt: skip
        if found.decision != "GO":
            raise typer.Exit(BELOW)


def parse_waivers(values: list[str]) -> dict[str, str]:
    """`STAGE=REASON` as a mapping. Raises InputError E_PERF_WAIVER."""
    found = {}
    for value in values:
        stage, equals, reason = value.partition("=")
        if not equals or not reason.strip():
            raise InputError(
                "E_PERF_WAIVER", f"{value!r} gives no reason", where=f"--waive {value}",
                next_step="write `--waive STAGE=REASON`, such as --waive S8='larger row groups, agreed'",
            )  # fmt: skip
        found[stage.strip()] = reason.strip()
    return found


def show(session: Session, found: Check) -> None:
    """A row per state; substages below their state."""
    from rich import box
    from rich.table import Table

    title = f"run {found.run_id[:12]}, seed {found.seed}, {found.sites:,} sites: {found.status}"
    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in ("stage", found.clocks[0], "target", "stretch", "", found.clocks[1], "baseline", "change"):
        table.add_column(name, justify="left" if name in ("stage", "") else "right", no_wrap=True)
    colours = {"GREEN": "green", "AMBER": "yellow", "RED": "bold red", None: "dim"}
    for row in found.stages:
        sub = "." in row.stage
        change = "" if row.change is None else f"{row.change:+.0%}" + (" slower" if row.slower else "")
        word: Any = row.colour or ("not made" if row.compared_s is None else "")
        table.add_row(
            f"  {row.stage.partition('.')[2]}" if sub else row.stage, _seconds(row.seconds), _seconds(row.target_s),
            _seconds(row.stretch_s), word, _seconds(row.compared_s), _seconds(row.before_s), change,
            style="bold red" if row.slower else colours[row.colour] if row.colour != "GREEN" else None,
        )  # fmt: skip
    session.show(table)
    if found.baseline is None:
        session.line(
            "no baseline is pinned (`seg1b perf baseline RUN`), so no slow-down can be seen", style="dim"
        )
    for stage, reason in found.waived.items():
        session.line(f"waived     {stage}: {reason}", style="yellow")
    if found.not_made:
        session.line(
            f"not made   {len(found.not_made)} of {len(found.not_made) + len(found.made)} states: they were read from "
            f"the store and are not judged: {', '.join(found.not_made)}",
            style="yellow",
        )
    for run_id, same in found.witnesses:
        session.line(f"witness    {run_id[:12]} {'gave the same digests' if same else 'DIFFERS'}",
                     style="" if same else "bold red")  # fmt: skip
    if not found.witnesses:
        session.line(
            f"witness    none: `seg1b witness {found.run_id[:12]}` makes the run again", style="yellow"
        )
    if found.red or found.slower:
        session.line(
            f"rejected   RED: {', '.join(found.red) or 'none'}; slower: {', '.join(found.slower) or 'none'}",
            style="bold red",
        )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
