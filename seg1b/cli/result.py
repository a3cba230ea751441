"""A certificate as the terminal shows it: gates by seed, counter-metrics, grade and what stands against the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from seg1b.cli.runtime import Session

_STYLE = {"B+": "bold green", "B": "bold yellow", "below_B": "bold red"}
_REASONS_AT_MOST = 12


def show_certificate(session: Session, document: Mapping[str, Any]) -> None:
    """Gates, counter-metrics, CVs and the grade."""
    seeds = document["seeds"]
    session.show(gate_table(seeds))
    session.line()
    session.show(counter_table(seeds))
    session.line()
    cvs = [(name, value) for name, value in document["cv"].items() if value is not None]
    if cvs:
        name, value = max(cvs, key=lambda item: float(item[1]))
        session.line(f"largest CV across seeds: {float(value):.3f} ({name})")
    grade = str(document["grade"])
    for target, key in (("B", "reasons_against_b"), ("B+", "reasons_against_b_plus")):
        reasons = list(document[key])
        if reasons and (target == "B" or grade == "B"):
            session.line(f"against {target}:", style="bold")
            for reason in reasons[:_REASONS_AT_MOST]:
                session.line(f"  - {reason}")
            if len(reasons) > _REASONS_AT_MOST:
                session.line(f"  ... and {len(reasons) - _REASONS_AT_MOST} more, in the certificate")
    session.line(f"GRADE {grade}", style=_STYLE[grade])


def gate_table(seeds: Sequence[Mapping[str, Any]]) -> Table:
    """A row per gate: B and B+ thresholds, one column per seed, and the smallest margin to B+.

    Structural checks that found nothing in any seed share one row.
    """
    table = _table("gate", "B", "B+", seeds, "margin")
    by_seed = [{row["name"]: row for row in seed["gates"]} for seed in seeds]
    clean = 0
    for name, first in by_seed[0].items():
        rows = [gates.get(name, first) for gates in by_seed]
        if name.startswith("structural.") and all(row["observed"] == 0 for row in rows):
            clean += 1
            continue
        cells = [_cell(row["observed"], bool(row["pass_b"]), bool(row["pass_b_plus"])) for row in rows]
        margins = [row["margin_b_plus"] for row in rows if row["margin_b_plus"] is not None]
        margin = f"{min(margins):+.3g}" if margins else "-"
        table.add_row(name, f"{first['op']} {first['b']:.4g}", f"{first['b_plus']:.4g}", *cells, margin)
    if clean:
        table.add_row(f"structural checks ({clean})", "<= 0", "0", *["[green]0[/]" for _ in seeds], "+0")
    return table


def counter_table(seeds: Sequence[Mapping[str, Any]]) -> Table:
    """A row per counter-metric: its band and one column per seed."""
    table = _table("counter-metric", "min", "max", seeds, None)
    by_seed = [{_key(row): row for row in seed["counter_metrics"]} for seed in seeds]
    surfaces = {row["surface"] for row in seeds[0]["counter_metrics"]} - {None}
    for name, first in by_seed[0].items():
        rows = [counters.get(name, first) for counters in by_seed]
        cells = [_cell(row["observed"], bool(row["pass"]), bool(row["pass"])) for row in rows]
        bounds = ["" if first[side] is None else f"{first[side]:.4g}" for side in ("min", "max")]
        table.add_row(name if len(surfaces) > 1 else str(first["name"]), *bounds, *cells)
    return table


def _table(title: str, low: str, high: str, seeds: Sequence[Mapping[str, Any]], last: str | None) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, overflow="fold")
    for name in (low, high, *(f"seed\n{seed['seed']}" for seed in seeds), *((last,) if last else ())):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _key(row: Mapping[str, Any]) -> str:
    return str(row["name"]) + (f"@{row['surface']}" if row.get("surface") else "")


def _cell(value: Any, pass_b: bool, pass_b_plus: bool) -> str:
    text = "n/a" if value is None else f"{float(value):.4g}" if abs(float(value)) >= 1.0 else f"{float(value):.4f}"
    text = "0" if value == 0 else text
    style = "green" if pass_b and pass_b_plus else "yellow" if pass_b else "bold red"
    return f"[{style}]{text}[/]" + ("" if pass_b else "!")
