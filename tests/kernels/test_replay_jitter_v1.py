"""The second implementation of uniform_v1 and mixture_v2: every site as the definition places it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from replay_cases import (
    COLUMN,
    FINGERPRINT,
    MASK,
    MIXTURE,
    ROW,
    SLIVER,
    TRIANGLE,
    WORLD,
    D,
    edges,
    reference_inside,
    reference_philox,
    tile,
)

from seg1b.errors import ContractError
from seg1b.kernels import replay_draws, replay_jitter_v1


def reference_old_site(
    mixture: replay_jitter_v1.MixtureRule, key: int, hi: int, lo: int
) -> tuple[float, float, int, int]:
    """(lon, lat, attempts, component) of a uniform_v1 or mixture_v2 site of the triangle's tile (1, 1)."""
    for attempt in range(64):
        counter = (hi << 64) + lo + attempt
        words = reference_philox(counter & MASK, counter >> 64 & MASK, key)
        u, v = ((float(word) + 1) * 2.0**-64 for word in words)
        component = -1
        if mixture is not replay_jitter_v1.UNIFORM:
            selector = 0.5 * u + 0.5 * v
            component = 0 if selector < 0.1 else 1 if selector < 0.1 + 0.2 else 2
            power, most = mixture.exponent[component, 0], mixture.max_offset[component, 0]
            u, v = (0.5 + 0.5 * np.sign(2 * w - 1) * abs(2 * w - 1) ** power * most for w in (u, v))
        lon = (COLUMN + 1 - 180 * D) / D + u / D
        lat = (90 * D - ROW - 2) / D + v / D
        x = round(Fraction(lon) * D * 2**32) + WORLD // 2
        if reference_inside([TRIANGLE], x, WORLD // 4 - round(Fraction(lat) * D * 2**32)):
            return lon, lat, attempt + 1, component
    raise AssertionError


@pytest.mark.parametrize("mixture", [replay_jitter_v1.UNIFORM, MIXTURE], ids=["uniform", "mixture"])
def test_old_jitter_is_the_definition(mixture: replay_jitter_v1.MixtureRule) -> None:
    """uniform_v1 and mixture_v2 on a triangle: attempts, component and degrees of each site."""
    n, index = 25, edges(TRIANGLE)
    got = replay_jitter_v1.replay_jitter_v1(
        2, "TR", [6], [n], np.full(n, tile(1, 1)), FINGERPRINT, "N", 64, mixture, index
    )
    streams = replay_draws.site_streams_v1(FINGERPRINT, 2, "in_cell_jitter:N", 6, "TR", n)
    for s, stream in enumerate(streams):
        lon, lat, attempts, component = reference_old_site(mixture, *stream)
        assert (got.attempts[s], got.component[s]) == (attempts, component)
        assert (got.lon_deg[s], got.lat_deg[s]) == pytest.approx((lon, lat), abs=1e-13)
    assert got.attempts.max() > 1


def test_the_old_site_counter_carries() -> None:
    """From a counter just below 2^64 the second attempt goes on in the high half."""
    n = 20
    key, high, low = (np.array(v, np.uint64) for v in (range(n), [MASK] * n, [MASK] * n))
    lon, lat = np.empty(n), np.empty(n)
    attempts, component = np.empty(n, np.int64), np.empty(n, np.int64)
    outputs = (lon, lat, attempts, component)
    tiles = np.full(n, tile(1, 1))
    assert (
        replay_jitter_v1.v1_sites(
            tiles, key, high, low, 64, D, replay_jitter_v1.UNIFORM, edges(TRIANGLE), *outputs
        )
        == -1
    )
    for s in range(n):
        expected = reference_old_site(replay_jitter_v1.UNIFORM, s, MASK, MASK)
        assert (lon[s], lat[s]) == pytest.approx(expected[:2], abs=1e-13)
        assert attempts[s] == expected[2]
    assert attempts.max() > 1


def test_old_jitter_has_no_fallback() -> None:
    """v1 stops when its attempts run out."""
    with pytest.raises(ContractError, match="E613"):
        replay_jitter_v1.replay_jitter_v1(
            2,
            "SL",
            [6],
            [5],
            np.full(5, tile(0, 0)),
            FINGERPRINT,
            "N",
            2,
            replay_jitter_v1.UNIFORM,
            edges(SLIVER),
        )
