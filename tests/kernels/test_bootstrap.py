"""Bootstrap over merchants: against repetition by hand, leave-one-out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seg1b.kernels import bootstrap_counts, bootstrap_statistics
from seg1b.kernels.bca import bca_interval
from seg1b.kernels.bootstrap import (
    draw_multiplicities,
    jackknife_statistics,
    merchant_sample,
    replicate_statistics,
)
from seg1b.kernels.bootstrap_counts import Multiplicities, replicates_and_jackknife
from seg1b.kernels.bootstrap_statistics import STATISTICS, MerchantSample, observed_statistics
from seg1b.kernels.inequality import gini, top_share
from seg1b.kernels.philox import block_4x64

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
KEY, COUNTER_HI = 11, 22


def site_sample(
    merchant: npt.NDArray[np.integer[Any]],
    country: npt.NDArray[np.integer[Any]],
    southern: npt.NDArray[np.bool_],
    eligible: npt.NDArray[np.bool_],
    distance_m: FloatArray | None,
    region: npt.NDArray[np.integer[Any]] | None = None,
) -> MerchantSample:
    """The sample of single sites: each is a pair of its own."""
    ones = np.ones(len(merchant), np.int64)
    return merchant_sample(merchant, country, ones, southern.astype(np.int64), eligible, distance_m, region)


class World:
    """Random sites of 60 merchants in 12 countries; country 11 is not eligible, some distances are tied.

    Countries take turns in belonging to one of three regions.
    """

    def __init__(self, seed: int = 5, n: int = 900) -> None:
        rng = np.random.default_rng(seed)
        self.merchant = np.unique(rng.integers(0, 60, n) ** 2 // 60, return_inverse=True)[1].astype(np.int64)
        self.country = (rng.pareto(1.0, n) % 12).astype(np.int16)
        self.southern = self.country < 3
        self.eligible = np.arange(12) < 11
        self.region = np.arange(12) % 3
        fraction = np.where(rng.random(n) < 0.8, rng.random(n), 0.0)
        self.distance_m: FloatArray = np.asarray(rng.integers(1, 200, n) + fraction, np.float64)

    def sample(self) -> MerchantSample:
        """The sites, grouped by merchant."""
        return site_sample(
            self.merchant, self.country, self.southern, self.eligible, self.distance_m, self.region
        )

    def expected(self, sites: IntArray) -> list[float]:
        """The statistics of the sites with these row numbers (repeats allowed), by plain means."""
        counts = np.bincount(self.country[sites], minlength=12)
        active = counts[counts > 0]
        p50, p99 = np.quantile(self.distance_m[sites], [0.5, 0.99])
        values = [gini(active), *(top_share(active, p) for p in (1, 5, 10))]
        assert all(v is not None for v in values)
        coverage = np.count_nonzero(counts[self.eligible]) / 11
        return [
            *(float(v or 0.0) for v in values),
            coverage,
            float(self.southern[sites].mean()),
            float(p99 / p50),
            *(float((self.region[self.country[sites]] == region).mean()) for region in range(3)),
        ]


def multiplicities(replicate: int, merchants: int) -> npt.NDArray[np.int32]:
    """How often a replicate draws each merchant; the array is poisoned before the call."""
    drawn = np.full(merchants, 99, np.int32)
    draw_multiplicities(replicate, np.uint64(COUNTER_HI), np.uint64(KEY), drawn)
    return drawn


def test_multiplicities_follow_the_written_rule() -> None:
    """Draw j is the (j mod 8)-th 32-bit word of block r * ceil(M / 8) + j // 8, times M, shifted by 32."""
    expected = [0] * 11
    words: list[int] = []
    for index in range(2):
        for x in block_4x64(np.uint64(3 * 2 + index), np.uint64(COUNTER_HI), np.uint64(KEY)):
            words += [int(x) & 0xFFFFFFFF, int(x) >> 32]
    for word in words[:11]:
        expected[word * 11 >> 32] += 1
    assert multiplicities(3, 11).tolist() == expected


@pytest.mark.parametrize("merchants", [1, 2, 5, 7, 60, 4096, 140_003])
def test_array_arithmetic_draws_what_compiled_code_draws(merchants: int) -> None:
    """Replicate by replicate, wherever a call begins, the counter's upper half included."""
    draw = Multiplicities(merchants, KEY, COUNTER_HI)
    for first, count in ((0, 1), (1, 1), (3, min(4, draw.at_once)), (2**31 - 2, 1)):
        drawn = draw(first, count)
        for place in range(count):
            assert drawn[place].tolist() == multiplicities(first + place, merchants).tolist()


