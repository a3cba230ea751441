"""The synthesis: sizes, quotas, placement, candidate sets; conservation, caps and determinism for any
seed.
"""

from __future__ import annotations

import numpy as np
import pytest
from catalogue_cases import ISO, country_table, small_shares, small_synthesis, synthesis_policy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import nbinom

from seg1b.catalogue.bundle_law import pairs_digest
from seg1b.catalogue.draws import Draws, rank
from seg1b.catalogue.merchants import MerchantPlan, negative_binomial_quantile, split_foreign
from seg1b.catalogue.placement import Blocks, largest_block, place_blocks
from seg1b.catalogue.quotas import apportion_between
from seg1b.catalogue.synthesise import Synthesis, synthesise
from seg1b.errors import ContractError, InputError

SEEDS = st.integers(0, 2**64 - 1)


def realised_keys(synthesis: Synthesis) -> set[tuple[int, int]]:
    """(merchant, country) of every pair."""
    catalogue = synthesis.catalogue
    return set(zip(catalogue.merchant_id.tolist(), catalogue.country.tolist(), strict=True))


@settings(max_examples=25)
@given(SEEDS)
@example(101550254)
def test_nothing_is_lost_and_every_cap_holds(seed: int) -> None:
    """Any seed: counts are the quotas, one site at least, no merchant twice in a country or above its share.

    A world of 300 merchants is so small that about one seed in a hundred has blocks that fit nowhere: then the incident
    names the country that took more than its quota, and no other country has more.
    """
    synthesis = synthesise(country_table(), small_shares(), synthesis_policy(), seed)
    catalogue, shares = synthesis.catalogue, small_shares()
    assert catalogue.site_count == int(synthesis.plan.size.sum())
    above_quota = np.flatnonzero(catalogue.sites_per_country() > synthesis.quota).tolist()
    assert set(above_quota) <= {i.country for i in synthesis.incidents if i.kind == "quota_exceeded"}
    assert bool(np.all(synthesis.quota >= shares.minimum_sites))
    assert bool(np.all(synthesis.quota <= shares.capacity_sites))
    assert len(realised_keys(synthesis)) == catalogue.pair_count
    allowed = largest_block(synthesis.quota, synthesis.policy.countries)
    excused = {(i.merchant + 1, i.country) for i in synthesis.incidents if i.kind == "share_exceeded"}
    above = catalogue.n_sites > allowed[catalogue.country]
    pairs = zip(catalogue.merchant_id[above].tolist(), catalogue.country[above].tolist(), strict=True)
    assert set(pairs) <= excused


@settings(max_examples=25)
@given(SEEDS)
def test_realised_within_members_within_candidates(seed: int) -> None:
    """Home is rank 0, ranks are contiguous, C candidates and R members are there, realised countries are
    members.
    """
    synthesis = synthesise(country_table(), small_shares(), synthesis_policy(), seed)
    rows, plan = synthesis.candidates, synthesis.plan
    first = np.searchsorted(rows.merchant_id, rows.merchant_id)
    assert bool(np.array_equal(rows.rank, np.arange(rows.rank.size) - first))
    merchants = plan.merchant_id.size
    index = (rows.merchant_id - np.uint64(1)).astype(np.int64)
    assert bool(np.array_equal(np.bincount(index, minlength=merchants) - 1, plan.candidates))
    assert bool(np.array_equal(np.bincount(index, weights=rows.is_member, minlength=merchants), plan.members))
    listed = set(zip(rows.merchant_id.tolist(), rows.country.tolist(), strict=True))
    assert len(listed) == rows.rank.size
    allowed = rows.is_member | (rows.rank == 0)
    member = set(zip(rows.merchant_id[allowed].tolist(), rows.country[allowed].tolist(), strict=True))
    assert realised_keys(synthesis) <= member
    assert bool(small_shares().served[rows.country].all())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    """A pinned digest: a change of output needs a new SYNTHESIS_REVISION."""
    again = synthesise(country_table(), small_shares(), synthesis_policy(), 42)
    assert pairs_digest(again.catalogue) == pairs_digest(small_synthesis(42).catalogue)
    assert pairs_digest(again.catalogue) != pairs_digest(small_synthesis(7).catalogue)
    assert pairs_digest(again.catalogue) == PINNED_DIGEST


