"""The least change of outlets per country that was found to bring a catalogue to a grade, and what each gate costs.

Added plus removed outlets are minimised subject to the gates that counts decide (`count_gates`). Two ways are tried:
the linear programme of the convex ones (`change_programme`), with missing countries opened by market prior, an outlet
each; and from the present counts (or a programme's solution that fails a gate which is not convex) towards a shape
that is known to pass, the certified country shares, as far as it takes. What is found is rounded to whole outlets and
judged by the exact gates; the cheapest that passes is the answer. It is a heuristic: that none was found does not prove
that there is none, and a smaller one may exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from seg1b.policy.gates import GatesPolicy
from seg1b.scoring.change_programme import ChangeProgramme
from seg1b.scoring.count_gates import Booleans, CountGates, Floats, Integers
from seg1b.scoring.count_gates import Grade as Grade

_SLACKS = (0.002, 0.02)
"""Relative tightening of the programme's thresholds before rounding, tried in turn."""
_NOT_CONVEX = frozenset({"market_slope", "country_gini_lower_bound"})
_TOTALS = 16
_LEAST, _MOST, _MOST_PER_COUNTRY = 0.01, 2.0, 50
"""Totals of the target that are tried, between parts of the present one (or so many a country, if that is more)."""
_NEARER: Final = (0.8, 0.87, 0.94, 1.07, 1.15, 1.25)
"""And then these, relative to the best of them."""
_STEPS, _HALVINGS = 12, 8
"""Points tried on a way to a target, and halvings of the gap before the first that passes."""


@dataclass(frozen=True)
class LeastChange:
    """How to reach a grade. `change` int64[C]: outlets to add (or, negative, to remove); None if none was found.

    `prices`: gate -> outlets of change that a threshold milder by .01 would save, of a programme's solution; gates
    without a price do not bind. `unmet`: rows that the changed counts still fail.
    """

    grade: Grade
    change: Integers | None
    prices: dict[str, float]
    unmet: tuple[str, ...]

    @property
    def moved(self) -> int:
        """Outlets added and removed."""
        return 0 if self.change is None else int(np.abs(self.change).sum())


def least_change(
    counts: Integers,
    *,
    eligible: Booleans,
    macro_region: Sequence[str],
    south: Floats,
    prior: Floats,
    market: Floats,
    gates: GatesPolicy,
    grade: Grade,
    closed: Booleans | None = None,
    widths: Mapping[str, float] = MappingProxyType({}),
    target: Floats | None = None,
) -> LeastChange:
    """The least change found of `counts` int64[C] that reaches `grade`, as far as counts decide it.

    `closed`, `widths`: as in CountGates. `target`: shares of the countries (C,) that are expected to pass.
    """
    shut = np.zeros(len(counts), np.bool_) if closed is None else closed
    rules = CountGates(eligible, tuple(macro_region), south, prior, market, gates, grade, shut, widths)
    found = possible_changes(counts, rules, target)
    return found[0] if found else LeastChange(grade, None, {}, rules.failures(counts))


def possible_changes(counts: Integers, rules: CountGates, target: Floats | None = None) -> list[LeastChange]:
    """Every change of `counts` that was found to reach `rules`' grade as far as counts decide it, the cheapest first.

    Those that leave the market slope unmet come after the others.
    """
    if not rules.failures(counts):
        return [LeastChange(rules.grade, np.zeros_like(counts), {}, ())]
    found: list[LeastChange] = []
    failed: list[Integers] = []
    for rounded, prices in _programmed(counts, rules):
        left = rules.failures(rounded)
        if set(left) <= {"market_slope"}:
            found.append(LeastChange(rules.grade, rounded - counts, prices, left))
        failed += [rounded] if left else []
    if target is not None:
        wanted = np.where(rules.served, target, 0.0)
        moved = [change.moved for change in found if not change.unmet]
        search = _Towards(counts, rules, wanted, min(moved, default=math.inf))
        for start in [counts, *sorted(failed, key=lambda other: int(np.abs(other - counts).sum()))[:1]]:
            reached = search.cheapest(start)
            found += [] if reached is None else [LeastChange(rules.grade, reached - counts, {}, ())]
    return sorted(found, key=lambda change: (len(change.unmet), change.moved))


