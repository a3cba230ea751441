"""Weights derived from what a tile holds: against largest remainder on big integers, and in curve order."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import PLAIN

from seg1b.errors import ContractError
from seg1b.kernels import dense, replay_allocation
from seg1b.kernels.apportionment import quantise_runs
from seg1b.kernels.dense_curve import DenseCurve, DensePieces, weigh_pieces
from seg1b.kernels.systematic import systematic_points, take, take_each
from seg1b.kernels.trade_areas import allocate_country, sample_each_pair

PEOPLE = np.array(dense.MassRule(1.0, 0.0, 0.0, 1.0, 1.0, 1.0))
COLUMNS = 100
Ints = npt.NDArray[np.int64]


def tiles_of(persons: list[float], kind: str = "f8", widths: tuple[int, ...] = ()) -> dense.DenseTiles:
    """One country whose spans begin at column 10 of successive rows from 3 on; one span unless widths are given."""
    widths = widths or (len(persons),)
    ends = np.cumsum(widths, dtype=np.int64)
    assert ends[-1] == len(persons)
    row = np.arange(3, 3 + len(widths), dtype=np.int32)
    col0 = np.full(len(widths), 10, np.int32)
    return dense.DenseTiles(
        np.array([0, len(widths)]), row, col0, (col0 + widths).astype(np.int32), np.append(0, ends),
        np.array(persons, kind), 1000 + 10 * np.arange(200), COLUMNS,
    )  # fmt: skip


def weights_by_cut(
    tiles: dense.DenseTiles, total: int, rule: npt.NDArray[np.float64] = PEOPLE
) -> tuple[list[int], dense.Cut]:
    """Every tile's weight, and the cut it follows from."""
    own = tiles.of(0, rule)
    cut = dense.cut_country(own, total)
    tile, weight = np.empty(len(tiles.persons), np.int64), np.empty(len(tiles.persons), np.int64)
    dense.weights_of_spans(own, np.array(cut), COLUMNS, tile, weight)
    return weight.tolist(), cut


def largest_remainder(masses: list[int], total: int) -> list[int]:
    """By the definition, on unbounded integers."""
    shares = [divmod(mass * total, sum(masses)) for mass in masses]
    order = sorted(range(len(masses)), key=lambda i: (-shares[i][1], i))
    more = set(order[: total - sum(floor for floor, _ in shares)])
    return [floor + (i in more) for i, (floor, _) in enumerate(shares)]


def one_piece_a_span(tiles: dense.DenseTiles, cut: dense.Cut, rule: npt.NDArray[np.float64]) -> DensePieces:
    """The spans as pieces, the last row first, as if the curve ran that way."""
    order = np.arange(len(tiles.row))[::-1]
    tile0 = tiles.row[order].astype(np.int64) * COLUMNS + tiles.col0[order]
    length, number = (tiles.col1 - tiles.col0)[order], tiles.before[order]
    start = np.array([0, len(order)])
    return weigh_pieces(start, tile0, length, number, tiles, rule[None], np.array(cut)[None])


# By hand


def test_one_two_and_five_of_eight() -> None:
    """Nothing is left over, so the cut is beyond every remainder."""
    weights, cut = weights_by_cut(tiles_of([1, 2, 5]), 8_000)
    assert weights == [1000, 2000, 5000]
    assert cut == (8000, 8_000_000, 8_000_000, 0)


def test_ties_go_to_the_first_tiles() -> None:
    """Five equal tiles share 13: the first three get 3."""
    weights, cut = weights_by_cut(tiles_of([0, 7, 7, 7, 7, 7]), 13)
    assert weights == [0, 3, 3, 3, 2, 2]
    assert cut.tied_until == 4


def test_a_mixed_mass_by_hand() -> None:
    """Half uniform, half area: rows 3 and 4 have tiles of 1,030 and 1,040."""
    rule = np.array(dense.MassRule(0.0, 0.25, 0.5, 0.0, 2070.0, 0.0))
    weights, _ = weights_by_cut(tiles_of([5, 0], widths=(1, 1)), 4_140_000, rule)
    assert weights == [1_035_000 + 1_030_000, 1_035_000 + 1_040_000]


