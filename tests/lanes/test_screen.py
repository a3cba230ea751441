"""Screening: what counts alone decide, from a part of the world and exactly as S2 has it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg1b.catalogue.outlets import OutletCatalogue, from_pairs
from seg1b.errors import InputError
from seg1b.lanes import country_facts as country_facts_module
from seg1b.lanes import repair as repair_module
from seg1b.lanes.repair import repairs_of, target_shares
from seg1b.lanes.screen import (
    UNPROVEN,
    Candidate,
    CountryFacts,
    country_facts,
    load_candidate,
    load_candidates,
    only_countries,
    policy_candidate,
    screen,
    screen_one,
)
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies, default_policies, defaults_directory, set_values
from seg1b.scoring import least_change
from seg1b.world.content import World


@pytest.fixture(scope="module")
def facts(real_world: World) -> CountryFacts:
    """Computed without a store."""
    return country_facts(real_world, default_policies())


def catalogue(world: World, rows: list[tuple[int, str, int]]) -> OutletCatalogue:
    """A catalogue of (merchant, country, outlets)."""
    index = world.countries.index_of
    country = np.array([index[iso] for _, iso, _ in rows], np.int16)
    merchant = np.array([merchant for merchant, _, _ in rows], np.uint64)
    return from_pairs(
        world.countries.iso, merchant, country, np.array([n for _, _, n in rows], np.int32), country
    )


def candidate(world: World, name: str, rows: list[tuple[int, str, int]]) -> Candidate:
    """The same as a candidate."""
    return Candidate(name, "counts", catalogue(world, rows))


def test_the_short_way_gives_what_s2_gives(facts: CountryFacts, world_stage: WorldStage) -> None:
    """Southern share, prior and market, bit for bit, though only countries on the equator got a surface."""
    np.testing.assert_array_equal(facts.south, world_stage.shares.southern_share)
    np.testing.assert_array_equal(facts.prior, world_stage.shares.prior)
    np.testing.assert_array_equal(facts.market, world_stage.shares.market_size)


def test_a_part_of_the_world_keeps_the_rings_and_settlements_of_its_countries(real_world: World) -> None:
    """Two countries, renumbered 0 and 1."""
    keep = np.array([real_world.countries.index_of[iso] for iso in ("FR", "NA")])
    part = only_countries(real_world, keep)
    assert part.countries.iso == ("FR", "NA")
    for new, old in enumerate(keep.tolist()):
        mine, whole = part.polygons.country_rings(new), real_world.polygons.country_rings(old)
        assert len(mine) == len(whole)
        a = slice(part.polygons.ring_start[mine.start], part.polygons.ring_start[mine.stop])
        b = slice(real_world.polygons.ring_start[whole.start], real_world.polygons.ring_start[whole.stop])
        np.testing.assert_array_equal(part.polygons.lon[a], real_world.polygons.lon[b])
        ours, theirs = part.settlements.country == new, real_world.settlements.country == old
        np.testing.assert_array_equal(
            part.settlements.geonameid[ours], real_world.settlements.geonameid[theirs]
        )


def test_exact_numbers_of_a_catalogue_by_hand(real_world: World, facts: CountryFacts) -> None:
    """Ten outlets: six in France, three in Namibia, one in Chile."""
    rows = [(1, "FR", 6), (2, "NA", 3), (3, "CL", 1)]
    found = screen_one(candidate(real_world, "hand", rows), default_policies(), facts)
    observed = {row.name: row.observed for row in found.feasibility.gates}
    assert (found.merchants, found.sites) == (3, 10)
    assert observed["top1_share"] == 0.6
    assert observed["southern_hemisphere_share"] == 0.4
    assert observed["region_floor.Europe"] == 0.6
    assert observed["country_gini"] == pytest.approx((2 * (1 + 6 + 18) / (3 * 10)) - 4 / 3)
    assert found.reachable == "below_B"
    told = {lack.name: lack.text for lack in found.lacks}
    assert "5 outlets too many; they are FR 60.0%" in told["top1_share"]
    assert "Asia has 0 outlets and needs 2" in told["region_floor.Asia"]
    assert "southern_hemisphere_share" not in told


def test_a_denied_country_is_left_out_of_the_counts_and_kept_in_the_denominator(
    real_world: World, facts: CountryFacts
) -> None:
    """S3's policy holds before anything is placed, too."""
    policies = set_values(default_policies(), {"s3.denylist_country_iso": ["FR"]})
    rows = [(1, "FR", 6), (2, "NA", 3), (3, "CL", 1)]
    found = screen_one(candidate(real_world, "hand", rows), policies, facts)
    observed = {row.name: row.observed for row in found.feasibility.gates}
    assert found.sites == 4
    eligible = int(real_world.countries.eligible.sum())
    assert observed["eligible_country_nonzero_share"] == pytest.approx(2 / eligible)