@pytest.mark.parametrize("units", [1 << 16, 20])
@pytest.mark.parametrize("draws_of_a_share", [500, 10**9])
def test_what_is_made_of_counts_is_what_compiled_code_makes(
    monkeypatch: pytest.MonkeyPatch, units: int, draws_of_a_share: int
) -> None:
    """Bit for bit, of merchants and of groups of them, countries without sites and regions included."""
    monkeypatch.setattr(bootstrap_statistics, "MAX_UNITS", units)
    monkeypatch.setattr(bootstrap_statistics, "GROUPS", units)
    monkeypatch.setattr(bootstrap_counts, "_BLOCKS_AT_ONCE", 64)  # many calls, the last one short
    monkeypatch.setattr(bootstrap_counts, "_DRAWS_OF_A_SHARE", draws_of_a_share)
    world = World()
    sample = site_sample(
        world.merchant, world.country, world.southern, np.ones(14, np.bool_), None, np.arange(14) % 3
    )
    assert sample.merchants == min(units, int(world.merchant.max()) + 1)
    arrays, left_out = replicates_and_jackknife(sample, 101, KEY, COUNTER_HI)
    compiled = replicate_statistics(sample, 101, KEY, COUNTER_HI)
    assert arrays.tobytes() == compiled.tobytes()
    assert left_out.tobytes() == jackknife_statistics(sample).tobytes()
    assert np.isnan(arrays[:, 6]).all()
    assert len(np.unique(arrays[:, 0])) > 50  # they do differ


def test_replicates_equal_sites_repeated_by_hand() -> None:
    """Writing every drawn merchant's sites out as often as it was drawn gives the same statistics."""
    world = World()
    sample = world.sample()
    rows = replicate_statistics(sample, 40, KEY, COUNTER_HI)
    for r in range(40):
        times = multiplicities(r, sample.merchants)
        sites = np.repeat(np.arange(len(world.merchant)), times[world.merchant])
        assert rows[r].tolist() == pytest.approx(world.expected(sites), rel=1e-12)


def test_the_quantile_scan_falls_back_when_a_replicate_lies_before_its_window() -> None:
    """One merchant owns nearly everything: replicates without it are far from the full sample's quantiles."""
    merchant = np.concatenate((np.zeros(5000, np.int64), np.arange(1, 6)))
    distance = np.concatenate((np.linspace(1000, 2000, 5000), np.linspace(1, 5, 5)))
    country, southern = np.zeros(5005, np.int16), np.zeros(5005, np.bool_)
    sample = site_sample(merchant, country, southern, np.ones(1, np.bool_), distance)
    rows = replicate_statistics(sample, 30, KEY, COUNTER_HI)
    absent = 0
    for r in range(30):
        times = multiplicities(r, 6)
        absent += times[0] == 0
        p50, p99 = np.quantile(np.repeat(distance, times[merchant]), [0.5, 0.99])
        assert rows[r, 6] == pytest.approx(p99 / p50, rel=1e-12)
    assert absent > 0


def test_jackknife_equals_leaving_merchants_out_by_hand() -> None:
    """Each row is the sample without one merchant; the observed row is the sample with all."""
    world = World()
    sample = world.sample()
    rows = jackknife_statistics(sample)
    assert rows.shape == (sample.merchants, len(STATISTICS) + 3)
    for m in range(sample.merchants):
        assert rows[m].tolist() == pytest.approx(
            world.expected(np.flatnonzero(world.merchant != m)), rel=1e-12
        )
    everything = world.expected(np.arange(len(world.merchant)))
    assert observed_statistics(sample).tolist() == pytest.approx(everything, rel=1e-12)


def test_order_of_the_sites_does_not_matter() -> None:
    """Shuffled rows: bit for bit the same replicates."""
    world = World()
    order = np.random.default_rng(1).permutation(len(world.merchant))
    shuffled = site_sample(
        world.merchant[order],
        world.country[order],
        world.southern[order],
        world.eligible,
        world.distance_m[order],
        world.region,
    )
    first = replicate_statistics(world.sample(), 10, KEY, COUNTER_HI)
    assert first.tobytes() == replicate_statistics(shuffled, 10, KEY, COUNTER_HI).tobytes()


def test_more_replicates_leave_the_first_ones_alone() -> None:
    """A replicate depends on its number, not on how many there are."""
    sample = World().sample()
    few, many = (replicate_statistics(sample, b, KEY, COUNTER_HI) for b in (5, 20))
    assert few.tobytes() == many[:5].tobytes()


