"""The screening lane: what a catalogue can still reach, from its counts alone, before anything is placed.

Five of the seven gates are decided by outlets per country. A candidate is a catalogue (a file or a 1A bundle) or a
set of policies, whose catalogue is synthesised. Candidates are ranked, at most two are shortlisted, and what each
lacks is said in outlets and countries. Verdicts are those of `scoring.feasibility`; nothing here can certify.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.errors import InputError
from seg1b.lanes.country_facts import CountryFacts as CountryFacts
from seg1b.lanes.country_facts import country_facts as country_facts
from seg1b.lanes.country_facts import only_countries as only_countries
from seg1b.lanes.country_facts import shares_of as shares_of
from seg1b.policy.load import POLICY_FILES, Policies, load_policies, set_values
from seg1b.policy.yaml_reader import read_yaml
from seg1b.scoring.country_metrics import top_count
from seg1b.scoring.feasibility import Feasibility, feasibility
from seg1b.scoring.triage import advice, heaviest_countries
from seg1b.scoring.values import plain
from seg1b.states.required_pairs import denied_countries, required_pairs
from seg1b.states.tables import Pairs
from seg1b.store.store import Store
from seg1b.world.content import World

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
T = TypeVar("T")

SHORTLIST = 2
"""Not a knob: a wave has at most two candidates, and choosing among more would fit the gates rather than meet them."""
_REACH_ORDER = {"B+": 0, "B": 1, "below_B": 2}
_NAMED_AT_MOST = 12


@dataclass(frozen=True)
class Candidate:
    """Something to be screened. `kind`: `outlets`, `counts`, `bundle` or `policies`.

    Policies know how many outlets every country will have (`quotas` int64[C], of `merchants`) long before who has
    them: `make` synthesises the catalogue when it is needed.
    """

    name: str
    kind: str
    catalogue: OutletCatalogue | None
    quotas: Integers | None = None
    merchants: int = 0
    make: Callable[[], OutletCatalogue] | None = None

    def whole(self) -> OutletCatalogue:
        """The catalogue, synthesised now if need be."""
        if self.catalogue is not None:
            return self.catalogue
        assert self.make is not None
        return self.make()


@dataclass(frozen=True)
class Lack:
    """One row that fails for `grade`, and what is missing, in words."""

    name: str
    grade: str
    text: str


@dataclass(frozen=True)
class Screened:
    """A candidate's verdict. `reachable`: best grade that placement can still make of it.

    `judged_by`: `catalogue`, or `quotas` for policies that were never in reach of the shortlist: then intervals and
    the largest merchant's share, which take a catalogue, are not among the rows.
    """

    name: str
    kind: str
    merchants: int
    sites: int
    feasibility: Feasibility
    lacks: tuple[Lack, ...]
    shortlisted: bool = False
    judged_by: str = "catalogue"

    @property
    def reachable(self) -> str:
        """`B+`, `B` or `below_B`."""
        return self.feasibility.reach

    def not_shortlisted(self) -> list[str]:
        """Why it is not, where its gates do not say so."""
        if self.shortlisted or self.reachable == "below_B":
            return []
        return [
            f"not shortlisted: a wave has at most {SHORTLIST} candidates, and others are nearer to B+ or B"
        ]

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        counters = plain(self.feasibility.counters)
        for row in counters:
            row["pass"] = row.pop("passed")
        return {
            "name": self.name,
            "kind": self.kind,
            "merchants": self.merchants,
            "sites": self.sites,
            "reachable": self.reachable,
            "distance_to_b": self.feasibility.distance_to("B"),
            "distance_to_b_plus": self.feasibility.distance_to("B+"),
            "shortlisted": self.shortlisted,
            "judged_by": self.judged_by,
            "reasons": [lack.text for lack in self.lacks] + self.not_shortlisted(),
            "southern_bounds": plain(self.feasibility.southern_bounds),
            "gates": plain(self.feasibility.gates),
            "counter_metrics": counters,
            "lacks": plain(self.lacks),
        }


# -- candidates


def load_candidate(
    path: Path, policies: Policies, world: World, store: Store | None = None, *, seed: int
) -> Candidate:
    """A catalogue file, a 1A bundle's folder, a folder of policies, or one policy file.

    Policies stand for the catalogue that `seed` synthesises from them; a single policy file is taken together with
    `policies`. Raises InputError of the loaders, or E_SCREEN_FILE.
    """
    iso = world.countries.iso
    if path.is_dir():
        if (path / "data" / "layer1").is_dir():
            from seg1b.catalogue.verify import read_catalogue, verify_bundle

            return Candidate(str(path), "bundle", read_catalogue(verify_bundle(path), iso))
        if any((path / file.path).exists() for file in POLICY_FILES):
            return policy_candidate(str(path), load_policies(path), world, store, seed)
        raise InputError(
            "E_SCREEN_FILE",
            "this folder is neither a 1A bundle (data/layer1/1A) nor a folder of policies (policy/*.yaml)",
            where=str(path),
            next_step="name a catalogue file, a bundle's root folder or a folder of policies",
        )
    if path.suffix in {".yaml", ".yml"}:
        return policy_candidate(str(path), _with_file(policies, path), world, store, seed)
    from seg1b.catalogue.user import load_user_catalogue

    loaded = load_user_catalogue(path, iso)
    return Candidate(str(path), loaded.layout, loaded.catalogue)


def _with_file(policies: Policies, path: Path) -> Policies:
    """The policies with one file replaced, recognised by its name."""
    named = [file for file in POLICY_FILES if Path(file.path).name == path.name]
    if not named:
        raise InputError(
            "E_SCREEN_FILE",
            f"{path.name} is not the name of a policy file",
            where=str(path),
            next_step="use the file's own name: " + ", ".join(Path(file.path).name for file in POLICY_FILES),
        )
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise InputError("E_POLICY_VALUE", "a policy file holds keys and values", where=str(path))
    return set_values(policies, {f"{named[0].prefix}.{key}": value for key, value in tree.items()})


def policy_candidate(
    name: str, policies: Policies, world: World, store: Store | None, seed: int
) -> Candidate:
    """What `seed` would synthesise under `policies`: the quotas now, the catalogue when it is asked for."""
    from seg1b.catalogue.synthesise import planned_quotas, synthesise

    shares = shares_of(policies, world, store)
    quotas, merchants = planned_quotas(shares, policies.synthesis, seed)
    return Candidate(
        name,
        "policies",
        None,
        quotas,
        merchants,
        lambda: synthesise(world.countries, shares, policies.synthesis, seed).catalogue,
    )


# -- verdicts


def screen(
    candidates: Sequence[Candidate],
    policies: Policies,
    facts: CountryFacts,
) -> list[Screened]:
    """Judge every candidate and rank them: by grade in reach, then by distance to B+ and to B, then by name.

    Many policies are judged by their quotas first; a catalogue is synthesised only for those that reach the top.
    """
    alone = len(candidates) <= SHORTLIST
    rows = [
        (_screen_quotas(one, policies, facts) if one.quotas is not None and not alone else None, one)
        for one in candidates
    ]
    judged = [(row or screen_one(one, policies, facts), one) for row, one in rows]
    while True:
        judged.sort(key=lambda pair: _rank(pair[0]))
        open_places = [
            place
            for place, (row, _) in enumerate(judged[:SHORTLIST])
            if row.judged_by == "quotas" and row.reachable != "below_B"
        ]
        if not open_places:
            break
        place = open_places[0]
        judged[place] = (screen_one(judged[place][1], policies, facts), judged[place][1])
    good = [row.reachable != "below_B" for row, _ in judged]
    return [
        dataclasses.replace(row, shortlisted=good[place] and place < SHORTLIST)
        for place, (row, _) in enumerate(judged)
    ]


def _screen_quotas(candidate: Candidate, policies: Policies, facts: CountryFacts) -> Screened:
    """The gates that quotas decide, exactly; nothing is known of merchants yet."""
    assert candidate.quotas is not None
    counts = candidate.quotas.copy()
    counts[denied_countries(facts.countries, policies.requirements)] = 0
    place = np.arange(len(counts))
    found = _feasible(
        place.astype(np.uint64), place.astype(np.int16), counts, policies, facts, bootstrap=False
    )
    kept = tuple(row for row in found.counters if row.name != "largest_merchant_share")
    found = dataclasses.replace(found, counters=kept)
    lacks = lacks_of(found, counts, None, facts, 0)
    return Screened(
        candidate.name,
        candidate.kind,
        candidate.merchants,
        int(counts.sum()),
        found,
        lacks,
        judged_by="quotas",
    )


def _rank(row: Screened) -> tuple[int, float, float, str]:
    distances = row.feasibility.distance_to("B+"), row.feasibility.distance_to("B")
    return (_REACH_ORDER[row.reachable], *distances, row.name)


def screen_one(
    candidate: Candidate,
    policies: Policies,
    facts: CountryFacts,
) -> Screened:
    """Exact country gates of one candidate, without the countries that S3's policy denies."""
    pairs, _ = required_pairs(candidate.whole(), facts.countries, policies.requirements)
    found = _feasible(pairs.merchant_id, pairs.country, pairs.n_sites, policies, facts)
    return Screened(
        candidate.name,
        candidate.kind,
        len(np.unique(pairs.merchant_id)),
        int(pairs.n_sites.sum()),
        found,
        lacks_of(
            found,
            pairs.sites_per_country(len(facts.countries)),
            pairs,
            facts,
            policies.gates.counter_metric_parameters.largest_merchant_sites_min,
        ),
    )


