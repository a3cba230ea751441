"""A seed told in blocks is the seed told at once: any cut, any number of threads, and blocks that do not fit."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scoring_world import COUNTRIES, GRID, bumps, chosen, context, context_of, honest

from seg1b.scoring import evidence
from seg1b.scoring.controls import old_placement
from seg1b.scoring.evidence import neighbour_tests, neighbours_of, old_placement_tests, soft_diagnostics
from seg1b.scoring.gates import STRUCTURAL_CHECKS
from seg1b.scoring.measure import SiteTally, measure, pool, tally, tally_blocks
from seg1b.scoring.score import score_seed, score_tally
from seg1b.scoring.sites import NO_SITES, Sites

CLEAN: dict[str, int | None] = dict.fromkeys(STRUCTURAL_CHECKS, 0)
SEED = 42


@functools.cache
def few() -> Sites:
    """Six hundred sites in all countries; pairs of up to twelve sites stay whole."""
    return chosen(honest(), (honest().merchant_id % 13) == 3)


@functools.cache
def facts_at_once() -> dict[str, Any]:
    """The facts of `few`, scored at once."""
    return score_seed(few(), SEED, context(), CLEAN).facts()


def rows_of(sites: Sites, first: int, stop: int) -> Sites:
    """Some of the sites, as a block."""
    part = slice(first, stop)
    return Sites(
        sites.merchant_id[part],
        sites.country[part],
        sites.site_order[part],
        sites.lon_deg[part],
        sites.lat_deg[part],
        sites.tile_id[part],
    )


def in_blocks(sites: Sites, cuts: list[int]) -> SiteTally:
    """The tally of sites cut before these rows (a row may stand twice: an empty block)."""
    bounds = np.array([0, *sorted(cuts), len(sites)])

    def read(first: int, stop: int) -> Iterator[Sites]:
        for a, b in itertools.pairwise(bounds[first : stop + 1].tolist()):
            yield rows_of(sites, a, b)

    return tally_blocks(read, np.diff(bounds), SEED, context())


def set_threads(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """As with NUMBA_NUM_THREADS in the environment."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)


def test_a_tally_by_hand() -> None:
    """Pairs, their sites in order, those south of the equator; and where the sites stand, by country."""
    sites = few()
    told = tally(sites, SEED, context())
    keys = list(zip(sites.country.tolist(), sites.merchant_id.tolist(), strict=True))
    pairs = sorted(set(keys))
    assert list(zip(told.pair_country.tolist(), told.pair_merchant_id.tolist(), strict=True)) == pairs
    assert told.pair_sites.tolist() == [keys.count(pair) for pair in pairs]
    south = [key for key, lat in zip(keys, sites.lat_deg.tolist(), strict=True) if lat < 0.0]
    assert told.pair_southern.tolist() == [south.count(pair) for pair in pairs]
    assert 0 < len(south) < len(sites)
    assert max(told.pair_sites) > 1
    points = told.points(COUNTRIES)
    assert points.start.tolist() == sites.country_bounds(COUNTRIES).tolist()
    assert (points.lon_deg.tobytes(), points.lat_deg.tobytes()) == (
        sites.lon_deg.tobytes(),
        sites.lat_deg.tobytes(),
    )
    measured = measure(told, context())
    assert measured.counts().tolist() == sites.counts(COUNTRIES).tolist()
    assert len(measured) == len(sites)
    assert measured.distance_m is not None
    assert len(measured.distance_m) == len(sites)


def test_cells_of_a_tally_hold_all_sites() -> None:
    """Each (country, cell) once, ascending, with its number of sites."""
    surface = in_blocks(few(), list(range(0, 600, 7))).surfaces[0]
    row, col = np.divmod(few().tile_id, GRID.ncols)
    cells = list(zip(few().country.tolist(), (row // 10 * 360 + col // 10).tolist(), strict=True))
    told = list(
        zip(surface.cell_country.tolist(), surface.cell.tolist(), surface.cell_sites.tolist(), strict=True)
    )
    assert told == [(*cell, cells.count(cell)) for cell in sorted(set(cells))]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 500), max_size=40), st.integers(1, 5))
@example([], 1)
@example([0, 0, 500], 3)
@example(list(range(0, 500, 3)), 2)
def test_any_cut_and_any_number_of_threads_score_alike(cuts: list[int], threads: int) -> None:
    """Also blocks without sites, and cuts inside a pair: all facts are the same, to the last bit."""
    assert len(few()) > 500
    with pytest.MonkeyPatch.context() as patch:
        set_threads(patch, threads)
        told = in_blocks(few(), cuts)
        assert score_tally(told, SEED, context(), CLEAN).facts() == facts_at_once()


def test_a_pair_cut_in_two_is_still_one_pair() -> None:
    """Every site a block of its own: evidence and diagnostics are those of the whole, too."""
    whole = tally(few(), SEED, context())
    cut = in_blocks(few(), list(range(1, len(few()))))
    assert len(cut.pair_sites) == len(few()) > len(whole.pair_sites)
    results = []
    for told in (whole, cut):
        measured = measure(told, context())
        results.append(
            (
                score_tally(told, SEED, context(), CLEAN).facts(),
                old_placement_tests(told, measured, context(), 7),
                soft_diagnostics(told.points(COUNTRIES), measured, context()),
            )
        )
    assert results[0] == results[1]
    reference = old_placement(few(), bumps()[0], GRID, 7)
    assert results[1][1] == neighbour_tests(measure(whole, context()), neighbours_of(reference))