def test_a_zero_median_gives_no_ratio() -> None:
    """Duplicated points make the ratio NaN inside the kernel, and no interval outside."""
    zeros = np.zeros(8)
    sample = site_sample(
        np.arange(8), np.zeros(8, np.int16), np.zeros(8, np.bool_), np.ones(1, np.bool_), zeros
    )
    rows = replicate_statistics(sample, 5, KEY, COUNTER_HI)
    assert np.isnan(rows[:, 6]).all()
    assert bca_interval(1.0, rows[:, 6], jackknife_statistics(sample)[:, 6], 0.95) is None


# Random groups


class ManyMerchants:
    """3000 merchants with one to four pairs each in 12 countries, and a few neighbours' distances per site."""

    def __init__(self, merchants: int = 3000) -> None:
        rng = np.random.default_rng(8)
        self.merchant = np.repeat(np.arange(merchants), rng.integers(1, 5, merchants))
        n = len(self.merchant)
        self.country = (rng.pareto(1.0, n) % 12).astype(np.int16)
        self.sites = rng.integers(1, 9, n)
        self.southern = np.where(self.country < 3, self.sites, 0)
        self.distance_m: FloatArray = np.asarray(rng.lognormal(5.0, 1.0, int(self.sites.sum())), np.float64)

    def sample(self) -> MerchantSample:
        """The pairs, grouped by merchant or by group of merchants."""
        return merchant_sample(
            self.merchant, self.country, self.sites, self.southern, np.ones(12, np.bool_), self.distance_m,
            np.arange(12) % 3,
        )  # fmt: skip


