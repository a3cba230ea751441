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


def _sin_polynomial(x: FloatArray) -> FloatArray:
    z = x * x
    r = 8.33333333332248946124e-03 + z * (
        -1.98412698298579493134e-04
        + z
        * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10))
    )
    return x + z * x * (-1.66666666666666324348e-01 + z * r)


def _cos_polynomial(x: FloatArray) -> FloatArray:
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


def sin_cos_degrees(angle_deg: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """(sine, cosine) of angles in degrees, |angle| <= 1e6; quarter turns are removed exactly, before rounding."""
    quarter = np.rint(np.asarray(angle_deg) / 90.0)
    x = (angle_deg - 90.0 * quarter) * _RADIANS_PER_DEGREE
    s, c = _sin_polynomial(x), _cos_polynomial(x)
    turn = quarter.astype(np.int64) & 3
    sine, cosine = np.where(turn % 2 == 0, s, c), np.where(turn % 2 == 0, c, s)
    return np.where(turn >= 2, -sine, sine), np.where((turn == 1) | (turn == 2), -cosine, cosine)


def arcsine(x: FloatArray | float) -> FloatArray:
    """Arcsines in radians of 0 <= x <= 1 (larger values count as 1)."""
    x = np.minimum(x, 1.0)
    small = x < 0.5
    t = np.where(small, x * x, (1.0 - x) * 0.5)
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
    s = np.sqrt(t)
    return np.where(small, x + x * (p / q), _HALF_PI - 2.0 * (s + s * (p / q)))


def unit_vectors(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Points on the unit sphere, float64[n, 3], of longitudes and latitudes in degrees, float64[n] each."""
    sin_lon, cos_lon = sin_cos_degrees(lon_deg)
    sin_lat, cos_lat = sin_cos_degrees(lat_deg)
    return np.stack((cos_lat * cos_lon, cos_lat * sin_lon, sin_lat), axis=1)


def _arc_m(chord_squared: FloatArray) -> FloatArray:
    return 2.0 * arcsine(0.5 * np.sqrt(chord_squared)) * EARTH_RADIUS_M


def _spread_bits(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x | x << np.uint64(32)) & np.uint64(0x1F00000000FFFF)
    x = (x | x << np.uint64(16)) & np.uint64(0x1F0000FF0000FF)
    x = (x | x << np.uint64(8)) & np.uint64(0x100F00F00F00F00F)
    x = (x | x << np.uint64(4)) & np.uint64(0x10C30C30C30C30C3)
    return (x | x << np.uint64(2)) & np.uint64(0x1249249249249249)


def morton_order(vectors: FloatArray) -> npt.NDArray[np.int64]:
    """Order, int64[n], that sorts unit vectors along a space-filling Morton curve of 21 bits per axis; ties
    by index.
    """
    cell = np.clip(((vectors + 1.0) * 0.5 * _MORTON_CELLS).astype(np.int64), 0, int(_MORTON_CELLS))
    x, y, z = (_spread_bits(cell[:, axis].astype(np.uint64)) for axis in range(3))
    return np.argsort(x | y << np.uint64(1) | z << np.uint64(2), kind="stable")


def _tree_boxes(points: FloatArray, leaves: int) -> FloatArray:
    """Boxes (min xyz, max xyz), float64[2*leaves, 6], of a complete binary tree; node i has children 2i and
    2i+1. Box 0 belongs to no node; a box without points is infinitely inside out.
    """
    boxes = np.empty((2 * leaves, 6))
    boxes[0] = np.inf
    for corner, nothing, extreme in ((slice(0, 3), np.inf, np.minimum), (slice(3, 6), -np.inf, np.maximum)):
        padded = np.full((leaves * LEAF_SIZE, 3), nothing)
        padded[: len(points)] = points
        boxes[leaves:, corner] = extreme.reduce(padded.reshape(leaves, LEAF_SIZE, 3), axis=1)
        level = leaves
        while level > 1:
            children = boxes[level : 2 * level, corner]
            boxes[level // 2 : level, corner] = extreme(children[0::2], children[1::2])
            level //= 2
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
    root: Any,
    own: Any,
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
    distance_m[order] = _arc_m(nearest)
    return distance_m


@njit
def _any_within(
    points: Any, centres: Any, boxes: Any, leaves: int, limit: float, beyond: float, within: Any
) -> None:
    stack = np.empty(_STACK_SIZE, np.int64)
    root, none = np.int64(1), np.int64(-1)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        within[i] = _closest_in(centres, boxes, leaves, stack, root, none, x, y, z, beyond, limit) <= limit


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
    sine = float(sin_cos_degrees(half_angle_deg)[0])
    return 4.0 * sine * sine
