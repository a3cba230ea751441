"""Systematic sampling with probability proportional to size (PPS), exact on integers.

Cells in a fixed order carry integer weights of sum K. Of n points, point k lies at `t_k = floor((u0 +
k*K) / n)` with u0 uniform on [0, K); it takes the cell whose cumulative weights enclose it. Every cell
gets the floor or the ceil of `n*w/K` points, and over u0 exactly `n*w/K` in the mean. Source: Madow, "On
the theory of systematic sampling II" (1949).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit

N_MAX = 1 << 40
TOTAL_MAX = 1 << 62


@dataclass(frozen=True)
class GuideTable:
    """For each bucket of 2^shift units of weight, the piece that holds the bucket's first unit (int32)."""

    first_piece: npt.NDArray[np.int32]
    shift: int


def systematic_points(
    n: int, u0: int, total: int, first: int = 0, count: int | None = None
) -> npt.NDArray[np.int64]:
    """Points t_k, k = first .. first + count - 1 (default all), of n on [0, total): int64, ascending.

    Exact for n <= 2^40 and total <= 2^62. Raises ValueError outside those bounds.
    """
    _check(n, u0, total)
    count = n - first if count is None else count
    if first < 0 or count < 0 or first + count > n:
        raise ValueError(f"points {first} to {first + count} are not among {n}")
    position, fraction = divmod(u0 + first * total, n)
    out = np.empty(count, dtype=np.int64)
    _walk(out, n, position, fraction, total // n, total % n)
    return out


class Curve(Protocol):
    """Cells in a fixed order, in pieces; how the cells of a piece weigh is the curve's business."""

    @property
    def cum(self) -> npt.NDArray[np.int64]:
        """Weight before each piece, int64[N]."""
        ...

    @property
    def total(self) -> int:
        """Weight of all pieces; 0 if there are none."""
        ...

    def tiles_at(self, piece: npt.NDArray[np.int64], point: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The tile at each of n points, which lies in that piece."""
        ...


@dataclass(frozen=True)
class RunCurve:
    """Pieces of equal weights: `length` int32[N] tiles from `tile0` int64[N] on, of `weight` int64[N] each."""

    tile0: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int64]
    cum: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """Weight of all pieces."""
        if not len(self.cum):
            return 0
        return int(self.cum[-1]) + int(self.weight[-1]) * int(self.length[-1])

    def tiles_at(self, piece: npt.NDArray[np.int64], point: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The tile at each point: counted on from the piece's first in steps of its weight."""
        return np.asarray(self.tile0[piece] + (point - self.cum[piece]) // self.weight[piece])


def take(n: int, u0: int, curve: Curve) -> npt.NDArray[np.int64]:
    """Tiles (int64[n]) that n systematic points hit, in the order of the curve."""
    points = systematic_points(n, u0, curve.total)
    piece = np.empty(n, dtype=np.int64)
    _find_ascending(points, curve.cum, piece)
    return curve.tiles_at(piece, points)


def build_guide(cum: npt.NDArray[np.int64], total: int) -> GuideTable:
    """Guide table of about one bucket a piece: O(1) look-ups for points in any order.

    `cum` int64[N] are the exclusive cumulative weights of the pieces, `total` their sum.
    """
    shift = max(0, total.bit_length() - max(1, len(cum).bit_length()))
    return GuideTable(_fill_guide(cum, ((total - 1) >> shift) + 2, shift), shift)


def take_each(n: npt.NDArray[np.int64], u0: npt.NDArray[np.int64], curve: Curve) -> npt.NDArray[np.int64]:
    """Tiles int64[sum(n)] of many independent systematic samples: n[p] points from start u0[p]."""
    total = curve.total
    if len(n):
        _check(int(n.min()), int(u0.min()), total)
        _check(int(n.max()), int(u0.max()), total)
    guide = build_guide(curve.cum, total)
    points = np.empty(int(n.sum()), dtype=np.int64)
    piece = np.empty(len(points), dtype=np.int64)
    _find_each(points, piece, n, u0, total, curve.cum, guide.first_piece, guide.shift)
    return curve.tiles_at(piece, points)


def _check(n: int, u0: int, total: int) -> None:
    if not (1 <= n <= N_MAX and 1 <= total <= TOTAL_MAX and 0 <= u0 < total):
        raise ValueError(f"systematic sample of n={n} from u0={u0} of total={total} is out of range")


@njit
def _walk(out: Any, n: Any, position: Any, fraction: Any, step: Any, remainder: Any) -> None:
    """Successive points by quotient and remainder: no product, so nothing can overflow."""
    for k in range(len(out)):
        out[k] = position
        position += step
        fraction += remainder
        if fraction >= n:
            fraction -= n
            position += 1


@njit
def _piece_between(t: Any, low: Any, high: Any, cum: Any) -> Any:
    """The last of the pieces low .. high - 1 that starts at or before unit `t` of the curve."""
    while high - low > 1:
        middle = (low + high) >> 1
        if cum[middle] <= t:
            low = middle
        else:
            high = middle
    return low


@njit
def _find_ascending(points: Any, cum: Any, piece: Any) -> None:
    """The pieces of ascending points: gallop from the last piece hit, then bisect."""
    pieces = np.int64(len(cum))
    low = np.int64(0)
    for k in range(len(points)):
        t = points[k]
        high = low + 1
        step = np.int64(1)
        while high < pieces and cum[high] <= t:
            low = high
            step *= 2
            high += step
        low = _piece_between(t, low, min(high, pieces), cum)
        piece[k] = low


@njit
def _fill_guide(cum: Any, entries: Any, shift: Any) -> Any:
    """first_piece[b] = the last piece that starts at or before unit b << shift."""
    first_piece = np.empty(entries, np.int32)
    piece = np.int64(0)
    for b in range(entries):
        unit = np.int64(b) << np.int64(shift)
        while piece + 1 < len(cum) and cum[piece + 1] <= unit:
            piece += 1
        first_piece[b] = piece
    return first_piece


@njit
def _find_each(
    points: Any, piece: Any, n: Any, u0: Any, total: Any, cum: Any, first_piece: Any, shift: Any
) -> None:
    """Points of each sample in turn and their pieces; the guide table bounds each bisection to those of one bucket."""
    at = np.int64(0)
    for p in range(len(n)):
        own = points[at : at + n[p]]
        _walk(own, n[p], u0[p] // n[p], u0[p] % n[p], total // n[p], total % n[p])
        for k in range(len(own)):
            bucket = own[k] >> np.int64(shift)
            low = np.int64(first_piece[bucket])
            piece[at + k] = _piece_between(own[k], low, np.int64(first_piece[bucket + 1]) + 1, cum)
        at += n[p]
