"""The report's tables: gates, counter-metrics, distortion, guard. Pass and fail are words and signs, then colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

from seg1b.report.charts import band_plot, dumbbell, margin_bar
from seg1b.report.wording import (
    GROUPS,
    MISSING,
    allowed,
    grade_text,
    group_of,
    limit,
    margin,
    name_of,
    number,
    operator,
    verdict,
)

Row: TypeAlias = Mapping[str, Any]
Column: TypeAlias = tuple[str, Mapping[str, Row]]
"""Who (a seed, or "pooled") and its rows by key."""

VERDICTS = {
    "B+": ("pass", "✓ B+"),
    "B": ("near", "○ B only"),
    "fail": ("fail", "✕ fails"),
}
DISTORTION_ROWS = 12


def columns_of(document: Mapping[str, Any], rows: str, key: Any) -> list[Column]:
    """The seeds and the pool, each with its `gates` or `counter_metrics` by key."""
    found = [(str(seed["seed"]), seed) for seed in document["seeds"]]
    found.append(("pooled", document["pooled"]))
    return [(who, {key(row): row for row in holder[rows]}) for who, holder in found]


def keys_of(columns: Sequence[Column]) -> list[str]:
    """Every key that any column has, in order of appearance."""
    return list(dict.fromkeys(key for _, rows in columns for key in rows))


def gate_name(row: Row) -> str:
    """Key of a gate row."""
    return str(row["name"])


def counter_name(row: Row) -> str:
    """Key of a counter-metric row: its name, and its surface where it has one."""
    return str(row["name"]) if row.get("surface") is None else f"{row['name']}@{row['surface']}"


def worst_verdict(rows: Sequence[Row]) -> str:
    """The worst of several verdicts; `fail` when there is none."""
    order = ("fail", "B", "B+")
    return min((verdict(dict(row)) for row in rows), key=order.index, default="fail")


def worst_room(rows: Sequence[Row]) -> float | None:
    """Least room to B+ as a fraction of the threshold; None unless every row has one."""
    rooms = [margin(dict(row)) for row in rows]
    known = [room for room in rooms if room is not None]
    return min(known) if known and len(known) == len(rooms) else None


def table(head: str, bodies: Sequence[str], caption: str) -> str:
    """A table that scrolls sideways on a narrow screen."""
    words = escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{words}"><table>'
        f"<caption><span>{words}</span></caption>"
        f"<thead><tr>{head}</tr></thead>{''.join(f'<tbody>{body}</tbody>' for body in bodies)}</table></div>"
    )


def _heads(*titles: str) -> str:
    return "".join(f'<th scope="col">{title}</th>' for title in titles)


# -- gates ---------------------------------------------------------------------------------------------------------


def gate_table(document: Mapping[str, Any]) -> str:
    """Every hard gate, grouped: thresholds, all seeds, the pool, the margin, the verdict."""
    columns = columns_of(document, "gates", gate_name)
    keys = keys_of(columns)
    seeds = [f"Seed {who}" if who != "pooled" else "Pooled" for who, _ in columns]
    head = '<th scope="col" class="left">Gate</th>' + _heads("B", "B+", *seeds)
    head += (
        '<th scope="col" class="left">Room to B+ (worst seed)</th><th scope="col" class="left">Verdict</th>'
    )
    bodies = []
    for title, _ in GROUPS:
        members = [key for key in keys if group_of(key) == title]
        if members:
            span = len(columns) + 5
            group = f'<tr><th class="group" scope="rowgroup" colspan="{span}">{escape(title)}</th></tr>'
            bodies.append(group + "".join(_gate_row(key, columns) for key in members))
    return table(
        head, bodies, "Hard gates. Where a value is marked ○ it meets B but not B+; ✕ meets neither."
    )


def _gate_row(key: str, columns: Sequence[Column]) -> str:
    name = name_of(key)
    present = {who: rows[key] for who, rows in columns if key in rows}
    first = next(iter(present.values()))
    op = operator(str(first["op"]))
    cells = [_row_head(name.title, name.meaning, key, _reasons(present))]
    cells += [f'<td class="limit">{op} {limit(first[k], name.style)}</td>' for k in ("b", "b_plus")]
    cells += [_gate_cell(rows.get(key), name.style) for _, rows in columns]
    missing = len(present) < len(columns)
    worst = "fail" if missing else worst_verdict(list(present.values()))
    room = worst_room(list(present.values()))
    bar = "<td></td>"
    if room is not None:
        digits = 1 if abs(room) < 0.0995 else 0
        text = f"{100 * room:+.{digits}f} %".replace("-", "−")
        bar = f'<td class="barcell">{margin_bar(room, passed=worst == "B+")}<span>{text}</span></td>'
    kind, words = VERDICTS[worst]
    return f'<tr>{"".join(cells)}{bar}<td class="verdict {kind}">{words}</td></tr>'


def _gate_cell(row: Row | None, style: str) -> str:
    if row is None:
        return f'<td class="off">✕ {MISSING}</td>'
    kind = verdict(dict(row))
    sign, css = {"fail": ("✕ ", "off"), "B": ("○ ", "near"), "B+": ("", "")}[kind]
    interval = ""
    if row.get("ci95") is not None and not str(row["name"]).startswith("bootstrap_"):
        low, high = row["ci95"]
        unit = number(high, style)
        interval = f"<small>{number(low, style).split(' ')[0]} to {unit}</small>"
    value = number(row["observed"], style)
    return f'<td class="{css}">{sign}{value}{interval}</td>' if css else f"<td>{value}{interval}</td>"


def _row_head(title: str, meaning: str, key: str, reasons: Sequence[str]) -> str:
    what = f'<span class="what">{escape(meaning)}</span>' if meaning else ""
    why = "".join(f'<span class="why">{escape(reason)}</span>' for reason in reasons)
    return f'<th scope="row" title="{escape(key)}">{escape(title)}{what}{why}</th>'


def _reasons(present: Mapping[str, Row]) -> list[str]:
    """Reasons of the rows that do not pass, seeds with the same reason together."""
    told: dict[str, list[str]] = {}
    for who, row in present.items():
        passed = row["pass"] if "pass" in row else row["pass_b_plus"]
        reason = str(row.get("reason") or "")
        if reason and not passed:
            told.setdefault(reason, []).append(who)
    readable = {why.replace("<=", "≤").replace(">=", "≥"): who for why, who in told.items()}
    return [f"{_who(who)}: {why}" for why, who in readable.items()]


def _who(names: Sequence[str]) -> str:
    seeds = [name for name in names if name != "pooled"]
    told = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"] if seeds else []
    return " and ".join([*told, *(["pooled"] if "pooled" in names else [])])


# -- counter-metrics -----------------------------------------------------------------------------------------------


def counter_table(document: Mapping[str, Any]) -> str:
    """Every counter-metric with its band and a plot of the seeds in it."""
    columns = columns_of(document, "counter_metrics", counter_name)
    seeds = [f"Seed {who}" if who != "pooled" else "Pooled" for who, _ in columns]
    head = '<th scope="col" class="left">Counter-metric</th>' + _heads("Allowed", *seeds)
    head += '<th scope="col" class="left">In its band</th><th scope="col" class="left">Verdict</th>'
    surfaces = {row.get("surface") for _, rows in columns for row in rows.values()} - {None}
    body = "".join(_counter_row(key, columns, several=len(surfaces) > 1) for key in keys_of(columns))
    return table(
        head,
        [body],
        "Counter-metrics, required for both grades. Dots are seeds, the band is what is allowed.",
    )


def _counter_row(key: str, columns: Sequence[Column], *, several: bool) -> str:
    present = {who: rows[key] for who, rows in columns if key in rows}
    first = next(iter(present.values()))
    name = name_of(str(first["name"]))
    title = name.title + (f" ({first['surface']} population)" if several and first.get("surface") else "")
    cells = [_row_head(title, name.meaning, key, _reasons(present))]
    cells.append(f'<td class="limit">{allowed(first["min"], first["max"], name.style)}</td>')
    for _, rows in columns:
        row = rows.get(key)
        value = number(row["observed"] if row else None, name.style)
        cells.append(f"<td>{value}</td>" if row and row["pass"] else f'<td class="off">✕ {value}</td>')
    values = {who: row["observed"] for who, row in present.items() if row["observed"] is not None}
    plot = band_plot(values, first["min"], first["max"], name.style) if values else ""
    passed = len(present) == len(columns) and all(row["pass"] for row in present.values())
    kind, words = ("pass", "✓ pass") if passed else ("fail", "✕ fails")
    return f'<tr>{"".join(cells)}<td class="barcell">{plot}</td><td class="verdict {kind}">{words}</td></tr>'


# -- distortion ----------------------------------------------------------------------------------------------------


def distortion_tables(document: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, str]:
    """(the most over-represented countries, the most under-represented ones) by difference of shares."""
    shares = document["country_shares"]
    order = sorted(shares, key=lambda iso: (shares[iso]["prior"] - shares[iso]["share"], iso))
    over = [iso for iso in order[:DISTORTION_ROWS] if shares[iso]["share"] > shares[iso]["prior"]]
    under = [iso for iso in order[::-1][:DISTORTION_ROWS] if shares[iso]["share"] < shares[iso]["prior"]]
    largest = max((max(s["prior"], s["share"]) for s in (shares[iso] for iso in over + under)), default=1.0)
    return (
        _share_table("More sites than the market has", over, shares, names, largest),
        _share_table("Fewer sites than the market has", under, shares, names, largest),
    )


def _share_table(
    caption: str, isos: Sequence[str], shares: Mapping[str, Row], names: Mapping[str, str], largest: float
) -> str:
    head = '<th scope="col" class="left">Country</th>' + _heads("Prior", "Certified")
    head += '<th scope="col" class="left">Prior → certified</th>' + _heads("Weight")
    body = "".join(
        f'<tr><th scope="row">{escape(names.get(iso, iso))}</th><td>{number(shares[iso]["prior"], "share")}</td>'
        f"<td>{number(shares[iso]['share'], 'share')}</td>"
        f'<td class="barcell">{dumbbell(shares[iso]["prior"], shares[iso]["share"], largest)}</td>'
        f"<td>{weight(shares[iso]['design_weight'])}</td></tr>"
        for iso in isos
    )
    return table(head, [body], caption)


def all_shares_table(document: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Every country's prior, share and weight."""
    shares = document["country_shares"]
    head = '<th scope="col" class="left">Country</th>' + _heads("Code", "Prior", "Certified", "Weight")
    body = "".join(
        f"<tr><th>{escape(names.get(iso, iso))}</th><td>{escape(iso)}</td><td>{100 * row['prior']:.4f} %</td>"
        f"<td>{100 * row['share']:.4f} %</td><td>{weight(row['design_weight'])}</td></tr>"
        for iso, row in sorted(shares.items())
    )
    return table(head, [body], "All countries, by code. Weight: prior over certified share.")


