"""The parts of the report page, in reading order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from seg1b.report import charts, maps, tables
from seg1b.report.geometry import Outlines
from seg1b.report.points import SitePoints
from seg1b.report.wording import STATUS_TEXT, earned_with, grade_text, name_of, number, verdict
from seg1b.scoring.score import Score
from seg1b.scoring.triage import advice

ATLAS = ("FR", "NG", "BR", "AU", "EG", "ID", "RU", "US", "FJ", "MC")
"""Countries that each show something: density, deserts, islands, the antimeridian, a country smaller than a tile."""


def short(digest: str) -> str:
    """The first twelve digits."""
    return str(digest)[:12]


def _section(anchor: str, title: str, lead: str, *body: str) -> str:
    opening = f'<section id="{anchor}" aria-labelledby="{anchor}-title"><h2 id="{anchor}-title">{title}</h2>'
    return f'{opening}<p class="lead">{lead}</p>{"".join(body)}</section>'


# -- headline ------------------------------------------------------------------------------------------------------


def headline(document: Mapping[str, Any], pooled: Score) -> str:
    """Grade, what it means, and the few numbers that say how large the thing is."""
    grade, seeds = str(document["grade"]), document["seeds"]
    sites = [int(seed["sites"]) for seed in seeds]
    big = '<span class="word">below</span>B' if grade == "below_B" else escape(grade_text(grade))
    world = document["world"]
    per_seed = number(sum(sites) / len(sites), "count").split(".")[0] if sites else "0"
    facts = [
        ("Sites per seed", per_seed),
        ("Seeds", ", ".join(str(seed["seed"]) for seed in seeds) or "none"),
        ("Countries with sites", f"{pooled.core.active_countries} of {pooled.core.eligible_countries}"),
        ("Grid", f"{world['resolution_arcsec']}″, {world['tiles'] / 1e6:,.0f} M tiles"),
        (
            "Certificate",
            f'<code title="{escape(str(document["cert_id"]))}">{short(document["cert_id"])}</code>',
        ),
    ]
    told = "".join(f"<div><dt>{title}</dt><dd>{value}</dd></div>" for title, value in facts)
    first, second = meaning(document, per_seed)
    terms, packaged = earned_with(document)
    third = escape(terms) if packaged else f"<strong>{escape(terms)}</strong>"
    return (
        f'<header><p class="eyebrow">seg1b certificate of synthetic outlet locations</p>'
        f'<div class="headline {escape(grade)}"><h1><span class="visually">Grade </span>{big}</h1>'
        f"<div><p>{first}</p><p>{second}</p><p>{third}</p></div></div>"
        f'<dl class="facts">{told}</dl>{denials(document)}{failures(document)}</header>'
    )


def meaning(document: Mapping[str, Any], per_seed: str) -> tuple[str, str]:
    """Two sentences for somebody who has never seen a certificate."""
    seeds = len(document["seeds"])
    times = (
        "once, from one random seed"
        if seeds == 1
        else f"{_words(seeds)} times, from {_words(seeds)} random seeds"
    )
    first = f"{per_seed} invented shops were placed on the real Earth, where people live, {times}."
    gates = len(tables.keys_of(tables.columns_of(document, "gates", tables.gate_name)))
    counters = len(tables.keys_of(tables.columns_of(document, "counter_metrics", tables.counter_name)))
    who = "the seed" if seeds == 1 else "every seed, and all seeds together,"
    grade = document["grade"]
    if grade == "B+":
        second = (
            f"Grade B+ says that {who} passed all {gates} gates at the stricter of their two thresholds, and all "
            f"{counters} checks that catch a world made only to please the gates."
        )
    elif grade == "B":
        second = (
            f"Grade B says that {who} passed all {gates} gates and {counters} counter-checks, but not every gate at "
            "its stricter threshold, which B+ would ask for."
        )
    else:
        second = (
            "It is not certified: at least one gate or counter-check did not hold, and one failure in one seed is "
            "enough. What failed is listed below."
        )
    return first, second


def _words(n: int) -> str:
    names = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return names[n] if n < len(names) else str(n)


def denials(document: Mapping[str, Any]) -> str:
    """The denylist, if there is one."""
    denied = document.get("denylist") or []
    if not denied:
        return ""
    return (
        '<aside class="notice calm"><h3>A denylist was in force</h3><p>No sites were placed in '
        f"{escape(', '.join(denied))}. These countries stay in the denominators of every metric.</p></aside>"
    )


def failures(document: Mapping[str, Any]) -> str:
    """What stands against the next better grade, and what would move it."""
    grade = document["grade"]
    key = {"below_B": "reasons_against_b", "B": "reasons_against_b_plus"}.get(grade)
    reasons = grouped_reasons(document.get(key) or []) if key else []
    if not reasons:
        return ""
    items = "".join(
        f"<li><strong>{escape(name_of(name.split('@')[0]).title if not vetoed else name)}</strong>"
        f"{f' ({escape(who)})' if who else ''}. {escape('' if vetoed else advice(name))}</li>"
        for name, who, vetoed in reasons
    )
    calm = " calm" if grade == "B" else ""
    title = "Why not B+" if grade == "B" else "Why not B"
    return f'<aside class="notice{calm}" id="failures"><h3>{title}</h3><ul>{items}</ul></aside>'


def grouped_reasons(reasons: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Reasons against a grade as (gate or sentence, who, whether it is a sentence of its own), seeds together."""
    gates: dict[str, list[str]] = {}
    for reason in reasons:
        who, _, what = reason.partition(": ")
        judged = bool(what) and " " not in what and (who == "pooled" or who.startswith("seed "))
        if judged:
            gates.setdefault(what, []).append(who)
        else:
            gates.setdefault(reason, [])
    return [(name, ", ".join(who), not who and not name.startswith("cv ")) for name, who in gates.items()]


