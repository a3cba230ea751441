"""Distances on the sphere: unit vectors, great circles, nearest neighbours, "within r of any of these
points".

Sine, cosine and arcsine are evaluated here with additions and multiplications in a fixed order (the
polynomials of Sun's fdlibm, error below 1 ulp), not by the platform's libm: a distance has the same bits on
every machine. Neighbours come from an implicit binary tree of bounding boxes over points in Morton order. The
order decides only the speed: every distance is the exact minimum over all points, so the answer does not
depend on it.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, njit

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

EARTH_RADIUS_M = 6_371_008.8
LEAF_SIZE = 8

_RADIANS_PER_DEGREE = math.pi / 180.0
_HALF_PI = math.pi / 2.0
_MORTON_CELLS = 2_097_151.0  # 21 bits per axis
_STACK_SIZE = 128


@njit
def _sin_polynomial(x: float) -> float:
    z = x * x
    r = 8.33333333332248946124e-03 + z * (
        -1.98412698298579493134e-04
        + z
        * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
    )
    return x + z * x * (-1.66666666666666324348e-01 + z * r)


@njit
def _cos_polynomial(x: float) -> float:
    z = x * x
    r = z * (
        4.16666666666666019037e-02
        + z
        * (
            -1.38888888888741095749e-03
            + z
            * (
                2.48015872894767294178e-05
                + z
                * (
                    -2.75573143513906633035e-07
                    + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)
                )
            )
        )
    )
    half = 0.5 * z
    w = 1.0 - half
    return w + ((1.0 - w) - half + z * r)


@njit
def sin_cos_degrees(angle_deg: float) -> tuple[float, float]:
    """(sine, cosine) of an angle in degrees, |angle| <= 1e6; quarter turns are removed exactly, before
    rounding.
    """
    quarter = np.rint(angle_deg / 90.0)
    x = (angle_deg - 90.0 * quarter) * _RADIANS_PER_DEGREE
    s = _sin_polynomial(x)
    c = _cos_polynomial(x)
    turn = np.int64(quarter) & 3
    if turn == 0:
        return s, c
    if turn == 1:
        return c, -s
    if turn == 2:
        return -s, -c
    return -c, s


@njit
def arcsine(x: float) -> float:
    """Arcsine in radians of 0 <= x <= 1 (larger values count as 1)."""
    x = min(x, 1.0)
    small = x < 0.5
    t = x * x if small else (1.0 - x) * 0.5
    p = t * (
        1.66666666666666657415e-01
        + t
        * (
            -3.25565818622400915405e-01
            + t
            * (
                2.01212532134862925881e-01
                + t
                * (
                    -4.00555345006794114027e-02
                    + t * (7.91534994289814532176e-04 + t * 3.47933107596021167570e-05)
                )
            )
        )
    )
    q = 1.0 + t * (
        -2.40339491173441421878e00
        + t * (2.02094576023350569471e00 + t * (-6.88283971605453293030e-01 + t * 7.70381505559019352791e-02))
    )
    if small:
        return x + x * (p / q)
    s = math.sqrt(t)
    return _HALF_PI - 2.0 * (s + s * (p / q))


@njit
def _unit_vectors(lon_deg: Any, lat_deg: Any, vectors: Any) -> None:
    for i in range(lon_deg.shape[0]):
        sin_lon, cos_lon = sin_cos_degrees(lon_deg[i])
        sin_lat, cos_lat = sin_cos_degrees(lat_deg[i])
        vectors[i, 0] = cos_lat * cos_lon
        vectors[i, 1] = cos_lat * sin_lon
        vectors[i, 2] = sin_lat


def unit_vectors(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Points on the unit sphere, float64[n, 3], of longitudes and latitudes in degrees, float64[n] each."""
    vectors = np.empty((len(lon_deg), 3))
    _unit_vectors(
        np.ascontiguousarray(lon_deg, np.float64), np.ascontiguousarray(lat_deg, np.float64), vectors
    )
    return vectors


@njit
def _arc_m(chord_squared: float) -> float:
    return 2.0 * arcsine(0.5 * np.sqrt(chord_squared)) * EARTH_RADIUS_M


@njit
def _spread_bits(value: Any) -> Any:
    x = np.uint64(value)
    x = (x | x << np.uint64(32)) & np.uint64(0x1F00000000FFFF)
    x = (x | x << np.uint64(16)) & np.uint64(0x1F0000FF0000FF)
    x = (x | x << np.uint64(8)) & np.uint64(0x100F00F00F00F00F)
    x = (x | x << np.uint64(4)) & np.uint64(0x10C30C30C30C30C3)
    return (x | x << np.uint64(2)) & np.uint64(0x1249249249249249)


@njit
def _morton_codes(vectors: Any, codes: Any) -> None:
    for i in range(vectors.shape[0]):
        code = np.uint64(0)
        for axis in range(3):
            cell = np.int64((vectors[i, axis] + 1.0) * 0.5 * _MORTON_CELLS)
            code |= _spread_bits(min(max(cell, 0), np.int64(_MORTON_CELLS))) << np.uint64(axis)
        codes[i] = code


def morton_order(vectors: FloatArray) -> npt.NDArray[np.int64]:
    """Order, int64[n], that sorts unit vectors along a space-filling Morton curve of 21 bits per axis; ties
    by index.
    """
    codes = np.empty(len(vectors), np.uint64)
    _morton_codes(vectors, codes)
    return np.argsort(codes, kind="stable")


