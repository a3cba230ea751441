"""Who is near whom on the sphere: nearest neighbours, and "within r of any of these centres", of millions of points.

Both come from an implicit binary tree of bounding boxes over points in Morton order, searched for a leaf of points at
a time. Order and tree decide only the speed: every distance is the exact minimum over all points.

Memory is bounded by bands. Points are taken a band of latitudes at a time, with a halo of one step of latitude on
either side; who has no neighbour closer than a step is looked at again, among the points of all cells that may hold
one. Bounds that prune are rounded the way the distances are (sums of squares of differences, each monotone), so
nothing closer is ever passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, inline, njit
from seg1b.kernels.sphere import EARTH_RADIUS_M, arc_m, chord_squared, unit_vectors

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

LEAF_SIZE = 8
POINTS_AT_ONCE = 1 << 22
STEP_DEG = 0.05

_MORTON_CELLS = 2_097_151.0  # 21 bits per axis
_STACK_SIZE = 128
_SUBTREES = 1 << 10
_SLACK_DEG = 1e-6  # more than all rounding of degrees, less than a foot


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Of n points: `distance_m` float64[n] to the nearest other one, and `near_centre` bool[n], whether any centre is
    near. A single point has no neighbour: it gets half the Earth's circumference.
    """

    distance_m: FloatArray
    near_centre: BoolArray


@dataclass(frozen=True, eq=False)
class _Tree:
    """Points (n, 3) in Morton order, `order` (n,) their numbers; boxes (2 * leaves, 6), node i over 2i and 2i + 1."""

    points: FloatArray
    order: IntArray
    boxes: FloatArray
    leaves: int


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
    centres = _tree(centre_lon_deg, centre_lat_deg)
    limit = chord_squared(radius_m)
    if n <= at_once:
        tree = _tree(lon_deg, lat_deg)
        nearest[tree.order] = _nearest(tree)
        near[tree.order] = _near(tree, centres, limit)
        return Neighbourhood(arc_m(nearest), near)
    step = np.floor((lat_deg + 90.0) / STEP_DEG).astype(np.int16)
    bands = _bands(step, at_once)

    def search(low: int, high: int) -> None:
        for first, last in bands[low:high]:
            rows = np.flatnonzero((step >= first - 1) & (step <= last))
            tree = _tree(lon_deg[rows], lat_deg[rows])
            rows = rows[tree.order]
            own = (step[rows] >= first) & (step[rows] < last)
            nearest[rows[own]] = _nearest(tree)[own]
            near[rows[own]] = _near(tree, centres, limit)[own]

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
        tree = _tree(lon_deg[among], lat_deg[among])
        place = np.empty(len(among), np.int64)
        place[tree.order] = np.arange(len(among))
        position = np.minimum(np.searchsorted(among, alone), len(among) - 1)
        own = np.where(among[position] == alone, place[position], -1)
        _improve(tree, vectors, own, best)
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


# The tree


@inline
def _spread_bits(x: Any) -> Any:
    x = (x | x << np.uint64(32)) & np.uint64(0x1F00000000FFFF)
    x = (x | x << np.uint64(16)) & np.uint64(0x1F0000FF0000FF)
    x = (x | x << np.uint64(8)) & np.uint64(0x100F00F00F00F00F)
    x = (x | x << np.uint64(4)) & np.uint64(0x10C30C30C30C30C3)
    return (x | x << np.uint64(2)) & np.uint64(0x1249249249249249)


@njit
def _morton_cell(coordinate: float) -> Any:
    """Number, 0 to 2**21 - 1, of the cell that a coordinate from -1 to 1 lies in."""
    cell = np.int64((coordinate + 1.0) * 0.5 * _MORTON_CELLS)
    return np.uint64(min(max(cell, np.int64(0)), np.int64(_MORTON_CELLS)))


@njit
def _morton_keys(vectors: Any, first: int, stop: int, key: Any) -> None:
    for i in range(first, stop):
        x = _spread_bits(_morton_cell(vectors[i, 0]))
        y = _spread_bits(_morton_cell(vectors[i, 1]))
        z = _spread_bits(_morton_cell(vectors[i, 2]))
        key[i] = x | y << np.uint64(1) | z << np.uint64(2)


def morton_order(vectors: FloatArray) -> npt.NDArray[np.int64]:
    """An order, int64[n], that sorts unit vectors along a space-filling Morton curve of 21 bits per axis."""
    key = np.empty(len(vectors), np.uint64)
    in_chunks(lambda first, stop: _morton_keys(vectors, first, stop, key), len(key))
    return np.argsort(key)


def _tree(lon_deg: FloatArray, lat_deg: FloatArray) -> _Tree:
    vectors = unit_vectors(lon_deg, lat_deg)
    order = morton_order(vectors)
    leaves = 1
    while leaves * LEAF_SIZE < len(order):
        leaves *= 2
    points, boxes = np.empty_like(vectors), np.empty((2 * leaves, 6))
    boxes[0] = np.inf
    in_chunks(lambda first, stop: _fill_leaves(vectors, order, leaves, first, stop, points, boxes), leaves)
    _fill_nodes(boxes, leaves)
    return _Tree(points, order, boxes, leaves)


