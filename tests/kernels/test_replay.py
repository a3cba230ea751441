"""The second implementation of the draws: known answers, big-integer form, references by definition."""

from __future__ import annotations

import hashlib
import importlib
from fractions import Fraction
from math import floor, gcd
from statistics import NormalDist
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg1b.errors import ContractError
from seg1b.kernels import replay, replay_containment
from seg1b.kernels.replay_containment import TILE_UNITS, EdgeIndex, build_edge_index

MASK = (1 << 64) - 1
D = 120
COLUMNS = 360 * D
WORLD = COLUMNS * TILE_UNITS
DIGEST = "0123456789abcdef" * 4
FINGERPRINT = "ab" * 32
THRESHOLDS = (500, 2000, 8000)
uint64s = st.integers(0, MASK)
Ring = list[tuple[int, int]]


def plain_python() -> Any:
    """Both replay modules with every compiled function replaced by its Python source, on Python integers."""
    namespace: dict[str, Any] = {**vars(replay_containment), **vars(replay)}
    for name, value in list(namespace.items()):
        source = getattr(value, "py_func", value)
        if isinstance(source, FunctionType) and source.__module__.startswith("seg1b.kernels.replay"):
            copy = FunctionType(source.__code__, namespace, name, source.__defaults__)
            namespace[name] = copy
    namespace["u64"] = namespace["i64"] = int
    return type("Plain", (), {k: staticmethod(v) if callable(v) else v for k, v in namespace.items()})


PLAIN = plain_python()


# ---- references, straight from the definitions ------------------------------------------------------------


def reference_philox(lo: int, hi: int, key: int) -> tuple[int, int]:
    """Philox2x64-10 on unbounded integers."""
    for _ in range(10):
        product = 0xD2B74407B1CE6E93 * lo
        lo, hi = (product >> 64) ^ key ^ hi, product & MASK
        key = (key + 0x9E3779B97F4A7C15) & MASK
    return lo, hi


def reference_stream(seed: int, label: str, *rest: str | int) -> tuple[int, int]:
    """(key, counter_hi) of a v2 stream, from the byte encodings."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(4, "little") + value.encode()

    root = hashlib.sha256(text("seg1b/rng/v2") + seed.to_bytes(8, "little")).digest()
    tail = b"".join(text(r) if isinstance(r, str) else r.to_bytes(8, "little") for r in rest)
    digest = hashlib.sha256(root + text(label) + tail).digest()
    return int.from_bytes(digest[0:8], "little"), int.from_bytes(digest[8:16], "little")


def reference_draw(seed: int, label: str, iso: str, bound: int) -> int:
    """Uniform below `bound` from a country stream, by rejection."""
    key, hi = reference_stream(seed, label, iso)
    counter = 0
    while (x0 := reference_philox(counter, hi, key)[0]) >= (1 << 64) // bound * bound:
        counter += 1
    return x0 % bound


def reference_inside(rings: list[Ring], x: int, y: int) -> bool:
    """Even-odd with a ray to the east, in fractions, on the plane: rings must not cross the antimeridian."""
    odd = False
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
            if (y0 <= y) != (y1 <= y) and x0 + Fraction((x1 - x0) * (y - y0), y1 - y0) > x:
                odd = not odd
    return odd


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


def normal_table() -> np.ndarray[Any, np.dtype[np.int64]]:
    """The inverse normal at i / 4096 in units of 2^-24, its ends cut at 2^-14."""
    inverse = NormalDist().inv_cdf
    table = [round(2**24 * inverse(i / 4096)) for i in range(1, 4096)]
    edge = round(2**24 * inverse(2.0**-14))
    return np.array([edge, *table, -edge], np.int64)


TABLE = normal_table()


def rule(max_attempts: int = 64, weights: tuple[float, float, float] = (0.5, 0.3, 0.2)) -> replay.ClusterRule:
    """The default cluster policy in integers, with the test's table and digest."""
    return replay.cluster_rule(DIGEST, TABLE, max_attempts, weights, THRESHOLDS, 0.15, 0.15, 0.15)


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


# ---- small worlds -----------------------------------------------------------------------------------------

ROW, COLUMN = 4000, 20000


def units(tiles_x: float, tiles_y: float) -> tuple[int, int]:
    """A vertex `tiles_x`, `tiles_y` tiles east and south of the small worlds' corner."""
    return int((COLUMN + Fraction(tiles_x)) * TILE_UNITS), int((ROW + Fraction(tiles_y)) * TILE_UNITS)


