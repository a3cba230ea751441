"""`seg1b catalogue synth|check`: make an outlet catalogue, or judge one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg1b.cli.options import LARGEST_SEED, Config, Json, Require, RequireGrade, Runs, WorldDirectory, reaches
from seg1b.cli.runtime import BELOW, Session, load_policies, running, writing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table as RichTable

    from seg1b.catalogue.guard import GuardReport

SYNTH_HELP = """Synthesise the catalogue of a seed and write it as a 1A bundle, with its passed flag and evidence.

Country shares are taken from the run store if it has them, else projected now; nothing is written but DIR.

Examples:

    seg1b catalogue synth --seed 42 --out bundle

    seg1b catalogue synth --seed 7 --config ./mine --out mine-7 --json

Exit codes: 0 written · 2 bad policies or world, or DIR is not empty or cannot be written; then nothing is left.
"""

CHECK_HELP = """Check a catalogue: its contract row by row, the 1A guard's 14 metrics, and what it can reach.

PATH is a CSV or Parquet file, or the root folder of a 1A bundle. A file carries no 1A evidence, so its guard is
`not_applicable`; of a 1A bundle the guard asks it all.

Examples:

    seg1b catalogue check outlets.csv

    seg1b catalogue check bundle --require B+ --json

Exit codes: 0 sound · 2 the contract is broken (the row is named) · 3 the guard fails it, or it cannot reach
`--require`.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make an outlet catalogue, or judge one.", no_args_is_help=True)
    group.command("synth", help=SYNTH_HELP)(synth)
    group.command("check", help=CHECK_HELP)(check)
    app.add_typer(group, name="catalogue")


def synth(
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, metavar="N", help="Seed of the synthesis.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder.")],
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    as_json: Json = False,
) -> None:
    """See SYNTH_HELP."""
    with running("catalogue synth", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b.catalogue.bundle import write_synthesis
        from seg1b.catalogue.synthesise import synthesise
        from seg1b.catalogue.verify import verify_bundle
        from seg1b.cli.screen_command import existing_store
        from seg1b.errors import InputError
        from seg1b.lanes.screen import shares_of
        from seg1b.world.bundle import load_world

        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(
                "E_BUNDLE_EXISTS", "a bundle is written into a new or empty folder only", where=str(out),
                next_step="name another folder",
            )  # fmt: skip
        earth = load_world(world)
        shares = shares_of(policies, earth, existing_store(runs))
        made = synthesise(earth.countries, shares, policies.synthesis, seed)
        with writing(out):
            write_synthesis(out, made, shares, policies.country_shares, earth.digest)
        receipt = verify_bundle(out)
        catalogue = made.catalogue
        facts: dict[str, Any] = {
            "path": str(out),
            "seed": seed,
            "merchants": len(catalogue.merchant_start),
            "pairs": catalogue.pair_count,
            "outlets": catalogue.site_count,
            "countries": int((catalogue.sites_per_country() > 0).sum()),
            "catalogue_digest": receipt.content_sha256_hex,
            "manifest_fingerprint": receipt.lineage.manifest_fingerprint,
        }
        if as_json:
            session.emit(facts)
        else:
            for name, value in facts.items():
                session.line(f"{name:<21} {value:,}" if isinstance(value, int) else f"{name:<21} {value}")


def check(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A file, or a bundle's root.", show_default=False)
    ],
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    require: RequireGrade = Require.B,
    as_json: Json = False,
) -> None:
    """See CHECK_HELP."""
    with running("catalogue check", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b import api
        from seg1b.catalogue.guard import as_json as guard_json
        from seg1b.catalogue.guard import guard_bundle
        from seg1b.catalogue.guard_authority import decide
        from seg1b.catalogue.verify import catalogue_of, read_runs, verify_bundle
        from seg1b.cli.screen_command import existing_store, show_lacks
        from seg1b.lanes import screen as lane
        from seg1b.lanes.guard import pinned_authority
        from seg1b.world.bundle import load_world

        earth = load_world(world)
        store = existing_store(runs)
        facts = lane.country_facts(earth, policies, store)
        with api.checked_catalogue(path, earth) as bundle:
            assert bundle is not None
            receipt = verify_bundle(bundle)
            rows = read_runs(receipt)
            guard = guard_bundle(rows, receipt, policies.guard)
            catalogue = catalogue_of(rows, receipt, earth.countries.iso)
        row = lane.screen_one(lane.Candidate(str(path), "bundle", catalogue), policies, facts)
        pinned = None if store is None else pinned_authority(store, policies)
        decision = decide(guard, policies.guard, pinned)
        verdict = decision.verdict
        if as_json:
            session.emit({
                "path": str(path),
                "contract": {"ok": True, "catalogue_digest": receipt.content_sha256_hex},
                "guard": {"verdict": verdict, "checks": decision.checks, **guard_json(guard)},
                "screen": row.facts(),
            })  # fmt: skip
        else:
            session.line(
                f"contract   holds: {row.merchants:,} merchants, {row.sites:,} outlets", style="green"
            )
            show_guard(session, guard, verdict)
            session.line(f"reachable  {row.reachable}", style="green" if row.reachable == "B+" else "bold")
            show_lacks(session, row)
        if verdict == "FAIL" or not reaches(row.reachable, require):
            raise typer.Exit(BELOW)


def show_guard(session: Session, guard: GuardReport, verdict: str) -> None:
    """The 14 metrics with their bands."""
    session.line(
        f"1A guard   {verdict}" + (f": {guard.reason}" if guard.reason else f", grade {guard.grade}")
    )
    session.show(metric_table(guard))


def metric_table(guard: GuardReport, held_before: Mapping[str, bool] | None = None) -> RichTable:
    """The 14 metrics with their bands; `held_before`: whether the authority was inside B."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    before = ["authority"] if held_before is not None else []
    for name in ("metric", "value", "B band", "B+ band", "holds for", *before):
        left = name in ("metric", "holds for", "authority")
        table.add_column(name, justify="left" if left else "right", overflow="fold", no_wrap=name != "metric")
    for name, metric in guard.metrics.items():
        holds = "B+" if metric.b_plus_pass and metric.b_pass else "B" if metric.b_pass else "-"
        value = "-" if metric.value is None else f"{metric.value:.4g}"
        row = [name.replace("_", " "), value, _band(metric.bands.b), _band(metric.bands.b_plus), holds]
        lost = held_before is not None and held_before[name] and not metric.b_pass
        if held_before is not None:
            row.append("inside B" if held_before[name] else "-")
        table.add_row(*row, style="red" if lost else None)
    return table


def _band(band: Any) -> str:
    if band.max is None:
        return f">= {band.min:g}"
    return f"<= {band.max:g}" if band.min is None else f"{band.min:g} .. {band.max:g}"