def test_micro_persons_are_the_nearest() -> None:
    """A value of 32 bits is widened before it is multiplied: 16,777,217 is none, 0.1 is 0.10000000149."""
    assert dense.micro_persons(np.float32(0.1)) == 100_000
    assert dense.micro_persons(np.float32(16_777_216)) == 16_777_216_000_000
    assert dense.micro_persons(np.uint8(255)) == 255_000_000
    assert dense.micro_persons(np.float64(4e-7)) == 0


def test_a_thousand_million_million_to_tiles_of_everybody() -> None:
    """K = 10^15 and M next to 2^60: the products have 110 bits."""
    persons = [5e11, 3e11, 1.5e11, 1e-6]
    weights, _ = weights_by_cut(tiles_of(persons), 10**15)
    assert weights == largest_remainder([round(p * 1_000_000) for p in persons], 10**15)


def test_impossible_masses_are_named() -> None:
    """No tiles E103; nobody anywhere, or a sum beyond 2^60, or a total beyond 2^50 E105."""

    def code(persons: list[float], total: int = 10**6) -> str:
        own = tiles_of(persons or [0]).of(0, PEOPLE)
        if not persons:
            own = own._replace(row=own.row[:0], col0=own.col0[:0], col1=own.col1[:0], first=own.first[:0])
        with pytest.raises(ContractError) as caught:
            dense.cut_country(own, total)
        return caught.value.code

    assert code([]) == "E103"
    assert code([0, 0]) == code([1e12, 1e12]) == code([1], 1 << 51) == code([1], 0) == "E105"


# Properties

persons_lists = st.lists(
    st.sampled_from([0, 0, 1, 1, 2, 3, 0.25, 1e-6, 1 / 3, 1234.5, 1e9]), min_size=1, max_size=40
)


@settings(max_examples=200)
@given(persons_lists, st.integers(1, 10**15), st.sampled_from([0, 1, 1 << 16]))
def test_the_cut_is_largest_remainder(persons: list[float], total: int, few: int) -> None:
    """With ties and zeros; whether the last digits are searched in a list or counted to the end."""
    masses = [round(p * 1_000_000) for p in persons]
    if not any(masses):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_FEW", few)
        weights, _ = weights_by_cut(tiles_of(persons), total)
    assert weights == largest_remainder(masses, total)


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=12), min_size=1, max_size=5),
    st.integers(0, 20),
    st.integers(1, 10**12),
)
def test_a_mix_weighs_as_runs_do(rows: list[list[int]], share: int, total: int) -> None:
    """The mixed masses in one expression of binary64, apportioned as runs; the rule says each of them."""
    persons = [float(p) for row in rows for p in row]
    if not any(persons):
        return
    tiles = tiles_of(persons, "u1", tuple(len(row) for row in rows))
    area = np.repeat(tiles.area_cm2[tiles.row], [len(row) for row in rows])
    people, uniform, area_share = sum(persons) * 1e6, share / 40, share / 80
    rule = dense.MassRule(
        0.0, uniform / len(persons), area_share, 1 - share * 3 / 80, float(area.sum()), people
    )
    expected = uniform / len(persons) + area_share * (area / float(area.sum()))
    expected = expected + (1 - share * 3 / 80) * (np.array(persons) * 1_000_000 / people)
    masses = np.floor(expected * dense.MIX_SCALE).astype(np.int64)
    weights, _ = weights_by_cut(tiles, total, np.array(rule))
    assert weights == quantise_runs(np.ones(len(persons), np.int32), masses, total).weight.tolist()


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=6),
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10**6)), min_size=1, max_size=4),
)
def test_a_point_finds_the_tile_that_encloses_it(
    rows: list[list[int]], total: int, samples: list[tuple[int, int]]
) -> None:
    """Both look-ups of systematic sampling, and the replay's, against a list of all units of weight."""
    persons = [float(p) for row in rows for p in row]
    if not any(persons):
        return
    tiles = tiles_of(persons, "f4", tuple(len(row) for row in rows))
    weights, cut = weights_by_cut(tiles, total)
    curve = one_piece_a_span(tiles, cut, PEOPLE).curve(0)
    owner = []
    for s in range(len(rows))[::-1]:
        first = int(tiles.before[s])
        for i, weight in enumerate(weights[first : first + len(rows[s])]):
            owner += [(3 + s) * COLUMNS + 10 + i] * weight
    n = np.array([s[0] for s in samples], dtype=np.int64)
    u0 = np.array([s[1] % total for s in samples], dtype=np.int64)
    points = [systematic_points(int(a), int(b), total) for a, b in zip(n, u0, strict=True)]
    expected = [[owner[t] for t in own.tolist()] for own in points]
    assert [take(int(a), int(b), curve).tolist() for a, b in zip(n, u0, strict=True)] == expected
    assert take_each(n, u0, curve).tolist() == [t for own in expected for t in own]
    merchants = np.arange(1, len(n) + 1, dtype=np.uint64)
    plan = allocate_country(
        curve, total, merchants, n, seed=3, country_iso="FR", sites_per_area=2, dispersed_ppm=200_000,
        guard_soft=Fraction(1, 5),
    )  # fmt: skip
    replay: Any
    for replay in (replay_allocation, PLAIN):
        again = replay.replay_country_plan(3, "FR", n, replay_pieces(curve), 2, 200_000)
        assert again.tolist() == plan.site_tile.tolist()
    alone = sample_each_pair(curve, total, merchants, n, seed=3, country_iso="FR")
    pairs = replay_allocation.replay_pair_plan(3, "FR", merchants, n, replay_pieces(curve))
    assert pairs.tolist() == alone.site_tile.tolist()