SQUARE: Ring = [units(0, 0), units(3, 0), units(3, 3), units(0, 3)]
SLIVER: Ring = [units(0.25, 0), units(0.25005, 0), units(0.2501, 1), units(0.25, 1)]


def edges(*rings: Ring) -> EdgeIndex:
    """The edge index of a country of these rings."""
    start = np.cumsum([0, *(len(r) for r in rings)])
    return build_edge_index([x for r in rings for x, _ in r], [y for r in rings for _, y in r], start, D)


def tile(column: int, row: int) -> int:
    """Tile id in the small worlds."""
    return (ROW + row) * COLUMNS + COLUMN + column


def no_settlements(n: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """`n` tiles without a settlement."""
    return np.full(n, -1, np.int64), np.full(n, -1, np.int64)


# ---- random numbers ---------------------------------------------------------------------------------------

KNOWN_ANSWERS = [
    (0, 0, 0, 0xCA00A0459843D731, 0x66C24222C9A845B5),
    (MASK, MASK, MASK, 0x65B021D60CD8310F, 0x4D02F3222F86DF20),
    (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x0A5E742C2997341C, 0xB0F883D38000DE5D),
]


def compiled_block(lo: int, hi: int, key: int) -> tuple[int, int]:
    """The compiled block on plain integers."""
    x0, x1 = replay.philox_block(np.uint64(lo), np.uint64(hi), np.uint64(key))  # type: ignore[arg-type]
    return int(x0), int(x1)


@pytest.mark.parametrize(("lo", "hi", "key", "x0", "x1"), KNOWN_ANSWERS)
def test_published_known_answers(lo: int, hi: int, key: int, x0: int, x1: int) -> None:
    """The three published vectors of Philox2x64-10 come out, compiled and on plain integers."""
    assert compiled_block(lo, hi, key) == (x0, x1)
    assert PLAIN.philox_block(lo, hi, key) == (x0, x1)
    assert reference_philox(lo, hi, key) == (x0, x1)


@settings(deadline=None)
@given(uint64s, uint64s, uint64s)
def test_compiled_block_is_big_integer_block(lo: int, hi: int, key: int) -> None:
    """Limb products in machine words give what unbounded integers give."""
    assert compiled_block(lo, hi, key) == PLAIN.philox_block(lo, hi, key) == reference_philox(lo, hi, key)
    high, low = replay.multiply_wide(np.uint64(lo), np.uint64(key))  # type: ignore[arg-type]
    assert (int(high) << 64) + int(low) == lo * key


@settings(deadline=None)
@given(uint64s | st.integers(0, 4096).map(lambda k: MASK - k))
def test_unit_interval_rounds_once(x: int) -> None:
    """u = (double(x) + 1) * 2^-64 with one rounding to even, strictly inside (0, 1)."""
    u = replay.unit_interval(np.uint64(x))  # type: ignore[arg-type]
    assert u == min((float(x) + 1.0) / 2.0**64, 1.0 - 2.0**-53)
    assert 0.0 < u < 1.0


def test_streams_of_the_old_engine() -> None:
    """The v1 keying gives the old engine's recorded key, counter and first uniforms."""
    key, high, low = replay.pair_stream_v1(FINGERPRINT, 42, "site_tile_assign", 1, "GB")
    assert (key, high, low) == (0xFEEFDFDBF03F25E0, 0xF6E204D13B8F388E, 0xE0253FF0DBDFEFFE)
    assert replay.unit_interval(compiled_block(low, high, key)[0]) == float.fromhex("0x1.711f44afba946p-9")
    ((key, high, low),) = replay.site_streams_v1(
        FINGERPRINT, 42, "in_cell_jitter:1B.S6.JITTER_V2", 1, "GB", 1
    )
    u = [PLAIN.unit_interval(x) for x in compiled_block(low, high, key)]
    assert u == [0.8213729556173935, 0.045779630053613955]


def test_streams_of_the_new_family() -> None:
    """World, country and pair streams hash exactly label, country and merchant, in this order."""
    assert replay.stream_v2(7, "x") == reference_stream(7, "x")
    assert replay.stream_v2(7, "x", "FR") == reference_stream(7, "x", "FR")
    assert replay.stream_v2(7, "x", "FR", 2**64 - 1) == reference_stream(7, "x", "FR", 2**64 - 1)


@pytest.mark.parametrize("bound", [1, 2, 1000, 10**12, 2**63, 2**63 + 1, 3 * 2**62 + 5])
def test_draw_below_rejects_instead_of_folding(bound: int) -> None:
    """Draws are those of the first block under the largest multiple; huge bounds reject often."""
    for seed in range(12):
        drawn = replay.draw_below(replay.stream_v2(seed, "test", "FR"), bound)
        assert drawn == reference_draw(seed, "test", "FR", bound)
        assert 0 <= drawn < bound


def test_draw_below_did_reject_somewhere() -> None:
    """The case above is not empty: for bound 2^63 + 1 some of the twelve first blocks are rejected."""
    streams = [replay.stream_v2(seed, "test", "FR") for seed in range(12)]
    assert any(reference_philox(0, high, key)[0] >= 2**63 + 1 for key, high in streams)


# ---- S4 ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 2**61), st.integers(1, 2**61))
def test_long_division_is_exact(a: int, b: int, d: int) -> None:
    """a*b/d without a wide product, compiled and plain."""
    b %= d
    if a * b // d < 2**63:
        assert replay_containment.multiply_divide(a, b, d) == divmod(a * b, d)
    assert PLAIN.multiply_divide(a, b, d) == divmod(a * b, d)


def test_golden_strides() -> None:
    """Strides of small numbers of areas, by hand, then by search: next to m / 1.618 and coprime to m."""
    assert [replay.golden_stride(m) for m in (1, 2, 3, 4, 5, 6, 8, 10)] == [1, 1, 2, 1, 3, 5, 5, 7]
    for m in range(2, 400):
        stride = replay.golden_stride(m)
        assert gcd(stride, m) == 1
        assert stride == reference_stride(m)


def test_plan_of_a_row_of_equal_tiles() -> None:
    """Four equal tiles, one site per area, none dispersed: every tile gets exactly two of eight sites."""
    tiles = replay.replay_country_plan(1, "AA", [3, 5], [10], [4], [25], [0], 1, 0)
    assert sorted(tiles) == [10, 10, 11, 11, 12, 12, 13, 13]


def test_plan_refuses_broken_weights() -> None:
    """A gap between two pieces is a damaged artefact, not a country."""
    with pytest.raises(ContractError, match="E_REPLAY_WEIGHTS"):
        replay.replay_country_plan(1, "AA", [3], [10, 20], [1, 1], [5, 5], [0, 6], 1, 0)


@settings(deadline=None, max_examples=60)
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
    arguments = (seed, "FR", n_sites, tile0, length, weight, cum, per_area, ppm)
    assert replay.replay_country_plan(*arguments).tolist() == expected
    assert PLAIN.replay_country_plan(*arguments).tolist() == expected


def test_plan_beyond_64_bits() -> None:
    """K = 10^15 and 30,000 sites: k*K exceeds 64 bits, the tiles are still those of unbounded integers."""
    total, sites, length = 10**15, 30_000, 1000
    tiles = replay.replay_country_plan(3, "FR", [sites], [0], [length], [total // length], [0], 1, 500_000)
    draws = replay.plan_draws(3, "FR", sites, total, 1, 500_000)
    for site in range(sites - 200, sites):
        before, after = ((i * 500_000 + draws.dispersed_phase) // 10**6 for i in (site, site + 1))
        k, n, start = before, draws.dispersed, draws.dispersed_start
        if after == before:
            k = (site - before + draws.fill_start) * draws.stride % sites
            n, start = sites, draws.area_start
        assert tiles[site] == (start + k * total) // n // (total // length)


# ---- S5 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fingerprint", [None, FINGERPRINT])
def test_assignment_is_the_definition(fingerprint: str | None) -> None:
    """Sites sorted by their draw take the pair's tiles in ascending order, in both families."""
    rng = np.random.default_rng(5)
    merchants, n_sites = [3, 2**63 + 9], [40, 7]
    plan = rng.integers(0, 12, sum(n_sites))
    got = replay.replay_assignment(11, "FR", merchants, n_sites, plan, fingerprint)
    expected: list[int] = []
    for m, n, multiset in zip(merchants, n_sites, np.split(plan, [n_sites[0]]), strict=True):
        ranked: list[tuple[float, int]] = []
        for order in range(1, n + 1):
            if fingerprint is None:
                key, hi = reference_stream(11, "site_tile_assign", "FR", m)
                ranked.append((reference_philox(order << 16, hi, key)[0], order))
            else:
                key, hi, lo = replay.pair_stream_v1(fingerprint, 11, "site_tile_assign", m, "FR")
                counter = ((hi << 64) + lo + order - 1) & ((1 << 128) - 1)
                u = (float(reference_philox(counter & MASK, counter >> 64, key)[0]) + 1) * 2.0**-64
                ranked.append((u, order))
        tile_of = dict(zip([order for _, order in sorted(ranked)], sorted(multiset), strict=True))
        expected += [int(tile_of[order]) for order in range(1, n + 1)]
    assert got.tolist() == expected


def test_the_old_counter_carries_into_its_high_half() -> None:
    """The 128-bit counter of v1 goes from (hi, 2^64 - 1) to (hi + 1, 0), and wraps at the very top."""
    order = np.arange(1, 4, dtype=np.int64)
    for high in (5, MASK):
        out = np.empty(3, np.uint64)
        column = [np.array([v], np.uint64) for v in (9, high, MASK - 1)]
        replay.assignment_draws(np.zeros(3, np.int64), order, column[0], column[1], column[2], True, out)
        blocks = [(MASK - 1, high), (MASK, high), (0, (high + 1) & MASK)]
        assert out.tolist() == [reference_philox(lo, hi, 9)[0] for lo, hi in blocks]


# ---- containment ------------------------------------------------------------------------------------------


def inside(index: EdgeIndex, x: int, y: int) -> bool:
    """The compiled answer, which the plain one must share."""
    compiled = bool(replay_containment.point_in_country(x, y, index))
    assert compiled == PLAIN.point_in_country(x, y, index)
    return compiled


def test_a_square_is_half_open() -> None:
    """The square of 3 by 3 tiles owns its western and northern border and not the other two."""
    index = edges(SQUARE)
    (west, north), (east, south) = SQUARE[0], SQUARE[2]
    for x, column in ((west - 1, False), (west, True), (east - 1, True), (east, False)):
        for y, row in ((north - 1, False), (north, True), (south - 1, True), (south, False)):
            assert inside(index, x, y) == (column and row)
    hole = edges(SQUARE, [units(1, 1), units(2, 1), units(2, 2), units(1, 2)])
    assert not inside(hole, *units(1.5, 1.5))
    assert inside(hole, *units(0.5, 1.5))
    assert inside(hole, *units(2.5, 1.5))


def test_the_whole_border_is_on_the_border() -> None:
    """All four sides and corners lie on the border, their neighbours do not; a slope where it is exact."""
    index = edges(SQUARE)
    (west, north), (east, south) = SQUARE[0], SQUARE[2]
    for x in (west - 1, west, west + 1, east - 1, east, east + 1):
        for y in (north - 1, north, north + 1, south - 1, south, south + 1):
            within = west <= x <= east and north <= y <= south
            side = within and (x in (west, east) or y in (north, south))
            assert replay_containment.point_on_border(x, y, index) == side
            assert PLAIN.point_on_border(x, y, index) == side
    for run, exact in ((9, {(3, 1), (6, 2)}), (10, set())):
        slope = edges([(west, north), (west + run, north + 3), (west, north + 3)])
        expected = {(0, y) for y in range(4)} | {(x, 3) for x in range(run + 1)} | exact
        for dx in range(-1, run + 2):
            for dy in range(-1, 5):
                on = PLAIN.point_on_border(west + dx, north + dy, slope)
                assert on == ((dx, dy) in expected)


vertices = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: units(p[0] / 8, p[1] / 8))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(vertices, min_size=3, max_size=9), min_size=1, max_size=3), st.data())
def test_containment_is_even_odd(rings: list[Ring], data: st.DataObject) -> None:
    """West ray on the cover, long division: the same as an east ray in fractions, borders included."""
    index = edges(*rings)
    for _ in range(4):
        x, y = data.draw(vertices)
        x += data.draw(st.sampled_from([0, -1, 1, 12345]))
        y += data.draw(st.sampled_from([0, -1, 1, 98765]))
        expected = reference_inside(rings, x, y)
        assert inside(index, x, y) == expected
        turned = [ring[2:] + ring[:2] for ring in rings]
        assert inside(edges(*[r[::-1] for r in turned]), x, y) == expected


def test_three_drawings_of_an_island_on_the_antimeridian() -> None:
    """Across the seam, split at the seam, or drawn beyond 180 degrees: one island, one answer."""
    t = TILE_UNITS
    north, south = 5000 * t, 5010 * t
    across = [(WORLD - 7 * t, north), (9 * t, north + 3 * t), (5 * t, south), (WORLD - 8 * t, south)]
    beyond = [(x if x > WORLD // 2 else x + WORLD, y) for x, y in across]
    for x_tiles in (-9, -8, -7, -1, 0, 1, 5, 8, 10, 15000):
        for row in (4999, 5000, 5003, 5009, 5010):
            x, y = (x_tiles * t + 123) % WORLD, row * t + 77
            expected = reference_inside([beyond], x if x > WORLD // 2 else x + WORLD, y)
            assert inside(edges(across), x, y) == expected
            assert inside(edges(beyond), x, y) == expected
    west_part = [(WORLD - 5 * t, north), (WORLD, north), (WORLD, south), (WORLD - 5 * t, south)]
    east_part = [(0, north), (5 * t, north), (5 * t, south), (0, south)]
    for x in (WORLD - 5 * t, WORLD - 1, 0, 5 * t - 1):
        assert inside(edges(west_part, east_part), x, north + 1)
    assert not inside(edges(west_part, east_part), WORLD - 5 * t - 1, north + 1)
    assert not inside(edges(west_part, east_part), 5 * t, north + 1)


def test_two_drawings_of_a_polar_cap() -> None:
    """A cap closed along the pole, and the same coast as a bare ring round the Earth, agree."""
    t, height = TILE_UNITS, WORLD // 2
    coast = [(k * WORLD // 12, (18000 + 40 * (k % 3)) * t) for k in range(12)]
    closed = [*coast, (WORLD, coast[0][1]), (WORLD, height), (0, height)]
    for ring in (coast, coast[::-1], closed, closed[::-1]):
        index = edges(ring)
        for x in (0, 1, WORLD // 24, WORLD // 2, WORLD - 1):
            assert inside(index, x, height - 1)
            assert inside(index, x, 18090 * t)
            assert not inside(index, x, 17999 * t)
            assert inside(index, x, 18020 * t) == reference_inside([closed], x, 18020 * t)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_drawn_pole_decides_which_side_is_inside(turn: int) -> None:
    """A country from 10 degrees north down to the south pole, drawn along that pole: south is inside."""
    coast, height = 80 * D * TILE_UNITS, WORLD // 2
    ring = [(k * WORLD // 6, coast) for k in range(7)] + [(WORLD, height), (0, height)]
    index = edges(ring[::turn])
    for x in (0, 1, WORLD // 2, WORLD - 1):
        assert inside(index, x, height - 1)
        assert inside(index, x, coast)
        assert not inside(index, x, coast - 1)
        assert not inside(index, x, 0)


# ---- S6 ---------------------------------------------------------------------------------------------------


def test_sub_rows_of_a_sliver() -> None:
    """The inside length of every sub-row counts the integer points inside, and targets enumerate them."""
    index, lengths = edges(SLIVER), np.empty(4096, np.int64)
    x, y = units(0, 0)
    total = replay_containment.tile_country_length(x, y, index, lengths)
    assert total == lengths.sum()
    (a, _), (b, top), (c, bottom), _ = SLIVER
    for r in (0, 1, 2000, 4095):
        line = y + (r << 20) + (1 << 19)
        border = b + Fraction((c - b) * (line - top), bottom - top)
        assert lengths[r] == -(-border // 1) - a
    first = int(lengths[0])
    expected = {
        0: (a, y + 2**19),
        first - 1: (a + first - 1, y + 2**19),
        first: (a, y + 2**20 + 2**19),
        total - 1: (a + int(lengths[-1]) - 1, y + (4095 << 20) + 2**19),
    }
    for target, point in expected.items():
        assert replay_containment.tile_country_position(x, y, index, lengths, target) == point
        assert PLAIN.tile_country_position(x, y, index, lengths, target) == point
        assert inside(index, *point)


def test_sub_rows_of_a_tile_that_is_all_land() -> None:
    """Borders exactly on the tile's own border neither lose nor double its 2^44 units."""
    index, lengths = edges([units(1, 1), units(2, 1), units(2, 2), units(1, 2)]), np.empty(4096, np.int64)
    for column, row, expected in ((1, 1, 1 << 44), (0, 1, 0), (2, 1, 0), (1, 0, 0), (1, 2, 0)):
        total = replay_containment.tile_country_length(*units(column, row), index, lengths)
        assert total == expected


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(vertices, min_size=3, max_size=7), min_size=1, max_size=3), st.integers(0, 10**9))
def test_the_fallback_point_is_the_targeted_inside_point(rings: list[Ring], seed: int) -> None:
    """On any polygon: the point found lies inside, and exactly `target` inside points come before it."""
    index, lengths = edges(*rings), np.empty(4096, np.int64)
    x, y = units(2, 2)
    total = replay_containment.tile_country_length(x, y, index, lengths)
    if total == 0:
        return
    target = seed * total // 10**9 if seed < 10**9 else total - 1
    px, py = replay_containment.tile_country_position(x, y, index, lengths, target)
    assert reference_inside(rings, px, py)
    assert x <= px < x + TILE_UNITS
    row = (py - y) >> 20
    assert (py - y) & (2**20 - 1) == 2**19
    crossings = sorted(
        x0 + Fraction((x1 - x0) * (py - y0), y1 - y0)
        for ring in rings
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True)
        if (y0 <= py) != (y1 <= py)
    )
    pieces = [
        max(0, min(-(-b // 1), px) - max(-(-a // 1), x))
        for a, b in zip(crossings[::2], crossings[1::2], strict=True)
    ]
    assert int(lengths[:row].sum()) + sum(pieces) == target


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
    got = replay.replay_jitter(
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
    got = replay.replay_jitter(
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
        replay.replay_jitter(
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
    x, y = replay.settlement_anchors(
        [8988_0000, (90 * D - 25) * COLUMNS + 180 * D + 12], D, lon, lat, [5, 9, 9, 1], [1, 3, 2, 4]
    )
    assert (x[0], y[0]) == (-1, -1)
    assert x[1] == floor((Fraction(10_100 * D, 100_000) - 12) * 2**32)
    assert y[1] == floor((25 - Fraction(20_050 * D, 100_000)) * 2**32)
    assert replay.settlement_anchors([1, 2], D, [], [], [], [])[0].tolist() == [-1, -1]


MIXTURE = replay.MixtureRule(
    0.5, 0.1, 0.2, np.array([[1.6, 1.6], [1, 1], [0.55, 0.55]]), np.array([[0.8, 0.8], [1, 1], [1, 1]])
)


TRIANGLE: Ring = [units(0, 0), units(3, 0), units(0, 3)]


def reference_old_site(
    mixture: replay.MixtureRule, key: int, hi: int, lo: int
) -> tuple[float, float, int, int]:
    """(lon, lat, attempts, component) of a uniform_v1 or mixture_v2 site of the triangle's tile (1, 1)."""
    for attempt in range(64):
        counter = (hi << 64) + lo + attempt
        words = reference_philox(counter & MASK, counter >> 64 & MASK, key)
        u, v = ((float(word) + 1) * 2.0**-64 for word in words)
        component = -1
        if mixture is not replay.UNIFORM:
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


@pytest.mark.parametrize("mixture", [replay.UNIFORM, MIXTURE], ids=["uniform", "mixture"])
def test_old_jitter_is_the_definition(mixture: replay.MixtureRule) -> None:
    """uniform_v1 and mixture_v2 on a triangle: attempts, component and degrees of each site."""
    n, index = 25, edges(TRIANGLE)
    got = replay.replay_jitter_v1(
        2, "TR", [6], [n], np.full(n, tile(1, 1)), FINGERPRINT, "N", 64, mixture, index
    )
    streams = replay.site_streams_v1(FINGERPRINT, 2, "in_cell_jitter:N", 6, "TR", n)
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
    assert replay.v1_sites(tiles, key, high, low, 64, D, replay.UNIFORM, edges(TRIANGLE), *outputs) == -1
    for s in range(n):
        expected = reference_old_site(replay.UNIFORM, s, MASK, MASK)
        assert (lon[s], lat[s]) == pytest.approx(expected[:2], abs=1e-13)
        assert attempts[s] == expected[2]
    assert attempts.max() > 1


def test_old_jitter_has_no_fallback() -> None:
    """v1 stops when its attempts run out."""
    with pytest.raises(ContractError, match="E613"):
        replay.replay_jitter_v1(
            2, "SL", [6], [5], np.full(5, tile(0, 0)), FINGERPRINT, "N", 2, replay.UNIFORM, edges(SLIVER)
        )


# ---- the two implementations against each other ------------------------------------------------------------


def production(name: str) -> Any:
    """A production kernel module, imported only here: the replay must never see it."""
    try:
        return importlib.import_module(f"seg1b.kernels.{name}")
    except ModuleNotFoundError:
        pytest.skip(f"seg1b.kernels.{name} does not exist yet")


def test_production_blocks_agree() -> None:
    """Philox, high products and uniforms of the production kernel equal the replay's on random words."""
    philox = production("philox")
    words = np.random.default_rng(3).integers(0, MASK, (300, 3), dtype=np.uint64, endpoint=True)
    for a, b, c in words:
        assert tuple(int(v) for v in philox.block(a, b, c)) == compiled_block(int(a), int(b), int(c))
        assert int(philox.multiply_high(a, b)) == int(replay.multiply_wide(a, b)[0])
        assert philox.u01(a) == replay.unit_interval(a)


def test_production_streams_agree() -> None:
    """Keys, counters and bounded draws of the production streams equal the replay's."""
    streams = production("streams")
    merchants = np.array([0, 1, 77, 2**63 + 5], np.uint64)
    keys, highs = streams.pair_streams(42, "jitter_v3", "FR", merchants)
    for m, key, high in zip(merchants, keys, highs, strict=True):
        assert (int(key), int(high)) == replay.stream_v2(42, "jitter_v3", "FR", int(m))
        one = streams.pair_stream(42, "jitter_v3", "FR", int(m))
        assert (one.key, one.counter_hi, one.counter_lo) == (int(key), int(high), 0)
    for bound in (1, 7, 10**12, 2**63 + 1):
        stream = streams.country_stream(42, "trade_area", "FR")
        assert streams.draw_below(stream, bound) == replay.draw_below(
            replay.stream_v2(42, "trade_area", "FR"), bound
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
    areas, assignment, streams = production("trade_areas"), production("assignment"), production("streams")
    rng = np.random.default_rng(trial)
    tile0, length, weight, cum = random_pieces(rng)
    total = int((weight * length).sum())
    merchants = np.unique(rng.integers(0, MASK, 30, dtype=np.uint64))
    n_sites = rng.geometric(0.1, len(merchants))
    per_area, ppm = int(rng.integers(1, 12)), int(rng.choice([0, 4000, 250_000, 10**6]))
    weights = (tile0, weight, cum, total, merchants, n_sites)
    plan = areas.allocate_country(
        *weights,
        seed=trial,
        country_iso="FR",
        sites_per_area=per_area,
        dispersed_ppm=ppm,
        guard_soft=Fraction(1, 5),
    )
    tiles = replay.replay_country_plan(trial, "FR", n_sites, tile0, length, weight, cum, per_area, ppm)
    assert plan.guard_moves == 0
    assert plan.site_tile.tolist() == tiles.tolist()
    alone = areas.sample_each_pair(*weights, seed=trial, country_iso="FR")
    replayed = replay.replay_pair_plan(trial, "FR", merchants, n_sites, tile0, length, weight, cum)
    assert alone.site_tile.tolist() == replayed.tolist()
    row_start = np.searchsorted(plan.pair, np.arange(len(merchants) + 1))
    quotas = (row_start, plan.tile, plan.count)
    key, high = streams.pair_streams(trial, "site_tile_assign", "FR", merchants)
    got = assignment.assign_tiles(n_sites, key, high, *quotas)
    assert got.tolist() == replay.replay_assignment(trial, "FR", merchants, n_sites, tiles).tolist()
    old = [replay.pair_stream_v1(FINGERPRINT, trial, "site_tile_assign", int(m), "FR") for m in merchants]
    got = assignment.assign_tiles_v1(n_sites, *np.array(old, np.uint64).T.copy(), *quotas)
    expected = replay.replay_assignment(trial, "FR", merchants, n_sites, tiles, FINGERPRINT)
    assert got.tolist() == expected.tolist()


def test_production_v1_streams_agree() -> None:
    """The production form of the old keying gives the replay's pair streams."""
    streams = production("streams")
    master = streams.master_v1(FINGERPRINT, 42)
    for m in (1, 99, 2**63 + 1):
        one = streams.pair_stream_v1(master, "site_tile_assign", "GB", m)
        expected = replay.pair_stream_v1(FINGERPRINT, 42, "site_tile_assign", m, "GB")
        assert (one.key, one.counter_hi, one.counter_lo) == expected


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(vertices, min_size=3, max_size=9), min_size=1, max_size=3), st.integers(0, 99))
def test_production_containment_agrees(rings: list[Ring], seed: int) -> None:
    """On random polygons, vertices on tile corners and centres included: every point, every length."""
    containment = production("containment")
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
    got = containment.points_in_country(theirs, country, tiles[which], centre[which], px, py)
    assert got.tolist() == [point(a, b, mine) for a, b in zip(px, py, strict=True)]
    lengths = np.empty(4096, np.int64)
    got = containment.tile_overlap_length(theirs, country[:4], tiles[:4], centre[:4])
    assert got.tolist() == [
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
    theirs = production("containment").build_edge_index(
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
    jitter, streams = production("jitter"), production("streams")
    _, theirs, mine, sites, columns = jitter_world(trial)
    rng = np.random.default_rng(100 + trial)
    merchants, n_sites = np.array([1, 5, 2**63 + 1], np.uint64), [150, 1, 249]
    pair, order = replay.number_sites(n_sites)
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
        own = replay.cluster_rule(
            DIGEST,
            jitter.inverse_normal_table(),
            max_attempts,
            (0.5, 0.3, 0.2),
            THRESHOLDS,
            0.15,
            0.15,
            0.15,
        )
        mirror = replay.replay_jitter(
            trial, "FR", merchants, n_sites, sites, people, (anchor[0], anchor[1]), own, mine
        )
        assert mirror.fallback.any() or max_attempts == 64
        for name in ("x", "y", "attempts", "component", "fallback"):
            assert getattr(got, name).tolist() == getattr(mirror, name).tolist(), name


@pytest.mark.parametrize("mixture", [replay.UNIFORM, MIXTURE], ids=["uniform", "mixture"])
def test_production_old_jitter_agrees(mixture: replay.MixtureRule) -> None:
    """The first engine's jitter, both modes, on a ragged country: the same degrees to the last bit."""
    jitter = production("jitter_v1")
    _, theirs, mine, sites, columns = jitter_world(77, 2**44 // 20)
    merchants, n_sites = [4, 9], [300, 100]
    old = [
        stream
        for m, n in zip(merchants, n_sites, strict=True)
        for stream in replay.site_streams_v1(FINGERPRINT, 3, "in_cell_jitter:N", m, "FR", n)
    ]
    key, high, low = np.array(old, np.uint64).T.copy()
    streams = {"key": key, "counter_hi": high, "counter_lo": low}
    if mixture is replay.UNIFORM:
        got = jitter.uniform_v1(5000, theirs, D, **streams, **columns)
    else:
        exponents = [tuple(column) for column in (*mixture.exponent.T, *mixture.max_offset.T)]
        parameters = jitter.MixtureParameters(0.5, 0.1, 0.2, *exponents)
        got = jitter.mixture_v2(parameters, 5000, theirs, D, **streams, **columns)
    mirror = replay.replay_jitter_v1(
        3, "FR", merchants, n_sites, sites, FINGERPRINT, "N", 5000, mixture, mine
    )
    assert got.x.tolist() == mirror.lon_deg.tolist()
    assert got.y.tolist() == mirror.lat_deg.tolist()
    assert got.attempts.tolist() == mirror.attempts.tolist()
    if mixture is MIXTURE:
        assert got.component.tolist() == mirror.component.tolist()


def test_shipped_table_is_the_inverse_normal() -> None:
    """The shipped Gaussian table is what the standard library computes, to one unit of 2^-24."""
    assert np.abs(production("jitter").inverse_normal_table() - TABLE).max() <= 1


def test_the_replay_imports_no_production_kernel() -> None:
    """Independence is the point: neither replay module refers to a kernel it is there to check."""
    forbidden = {
        "philox", "streams", "trade_areas", "assignment", "jitter", "jitter_v1", "containment", "systematic",
        "largest_remainder",
    }  # fmt: skip
    for module in (replay, replay_containment):
        for value in vars(module).values():
            home = getattr(value, "__module__", None) or ""
            assert home.removeprefix("seg1b.kernels.") not in forbidden
