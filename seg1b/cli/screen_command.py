"""`seg1b screen`: what catalogues can reach, from their counts alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg1b.cli.options import LARGEST_SEED, Config, Json, Require, RequireGrade, Runs, WorldDirectory, reaches
from seg1b.cli.runtime import BELOW, Session, load_policies, running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seg1b.lanes.repair import Repair
    from seg1b.lanes.screen import Screened
    from seg1b.store.store import Store

HELP = """Exact country gates of catalogues, and what each lacks, before anything is placed.

FILE is a catalogue (CSV or Parquet; a row per outlet, or `merchant_id, country, n_sites`), the root folder of a 1A
bundle, a folder of policies, or one policy file; policies stand for the catalogue that they synthesise. Five of the
seven gates are decided by outlets per country, so a catalogue that is hopeless is told so here, in about a second.
Policies are judged by their own denylist, market prior and gates; a catalogue by those of `--config`.

Candidates are ranked: by grade in reach; by distance to B+ and B (how far failing rows are outside, relative to their
bounds; `-`, or null, if one cannot be computed); then by how far inside their bounds the tightest rows are. The best
two that can reach B are shortlisted; one with the counts and the rank of another is a copy of it and is not. Many
policies are judged by their quotas per country; a catalogue is synthesised only for those that reach the shortlist. A
grade by quotas alone is not proven (`?`): intervals and the largest merchant's share are not known, and margins compare
what quotas decide.

`--least-change` looks for how few outlets would have to be added or removed, and in which countries, to reach B and
B+, and says which gates cost them (outlets saved if that threshold were .01 milder). The change is made to merchants in
proportion, and evenly (an outlet from each in turn; new merchants where outlets are added); both results are screened,
and what still fails is named. A smaller change may exist, and that none was found does not prove that there is none. It
takes some seconds, up to a minute for a catalogue far from any market.

Examples:

    seg1b screen outlets.csv

    seg1b screen a.parquet b.parquet bundle/ --json

    seg1b screen s2.country_shares.yaml --require B+

    seg1b screen outlets.csv --least-change

Exit codes: 0 screened · 3 no candidate can reach `--require` (default: none) · 2 bad input.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("screen", help=HELP)(screen)


def screen(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Candidates.", show_default=False)],
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=LARGEST_SEED, metavar="N", help="Seed of catalogues synthesised from policies."
        ),
    ] = 42,
    least_change: Annotated[
        bool, typer.Option("--least-change", help="Also the least change of counts that reaches B, and B+.")
    ] = False,
    require: RequireGrade = Require.NONE,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("screen", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b.lanes import screen as lane
        from seg1b.world.bundle import load_world

        earth = load_world(world)
        helps = least_change or lane.store_helps(files, policies, earth)
        store = existing_store(runs) if helps else None
        candidates = lane.load_candidates(files, policies, earth, store, seed=seed)
        facts = lane.country_facts(earth, policies, store)
        rows = lane.screen(candidates, policies, facts)
        repairs = {}
        if least_change:
            from seg1b.lanes.repair import repairs_of, target_shares

            shares = None
            if any(one.policies is None for one in candidates):  # policies bring their own
                shares = target_shares(policies, earth, store)
            repairs = {one.name: repairs_of(one, policies, facts, shares) for one in candidates}
        if as_json:
            told = [row.facts() for row in rows]
            for row in told:
                if row["name"] in repairs:
                    row["least_change"] = [repair.facts() for repair in repairs[row["name"]]]
            session.emit({"candidates": told})
        else:
            show(session, rows)
            for name, found in repairs.items():
                show_repairs(session, name, found)
        if not any(reaches(row.reachable, require) for row in rows):
            raise typer.Exit(BELOW)


def existing_store(runs: Path) -> Store | None:
    """The store, if there is one already; a command that only reads never makes one."""
    if not (runs / "FORMAT").is_file():
        return None
    from seg1b.store.store import Store

    return Store.open(runs, create=False)


def show(session: Session, rows: Sequence[Screened]) -> None:
    """Ranking, then every candidate's rows that fail."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="reachable grade, from counts alone",
        title_justify="left",
    )
    for name in ("candidate", "reachable", "to B", "to B+", "merchants", "outlets", "shortlist"):
        left = name in ("candidate", "reachable", "shortlist")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for row in rows:
        away = [row.feasibility.distance_to(grade) for grade in ("B", "B+")]
        table.add_row(
            row.name, row.reachable + ("" if row.proven else " ?"),
            *("-" if math.isinf(distance) else f"{distance:.3f}" for distance in away),
            f"{row.merchants:,}", f"{row.sites:,}", "yes" if row.shortlisted else "",
        )  # fmt: skip
    session.show(table)
    for row in rows:
        show_lacks(session, row)
        for note in row.notes():
            session.item(note)


def show_lacks(session: Session, row: Screened) -> None:
    """What one candidate lacks, the rows that decide B first."""
    if not row.lacks:
        decided = "counts" if row.proven else "quotas"
        session.line(f"{row.name}: every gate that {decided} decide holds for B+", style="green")
        return
    for grade, title in (("B", "cannot reach B"), ("B+", "what B+ needs besides" if row.reachable == "below_B"
                                                   else "can reach B, but not B+")):  # fmt: skip
        lacks = [lack for lack in row.lacks if lack.grade == grade]
        if lacks:
            session.line(f"{row.name}: {title}", style="bold red" if grade == "B" else "bold yellow")
        for lack in lacks:
            session.item(lack.text)


def show_repairs(session: Session, name: str, repairs: Sequence[Repair]) -> None:
    """What to add and to remove for each grade."""
    for repair in repairs:
        if not repair.found:
            session.line(
                f"{name}: no change of counts that reaches {repair.grade} was found", style="bold red"
            )
            session.item(f"failing now: {', '.join(repair.unmet)}")
            continue
        if repair.moved:
            session.line(
                f"{name}: {repair.grade} takes about {repair.moved:,} outlets: {repair.added:,} added and "
                f"{repair.removed:,} removed",
                style="bold",
            )
        else:
            session.line(f"{name}: {repair.grade} needs no change of counts", style="green")
        for title, rows in (("add", repair.add), ("remove", repair.remove)):
            if rows:
                head = ", ".join(f"{iso} {count:,}" for iso, count in rows[:12])
                rest = f" and {len(rows) - 12} more countries" if len(rows) > 12 else ""
                session.item(f"{title} {head}{rest}")
        for gate, saved in repair.prices.items():
            session.item(f"{gate} costs: .01 milder would save about {saved:,.0f} outlets")
        if repair.unmet:
            session.item(f"and still to be met in another way: {', '.join(repair.unmet)}")
        elif repair.moved:
            session.item(
                "made to merchants in proportion, and evenly, and screened: every gate that counts decide holds"
            )
