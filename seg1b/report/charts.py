"""The report's charts, from numbers to inline SVG. Seeds share one colour: they are exchangeable on purpose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.report.svg import LogScale, Scale, cross, dot, figure, line, polyline, rectangle, text
from seg1b.report.wording import limit, name_of, number

Floats: TypeAlias = npt.NDArray[np.float64]

BINS_PER_DECADE = 16
PIT_BINS = 20
LORENZ_POINTS_MAX = 300


# -- in tables -----------------------------------------------------------------------------------------------------


def margin_bar(room: float, *, passed: bool) -> str:
    """Room to B+ as a fraction of the threshold: a bar to the right, or to the left what is missing."""
    width, height, reach = 100.0, 22.0, 0.5
    scale = Scale(-reach, reach, 2.0, width - 2.0)
    zero, end = scale(0.0), scale.clamped(room)
    body = [
        rectangle(2.0, 9.0, width - 4.0, 4.0, "track"),
        rectangle(min(zero, end), 7.0, abs(end - zero), 8.0, "room" if passed else "lack"),
        line(zero, 1.0, zero, 21.0, "zero"),
    ]
    return figure(width, height, f"Room to the B+ threshold: {100 * room:+.1f} %", body, "inline")


def band_plot(values: Mapping[str, float], low: float | None, high: float | None, style: str) -> str:
    """Values against an allowed band; a side without limit is open. Not empty."""
    width, height = 176.0, 24.0
    known = [*values.values(), *(edge for edge in (low, high) if edge is not None)]
    smallest, largest = min(known), max(known)
    if low is None and smallest >= 0.0:
        smallest = 0.0
    slack = 0.18 * ((largest - smallest) or abs(largest) or 1.0)
    bottom = smallest if low is None and smallest == 0.0 else smallest - slack
    scale = Scale(bottom, largest + slack, 6.0, width - 6.0)
    left = scale(low) if low is not None else 0.0
    right = scale(high) if high is not None else width
    body = [rectangle(0.0, 9.0, width, 6.0, "track"), rectangle(left, 5.0, right - left, 14.0, "band")]
    body += [
        line(edge, 3.0, edge, 21.0, "edge") for edge, at in ((left, low), (right, high)) if at is not None
    ]
    for who, value in values.items():
        outside = (low is not None and value < low) or (high is not None and value > high)
        title = f"{who}: {number(value, style)}"
        mark = (
            cross(scale(value), 12.0, 4.0, "bad", title)
            if outside
            else dot(scale(value), 12.0, 3.4, "seed", title)
        )
        body.append(mark)
    allowed = f"{limit(low, style)} to {limit(high, style)}"
    each = ", ".join(f"{who} {number(value, style)}" for who, value in values.items())
    return figure(width, height, f"Allowed {allowed}; observed {each}", body, "inline")


def stability_plot(row: Mapping[str, Any], gate: Mapping[str, Any] | None, baseline: float | None) -> str:
    """One core metric: a dot per seed, lines at B and B+, a diamond at the published baseline."""
    style = name_of(str(row["name"])).style
    values = {who: value for who, value in row["values"].items() if value is not None}
    marks = [] if gate is None else [float(gate["b"]), float(gate["b_plus"])]
    known = [*values.values(), *marks, *([] if baseline is None else [baseline])]
    width, height, middle = 360.0, 74.0, 38.0
    if not known:
        return figure(width, height, "No values", [text(8.0, middle, "no values")], "chart small")
    slack = 0.08 * ((max(known) - min(known)) or abs(max(known)) or 1.0)
    scale = Scale(min(known) - slack, max(known) + slack, 12.0, width - 12.0)
    body = [line(12.0, middle, width - 12.0, middle, "axis")]
    if gate is not None:
        at_least = gate["op"] == ">="
        edge = scale(float(gate["b_plus"]))
        end = width - 12.0 if at_least else 12.0
        body.append(rectangle(min(edge, end), middle - 10.0, abs(end - edge), 20.0, "band"))
        close = abs(scale(float(gate["b"])) - edge) < 70.0
        for key, name, level in (("b", "B", 14.0), ("b_plus", "B+", 70.0 if close else 14.0)):
            x = scale(float(gate[key]))
            body.append(line(x, middle - 14.0, x, middle + 14.0, "edge" if key == "b_plus" else "edge soft"))
            label = f"{name} {limit(float(gate[key]), style)}"
            body.append(text(min(max(x, 34.0), width - 34.0), level, label, "mark", "middle"))
    if baseline is not None:
        x = scale(baseline)
        diamond = ([x, x + 5, x, x - 5], [middle - 5, middle, middle + 5, middle])
        body.append(
            polyline(*diamond, "baseline", f"published baseline {number(baseline, style)}", close=True)
        )
        body.append(text(min(max(x, 30.0), width - 30.0), 70.0, "baseline", "mark soft", "middle"))
    body += [
        dot(scale(v), middle, 4.2, "seed", f"seed {who}: {number(v, style)}") for who, v in values.items()
    ]
    each = ", ".join(f"seed {who} {number(value, style)}" for who, value in row["values"].items())
    return figure(width, height, f"{name_of(str(row['name'])).title}: {each}", body, "chart small")


def dumbbell(prior: float, share: float, largest: float) -> str:
    """Prior share (ring) and certified share (disc) on a common scale from 0 to `largest`."""
    width, height = 190.0, 18.0
    scale = Scale(0.0, largest, 6.0, width - 6.0)
    body = [
        line(6.0, 9.0, width - 6.0, 9.0, "axis"),
        line(scale(prior), 9.0, scale(share), 9.0, "link"),
        dot(scale(prior), 9.0, 4.0, "prior"),
        dot(scale(share), 9.0, 4.4, "seed"),
    ]
    label = f"prior {number(prior, 'share')}, certified {number(share, 'share')}"
    return figure(width, height, label, body, "inline")


# -- on their own --------------------------------------------------------------------------------------------------


def lorenz_chart(
    counts: Mapping[int, npt.NDArray[np.int64]], prior: Floats, ginis: Mapping[int, float | None]
) -> str:
    """Lorenz curves of sites per country with sites, one per seed, and of the market prior."""
    width, height, left, right, top, bottom = 460.0, 420.0, 60.0, 436.0, 14.0, 372.0
    x, y = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    body = _grid(x, y, [0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1])
    body.append(line(x(0), y(0), x(1), y(1), "diagonal"))
    if len(prior) and prior.sum() > 0:
        body.append(polyline(*_lorenz(prior, x, y), "curve prior", "market prior"))
    for seed, count in counts.items():
        if count.sum() > 0:
            body.append(polyline(*_lorenz(count.astype(np.float64), x, y), "curve seed", f"seed {seed}"))
    body.append(text((left + right) / 2, 410.0, "countries, smallest first", "mark", "middle"))
    body.append(_vertical(12.0, (top + bottom) / 2, "share of sites"))
    body.append(
        _legend(
            left + 14,
            top + 18,
            [
                ("curve seed", _count(len(counts), "seed")),
                ("curve prior", "market prior"),
                ("diagonal", "all countries equal"),
            ],
        )
    )
    each = ", ".join(f"seed {seed} {number(value)}" for seed, value in ginis.items())
    return figure(width, height, f"Lorenz curve of sites over countries. Gini coefficients: {each}.", body)


def _lorenz(values: Floats, x: Scale, y: Scale) -> tuple[list[float], list[float]]:
    ascending = np.sort(values[values > 0])
    share = np.concatenate(([0.0], np.cumsum(ascending) / ascending.sum()))
    rank = np.arange(len(share)) / max(len(ascending), 1)
    every = max(len(share) // LORENZ_POINTS_MAX, 1)
    keep = np.unique(np.append(np.arange(0, len(share), every), len(share) - 1))
    return [x(v) for v in rank[keep].tolist()], [y(v) for v in share[keep].tolist()]


def neighbour_chart(distances_m: Mapping[int, Floats | None], quantiles_m: Mapping[str, float | None]) -> str:
    """Distribution of the distance to the nearest other site, a line per seed, on a logarithmic axis."""
    width, height, left, right, top, bottom = 460.0, 420.0, 30.0, 428.0, 14.0, 372.0
    known = {seed: d[d > 0] for seed, d in distances_m.items() if d is not None and bool((d > 0).any())}
    label = "Distances to the nearest other site"
    if not known:
        return figure(width, 80.0, f"{label}: none", [text(left, 44.0, "No site has a neighbour.", "mark")])
    low = 10.0 ** math.floor(math.log10(max(min(float(np.quantile(d, 0.001)) for d in known.values()), 0.1)))
    farthest = max(float(np.quantile(d, 0.9999)) for d in known.values())
    high = 10.0 ** math.ceil(math.log10(farthest * 1.0001))
    x = LogScale(low, max(high, low * 10), left, right)
    decades = round(math.log10(x.high / x.low))
    edges = np.linspace(math.log10(x.low), math.log10(x.high), decades * BINS_PER_DECADE + 1)
    shares = {
        seed: np.histogram(np.log10(np.clip(d, x.low, x.high)), edges)[0] / len(d)
        for seed, d in known.items()
    }
    tallest = max(float(share.max()) for share in shares.values())
    y = Scale(0.0, tallest * 1.04, bottom, top)
    ticks = [10.0**k for k in range(round(math.log10(x.low)), round(math.log10(x.high)) + 1)]
    body = [line(x(t), top, x(t), bottom, "grid") for t in ticks]
    body += [text(x(t), bottom + 18, _metres(t), "mark", "middle") for t in ticks]
    body.append(line(left, bottom, right, bottom, "axis"))
    at = [x(10.0**edge) for edge in edges.tolist()]
    for number_of, (seed, share) in enumerate(shares.items()):
        heights = [y(v) for v in share.tolist()]
        xs = [at[0], *(v for pair in pairwise(at) for v in pair), at[-1]]
        ys = [bottom, *(v for value in heights for v in (value, value)), bottom]
        if number_of == 0:
            body.append(polyline(xs, ys, "area", close=True))
        body.append(polyline(xs, ys, "curve seed thin", f"seed {seed}"))
    names = {"q50": "median", "q90": "p90", "q99": "p99"}
    for (key, name), level, side in zip(names.items(), (26.0, 26.0, 54.0), (-7.0, 7.0, 7.0), strict=True):
        value = quantiles_m.get(key)
        if value is not None and x.low <= value <= x.high:
            anchor = "end" if side < 0 else "start"
            body.append(line(x(value), level - 11.0, x(value), bottom, "edge"))
            body.append(text(x(value) + side, level, f"{name} {_metres(value)}", "mark strong halo", anchor))
    body.append(
        text((left + right) / 2, 410.0, "distance to the nearest other site, logarithmic", "mark", "middle")
    )
    body.append(_vertical(12.0, (top + bottom) / 2, "share of sites"))
    told = ", ".join(f"{name} {_metres(quantiles_m.get(key) or 0.0)}" for key, name in names.items())
    return figure(width, height, f"{label}: {told} (all seeds pooled)", body)


def pit_chart(pits: Mapping[int, Floats]) -> str:
    """Histogram of the density rank of sites among their country's people; flat is what placement by people gives."""
    width, height, left, right, top, bottom = 460.0, 420.0, 60.0, 436.0, 14.0, 372.0
    edges = np.linspace(0.0, 1.0, PIT_BINS + 1)
    known = {seed: pit[np.isfinite(pit)] for seed, pit in pits.items()}
    heights = {s: np.histogram(p, edges)[0] / len(p) * PIT_BINS for s, p in known.items() if len(p)}
    if not heights:
        return figure(
            width, 80.0, "Density ranks: none", [text(left, 44.0, "No site can be ranked.", "mark")]
        )
    tallest = max(1.5, max(float(h.max()) for h in heights.values()) * 1.1)
    x, y = Scale(0, 1, left, right), Scale(0, tallest, bottom, top)
    step = 0.5 if tallest <= 4 else float(math.ceil(tallest / 5))
    body = _grid(
        x, y, [0, 0.25, 0.5, 0.75, 1], [k * step for k in range(int(tallest / step) + 1)], plain=True
    )
    mean = np.mean(np.stack(list(heights.values())), axis=0)
    for i, value in enumerate(mean.tolist()):
        x0, x1 = x(float(edges[i])), x(float(edges[i + 1]))
        body.append(rectangle(x0 + 1, y(value), x1 - x0 - 2, bottom - y(value), "bar"))
        for seed, h in heights.items():
            body.append(dot((x0 + x1) / 2, y(float(h[i])), 2.2, "seed", f"seed {seed}: {float(h[i]):.3f}"))
    body.append(line(left, y(1.0), right, y(1.0), "edge"))
    body.append(text(right, y(1.0) - 40, "1 = sites follow people exactly", "mark halo", "end"))
    body.append(line(left, bottom, right, bottom, "axis"))
    words = "density rank of the site among its country's people"
    body.append(text((left + right) / 2, 410.0, words, "mark", "middle"))
    body.append(_vertical(12.0, (top + bottom) / 2, "sites, relative to people"))
    worst = max(float(np.abs(h - 1.0).max()) for h in heights.values())
    return figure(
        width,
        height,
        f"Density ranks of sites in {PIT_BINS} classes; largest departure from 1: {worst:.3f}",
        body,
    )


