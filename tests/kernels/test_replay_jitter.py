"""The second implementation of cluster_v3: every site as the definition places it."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from replay_cases import (
    COLUMNS,
    DIGEST,
    MASK,
    PLAIN,
    SLIVER,
    SQUARE,
    TABLE,
    THRESHOLDS,
    D,
    Ring,
    edges,
    no_settlements,
    reference_inside,
    reference_philox,
    reference_stream,
    tile,
    units,
)

from seg1b.errors import ContractError
from seg1b.kernels import replay_containment, replay_jitter


def rule(
    max_attempts: int = 64, weights: tuple[float, float, float] = (0.5, 0.3, 0.2)
) -> replay_jitter.ClusterRule:
    """The default cluster policy in integers, with the test's table and digest."""
    return replay_jitter.cluster_rule(DIGEST, TABLE, max_attempts, weights, THRESHOLDS, 0.15, 0.15, 0.15)


def reference_site(
    rings: list[Ring],
    stream: tuple[int, int],
    site_order: int,
    tile: int,
    population: int,
    settlement: tuple[int, int],
    max_attempts: int,
    weights: tuple[str, str],
) -> tuple[int, int, int, int]:
    """(X, Y, attempts, component) of one cluster_v3 site; attempts used up give (-1, -1, max_attempts, 3)."""
    key, hi = stream
    core, secondary = (Fraction(w) for w in weights)
    west, north = tile % COLUMNS << 32, tile // COLUMNS << 32
    anchors = 1 + sum(t * 10**6 <= population for t in THRESHOLDS)

    def gaussian(x: int) -> int:
        i, f = x >> 52, x >> 20 & 0xFFFFFFFF
        z = int(TABLE[i]) + ((int(TABLE[i + 1]) - int(TABLE[i])) * f >> 32)
        return z * floor(Fraction("0.15") * 2**32) >> 24

    for attempt in range(max_attempts):
        counter = site_order * 2**16 + attempt * 2
        b0, b1 = reference_philox(counter, hi, key), reference_philox(counter + 1, hi, key)
        component = 0 if b0[0] < floor(core * 2**64) else 1
        if b0[0] >= floor((core + secondary) * 2**64):
            x, y, component = b1[0] >> 32, b1[1] >> 32, 2
        else:
            k = 1 + (b0[1] * (anchors - 1) >> 64) if component == 1 and anchors > 1 else 0
            anchor = reference_philox(tile * 4 + k, 0x616E63686F72, 0xEFCDAB8967452301)
            low, span = floor(Fraction("0.15") * 2**32), floor(Fraction("0.7") * 2**32)
            x, y = (low + (a * span >> 64) for a in anchor)
            if k == 0 and settlement[0] >= 0:
                x, y = settlement
            x, y = x + gaussian(b1[0]), y + gaussian(b1[1])
        if 0 <= x < 2**32 and 0 <= y < 2**32 and reference_inside(rings, west + x, north + y):
            return west + x, north + y, attempt + 1, component
    return -1, -1, max_attempts, 3


def test_jitter_of_the_square_is_the_definition() -> None:
    """Every site of a square country of nine tiles: place, attempts and component as the definition says."""
    rng = np.random.default_rng(8)
    merchants, n_sites = [5, 2**40 + 1, 2**63 + 3], [200, 1, 120]
    n = sum(n_sites)
    tiles = np.array([tile(*p) for p in rng.integers(0, 3, (n, 2)).tolist()])
    people = rng.choice([0, 499_999_999, 500_000_000, 2_000_000_000, 8_000_000_000, 10**13], n)
    settlement = rng.integers(-1, 2**32, (2, n))
    settlement[:, ::2] = -1
    settlement[:, (settlement < 0).any(axis=0)] = -1
    got = replay_jitter.replay_jitter(
        4, "SQ", merchants, n_sites, tiles, people, (settlement[0], settlement[1]), rule(), edges(SQUARE)
    )
    plain = PLAIN.replay_jitter(
        4, "SQ", merchants, n_sites, tiles, people, (settlement[0], settlement[1]), rule(), edges(SQUARE)
    )
    site = 0
    for m, count in zip(merchants, n_sites, strict=True):
        for order in range(1, count + 1):
            place = (int(settlement[0, site]), int(settlement[1, site]))
            expected = reference_site(
                [SQUARE],
                reference_stream(4, "jitter_v3", "SQ", m),
                order,
                int(tiles[site]),
                int(people[site]),
                place,
                64,
                ("0.5", "0.3"),
            )
            for result in (got, plain):
                found = (result.x[site], result.y[site], result.attempts[site], result.component[site])
                assert found == expected
            site += 1
    assert not got.fallback.any()
    assert set(got.component) == {0, 1, 2}
    assert got.attempts.max() > 1


