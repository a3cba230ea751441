"""What would have to change in a catalogue's counts per country for it to reach B, and B+."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seg1b.lanes.country_facts import CountryFacts
from seg1b.lanes.screen import Candidate
from seg1b.policy.load import Policies
from seg1b.scoring.least_change import Grade, least_change
from seg1b.states.required_pairs import denied_countries, required_pairs

GRADES: tuple[Grade, ...] = ("B", "B+")


@dataclass(frozen=True)
class Repair:
    """The least change for one grade; `add` and `remove`: (country, outlets), the most first."""

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


def repairs_of(candidate: Candidate, policies: Policies, facts: CountryFacts) -> list[Repair]:
    """The least change of a candidate's counts for B and for B+; denied countries stay without outlets."""
    countries = facts.countries
    denied = denied_countries(countries, policies.requirements)
    if candidate.quotas is not None:
        counts = candidate.quotas.copy()
        counts[denied] = 0
    else:
        pairs, _ = required_pairs(candidate.whole(), countries, policies.requirements)
        counts = pairs.sites_per_country(len(countries))
    prior = facts.prior.copy()
    prior[denied] = 0.0  # so that nothing is added there
    return [_repair(counts, prior, policies, facts, grade) for grade in GRADES]


def _repair(counts: Any, prior: Any, policies: Policies, facts: CountryFacts, grade: Grade) -> Repair:
    found = least_change(
        counts,
        eligible=np.asarray(facts.countries.eligible),
        macro_region=facts.countries.macro_region,
        south=facts.south,
        prior=prior,
        market=facts.market,
        gates=policies.gates,
        grade=grade,
    )
    change = np.zeros(len(counts), np.int64) if found.change is None else found.change
    iso = facts.countries.iso
    add = [(iso[c], int(change[c])) for c in np.argsort(-change, kind="stable").tolist() if change[c] > 0]
    remove = [(iso[c], -int(change[c])) for c in np.argsort(change, kind="stable").tolist() if change[c] < 0]
    return Repair(grade, found.change is not None, tuple(add), tuple(remove), found.prices, found.unmet)
