"""`seg1b tune`: try knobs on one seed. It never certifies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg1b.cli.options import Config, ExecutorName, Json, Runs, WorldDirectory
from seg1b.cli.runtime import BELOW, Session, load_policies, running
from seg1b.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seg1b.lanes.tune import TuneResult

HELP = """Try knobs on one seed: rerun from the first changed state on, score, and compare every gate.

The reference is the same seed under the unchanged policies. It never certifies. Knobs are named as `seg1b config
show` names them; several are checked together, so weights may change in one go. Knobs of shares and synthesis (s2s,
synthesis) are refused together with a catalogue of your own.

Examples:

    seg1b tune --seed 42 --set s4.two_stage.sites_per_area=6

    seg1b tune --seed 42 --set s6.cluster_v3.component_weights.core=0.6
    --set s6.cluster_v3.component_weights.secondary=0.2 --json

Exit codes: 0 compared · 3 vetoed: a B gate or counter-metric that held was lost · 2 bad input.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tune", help=HELP)(tune)


def tune(
    knobs: Annotated[
        list[str], typer.Option("--set", metavar="KNOB=VALUE", help="A knob (repeat for more).")
    ],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The seed.")] = 42,
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    catalogue: Annotated[Path | None, typer.Option(metavar="FILE|DIR", help="Your own catalogue.")] = None,
    executor: Annotated[ExecutorName, typer.Option(help="Who runs the tasks.")] = ExecutorName.SERIAL,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPUs of a local Ray.")] = None,
    address: Annotated[str | None, typer.Option(metavar="ADDR", help="Join a running Ray.")] = None,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("tune", as_json=as_json, resumable=True) as session:
        policies = load_policies(session, config)
        overrides = parse_overrides(knobs)
        from seg1b import api
        from seg1b.cli.progress import watching
        from seg1b.lanes.tune import tune as run_lane
        from seg1b.policy.load import set_values
        from seg1b.store.store import Store
        from seg1b.world.bundle import load_world

        set_values(policies, overrides)
        api.check_tune_effect(overrides, catalogue)
        runner, why = api.choose_executor(executor.value, workers=workers, address=address)
        earth = load_world(world)
        with api.checked_catalogue(catalogue, earth) as brought, Store.open(runs) as store:
            session.open_log(store.root)
            session.note("executor", f"{runner.name} ({why})")
            bundle = None if brought is None else api.seal_into(store, policies, brought)
            with watching(session, [seed]) as observer:
                result = run_lane(
                    store, policies, earth, seed=seed, overrides=overrides, bundle=bundle, executor=runner,
                    observer=observer,
                )  # fmt: skip
        if as_json:
            session.emit(facts(result))
        else:
            show(session, result)
        if result.vetoed:
            raise typer.Exit(BELOW)


def parse_overrides(knobs: Sequence[str]) -> dict[str, Any]:
    """Values by knob from `KNOB=VALUE`. Raises InputError E_OPTION_SET, or E_POLICY_* for the value."""
    from seg1b.policy.load import parse_value

    found: dict[str, Any] = {}
    for text in knobs:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or name.strip() in found:
            problem = "is set twice" if name.strip() in found else "is not of the form KNOB=VALUE"
            raise InputError(
                "E_OPTION_SET",
                f"{text!r} {problem}",
                where="--set",
                next_step="--set s4.two_stage.sites_per_area=6",
            )
        found[name.strip()] = parse_value(value)
    return found


def facts(result: TuneResult) -> dict[str, Any]:
    """The result as plain JSON values."""
    return {
        "run_id": result.run_id,
        "seed": result.seed,
        "overrides": result.overrides,
        "reran": list(result.reran),
        "reused": list(result.reused),
        "status_before": result.before.status,
        "status_after": result.after.status,
        "vetoed": result.vetoed,
        "gates": [
            {
                "name": row.name, "before": row.before, "after": row.after, "op": row.op, "b": _finite(row.b),
                "b_plus": _finite(row.b_plus), "verdict": row.verdict,
            }
            for row in result.gates
        ],
        "wall_s": result.wall_s,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def show(session: Session, result: TuneResult) -> None:
    """The readable comparison."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("gate", "before", "after", "limits", "verdict"):
        table.add_column(name, justify="right" if name in ("before", "after") else "left", overflow="fold")
    styles = {"better": "green", "worse": "yellow", "veto": "bold red", "same": "dim"}
    for row in result.gates:
        bounds = ["-" if _finite(value) is None else f"{value:.4g}" for value in (row.b, row.b_plus)]
        band, gate = f"{bounds[0]} .. {bounds[1]}", f"{row.op} {bounds[0]} (B+ {bounds[1]})"
        limits = band if row.op == "in" else gate
        numbers = ["-" if value is None else f"{value:.5g}" for value in (row.before, row.after)]
        table.add_row(row.name, *numbers, limits, row.verdict, style=styles[row.verdict])
    session.show(table)
    session.line(
        f"reran {', '.join(result.reran) or 'nothing'}; status {result.before.status} -> {result.after.status}"
    )
    session.line(f"run {result.run_id[:12]}, {result.wall_s:.1f} s" + ("; VETOED" if result.vetoed else ""))
