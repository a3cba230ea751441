"""`seg1b tune`: try knobs on one seed. It never certifies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg1b.cli.options import LARGEST_SEED, Config, ExecutorName, Json, Runs, WorldDirectory
from seg1b.cli.runtime import BELOW, Session, load_policies, running
from seg1b.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seg1b.lanes.tune_result import TuneResult
    from seg1b.policy.knobs import Settings

HELP = """Try knobs on one seed: rerun from the first changed state on, score, and compare every gate. Never certifies.

A knob is named as `seg1b config show` names it, or shorter: `s6.component_weights.sparse_tail` is the weight in the
block that s6.mode switches on. Shares of a mix that you do not name are rescaled, and shown. `--against` names what to
compare with: last_good, baseline, candidate or a run; by default the same seed under the unchanged policies. What
changed is a candidate of the open wave. A wave takes two: then `seg1b wave keep RUN` or `seg1b wave drop`.

A gate is *better*, *worse*, the *same*, or a *veto*: what held for B, here or in the pinned baseline, holds no more, by
its own gates or by those of what it is compared with, or a metric is worse than a locked phase's. So a milder gate
excuses nothing. What changes nothing, such as a knob of a mode that is off, is refused.

Examples:

    seg1b tune --seed 42 --set s6.component_weights.sparse_tail=0.01

    seg1b tune --set s4.sites_per_area=6 --against last_good --json

    seg1b tune --set gates.top1_share.b=0.09 --set gates.top1_share.b_plus=0.07

    seg1b tune --recover --set s6.core_sd_tile=0.12        (only after `seg1b integrate` said AMBER_NEAR_BPLUS)

Exit codes: 0 compared · 3 vetoed · 2 bad input, a full wave, a locked phase, a state that is RED (`seg1b perf check`)
or a store that somebody else tunes: then nothing has changed; or a store beyond its cap (`seg1b runs du`).
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tune", help=HELP)(tune)


def tune(
    knobs: Annotated[
        list[str], typer.Option("--set", metavar="KNOB=VALUE", help="A knob (repeat for more).")
    ],
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, metavar="N", help="The seed.")] = 42,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="last_good, baseline, candidate or a run.")
    ] = None,
    recover: Annotated[
        bool, typer.Option("--recover", help="An attempt of the recovery loop, from the integrated run.")
    ] = False,
    waive_perf: Annotated[
        str | None, typer.Option("--waive-perf", metavar="REASON", help="Why a state that is RED may wait.")
    ] = None,
    runs: Runs = Path("runs"),
    config: Config = None,
    world: WorldDirectory = None,
    catalogue: Annotated[Path | None, typer.Option(metavar="FILE|DIR", help="Your own catalogue.")] = None,
    executor: Annotated[ExecutorName, typer.Option(help="Who runs the tasks.")] = ExecutorName.THREADS,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPUs of a local Ray.")] = None,
    address: Annotated[str | None, typer.Option(metavar="ADDR", help="Join a running Ray.")] = None,
    as_json: Json = False,
) -> None:
    """See HELP."""
    with running("tune", as_json=as_json, resumable=True) as session:
        policies = load_policies(session, config)
        overrides = parse_overrides(knobs)
        from seg1b import api
        from seg1b.lanes.knob_effect import settled

        compares = against is not None or recover
        if not recover:  # an attempt begins with the integrated run's knobs, which the store knows
            settings, _ = settled(policies, overrides, catalogue=catalogue, compares_with_a_run=compares)
            note_knobs(session, settings)
        from seg1b.cli.progress import watching
        from seg1b.lanes.tune import tune as run_lane
        from seg1b.store.store import Store
        from seg1b.world.bundle import load_world

        runner, why = api.choose_executor(executor.value, workers=workers, address=address)
        earth = load_world(world)
        with (
            api.checked_catalogue(catalogue, earth) as brought,
            Store.open(runs, create=not compares) as store,
        ):
            session.open_log(store.root)
            session.note("executor", f"{runner.name} ({why})")
            with watching(session, [seed]) as observer:
                result = run_lane(
                    store, policies, earth, seed=seed, overrides=overrides, against=against, recover=recover,
                    waive_perf=waive_perf, bundle=brought, executor=runner, observer=observer,
                )  # fmt: skip
        if recover:
            note_knobs(session, result.settings)
        for text in result.notes:
            session.note("note", text)
        if as_json:
            session.emit(facts(result))
        else:
            show(session, result, policies.lanes.wave_candidates_max)
        if result.vetoed:
            raise typer.Exit(BELOW)


def note_knobs(session: Session, settings: Settings) -> None:
    """Every knob that changes, and whether somebody asked for it."""
    for change in settings.changes:
        how = "as asked" if change.asked else "rescaled, so that they sum to 1"
        session.note("knob", f"{change.knob}  {change.before} -> {change.after}  ({how})")


def parse_overrides(knobs: Sequence[str]) -> dict[str, Any]:
    """Values by knob from `KNOB=VALUE`. Raises InputError E_OPTION_SET, or E_POLICY_* for the value."""
    from seg1b.policy.load import parse_value

    found: dict[str, Any] = {}
    for text in knobs:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(
                "E_OPTION_SET", f"{text!r} is not of the form KNOB=VALUE", where=f"--set {text}",
                next_step="write for example `--set s4.two_stage.sites_per_area=6`",
            )  # fmt: skip
        if name.strip() in found:
            raise InputError(
                "E_OPTION_SET", f"{name.strip()} is set twice", where=f"--set {text}",
                next_step="give each knob one value; to try two values, tune twice: a wave takes two candidates",
            )  # fmt: skip
        found[name.strip()] = parse_value(value)
    return found