def _grid(
    x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], *, plain: bool = False
) -> list[str]:
    body = [line(x(t), y.start, x(t), y.end, "grid") for t in x_ticks]
    body += [line(x.start, y(t), x.end, y(t), "grid") for t in y_ticks]
    body += [text(x(t), y.start + 18, f"{100 * t:.0f} %", "mark", "middle") for t in x_ticks]
    return body + [
        text(x.start - 6, y(t) + 4, f"{t:g}" if plain else f"{100 * t:.0f} %", "mark", "end") for t in y_ticks
    ]


def _vertical(x: float, y: float, words: str) -> str:
    return f'<text class="mark" text-anchor="middle" transform="translate({x:.1f} {y:.1f}) rotate(-90)">{words}</text>'


def _legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> str:
    rows = []
    for i, (kind, words) in enumerate(entries):
        rows.append(line(x, y + 20 * i - 4, x + 24, y + 20 * i - 4, kind))
        rows.append(text(x + 32, y + 20 * i, words, "mark halo"))
    return "".join(rows)


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _metres(value: float) -> str:
    if value >= 1000.0:
        return (
            f"{value / 1000.0:,.1f} km"
            if value < 10_000.0 and value % 1000.0
            else f"{value / 1000.0:,.0f} km"
        )
    return f"{value:.0f} m" if value >= 10.0 or value == round(value) else f"{value:.1f} m"
