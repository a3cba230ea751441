"""How words fit a terminal: lines break between units, and what continues a line stands below it, indented."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_UNIT = re.compile(r"(\s*)(\S*`[^`]*`\S*|\S+ -> \S+|\S+)")
"""A word with the space before it; a command in backquotes and a change (`1 -> 2`) are one."""
_NEXT_SETTING = re.compile(r", (?=[a-z]\w*(?:\.\w+)+ )")


def wrapped(text: str, width: float, indent: int) -> str:
    """Text in lines of at most `width`; what continues a line is indented. Longer words (paths) stay whole."""
    return "\n".join(line for whole in text.split("\n") for line in _lines(_units(whole), width, indent))


def listed(head: str, parts: Sequence[str], width: float, indent: int) -> str:
    """`head  part; part`; where that is too long, the parts in lines below the head, whole if they fit."""
    whole = "  ".join(filter(None, (head, "; ".join(parts))))
    if len(whole) <= width or not parts:
        return whole
    units = [("", parts[0]), *((" ", part) for part in parts[1:])]
    ended = [(gap, f"{part};") for gap, part in units[:-1]] + units[-1:]
    return "\n".join([head, *_lines(ended, width, indent, " " * indent)])


def settings_of(text: str) -> list[str]:
    """The settings of a candidate, one by one: `knob before -> after`."""
    return _NEXT_SETTING.split(text)


def _units(text: str) -> list[tuple[str, str]]:
    return [(str(gap), str(unit)) for gap, unit in _UNIT.findall(text)]


def _lines(units: Iterable[tuple[str, str]], width: float, indent: int, start: str = "") -> list[str]:
    lines: list[str] = []
    now = start
    for gap, unit in units:
        fits = len(unit) <= width - indent
        pieces = [unit] if fits else unit.split(" ")
        if not fits and len(pieces) > 1 and now.strip():
            lines, now, gap = [*lines, now], " " * indent, ""
        for gap_before, piece in zip((gap, *" " * (len(pieces) - 1)), pieces, strict=True):
            at = len(now) + len(gap_before)
            if now.strip() and at > indent and at + len(piece) > width:
                lines.append(now)
                now = " " * indent + piece
            else:
                now += gap_before + piece
    return [*lines, now]
