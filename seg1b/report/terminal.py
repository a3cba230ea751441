"""The result in a terminal: rich tables that read well at 80 columns, and without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seg1b.report.sections import grouped_reasons
from seg1b.report.tables import (
    Column,
    Row,
    columns_of,
    counter_name,
    gate_name,
    keys_of,
    worst_room,
    worst_verdict,
)
from seg1b.report.wording import (
    MISSING,
    STATUS_TEXT,
    allowed,
    earned_with,
    grade_text,
    limit,
    name_of,
    number,
    operator,
    verdict,
)
from seg1b.scoring.triage import advice

SIGNS = {"B+": "", "B": "○", "fail": "✗"}
WORDS = {"B+": "✓ B+", "B": "○ B", "fail": "✗"}
COLOURS = {"B+": "cyan", "B": "yellow", "fail": "bold red"}
GRADE_COLOURS = {"B+": "bold cyan", "B": "bold yellow", "below_B": "bold red"}
SHORT_NAMES = {
    "bootstrap_upper.": "hi95 ",
    "bootstrap_lower.": "lo95 ",
    "structural.": "",
    "region_floor.": "",
    "no_regression.": "lock ",
    "eligible_country_nonzero_share": "country_coverage",
    "southern_hemisphere_share": "southern_share",
    "near_city_share_difference": "near_city_difference",
    "population_correlation_1deg": "population_corr_1deg",
    "country_gini_lower_bound": "gini_lower_bound",
}
GATE_CAPTION = (
    "room: the worst seed's distance to B+, in % of it; hi95: upper end of the 95 % interval; "
    "○ meets B only, ✗ neither"
)
SEEDS_SIDE_BY_SIDE = 6
"""Above so many seeds a table shows the range over them instead."""


def gate_table(document: Mapping[str, Any]) -> Table:
    """Gate, thresholds, all seeds, the pool, the margin and the verdict.

    Structural rows that pass are folded into one line.
    """
    columns = columns_of(document, "gates", gate_name)
    table = _table("gate")
    table.caption = GATE_CAPTION
    table.add_column("B+ (B)", justify="right", no_wrap=True)
    _add_value_columns(table, columns)
    table.add_column("room", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    folded: dict[str, int] = {}
    for key in keys_of(columns):
        present = [rows[key] for _, rows in columns if key in rows]
        worst = "fail" if len(present) < len(columns) else worst_verdict(present)
        group = key.split(".")[0]
        if worst == "B+" and group in ("structural", "collapse_sentinel"):
            folded["integrity"] = folded.get("integrity", 0) + 1
            continue
        style = name_of(key).style
        cells = [_gate_cell(rows.get(key), style) for _, rows in columns]
        first = present[0]
        room = worst_room(present)
        table.add_row(
            short_name(key),
            _limits(first, style),
            *_narrowed(cells),
            "" if room is None else f"{100 * room:+.0f}%",
            Text(WORDS[worst], style=COLOURS[worst]),
        )
    for what, count in folded.items():
        filler = [""] * (len(table.columns) - 2)
        table.add_row(f"{what}: {count} more", *filler, Text(WORDS["B+"], style=COLOURS["B+"]))
    return table


def counter_table(document: Mapping[str, Any]) -> Table:
    """Counter-metric, allowed band, all seeds, the pool and the verdict."""
    columns = columns_of(document, "counter_metrics", counter_name)
    table = _table("counter-metric")
    table.add_column("allowed", justify="right", no_wrap=True)
    _add_value_columns(table, columns)
    table.add_column("", no_wrap=True)
    surfaces = {row.get("surface") for _, rows in columns for row in rows.values()} - {None}
    for key in keys_of(columns):
        present = [rows[key] for _, rows in columns if key in rows]
        first = present[0]
        style = name_of(str(first["name"])).style
        passed = len(present) == len(columns) and all(row["pass"] for row in present)
        cells = [_counter_cell(rows.get(key), style) for _, rows in columns]
        name = short_name(key if len(surfaces) > 1 else str(first["name"]))
        band = allowed(first["min"], first["max"], style).replace(" %", "%").replace(" km", "km")
        sign = Text("✓", style=COLOURS["B+"]) if passed else Text("✗", style=COLOURS["fail"])
        table.add_row(name, band, *_narrowed(cells), sign)
    return table


def summary_panel(document: Mapping[str, Any]) -> Panel:
    """Grade, certificate, seeds; what stands against the next better grade and what would move it."""
    grade = str(document["grade"])
    lines: list[Text] = [
        Text.assemble(("grade  ", "dim"), (grade_text(grade), GRADE_COLOURS.get(grade, "bold")))
    ]
    lines.append(_fact("cert", str(document["cert_id"])))
    lines.append(_fact("terms", earned_with(document)[0]))
    for seed in document["seeds"]:
        status = STATUS_TEXT.get(str(seed["status"]), str(seed["status"]))
        lines.append(_fact("seed", f"{seed['seed']}: {int(seed['sites']):,} sites, {status}"))
    if document.get("denylist"):
        lines.append(_fact("denied", ", ".join(document["denylist"]) + " (stay in all denominators)"))
    for title, key in (("why not B", "reasons_against_b"), ("why not B+", "reasons_against_b_plus")):
        reasons = grouped_reasons(document.get(key) or [])
        if reasons:
            lines += [Text(""), Text(title, style="bold"), *_triage(reasons)]
            break
    return Panel(Group(*lines), title="seg1b certificate", title_align="left", padding=(1, 2))


def _triage(reasons: Sequence[tuple[str, str, bool]]) -> list[Text]:
    """Each reason; the advice once for all that share it."""
    by_advice: dict[str, list[str]] = {}
    for name, who, sentence in reasons:
        told = f"{name} ({who})" if who else name
        by_advice.setdefault("" if sentence else advice(name), []).append(told)
    lines = []
    for words, names in by_advice.items():
        lines += [Text.assemble(("✗ ", COLOURS["fail"]), name) for name in names]
        if words:
            lines.append(Text(f"  → {words}", style="italic"))
    return lines


def _fact(title: str, value: str) -> Text:
    return Text.assemble((f"{title:<7}", "dim"), value, overflow="fold")


def _table(first: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, caption_justify="left"
    )
    table.add_column(first, overflow="fold", min_width=12)
    return table


def _add_value_columns(table: Table, columns: Sequence[Column]) -> None:
    if len(columns) - 1 > SEEDS_SIDE_BY_SIDE:
        table.add_column(f"{len(columns) - 1} seeds", justify="right", no_wrap=True)
        table.add_column("pooled", justify="right", no_wrap=True)
        return
    for who, _ in columns:
        table.add_column("pool" if who == "pooled" else who, justify="right", no_wrap=True)


def _narrowed(cells: list[Text]) -> list[Text]:
    """As many cells as `_add_value_columns` made columns: all of them, or the worst-looking seed and the pool."""
    seeds, pooled = cells[:-1], cells[-1]
    if len(seeds) <= SEEDS_SIDE_BY_SIDE:
        return cells
    marked = [cell for cell in seeds if cell.plain[:1] in "✗○"]
    failed = sum(cell.plain.startswith("✗") for cell in seeds)
    if failed:
        return [Text(f"✗ {failed} of {len(seeds)}", style=COLOURS["fail"]), pooled]
    return [Text(f"○ {len(marked)} of {len(seeds)}" if marked else f"all {len(seeds)}"), pooled]


def _gate_cell(row: Row | None, style: str) -> Text:
    if row is None:
        return Text(f"✗{MISSING}", style=COLOURS["fail"])
    kind = verdict(dict(row))
    value = number(row["observed"], style).replace(" %", "%")
    return Text(f"{SIGNS[kind]}{value}", style="" if kind == "B+" else COLOURS[kind])


def _counter_cell(row: Row | None, style: str) -> Text:
    value = number(row["observed"] if row else None, style)
    value = value.replace(" %", "%").removesuffix(" km").removesuffix(" pp")
    return Text(value) if row and row["pass"] else Text(f"✗{value}", style=COLOURS["fail"])


def _limits(row: Row, style: str) -> str:
    told = [_short_limit(float(row[key]), style) for key in ("b_plus", "b")]
    return f"{operator(str(row['op']))}{told[0]}" + (f" ({told[1]})" if row["b"] != row["b_plus"] else "")


def _short_limit(value: float, style: str) -> str:
    return f"{value:.2f}" if style == "number" else limit(value, style).replace(" %", "%")


def short_name(key: str) -> str:
    """A gate's name as tables in a terminal have it."""
    name = key
    for long, brief in SHORT_NAMES.items():
        name = name.replace(long, brief)
    return name
