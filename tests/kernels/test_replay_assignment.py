"""The second implementation of S5: every site's tile as the definition ranks it, in both families."""

from __future__ import annotations

import numpy as np
import pytest
from replay_cases import FINGERPRINT, MASK, reference_philox, reference_stream

from seg1b.kernels import replay_assignment, replay_draws


@pytest.mark.parametrize("fingerprint", [None, FINGERPRINT])
def test_assignment_is_the_definition(fingerprint: str | None) -> None:
    """Sites sorted by their draw take the pair's tiles in ascending order, in both families."""
    rng = np.random.default_rng(5)
    merchants, n_sites = [3, 2**63 + 9], [40, 7]
    plan = np.concatenate([np.sort(rng.integers(0, 12, n)) for n in n_sites])
    got = replay_assignment.replay_assignment(11, "FR", merchants, n_sites, plan, fingerprint)
    expected: list[int] = []
    for m, n, multiset in zip(merchants, n_sites, np.split(plan, [n_sites[0]]), strict=True):
        ranked: list[tuple[float, int]] = []
        for order in range(1, n + 1):
            if fingerprint is None:
                key, hi = reference_stream(11, "site_tile_assign", "FR", m)
                ranked.append((reference_philox(order << 16, hi, key)[0], order))
            else:
                key, hi, lo = replay_draws.pair_stream_v1(fingerprint, 11, "site_tile_assign", m, "FR")
                counter = ((hi << 64) + lo + order - 1) & ((1 << 128) - 1)
                u = (float(reference_philox(counter & MASK, counter >> 64, key)[0]) + 1) * 2.0**-64
                ranked.append((u, order))
        tile_of = dict(zip([order for _, order in sorted(ranked)], multiset.tolist(), strict=True))
        expected += [int(tile_of[order]) for order in range(1, n + 1)]
    assert got.tolist() == expected


def test_the_old_counter_carries_into_its_high_half() -> None:
    """The 128-bit counter of v1 goes from (hi, 2^64 - 1) to (hi + 1, 0), and wraps at the very top."""
    order = np.arange(1, 4, dtype=np.int64)
    for high in (5, MASK):
        out = np.empty(3, np.uint64)
        column = [np.array([v], np.uint64) for v in (9, high, MASK - 1)]
        replay_assignment.assignment_draws(
            np.zeros(3, np.int64), order, column[0], column[1], column[2], True, out
        )
        blocks = [(MASK - 1, high), (MASK, high), (0, (high + 1) & MASK)]
        assert out.tolist() == [reference_philox(lo, hi, 9)[0] for lo, hi in blocks]