def test_the_reference_is_made_of_the_same_outlets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told whole or site by site, a tally's outlets have the keys, places and tiles of the sites it was made of."""
    made: list[Sites] = []

    def noted(sites: Sites, *_: object) -> Sites:
        made.append(sites)
        return sites

    monkeypatch.setattr(evidence, "old_placement", noted)
    for told in (tally(few(), SEED, context()), in_blocks(few(), list(range(1, len(few()))))):
        old_placement_tests(told, measure(told, context()), context(), 7)
    assert len(made) == 2
    for sites in made:
        for name in ("merchant_id", "country", "site_order", "lon_deg", "lat_deg", "tile_id"):
            assert getattr(sites, name).tolist() == getattr(few(), name).tolist(), name


def test_a_seed_without_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block, one empty block, several: the same facts as no sites at once, and nothing is known."""
    expected = score_seed(NO_SITES, SEED, context(), CLEAN).facts()
    assert expected["core"]["site_count"] == 0
    for threads in (1, 3):
        set_threads(monkeypatch, threads)
        for rows in ([], [0], [0, 0, 0]):
            told = tally_blocks(
                lambda first, stop: [NO_SITES] * (stop - first), np.array(rows, np.int64), SEED, context()
            )
            assert len(told.lon_deg) == len(told.pair_sites) == 0
            assert score_tally(told, SEED, context(), CLEAN).facts() == expected


def test_one_site_has_no_neighbour_and_two_have() -> None:
    """The smallest seeds, in blocks."""
    one = measure(in_blocks(rows_of(few(), 0, 1), []), context())
    assert (one.distance_m, one.duplicates, len(one)) == (None, 0, 1)
    two = measure(in_blocks(rows_of(few(), 0, 2), [1]), context())
    assert two.distance_m is not None
    assert two.distance_m[0] == two.distance_m[1] > 0.0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([5, 5], "shorter"),
        ([5, 5, 5, 5], "longer"),
        ([5, 1, 5], "block 1 has 1 sites where 5 were announced"),
        ([5, 6, 5], "block 1 has 6 sites where 5 were announced"),
        ([5, 5, 0], "block 2 has 0 sites where 5 were announced"),
    ],
)
def test_blocks_that_are_not_those_announced_are_refused(
    blocks: list[int], message: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that is missing, one too many, and one of another size: never a tally of what happened to come."""
    set_threads(monkeypatch, threads)

    def read(first: int, stop: int) -> list[Sites]:
        last = len(blocks) if stop == 3 else stop
        return [rows_of(few(), 5 * i, 5 * i + rows) for i, rows in enumerate(blocks)][first:last]

    with pytest.raises(ValueError, match=message):
        tally_blocks(read, np.array([5, 5, 5]), SEED, context())


def test_a_reader_that_fails_fails_the_tally(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread raises is raised."""
    set_threads(monkeypatch, 3)

    def read(first: int, stop: int) -> Iterator[Sites]:
        for i in range(first, stop):
            if i > 0:
                raise OSError("gone")
            yield rows_of(few(), 0, 5)

    with pytest.raises(OSError, match="gone"):
        tally_blocks(read, np.array([5, 5, 5]), SEED, context())


def test_measurements_of_different_worlds_are_not_pooled() -> None:
    """Nor nothing at all."""
    surface, towns = bumps()
    two_surfaces = context_of(surface, towns, (("other", replace(surface)),))
    measured = [measure(tally(few(), SEED, world), world) for world in (context(), two_surfaces)]
    with pytest.raises(ValueError, match="different worlds"):
        pool(measured, shared_catalogue=True)
    with pytest.raises(ValueError, match="nothing to join"):
        pool([], shared_catalogue=True)


def test_pooled_blocks_are_pooled_seeds() -> None:
    """A pool of tallies in blocks has the totals of both seeds, and distances from inside each."""
    halves: list[npt.NDArray[np.bool_]] = [few().merchant_id % 2 == k for k in (0, 1)]
    parts = [measure(in_blocks(chosen(few(), half), [10, 99]), context()) for half in halves]
    both = pool(parts, shared_catalogue=True)
    whole = measure(tally(few(), SEED, context()), context())
    assert both.counts().tolist() == whole.counts().tolist()
    assert both.pair_southern.sum() == whole.pair_southern.sum()
    assert both.near_city == whole.near_city > 0
    assert both.surfaces[0].cell_sites.tolist() == whole.surfaces[0].cell_sites.tolist()
    assert np.sort(both.surfaces[0].pit).tolist() == np.sort(whole.surfaces[0].pit).tolist()
    assert both.distance_m is not None
    assert whole.distance_m is not None
    assert both.distance_m.min() >= whole.distance_m.min()
    assert both.distance_m.tobytes() == b"".join(
        part.distance_m.tobytes() for part in parts if part.distance_m is not None
    )
