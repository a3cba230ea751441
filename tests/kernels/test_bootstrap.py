"""Bootstrap over merchants: against repetition by hand, leave-one-out by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from seg1b.kernels.bca import bca_interval
from seg1b.kernels.bootstrap import (
    STATISTICS,
    MerchantSample,
    draw_multiplicities,
    jackknife_statistics,
    merchant_sample,
    observed_statistics,
    replicate_statistics,
)
from seg1b.kernels.inequality import gini, top_share
from seg1b.kernels.philox import block

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
KEY, COUNTER_HI = 11, 22


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
        return merchant_sample(
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
    draw_multiplicities(np.uint64(replicate << 32), np.uint64(COUNTER_HI), np.uint64(KEY), drawn)
    return drawn


def test_multiplicities_follow_the_written_rule() -> None:
    """Draw j is the (j mod 4)-th 32-bit word of block r * 2^32 + j // 4, times M, shifted by 32."""
    expected = [0] * 7
    words: list[int] = []
    for index in range(2):
        for x in block(np.uint64((3 << 32) + index), np.uint64(COUNTER_HI), np.uint64(KEY)):
            words += [int(x) & 0xFFFFFFFF, int(x) >> 32]
    for word in words[:7]:
        expected[word * 7 >> 32] += 1
    assert multiplicities(3, 7).tolist() == expected


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
    sample = merchant_sample(merchant, country, southern, np.ones(1, np.bool_), distance)
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
    shuffled = merchant_sample(
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
    sample = merchant_sample(
        np.arange(8), np.zeros(8, np.int16), np.zeros(8, np.bool_), np.ones(1, np.bool_), zeros
    )
    rows = replicate_statistics(sample, 5, KEY, COUNTER_HI)
    assert np.isnan(rows[:, 6]).all()
    assert bca_interval(1.0, rows[:, 6], jackknife_statistics(sample)[:, 6], 0.95) is None
