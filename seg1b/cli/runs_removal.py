"""`seg1b runs prune|remove`: what nobody needs any more goes, and a certification when it is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg1b.cli.options import Json, Runs
from seg1b.cli.runtime import Session, running
from seg1b.report.wording import counted, size_text

if TYPE_CHECKING:
    from seg1b.lanes.removal import Removal
    from seg1b.store.retention import Plan

PRUNE_HELP = """Remove outputs and runs that nothing refers to. Says what would go; `--yes` removes it.

Kept is what pointers, certifications, locks, open waves, the timing baseline and running commands reach.
Certifications are never pruned: `seg1b runs remove` removes one by name. Before each certification and tuning the same
happens by itself, with the caps of retention.yaml.

Examples:

    seg1b runs prune

    seg1b runs prune --keep 8c41f0 --keep-newest 4 --yes

Exit codes: 0 done (or nothing to do) · 2 a run named with `--keep` does not exist; then nothing is removed.
"""

REMOVE_HELP = """Remove a certification by name: certificate, report, evidence and published sites. `--yes` removes it.

Without `--yes` a prefix of the id will do and nothing changes; with it the full id is needed. It is refused while a
pointer or a locked phase rests on the certification, or while another command runs. The ledger says that it went; what
it alone held may then be pruned (`seg1b runs prune`).

Examples:

    seg1b runs remove 3f2a91

    seg1b runs remove CERT_ID --yes --json

Exit codes: 0 removed (or shown) · 2 no such certification, something rests on it, or a command is running: nothing has
changed.
"""


def prune(
    runs: Runs = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only say what would go.")] = False,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Keep this run (repeat for more).")
    ] = None,
    keep_newest: Annotated[int, typer.Option(min=0, metavar="N", help="Keep the newest runs.")] = 0,
    as_json: Json = False,
) -> None:
    """See PRUNE_HELP."""
    with running("runs prune", as_json=as_json) as session:
        from seg1b.lanes.pruned import resolve_run
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            if yes:
                session.open_log(store.root)
            kept = [resolve_run(store, text) for text in keep or ()]
            plan = store.retention.prune(dry_run=not yes, keep_newest_runs=keep_newest, keep_runs=kept)
        if as_json:
            items = [
                {"kind": item.kind, "state": item.state, "name": item.name, "length_bytes": item.length_bytes}
                for item in plan.collectable
            ]
            facts = {
                "removed": plan.removed,
                "collectable": items,
                "collectable_bytes": plan.collectable_bytes,
            }
            session.emit({**facts, "live_bytes": plan.live_bytes, "live": len(plan.live)})
            return
        _show_plan(session, plan)


def _show_plan(session: Session, plan: Plan) -> None:
    for item in plan.collectable:
        session.line(
            f"  {item.kind:<8} {item.state:<4} {item.name[:16]:<16} {size_text(item.length_bytes):>10}"
        )
    did = "removed" if plan.removed else "would remove"
    session.line(
        f"{did} {counted(len(plan.collectable), 'item')}, {size_text(plan.collectable_bytes)}; "
        f"{counted(len(plan.live), 'item')} in use, {size_text(plan.live_bytes)}"
    )
    if plan.collectable and not plan.removed:
        session.line("this was a dry run; `--yes` removes them")


def remove(
    cert: Annotated[str, typer.Argument(metavar="CERT_ID", help="The certification.", show_default=False)],
    runs: Runs = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """See REMOVE_HELP."""
    with running("runs remove", as_json=as_json) as session:
        from seg1b.lanes.removal import remove_certification
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            if yes:
                session.open_log(store.root)
            found = remove_certification(store, cert, dry_run=not yes)
        if as_json:
            session.emit(dataclasses.asdict(found))
        else:
            _show_removal(session, found)


def _show_removal(session: Session, found: Removal) -> None:
    seeds = ", ".join(map(str, found.seeds)) or "unknown"
    session.line(
        f"{'removed' if found.removed else 'would remove'} certification {found.cert_id[:12]}: grade "
        f"{found.grade or 'unreadable'}, seeds {seeds}, {size_text(found.pack_bytes)}"
    )
    session.line(f"it alone holds {size_text(found.held_bytes)}, which `seg1b runs prune` may collect then")
    if not found.removed:
        session.line("this was a dry run; what removes it:")
        session.line(f"  seg1b runs remove {found.cert_id} --yes")
