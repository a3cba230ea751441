"""`seg1b certify`: run the whole chain for every seed and publish a graded certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg1b.cli.options import Config, ExecutorName, Json, Require, RequireGrade, Runs, WorldDirectory, reaches
from seg1b.cli.runtime import BELOW, Session, load_policies, running

if TYPE_CHECKING:
    from seg1b.lanes.certify import CertifyResult
    from seg1b.policy.load import Policies
    from seg1b.world.content import World

HELP = """Run the ten states for every seed, score them, and publish a graded certificate.

Without `--catalogue` every seed synthesises its own outlet catalogue. What is already in the run store is used again,
so an interrupted run goes on where it stopped, and certifying the same inputs again finds the same certificate.

Examples:

    seg1b certify

    seg1b certify --runs /data/runs --require B+

    seg1b certify --catalogue outlets.csv --require none --json > certificate.json

    seg1b certify --executor ray --address 10.0.0.5:6379

Exit codes: 0 the grade reaches `--require` · 2 bad input, or a store beyond its cap (`seg1b runs du`) · 3 below it ·
1 internal · 130 interrupted.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("certify", help=HELP)(certify)


def certify(
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR", help="Your own catalogue: Parquet or CSV, or the root of a 1A bundle."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", help="Run only this seed (repeat for more). A grade needs all of the policy's."
        ),
    ] = None,
    executor: Annotated[ExecutorName, typer.Option(help="Who runs the tasks.")] = ExecutorName.AUTO,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPUs of a local Ray.")] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="Join a running Ray: auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
    require: RequireGrade = Require.B,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("certify", as_json=as_json, resumable=True) as session:
        policies = load_policies(session, config)
        result = _certify(session, policies, runs, world, catalogue, seed, executor.value, workers, address)
        if as_json:
            session.emit({**result.certificate, "path": str(result.path), "found": result.found})
        else:
            show(session, result)
        if not reaches(result.grade, require):
            session.note("grade", f"{result.grade} is below --require {require.value}: exit code {BELOW}")
            raise typer.Exit(BELOW)


def _certify(
    session: Session,
    policies: Policies,
    runs: Path,
    world_directory: Path | None,
    catalogue: Path | None,
    seeds: list[int] | None,
    executor_name: str,
    workers: int | None,
    address: str | None,
) -> CertifyResult:
    from seg1b import api

    chosen = api.check_seeds(seeds, policies)
    executor, why = api.choose_executor(executor_name, workers=workers, address=address)
    executor.start()  # Ray takes seconds: it starts while we import what is heavy
    try:
        from seg1b.cli.progress import watching
        from seg1b.lanes.certify import certify as run_lane
        from seg1b.store.store import Store
        from seg1b.world.bundle import load_world

        world = load_world(world_directory)
        session.note("world", f"{len(world.countries)} countries, digest {world.digest[:12]}")
        with api.checked_catalogue(catalogue, world) as brought:
            if brought is not None:
                _foresee(session, brought, policies, world)
            with Store.open(runs) as store:
                session.open_log(store.root)
                session.note("executor", f"{executor.name} ({why})")
                with watching(session, chosen) as observer:
                    result = run_lane(
                        store,
                        policies,
                        world,
                        seeds=chosen,
                        bundle=brought,
                        executor=executor,
                        observer=observer,
                    )
    finally:
        executor.close()
    return result


def _foresee(session: Session, bundle: Path, policies: Policies, world: World) -> None:
    """Say before any heavy work what a user's catalogue can reach: five of the seven gates are decided by it."""
    from seg1b.lanes.screen import country_facts, load_candidate, screen_one

    row = screen_one(
        load_candidate(bundle, policies, world, seed=0), policies, country_facts(world, policies)
    )
    session.note(
        "catalogue", f"{row.merchants:,} merchants, {row.sites:,} outlets; within reach: {row.reachable}"
    )
    for lack in row.lacks:
        if lack.grade == "B" or row.reachable == "B":
            session.note("  lacks", lack.text)


def show(session: Session, result: CertifyResult) -> None:
    """The readable result."""
    from seg1b.cli.result import show_certificate

    show_certificate(session, result.certificate, result.path)
    workers = len(result.telemetry.get("tasks_per_worker", {}))
    known = "; an identical certification was there already" if result.found else ""
    session.line(
        f"{result.telemetry.get('wall_s', 0.0):.1f} s on {workers} worker{'s' if workers != 1 else ''}{known}"
    )