@njit
def _fill_leaves(
    vectors: Any, order: Any, leaves: int, first: int, stop: int, points: Any, boxes: Any
) -> None:
    """Points in order, and boxes (min xyz, max xyz) of leaves first to stop; without points infinitely inside out."""
    for leaf in range(first, stop):
        for axis in range(3):
            low, high = np.inf, -np.inf
            for i in range(leaf * LEAF_SIZE, min((leaf + 1) * LEAF_SIZE, len(order))):
                value = vectors[order[i], axis]
                points[i, axis] = value
                low, high = min(low, value), max(high, value)
            boxes[leaves + leaf, axis], boxes[leaves + leaf, 3 + axis] = low, high


@njit
def _fill_nodes(boxes: Any, leaves: int) -> None:
    """Boxes of the nodes above the leaves: node i has the children 2i and 2i + 1."""
    for node in range(leaves - 1, 0, -1):
        for axis in range(3):
            boxes[node, axis] = min(boxes[2 * node, axis], boxes[2 * node + 1, axis])
            boxes[node, 3 + axis] = max(boxes[2 * node, 3 + axis], boxes[2 * node + 1, 3 + axis])


@njit
def _box_distance(boxes: Any, node: int, x: float, y: float, z: float) -> float:
    """Squared distance from a point to a box; infinite for an empty box."""
    dx = max(boxes[node, 0] - x, x - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - y, y - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - z, z - boxes[node, 5], 0.0)
    squared: float = dx * dx + dy * dy + dz * dz
    return squared


@njit
def _box_gap(boxes: Any, node: int, others: Any, other: int) -> float:
    """Squared distance between two boxes; infinite if one is empty."""
    dx = max(boxes[node, 0] - others[other, 3], others[other, 0] - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - others[other, 4], others[other, 1] - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - others[other, 5], others[other, 2] - boxes[node, 5], 0.0)
    squared: float = dx * dx + dy * dy + dz * dz
    return squared


@njit
def _closest_in(
    points: Any,
    boxes: Any,
    leaves: int,
    stack: Any,
    own: Any,
    x: float,
    y: float,
    z: float,
    best: float,
    stop: float,
) -> float:
    """Least squared distance to a point other than `own`, or `best`; done once it is at most `stop`."""
    stack[0] = 1
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if not _box_distance(boxes, node, x, y, z) < best:
            continue
        if node < leaves:
            near, far = 2 * node, 2 * node + 1
            if _box_distance(boxes, far, x, y, z) < _box_distance(boxes, near, x, y, z):
                near, far = far, near
            stack[depth] = far
            stack[depth + 1] = near
            depth += 2
            continue
        first = (node - leaves) * LEAF_SIZE
        for j in range(first, min(points.shape[0], first + LEAF_SIZE)):
            if j == own:
                continue
            dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
            distance = dx * dx + dy * dy + dz * dz
            if distance < best:
                best = distance
                if best <= stop:
                    return best
    return best


# Nearest neighbours