@njit
def _tree_boxes(points: Any, leaves: int) -> Any:
    """Boxes (min xyz, max xyz), float64[2*leaves, 6], of a complete binary tree; node i has children 2i and
    2i+1.
    """
    n = points.shape[0]
    boxes = np.empty((2 * leaves, 6))
    boxes[:, :3] = np.inf
    boxes[:, 3:] = -np.inf
    for leaf in range(leaves):
        node = leaves + leaf
        for i in range(leaf * LEAF_SIZE, min(n, (leaf + 1) * LEAF_SIZE)):
            for axis in range(3):
                boxes[node, axis] = min(boxes[node, axis], points[i, axis])
                boxes[node, 3 + axis] = max(boxes[node, 3 + axis], points[i, axis])
    for node in range(leaves - 1, 0, -1):
        for axis in range(3):
            boxes[node, axis] = min(boxes[2 * node, axis], boxes[2 * node + 1, axis])
            boxes[node, 3 + axis] = max(boxes[2 * node, 3 + axis], boxes[2 * node + 1, 3 + axis])
    return boxes


@njit
def _box_distance(boxes: Any, node: int, x: float, y: float, z: float) -> float:
    """Squared distance from a point to a box; infinite for an empty box."""
    dx = max(boxes[node, 0] - x, x - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - y, y - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - z, z - boxes[node, 5], 0.0)
    squared: float = dx * dx + dy * dy + dz * dz
    return squared


@njit
def _closest_in(
    points: Any,
    boxes: Any,
    leaves: int,
    stack: Any,
    root: int,
    own: int,
    x: float,
    y: float,
    z: float,
    best: float,
    stop: float,
) -> float:
    """Least squared distance to a point of the subtree `root` other than `own`, or `best`; done once <=
    `stop`.
    """
    stack[0] = root
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


@njit
def _nearest_squared(points: Any, boxes: Any, leaves: int, first: int, stop: int, nearest: Any) -> None:
    """For points first to stop: climb from the own leaf; a sibling subtree is searched only if its box is closer
    than the best so far.
    """
    stack = np.empty(_STACK_SIZE, np.int64)
    for i in range(first, stop):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        node = leaves + i // LEAF_SIZE
        best = _closest_in(points, boxes, leaves, stack, node, i, x, y, z, np.inf, 0.0)
        while node > 1:
            sibling = node ^ 1
            if _box_distance(boxes, sibling, x, y, z) < best:
                best = _closest_in(points, boxes, leaves, stack, sibling, i, x, y, z, best, 0.0)
            node >>= 1
        nearest[i] = best


def _leaf_count(n: int) -> int:
    leaves = 1
    while leaves * LEAF_SIZE < n:
        leaves *= 2
    return leaves


@njit
def _scatter_arc_m(nearest: Any, order: Any, distance_m: Any) -> None:
    for i in range(nearest.shape[0]):
        distance_m[order[i]] = _arc_m(nearest[i])


def nearest_neighbour_m(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Great-circle distance in metres, float64[n], from each point to the nearest other point.

    Chord c between unit vectors, arc `2*asin(min(1, c/2))` times the radius 6,371,008.8 m. Points at the same
    place give 0. Raises ValueError for fewer than two points: one point has no neighbour.
    """
    n = len(lon_deg)
    if n < 2:
        raise ValueError(f"a nearest neighbour needs at least two points, got {n}")
    vectors = unit_vectors(lon_deg, lat_deg)
    order = morton_order(vectors)
    points = vectors[order]
    leaves = _leaf_count(n)
    nearest = np.empty(n)
    boxes = _tree_boxes(points, leaves)
    in_chunks(lambda first, stop: _nearest_squared(points, boxes, leaves, first, stop, nearest), n)
    distance_m = np.empty(n)
    _scatter_arc_m(nearest, order, distance_m)
    return distance_m


@njit
def _any_within(
    points: Any, centres: Any, boxes: Any, leaves: int, limit: float, beyond: float, within: Any
) -> None:
    stack = np.empty(_STACK_SIZE, np.int64)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        within[i] = _closest_in(centres, boxes, leaves, stack, 1, -1, x, y, z, beyond, limit) <= limit


def within_distance(
    lon_deg: FloatArray,
    lat_deg: FloatArray,
    centre_lon_deg: FloatArray,
    centre_lat_deg: FloatArray,
    radius_m: float,
) -> BoolArray:
    """Which of n points lie at most `radius_m` metres from any of the centres, bool[n]; all False without
    centres.
    """
    within = np.zeros(len(lon_deg), np.bool_)
    if len(centre_lon_deg) == 0:
        return within
    centres = unit_vectors(centre_lon_deg, centre_lat_deg)
    centres = centres[morton_order(centres)]
    leaves = _leaf_count(len(centres))
    limit = chord_squared(radius_m)
    boxes = _tree_boxes(centres, leaves)
    points, beyond = unit_vectors(lon_deg, lat_deg), np.nextafter(limit, 9.0)

    def search(first: int, stop: int) -> None:
        part = slice(first, stop)
        _any_within(points[part], centres, boxes, leaves, limit, beyond, within[part])

    in_chunks(search, len(within))
    return within


def chord_squared(distance_m: float) -> float:
    """Squared chord on the unit sphere of a great-circle distance in metres (at most half the
    circumference).
    """
    half_angle_deg = min(distance_m / EARTH_RADIUS_M * 0.5 / _RADIANS_PER_DEGREE, 90.0)
    sine = sin_cos_degrees(half_angle_deg)[0]
    return 4.0 * sine * sine
