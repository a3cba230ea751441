"""A tree of points on the sphere: who of them is nearest to whom, and which are near any of some centres.

An implicit binary tree of bounding boxes over points in Morton order, searched for a leaf of points at a time. Order
and tree decide only the speed: every distance is the exact minimum over all points. Bounds that prune are rounded the
way the distances are (sums of squares of differences, each monotone), so nothing closer is ever passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, inline, njit
from seg1b.kernels.sphere import unit_vectors

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

LEAF_SIZE = 8

_MORTON_CELLS = 2_097_151.0  # 21 bits per axis
_STACK_SIZE = 128
_SUBTREES = 1 << 10


@dataclass(frozen=True, eq=False)
class PointTree:
    """Points (n, 3) in Morton order, `order` (n,) their numbers; boxes (2 * leaves, 6), node i over 2i and 2i + 1."""

    points: FloatArray
    order: IntArray
    boxes: FloatArray
    leaves: int


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


def point_tree(lon_deg: FloatArray, lat_deg: FloatArray) -> PointTree:
    """The tree of n points in degrees, float64[n] each; n may be 0."""
    vectors = unit_vectors(lon_deg, lat_deg)
    order = morton_order(vectors)
    leaves = 1
    while leaves * LEAF_SIZE < len(order):
        leaves *= 2
    points, boxes = np.empty_like(vectors), np.empty((2 * leaves, 6))
    boxes[0] = np.inf
    in_chunks(lambda first, stop: _fill_leaves(vectors, order, leaves, first, stop, points, boxes), leaves)
    _fill_nodes(boxes, leaves)
    return PointTree(points, order, boxes, leaves)


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


def nearest_squared(tree: PointTree) -> FloatArray:
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


def improve_nearest(tree: PointTree, vectors: FloatArray, own: IntArray, best: FloatArray) -> None:
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


def near_centres(tree: PointTree, centres: PointTree, limit: float) -> BoolArray:
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
