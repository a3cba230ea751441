"""`seg1b runs list|show|du|prune`: what the run store holds, and what may go."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg1b.cli.options import Config, Json, Runs
from seg1b.cli.runtime import Session, load_policies, running
from seg1b.errors import InputError

if TYPE_CHECKING:
    from seg1b.policy.retention import RetentionPolicy
    from seg1b.store.store import Store
    from seg1b.store.usage import Usage

LIST_HELP = """Runs, newest first, and certifications.

Examples:

    seg1b runs list

    seg1b runs list --runs /data/runs --json
"""

SHOW_HELP = """One run or certification: identity, keys, times. A prefix of six digits is enough.

Examples:

    seg1b runs show 8c41f0
"""

PRUNE_HELP = """Remove outputs and runs that nothing refers to. Says what would go; `--yes` removes it.

Kept is what pointers, certifications, locks, open waves, the timing baseline and running commands reach.
Certifications are never pruned. Before each certification and tuning the same happens by itself, with the caps of
retention.yaml.

Examples:

    seg1b runs prune

    seg1b runs prune --keep 8c41f0 --keep-newest 4 --yes

Exit codes: 0 done (or nothing to do) · 2 a run named with `--keep` does not exist; then nothing is removed.
"""


DU_HELP = """Who holds what: bytes by state and by holder, and what may go. Changes nothing.

`reached` is all that a holder keeps alive, `its own` what would go if it alone let go. `--items` lists every output.
The last line says how far the store is from the cap of retention.yaml (`--config`), which counts all that pruning
leaves: what is held, certification packs, logs and records. Beyond it no certification and no tuning starts.

Examples:

    seg1b runs du

    seg1b runs du --items --json
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What the run store holds.", no_args_is_help=True)
    group.command("list", help=LIST_HELP)(list_runs)
    group.command("show", help=SHOW_HELP)(show)
    group.command("du", help=DU_HELP)(du)
    group.command("prune", help=PRUNE_HELP)(prune)
    app.add_typer(group, name="runs")


def list_runs(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """See LIST_HELP."""
    with running("runs list", as_json=as_json) as session:
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            entries = [_run_entry(store, run_id) for run_id in store.receipts.newest_first()]
            certifications = [_certification_entry(store, cert_id) for cert_id in store.certifications.ids()]
        if as_json:
            session.emit({"runs": entries, "certifications": certifications})
            return
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, title=f"{len(entries)} runs in {runs}", title_justify="left")
        for name in ("run", "published", "lane", "seed", "executor", "seconds"):
            table.add_column(name, justify="right" if name in ("seed", "seconds") else "left")
        for entry in entries:
            seconds = "" if entry["wall_s"] is None else f"{entry['wall_s']:.1f}"
            row = (
                entry["run_id"][:12],
                entry["published"],
                entry["lane"],
                entry["seed"],
                entry["executor"],
                seconds,
            )
            table.add_row(*map(str, row))
        session.show(table)
        table = Table(
            box=box.SIMPLE_HEAD, title=f"{len(certifications)} certifications", title_justify="left"
        )
        for name in ("certification", "grade", "seeds", "catalogue"):
            table.add_column(name)
        for entry in certifications:
            table.add_row(entry["cert_id"][:12], entry["grade"], entry["seeds"], entry["catalogue"])
        session.show(table)


def _run_entry(store: Store, run_id: str) -> dict[str, Any]:
    receipt, telemetry = store.receipts.load(run_id), store.receipts.telemetry(run_id)
    published = (store.layout.runs / run_id / "receipt.json").stat().st_mtime
    return {
        "run_id": run_id,
        "published": datetime.datetime.fromtimestamp(published).isoformat(" ", "seconds"),
        "lane": receipt.lineage.get("lane", ""),
        "seed": receipt.identity.get("seed", ""),
        "executor": receipt.executor.get("name", ""),
        "wall_s": telemetry.get("wall_s"),
    }


def _certification_entry(store: Store, cert_id: str) -> dict[str, str]:
    document = store.certifications.read_json(cert_id, "certificate.json")
    return {
        "cert_id": cert_id,
        "grade": str(document["grade"]),
        "seeds": ", ".join(str(entry["seed"]) for entry in document["seeds"]),
        "catalogue": str(document["identity"]["catalogue_origin"]),
        "path": str(store.certifications.path(cert_id)),
    }


