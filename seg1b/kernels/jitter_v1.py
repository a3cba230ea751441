"""S6, the first engine's modes uniform_v1 and mixture_v2: points in binary64 degrees, one stream a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.containment import (
    TILE,
    TILE_BITS,
    EdgeIndex,
    arrays,
    gather_edges,
    inside_tile_edges,
    on_tile_edges,
)
from seg1b.kernels.jit import njit
from seg1b.kernels.jitter import CORE, SECONDARY, SPARSE, JitterResult
from seg1b.kernels.philox import block, u01

_U64_ONE = np.uint64(1)


@dataclass(frozen=True)
class MixtureParameters:
    """Numbers of mixture_v2; triples are core, secondary, sparse: exponents and largest offsets."""

    selection_blend: float
    core: float
    secondary: float
    exponent_lon: tuple[float, float, float]
    exponent_lat: tuple[float, float, float]
    max_offset_lon: tuple[float, float, float]
    max_offset_lat: tuple[float, float, float]


def uniform_v1(
    max_attempts: int,
    index: EdgeIndex,
    tiles_per_degree: int,
    tile_id: npt.NDArray[np.int64],
    country: npt.NDArray[np.int16],
    key: npt.NDArray[np.uint64],
    counter_hi: npt.NDArray[np.uint64],
    counter_lo: npt.NDArray[np.uint64],
    boundary: npt.NDArray[np.bool_],
    centre_inside: npt.NDArray[np.bool_],
) -> JitterResult:
    """Points of N sites in degrees, uniform in the part of the tile in the country, from site streams.

    One block an attempt; the border of the country counts as inside. Raises ContractError E613 when a site
    has no accepted point after `max_attempts`.
    """
    return _jitter_v1(
        np.zeros(15), False, max_attempts, index, tiles_per_degree, tile_id, country,
        key, counter_hi, counter_lo, boundary, centre_inside,
    )  # fmt: skip


def mixture_v2(
    parameters: MixtureParameters,
    max_attempts: int,
    index: EdgeIndex,
    tiles_per_degree: int,
    tile_id: npt.NDArray[np.int64],
    country: npt.NDArray[np.int16],
    key: npt.NDArray[np.uint64],
    counter_hi: npt.NDArray[np.uint64],
    counter_lo: npt.NDArray[np.uint64],
    boundary: npt.NDArray[np.bool_],
    centre_inside: npt.NDArray[np.bool_],
) -> JitterResult:
    """Points of N sites in degrees by the mixture; draws, acceptance and errors as `uniform_v1`.

    Known flaw, kept: the component is chosen by the uniforms that also place the point.
    """
    p = parameters
    numbers = np.array(
        [
            *(p.selection_blend, p.core, p.core + p.secondary),
            *(*p.exponent_lon, *p.exponent_lat),
            *(*p.max_offset_lon, *p.max_offset_lat),
        ]
    )
    return _jitter_v1(
        numbers, True, max_attempts, index, tiles_per_degree, tile_id, country,
        key, counter_hi, counter_lo, boundary, centre_inside,
    )  # fmt: skip


def _jitter_v1(
    numbers: Any, mixture: bool, max_attempts: int, index: EdgeIndex, tiles_per_degree: int, tile_id: Any,
    country: Any, key: Any, counter_hi: Any, counter_lo: Any, boundary: Any, centre_inside: Any,
) -> JitterResult:  # fmt: skip
    n = len(tile_id)
    result = JitterResult(
        np.empty(n),
        np.empty(n),
        np.empty(n, dtype=np.int32),
        np.full(n, SPARSE, dtype=np.int8),
        np.zeros(n, dtype=np.bool_),
    )
    failed = _draw_v1(
        numbers, mixture, max_attempts, tiles_per_degree, tile_id, country, key, counter_hi, counter_lo,
        boundary, centre_inside, arrays(index), result.x, result.y, result.attempts, result.component,
    )  # fmt: skip
    if failed >= 0:
        raise ContractError(
            "E613",
            f"no point inside the country after {max_attempts} attempts",
            where=f"site {int(failed)} of the shard, tile {int(tile_id[failed])}",
            next_step="use mode cluster_v3, which samples the clipped tile exactly, or raise max_attempts",
        )
    return result


@njit
def _mixture_fraction(u: Any, exponent: Any, max_offset: Any) -> Any:
    """Fraction of the tile: `0.5 + 0.5*sign(c)*|c|^exponent*max_offset`, c = 2u - 1, clipped to [0, 1]."""
    c = 2.0 * u - 1.0
    fraction = 0.5 + 0.5 * np.sign(c) * np.abs(c) ** exponent * max_offset
    return min(max(fraction, 0.0), 1.0)


@njit
def _draw_v1(
    numbers: Any, mixture: Any, max_attempts: Any, tiles_per_degree: Any, tile_id: Any, country: Any,
    key: Any,
    counter_hi: Any, counter_lo: Any, boundary: Any, centre_inside: Any, index: Any, lon: Any, lat: Any,
    attempts: Any, component: Any,
) -> Any:  # fmt: skip
    """Fills the outputs; returns -1, or the first site without an accepted point."""
    ncols, bucket_max = index[0], index[6]
    local = np.empty((3 * bucket_max + 1, 4), np.int64)
    per_degree = np.float64(tiles_per_degree)
    unit = per_degree * TILE
    for i in range(len(tile_id)):
        tile = tile_id[i]
        row = tile // ncols
        col = tile - row * ncols
        min_lon = np.float64(col - 180 * tiles_per_degree) / per_degree
        max_lon = np.float64(col + 1 - 180 * tiles_per_degree) / per_degree
        min_lat = np.float64(90 * tiles_per_degree - row - 1) / per_degree
        max_lat = np.float64(90 * tiles_per_degree - row) / per_degree
        lo, hi = counter_lo[i], counter_hi[i]
        edges = np.int64(-1)
        found = False
        for a in range(max_attempts):
            x0, x1 = block(lo, hi, key[i])
            lo = lo + _U64_ONE
            if lo == np.uint64(0):
                hi = hi + _U64_ONE
            f_lon, f_lat = u01(x0), u01(x1)
            kind = SPARSE
            if mixture:
                selector = (1.0 - numbers[0]) * f_lon + numbers[0] * f_lat
                if selector < numbers[1]:
                    kind = CORE
                elif selector < numbers[2]:
                    kind = SECONDARY
                f_lon = _mixture_fraction(f_lon, numbers[3 + kind], numbers[9 + kind])
                f_lat = _mixture_fraction(f_lat, numbers[6 + kind], numbers[12 + kind])
            lon[i] = min_lon + f_lon * (max_lon - min_lon)
            lat[i] = min_lat + f_lat * (max_lat - min_lat)
            if boundary[i]:
                if edges < 0:
                    edges = gather_edges(country[i], tile, index, local)
                x = np.int64(np.rint(lon[i] * unit)) + ((180 * tiles_per_degree - col) << TILE_BITS)
                y = ((90 * tiles_per_degree - row) << TILE_BITS) - np.int64(np.rint(lat[i] * unit))
                accepted = on_tile_edges(local, edges, x, y)
                if not accepted and not inside_tile_edges(local, edges, centre_inside[i], x, y):
                    continue
            found = True
            attempts[i] = a + 1
            component[i] = kind
            break
        if not found:
            return i
    return -1
