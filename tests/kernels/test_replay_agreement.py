"""The two implementations against each other: every draw of S4, S5 and S6, and every containment answer."""

from __future__ import annotations

from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import (
    COLUMNS,
    DIGEST,
    FINGERPRINT,
    MASK,
    MIXTURE,
    REPLAY_MODULES,
    TABLE,
    THRESHOLDS,
    D,
    Ring,
    compiled_block,
    edges,
    tile,
    units,
    vertices,
)

from seg1b.kernels import (
    assignment,
    containment,
    jitter,
    jitter_v1,
    philox,
    replay_allocation,
    replay_assignment,
    replay_containment,
    replay_draws,
    replay_jitter,
    replay_jitter_v1,
    streams,
    trade_areas,
)
from seg1b.kernels.replay_containment import TILE_UNITS, EdgeIndex
from seg1b.kernels.systematic import RunCurve


def test_production_blocks_agree() -> None:
    """Philox, high products and uniforms of the production kernel equal the replay's on random words."""
    words = np.random.default_rng(3).integers(0, MASK, (300, 3), dtype=np.uint64, endpoint=True)
    for a, b, c in words:
        assert tuple(int(v) for v in philox.block(a, b, c)) == compiled_block(int(a), int(b), int(c))
        assert int(philox.multiply_high(a, b)) == int(replay_draws.multiply_wide(a, b)[0])
        assert philox.u01(a) == replay_draws.unit_interval(a)


def test_production_streams_agree() -> None:
    """Keys, counters and bounded draws of the production streams equal the replay's."""
    merchants = np.array([0, 1, 77, 2**63 + 5], np.uint64)
    keys, highs = streams.pair_streams(42, "jitter_v3", "FR", merchants)
    for m, key, high in zip(merchants, keys, highs, strict=True):
        assert (int(key), int(high)) == replay_draws.stream_v2(42, "jitter_v3", "FR", int(m))
        one = streams.pair_stream(42, "jitter_v3", "FR", int(m))
        assert (one.key, one.counter_hi, one.counter_lo) == (int(key), int(high), 0)
    for bound in (1, 7, 10**12, 2**63 + 1):
        stream = streams.country_stream(42, "trade_area", "FR")
        assert philox.draw_below(stream, bound) == replay_draws.draw_below(
            replay_draws.stream_v2(42, "trade_area", "FR"), bound
        )


def random_pieces(rng: np.random.Generator) -> tuple[np.ndarray[Any, np.dtype[np.int64]], ...]:
    """A random country of weight pieces: tile0, length, weight, cum; a third of the weights are zero."""
    n = int(rng.integers(1, 60))
    length, weight = rng.integers(1, 70, n), rng.integers(0, 10**11, n) * (rng.random(n) > 0.3)
    weight[rng.integers(n)] = 10**12
    end = np.cumsum(weight * length)
    return np.cumsum(length) * 3, length, weight, end - weight * length


@pytest.mark.parametrize("trial", range(12))
def test_production_plans_and_assignments_agree(trial: int) -> None:
    """S4 in both modes, then S5 in both families, on random countries: the same tile for every site."""
    rng = np.random.default_rng(trial)
    tile0, length, weight, cum = random_pieces(rng)
    total = int((weight * length).sum())
    merchants = np.unique(rng.integers(0, MASK, 30, dtype=np.uint64))
    n_sites = rng.geometric(0.1, len(merchants))
    per_area, ppm = int(rng.integers(1, 12)), int(rng.choice([0, 4000, 250_000, 10**6]))
    weights = (RunCurve(tile0, length.astype(np.int32), weight, cum), total, merchants, n_sites)
    pieces = replay_allocation.RunPieces(tile0, length, weight, cum)
    plan = trade_areas.allocate_country(
        *weights,
        seed=trial,
        country_iso="FR",
        sites_per_area=per_area,
        dispersed_ppm=ppm,
        guard_soft=Fraction(1, 5),
    )
    tiles = replay_allocation.replay_country_plan(trial, "FR", n_sites, pieces, per_area, ppm)
    assert plan.guard_moves == 0
    assert plan.site_tile.tolist() == tiles.tolist()
    alone = trade_areas.sample_each_pair(*weights, seed=trial, country_iso="FR")
    replayed = replay_allocation.replay_pair_plan(trial, "FR", merchants, n_sites, pieces)
    assert alone.site_tile.tolist() == replayed.tolist()
    tiles = tiles[np.lexsort((tiles, np.repeat(np.arange(len(n_sites)), n_sites)))]
    row_start = np.searchsorted(plan.pair, np.arange(len(merchants) + 1))
    quotas = (row_start, plan.tile, plan.count)
    key, high = streams.pair_streams(trial, "site_tile_assign", "FR", merchants)
    got = assignment.assign_tiles(n_sites, key, high, *quotas)
    assert (
        got.tolist() == replay_assignment.replay_assignment(trial, "FR", merchants, n_sites, tiles).tolist()
    )
    old = [
        replay_draws.pair_stream_v1(FINGERPRINT, trial, "site_tile_assign", int(m), "FR") for m in merchants
    ]
    key, high, low = np.array(old, np.uint64).T.copy()
    got = assignment.assign_tiles_v1(n_sites, key, high, low, *quotas)
    expected = replay_assignment.replay_assignment(trial, "FR", merchants, n_sites, tiles, FINGERPRINT)
    assert got.tolist() == expected.tolist()


