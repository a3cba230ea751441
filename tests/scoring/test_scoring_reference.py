"""What scoring knows of a surface: discs, cells, densities; against counting tiles one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scoring_world import GRID, bumps, runs_from_tiles

from seg1b.errors import InputError
from seg1b.kernels.neighbours import neighbourhood
from seg1b.scoring.reference import build_reference, cell_of, disc_spans, tile_density, tiles_per_cell
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface


def covered_tiles(lon: list[float], lat: list[float], radius_m: float, grid: Grid) -> set[int]:
    """Tile ids in the spans of some discs; checks that the spans are disjoint and ascending."""
    first, end = disc_spans(grid, np.array(lon), np.array(lat), radius_m)
    assert (first < end).all()
    assert (first[1:] > end[:-1]).all()
    return {t for a, b in zip(first.tolist(), end.tolist(), strict=True) for t in range(a, b)}


@pytest.mark.parametrize(
    ("lon", "lat"),
    [
        ([0.3], [0.2]),
        ([179.9, -179.95], [10.0, 10.0]),
        ([20.0], [89.7]),
        ([-180.0], [-89.99]),
        ([5.0, 5.4], [60.0, 60.1]),
    ],
)
def test_disc_spans_hold_exactly_the_tiles_whose_centre_is_near(lon: list[float], lat: list[float]) -> None:
    """On a grid of half degrees every tile centre of the Earth is measured: the spans hold the same tiles."""
    grid = Grid(1800)
    row, col = np.divmod(np.arange(grid.nrows * grid.ncols), grid.ncols)
    near = neighbourhood(
        (col + 0.5) / 2 - 180, 90 - (row + 0.5) / 2, np.array(lon), np.array(lat), 150_000.0
    ).near_centre
    assert covered_tiles(lon, lat, 150_000.0, grid) == set(np.flatnonzero(near).tolist())


def test_no_city_means_nobody_is_near_one() -> None:
    """Without cities the share is 0 everywhere."""
    surface, _ = bumps()
    empty = np.empty(0)
    assert build_reference("s", GRID, surface, empty, empty, 10.0).near_city.sum() == 0


def test_people_near_a_city_are_counted_tile_by_tile() -> None:
    """The merged walk over runs equals a loop over single tiles."""
    surface, towns = bumps()
    reference = build_reference("s", GRID, surface, towns[:, 0], towns[:, 1], 40.0)
    row, col = np.divmod(surface.tile0, GRID.ncols)
    lon, lat = (col + 0.5) / 10 - 180, 90 - (row + 0.5) / 10
    near = neighbourhood(lon, lat, towns[:, 0], towns[:, 1], 40_000.0).near_centre
    owner = np.repeat(np.arange(len(towns)), np.diff(surface.start))
    expected = np.zeros(len(towns), np.int64)
    np.add.at(expected, owner[near], surface.population[near])
    assert reference.near_city.tolist() == expected.tolist()
    assert (reference.near_city > 0).all()
    assert (reference.near_city < reference.population).all()


def test_runs_and_single_tiles_give_the_same_reference() -> None:
    """One run of three tiles, cut by a cell's edge at column 10, is three runs of one tile."""
    tile0, people = np.array([8, 11]), np.array([5, 2])
    runs = PopulationSurface(GRID, np.array([0, 2]), tile0, np.array([3, 1], np.int32), people)
    single = runs_from_tiles([0, 4], np.array([8, 9, 10, 11]), np.array([5, 5, 5, 2]))
    lon, lat = np.array([-179.0]), np.array([89.95])
    a, b = (build_reference("s", GRID, s, lon, lat, 11.0) for s in (runs, single))
    for name in (
        "population",
        "near_city",
        "cell_country",
        "cell",
        "cell_people",
    ):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name
    assert a.cell.tolist() == [0, 1]
    assert a.cell_people.tolist() == [10, 7]
    area = int(GRID.row_area_cm2()[0])
    for one in (a, b):
        below, tied = one.densities.below_and_tied(0, np.array([2 / area, 5 / area, 6 / area]))
        assert (below.tolist(), tied.tolist()) == ([0, 2, 17], [2, 15, 0])
    assert a.population.tolist() == [17]


def test_tiles_without_people_are_no_part_of_the_distribution() -> None:
    """Who lives as densely as nobody does: nobody, and nobody lives less densely."""
    surface = runs_from_tiles([0, 3], np.array([100, 101, 102]), np.array([0, 4, 0]))
    reference = build_reference("s", GRID, surface, np.empty(0), np.empty(0), 1.0)
    area = int(GRID.row_area_cm2()[0])
    below, tied = reference.densities.below_and_tied(0, np.array([0.0, 4 / area]))
    assert (below.tolist(), tied.tolist()) == ([0, 0], [0, 4])
    assert tile_density(np.array([4]), np.array([101]), GRID).tolist() == [4 / area]


def test_cells_are_counted_from_the_north_west() -> None:
    """With ten tiles to a degree, tile (19, 25) lies in cell row 1, column 2 of 360."""
    assert cell_of(np.array([0, 19 * 3600 + 25]), GRID, 10).tolist() == [0, 362]


def test_a_cell_must_be_a_whole_number_of_tiles() -> None:
    """A quarter degree is two and a half tiles: refused, with what to do."""
    with pytest.raises(InputError, match=r"2\.5 tiles wide") as caught:
        tiles_per_cell(GRID, 0.25)
    assert caught.value.code == "E_SCORE_CELL"
    assert "1/10 degree" in caught.value.next_step
