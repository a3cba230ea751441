"""`seg1b controls`: worlds that must fail, each at the gate made for it."""

from __future__ import annotations

from typing import Annotated

import typer

from seg1b.cli.options import LARGEST_SEED, Config, Json, WorldDirectory
from seg1b.cli.runtime import INTERNAL, load_policies, running

HELP = """Negative controls: made from one honest seed in memory, each must fail the gate made for it.

Uniform scatter, one cluster, shuffled and equal countries, empty desert, one merchant, duplicated points, and the
first engine's placement (its real largest-remainder kernel besides a model of it). The honest placement must pass.
Nothing is written.

Examples:

    seg1b controls

    seg1b controls --seed 7 --json

Exit codes: 0 every control fails what it must · 1 one does not: a gate is blind.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("controls", help=HELP)(controls)


def controls(
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, metavar="N", help="Seed of the honest placement.")
    ] = 42,
    config: Config = None,
    world: WorldDirectory = None,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("controls", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b.lanes.controls import run_controls
        from seg1b.store.plain import plain
        from seg1b.world.bundle import load_world

        with session.err.status("the world") as status:
            rows = run_controls(
                policies,
                load_world(world),
                seed=seed,
                watcher=lambda name, done, total: status.update(f"{name} ({done} of {total})"),
            )
        held = all(row.ok for row in rows)
        if as_json:
            session.emit({"ok": held, "seed": seed, "controls": plain(rows)})
        else:
            from rich import box
            from rich.table import Table

            table = Table(box=box.SIMPLE_HEAD)
            for name in ("control", "must fail", "also failed", "verdict"):
                table.add_column(name, overflow="fold")
            for row in rows:
                also = [name for name in row.failed if name not in row.must_fail]
                verdict = "[green]as it must[/]" if row.ok else "[bold red]NOT SEEN[/]"
                table.add_row(row.control, "\n".join(row.must_fail) or "nothing", ", ".join(also), verdict)
            session.show(table)
            session.line(
                "every control fails what it must" if held else "a gate is blind", "green" if held else "red"
            )
        if not held:
            raise typer.Exit(INTERNAL)
