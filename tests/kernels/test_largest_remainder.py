"""S4 v1: the sparse allocation equals a dense one that is written straight from the text."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.errors import ContractError
from seg1b.kernels.largest_remainder import (
    TOTAL_MAX,
    LargestRemainderAllocation,
    LargestRemainderControls,
    allocate_country_v1,
    rank_by_weight,
    ring_hashes,
)

PLAIN = LargestRemainderControls(
    diversification_enabled=False, apply_n_sites_max=24, window_fraction=0.35, window_min=24, window_max=None,
    reroute_enabled=False, max_moves_per_pair=2048, residual_enabled=False, min_active_tile_fraction=0.35,
    max_steps_per_pair=1024, soft=0.2, hard=0.45, namespace="1B.S4.ANTI_COLLAPSE_V1",
)  # fmt: skip
SHIPPED = replace(PLAIN, diversification_enabled=True, reroute_enabled=True, residual_enabled=True)


def sparse(
    weights: list[int],
    sizes: list[int],
    controls: LargestRemainderControls,
    merchants: list[int] | None = None,
) -> LargestRemainderAllocation:
    """Allocation on tiles 0, 1, 2, ... given as runs of equal weight, one of them cut in two."""
    cuts = [
        0,
        *(i for i in range(1, len(weights)) if weights[i] != weights[i - 1] or i % 5 == 0),
        len(weights),
    ]
    tile0, length = np.array(cuts[:-1], dtype=np.int64), np.diff(cuts).astype(np.int32)
    rank = rank_by_weight(tile0, length, np.array(weights, dtype=np.int64)[tile0])
    ids = np.array(merchants or range(1, len(sizes) + 1), dtype=np.uint64)
    return allocate_country_v1(rank, sum(weights), ids, np.array(sizes, dtype=np.int64), "FR", controls)


def remainders(weights: list[int], n: int) -> tuple[list[int], list[int], int]:
    """Bases, rank by (residue descending, tile) and shortfall of the plain method."""
    total = sum(weights)
    base = [n * w // total for w in weights]
    rank = sorted(range(len(weights)), key=lambda t: (-(n * weights[t] % total), t))
    return base, rank, n - sum(base)


def dense(
    weights: list[int], n: int, merchant: int, c: LargestRemainderControls
) -> tuple[list[int], list[int], bool, int, int]:
    """(counts, counts before the controls, diversified, soft moves, residual moves), tile by tile."""
    tiles = len(weights)
    plain, rank, shortfall = remainders(weights, n)
    counts = plain[:]
    for t in rank[:shortfall]:
        plain[t] += 1
    window = 0
    if c.diversification_enabled and n <= c.apply_n_sites_max:
        window = min(tiles, max(shortfall, c.window_min, math.ceil(c.window_fraction * tiles)))
        window = window if c.window_max is None else min(window, c.window_max)
    if window > shortfall:
        digest = hashlib.sha256(f"{c.namespace}|{merchant}|FR".encode()).digest()
        offset = int.from_bytes(digest[:8], "big") % window
        for j in range(shortfall):
            counts[rank[(offset + j) % window]] += 1
    else:
        counts = plain[:]
    by_weight = sorted(range(tiles), key=lambda t: (-weights[t], t))
    place = {t: i for i, t in enumerate(by_weight)}

    def fullest(candidates: list[int]) -> int:
        return min(candidates, key=lambda t: (-counts[t], -weights[t], t))

    soft_moves = residual_moves = 0
    max_soft = max(1, math.ceil(c.soft * n))
    max_hard = max(max_soft, math.ceil(c.hard * n))
    if c.reroute_enabled and n > 1 and tiles > 1 and c.soft < 1:
        while max(counts) > max_soft and soft_moves < c.max_moves_per_pair:
            donor = fullest(list(range(tiles)))
            walk = [by_weight[(place[donor] + k) % tiles] for k in range(1, tiles)]
            receiver = next((t for t in walk if counts[t] + 1 <= max_hard), None)
            if receiver is None:
                break
            counts[donor] -= 1
            counts[receiver] += 1
            soft_moves += 1
    if c.residual_enabled and n > 1 and tiles > 1:
        most = min(n, tiles)
        target = min(most, max(1, math.ceil(c.min_active_tile_fraction * most)))
        while sum(k > 0 for k in counts) < target and residual_moves < c.max_steps_per_pair:
            donors = [t for t in range(tiles) if counts[t] > 1]
            if not donors:
                break
            donor = fullest(donors)
            receiver = next(t for t in by_weight if counts[t] == 0)
            if max(1, math.ceil(c.hard * n)) < 1:
                break
            counts[donor] -= 1
            counts[receiver] += 1
            residual_moves += 1
    return counts, plain, window > shortfall > 0, soft_moves, residual_moves


def check(
    weights: list[int], sizes: list[int], controls: LargestRemainderControls, merchants: list[int]
) -> LargestRemainderAllocation:
    """Rows and diagnostics of every pair against the dense version."""
    got = sparse(weights, sizes, controls, merchants)
    for p, n in enumerate(sizes):
        counts, plain, diversified, soft_moves, residual_moves = dense(weights, n, merchants[p], controls)
        mine = got.pair == p
        rows = [(t, k) for t, k in enumerate(counts) if k > 0]
        assert list(zip(got.tile[mine].tolist(), got.count[mine].tolist(), strict=True)) == rows
        assert (bool(got.diversified[p]), int(got.soft_moves[p]), int(got.residual_moves[p])) == (
            diversified, soft_moves, residual_moves,
        )  # fmt: skip
        for summary, of in ((got.before[p], plain), (got.after[p], counts)):
            expected = [max(of) / n, sum(k * k for k in of) / n**2, sum(k > 0 for k in of)]
            assert summary.tolist() == pytest.approx(expected)
    return got


CONTROLS = st.builds(
    LargestRemainderControls,
    diversification_enabled=st.booleans(),
    apply_n_sites_max=st.sampled_from([0, 5, 24, 1000]),
    window_fraction=st.sampled_from([0.1, 0.35, 1.0]),
    window_min=st.integers(1, 24),
    window_max=st.none() | st.integers(1, 12),
    reroute_enabled=st.booleans(),
    max_moves_per_pair=st.sampled_from([1, 7, 2048]),
    residual_enabled=st.booleans(),
    min_active_tile_fraction=st.sampled_from([0.1, 0.35, 1.0]),
    max_steps_per_pair=st.sampled_from([1, 1024]),
    soft=st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0]),
    hard=st.sampled_from([0.05, 0.3, 0.45, 1.0]),
    namespace=st.just("N"),
)
WEIGHTS = st.one_of(
    st.lists(st.integers(0, 2), min_size=1, max_size=40),
    st.lists(st.integers(0, 60), min_size=1, max_size=40),
    st.lists(st.integers(0, 3) | st.integers(0, 10**14), min_size=1, max_size=25),
).filter(any)


@settings(max_examples=1500)
@given(WEIGHTS, st.lists(st.integers(1, 30) | st.integers(1, 250), min_size=1, max_size=3), CONTROLS)
def test_sparse_equals_dense(
    weights: list[int], sizes: list[int], controls: LargestRemainderControls
) -> None:
    """Ties, empty tiles, one tile, more sites than tiles, every combination of controls."""
    check(weights, sizes, controls, [7, 2**63 + 5, 12][: len(sizes)])


@pytest.mark.parametrize("controls", [PLAIN, replace(SHIPPED, max_moves_per_pair=5)])
def test_every_small_country(controls: LargestRemainderControls) -> None:
    """All weights 0 to 4 on three tiles, 1 to 11 sites: every tie of a base's residue with other tiles."""
    sizes = list(range(1, 12))
    for weights in product(range(5), repeat=3):
        if any(weights):
            check(list(weights), sizes, controls, sizes)