def show(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="Run or certification, or a prefix.", show_default=False)
    ],
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """See SHOW_HELP."""
    with running("runs show", as_json=as_json) as session:
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            found = _found(store, name)
        if as_json:
            session.emit(found)
        else:
            session.line(json.dumps(found, indent=2, ensure_ascii=False))


def _found(store: Store, name: str) -> dict[str, Any]:
    from seg1b.lanes.stored_run import resolve_run

    try:
        run_id = resolve_run(store, name)
    except InputError as no_run:
        try:
            cert_id = store.certifications.path(name).name
        except InputError:
            raise no_run from None
        document = dict(store.certifications.read_json(cert_id, "certificate.json"))
        kept = ("cert_id", "grade", "reasons_against_b", "reasons_against_b_plus", "identity", "cv")
        brief = {key: document[key] for key in kept if key in document}
        runs = {str(entry["seed"]): entry["run_id"] for entry in document["seeds"]}
        return {**brief, "runs": runs, "path": str(store.certifications.path(cert_id))}
    return {**store.receipts.load(run_id).to_json(), "telemetry": store.receipts.telemetry(run_id)}


def du(
    runs: Runs = Path("runs"),
    config: Config = None,
    items: Annotated[bool, typer.Option("--items", help="Every output, run and lease by itself.")] = False,
    as_json: Json = False,
) -> None:
    """See DU_HELP."""
    with running("runs du", as_json=as_json) as session:
        import dataclasses

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
                session.line(
                    f"{_size(item.length_bytes):>10}  {item.kind:<7} {item.state:<4} {item.name[:16]}  {held}"
                )


def _show_usage(session: Session, found: Usage) -> None:
    """Two tables and a line."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=f"{_size(found.total_bytes)} in the store", title_justify="left")
    for name in ("outputs of", "held", "bytes", "free to go", "bytes "):
        table.add_column(name, justify="left" if name == "outputs of" else "right")
    for row in found.states:
        free = (str(row.free), _size(row.free_bytes)) if row.free else ("", "")
        table.add_row(row.name, str(row.held), _size(row.held_bytes), *free)
    session.show(table)
    if found.holders:
        table = Table(box=box.SIMPLE_HEAD, title="who holds it", title_justify="left")
        for name in ("holder", "items", "reached", "its own"):
            table.add_column(name, justify="left" if name == "holder" else "right", overflow="fold")
        for holder in sorted(found.holders, key=lambda one: (-one.own_bytes, one.name)):
            table.add_row(
                holder.name, str(holder.items), _size(holder.reached_bytes), _size(holder.own_bytes)
            )
        session.show(table)
    beside = found.beside
    session.line(
        f"certification packs {_size(beside.packs_bytes)} ({len(beside.packs)}), "
        f"logs and records {_size(beside.other_bytes)}, temporary files {_size(beside.temporary_bytes)}; "
        f"`seg1b runs prune` would free {_size(found.collectable_bytes)}"
    )


def _show_caps(session: Session, found: Usage, policy: RetentionPolicy) -> None:
    """How far the store is from what it may hold."""
    left_bytes = policy.live_bytes_max - found.kept_bytes
    distance = (
        f"{_size(left_bytes)} left" if left_bytes >= 0 else f"{_size(-left_bytes)} too much: no run starts"
    )
    session.line(
        f"caps: pruning leaves {_size(found.kept_bytes)} of at most {_size(policy.live_bytes_max)}, {distance}; "
        f"before a run it also keeps the {policy.keep_newest_runs} newest runs, as far as they fit"
    )


def _size(size_bytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} B"


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
        from seg1b.store.store import Store

        with Store.open(runs, create=False) as store:
            if yes:
                session.open_log(store.root)
            plan = store.retention.prune(dry_run=not yes, keep_newest_runs=keep_newest, keep_runs=keep or ())
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


def _show_plan(session: Session, plan: Any) -> None:
    for item in plan.collectable:
        session.line(
            f"  {item.kind:<8} {item.state:<4} {item.name[:16]:<16} {item.length_bytes / 1e6:10.1f} MB"
        )
    did = "removed" if plan.removed else "would remove"
    session.line(
        f"{did} {len(plan.collectable)} items, {plan.collectable_bytes / 1e6:.1f} MB; "
        f"{len(plan.live)} are in use, {plan.live_bytes / 1e6:.1f} MB"
    )
    if plan.collectable and not plan.removed:
        session.line("this was a dry run; `--yes` removes them")