def weight(value: float | None) -> str:
    """A design weight."""
    return MISSING if value is None else f"× {value:.2f}"


# -- guard ---------------------------------------------------------------------------------------------------------


def guard_table(document: Mapping[str, Any]) -> str:
    """The 1A guard's metrics, a column per seed."""
    seeds = document["seeds"]
    head = '<th scope="col" class="left">Metric of the catalogue</th>'
    head += _heads(*(f"Seed {seed['seed']}" for seed in seeds))
    keys = list(dict.fromkeys(key for seed in seeds for key in seed["guard"].get("metrics", {})))
    rows = [
        "<tr><th>Grade of the guard</th>" + "".join(f"<td>{_guard_grade(s)}</td>" for s in seeds) + "</tr>"
    ]
    for key in keys:
        name = name_of(key)
        cells = "".join(f"<td>{number(s['guard']['metrics'].get(key), name.style)}</td>" for s in seeds)
        rows.append(f'<tr><th scope="row" title="{escape(key)}">{escape(name.title)}</th>{cells}</tr>')
    realised = "".join(f"<td>{number(s['guard'].get('realised_ratio_median'))}</td>" for s in seeds)
    rows.append(f'<tr><th scope="row">{name_of("realised_ratio_median").title}</th>{realised}</tr>')
    return table(head, ["".join(rows)], "What the 1A guard measured on each catalogue.")


def _guard_grade(seed: Row) -> str:
    return escape(grade_text(str(seed["guard"].get("grade", MISSING))))