def groups_by_the_written_rule(merchants: int, groups: int) -> list[int]:
    """Merchant m is in group w * groups >> 32, w the upper 32 bits of word m of the stream."""
    key, counter_hi = (int.from_bytes(word, "big") for word in (b"random", b"groups"))
    blocks = [
        block_4x64(np.uint64(b), np.uint64(counter_hi), np.uint64(key)) for b in range(merchants // 4 + 1)
    ]
    words = [int(word) >> 32 for block in blocks for word in block]
    return [word * groups >> 32 for word in words[:merchants]]


def test_above_the_limit_random_groups_of_merchants_are_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every merchant is in exactly one group, and with it all its pairs, its southern sites and its distances."""
    world = ManyMerchants()
    monkeypatch.setattr(bootstrap_statistics, "MAX_UNITS", 500)
    monkeypatch.setattr(bootstrap_statistics, "GROUPS", 500)
    sample = world.sample()
    assert sample.merchants == len(sample.southern) == 500
    group = np.array(groups_by_the_written_rule(3000, 500))
    assert np.unique(group).size > 490  # of 500 groups of 6 on average, hardly one is empty
    expected = np.zeros((500, 12), np.int64)
    np.add.at(expected, (group[world.merchant], world.country), world.sites)
    got = np.zeros((500, 12), np.int64)
    owner = np.repeat(np.arange(500), np.diff(sample.pair_start))
    np.add.at(got, (owner, sample.pair_country), sample.pair_sites)
    assert got.tolist() == expected.tolist()
    assert len(owner) == np.count_nonzero(expected)  # each pair of group and country stands there once
    south = np.bincount(group[world.merchant], weights=world.southern, minlength=500)
    assert sample.southern.tolist() == south.tolist()
    own_group = np.repeat(group[world.merchant], world.sites)
    order = np.argsort(world.distance_m)
    assert sample.distance_m.tolist() == world.distance_m[order].tolist()
    assert sample.distance_merchant.tolist() == own_group[order].tolist()


def test_groups_hold_what_their_merchants_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals per country and in the south, distances and the observed statistics are those without groups."""
    world = ManyMerchants()
    alone = world.sample()
    assert alone.merchants == 3000
    monkeypatch.setattr(bootstrap_statistics, "MAX_UNITS", 500)
    monkeypatch.setattr(bootstrap_statistics, "GROUPS", 500)
    grouped = world.sample()
    totals = [
        np.bincount(sample.pair_country, weights=sample.pair_sites, minlength=12).tolist()
        for sample in (alone, grouped)
    ]
    assert totals[0] == totals[1]
    assert alone.southern.sum() == grouped.southern.sum()
    assert alone.distance_m.tobytes() == grouped.distance_m.tobytes()
    assert observed_statistics(alone).tolist() == observed_statistics(grouped).tolist()


def test_at_the_limit_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many merchants as units: each stays a unit of its own. One more, and they are grouped."""
    world = ManyMerchants()
    alone = world.sample()
    monkeypatch.setattr(bootstrap_statistics, "MAX_UNITS", 3000)
    monkeypatch.setattr(bootstrap_statistics, "GROUPS", 3000)
    limit = world.sample()
    for name in ("pair_start", "pair_country", "pair_sites", "southern", "distance_m", "distance_merchant"):
        assert getattr(alone, name).tobytes() == getattr(limit, name).tobytes(), name
    monkeypatch.setattr(bootstrap_statistics, "MAX_UNITS", 2999)
    monkeypatch.setattr(bootstrap_statistics, "GROUPS", 2999)
    assert world.sample().merchants == 2999
    assert world.sample().distance_merchant.tobytes() != alone.distance_merchant.tobytes()


def test_intervals_of_groups_are_as_wide_as_those_of_merchants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random groups estimate the same variance: widths agree within 15 %, about the same middle."""
    world = ManyMerchants(6000)
    found = []
    for limit in (1 << 16, 1500):
        monkeypatch.setattr(bootstrap_statistics, "MAX_UNITS", limit)
        monkeypatch.setattr(bootstrap_statistics, "GROUPS", limit)
        sample = world.sample()
        rows = replicate_statistics(sample, 1500, KEY, COUNTER_HI)
        jackknife = jackknife_statistics(sample)
        observed = observed_statistics(sample)
        intervals = [
            bca_interval(float(observed[i]), rows[:, i], jackknife[:, i], 0.95)
            for i in (
                0,
                1,
                3,
                5,
                6,
                7,
                8,
                9,
            )  # all but the share of the top 5 % (as 1 %) and coverage (constant)
        ]
        assert all(interval is not None for interval in intervals)
        found.append(np.array([(i.low, i.high) for i in intervals if i is not None]))
    width = found[0][:, 1] - found[0][:, 0]
    assert (found[1][:, 1] - found[1][:, 0]) / width == pytest.approx(np.ones(8), abs=0.15)
    assert (np.abs(found[1].mean(axis=1) - found[0].mean(axis=1)) < 0.15 * width).all()


def test_a_grouped_jackknife_leaves_whole_groups_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: each row is the sample without the merchants of one group."""
    world = World()
    monkeypatch.setattr(bootstrap_statistics, "MAX_UNITS", 10)
    monkeypatch.setattr(bootstrap_statistics, "GROUPS", 10)
    sample = world.sample()
    rows = jackknife_statistics(sample)
    group = np.array(groups_by_the_written_rule(int(world.merchant.max()) + 1, 10))
    assert len(rows) == 10
    for g in range(10):
        rest = np.flatnonzero(group[world.merchant] != g)
        assert rows[g].tolist() == pytest.approx(world.expected(rest), rel=1e-12)
    replicates = replicate_statistics(sample, 5, KEY, COUNTER_HI)
    for r in range(5):
        times = multiplicities(r, 10)
        sites = np.repeat(np.arange(len(world.merchant)), times[group[world.merchant]])
        assert replicates[r].tolist() == pytest.approx(world.expected(sites), rel=1e-12)


def test_pairs_cut_in_two_are_one_pair() -> None:
    """A merchant's sites in a country, told in several rows, give the same sample as in one."""
    world = ManyMerchants(50)
    first = np.minimum(world.sites, 3)
    rest = world.sites - first
    merchant, country = np.repeat(world.merchant, 2), np.repeat(world.country, 2)
    sites = np.stack((first, rest), axis=1).ravel()
    southern = np.where(country < 3, sites, 0)
    cut = merchant_sample(
        merchant, country, sites, southern, np.ones(12, np.bool_), world.distance_m, np.arange(12) % 3
    )
    whole = world.sample()
    for name in ("pair_start", "pair_country", "pair_sites", "southern", "distance_m", "distance_merchant"):
        assert getattr(cut, name).tobytes() == getattr(whole, name).tobytes(), name


def test_leaving_one_of_several_alike_out_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merchants in one country, with as many sites and as many of them in the south, share a row; no others do."""
    rng = np.random.default_rng(3)
    merchant = np.repeat(np.arange(400), rng.integers(1, 3, 400))
    country = rng.integers(0, 5, len(merchant)).astype(np.int16)
    sites = rng.integers(1, 4, len(merchant))
    sample = merchant_sample(
        merchant,
        country,
        sites,
        rng.integers(0, 2, len(merchant)),
        np.ones(5, np.bool_),
        None,
        np.arange(5) % 2,
    )
    first = bootstrap_statistics._first_alike(sample)
    assert 200 < len(np.unique(first)) < 350
    rows = bootstrap_statistics.jackknife_counts(sample)
    monkeypatch.setattr(bootstrap_statistics, "_first_alike", lambda one: np.arange(one.merchants))
    assert rows.tobytes() == bootstrap_statistics.jackknife_counts(sample).tobytes()