PINNED_DIGEST = "e9697f08f81797cfddea051902fc196f82e5037deedde0143c67dcf4569f5da8"


def test_a_merchants_draws_do_not_depend_on_how_many_there_are() -> None:
    """Addressed by purpose: the first merchants keep their numbers when more are added."""
    few, many = np.arange(1, 11, dtype=np.uint64), np.arange(1, 1001, dtype=np.uint64)
    assert Draws(1).uniforms("x", few).tolist() == Draws(1).uniforms("x", many)[:10].tolist()
    assert Draws(1).uniforms("x", few).tolist() != Draws(1).uniforms("y", few).tolist()


def test_strata_are_quotas() -> None:
    """One number in each of n equal strata, in an order that the seed decides."""
    strata = Draws(5).strata("x", np.arange(1, 101, dtype=np.uint64))
    assert sorted(np.floor(strata * 100).astype(int).tolist()) == list(range(100))
    assert rank(strata).tolist() != list(range(100))


def test_the_single_and_large_shares_are_exact() -> None:
    """37 % of 300 merchants have one outlet; nobody is below the minimum otherwise."""
    size = small_synthesis().plan.size
    assert int((size == 1).sum()) == 111
    assert int(size[size > 1].min()) >= 2


def test_home_keeps_an_outlet_and_singles_stay_at_home() -> None:
    """A merchant never has all its outlets abroad."""
    plan = small_synthesis().plan
    assert bool(np.all(plan.foreign < plan.size))
    assert int(plan.members[plan.size == 1].sum()) == 0


@pytest.mark.parametrize(("mean", "dispersion"), [(14.0, 80.0), (3.0, 0.7), (250.0, 60.0), (0.2, 5.0)])
@pytest.mark.parametrize("u", [1e-9, 0.1, 0.5, 0.9, 0.999999])
def test_negative_binomial_quantile_agrees_with_scipy(mean: float, dispersion: float, u: float) -> None:
    """The truncated quantile is the plain quantile at the probability moved above the truncation."""
    probability = dispersion / (dispersion + mean)
    below = float(nbinom.cdf(1, dispersion, probability))
    expected = int(nbinom.ppf(below + u * (1.0 - below), dispersion, probability))
    assert abs(negative_binomial_quantile(u, mean, dispersion, 2) - max(expected, 2)) <= (u < 1e-6)


def test_polyas_urn_has_the_dirichlet_multinomial_variance() -> None:
    """Mean f/R and variance f/R (1 - 1/R) (f + A) / (1 + A) with A = R alpha."""
    merchants, outlets, members, alpha = 20_000, 12, 3, 6.0
    n = np.full(merchants, 1, np.int64)
    plan = MerchantPlan(
        np.arange(1, merchants + 1, dtype=np.uint64),
        n * 20,
        n.astype(np.float64),
        n * 5,
        n * members,
        n * outlets,
    )
    first = split_foreign(Draws(3), plan, alpha).reshape(merchants, members)
    assert bool(np.all(first.sum(axis=1) == outlets))
    a = members * alpha
    variance = outlets / members * (1 - 1 / members) * (outlets + a) / (1 + a)
    np.testing.assert_allclose(first.mean(axis=0), outlets / members, rtol=0.02)
    np.testing.assert_allclose(first.var(axis=0), variance, rtol=0.05)


# Quotas


def test_apportionment_between_bounds_by_hand() -> None:
    """A maximum hands its excess to the others in proportion, a minimum takes from them."""
    assert apportion_between([6, 3, 1], 10, [0, 0, 0], [10, 10, 10]) == [6, 3, 1]
    assert apportion_between([6, 3, 1], 10, [0, 0, 0], [2, 10, 10]) == [2, 6, 2]
    assert apportion_between([98, 1, 1], 10, [1, 1, 1], [10, 10, 10]) == [8, 1, 1]
    assert apportion_between([1, 1, 1], 4, [0, 0, 0], [4, 4, 4]) == [2, 1, 1]


