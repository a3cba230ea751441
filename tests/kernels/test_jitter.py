"""S6, cluster_v3: every point equals the text in big integers; slivers, components, uniformity."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.special import ndtri

from seg1b.errors import ContractError
from seg1b.kernels import jitter
from seg1b.kernels.containment import TILE, EdgeIndex, build_edge_index, tile_overlap_length
from seg1b.kernels.philox import block
from seg1b.kernels.streams import pair_streams

NCOLS, NROWS = 20, 10
DIGEST = "0123456789abcdef" * 4
POLICY = jitter.cluster_parameters(0.5, 0.3, (500, 2000, 8000), 0.15, 0.15, 0.15, 64)
TRIANGLE = [(2 * TILE, 2 * TILE), (9 * TILE, 3 * TILE + 77), (4 * TILE + 5, 8 * TILE)]


def index_of(ring: list[tuple[int, int]]) -> EdgeIndex:
    """One country of one ring."""
    x, y = (np.array(c, dtype=np.int64) for c in zip(*ring, strict=True))
    return build_edge_index(x, y, np.array([0, len(ring)]), np.zeros(1, dtype=np.int16), 1, NCOLS, NROWS)


def in_ring(ring: list[tuple[int, int]], px: int, py: int) -> bool:
    """Even-odd rule in big integers."""
    inside = False
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        if (y0 <= py) != (y1 <= py):
            side = (py - y0) * (x1 - x0) - (px - x0) * (y1 - y0)
            inside ^= (side if y1 > y0 else -side) <= 0
    return inside


def run(
    tiles: npt.NDArray[np.int64],
    ring: list[tuple[int, int]] = TRIANGLE,
    parameters: jitter.ClusterParameters = POLICY,
    population: int = 0,
    settlement: tuple[int, int] = (-1, -1),
    boundary: bool = True,
    seed: int = 42,
) -> tuple[jitter.JitterResult, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Jitter one site a merchant (site_order = index mod 7 + 1) and give back the streams used."""
    n = len(tiles)
    key, high = pair_streams(seed, "jitter_v3", "FR", np.arange(1, n + 1, dtype=np.uint64))
    centre = np.array(
        [
            in_ring(ring, (int(t) % NCOLS) * TILE + TILE // 2, (int(t) // NCOLS) * TILE + TILE // 2)
            for t in tiles
        ]
    )
    result = jitter.cluster_v3(
        parameters, DIGEST, index_of(ring), tiles, np.zeros(n, dtype=np.int16), key, high,
        (np.arange(n) % 7 + 1).astype(np.int32), np.full(n, population * 10**6, dtype=np.int64),
        np.full(n, settlement[0]), np.full(n, settlement[1]), np.full(n, boundary), centre,
    )  # fmt: skip
    return result, key, high


def gauss(word: int, sd: int) -> int:
    """Offset by the integer table, as in the text."""
    g = jitter.inverse_normal_table().tolist()
    i, f = word >> 52, word >> 20 & 0xFFFFFFFF
    return int((g[i] + ((g[i + 1] - g[i]) * f >> 32)) * sd >> 24)


def slow_point(
    ring: list[tuple[int, int]] | None, tile: int, key: int, high: int, order: int, population: int,
    settlement: tuple[int, int],
) -> tuple[int, int, int, int] | None:  # fmt: skip
    """(x, y, attempts, component) of one site straight from the text; None when all attempts fail."""
    row, col = divmod(tile, NCOLS)
    world = int.from_bytes(bytes.fromhex(DIGEST)[:8], "little")
    anchors = 1 + sum(t <= population for t in (500, 2000, 8000))
    low, span, sd = (int(Fraction(f) * 2**32) for f in ("0.15", "0.7", "0.15"))
    for a in range(64):
        words = [
            int(w)
            for b in (0, 1)
            for w in block(np.uint64(order * 2**16 + a * 2 + b), np.uint64(high), np.uint64(key))
        ]
        component = 0 if words[0] < int(Fraction("0.5") * 2**64) else 1 if words[0] < 2**64 * 8 // 10 else 2
        if component == 2:
            x, y = words[2] >> 32, words[3] >> 32
        else:
            k = 0 if component == 0 or anchors == 1 else 1 + (words[1] * (anchors - 1) >> 64)
            x, y = settlement
            if k > 0 or settlement[0] < 0:
                hashed = block(np.uint64(tile * 4 + k), np.uint64(0x616E63686F72), np.uint64(world))
                x, y = (low + (int(h) * span >> 64) for h in hashed)
            x, y = x + gauss(words[2], sd), y + gauss(words[3], sd)
        inside = 0 <= x < TILE and 0 <= y < TILE
        if inside and (ring is None or in_ring(ring, col * TILE + x, row * TILE + y)):
            return col * TILE + x, row * TILE + y, a + 1, component
    return None


@pytest.mark.parametrize("population", [0, 499, 500, 2000, 8000])
@pytest.mark.parametrize("settlement", [(-1, -1), (7, 2**32 - 1)])
def test_points_are_the_text_inside_and_on_the_border(population: int, settlement: tuple[int, int]) -> None:
    """Tiles of a triangle, boundary ones included: coordinates, attempts and component agree exactly."""
    tiles = np.array([r * NCOLS + c for r in range(3, 7) for c in range(3, 6)] * 6, dtype=np.int64)
    result, key, high = run(tiles, population=population, settlement=settlement)
    for i, tile in enumerate(tiles):
        expected = slow_point(
            TRIANGLE, int(tile), int(key[i]), int(high[i]), i % 7 + 1, population, settlement
        )
        got = tuple(int(c[i]) for c in (result.x, result.y, result.attempts, result.component))
        assert expected is None or got == expected
        assert bool(result.fallback[i]) == (expected is None)


def test_interior_tiles_need_no_polygon() -> None:
    """A tile not on the boundary is accepted without a look at edges."""
    tiles = np.full(50, 9 * NCOLS + 19, dtype=np.int64)
    result, key, high = run(tiles, boundary=False)
    for i in range(50):
        got = tuple(int(c[i]) for c in (result.x, result.y, result.attempts, result.component))
        assert got == slow_point(None, int(tiles[i]), int(key[i]), int(high[i]), i % 7 + 1, 0, (-1, -1))


def test_a_sliver_never_aborts_and_says_that_it_fell_back() -> None:
    """0.05 % of the tile is land: points come uniformly from the clipped tile, and are counted."""
    height = TILE // 2000
    ring = [
        (5 * TILE, 5 * TILE),
        (6 * TILE, 5 * TILE),
        (6 * TILE, 5 * TILE + height),
        (5 * TILE, 5 * TILE + height),
    ]
    tiles = np.full(3000, 5 * NCOLS + 5, dtype=np.int64)
    result, key, high = run(tiles, ring)
    assert 0.9 < result.fallback.mean() < 1.0
    assert all(in_ring(ring, int(x), int(y)) for x, y in zip(result.x, result.y, strict=True))
    assert set(result.component[result.fallback].tolist()) == {jitter.CLIPPED}
    assert set(result.attempts[result.fallback].tolist()) == {64}
    length = int(
        tile_overlap_length(index_of(ring), np.zeros(1, dtype=np.int16), tiles[:1], np.array([False]))[0]
    )
    assert length == 2 * TILE
    for i in np.flatnonzero(result.fallback)[:200]:
        word, _ = block(np.uint64((int(i) % 7 + 1) * 2**16 + 129), high[i], key[i])
        row, x = divmod(int(word) * length >> 64, TILE)
        assert (int(result.x[i]), int(result.y[i])) == (5 * TILE + x, 5 * TILE + row * 2**20 + 2**19)
    assert stats.kstest((result.x[result.fallback] - 5 * TILE) / TILE, "uniform").pvalue > 1e-4


def test_a_tile_outside_its_country_is_an_error() -> None:
    """No area at all: E613, naming site and tile."""
    with pytest.raises(ContractError) as caught:
        run(np.array([4 * NCOLS + 4, 9 * NCOLS + 19], dtype=np.int64))
    assert caught.value.code == "E613"
    assert "site 1 of the shard, tile 199" in caught.value.where


def test_only_sparse_tail_is_uniform_on_both_axes() -> None:
    """Weights 0, 0, 1: Kolmogorov-Smirnov on both axes, no correlation; weights 1, 0, 0 are all core."""
    tiles = np.full(20_000, 43, dtype=np.int64)
    sparse = jitter.cluster_parameters(0, 0, (500, 2000, 8000), 0.15, 0.15, 0.15, 64)
    result, _, _ = run(tiles, parameters=sparse, boundary=False)
    x, y = (result.x - 3 * TILE) / TILE, (result.y - 2 * TILE) / TILE
    assert stats.kstest(x, "uniform").pvalue > 1e-4
    assert stats.kstest(y, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.03
    assert set(result.component.tolist()) == {jitter.SPARSE}
    assert set(result.attempts.tolist()) == {1}
    core = jitter.cluster_parameters(1.0, 0.0, (500, 2000, 8000), 0.15, 0.15, 0.15, 64)
    assert set(run(tiles[:500], parameters=core, boundary=False)[0].component.tolist()) == {jitter.CORE}


def test_component_shares_are_those_of_the_policy() -> None:
    """Round a central settlement, where truncation hardly matters, shares are .5, .3 and .2."""
    result, _, _ = run(np.full(40_000, 43, dtype=np.int64), settlement=(2**31, 2**31), boundary=False)
    shares = np.bincount(result.component, minlength=3) / 40_000
    assert np.abs(shares - [0.5, 0.3, 0.2]).max() < 0.012


def test_merchants_and_seeds_share_their_anchors() -> None:
    """The hot spot of a tile is the same for two seeds: core points of both have the same centre."""
    core = jitter.cluster_parameters(1.0, 0.0, (500, 2000, 8000), 0.3, 0.05, 0.05, 64)
    means = [
        run(np.full(5000, 43, dtype=np.int64), parameters=core, boundary=False, seed=seed)[0].x.mean() / TILE
        for seed in (1, 2)
    ]
    assert means[0] == pytest.approx(means[1], abs=0.005)


def test_the_inverse_normal_table_is_what_its_script_builds() -> None:
    """The shipped file equals the script's table and the distribution function to half a unit."""
    path = Path(__file__).resolve().parents[2] / "scripts" / "build_inverse_normal.py"
    spec = importlib.util.spec_from_file_location("build_inverse_normal", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    table = jitter.inverse_normal_table()
    assert np.array_equal(table, script.build_table())
    assert table.dtype == np.int64
    assert not table.flags.writeable
    assert bool((np.diff(table) > 0).all())
    assert np.array_equal(table, -table[::-1])
    assert np.abs(table[1:4096] - 2**24 * ndtri(np.arange(1, 4096) / 4096)).max() <= 0.5001
    assert table[0] == round(2**24 * ndtri(2.0**-14))


def test_an_edited_inverse_normal_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value off by one would move points in placement and replay alike: the file's digest is pinned."""
    path = tmp_path / "data" / "inverse_normal_q24.npy"
    path.parent.mkdir()
    table = jitter.inverse_normal_table().copy()
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    np.save(path, table)
    assert np.array_equal(jitter.inverse_normal_table.__wrapped__(), table)
    table[2048] += 1
    np.save(path, table)
    with pytest.raises(ContractError) as caught:
        jitter.inverse_normal_table.__wrapped__()
    assert (caught.value.code, caught.value.where) == ("E614", str(path))


def test_policy_numbers_are_taken_as_written_decimals() -> None:
    """0.15 is fifteen hundredths, not the nearest binary64; limits reach 2^64."""
    assert POLICY.core_sd == 15 * 2**32 // 100
    assert POLICY.secondary_limit == 8 * 2**64 // 10
    assert POLICY.anchor_span == 70 * 2**32 // 100
    assert jitter.cluster_parameters(0.7, 0.3, (1, 2, 3), 0, 1, 1, 1).secondary_limit == 2**64
