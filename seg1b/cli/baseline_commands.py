"""`seg1b baseline pin|show`, `seg1b promote`, `seg1b last-good`: what candidates are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from seg1b.cli.options import Config, Json, Runs, WorldDirectory
from seg1b.cli.runtime import Session, load_policies, running

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run (a prefix of six digits will do).", show_default=False)
]

PIN_HELP = """Pin a run as the baseline: what candidates are compared with, and vetoed by, besides their reference.

Its scorecard, country shares, region shares and neighbour quantiles (JSON and CSV) and checkpoints of S2, S4, S6 and S8
are published once in the store, and are kept as long as the pin. Grades are still given against the published baseline.
A run of another world than `--world` is refused.

Examples:

    seg1b baseline pin 8c41f0

    seg1b baseline pin last_good --json

Exit codes: 0 pinned · 2 no such run, its outputs were pruned, or it is of another world: nothing has changed.
"""

SHOW_HELP = """The pinned baseline: its scorecard against the gates, and where its artifacts are.

Examples:

    seg1b baseline show

    seg1b baseline show --json

Exit codes: 0 shown · 2 no baseline is pinned.
"""

PROMOTE_HELP = """Make a run (by default the current candidate) the last good one, unless it lost something.

It is refused if a B gate or counter-metric that holds in the pinned baseline, or in the last good run, fails in it, or
if a metric is worse than what a phase was locked with; the message names them. A run that contradicts a locked phase is
refused too.

Examples:

    seg1b promote

    seg1b promote 8c41f0 --json

Exit codes: 0 promoted · 3 vetoed · 2 no such run, pruned, of another world, or a phase is locked: nothing has changed.
"""

LAST_GOOD_HELP = """The last good run and its core metrics. `seg1b tune --against last_good` compares with it.

Examples:

    seg1b last-good

Exit codes: 0 shown · 2 there is none yet.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The pinned baseline.", no_args_is_help=True)
    group.command("pin", help=PIN_HELP)(pin)
    group.command("show", help=SHOW_HELP)(show)
    app.add_typer(group, name="baseline")
    app.command("promote", help=PROMOTE_HELP)(promote)
    app.command("last-good", help=LAST_GOOD_HELP)(last_good)


def pin(
    run: RunArgument,
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    as_json: Json = False,
) -> None:
    """See PIN_HELP."""
    with running("baseline pin", as_json=as_json) as session:
        from seg1b.lanes import baseline
        from seg1b.store.store import Store
        from seg1b.world.bundle import load_world

        policies = load_policies(session, config)
        with Store.open(runs, create=False) as store:
            baseline.pin(store, run, load_world(world), policies.gates)
            found = baseline.show(store)
        _present(session, found, as_json)


def show(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """See SHOW_HELP."""
    with running("baseline show", as_json=as_json) as session:
        from seg1b.lanes import baseline
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            found = baseline.show(store)
        _present(session, found, as_json)


def _present(session: Session, found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        session.emit(found)
        return
    session.line(
        f"baseline  run {found['run_id'][:12]}  seed {found['seed']}  pinned {found['pinned']}", "bold"
    )
    session.line(f"status {found['status']}, {found['scorecard']['sites']} sites in "
                 f"{found['scorecard']['active_countries']} countries")  # fmt: skip
    _metrics(session, found["scorecard"]["metrics"])
    session.line(f"artifacts in {found['folder']}:")
    for name in found["files"]:
        session.line(f"  {name}")


def _metrics(session: Session, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("metric", "value", "published", "B", "B+", "reaches"):
        table.add_column(name, justify="left" if name in ("metric", "reaches") else "right", no_wrap=True)
    for name, row in metrics.items():  # in the order in which the store keeps them
        reaches = "B+" if row["pass_b_plus"] else "B" if row["pass_b"] else "below B"
        value = "-" if row["value"] is None else f"{row['value']:.5g}"
        limits = (f"{row['op']} {row['b']:.4g}", f"{row['b_plus']:.4g}")
        style = {"B+": "green", "B": "yellow", "below B": "bold red"}[reaches]
        table.add_row(name, value, f"{row['published_baseline']:.5g}", *limits, reaches, style=style)
    session.show(table)


def promote(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run; else the current candidate.", show_default=False),
    ] = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """See PROMOTE_HELP."""
    with running("promote", as_json=as_json) as session:
        from seg1b.lanes import baseline
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            found = baseline.promote(store, run)
        if as_json:
            session.emit(found)
            return
        again = found["instead_of"] == found["run_id"]
        session.line(
            f"{found['run_id'][:12]} "
            + ("was the last good run already" if again else "is the last good run")
        )
        compared = ", ".join(f"the {who} {name[:12]}" for who, name in found["compared_with"].items())
        session.line(
            f"nothing lost against {compared}" if compared else "there was nothing to compare it with"
        )


def last_good(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """See LAST_GOOD_HELP."""
    with running("last-good", as_json=as_json) as session:
        from seg1b.lanes import baseline
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            found = baseline.last_good(store)
        if as_json:
            session.emit(found)
            return
        session.line(
            f"last good  run {found['run_id'][:12]}  seed {found['seed']}  {found['status']}", "bold"
        )
        for name, value in found["metrics"].items():
            session.line(f"  {name:<32} {'-' if value is None else f'{value:.6g}'}")
