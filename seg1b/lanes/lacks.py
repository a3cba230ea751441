"""What a screened candidate lacks for a grade, in words, outlets and countries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg1b.lanes.country_facts import CountryFacts
from seg1b.scoring.country_metrics import top_count
from seg1b.scoring.feasibility import Feasibility
from seg1b.scoring.triage import advice, heaviest_countries
from seg1b.states.tables import Pairs

Integers = NDArray[np.int64]

_NAMED_AT_MOST = 12


@dataclass(frozen=True)
class Lack:
    """One row that fails for `grade`, and what is missing, in words."""

    name: str
    grade: str
    text: str


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