def facts(result: TuneResult) -> dict[str, Any]:
    """The result as plain JSON values."""
    return {
        "run_id": result.run_id,
        "changed": list(result.changed),
        "reran": list(result.reran),
        "reused": list(result.reused),
        "gates": [
            {
                "name": row.name, "before": row.before, "after": row.after, "b": _finite(row.b),
                "b_plus": _finite(row.b_plus), "verdict": row.verdict, "op": row.op,
                "margin_before": _finite(row.margin_before), "margin": _finite(row.margin),
                "reach_before": row.reach_before or None, "reach": row.reach,
                "band": None if row.band is None else list(row.band), "held_to": row.held_to,
            }
            for row in result.gates
        ],
        "wall_s": result.wall_s,
        "seed": result.seed,
        "settings": [
            {"knob": c.knob, "before": c.before, "after": c.after, "asked": c.asked} for c in result.settings.changes
        ],
        "against": {"name": result.against.name, "run_id": result.against.run_id},
        "reasons": [
            {"state": r.state, "because": list(r.because), "key_before": r.key_before, "key_after": r.key_after}
            for r in result.reasons
        ],
        "besides": {name: list(both) for name, both in result.besides.items()},
        "found": list(result.found),
        "status_before": result.standing_before.status,
        "status_after": result.standing.status,
        "vetoed": result.vetoed,
        "lost": list(result.lost),
        "lost_to_locks": list(result.standing.lost_to_locks),
        "lost_to_baseline": list(result.standing.lost_to_baseline),
        "wave": None if result.wave is None else {
            "wave_id": result.wave["wave_id"],
            "candidates": [one["run_id"] for one in result.wave["candidates"]],
        },
        "notes": list(result.notes),
    }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def show(session: Session, result: TuneResult, at_most: int) -> None:
    """What ran and why, then every gate, then what to do with the candidate, one of `at_most` in its wave."""
    from seg1b.report.wording import counted

    for reason in result.reasons:
        keys = f"{reason.key_before[:8] or '-':>8} -> {reason.key_after[:8]}"
        session.listed(f"{reason.state:<4} {reason.title:<20} {keys}", reason.because)
    if result.reasons:
        session.line(f"ran    {', '.join(result.reran) or 'nothing'}", indent=7)
        if result.found:
            session.line(f"found  {', '.join(result.found)}: made before", indent=7)
        session.line(f"reused {', '.join(result.reused)}", indent=7)
    else:
        session.line("nothing changed: every key is the same, and no receipt was written")
    if all(row.verdict == "same" and row.before == row.after for row in result.gates):
        session.line(f"no gate moved: all {len(result.gates)} are what they were")
    else:
        session.show(_table(result))
    who = result.against.name + (f" {result.against.run_id[:12]}" if result.against.run_id else "")
    counts = {
        name: sum(row.verdict == name for row in result.gates) for name in ("better", "worse", "same", "veto")
    }
    session.line(f"against {who}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    session.line(f"status {result.standing_before.status} -> {result.standing.status}")
    if result.lost:
        session.line("VETOED: lost " + ", ".join(result.lost), style="bold red")
    for row in result.gates:
        if row.held_to is not None:
            session.line(
                f"{row.name} is {_short(row.after)}: its own gate holds, the reference's, {row.held_to:.4g}, does not"
            )
    for whose, lost in (
        ("a locked phase", result.standing.lost_to_locks),
        ("the pinned baseline", result.standing.lost_to_baseline),
    ):
        if lost:
            session.line(f"held in {whose}, not here: {', '.join(lost)}")
    session.line(f"run {result.run_id[:12]}, {result.wall_s:.1f} s")
    if result.wave is not None:
        kept = "" if result.vetoed else f"`seg1b wave keep {result.run_id[:12]}` keeps it, "
        session.line(
            f"{result.wave['wave_id']} has {len(result.wave['candidates'])} of {counted(at_most, 'candidate')}: "
            f"{kept}`seg1b wave drop` drops all"
        )


def _table(result: TuneResult) -> Any:
    """Every gate in 80 columns, with the room that is left to B; structural checks that all held are one row."""
    from rich.table import Table

    from seg1b.report.terminal import short_name
    from seg1b.report.wording import grade_text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("gate", "before", "after", "B+ (B)", "room", "verdict"):
        table.add_column(
            name,
            justify="left" if name in ("gate", "verdict") else "right",
            no_wrap=name != "gate",
            overflow="fold",
        )
    styles = {"better": "green", "worse": "yellow", "veto": "bold red", "same": "dim"}
    sound = [
        row for row in result.gates if row.name.startswith("structural.") and row.before == row.after == 0
    ]
    for row in result.gates:
        if row in sound and row is not sound[0]:
            continue
        name = f"structural ({len(sound)} checks)" if row in sound else short_name(row.name)
        both = f" ({row.b:.3g})" if row.b != row.b_plus else ""
        limit = f"{'≤' if row.op == '<=' else '≥'} {row.b_plus:.3g}{both}"
        margin = "-" if row.margin is None else f"{row.margin:+.2g}"
        verdict = row.verdict.upper() if row.lost else row.verdict
        if row.reach_before not in ("", row.reach) and not row.lost:
            verdict += f", now {grade_text(row.reach)}"
        cells = (
            name.removesuffix("@placement"),
            _short(row.before),
            _short(row.after),
            limit,
            margin,
            verdict,
        )
        table.add_row(*cells, style=styles[row.verdict])
    return table


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}"
    return f"{value:.2g}" if "e" in text or len(text) > len("0.001234") else text