# -- evidence ------------------------------------------------------------------------------------------------------


def gates(document: Mapping[str, Any]) -> str:
    """The gate table."""
    lead = (
        "Each gate has two thresholds. A grade needs every seed and the pool of all seeds to hold; the small print "
        "under a value is its 95 % bootstrap interval over merchants, and its bad end has to pass too."
    )
    states = ", ".join(
        f"seed {seed['seed']} {STATUS_TEXT.get(seed['status'], seed['status'])}" for seed in document["seeds"]
    )
    return _section(
        "gates",
        "Gates",
        lead,
        tables.gate_table(document),
        f'<p class="small">{escape(states[:1].upper() + states[1:])}.</p>',
    )


def counters(document: Mapping[str, Any]) -> str:
    """The counter-metrics."""
    lead = (
        "Every gate can be met by nonsense: equal countries, shops in the desert. These measures catch that. A site "
        "has to be where its country’s people are, and countries have to keep their order of size."
    )
    return _section("counter-metrics", "Counter-metrics", lead, tables.counter_table(document))


def stability(document: Mapping[str, Any]) -> str:
    """Each core metric over the seeds."""
    rows = document["stability"]
    gate_rows: dict[str, Mapping[str, Any]] = {}
    for seed in document["seeds"]:
        for row in seed["gates"]:
            gate_rows.setdefault(str(row["name"]), row)
    baseline = (document.get("baseline") or {}).get("metrics", {})
    figures = "".join(
        f"<figure><figcaption><strong>{escape(name_of(row['name']).title)}</strong>{_cv(row)}</figcaption>"
        f"{charts.stability_plot(row, gate_rows.get(row['name']), baseline.get(row['name']))}</figure>"
        for row in rows
    )
    limits = f"≤ {rows[0]['limit_b']:.2f} for B, ≤ {rows[0]['limit_b_plus']:.2f} for B+" if rows else ""
    lead = (
        "The seeds share nothing but the rules. A dot is a seed, the shaded side is B+, the diamond is the published "
        f"baseline that this work set out to repair. CV is the coefficient of variation across seeds ({limits})."
    )
    return _section(
        "stability", "Stability over seeds", lead, f'<div class="stability">{figures}</div>', _sigma(rows)
    )


def _cv(row: Mapping[str, Any]) -> str:
    if row["cv"] is None:
        return f'<span class="verdict fail" title="{escape(str(row["reason"]))}">✕ CV not computable</span>'
    grade = verdict(dict(row))
    kind, words = tables.VERDICTS[grade]
    if row["status"] == "not_informative":
        return f'<span title="{escape(str(row["reason"]))}">CV 0 (not informative)</span>'
    return f'<span>CV {row["cv"]:.3f} <span class="verdict {kind}">{words}</span></span>'


