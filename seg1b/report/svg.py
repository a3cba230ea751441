"""Small pieces of hand-written SVG: scales, ticks, shapes. Numbers have one decimal, so same input, same text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Scale:
    """A linear map from [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a value."""
        span = self.high - self.low
        part = 0.5 if span == 0.0 else (value - self.low) / span
        return self.start + part * (self.end - self.start)

    def clamped(self, value: float) -> float:
        """Pixels of a value, or of the nearer end."""
        return self(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class LogScale:
    """A logarithmic map from [low, high], both positive, to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a positive value."""
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)


def figure(width: float, height: float, label: str, body: Iterable[str], kind: str = "chart") -> str:
    """An inline SVG that scales with its container and says in words what it shows."""
    text = escape(label)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{text}">'
        f"<title>{text}</title>{''.join(body)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a CSS class."""
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def polyline(
    x: Sequence[float], y: Sequence[float], kind: str, title: str = "", *, close: bool = False
) -> str:
    """A line through points."""
    points = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<path class="{kind}" d="M{points}{"z" if close else ""}">{_title(title)}</path>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    """A rectangle of a CSS class."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.1f}" '
        f'height="{max(height, 0.0):.1f}">{_title(title)}</rect>'
    )


def dot(x: float, y: float, radius: float, kind: str, title: str = "") -> str:
    """A disc of a CSS class."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_title(title)}</circle>'


def cross(x: float, y: float, reach: float, kind: str, title: str = "") -> str:
    """A diagonal cross: the mark of what fails, distinct from a disc without colour."""
    r = reach
    path = f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}l{-2 * r:.1f} {2 * r:.1f}"
    return f'<path class="{kind}" d="{path}">{_title(title)}</path>'


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    """A text; `anchor` start, middle or end."""
    style = f' class="{kind}"' if kind else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text{style} x="{x:.1f}" y="{y:.1f}"{where}>{escape(content)}</text>'


def _title(content: str) -> str:
    return f"<title>{escape(content)}</title>" if content else ""
