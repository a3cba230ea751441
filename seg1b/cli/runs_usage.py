"""`seg1b runs du`: who holds what of the run store, in bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg1b.cli.options import Config, Json, Runs
from seg1b.cli.runtime import Session, load_policies, running
from seg1b.report.wording import size_text

if TYPE_CHECKING:
    from seg1b.policy.retention import RetentionPolicy
    from seg1b.store.usage import Usage

DU_HELP = """Who holds what: bytes by state and by holder, and what may go. Changes nothing.

`reached` is all that a holder keeps alive, `its own` what would go if it alone let go. `--items` lists every output.
The last line says how far the store is from the cap of retention.yaml (`--config`), which counts all that pruning
leaves: what is held, certification packs, logs and records. Beyond it no certification and no tuning starts.

Examples:

    seg1b runs du

    seg1b runs du --items --json

Exit codes: 0 shown · 2 there is no store, or the policies cannot be read.
"""


def du(
    runs: Runs = Path("runs"),
    config: Config = None,
    items: Annotated[bool, typer.Option("--items", help="Every output, run and lease by itself.")] = False,
    as_json: Json = False,
) -> None:
    """See DU_HELP."""
    with running("runs du", as_json=as_json) as session:
        from seg1b.store.store import Store
        from seg1b.store.usage import usage

        policy = load_policies(session, config).retention
        with Store.open(runs, create=False) as store:
            plan = store.retention.plan()
            found = usage(plan, store.root)
        everything = sorted((*plan.live, *plan.collectable), key=lambda item: -item.length_bytes)
        if as_json:
            facts = {
                "total_bytes": found.total_bytes,
                "live_bytes": found.live_bytes,
                "collectable_bytes": found.collectable_bytes,
                "other_bytes": found.beside.other_bytes,
                "temporary_bytes": found.beside.temporary_bytes,
                "kept_bytes": found.kept_bytes,
                "caps": {**policy.model_dump(), "left_bytes": policy.live_bytes_max - found.kept_bytes},
                "states": [dataclasses.asdict(row) for row in found.states],
                "holders": [dataclasses.asdict(row) for row in found.holders],
                "certifications": [{"cert_id": name, "bytes": size} for name, size in found.beside.packs],
            }
            if items:
                facts["items"] = [dataclasses.asdict(item) for item in everything]
            session.emit(facts)
            return
        _show_usage(session, found)
        _show_caps(session, found, policy)
        if items:
            for item in everything:
                held = ", ".join(item.held_by) or "nobody"
                size = f"{size_text(item.length_bytes):>10}"
                session.line(f"{size}  {item.kind:<7} {item.state:<4} {item.name[:16]}  {held}", indent=43)


def _show_usage(session: Session, found: Usage) -> None:
    """Two tables and a list."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, title=f"{size_text(found.total_bytes)} in the store", title_justify="left"
    )
    for name in ("outputs of", "held", "bytes", "free to go", "bytes "):
        table.add_column(name, justify="left" if name == "outputs of" else "right")
    for row in found.states:
        free = (str(row.free), size_text(row.free_bytes)) if row.free else ("", "")
        table.add_row(row.name, str(row.held), size_text(row.held_bytes), *free)
    session.show(table)
    if found.holders:
        table = Table(box=box.SIMPLE_HEAD, title="who holds it", title_justify="left")
        for name in ("holder", "items", "reached", "its own"):
            table.add_column(name, justify="left" if name == "holder" else "right", overflow="fold")
        for holder in sorted(found.holders, key=lambda one: (-one.own_bytes, one.name)):
            table.add_row(
                holder.name, str(holder.items), size_text(holder.reached_bytes), size_text(holder.own_bytes)
            )
        session.show(table)
    beside = found.beside
    for what, text in (
        ("certification packs", f"{size_text(beside.packs_bytes)} ({len(beside.packs)})"),
        ("logs and records", size_text(beside.other_bytes)),
        ("temporary files", size_text(beside.temporary_bytes)),
        ("free to go", f"{size_text(found.collectable_bytes)}; `seg1b runs prune` removes it"),
    ):
        session.line(f"{what:<20} {text}")


def _show_caps(session: Session, found: Usage, policy: RetentionPolicy) -> None:
    """How far the store is from what it may hold."""
    left_bytes = policy.live_bytes_max - found.kept_bytes
    distance = (
        f"{size_text(left_bytes)} left"
        if left_bytes >= 0
        else f"{size_text(-left_bytes)} too much: no run starts"
    )
    session.line(
        f"caps: pruning leaves {size_text(found.kept_bytes)} of at most {size_text(policy.live_bytes_max)}, "
        f"{distance}; before a run it also keeps the {policy.keep_newest_runs} newest runs, as far as they fit",
        indent=6,
    )
