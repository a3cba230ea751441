"""The tile grid: arithmetic that a reader can check, and the two integer tables."""

from __future__ import annotations

import decimal
import hashlib
from decimal import Decimal

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import InputError
from seg1b.world.grid import UNIT, Grid

EARTH_AREA_CM2 = 5_100_656_217_240_884_000
"""WGS84 surface, 510065621.7240884 km2 (GeographicLib)."""


def test_sizes_of_the_design_grid() -> None:
    """At 30 arc-seconds a degree has 120 tiles and the Earth 933 million."""
    grid = Grid(30)
    assert (grid.tiles_per_degree, grid.ncols, grid.nrows) == (120, 43_200, 21_600)
    assert grid.n_tiles == 43_200 * 21_600
    assert grid.ncols * UNIT == 43_200 * 2**32 < 2**48
    assert grid.unit == UNIT == 2**32


def test_tiles_of_one_degree_by_hand() -> None:
    """With tiles of one degree the tile can be read off; west and north edges belong to it."""
    grid = Grid(3600)
    points = {
        (-180.0, 90.0): 0,
        (-179.5, 89.5): 0,
        (-179.0, 89.5): 1,
        (-179.5, 89.0): 360,
        (179.999, 89.5): 359,
        (0.0, 0.0): 90 * 360 + 180,
        (-0.001, 0.001): 89 * 360 + 179,
        (180.0, 0.5): 89 * 360,
        (12.5, -90.0): 179 * 360 + 192,
    }
    lon, lat = np.array(list(points)).T
    assert grid.tile_of(lon, lat).tolist() == list(points.values())


def test_bounds_and_centroid_by_hand() -> None:
    """Bounds are west, south, east, north; a row and a column name the tile."""
    grid = Grid(1800)
    tile = grid.tile_id(1, 719)
    assert [float(edge) for edge in grid.bounds(tile)] == [179.5, 89.0, 180.0, 89.5]
    assert [float(axis) for axis in grid.centroid(tile)] == [179.75, 89.25]
    assert [int(axis) for axis in grid.row_col(tile)] == [1, 719]


@pytest.mark.parametrize("resolution", [0, -30, 7, 3601])
def test_a_resolution_that_does_not_divide_a_degree_is_refused(resolution: int) -> None:
    """Such a grid would have a torn tile at every degree."""
    with pytest.raises(InputError, match="does not divide a degree") as caught:
        Grid(resolution)
    assert caught.value.code == "W001"


@pytest.mark.parametrize("point", [(180.001, 0.0), (0.0, -90.1), (float("nan"), 0.0), (0.0, float("inf"))])
def test_a_coordinate_off_the_earth_is_refused(point: tuple[float, float]) -> None:
    """Nothing is wrapped or clipped silently."""
    with pytest.raises(InputError) as caught:
        Grid(30).tile_of(*point)
    assert caught.value.code == "W002"


