"""Who is near whom on the sphere: nearest neighbours, and "within r of any of these centres", of millions of points.

Both come from a tree of points (`point_tree`). Memory is bounded by bands: points are taken a band of latitudes at a
time, with a halo of one step of latitude on either side; who has no neighbour closer than a step is looked at again,
among the points of all cells that may hold one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, njit
from seg1b.kernels.point_tree import improve_nearest, near_centres, nearest_squared, point_tree
from seg1b.kernels.sphere import EARTH_RADIUS_M, arc_m, chord_squared, unit_vectors

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

POINTS_AT_ONCE = 1 << 22
STEP_DEG = 0.05

_SLACK_DEG = 1e-6  # more than all rounding of degrees, less than a foot


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Of n points: `distance_m` float64[n] to the nearest other one, and `near_centre` bool[n], whether any centre is
    near. A single point has no neighbour: it gets half the Earth's circumference.
    """

    distance_m: FloatArray
    near_centre: BoolArray


def neighbourhood(
    lon_deg: FloatArray,
    lat_deg: FloatArray,
    centre_lon_deg: FloatArray,
    centre_lat_deg: FloatArray,
    radius_m: float,
    at_once: int = POINTS_AT_ONCE,
) -> Neighbourhood:
    """Nearest neighbours of n points (degrees, float64[n]), and which lie at most `radius_m` from any centre.

    Chord c between unit vectors, arc `2*asin(min(1, c/2))` times the radius 6,371,008.8 m; points at the same place
    give 0. `at_once` bounds the points that are in the tree at a time (a band is never less than a step of
    latitude), for each thread; results do not depend on it.
    """
    n = len(lon_deg)
    nearest, near = np.full(n, np.inf), np.zeros(n, np.bool_)
    centres = point_tree(centre_lon_deg, centre_lat_deg)
    limit = chord_squared(radius_m)
    if n <= at_once:
        tree = point_tree(lon_deg, lat_deg)
        nearest[tree.order] = nearest_squared(tree)
        near[tree.order] = near_centres(tree, centres, limit)
        return Neighbourhood(arc_m(nearest), near)
    step = np.floor((lat_deg + 90.0) / STEP_DEG).astype(np.int16)
    bands = _bands(step, at_once)

    def search(low: int, high: int) -> None:
        for first, last in bands[low:high]:
            rows = np.flatnonzero((step >= first - 1) & (step <= last))
            tree = point_tree(lon_deg[rows], lat_deg[rows])
            rows = rows[tree.order]
            own = (step[rows] >= first) & (step[rows] < last)
            nearest[rows[own]] = nearest_squared(tree)[own]
            near[rows[own]] = near_centres(tree, centres, limit)[own]

    in_chunks(search, len(bands))
    _look_again(lon_deg, lat_deg, nearest, at_once)
    for part in _parts(n, at_once):
        nearest[part] = arc_m(nearest[part])
    return Neighbourhood(nearest, near)


def nearest_neighbour_m(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Great-circle distance in metres, float64[n], from each point to the nearest other point.

    Raises ValueError for fewer than two points: one point has no neighbour.
    """
    n = len(lon_deg)
    if n < 2:
        raise ValueError(f"a nearest neighbour needs at least two points, got {n}")
    return neighbourhood(lon_deg, lat_deg, np.empty(0), np.empty(0), 0.0).distance_m


def _parts(n: int, at_once: int) -> Iterator[slice]:
    for first in range(0, n, at_once):
        yield slice(first, min(first + at_once, n))


def _bands(step: npt.NDArray[np.int16], at_once: int) -> list[tuple[int, int]]:
    """Bands [first, last) of steps that cover all points, about `at_once` points each."""
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(step))))
    bands, first = [], 0
    while first < len(before) - 1:
        last = int(np.searchsorted(before, before[first] + at_once, side="right")) - 1
        last = max(first + 1, last)
        bands.append((first, last))
        first = last
    return bands


def _look_again(lon_deg: FloatArray, lat_deg: FloatArray, nearest: FloatArray, at_once: int) -> None:
    """Look among all points for neighbours of those whose nearest so far is not nearer than a step of latitude.

    `nearest` squared chords, put right in place. Whatever lies closer than a point's nearest so far lies in a cell of
    one degree that its circle touches; points in such cells are searched.
    """
    alone = np.flatnonzero(nearest > chord_squared(np.radians(STEP_DEG - _SLACK_DEG) * EARTH_RADIUS_M))
    if not len(alone):
        return
    marked = np.zeros((180, 360), np.bool_)
    reach_deg = np.degrees(arc_m(np.minimum(nearest[alone], 4.0)) / EARTH_RADIUS_M) + _SLACK_DEG
    south, north = lat_deg[alone] - reach_deg, lat_deg[alone] + reach_deg
    over_pole = (south <= -90.0 + _SLACK_DEG) | (north >= 90.0 - _SLACK_DEG)
    cosine = np.cos(np.radians(np.where(over_pole, 0.0, lat_deg[alone])))
    sine = np.minimum(np.sin(np.radians(np.minimum(reach_deg, 90.0))) / cosine, 1.0)
    width_deg = np.where(over_pole, 180.0, np.degrees(np.arcsin(sine)) + _SLACK_DEG)
    _mark_cells(lon_deg[alone], width_deg, south, north, marked)
    vectors = unit_vectors(lon_deg[alone], lat_deg[alone])
    best = nearest[alone]
    rows = np.concatenate(
        [_in_marked(lon_deg, lat_deg, part, marked) for part in _parts(len(lon_deg), at_once)]
    )
    for part in _parts(len(rows), at_once):
        among = rows[part]
        tree = point_tree(lon_deg[among], lat_deg[among])
        place = np.empty(len(among), np.int64)
        place[tree.order] = np.arange(len(among))
        position = np.minimum(np.searchsorted(among, alone), len(among) - 1)
        own = np.where(among[position] == alone, place[position], -1)
        improve_nearest(tree, vectors, own, best)
    nearest[alone] = best


def _in_marked(lon_deg: FloatArray, lat_deg: FloatArray, part: slice, marked: BoolArray) -> IntArray:
    """Numbers of the points of a part that lie in marked cells."""
    row = np.clip(np.floor(lat_deg[part] + 90.0), 0, 179).astype(np.int64)
    column = np.floor(lon_deg[part] + 180.0).astype(np.int64) % 360
    rows: IntArray = part.start + np.flatnonzero(marked[row, column])
    return rows


@njit
def _mark_cells(lon_deg: Any, width_deg: Any, south: Any, north: Any, marked: Any) -> None:
    """Mark the cells of one degree that boxes touch: lon - width to lon + width, south to north."""
    for i in range(lon_deg.shape[0]):
        low = np.int64(max(np.floor(south[i] + 90.0), 0.0))
        high = np.int64(min(np.floor(north[i] + 90.0), 179.0))
        west = np.int64(np.floor(lon_deg[i] - width_deg[i] + 180.0))
        east = min(np.int64(np.floor(lon_deg[i] + width_deg[i] + 180.0)), west + 359)
        for row in range(low, high + 1):
            for column in range(west, east + 1):
                marked[row, column % 360] = True