def _sigma(rows: Sequence[Mapping[str, Any]]) -> str:
    notes = [f"{name_of(row['name']).title}: {row['reason']}" for row in rows if row["reason"]]
    row = next((r for r in rows if r.get("sigma_interval") and r["sd"]), None)
    if row is not None:
        n = sum(value is not None for value in row["values"].values())
        low, high = (edge / row["sd"] for edge in row["sigma_interval"])
        notes.insert(
            0,
            f"With {_words(n)} seeds the 95 % interval of the true standard deviation runs from {low:.2f} to "
            f"{high:.2f} times the observed one",
        )
    return "".join(f'<p class="small">{escape(note[:1].upper() + note[1:])}.</p>' for note in notes)


def distributions(document: Mapping[str, Any], scores: Mapping[int, Score], pooled: Score) -> str:
    """Lorenz curve, distances to the nearest neighbour, density ranks."""
    counts = {seed: score.measurement.counts() for seed, score in scores.items()}
    prior = np.array([row["prior"] for row in document["country_shares"].values()])
    ginis = {seed: score.core.metrics["country_gini"].value for seed, score in scores.items()}
    distances = {seed: score.measurement.distance_m for seed, score in scores.items()}
    pits = {seed: s.measurement.surfaces[0].pit for seed, s in scores.items() if s.measurement.surfaces}
    entries = (
        (
            charts.lorenz_chart(counts, prior, ginis),
            "How sites are shared out among countries",
            "The certified curve lies above the market’s: power is taken from the giants, as the gates ask. See "
            '<a href="#distortion">distortion</a> for how to undo it.',
        ),
        (
            charts.neighbour_chart(distances, pooled.core.nn_quantiles_m),
            "How far the next site is",
            "Most sites stand in towns beside others; a few stand alone. The tail is what the isolation gate "
            "watches.",
        ),
        (
            charts.pit_chart(pits),
            "Whether sites follow people",
            "Rank every site by how densely people live around it within its country. If sites follow people, all "
            "ranks are equally common and the bars are level.",
        ),
    )
    figures = "".join(
        f"<figure>{chart}<figcaption><strong>{title}.</strong> {words}</figcaption></figure>"
        for chart, title, words in entries
    )
    lead = "The same measurements that the gates condense into one number. Lines and dots are single seeds."
    return _section("distributions", "Distributions", lead, f'<div class="charts">{figures}</div>')


# -- maps ----------------------------------------------------------------------------------------------------------


def world_section(points: SitePoints, seed: int | None, outlines: Outlines) -> str:
    """The map of all sites."""
    title = f"World map of all {len(points):,} sites of seed {seed}: dense where people are"
    svg = maps.world_figure(points, outlines, title)
    words = (
        f"All {len(points):,} sites of seed {seed}. Equal-area projection (Equal Earth); the shade grows with the "
        "logarithm of the sites under a point."
    )
    return (
        '<section id="map" aria-labelledby="map-title"><h2 id="map-title">Where the sites are</h2>'
        f'<figure class="worldmap">{svg}<figcaption>{words}</figcaption></figure></section>'
    )


def atlas(points: SitePoints, seed: int | None, outlines: Outlines) -> str:
    """A strip of countries."""
    countries = outlines.world.countries
    figures = []
    for iso in ATLAS:
        index = countries.index_of.get(iso)
        if index is not None:
            sites = int(np.count_nonzero(points.country == index))
            caption = f"<strong>{escape(countries.name[index])}</strong><span>{sites:,} sites</span>"
            svg = maps.country_figure(index, points, outlines)
            figures.append(f"<figure>{svg}<figcaption>{caption}</figcaption></figure>")
    key = (
        '<div class="key small"><p><span><svg viewBox="0 0 12 12" aria-hidden="true">'
        '<circle class="seed" cx="6" cy="6" '
        'r="4"/></svg>site</span> <svg viewBox="0 0 12 12" aria-hidden="true"><g class="towns"><circle cx="6" cy="6" '
        'r="5"/></g></svg>town, by size: the 100 largest of 50,000 people and more, or else the three largest</p>'
        "<p>Each map is equal-area "
        "around its own country and has its own scale, so nothing is torn where the date line passes.</p></div>"
    )
    lead = f"Shops belong in towns. Ten countries of seed {seed}, from the largest to one smaller than a map tile."
    return _section("atlas", "Ten countries", lead, f'<div class="atlas">{"".join(figures)}{key}</div>')


