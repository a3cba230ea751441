"""The screening lane: what a catalogue can still reach, from its counts alone, before anything is placed.

Five of the seven gates are decided by outlets per country. Candidates are ranked, at most two are shortlisted, and
what each lacks is said in outlets and countries. Verdicts are those of `scoring.feasibility`, by the policies that
judge a candidate (`lanes.candidates`); nothing here can certify.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seg1b.forks import share_out
from seg1b.lanes.candidates import Candidate as Candidate
from seg1b.lanes.candidates import load_candidate as load_candidate
from seg1b.lanes.candidates import load_candidates as load_candidates
from seg1b.lanes.candidates import policy_candidate as policy_candidate
from seg1b.lanes.candidates import store_helps as store_helps
from seg1b.lanes.country_facts import CountryFacts as CountryFacts
from seg1b.lanes.country_facts import country_facts as country_facts
from seg1b.lanes.country_facts import only_countries as only_countries
from seg1b.lanes.country_facts import shares_of as shares_of
from seg1b.lanes.lacks import Lack as Lack
from seg1b.lanes.lacks import lacks_of as lacks_of
from seg1b.policy.load import Policies
from seg1b.scoring.feasibility import Feasibility, feasibility, takes_merchants
from seg1b.scoring.values import plain
from seg1b.states.required_pairs import denied_countries, required_pairs

SHORTLIST = 2
"""Not a knob: a wave has at most two candidates, and choosing among more would fit the gates rather than meet them."""
UNPROVEN = "not proven: intervals and the largest merchant's share are not known from quotas"
_REACH_ORDER = {"B+": 0, "B": 1, "below_B": 2}
_Shortfall: TypeAlias = tuple[int, float]
_Rank: TypeAlias = tuple[int, _Shortfall, _Shortfall, tuple[float, ...], str]


@dataclass(frozen=True)
class Screened:
    """A candidate's verdict. `reachable`: best grade that placement can still make of it.

    `judged_by`: `catalogue`, or `quotas` for policies that were never in reach of the shortlist: then intervals and
    the largest merchant's share, which take a catalogue, are not among the rows. `counts`: outlets of every country
    as bytes of int64. `rank` (from 1; 0 for one that was screened alone) and `why_not` (shortlisted) are those among
    the candidates that were screened together, `margins` what it was ranked by there among its equals.
    """

    name: str
    kind: str
    merchants: int
    sites: int
    feasibility: Feasibility
    lacks: tuple[Lack, ...]
    shortlisted: bool = False
    judged_by: str = "catalogue"
    counts: bytes = dataclasses.field(default=b"", repr=False)
    rank: int = 0
    margins: tuple[tuple[float, str], ...] = ()
    why_not: str = ""

    @property
    def reachable(self) -> str:
        """`B+`, `B` or `below_B`."""
        return self.feasibility.reach

    @property
    def proven(self) -> bool:
        """Whether every row that a catalogue decides was judged; a row that fails is proof enough of `below_B`."""
        return self.judged_by == "catalogue" or self.reachable == "below_B"

    def notes(self) -> list[str]:
        """What its rows do not say: whether the verdict is proven, and why it is not shortlisted."""
        return ([] if self.proven else [UNPROVEN]) + ([self.why_not] if self.why_not else [])

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; a distance is null if a row cannot be computed."""
        counters = plain(self.feasibility.counters)
        for row in counters:
            row["pass"] = row.pop("passed")
        away = {grade: self.feasibility.shortfall(grade) for grade in ("B", "B+")}
        distance = {grade: None if unknown else outside for grade, (unknown, outside) in away.items()}
        margin, gate = self.margins[0] if self.margins else (None, None)
        return {
            "name": self.name,
            "kind": self.kind,
            "merchants": self.merchants,
            "sites": self.sites,
            "reachable": self.reachable,
            "proven": self.proven,
            "distance_to_b": distance["B"],
            "distance_to_b_plus": distance["B+"],
            "rank": self.rank or None,
            "tightest_margin": margin,
            "tightest_gate": gate,
            "shortlisted": self.shortlisted,
            "judged_by": self.judged_by,
            "reasons": [lack.text for lack in self.lacks] + self.notes(),
            "southern_bounds": plain(self.feasibility.southern_bounds),
            "gates": plain(self.feasibility.gates),
            "counter_metrics": counters,
            "lacks": plain(self.lacks),
        }


def screen(
    candidates: Sequence[Candidate],
    policies: Policies,
    facts: CountryFacts,
) -> list[Screened]:
    """Judge every candidate, policies by their own and catalogues by those given, and rank them.

    By grade in reach, then by distance to B+ and to B, then by how far inside its bounds for that grade the tightest
    row is (then the next), then by name. The first that differ in their counts or in anything but the name are
    shortlisted: a copy takes no place. Many policies are judged by their quotas first; a catalogue is synthesised only
    for those that reach the shortlist. Margins are then of the rows that quotas decide, which are known of all.
    """
    by_quotas = len(candidates) > SHORTLIST and any(one.quotas is not None for one in candidates)

    def judge(one: Candidate, *, quotas: bool) -> Screened:
        row = (_screen_quotas if quotas else screen_one)(one, policies, facts)
        if row.reachable == "below_B":
            return row
        margins = row.feasibility.margins(row.reachable, counts_only=by_quotas)
        return dataclasses.replace(row, margins=margins)

    first = share_out(lambda one: judge(one, quotas=by_quotas and one.quotas is not None), candidates)
    judged = list(zip(first, candidates, strict=True))
    while True:
        judged.sort(key=lambda pair: _rank(pair[0]))
        rows = [row for row, _ in judged]
        originals = _originals(rows)
        distinct = sorted(set(originals))[:SHORTLIST]
        unproven = [place for place in distinct if not rows[place].proven]
        if not unproven:
            break
        again = [judged[place][1] for place in unproven]
        proven = share_out(lambda one: judge(one, quotas=False), again)
        for place, row, one in zip(unproven, proven, again, strict=True):
            judged[place] = row, one
    return [
        dataclasses.replace(
            row,
            rank=place + 1,
            shortlisted=row.reachable != "below_B" and place in distinct,
            why_not=""
            if row.reachable == "below_B" or place in distinct
            else _why_not(place, rows, rows[originals[place]], rows[distinct[-1]]),
        )
        for place, row in enumerate(rows)
    ]