def _nearest(tree: _Tree) -> FloatArray:
    """Squared distance of every point of a tree to the nearest other, in the tree's order."""
    nearest = np.full(len(tree.points), np.inf)
    filled = -(-len(tree.points) // LEAF_SIZE)
    in_chunks(
        lambda first, stop: _nearest_of_leaves(tree.points, tree.boxes, tree.leaves, first, stop, nearest),
        filled,
    )
    return nearest


@njit
def _nearest_of_leaves(points: Any, boxes: Any, leaves: int, first: int, stop: int, nearest: Any) -> None:
    """For the points of leaves first to stop, a leaf at a time: its own points, then climb; a sibling subtree is
    searched only if its box is closer to the leaf's than some point's best so far. `nearest` is infinite before.
    """
    stack = np.empty(_STACK_SIZE, np.int64)
    for leaf in range(first, stop):
        begin = leaf * LEAF_SIZE
        end = min(points.shape[0], begin + LEAF_SIZE)
        own = leaves + leaf
        reach = 0.0
        for i in range(begin, end):
            for j in range(i + 1, end):
                dx, dy, dz = (
                    points[j, 0] - points[i, 0],
                    points[j, 1] - points[i, 1],
                    points[j, 2] - points[i, 2],
                )
                distance = dx * dx + dy * dy + dz * dz
                nearest[i], nearest[j] = min(nearest[i], distance), min(nearest[j], distance)
            reach = max(reach, nearest[i])
        node = own
        while node > 1:
            if _box_gap(boxes, node ^ 1, boxes, own) < reach:
                stack[0] = node ^ 1
                reach = _search_for_leaf(points, boxes, leaves, stack, own, begin, end, reach, nearest)
            node >>= 1


@njit
def _search_for_leaf(
    points: Any,
    boxes: Any,
    leaves: int,
    stack: Any,
    own: int,
    begin: int,
    end: int,
    reach: float,
    nearest: Any,
) -> float:
    """Search the subtree on the stack for closer neighbours of the points begin to end of the leaf `own`.

    Returns the largest of their distances.
    """
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if not _box_gap(boxes, node, boxes, own) < reach:
            continue
        if node < leaves:
            near, far = 2 * node, 2 * node + 1
            if _box_gap(boxes, far, boxes, own) < _box_gap(boxes, near, boxes, own):
                near, far = far, near
            stack[depth] = far
            stack[depth + 1] = near
            depth += 2
            continue
        first = (node - leaves) * LEAF_SIZE
        last = min(points.shape[0], first + LEAF_SIZE)
        reach = 0.0
        for i in range(begin, end):
            best = nearest[i]
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            if _box_distance(boxes, node, x, y, z) < best:
                for j in range(first, last):
                    dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
                    best = min(best, dx * dx + dy * dy + dz * dz)
                nearest[i] = best
            reach = max(reach, best)
    return reach


def _improve(tree: _Tree, vectors: FloatArray, own: IntArray, best: FloatArray) -> None:
    """Lower `best` (m,) squared distances of m vectors to what a tree gives; `own`: the point to skip, or -1."""

    def search(first: int, stop: int) -> None:
        _closest(tree.points, tree.boxes, tree.leaves, vectors, own, first, stop, best)

    in_chunks(search, len(best))


@njit
def _closest(
    points: Any, boxes: Any, leaves: int, vectors: Any, own: Any, first: int, stop: int, best: Any
) -> None:
    stack = np.empty(_STACK_SIZE, np.int64)
    for i in range(first, stop):
        x, y, z = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        best[i] = _closest_in(points, boxes, leaves, stack, own[i], x, y, z, best[i], 0.0)


# Centres


def _near(tree: _Tree, centres: _Tree, limit: float) -> BoolArray:
    """Which points of a tree have a centre at most `limit` (a squared chord) away, in the tree's order."""
    near = np.zeros(len(tree.points), np.bool_)
    if not len(centres.points):
        return near
    beyond = np.nextafter(limit, 9.0)

    subtrees = min(tree.leaves, _SUBTREES)

    def search(first: int, stop: int) -> None:
        _near_of_subtrees(
            tree.points, tree.boxes, tree.leaves, centres.points, centres.boxes, centres.leaves, limit, beyond,
            subtrees + first, subtrees + stop, near,
        )  # fmt: skip

    in_chunks(search, subtrees)
    return near


@njit
def _near_of_subtrees(
    points: Any, boxes: Any, leaves: int, centres: Any, centre_boxes: Any, centre_leaves: int, limit: float,
    beyond: float, first: int, stop: int, near: Any,
) -> None:  # fmt: skip
    """For the subtrees at nodes first to stop: a box is near as a whole, or far as a whole, or its halves are asked;
    of a leaf, its points."""
    waiting, stack = np.empty(_STACK_SIZE, np.int64), np.empty(_STACK_SIZE, np.int64)
    none = np.int64(-1)
    for root in range(first, stop):
        waiting[0] = root
        count = 1
        while count > 0:
            count -= 1
            node = waiting[count]
            verdict = _box_near(boxes, node, centres, centre_boxes, centre_leaves, stack, limit)
            if verdict < 0:
                continue
            if verdict == 0 and node < leaves:
                waiting[count], waiting[count + 1] = 2 * node, 2 * node + 1
                count += 2
                continue
            begin, end = node, node + 1
            while begin < leaves:
                begin, end = 2 * begin, 2 * end
            begin = (begin - leaves) * LEAF_SIZE
            for i in range(begin, min(points.shape[0], (end - leaves) * LEAF_SIZE)):
                near[i] = True
                if verdict == 0:
                    x, y, z = points[i, 0], points[i, 1], points[i, 2]
                    best = _closest_in(
                        centres, centre_boxes, centre_leaves, stack, none, x, y, z, beyond, limit
                    )
                    near[i] = best <= limit


@njit
def _box_near(
    boxes: Any, own: int, centres: Any, centre_boxes: Any, centre_leaves: int, stack: Any, limit: float
) -> int:
    """1: some centre is near all of the box `own`; -1: none is near any of it; 0: that depends."""
    verdict = -1
    stack[0] = 1
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if not _box_gap(centre_boxes, node, boxes, own) <= limit:
            continue
        if node < centre_leaves:
            stack[depth] = 2 * node
            stack[depth + 1] = 2 * node + 1
            depth += 2
            continue
        begin = (node - centre_leaves) * LEAF_SIZE
        for j in range(begin, min(centres.shape[0], begin + LEAF_SIZE)):
            if not _box_distance(boxes, own, centres[j, 0], centres[j, 1], centres[j, 2]) <= limit:
                continue
            verdict = 0
            dx = max(centres[j, 0] - boxes[own, 0], boxes[own, 3] - centres[j, 0])
            dy = max(centres[j, 1] - boxes[own, 1], boxes[own, 4] - centres[j, 1])
            dz = max(centres[j, 2] - boxes[own, 2], boxes[own, 5] - centres[j, 2])
            if dx * dx + dy * dy + dz * dz <= limit:
                return 1
    return verdict