@given(st.sampled_from([30, 15, 3, 3600]), st.data())
def test_published_degrees_give_the_integers_back(resolution: int, data: st.DataObject) -> None:
    """Reading degrees out and in again is exact: the float carries the whole integer."""
    grid = Grid(resolution)
    x = data.draw(st.integers(0, grid.ncols * UNIT))
    y = data.draw(st.integers(0, grid.nrows * UNIT))
    lon, lat = grid.to_degrees(x, y)
    back_x, back_y = grid.to_units(lon, lat)
    assert (int(back_x), int(back_y)) == (x, y)
    assert int(grid.tile_of(lon, lat)) == min(y // UNIT, grid.nrows - 1) * grid.ncols + x // UNIT % grid.ncols


@given(st.sampled_from([30, 10, 600]), st.data())
def test_a_tile_contains_its_centroid_and_its_north_west_corner(resolution: int, data: st.DataObject) -> None:
    """tile_of inverts centroid and bounds for every tile."""
    grid = Grid(resolution)
    tile = data.draw(st.integers(0, grid.n_tiles - 1))
    west, _, _, north = grid.bounds(tile)
    assert int(grid.tile_of(*grid.centroid(tile))) == tile
    assert int(grid.tile_of(west, north)) == tile


def float_row_area_cm2(grid: Grid) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Closed form of engine-contracts.md 10.1 in binary64."""
    flattening = 1 / 298.257223563
    e = np.sqrt(flattening * (2 - flattening))
    sine = np.sin(np.radians(90 - np.arange(grid.nrows + 1) / grid.tiles_per_degree))
    q = sine / (1 - (e * sine) ** 2) + np.log((1 + e * sine) / (1 - e * sine)) / (2 * e)
    semi_minor_cm = 637_813_700 * (1 - flattening)
    width = 2 * np.pi / grid.ncols
    area: np.ndarray[tuple[int], np.dtype[np.float64]] = semi_minor_cm**2 * width / 2 * (q[:-1] - q[1:])
    return area


@pytest.mark.parametrize("resolution", [3600, 300, 30])
def test_row_areas_agree_with_the_closed_form(resolution: int) -> None:
    """Integers and binary64 differ by rounding: half a cm2, plus the cancellation of the floats."""
    grid = Grid(resolution)
    area = grid.row_area_cm2()
    reference = float_row_area_cm2(grid)
    assert area.dtype == np.int64
    assert area.shape == (grid.nrows,)
    assert np.all(np.abs(area - reference) <= 0.5 + 1e-13 * reference.max() + 1e-13 * reference * grid.nrows)


@pytest.mark.parametrize("resolution", [3600, 30, 3])
def test_all_tiles_together_are_the_earth(resolution: int) -> None:
    """The sum over all tiles is the area of the ellipsoid, up to the rounding of each row."""
    grid = Grid(resolution)
    total = sum(grid.row_area_cm2().tolist()) * grid.ncols
    assert abs(total - EARTH_AREA_CM2) <= grid.ncols * grid.nrows // 2 + 1000


def decimal_row_area_cm2(grid: Grid, row: int) -> int:
    """Closed form of engine-contracts.md 10.1 with 60 decimal digits, its logarithm included."""
    with decimal.localcontext(prec=60):
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863")
        flattening = 1 / Decimal("298.257223563")
        e = (flattening * (2 - flattening)).sqrt()

        def authalic(edge: int) -> Decimal:
            angle = (Decimal(90) - Decimal(edge) / grid.tiles_per_degree) * pi / 180
            sine, term, k = Decimal(0), angle, 1
            while abs(term) > Decimal("1e-70"):
                sine += term
                term *= -angle * angle / ((k + 1) * (k + 2))
                k += 2
            return sine / (1 - (e * sine) ** 2) + ((1 + e * sine) / (1 - e * sine)).ln() / (2 * e)

        semi_minor = 637_813_700 * (1 - flattening)
        area = semi_minor**2 * pi / grid.ncols * (authalic(row) - authalic(row + 1))
        return int(area.to_integral_value(decimal.ROUND_HALF_UP))


@pytest.mark.parametrize("resolution", [3600, 30, 3])
def test_row_areas_are_correctly_rounded(resolution: int) -> None:
    """Against 60-digit decimals and the logarithm instead of its series: equal to the last cm2."""
    grid = Grid(resolution)
    rows = [0, 1, grid.nrows // 7, grid.nrows // 4, grid.nrows // 3, grid.nrows // 2 - 1, grid.nrows // 2]
    expected = [decimal_row_area_cm2(grid, row) for row in rows]
    assert grid.row_area_cm2()[rows].tolist() == expected


@pytest.mark.parametrize("row", [1_000, 4_000, 10_799, 10_800, 17_321])
def test_row_areas_agree_with_a_geodesic_polygon(row: int) -> None:
    """PROJ's geodesic area of the four corners is an independent reference: within 1e-8 off the poles."""
    grid = Grid(30)
    west, south, east, north = (float(v) for v in grid.bounds(grid.tile_id(row, 100)))
    geod = pyproj.Geod(ellps="WGS84")
    area_m2, _ = geod.polygon_area_perimeter([west, east, east, west], [south, south, north, north])
    assert grid.row_area_cm2()[row] == pytest.approx(area_m2 * 1e4, rel=1e-8)


def test_row_tables_are_symmetric_and_fall_towards_the_poles() -> None:
    """North mirrors south, and both tables are strictly monotone in a hemisphere."""
    grid = Grid(30)
    for table in (grid.row_area_cm2(), grid.row_cos_q30()):
        assert np.array_equal(table, table[::-1])
        assert (np.diff(table[: grid.nrows // 2]) > 0).all()
        assert not table.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1


@pytest.mark.parametrize("resolution", [3600, 30])
def test_row_cosine_agrees_with_libm(resolution: int) -> None:
    """Rounded to 2**-30, at the centre of the row."""
    grid = Grid(resolution)
    centre = 90 - (np.arange(grid.nrows) + 0.5) / grid.tiles_per_degree
    assert np.abs(grid.row_cos_q30() - 2.0**30 * np.cos(np.radians(centre))).max() <= 0.5 + 1e-5


def test_row_tables_are_the_same_on_every_machine() -> None:
    """Pinned digests: they come from integers alone, so a difference is a change of the world."""
    digests = {
        resolution: hashlib.sha256(
            Grid(resolution).row_area_cm2().astype("<i8").tobytes()
            + Grid(resolution).row_cos_q30().astype("<i8").tobytes()
        ).hexdigest()[:16]
        for resolution in (3600, 30, 3)
    }
    assert digests == {
        3600: "c9cc310ffe15f613",
        30: "0964877ab9a7f0cb",
        3: "30c271d226bbc98b",
    }
