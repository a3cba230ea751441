"""`seg1b witness`: make a published run again and compare every digest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seg1b.cli.options import Config, ExecutorName, Json, Runs, WorldDirectory
from seg1b.cli.runtime import LIES, load_policies, running

HELP = """Make a published run again from its identity, from nothing, and compare the digest of every output.

Keys say that inputs, policies and code are the same; this says that the same came out. Nothing of the first run is
read but its receipt (and a catalogue that you brought). The run had policies: give their folder with `--config` if they
are not the packaged ones. The witness leaves a receipt, and times of a run that reused nothing for `seg1b perf`.

Examples:

    seg1b witness 8c41f0

    seg1b witness 8c41f0 --config ./mine --json

Exit codes: 0 the same · 4 something differs (it is named) · 2 no such run, pruned, or other policies, world or code.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("witness", help=HELP)(witness)


def witness(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run, a prefix of it, or last_good, candidate, baseline.",
            show_default=False,
        ),
    ],
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    executor: Annotated[ExecutorName, typer.Option(help="Who runs the tasks.")] = ExecutorName.SERIAL,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPUs of a local Ray.")] = None,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("witness", as_json=as_json) as session:
        policies = load_policies(session, config)
        from seg1b import api
        from seg1b.lanes.stored_run import named_run
        from seg1b.lanes.witness import witness as lane
        from seg1b.store.store import Store
        from seg1b.world.bundle import load_world

        with Store.open(runs, create=False) as store:
            run_id = named_run(store, run)
            session.open_log(store.root)
            chosen, _ = api.choose_executor(executor.value, workers=workers)
            with session.err.status(f"making run {run_id[:12]} again"):
                found = lane(store, policies, load_world(world), run_id, executor=chosen)
        if as_json:
            session.emit(
                {
                    "same": found.same,
                    "run_id": found.of,
                    "witness_run_id": found.run_id,
                    "seed": found.seed,
                    "digests_compared": found.compared,
                    "differences": [vars(one) for one in found.differences],
                    "wall_s": found.wall_s,
                }
            )
        else:
            verdict = "the same" if found.same else f"{len(found.differences)} differ"
            session.line(
                f"{verdict}: {found.compared} digests of run {found.of[:12]} (seed {found.seed}), made again as "
                f"{found.run_id[:12]} in {found.wall_s:.1f} s",
                style="bold green" if found.same else "bold red",
            )
            for one in found.differences:
                session.item(
                    f"{one.state} {one.name}: published {one.published[:16]}, again {one.again[:16]}"
                )
        if not found.same:
            raise typer.Exit(LIES)
