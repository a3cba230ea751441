"""S5: sites to tiles; and the sorts that it rests on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import ContractError
from seg1b.kernels.assignment import LABEL, assign_tiles, assign_tiles_v1
from seg1b.kernels.philox import block, u01
from seg1b.kernels.sorting import order_uniform_keys, sort_ascending
from seg1b.kernels.streams import master_v1, pair_stream_v1, pair_streams

Ints = npt.NDArray[np.int64]
QUOTAS = st.lists(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


def plan(quotas: list[list[tuple[int, int]]]) -> tuple[Ints, Ints, Ints, Ints]:
    """n_sites, row_start, row_tile, row_count with tiles strictly ascending in a pair."""
    rows = [sorted(dict(pair).items()) for pair in quotas]
    n_sites = np.array([sum(c for _, c in pair) for pair in rows], dtype=np.int64)
    row_start = np.cumsum([0] + [len(pair) for pair in rows]).astype(np.int64)
    flat = np.array([row for pair in rows for row in pair], dtype=np.int64)
    return n_sites, row_start, flat[:, 0].copy(), flat[:, 1].copy()


@given(QUOTAS, st.integers(0, 2**64 - 1))
def test_v2_sorts_sites_by_word_and_meets_every_quota(quotas: list[list[tuple[int, int]]], seed: int) -> None:
    """The j-th site by (x0 of block site_order * 2^16, site_order) takes the j-th tile of the multiset."""
    n_sites, row_start, row_tile, row_count = plan(quotas)
    merchants = np.arange(1, len(quotas) + 1, dtype=np.uint64)
    key, counter_hi = pair_streams(seed, LABEL, "GB", merchants)
    tiles = assign_tiles(n_sites, key, counter_hi, row_start, row_tile, row_count)
    expected: list[int] = []
    for p, n in enumerate(n_sites):
        words = [block(np.uint64(s << 16), counter_hi[p], key[p])[0] for s in range(1, n + 1)]
        rows = slice(row_start[p], row_start[p + 1])
        multiset = np.repeat(row_tile[rows], row_count[rows]).tolist()
        mine = dict(zip(sorted(range(n), key=lambda s: (words[s], s)), multiset, strict=True))
        expected += [mine[s] for s in range(n)]
    assert tiles.tolist() == expected


@given(QUOTAS, st.integers(0, 2**64 - 1))
def test_v1_sorts_sites_by_uniform_and_order(quotas: list[list[tuple[int, int]]], seed: int) -> None:
    """One block a site, site_order 1 at the digest's own counter, with carry into the high word."""
    n_sites, row_start, row_tile, row_count = plan(quotas)
    merchants = np.arange(1, len(quotas) + 1, dtype=np.uint64)
    streams = [pair_stream_v1(master_v1("ab" * 32, seed), LABEL, "GB", int(m)) for m in merchants]
    key, counter_hi, counter_lo = (
        np.array([getattr(stream, name) for stream in streams], np.uint64)
        for name in ("key", "counter_hi", "counter_lo")
    )
    counter_lo[0] = np.uint64(2**64 - 2)
    tiles = assign_tiles_v1(n_sites, key, counter_hi, counter_lo, row_start, row_tile, row_count)
    expected: list[int] = []
    for p, n in enumerate(n_sites):
        u = []
        for s in range(n):
            counter = (int(counter_hi[p]) << 64) + int(counter_lo[p]) + s
            low, high = counter % 2**64, (counter >> 64) % 2**64
            u.append(u01(np.uint64(block(np.uint64(low), np.uint64(high), key[p])[0])))
        rows = slice(row_start[p], row_start[p + 1])
        multiset = np.repeat(row_tile[rows], row_count[rows]).tolist()
        mine = dict(zip(sorted(range(n), key=lambda s: (u[s], s)), multiset, strict=True))
        expected += [mine[s] for s in range(n)]
    assert tiles.tolist() == expected


def test_quotas_must_sum_to_the_sites() -> None:
    """E504 names the pair."""
    key = np.zeros(2, dtype=np.uint64)
    with pytest.raises(ContractError) as caught:
        assign_tiles(np.array([2, 2]), key, key, np.array([0, 1, 2]), np.array([5, 6]), np.array([2, 1]))
    assert caught.value.code == "E504"
    assert caught.value.where == "pair 1"


def test_a_pair_does_not_depend_on_its_neighbours() -> None:
    """Assigning pairs apart or together gives the same tiles: any sharding will do."""
    key = np.array([11, 12, 13], dtype=np.uint64)
    n_sites, tiles = np.array([5, 100, 2]), np.array([1, 2, 3])
    together = assign_tiles(n_sites, key, key, np.arange(4), tiles, n_sites)
    apart = [
        assign_tiles(n_sites[p : p + 1], key[p : p + 1], key[p : p + 1], np.array([0, 1]), tiles[p : p + 1],
                     n_sites[p : p + 1])
        for p in range(3)
    ]  # fmt: skip
    assert together.tolist() == np.concatenate(apart).tolist()


@given(st.lists(st.integers(-(2**40), 2**40), max_size=120), st.sampled_from([1, 40, 5000]))
def test_radix_and_insertion_sort_sort(values: list[int], repeat: int) -> None:
    """Short lists, long ones and very long ones, negative values included."""
    array = np.array(values * (repeat if len(values) < 3 else 1), dtype=np.int64)
    expected = np.sort(array)
    sort_ascending(array, np.empty_like(array))
    assert np.array_equal(array, expected)


def test_long_lists_of_small_integers_sort() -> None:
    """int32 and the wide radix digit."""
    array = np.random.default_rng(1).integers(-5, 10**6, 20_000).astype(np.int32)
    expected = np.sort(array)
    sort_ascending(array, np.empty_like(array))
    assert np.array_equal(array, expected)


@given(st.lists(st.integers(0, 3) | st.integers(0, 2**64 - 1), max_size=150))
def test_uniform_keys_sort_stably(keys: list[int]) -> None:
    """Equal keys keep their order, wherever the bucket borders fall."""
    key = np.array(keys, dtype=np.uint64)
    order = np.empty(len(keys), dtype=np.int32)
    order_uniform_keys(key, order, np.empty_like(key), np.empty_like(order))
    assert order.tolist() == sorted(range(len(keys)), key=lambda i: (keys[i], i))
    assert key.tolist() == sorted(keys)