# -- disclosure ----------------------------------------------------------------------------------------------------


def distortion(document: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What the gates did to the market, and how to undo it."""
    over, under = tables.distortion_tables(document, names)
    lead = (
        "No real market passes these gates as it is: certification moves sites from large countries to small ones. "
        "To estimate anything about the real market, weight each site by its country’s weight, prior share over "
        "certified share."
    )
    everything = tables.all_shares_table(document, names)
    return _section(
        "distortion",
        "Distortion, disclosed",
        lead,
        f'<div class="columns">{over}{under}</div>',
        f"<details><summary>All {len(document['country_shares'])} countries</summary>{everything}</details>",
    )


def guard(document: Mapping[str, Any]) -> str:
    """What the catalogues were like."""
    origin = document["identity"].get("catalogue_origin")
    each = (
        "one catalogue of the user’s, shared by all seeds"
        if origin == "user"
        else "a catalogue of its own for each seed"
    )
    lead = (
        "Which merchant has how many outlets in which country is decided before any of them is placed. Here that was "
        f"{each}; the 1A guard measured it before it was let in."
    )
    return _section("catalogue", "Catalogue", lead, tables.guard_table(document))


def verification(document: Mapping[str, Any]) -> str:
    """How to check all this without trusting it."""
    lead = "Nothing on this page has to be believed. The folder that holds it is complete in itself."
    checks = sum(len(seed.get("checks", [])) for seed in document["seeds"])
    passed = sum(bool(check["passed"]) for seed in document["seeds"] for check in seed.get("checks", []))
    body = (
        "<pre>seg1b verify FOLDER</pre><p>FOLDER is this certification’s folder, or a copy of it anywhere; no network "
        "and no store are needed. The command recomputes every metric from the published coordinates and every digest "
        "from the files, takes the thresholds from the policy and not from this certificate, and ends with exit code 4 "
        "at the first difference.</p>"
        f'<p class="small">Replay at certification: {passed} of {checks} checks passed, made with a second '
        "implementation of every random draw.</p>"
    )
    return _section("verify", "Check it yourself", lead, body)


def provenance(document: Mapping[str, Any], sources: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Where everything comes from."""
    identity, world = document["identity"], document["world"]
    rows = [("Certificate", document["cert_id"])]
    rows += [
        (title, identity[key])
        for title, key in (
            ("World", "world_digest"),
            ("Parameters", "parameter_hash"),
            ("Gates", "gates_hash"),
            ("Inputs", "manifest_fingerprint"),
        )
        if key in identity
    ]
    rows += [(f"Sites of seed {seed['seed']}", seed["logical_digest"]) for seed in document["seeds"]]
    digests = "".join(f"<dt>{escape(t)}</dt><dd><code>{escape(str(v))}</code></dd>" for t, v in rows)
    excluded = "".join(
        f"<li>{escape(names.get(iso, iso))}: {escape(str(why))}</li>"
        for iso, why in world["not_eligible"].items()
    )
    count = len(world["not_eligible"])
    body = f"<p>{escape(str(world['attribution']))}</p>{_sources(sources)}"
    if count:
        body += f"<details><summary>{count} countries without an outlet by rule</summary><ul>{excluded}</ul></details>"
    lead = "Public data of the real Earth; every merchant and every outlet is invented."
    return _section("provenance", "Provenance", lead, body, f'<dl class="digests">{digests}</dl>')


def _sources(provenance: Mapping[str, Any]) -> str:
    """The world's sources: what each is, its licence, and the attribution it asks for."""
    sources = provenance.get("sources")
    if not isinstance(sources, Mapping):
        return ""
    items = []
    for _, source in sorted(sources.items()):
        told = [str(source.get(key) or "") for key in ("title", "version", "licence")]
        attribution = escape(str(source.get("attribution") or ""))
        items.append(f"<li><strong>{escape(', '.join(t for t in told if t))}</strong><br>{attribution}</li>")
    return f'<ul class="sources">{"".join(items)}</ul>' if items else ""


def footer(document: Mapping[str, Any]) -> str:
    """The last line."""
    return f"<footer><p>Certificate <code>{escape(str(document['cert_id']))}</code></p></footer>"