def test_production_v1_streams_agree() -> None:
    """The production form of the old keying gives the replay's pair streams."""
    master = streams.master_v1(FINGERPRINT, 42)
    for m in (1, 99, 2**63 + 1):
        one = streams.pair_stream_v1(master, "site_tile_assign", "GB", m)
        expected = replay_draws.pair_stream_v1(FINGERPRINT, 42, "site_tile_assign", m, "GB")
        assert (one.key, one.counter_hi, one.counter_lo) == expected


@settings(max_examples=25)
@given(st.lists(st.lists(vertices, min_size=3, max_size=9), min_size=1, max_size=3), st.integers(0, 99))
def test_production_containment_agrees(rings: list[Ring], seed: int) -> None:
    """On random polygons, vertices on tile corners and centres included: every point, every length."""
    mine = edges(*rings)
    start = np.cumsum([0, *(len(r) for r in rings)])
    x, y = (np.array([p[axis] for r in rings for p in r], np.int64) for axis in (0, 1))
    owner = np.zeros(len(rings), np.int16)
    theirs = containment.build_edge_index(x, y, start, owner, 1, COLUMNS, COLUMNS // 2)
    tiles = np.array([tile(c, r) for r in range(6) for c in range(6)])
    west, north = tiles % COLUMNS << 32, tiles // COLUMNS << 32
    half = TILE_UNITS // 2
    point = replay_containment.point_in_country
    centre = np.array([point(w + half, n + half, mine) for w, n in zip(west, north, strict=True)])
    rng = np.random.default_rng(seed)
    which = rng.integers(0, len(tiles), 300)
    grid = rng.integers(0, 8, (2, 300)) << 29
    offset = np.where(rng.random((2, 300)) < 0.5, grid, rng.integers(0, TILE_UNITS, (2, 300)))
    px, py = west[which] + offset[0], north[which] + offset[1]
    country = np.zeros(300, np.int16)
    inside = containment.points_in_country(theirs, country, tiles[which], centre[which], px, py)
    assert inside.tolist() == [point(a, b, mine) for a, b in zip(px, py, strict=True)]
    lengths = np.empty(4096, np.int64)
    overlap = containment.tile_overlap_length(theirs, country[:4], tiles[:4], centre[:4])
    assert overlap.tolist() == [
        replay_containment.tile_country_length(w, n, mine, lengths)
        for w, n in zip(west[:4], north[:4], strict=True)
    ]


def jitter_world(
    trial: int, least: int = 0
) -> tuple[list[Ring], Any, EdgeIndex, np.ndarray[Any, Any], dict[str, Any]]:
    """A ragged random country with a hole, its two indices, the tiles of its sites, production's columns."""
    rng = np.random.default_rng(trial)
    angle = np.sort(rng.random(40)) * 2 * np.pi
    radius = rng.uniform(0.2, 3.0, 40)
    ragged = [
        units(float(3 + r * np.cos(a)), float(3 + r * np.sin(a))) for a, r in zip(angle, radius, strict=True)
    ]
    rings = [ragged, [units(2.5, 2.5), units(3.5, 2.75), units(3, 3.5)]]
    mine, lengths = edges(*rings), np.empty(4096, np.int64)
    tiles = np.array([tile(c, r) for r in range(6) for c in range(6)])
    west, north = tiles % COLUMNS << 32, tiles // COLUMNS << 32
    land = [
        replay_containment.tile_country_length(w, n, mine, lengths) for w, n in zip(west, north, strict=True)
    ]
    tiles = tiles[np.array(land) > least]
    x, y = (np.array([p[axis] for r in rings for p in r], np.int64) for axis in (0, 1))
    theirs = containment.build_edge_index(
        x, y, np.array([0, 40, 43]), np.zeros(2, np.int16), 1, COLUMNS, COLUMNS // 2
    )
    sites = rng.choice(tiles, 400)
    half = TILE_UNITS // 2
    centres = zip((sites % COLUMNS << 32) + half, (sites // COLUMNS << 32) + half, strict=True)
    columns = {
        "tile_id": sites,
        "country": np.zeros(400, np.int16),
        "boundary": np.ones(400, np.bool_),
        "centre_inside": np.array([replay_containment.point_in_country(a, b, mine) for a, b in centres]),
    }
    return rings, theirs, mine, sites, columns


@pytest.mark.parametrize("trial", range(3))
def test_production_cluster_jitter_agrees(trial: int) -> None:
    """Every site of a ragged country: the same result; with few attempts some run out."""
    _, theirs, mine, sites, columns = jitter_world(trial)
    rng = np.random.default_rng(100 + trial)
    merchants, n_sites = np.array([1, 5, 2**63 + 1], np.uint64), [150, 1, 249]
    pair, order = replay_draws.number_sites(n_sites)
    people = rng.choice([0, 499_999_999, 500_000_000, 2_000_000_000, 8_000_000_000], 400)
    settled = rng.random(400) < 0.3
    anchor = np.where(settled, rng.integers(0, 2**32, (2, 400)), -1)
    for max_attempts in (1, 4, 64):
        parameters = jitter.cluster_parameters(0.5, 0.3, THRESHOLDS, 0.15, 0.15, 0.15, max_attempts)
        key, high = streams.pair_streams(trial, "jitter_v3", "FR", merchants)
        got = jitter.cluster_v3(
            parameters,
            DIGEST,
            theirs,
            key=key[pair],
            counter_hi=high[pair],
            site_order=order.astype(np.int32),
            population_micro=people,
            anchor0_x=anchor[0],
            anchor0_y=anchor[1],
            **columns,
        )
        own = replay_jitter.cluster_rule(
            DIGEST,
            jitter.inverse_normal_table(),
            max_attempts,
            (0.5, 0.3, 0.2),
            THRESHOLDS,
            0.15,
            0.15,
            0.15,
        )
        mirror = replay_jitter.replay_jitter(
            trial, "FR", merchants, n_sites, sites, people, (anchor[0], anchor[1]), own, mine
        )
        assert mirror.fallback.any() or max_attempts == 64
        for name in ("x", "y", "attempts", "component", "fallback"):
            assert getattr(got, name).tolist() == getattr(mirror, name).tolist(), name


@pytest.mark.parametrize("mixture", [replay_jitter_v1.UNIFORM, MIXTURE], ids=["uniform", "mixture"])
def test_production_old_jitter_agrees(mixture: replay_jitter_v1.MixtureRule) -> None:
    """The first engine's jitter, both modes, on a ragged country: the same degrees to the last bit."""
    _, theirs, mine, sites, columns = jitter_world(77, 2**44 // 20)
    merchants, n_sites = [4, 9], [300, 100]
    old = [
        stream
        for m, n in zip(merchants, n_sites, strict=True)
        for stream in replay_draws.site_streams_v1(FINGERPRINT, 3, "in_cell_jitter:N", m, "FR", n)
    ]
    key, high, low = np.array(old, np.uint64).T.copy()
    drawn = {"key": key, "counter_hi": high, "counter_lo": low}
    if mixture is replay_jitter_v1.UNIFORM:
        got = jitter_v1.uniform_v1(5000, theirs, D, **drawn, **columns)
    else:
        exponents = [tuple(column) for column in (*mixture.exponent.T, *mixture.max_offset.T)]
        parameters = jitter_v1.MixtureParameters(0.5, 0.1, 0.2, *exponents)
        got = jitter_v1.mixture_v2(parameters, 5000, theirs, D, **drawn, **columns)
    mirror = replay_jitter_v1.replay_jitter_v1(
        3, "FR", merchants, n_sites, sites, FINGERPRINT, "N", 5000, mixture, mine
    )
    assert got.x.tolist() == mirror.lon_deg.tolist()
    assert got.y.tolist() == mirror.lat_deg.tolist()
    assert got.attempts.tolist() == mirror.attempts.tolist()
    if mixture is MIXTURE:
        assert got.component.tolist() == mirror.component.tolist()


def test_shipped_table_is_the_inverse_normal() -> None:
    """The shipped Gaussian table is what the standard library computes, to one unit of 2^-24."""
    assert np.abs(jitter.inverse_normal_table() - TABLE).max() <= 1


def test_the_replay_imports_no_production_kernel() -> None:
    """Independence is the point: of this package the replay modules know themselves, the compiler and errors."""
    own = {module.__name__ for module in REPLAY_MODULES}
    assert {f"seg1b.kernels.replay_{name}" for name in ("draws", "containment", "jitter")} <= own
    for module in REPLAY_MODULES:
        for value in vars(module).values():
            home = (
                value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
            )
            if home.startswith("seg1b."):
                assert home in own | {"seg1b.kernels.jit", "seg1b.errors"}
