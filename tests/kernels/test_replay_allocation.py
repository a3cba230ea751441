"""The second implementation of S4: strides by search, plans by the loops of the definition."""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import PLAIN, reference_draw

from seg1b.errors import ContractError
from seg1b.kernels import replay_allocation


def ints(*values: int) -> npt.NDArray[np.int64]:
    """An array of integers."""
    return np.array(values, np.int64)


def runs(*columns: list[int]) -> replay_allocation.RunPieces:
    """Pieces from lists: first tiles, lengths, weights, weights before."""
    return replay_allocation.RunPieces(*(ints(*column) for column in columns))


def reference_plan(
    seed: int, iso: str, sites: int, weights: list[tuple[int, int]], per_area: int, ppm: int
) -> list[int]:
    """Tiles of the sites 0..sites-1, by loops over sites and tiles; `weights`: (tile, weight) in order."""
    total = sum(w for _, w in weights)

    def tile_of(position: int) -> int:
        for tile, weight in weights:
            if position < weight:
                return tile
            position -= weight
        raise AssertionError

    areas = -(-sites // per_area)
    start = reference_draw(seed, "trade_area", iso, total)
    area_tile = [tile_of((start + k * total) // areas) for k in range(areas)]
    phase = reference_draw(seed, "dispersed", iso, 10**6)
    lonely = [i for i in range(sites) if ((i + 1) * ppm + phase) // 10**6 > (i * ppm + phase) // 10**6]
    start = reference_draw(seed, "dispersed_start", iso, total)
    result = [-1] * sites
    for k, site in enumerate(lonely):
        result[site] = tile_of((start + k * total) // len(lonely))
    first = reference_draw(seed, "alloc_start", iso, areas)
    stride = reference_stride(areas)
    others = [i for i in range(sites) if result[i] < 0]
    for j, site in enumerate(others):
        result[site] = area_tile[(j + first) * stride % areas]
    return result


def reference_stride(areas: int) -> int:
    """Golden-ratio stride by counting up to it."""
    root = 0
    while (2 * root + areas - 1) ** 2 <= 5 * areas * areas:  # largest root <= (sqrt(5) - 1) / 2 * areas + 1/2
        root += 1
    nearest = root - 1
    candidates = [c for d in range(areas + 2) for c in (nearest - d, nearest + d)]
    return next(c for c in candidates if c >= 1 and gcd(c, areas) == 1)


def test_golden_strides() -> None:
    """Strides of small numbers of areas, by hand, then by search: next to m / 1.618 and coprime to m."""
    assert [replay_allocation.golden_stride(m) for m in (1, 2, 3, 4, 5, 6, 8, 10)] == [1, 1, 2, 1, 3, 5, 5, 7]
    for m in range(2, 400):
        stride = replay_allocation.golden_stride(m)
        assert gcd(stride, m) == 1
        assert stride == reference_stride(m)


def test_plan_of_a_row_of_equal_tiles() -> None:
    """Four equal tiles, one site per area, none dispersed: every tile gets exactly two of eight sites."""
    tiles = replay_allocation.replay_country_plan(1, "AA", ints(3, 5), runs([10], [4], [25], [0]), 1, 0)
    assert sorted(tiles) == [10, 10, 11, 11, 12, 12, 13, 13]


def test_plan_refuses_broken_weights() -> None:
    """A gap between two pieces is a damaged artefact, not a country."""
    with pytest.raises(ContractError, match="E_REPLAY_WEIGHTS"):
        replay_allocation.replay_country_plan(1, "AA", ints(3), runs([10, 20], [1, 1], [5, 5], [0, 6]), 1, 0)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), min_size=1, max_size=8),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.integers(1, 9),
    st.sampled_from([0, 4000, 300_000, 10**6]),
    st.sampled_from([1, 10**12, 10**15]),
)
def test_plan_is_the_definition(
    seed: int,
    pieces: list[tuple[int, int]],
    n_sites: list[int],
    per_area: int,
    ppm: int,
    unit: int,
) -> None:
    """Site by site the closed form gives what the loops of the definition give, zero weights included."""
    length = [n for n, _ in pieces]
    weight = [w * unit for _, w in pieces]
    if not any(weight):
        weight[0] = unit
    tile0 = [100 * k for k in range(len(pieces))]
    cum = [sum(w * n for w, n in zip(weight[:k], length[:k], strict=True)) for k in range(len(pieces))]
    tiles = [(t + i, w) for t, n, w in zip(tile0, length, weight, strict=True) for i in range(n)]
    expected = reference_plan(seed, "FR", sum(n_sites), tiles, per_area, ppm)
    arguments = (seed, "FR", ints(*n_sites), runs(tile0, length, weight, cum), per_area, ppm)
    assert replay_allocation.replay_country_plan(*arguments).tolist() == expected
    assert PLAIN.replay_country_plan(*arguments).tolist() == expected


def test_plan_beyond_64_bits() -> None:
    """K = 10^15 and 30,000 sites: k*K exceeds 64 bits, the tiles are still those of unbounded integers."""
    total, sites, length = 10**15, 30_000, 1000
    tiles = replay_allocation.replay_country_plan(
        3, "FR", ints(sites), runs([0], [length], [total // length], [0]), 1, 500_000
    )
    draws = replay_allocation.plan_draws(3, "FR", sites, total, 1, 500_000)
    for site in range(sites - 200, sites):
        before, after = ((i * 500_000 + draws.dispersed_phase) // 10**6 for i in (site, site + 1))
        k, n, start = before, draws.dispersed, draws.dispersed_start
        if after == before:
            k = (site - before + draws.fill_start) * draws.stride % sites
            n, start = sites, draws.area_start
        assert tiles[site] == (start + k * total) // n // (total // length)
