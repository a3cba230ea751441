"""`seg1b runs`: what the run store holds. Who holds it and what may go have files of their own."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg1b.cli.options import Json, Runs
from seg1b.cli.runs_removal import PRUNE_HELP, REMOVE_HELP, prune, remove
from seg1b.cli.runs_usage import DU_HELP, du
from seg1b.cli.runtime import running
from seg1b.errors import InputError
from seg1b.report.wording import counted

if TYPE_CHECKING:
    from seg1b.store.store import Store

LIST_HELP = """Runs, newest first, and certifications.

Examples:

    seg1b runs list

    seg1b runs list --runs /data/runs --json

Exit codes: 0 shown · 2 there is no store.
"""

SHOW_HELP = """One run or certification: identity, keys, times. A prefix of six digits is enough.

Examples:

    seg1b runs show 8c41f0

Exit codes: 0 shown · 2 there is no such run or certification, or no store.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What the run store holds.", no_args_is_help=True)
    group.command("list", help=LIST_HELP)(list_runs)
    group.command("show", help=SHOW_HELP)(show)
    group.command("du", help=DU_HELP)(du)
    group.command("prune", help=PRUNE_HELP)(prune)
    group.command("remove", help=REMOVE_HELP)(remove)
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

        table = Table(
            box=box.SIMPLE_HEAD, title=f"{counted(len(entries), 'run')} in {runs}", title_justify="left"
        )
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
            box=box.SIMPLE_HEAD, title=counted(len(certifications), "certification"), title_justify="left"
        )
        for name in ("certification", "grade", "seeds", "catalogue"):
            table.add_column(name)
        for entry in certifications:
            table.add_row(entry["cert_id"][:12], entry["grade"], entry["seeds"], entry["catalogue"])
        session.show(table)


def _run_entry(store: Store, run_id: str) -> dict[str, Any]:
    receipt, telemetry = store.receipts.load(run_id), store.receipts.telemetry(run_id)
    published = store.receipts.published_ns(run_id) / 1e9
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
        str,
        typer.Argument(
            metavar="ID",
            help="Run or certification, a prefix of it, or last_good, candidate, baseline.",
            show_default=False,
        ),
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
            for line in json.dumps(found, indent=2, ensure_ascii=False).splitlines():
                session.line(line)


def _found(store: Store, name: str) -> dict[str, Any]:
    from seg1b.lanes.stored_run import named_run

    try:
        run_id = named_run(store, name)
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