def _feasible(
    merchant_id: NDArray[np.uint64],
    country: NDArray[np.int16],
    sites: NDArray[np.integer[Any]],
    policies: Policies,
    facts: CountryFacts,
    *,
    bootstrap: bool = True,
) -> Feasibility:
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


def lacks_of(
    found: Feasibility,
    counts: Integers,
    pairs: Pairs | None,
    facts: CountryFacts,
    merchant_sites_min: int,
) -> tuple[Lack, ...]:
    """Every row that fails, for the lowest grade that it fails, in words and outlets. `pairs`: if they are known."""
    lacks = []
    for row in found.gates:
        if row.pass_b and row.pass_b_plus:
            continue
        grade, limit = ("B+", row.b_plus) if row.pass_b else ("B", row.b)
        observed = "cannot be computed" if row.observed is None else f"is {row.observed:.4g}"
        text = f"{row.name} {observed}, {grade} needs {row.op} {limit:.4g}"
        detail = _detail(row.name, limit, counts, facts)
        lacks.append(Lack(row.name, grade, f"{text}: {detail}"))
    for counter in found.counters:
        if counter.passed:
            continue
        bounds = [f">= {counter.min:.4g}" if counter.min is not None else ""]
        bounds.append(f"<= {counter.max:.4g}" if counter.max is not None else "")
        observed = "cannot be computed" if counter.observed is None else f"is {counter.observed:.4g}"
        text = f"{counter.name} {observed}, either grade needs {' and '.join(filter(None, bounds))}"
        if counter.observed is None and counter.reason:
            text = f"{counter.name}: {counter.reason}"
        if counter.name == "largest_merchant_share" and pairs is not None:
            detail = _largest_merchant(counts, pairs, facts, merchant_sites_min)
        else:
            detail = _counter_detail(counter.name, counts, facts)
        lacks.append(Lack(counter.name, "B", f"{text}: {detail}"))
    return tuple(lacks)