def replay_pieces(curve: DenseCurve) -> replay_allocation.TilePieces:
    """A curve as the second implementation takes it."""
    return replay_allocation.TilePieces(
        curve.tile0, curve.length.astype(np.int64), curve.number, curve.cum, curve.persons, curve.area_cm2,
        curve.columns, curve.rule, curve.cut,
    )  # fmt: skip


# Damage


def test_weights_that_do_not_sum_to_the_total_are_refused() -> None:
    """A cut that gives one unit too many is noticed when the pieces are weighed."""
    tiles = tiles_of([1, 1, 1])
    _, cut = weights_by_cut(tiles, 100)
    with pytest.raises(ContractError, match="sum to 101, not 100") as caught:
        one_piece_a_span(tiles, cut._replace(tied_until=2), PEOPLE)
    assert caught.value.code == "E402"


@pytest.mark.parametrize("column", ["persons", "cut", "cum", "number"])
def test_the_replay_weighs_for_itself(column: str) -> None:
    """Another value in a tile, another cut, piece or number: the pieces that are hit no longer fill their interval."""
    tiles = tiles_of([5, 1, 3, 2, 2, 6], widths=(3, 3))
    _, cut = weights_by_cut(tiles, 1000)
    pieces = replay_pieces(one_piece_a_span(tiles, cut, PEOPLE).curve(0))
    sizes = np.array([40], np.int64)
    replay_allocation.replay_country_plan(1, "FR", sizes, pieces, 1, 0)
    damaged = getattr(pieces, column).copy()
    damaged[-2] += 1
    with pytest.raises(ContractError, match="E_REPLAY_WEIGHTS"):
        replay_allocation.replay_country_plan(1, "FR", sizes, pieces._replace(**{column: damaged}), 1, 0)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_show(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven countries weighed by some threads have the cumulative weights that one country alone has."""
    monkeypatch.setattr("seg1b.kernels.jit.threads", lambda: threads)
    rng = np.random.default_rng(5)
    persons = rng.integers(0, 50, 7 * 30).astype(np.float32)
    row, col0 = np.arange(7, dtype=np.int32), np.full(7, 20, np.int32)
    first = np.arange(8) * 30
    tiles = dense.DenseTiles(
        np.arange(8), row, col0, col0 + np.int32(30), first, persons, 1000 + np.arange(7), COLUMNS
    )
    cuts = [dense.cut_country(tiles.of(c, PEOPLE), 10**9) for c in range(7)]
    rule = np.tile(PEOPLE, (7, 1))
    length, cut = np.full(21, 10, np.int32), np.array(cuts)
    number = np.arange(21) * 10
    tile0 = number // 30 * COLUMNS + 20 + number % 30
    pieces = weigh_pieces(np.arange(8) * 3, tile0, length, number, tiles, rule, cut)
    for country in range(7):
        weights, _ = weights_by_cut(
            tiles_of(persons[first[country] : first[country] + 30].tolist(), "f4"), 10**9
        )
        sums = np.reshape(weights, (3, 10)).sum(axis=1)
        assert pieces.curve(country).cum.tolist() == (np.cumsum(sums) - sums).tolist()