@settings(max_examples=150)
@given(st.integers(1, 9), st.integers(1, 400), st.booleans())
def test_weights_at_the_edge_of_the_exact_range(tiles: int, n: int, controlled: bool) -> None:
    """Total weight 2^60, where n*w needs 128 bits."""
    weights = [TOTAL_MAX // tiles - i for i in range(tiles)]
    weights[tiles // 2] += TOTAL_MAX - sum(weights)
    check(weights, [n], SHIPPED if controlled else PLAIN, [3])


def test_plain_largest_remainder_by_hand() -> None:
    """Weights 5, 3, 2 and four sites: quotas 2, 1.2, 0.8."""
    plan = sparse([5, 3, 2], [4], PLAIN)
    assert plan.tile.tolist() == [0, 1, 2]
    assert plan.count.tolist() == [2, 1, 1]
    assert plan.floor.tolist() == [[0.5, 6 / 16]]


def test_each_control_can_act() -> None:
    """A dominant tile trips the guard; a small pair is diversified; few active tiles are spread."""
    crowded = [96, 1, 1, 1, 1]
    spread = replace(PLAIN, residual_enabled=True, min_active_tile_fraction=1.0)
    assert check(crowded, [50], replace(PLAIN, reroute_enabled=True), [1]).soft_moves[0] > 0
    assert check(crowded, [50], spread, [1]).residual_moves[0] > 0
    assert check([1] * 100, [5], SHIPPED, [1]).diversified[0]


def test_a_large_pair_costs_no_more_than_its_sites() -> None:
    """A million tiles in one run, a hundred thousand sites: the rows are the first tiles of the rank."""
    rank = rank_by_weight(np.zeros(1, dtype=np.int64), np.array([10**6], dtype=np.int32), np.array([10**6]))
    plan = allocate_country_v1(
        rank,
        10**12,
        np.array([1], dtype=np.uint64),
        np.array([100_000]),
        "FR",
        replace(SHIPPED, residual_enabled=False),
    )
    assert plan.tile.tolist() == list(range(100_000))
    assert set(plan.count.tolist()) == {1}


def test_ring_hashes_use_the_decimal_merchant_id() -> None:
    """SHA-256 of namespace|merchant|country."""
    expected = int.from_bytes(hashlib.sha256(b"N|18446744073709551615|GB").digest()[:8], "big")
    assert int(ring_hashes("N", "GB", np.array([2**64 - 1], dtype=np.uint64))[0]) == expected


def test_bad_inputs_are_named() -> None:
    """No tiles E403, weights that do not sum E402, sizes of zero E402, beyond the exact range E416."""
    one = np.ones(1, dtype=np.int64)
    rank = rank_by_weight(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int32), one * 5)
    empty = rank_by_weight(one[:0], one[:0].astype(np.int32), one[:0])
    merchant = np.ones(1, dtype=np.uint64)
    for given_rank, total, size, code in (
        (empty, 5, 1, "E403"), (rank, 6, 1, "E402"), (rank, 5, 0, "E402"),
        (rank, 2**61, 1, "E416"), (rank, 5, 2**32, "E416"),
    ):  # fmt: skip
        with pytest.raises(ContractError) as caught:
            allocate_country_v1(given_rank, total, merchant, one * size, "FR", PLAIN)
        assert caught.value.code == code