def _programmed(counts: Integers, rules: CountGates) -> Iterator[tuple[Integers, dict[str, float]]]:
    """Rounded solutions of the programme with their prices, of every opening: that of the first slack that lets it
    pass, or the last one if none does.
    """
    programme = ChangeProgramme(counts, rules)
    for opened in programme.openings():
        programme.open(opened)
        latest: tuple[Integers, dict[str, float]] | None = None
        for slack in _SLACKS:
            solved = programme.solve(slack)
            if solved is None:
                break
            wanted, prices = solved
            latest = np.maximum(np.rint(wanted), programme.floor).astype(np.int64), prices
            if set(rules.failures(latest[0])) <= _NOT_CONVEX:
                break
        if latest is not None:
            yield latest


class _Towards:
    """Ways from counts towards shares `wanted` (C,) in several totals; `below`: what a change must cost less than."""

    def __init__(self, counts: Integers, rules: CountGates, wanted: Floats, below: float) -> None:
        self.counts, self.rules, self.below = counts, rules, below
        mass = math.fsum(wanted.tolist())
        self.wanted = wanted / mass if mass > 0.0 else wanted
        self.floor = (self.wanted > 0.0).astype(np.int64)

    def cheapest(self, start: Integers) -> Integers | None:
        """The cheapest counts that pass, and cost less than any before, on the ways from `start`."""
        best: Integers | None = None
        held, around = int(start.sum()), 0.0
        most = max(_MOST * held, _MOST_PER_COUNTRY * int(self.floor.sum()))
        for total in np.geomspace(max(1.0, _LEAST * held), most, _TOTALS).tolist():
            if (point := self._on_both(start, total)) is not None:
                best, around = point, total
        for total in [around * factor for factor in _NEARER] if best is not None else []:
            if (point := self._on_both(start, total)) is not None:
                best = point
        return best

    def _on_both(self, start: Integers, total: float) -> Integers | None:
        """A straight way, and one that first moves the countries whose shares are farthest from those wanted."""
        best: Integers | None = None
        goal = total * self.wanted
        served = np.flatnonzero(self.wanted)
        here = np.where(self.floor, start, 0).astype(np.float64)
        widest = float(np.abs(np.log(np.maximum(here[served], 1.0) / goal[served])).max(initial=0.0))

        def straight(part: float) -> Floats:
            return here + part * (goal - here)

        def clipped(part: float) -> Floats:
            factor = math.exp((1.0 - part) * widest)
            return np.clip(here, goal / factor, goal * factor)

        for way in (straight, clipped):
            if (point := self._first(way)) is not None:
                best = point
        return best

    def _first(self, way: Callable[[float], Floats]) -> Integers | None:
        """The first point of a way that passes, if it costs less than any before."""
        best: Integers | None = None
        before, part = 0.0, 1.0
        for step in range(1, _STEPS + 1):
            part = step / _STEPS
            if (best := self._passing(way(part))) is not None:
                break
            before = part
        if best is None:
            return None
        for _ in range(_HALVINGS):
            middle = 0.5 * (before + part)
            if (point := self._passing(way(middle))) is not None:
                best, part = point, middle
            else:
                before = middle
        return best

    def _passing(self, counts: Floats) -> Integers | None:
        """The counts rounded, if they cost less than any before and pass."""
        rounded = np.maximum(np.rint(counts), self.floor).astype(np.int64)
        cost = int(np.abs(rounded - self.counts).sum())
        if cost >= self.below or self.rules.failures(rounded):
            return None
        self.below = cost
        return rounded