@given(st.data())
def test_apportionment_keeps_bounds_and_total(data: st.DataObject) -> None:
    """Whatever the weights: the sum is exact and every bound holds."""
    n = data.draw(st.integers(1, 12))
    weight = data.draw(st.lists(st.integers(1, 10**9), min_size=n, max_size=n))
    minimum = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    maximum = [low + data.draw(st.integers(0, 50)) for low in minimum]
    total = data.draw(st.integers(sum(minimum), sum(maximum)))
    result = apportion_between(weight, total, minimum, maximum)
    assert sum(result) == total
    assert all(low <= r <= high for r, low, high in zip(result, minimum, maximum, strict=True))


def test_sigma_zero_gives_the_same_quotas_for_every_seed() -> None:
    """Without a shock only the total differs between seeds."""
    policy = synthesis_policy(shock_sigma=0.0)
    one, two = (synthesise(country_table(), small_shares(), policy, seed) for seed in (1, 2))
    assert "catalogue/quota_shock" not in one.rng_blocks
    np.testing.assert_allclose(one.quota / one.quota.sum(), two.quota / two.quota.sum(), atol=2e-3)


def test_too_few_outlets_are_refused() -> None:
    """Five merchants with one outlet each cannot serve ten countries."""
    policy = synthesis_policy(5).model_copy(
        update={
            "sizes": synthesis_policy(5).sizes.model_copy(update={"single_share": 1.0, "large_share": 0.0})
        }
    )
    with pytest.raises(InputError) as caught:
        synthesise(country_table(), small_shares(), policy, 42)
    assert caught.value.code == "E_CATALOGUE_TOO_SMALL"


def test_a_total_above_all_capacities_is_refused() -> None:
    """A hundred people hold no thousand outlets."""
    tiny = small_shares()
    crowded = type(tiny)(**{**tiny.__dict__, "capacity_sites": np.minimum(tiny.capacity_sites, 20)})
    with pytest.raises(InputError) as caught:
        synthesise(country_table(), crowded, synthesis_policy(), 42)
    assert caught.value.code == "E_CATALOGUE_CAPACITY"


# Repair


def _place(
    sizes: list[int], merchants: list[int], slots: list[int], quota: list[int]
) -> tuple[list[int], list[str]]:
    n = max(merchants) + 1
    one = np.ones(n, np.int64)
    plan = MerchantPlan(np.arange(1, n + 1, dtype=np.uint64), one, one.astype(np.float64), one, one * 3, one)
    blocks = Blocks(np.array(merchants), np.array(sizes), np.array(slots))
    region = np.zeros(len(quota), np.int64)
    policy = synthesis_policy(largest_merchant_share=1.0, small_quota_limit=0).countries
    placed = place_blocks(Draws(9), plan, blocks, np.array(quota), region, policy)
    return placed.country.tolist(), [i.kind for i in placed.incidents]


def test_a_block_without_a_place_swaps_with_singles() -> None:
    """Merchant 0 needs both countries; singles that sit in its way move out, and every quota is still met."""
    for seed_shift in range(6):
        singles = 4 + seed_shift
        sizes = [1, 1] + [1] * singles
        country, kinds = _place(sizes, [0, 0, *range(1, singles + 1)], [0, 1] + [0] * singles, [2, singles])
        assert -1 not in country
        assert np.bincount(country, sizes, 2).tolist() == [2, singles]
        assert country[0] != country[1]
        assert set(kinds) <= {"swapped"}


def test_a_block_larger_than_every_country_overflows_and_says_so() -> None:
    """No block is ever lost, not even one that fits nowhere."""
    country, kinds = _place([9, 1], [0, 1], [0, 0], [5, 5])
    assert sorted(country) in ([0, 0], [0, 1], [1, 1])
    assert "quota_exceeded" in kinds


def test_the_catalogue_defends_its_contract() -> None:
    """Negative control: a pair twice, unsorted, or two homes are refused when the object is made."""
    good = small_synthesis().catalogue
    fields = dict(good.__dict__)
    for name, values in (
        ("merchant_id", good.merchant_id[::-1].copy()),
        ("n_sites", np.zeros_like(good.n_sites)),
        ("country", np.full_like(good.country, len(ISO))),
    ):
        with pytest.raises(ContractError) as caught:
            type(good)(**{**fields, name: values})
        assert caught.value.code == "E_CATALOGUE_CONTRACT"
