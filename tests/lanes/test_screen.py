"""Screening: what counts alone decide, from a part of the world and exactly as S2 has it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from seg1b.catalogue.outlets import OutletCatalogue, from_pairs
from seg1b.errors import InputError
from seg1b.lanes import country_facts as country_facts_module
from seg1b.lanes.repair import repairs_of
from seg1b.lanes.screen import (
    Candidate,
    CountryFacts,
    country_facts,
    load_candidate,
    only_countries,
    policy_candidate,
    screen,
    screen_one,
)
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies, default_policies, set_values
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
    rows = screen(candidates, policies, facts)
    assert len(made) >= 2
    assert sorted(row.name for row in rows if row.judged_by == "catalogue") == sorted(made)
    assert [row.judged_by for row in rows if row.shortlisted] == ["catalogue", "catalogue"]
    for row in rows:
        if not row.shortlisted and row.reachable != "below_B":
            assert "at most 2 candidates" in row.facts()["reasons"][-1]


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