def _detail(name: str, limit: float, counts: Integers, facts: CountryFacts) -> str:
    """What is missing for one gate."""
    total, iso = int(counts.sum()), facts.countries.iso
    if name == "eligible_country_nonzero_share":
        eligible = np.asarray(facts.countries.eligible)
        missing = [iso[c] for c in np.flatnonzero(eligible & (counts == 0)).tolist()]
        need = math.ceil(limit * int(eligible.sum())) - int((eligible & (counts > 0)).sum())
        return f"{need} more eligible countries need an outlet; without any are {_listed(missing)}"
    if name == "southern_hemisphere_share":
        short = math.ceil(limit * total - float((counts * facts.south).sum()))
        return f"{short:,} of the {total:,} outlets would have to move south of the equator"
    if name.startswith("region_floor."):
        region = name.removeprefix("region_floor.")
        held = int(counts[np.array(facts.countries.macro_region) == region].sum())
        return f"{region} has {held:,} outlets and needs {math.ceil(limit * total):,}"
    if name.startswith("top") and name.endswith("_share"):
        active = np.flatnonzero(counts)
        percent = int(name.removeprefix("top").removesuffix("_share"))
        order = active[np.argsort(-counts[active], kind="stable")][: top_count(len(active), percent)]
        held = int(counts[order].sum())
        largest = _listed([f"{iso[c]} {counts[c] / total:.1%}" for c in order.tolist()])
        return (
            f"the top {percent} % of countries have {held - math.floor(limit * total):,} outlets too many; "
            f"they are {largest}"
        )
    if name == "country_gini":
        heavy = heaviest_countries(counts, facts.prior, iso)
        return (
            f"furthest above their share of the market prior are {_listed(heavy)}" if heavy else advice(name)
        )
    if name.startswith("bootstrap_upper."):
        return "the upper end of its 95 % interval; a few large merchants widen it"
    return advice(name)


def _largest_merchant(counts: Integers, pairs: Pairs, facts: CountryFacts, sites_min: int) -> str:
    """The pair with the largest share of a country that has at least `sites_min` outlets."""
    inside = counts[pairs.country]
    worst = int(np.argmax(np.where(inside >= sites_min, pairs.n_sites / inside, 0.0)))
    return (
        f"merchant {pairs.merchant_id[worst]} has {int(pairs.n_sites[worst]):,} of the {int(inside[worst]):,} "
        f"outlets of {facts.countries.iso[int(pairs.country[worst])]}"
    )


def _counter_detail(name: str, counts: Integers, facts: CountryFacts) -> str:
    """What is wrong with one counter-metric."""
    if name in ("prior_kl", "market_slope"):
        heavy = heaviest_countries(counts, facts.prior, facts.countries.iso)
        return "outlets do not follow markets" + (
            f"; furthest above theirs are {_listed(heavy)}" if heavy else ""
        )
    return advice(name)


def _listed(codes: Sequence[str]) -> str:
    """Codes in a sentence."""
    rest = len(codes) - _NAMED_AT_MOST
    return ", ".join(codes[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