def test_slivers_use_the_fallback_and_lose_no_site() -> None:
    """In a tile with a sliver of land the attempts run out; the recorded block then picks an inside point."""
    index, n, attempts = edges(SLIVER), 12, 3
    got = replay_jitter.replay_jitter(
        9, "SL", [77], [n], np.full(n, tile(0, 0)), np.zeros(n), no_settlements(n), rule(attempts), index
    )
    key, hi = reference_stream(9, "jitter_v3", "SL", 77)
    lengths = np.empty(4096, np.int64)
    total = replay_containment.tile_country_length(*units(0, 0), index, lengths)
    assert got.fallback.sum() >= n - 1
    for s in range(n):
        expected = reference_site(
            [SLIVER], (key, hi), s + 1, tile(0, 0), 0, (-1, -1), attempts, ("0.5", "0.3")
        )
        if expected[3] == 3:
            ell = reference_philox((s + 1) * 2**16 + attempts * 2 + 1, hi, key)[0] * total >> 64
            point = replay_containment.tile_country_position(*units(0, 0), index, lengths, ell)
            expected = (*point, attempts, 3)
        assert (got.x[s], got.y[s], got.attempts[s], got.component[s]) == expected
        assert reference_inside([SLIVER], int(got.x[s]), int(got.y[s]))


def test_a_tile_without_land_is_an_error() -> None:
    """A site in a tile that the country does not touch stops the replay, and says which site."""
    with pytest.raises(ContractError, match=r"E613.*\n.*SQ, merchant 8, site 1"):
        replay_jitter.replay_jitter(
            1,
            "SQ",
            [7, 8],
            [1, 1],
            [tile(0, 0), tile(5, 5)],
            [0, 0],
            no_settlements(2),
            rule(4),
            edges(SQUARE),
        )


@pytest.mark.parametrize(
    ("weights", "component"), [((1.0, 0.0, 0.0), 0), ((0.0, 1.0, 0.0), 1), ((0.0, 0.0, 1.0), 2)]
)
def test_component_weights_of_one(weights: tuple[float, float, float], component: int) -> None:
    """A weight of one leaves no draw, not even the largest, to the others."""
    jitter = rule(64, weights)
    for s in range(40):
        _, _, drawn = PLAIN.cluster_attempt(s << 16, 5, 6, tile(0, 0), 4, -1, -1, jitter)
        assert drawn == component
    assert (jitter.any_core, int(jitter.core_last)) == (weights[0] > 0, MASK if weights[0] == 1.0 else 0)
    assert jitter.any_secondary == (weights[2] < 1.0)


def test_component_thresholds_are_exclusive_ends() -> None:
    """x is core if it is below floor(w * 2^64): the last core word is core, the next one is not."""
    choice = reference_philox(5 << 16, 5, 6)[0]
    for last, expected in ((choice, 0), (choice - 1, 1)):
        jitter = rule()._replace(core_last=np.uint64(last), secondary_last=np.uint64(MASK))
        assert PLAIN.cluster_attempt(5 << 16, 5, 6, tile(0, 0), 4, -1, -1, jitter)[2] == expected
    for last, expected in ((choice, 1), (choice - 1, 2)):
        jitter = rule()._replace(any_core=False, secondary_last=np.uint64(last))
        assert PLAIN.cluster_attempt(5 << 16, 5, 6, tile(0, 0), 4, -1, -1, jitter)[2] == expected


def test_rule_takes_decimals_exactly() -> None:
    """0.1 of 2^64 is floored from the decimal, not from the double next to it (which is larger)."""
    assert int(rule(64, (0.1, 0.2, 0.7)).core_last) == 2**64 // 10 - 1
    assert int(rule(64, (0.1, 0.2, 0.7)).secondary_last) == 3 * 2**64 // 10 - 1
    assert int(Fraction(0.1) * 2**64) != 2**64 // 10


def test_the_largest_settlement_is_the_anchor() -> None:
    """Largest population wins, ties go to the smallest id; the fraction counts from the north-west corner."""
    lon, lat = [10_000, 10_000, 10_100, -4_500_000], [20_010, 20_010, 20_050, 0]
    x, y = replay_jitter.settlement_anchors(
        [8988_0000, (90 * D - 25) * COLUMNS + 180 * D + 12], D, lon, lat, [5, 9, 9, 1], [1, 3, 2, 4]
    )
    assert (x[0], y[0]) == (-1, -1)
    assert x[1] == floor((Fraction(10_100 * D, 100_000) - 12) * 2**32)
    assert y[1] == floor((25 - Fraction(20_050 * D, 100_000)) * 2**32)
    assert replay_jitter.settlement_anchors([1, 2], D, [], [], [], [])[0].tolist() == [-1, -1]
