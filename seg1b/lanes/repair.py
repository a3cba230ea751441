"""What would have to change in a catalogue's counts per country for it to reach B, and B+.

Counts are changed until the gates that they decide hold with the room that the catalogue's intervals take. Then the
change is made to its merchants, in proportion and evenly, and the results are screened: what still fails in either is
named. Intervals change with the catalogue, so this is done again with the room that they took then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg1b.catalogue.shares import CountryShares
from seg1b.errors import InputError
from seg1b.lanes.candidates import Candidate
from seg1b.lanes.country_facts import CountryFacts, shares_of
from seg1b.lanes.screen import feasible
from seg1b.policy.load import Policies
from seg1b.scoring.changed_pairs import changed_pairs
from seg1b.scoring.count_gates import CountGates, interval_room, interval_widths
from seg1b.scoring.feasibility import Feasibility
from seg1b.scoring.least_change import Grade, possible_changes
from seg1b.states.required_pairs import denied_countries, required_pairs
from seg1b.states.tables import Pairs
from seg1b.store.store import Store
from seg1b.world.content import World

GRADES: tuple[Grade, ...] = ("B", "B+")
_TRIES = 3
"""How often counts are changed anew with the room that intervals were found to take."""
_SCREENED = 3
"""How many of the changes found are screened each time, the cheapest first."""
_WORTH = 0.02
"""Part of a change that must be saved for a further try to be worth its time."""
_ASKED, _KEPT = 1.15, 1.1
"""Room over the width that an interval was found to have: asked for, and at least to be left after a change. Merchants
are not changed in just one way, and an end of an interval of 2,000 replicates is itself uncertain by some 3 %."""


@dataclass(frozen=True)
class Repair:
    """The least change found for one grade; `add` and `remove`: (country, outlets), the most first.

    `unmet`: rows that fail after the change, made to merchants in proportion or evenly; without a change found, the
    rows that fail now. An empty one means that the changed catalogue was screened either way and reaches the grade.
    """

    grade: str
    found: bool
    add: tuple[tuple[str, int], ...]
    remove: tuple[tuple[str, int], ...]
    prices: dict[str, float]
    unmet: tuple[str, ...]

    @property
    def added(self) -> int:
        """Outlets to add."""
        return sum(count for _, count in self.add)

    @property
    def removed(self) -> int:
        """Outlets to remove."""
        return sum(count for _, count in self.remove)

    @property
    def moved(self) -> int:
        """Both together."""
        return self.added + self.removed

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "grade": self.grade,
            "found": self.found,
            "outlets_added": self.added,
            "outlets_removed": self.removed,
            "add": dict(self.add),
            "remove": dict(self.remove),
            "saved_per_0.01": dict(self.prices),
            "unmet": list(self.unmet),
        }


@dataclass(frozen=True)
class _Tried:
    """A change, the catalogue's rows after it was made in each way, those that fail for the grade in any, and whether
    intervals hold only just.
    """

    change: NDArray[np.int64]
    prices: dict[str, float]
    after: tuple[Feasibility, ...]
    unmet: tuple[str, ...]
    scarce: bool

    @property
    def moved(self) -> int:
        """Outlets added and removed."""
        return int(np.abs(self.change).sum())

    @property
    def blocked(self) -> bool:
        """Whether an interval takes more room than counts left it."""
        return any(name.startswith("bootstrap_") for name in self.unmet)

    @property
    def order(self) -> tuple[int, bool, int]:
        """The fewest rows unmet, then with room to spare, then the fewest outlets moved."""
        return len(self.unmet), self.scarce, self.moved


def repairs_of(
    candidate: Candidate, policies: Policies, facts: CountryFacts, shares: CountryShares | None = None
) -> list[Repair]:
    """The least change found of a candidate's counts for B and for B+; denied countries stay without outlets.

    Policies are judged by their own policies and shares; a catalogue by those given. `shares`: the certified country
    shares, towards which counts are moved where the programme alone finds nothing.
    """
    policies, facts = candidate.judged_with(policies, facts)
    pairs, _ = required_pairs(candidate.whole(), facts.countries, policies.requirements)
    search = _Search(pairs, policies, facts, candidate.shares or shares)
    best_plus = search.best("B+", ())
    best = search.best("B", () if best_plus is None else (best_plus,))
    return [search.repair("B", best), search.repair("B+", best_plus)]


def target_shares(policies: Policies, world: World, store: Store | None) -> CountryShares | None:
    """The country shares that these policies certify; None if their limits cannot all be met."""
    try:
        return shares_of(policies, world, store)
    except InputError:
        return None


class _Search:
    """One catalogue and what judges it."""

    def __init__(
        self, pairs: Pairs, policies: Policies, facts: CountryFacts, shares: CountryShares | None
    ) -> None:
        self.pairs, self.policies, self.facts = pairs, policies, facts
        self.target = None if shares is None else shares.share
        self.counts = pairs.sites_per_country(len(facts.countries)).astype(np.int64)
        self.closed = np.zeros(len(self.counts), np.bool_)
        self.closed[denied_countries(facts.countries, policies.requirements)] = True
        self.now = (feasible(pairs.merchant_id, pairs.country, pairs.n_sites, policies, facts),)

    def best(self, grade: Grade, others: Iterable[_Tried]) -> _Tried | None:
        """The change that leaves the fewest rows unmet, and the cheapest of those; `others` were found for more."""
        tried: list[_Tried] = []
        widths = self._widths(self.now)
        for _ in range(_TRIES):
            latest = self._tried(grade, widths)
            tried += latest
            if not latest:
                if not any(widths.values()):
                    break
                widths = {}  # no counts were found that leave so much room: ask for none, and name what then fails
                continue
            cheapest = latest[0]
            room = {name: _ASKED * width for name, width in self._widths(cheapest.after).items()}
            settled = not (cheapest.blocked or cheapest.scarce)
            if settled and _saved_at_most(cheapest, widths, room) <= _WORTH * cheapest.moved:
                break
            widths = room
        prices = min(tried, key=lambda one: one.order).prices if tried else {}
        tried += [self._judged(grade, one.change, prices, one.after) for one in others]
        return min(tried, key=lambda one: one.order, default=None)

    def _tried(self, grade: Grade, widths: Mapping[str, float]) -> list[_Tried]:
        """The cheapest changes that leave intervals the room `widths`, up to the first after which intervals hold."""
        tried = []
        for found in possible_changes(self.counts, self._rules(grade, widths), self.target)[:_SCREENED]:
            assert found.change is not None
            after = self._screened(found.change) if found.change.any() else self.now
            tried.append(self._judged(grade, found.change, found.prices, after))
            if not tried[-1].blocked:
                break
        return tried

    def _judged(
        self,
        grade: Grade,
        change: NDArray[np.int64],
        prices: dict[str, float],
        after: tuple[Feasibility, ...],
    ) -> _Tried:
        """A change that leads to the rows `after`. None at all is never scarce: nothing about it is expected."""
        rooms = [pair for one in after for pair in interval_room(one, self.policies.gates, grade).values()]
        scarce = bool(change.any()) and any(_KEPT * width > room for width, room in rooms)
        return _Tried(change, prices, after, _failing(after, grade), scarce)

    def repair(self, grade: Grade, best: _Tried | None) -> Repair:
        """In words of countries."""
        if best is None:
            return Repair(grade, False, (), (), {}, _failing(self.now, grade))
        change, iso = best.change, self.facts.countries.iso
        add = [(iso[c], int(change[c])) for c in np.argsort(-change, kind="stable").tolist() if change[c] > 0]
        gone = [
            (iso[c], -int(change[c])) for c in np.argsort(change, kind="stable").tolist() if change[c] < 0
        ]
        return Repair(grade, True, tuple(add), tuple(gone), best.prices, best.unmet)

    def _rules(self, grade: Grade, widths: Mapping[str, float]) -> CountGates:
        facts = self.facts
        return CountGates(
            np.asarray(facts.countries.eligible),
            tuple(facts.countries.macro_region),
            facts.south,
            facts.prior,
            facts.market,
            self.policies.gates,
            grade,
            self.closed,
            widths,
        )

    def _screened(self, change: NDArray[np.int64]) -> tuple[Feasibility, ...]:
        """The rows of the catalogue after a change, made in either way."""
        pairs = self.pairs.merchant_id, self.pairs.country, self.pairs.n_sites
        made = [changed_pairs(*pairs, change, evenly=evenly) for evenly in (False, True)]
        return tuple(feasible(*changed, self.policies, self.facts) for changed in made)

    def _widths(self, found: tuple[Feasibility, ...]) -> dict[str, float]:
        """The widest interval of every metric that has one."""
        widths: dict[str, float] = {}
        for one in found:
            for name, width in interval_widths(one, self.policies.gates).items():
                widths[name] = max(width, widths.get(name, 0.0))
        return widths


def _saved_at_most(tried: _Tried, widths: Mapping[str, float], room: Mapping[str, float]) -> float:
    """Outlets that a change could save if counts had to leave intervals only as much `room`, instead of `widths`.

    The least change is convex in thresholds, so prices bound it; without prices nothing is expected.
    """
    return sum(
        100.0 * tried.prices.get(name, 0.0) * max(0.0, widths.get(name, 0.0) - width)
        for name, width in room.items()
    )


def _failing(found: tuple[Feasibility, ...], grade: Grade) -> tuple[str, ...]:
    """Names of the rows that fail for a grade in any of them."""
    names: list[str] = []
    for one in found:
        names += [row.name for row in one.gates if not (row.pass_b if grade == "B" else row.pass_b_plus)]
        names += [row.name for row in one.counters if not row.passed]
    return tuple(dict.fromkeys(names))