def _rank(row: Screened) -> _Rank:
    found = row.feasibility
    inside = tuple(-margin for margin, _ in row.margins)
    return _REACH_ORDER[row.reachable], found.shortfall("B+"), found.shortfall("B"), inside, row.name


def _originals(rows: Sequence[Screened]) -> list[int]:
    """Of every ranked row the place of the first that has its counts and differs in the name alone; its own, mostly."""
    first: dict[tuple[bytes, object], int] = {}
    return [first.setdefault((row.counts, _rank(row)[:-1]), place) for place, row in enumerate(rows)]


def _why_not(place: int, rows: Sequence[Screened], original: Screened, last: Screened) -> str:
    """Why the row at `place` of the ranked `rows` is not shortlisted, which its gates do not say.

    `original`: whose copy it is, or itself; `last`: of the shortlist.
    """
    row = rows[place]
    if original is not row:
        if original.name == row.name:
            return "not shortlisted: the same catalogue, given twice"
        return f"not shortlisted: same counts as {original.name}, which comes first by name"
    text = f"not shortlisted: rank {place + 1} of {len(rows)}, and a wave has at most {SHORTLIST} candidates"
    if last.reachable != row.reachable:
        return f"{text}; {last.name} can reach {last.reachable}"
    for grade in ("B+", "B"):
        mine, other = row.feasibility.distance_to(grade), last.feasibility.distance_to(grade)
        if mine != other:
            return f"{text}; its distance to {grade} is {mine:.4g}, that of {last.name} is {other:.4g}"
    for (mine, gate), (other, other_gate) in zip(row.margins, last.margins, strict=False):
        if mine != other:
            return (
                f"{text}; where they first differ, its next tightest row is {gate}, {mine:.4%} inside "
                f"{row.reachable}, and that of {last.name} is {other_gate}, {other:.4%} inside"
            )
    return f"{text}; {last.name} has the same margins and comes first by name"


def _screen_quotas(candidate: Candidate, policies: Policies, facts: CountryFacts) -> Screened:
    """The gates that quotas decide, exactly; nothing is known of merchants yet."""
    assert candidate.quotas is not None
    policies, facts = candidate.judged_with(policies, facts)
    counts = candidate.quotas.copy()
    counts[denied_countries(facts.countries, policies.requirements)] = 0
    place = np.arange(len(counts))
    found = feasible(
        place.astype(np.uint64), place.astype(np.int16), counts, policies, facts, bootstrap=False
    )
    kept = tuple(row for row in found.counters if not takes_merchants(row.name))
    found = dataclasses.replace(found, counters=kept)
    return Screened(
        candidate.name,
        candidate.kind,
        candidate.merchants,
        int(counts.sum()),
        found,
        lacks_of(found, counts, None, facts, 0),
        judged_by="quotas",
        counts=counts.astype(np.int64).tobytes(),
    )


def screen_one(
    candidate: Candidate,
    policies: Policies,
    facts: CountryFacts,
) -> Screened:
    """Exact country gates of one candidate, without the countries that S3's policy denies.

    `policies` and `facts` judge a catalogue; a candidate of policies is judged by its own.
    """
    policies, facts = candidate.judged_with(policies, facts)
    pairs, _ = required_pairs(candidate.whole(), facts.countries, policies.requirements)
    found = feasible(pairs.merchant_id, pairs.country, pairs.n_sites, policies, facts)
    counts = pairs.sites_per_country(len(facts.countries))
    sites_min = policies.gates.counter_metric_parameters.largest_merchant_sites_min
    return Screened(
        candidate.name,
        candidate.kind,
        pairs.merchants(),
        int(pairs.n_sites.sum()),
        found,
        lacks_of(found, counts, pairs, facts, sites_min),
        counts=counts.astype(np.int64).tobytes(),
    )


def feasible(
    merchant_id: NDArray[np.uint64],
    country: NDArray[np.int16],
    sites: NDArray[np.integer[Any]],
    policies: Policies,
    facts: CountryFacts,
    *,
    bootstrap: bool = True,
) -> Feasibility:
    """`scoring.feasibility` of pairs (merchant, country, outlets), judged by `policies`."""
    return feasibility(
        merchant_id,
        country,
        sites,
        eligible=np.asarray(facts.countries.eligible),
        macro_region=facts.countries.macro_region,
        south=facts.south,
        prior=facts.prior,
        market=facts.market,
        gates=policies.gates,
        bootstrap=bootstrap,
    )
