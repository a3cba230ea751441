"""How a seed is cut into shards: by its counts alone, evenly, and coarser for a larger catalogue."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seg1b.lanes.shards import LARGEST_SITES, SHARDS, SMALLEST_SITES, plan_shards

counts = st.lists(st.integers(0, 5_000_000), min_size=1, max_size=60).map(lambda c: np.array(c, np.int64))


@given(counts, st.none() | st.integers(1, 10**7))
def test_every_country_with_sites_is_in_one_shard(sites: np.ndarray, shard_sites: int | None) -> None:
    """Once; those without are in none; shards are numbered as their countries ascend, and know their sites."""
    shards = plan_shards(sites, shard_sites)
    inside = [country for shard in shards for country in shard.countries]
    assert sorted(inside) == np.flatnonzero(sites).tolist()
    assert [shard.sites for shard in shards] == [int(sites[list(s.countries)].sum()) for s in shards]
    assert [shard.name for shard in shards] == [f"part-{n:05d}" for n in range(len(shards))]
    assert [shard.countries for shard in shards] == sorted(shard.countries for shard in shards)


@given(counts, st.none() | st.integers(1, 10**7))
def test_no_shard_is_much_larger_than_the_others(sites: np.ndarray, shard_sites: int | None) -> None:
    """Each country goes where least is yet, the largest first: without its smallest no shard is above the mean."""
    shards = plan_shards(sites, shard_sites)
    total = int(sites.sum())
    aim = shard_sites or min(max(total // SHARDS, SMALLEST_SITES), LARGEST_SITES)
    bins = max(1, -(-total // aim))
    assert len(shards) <= bins
    for shard in shards:
        smallest = min(int(sites[country]) for country in shard.countries)
        assert (shard.sites - smallest) * bins <= total


def test_shards_grow_with_the_catalogue_between_two_bounds() -> None:
    """1e5 sites: shards of 40,000; from 2e6 on fifty; from 1e8 on as many of two million as it takes."""
    even = np.ones(1000, np.int64)
    found = {
        total: len(plan_shards(even * (total // 1000))) for total in (10**5, 10**6, 10**7, 10**8, 4 * 10**8)
    }
    assert found == {10**5: 3, 10**6: 25, 10**7: 50, 10**8: 50, 4 * 10**8: 200}


def test_the_cut_depends_on_counts_alone() -> None:
    """The same counts give the same shards; an old part is met again by its name and its countries."""
    sites = np.array([5, 0, 900_000, 40_000, 40_000, 7], np.int64)
    assert plan_shards(sites) == plan_shards(sites.copy())
    named = {shard.name: shard.countries for shard in plan_shards(sites)}
    assert named["part-00000"][0] == 0
    assert (2,) in named.values()
    assert plan_shards(np.zeros(3, np.int64)) == []
