"""The report of a certification: one HTML file that needs nothing but a browser.

Same certificate, same bytes: there is no clock, no path and no version in it, and every number is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from seg1b.report import sections
from seg1b.report.geometry import Outlines
from seg1b.report.points import SitePoints
from seg1b.report.wording import grade_text
from seg1b.scoring.score import Score
from seg1b.world.content import World

__all__ = ["Maps", "SitePoints", "draw_maps", "report_page", "write_report"]

REPORT = "report/index.html"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Maps:
    """The page's two sections of maps, as HTML. They show one seed and need nothing of the certificate."""

    world: str
    atlas: str


def draw_maps(points: SitePoints | None, seed: int | None, world: World) -> Maps:
    """Draw the sites of the certificate's first seed (None: there is none)."""
    if points is None:
        points = SitePoints(np.zeros(0, np.int16), np.zeros(0), np.zeros(0))
    outlines = Outlines(world)
    return Maps(sections.world_section(points, seed, outlines), sections.atlas(points, seed, outlines))


def write_report(
    add_bytes: Callable[[str, bytes], object],
    document: Mapping[str, Any],
    scores: Mapping[int, Score],
    pooled: Score,
    maps: Maps,
    world: World,
) -> None:
    """Add `report/index.html` to a certification's folder.

    `document` is the certificate, `scores` are by seed; `maps` show the first seed of the document.
    """
    page = report_page(document, scores, pooled, maps, world)
    add_bytes(REPORT, page.encode("utf-8"))


def report_page(
    document: Mapping[str, Any],
    scores: Mapping[int, Score],
    pooled: Score,
    maps: Maps,
    world: World,
) -> str:
    """The page as text."""
    names = dict(zip(world.countries.iso, world.countries.name, strict=True))
    body = [
        sections.headline(document, pooled),
        "<main>",
        maps.world,
        sections.gates(document),
        sections.counters(document),
        sections.stability(document),
        sections.distributions(document, scores, pooled),
        maps.atlas,
        sections.distortion(document, names),
        sections.guard(document),
        sections.verification(document),
        sections.provenance(document, world.provenance, names),
        "</main>",
        sections.footer(document),
    ]
    grade = escape(grade_text(str(document["grade"])))
    title = f"seg1b certificate {escape(sections.short(document['cert_id']))}: grade {grade}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n'
        f"<style>\n{_style()}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _style() -> str:
    return (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
