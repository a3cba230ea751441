"""A certificate as the terminal shows it, with the tables of `seg1b.report.terminal`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg1b.cli.runtime import Session


def show_certificate(session: Session, document: Mapping[str, Any], folder: Path) -> None:
    """Gates, counter-metrics, then the grade and what stands against a better one."""
    from seg1b.report.terminal import counter_table, gate_table, summary_panel

    for table in (gate_table(document), counter_table(document)):
        session.show(table)
        session.line()
    session.show(summary_panel(document))
    runs = folder.parent.parent
    elsewhere = "" if runs == Path("runs") else f" --runs {runs}"
    for title, text in (  # outside the panel, whose frame would break what people copy
        ("folder", str(folder)),
        ("report", str(folder / "report" / "index.html")),
        ("check", f"seg1b verify {folder.name[:12]}{elsewhere}"),
    ):
        session.line(f"{title:<6} {text}", indent=7)
