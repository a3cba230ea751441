"""Temporary."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seg1b.report.points import SitePoints
from seg1b.scoring.score import Score
from seg1b.world.bundle import World

__all__ = ["SitePoints", "write_report"]


def write_report(
    add_bytes: Callable[[str, bytes], Any],
    document: Mapping[str, Any],
    scores: Mapping[int, Score],
    pooled: Score,
    points: Mapping[int, SitePoints],
    world: World,
) -> None:
    """Add report/index.html."""
    add_bytes("report/index.html", b"<!doctype html><title>seg1b</title>")