def test_candidates_are_ranked_and_hopeless_ones_are_not_shortlisted(
    real_world: World, facts: CountryFacts
) -> None:
    """The nearer to B+ comes first; ties go by name."""
    far, near = [(1, "MC", 50)], [(n, iso, 5) for n, iso in enumerate(("FR", "IN", "BR", "NG", "US"), 1)]
    rows = screen(
        [
            candidate(real_world, "far", far),
            candidate(real_world, "near", near),
            candidate(real_world, "a", far),
        ],
        default_policies(),
        facts,
    )
    assert [row.name for row in rows] == ["near", "a", "far"]
    assert not any(row.shortlisted for row in rows)


def test_what_is_no_candidate_is_refused(real_world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty folder, and a YAML file that is no policy."""
    folder = tmp_path_factory.mktemp("nothing")
    (folder / "other.yaml").write_text("a: 1\n")
    policies: Policies = default_policies()
    for path in (folder, folder / "other.yaml"):
        with pytest.raises(InputError) as error:
            load_candidate(path, policies, real_world, seed=42)
        assert error.value.code == "E_SCREEN_FILE"


def test_the_packaged_facts_are_those_of_this_world_and_these_policies(real_world: World) -> None:
    """Bound to S2w's key: the file is used for the packaged policies, and is what S1 and S2 give; else it is not."""
    policies = default_policies()
    packaged = country_facts_module._packaged(real_world, policies)
    assert packaged is not None, "run scripts/build_country_facts.py"
    np.testing.assert_array_equal(
        packaged[0], country_facts_module.computed_southern_share(real_world, policies)
    )
    np.testing.assert_array_equal(packaged[1], country_facts_module.computed_area_km2(real_world, policies))
    other = set_values(policies, {"s2w.surface.min_radius_km": 2.0})
    assert country_facts_module._packaged(real_world, other) is None


def test_quotas_are_those_of_the_catalogue_that_would_be_made(real_world: World) -> None:
    """Country by country, for another seed and other shares too."""
    for seed, overrides in ((42, {}), (7, {"s2s.prior.tempering": 0.6, "synthesis.merchants": 3000})):
        policies = set_values(default_policies(), overrides)
        made = policy_candidate("x", policies, real_world, None, seed)
        catalogue_made = made.whole()
        np.testing.assert_array_equal(made.quotas, catalogue_made.sites_per_country())
        assert made.merchants == len(catalogue_made.merchant_start)


def test_many_policies_are_judged_by_quotas_and_the_shortlist_by_its_catalogues(
    real_world: World, facts: CountryFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two syntheses for five candidates; the others say that they were not nearer."""
    policies, made = default_policies(), []
    candidates = []
    for number in range(5):
        changed = set_values(policies, {"s2s.prior.tempering": 0.48 + 0.01 * number})
        one = policy_candidate(f"p{number}", changed, real_world, None, 42)

        def make(one: Candidate = one) -> OutletCatalogue:
            made.append(one.name)
            return one.make() if one.make else one.whole()

        candidates.append(dataclasses.replace(one, make=make))
    shared = screen(candidates, policies, facts)
    made.clear()
    monkeypatch.setattr("seg1b.lanes.screen.share_out", lambda work, items: [work(item) for item in items])
    rows = screen(candidates, policies, facts)
    assert [row.facts() for row in rows] == [row.facts() for row in shared]  # also where copies judge them
    assert len(made) >= 2
    assert sorted(row.name for row in rows if row.judged_by == "catalogue") == sorted(made)
    assert [row.judged_by for row in rows if row.shortlisted] == ["catalogue", "catalogue"]
    for row in rows:
        told = row.facts()
        assert told["proven"] == (row.judged_by == "catalogue")
        assert (UNPROVEN in told["reasons"]) == (row.judged_by == "quotas")
        if not row.shortlisted:
            assert f"rank {row.rank} of 5, and a wave has at most 2 candidates" in told["reasons"][-1]
            assert f"inside B+, and that of {rows[1].name} is" in told["reasons"][-1]


def test_equals_are_ranked_by_their_tightest_rows(real_world: World, facts: CountryFacts) -> None:
    """All reach B+: the names would have put the one with the least room first; copies say whose copies they are."""
    policies = default_policies()
    roomy = policy_candidate("x", policies, real_world, None, 42).whole()
    narrow = set_values(policies, {"s2s.prior.tempering": 0.56})
    tight = policy_candidate("x", narrow, real_world, None, 42).whole()
    named = [("a", tight), ("d", roomy), ("c", roomy), ("b", roomy)]
    rows = screen([Candidate(name, "counts", made) for name, made in named], policies, facts)
    assert [row.reachable for row in rows] == ["B+"] * 4
    assert [row.name for row in rows] == ["b", "c", "d", "a"]
    assert [row.shortlisted for row in rows] == [True, False, False, True]
    assert {row.why_not for row in rows[1:3]} == {
        "not shortlisted: same counts as b, which comes first by name"
    }
    told = rows[3].facts()
    assert (told["rank"], told["tightest_margin"], told["tightest_gate"]) == (4, *rows[3].margins[0])
    middling = set_values(policies, {"s2s.prior.tempering": 0.55})
    between = Candidate("e", "counts", policy_candidate("x", middling, real_world, None, 42).whole())
    rows = screen([between, *(Candidate(name, "counts", made) for name, made in named)], policies, facts)
    assert [row.name for row in rows if row.shortlisted] == ["b", rows[3].name]
    both = zip(rows[4].margins, rows[3].margins, strict=True)
    margin, gate = next(mine for mine, other in both if mine[0] != other[0])
    assert f"is {gate}, {margin:.4%} inside B+, and that of {rows[3].name} is" in rows[4].why_not
    assert gate == "bootstrap_upper.country_gini"


def test_one_catalogue_takes_one_place(real_world: World, facts: CountryFacts) -> None:
    """Given twice under one name, or under two; the place goes to the next that differs, if there is one."""
    policies = default_policies()
    one = policy_candidate("x", policies, real_world, None, 42).whole()
    other = policy_candidate("x", policies, real_world, None, 7).whole()
    first, second = (screen_one(Candidate("x", "counts", made), policies, facts) for made in (one, other))
    assert first.counts != second.counts
    for names, told in (
        (("a.csv", "a.csv"), "not shortlisted: the same catalogue, given twice"),
        (("a.csv", "bundle"), "not shortlisted: same counts as a.csv, which comes first by name"),
    ):
        twice = [Candidate(name, "counts", one) for name in names]
        rows = screen(twice, policies, facts)
        assert [row.shortlisted for row in rows] == [True, False]
        assert (rows[0].why_not, rows[1].why_not) == ("", told)
        assert rows[1].facts()["reasons"][-1] == told
        rows = screen([*twice, Candidate("c", "counts", other)], policies, facts)
        assert sorted(row.name for row in rows if row.shortlisted) == ["a.csv", "c"]
    hopeless = [candidate(real_world, "far", [(1, "MC", 50)]) for _ in range(2)]
    assert [(row.shortlisted, row.why_not) for row in screen(hopeless, policies, facts)] == [(False, "")] * 2


def test_copies_of_policies_are_not_synthesised_for_a_place_that_they_do_not_get(
    real_world: World, facts: CountryFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends up on the shortlist is proven by its catalogue, and nothing else is."""
    monkeypatch.setattr("seg1b.lanes.screen.share_out", lambda work, items: [work(item) for item in items])
    made: list[str] = []
    candidates = []
    for name, tempering in (("a", 0.5), ("b", 0.5), ("c", 0.5), ("d", 0.51), ("e", 0.52)):
        own = set_values(default_policies(), {"s2s.prior.tempering": tempering})
        one = policy_candidate(name, own, real_world, None, 42)

        def make(one: Candidate = one) -> OutletCatalogue:
            made.append(one.name)
            return one.make() if one.make else one.whole()

        candidates.append(dataclasses.replace(one, make=make))
    rows = screen(candidates, default_policies(), facts)
    shortlisted = [row for row in rows if row.shortlisted]
    assert sorted(made) == sorted(row.name for row in shortlisted)
    assert len({row.counts for row in shortlisted}) == 2
    copies = [row for row in rows if row.name in ("b", "c")]
    assert {row.why_not for row in copies} == {"not shortlisted: same counts as a, which comes first by name"}
    assert {row.judged_by for row in copies} == {"quotas"}


OWN: list[tuple[dict[str, Any], str]] = [
    ({"s3.denylist_country_iso": ["AU", "NZ", "PG", "FJ"]}, "below_B"),
    ({"s2s.prior.tempering": 0.9}, "below_B"),
    ({"gates.hard_gates.top1_share.b_plus": 0.05}, "B"),
]


@pytest.mark.parametrize(("knobs", "grade"), OWN, ids=[next(iter(knobs)) for knobs, _ in OWN])
def test_policies_are_judged_by_their_own_policies(
    real_world: World, facts: CountryFacts, knobs: dict[str, Any], grade: str
) -> None:
    """Their verdict is that of their catalogue in a session of theirs, by quotas as by the catalogue."""
    session, own = default_policies(), set_values(default_policies(), knobs)
    one = policy_candidate("own", own, real_world, None, 42)
    alone = Candidate("own", "bundle", one.whole())
    theirs = screen_one(alone, own, country_facts(real_world, own))
    ours = screen_one(one, session, facts)
    assert (ours.feasibility, ours.reachable) == (theirs.feasibility, grade)
    assert screen_one(alone, session, facts).reachable == "B+"
    other = set_values(session, {"s2s.prior.tempering": 0.51})
    both = (("x", session), ("y", other))
    others = [policy_candidate(name, policies, real_world, None, 42) for name, policies in both]
    by_quotas = next(row for row in screen([*others, one], session, facts) if row.name == "own")
    assert (by_quotas.judged_by, by_quotas.reachable) == ("quotas", grade)


def test_a_folder_and_a_file_bring_their_own_policies(real_world: World, tmp_path: Path) -> None:
    """Gates that differ are those of the candidate, and the same country shares are projected once."""
    folder = tmp_path / "own"
    shutil.copytree(defaults_directory(), folder)
    gates = (folder / "gates.yaml").read_text()
    assert 'top1_share: {op: "<=", b: 0.10, b_plus: 0.08}' in gates
    (folder / "gates.yaml").write_text(gates.replace("b: 0.10, b_plus: 0.08", "b: 0.10, b_plus: 0.05"))
    found = load_candidates([folder, folder / "gates.yaml"], default_policies(), real_world, seed=42)
    for one in found:
        assert one.policies is not None
        assert one.policies.gates.hard_gates["top1_share"].b_plus == 0.05
    assert found[0].shares is found[1].shares


def test_a_distance_that_cannot_be_computed_is_null(real_world: World, facts: CountryFacts) -> None:
    """Outlets of one country have no slope, so they are infinitely far; a number would be a lie."""
    row = screen_one(candidate(real_world, "far", [(1, "MC", 50)]), default_policies(), facts)
    told = row.facts()
    assert (told["distance_to_b"], told["distance_to_b_plus"]) == (None, None)
    json.dumps(told, allow_nan=False)


def test_the_least_change_of_a_real_catalogue_reaches_its_grade(
    real_world: World, facts: CountryFacts
) -> None:
    """A synthesis without its South American outlets: they are what has to come back."""
    whole = policy_candidate("x", default_policies(), real_world, None, 42).whole()
    keep = ~np.isin(np.array(real_world.countries.macro_region)[whole.country], ["South America"])
    left = from_pairs(
        whole.iso, whole.merchant_id[keep], whole.country[keep], whole.n_sites[keep], whole.country[keep][
            np.searchsorted(whole.merchant_id[keep], whole.merchant_id[keep])
        ],
    )  # fmt: skip
    spoilt = Candidate("spoilt", "counts", left)
    assert screen_one(spoilt, default_policies(), facts).reachable == "below_B"
    for repair in repairs_of(spoilt, default_policies(), facts):
        assert repair.found
        assert repair.unmet == ()
        regions = {
            real_world.countries.macro_region[real_world.countries.index_of[iso]] for iso, _ in repair.add[:3]
        }
        assert regions == {"South America"}
        assert "region_floor.South America" in repair.prices


def test_a_change_for_b_plus_is_one_for_b(real_world: World, facts: CountryFacts) -> None:
    """Equal counts fail what is not convex: both grades are found, B's is no dearer, and screening agrees."""
    policies = default_policies()
    served = np.flatnonzero(facts.prior > 0.0).tolist()
    iso = real_world.countries.iso
    rows = [(number, iso[served[number % len(served)]], 10) for number in range(1, 12 * len(served) + 1)]
    shares = target_shares(policies, real_world, None)
    b, b_plus = repairs_of(candidate(real_world, "equal", rows), policies, facts, shares)
    assert b.found
    assert b_plus.found
    assert 0 < b.moved <= b_plus.moved
    assert not {"market_slope", "country_gini_lower_bound", "prior_kl"} & {*b.unmet, *b_plus.unmet}


def test_the_promised_grade_is_reached(real_world: World, facts: CountryFacts) -> None:
    """Three times the outlets in the United States and twice in China; the change is made here, and screened."""
    policies = default_policies()
    whole = policy_candidate("x", policies, real_world, None, 42).whole()
    index = real_world.countries.index_of
    factor = np.ones(len(whole.iso), np.int64)
    factor[[index["US"], index["CN"]]] = 3, 2
    sites = whole.n_sites.astype(np.int64) * factor[whole.country]
    spoilt = Candidate("spoilt", "counts", with_sites(whole, sites))
    assert screen_one(spoilt, policies, facts).reachable == "below_B"
    for repair in repairs_of(spoilt, policies, facts, target_shares(policies, real_world, None)):
        assert repair.found
        assert repair.unmet == ()
        assert repair.moved < 8_000
        changed, in_turn = sites.copy(), sites.copy()
        for code, count in (*repair.add, *((code, -count) for code, count in repair.remove)):
            inside = np.flatnonzero(whole.country == index[code])
            assert count < 0
            held = sites[inside].cumsum()
            after = held * (int(held[-1]) + count) // held[-1]  # proportional, rounded down on the way
            changed[inside] = np.diff(after, prepend=0)
            in_turn[inside] = one_by_one(sites[inside].tolist(), -count)
        for made in (changed, in_turn):
            reached = screen_one(Candidate("changed", "counts", with_sites(whole, made)), policies, facts)
            assert reached.sites == sites.sum() - repair.removed
            assert reached.reachable in (repair.grade, "B+")


def test_what_was_found_for_b_plus_will_do_for_b(
    real_world: World, facts: CountryFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that finds nothing for B: the change for B+ is then B's, too."""
    found = least_change.possible_changes
    monkeypatch.setattr(
        repair_module,
        "possible_changes",
        lambda counts, rules, target: [] if rules.grade == "B" else found(counts, rules, target),
    )
    whole = policy_candidate("x", default_policies(), real_world, None, 42).whole()
    australia = whole.country == real_world.countries.index_of["AU"]
    fewer = np.where(australia, whole.n_sites // 5, whole.n_sites)
    b, b_plus = repairs_of(Candidate("fewer", "counts", with_sites(whole, fewer)), default_policies(), facts)
    assert b_plus.moved > 0
    assert (b.found, b.add, b.remove, b.unmet) == (True, b_plus.add, b_plus.remove, ())


def test_what_counts_cannot_mend_is_named(real_world: World, facts: CountryFacts) -> None:
    """One merchant owns half of France: no change of counts reaches anything, and that is said for either grade."""
    policies = default_policies()
    whole = policy_candidate("x", policies, real_world, None, 42).whole()
    sites = whole.n_sites.astype(np.int64)
    inside = np.flatnonzero(whole.country == real_world.countries.index_of["FR"])
    moved = sites[inside[1:]] // 2
    sites[inside[1:]] -= moved
    sites[inside[0]] += moved.sum()
    kept = sites > 0
    owner = Candidate("owner", "counts", with_sites(whole, sites))
    assert kept[inside[0]]
    assert screen_one(owner, policies, facts).reachable == "below_B"
    assert {repair.unmet for repair in repairs_of(owner, policies, facts)} == {("largest_merchant_share",)}


def one_by_one(sizes: list[int], less: int) -> list[int]:
    """An outlet of each merchant in turn, the larger first, until `less` are gone."""
    while less:
        for place in sorted(range(len(sizes)), key=lambda at: -sizes[at]):
            if less and sizes[place]:
                sizes[place] -= 1
                less -= 1
    return sizes


def with_sites(whole: OutletCatalogue, sites: np.ndarray) -> OutletCatalogue:
    """A catalogue with other outlets; pairs without any are left out."""
    kept = np.flatnonzero(sites > 0)
    merchant, country = whole.merchant_id[kept], whole.country[kept]
    home = country[np.searchsorted(merchant, merchant)]
    return from_pairs(whole.iso, merchant, country, sites[kept].astype(np.int32), home)
