"""S6, cluster_v3: the point of each site within its tile.

Integer from the random words to the coordinates: Gaussians round shared anchors by a shipped table of the
inverse normal, positions in 2^32 steps an axis. No mathematical library lies on the path.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.containment import (
    SUB_ROWS,
    TILE,
    TILE_BITS,
    EdgeIndex,
    arrays,
    gather_edges,
    inside_tile_edges,
    sub_row_lengths,
    sub_row_point,
)
from seg1b.kernels.jit import njit
from seg1b.kernels.philox import block, multiply_high

CORE, SECONDARY, SPARSE, CLIPPED = 0, 1, 2, 3
"""Components of a jittered point; CLIPPED is the exact sampler of the clipped tile (attempts ran out)."""

INVERSE_NORMAL_SHA256 = "fb32bc65e6c2a33b138e940c3da240ec5d77c1904f25fb4cccdc8da71291a7a5"
"""Of data/inverse_normal_q24.npy. Placement and its replay share this table, so it is pinned."""

ANCHOR_COUNTER_HI = 0x616E63686F72
_MICRO = 1_000_000
_WORD = 1 << 64
_U64_ONE = np.uint64(1)


@dataclass(frozen=True)
class ClusterParameters:
    """The numbers of cluster_v3 as integers.

    A word x picks core if `x < core_limit`, else secondary if `x < secondary_limit`, else the sparse tail
    (limits up to 2^64). Thresholds in micro-persons; anchor fractions and standard deviations in 2^-32 of a
    tile.
    """

    core_limit: int
    secondary_limit: int
    anchor_thresholds_micro: tuple[int, ...]
    anchor_low: int
    anchor_span: int
    core_sd: int
    secondary_sd: int
    max_attempts: int


@dataclass(frozen=True)
class JitterResult:
    """Points x, y of sites: int64 units (cluster_v3) or float64 degrees of longitude and latitude (v1 modes).

    `attempts` int32[N] used, `component` int8[N] (CORE, SECONDARY, SPARSE, CLIPPED), `fallback` bool[N]:
    attempts ran out and the point came from the exact sampler.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    attempts: npt.NDArray[np.int32]
    component: npt.NDArray[np.int8]
    fallback: npt.NDArray[np.bool_]


def cluster_parameters(
    core: float | Fraction,
    secondary: float | Fraction,
    anchor_population_thresholds: tuple[int, ...],
    anchor_margin: float | Fraction,
    core_sd_tile: float | Fraction,
    secondary_sd_tile: float | Fraction,
    max_attempts: int,
) -> ClusterParameters:
    """Integers of cluster_v3 from policy numbers, taken as the exact decimals they are written as."""

    def scaled(value: Fraction, unit: int) -> int:
        return value.numerator * unit // value.denominator

    w_core, w_secondary, margin = (Fraction(str(v)) for v in (core, secondary, anchor_margin))
    return ClusterParameters(
        core_limit=scaled(w_core, _WORD),
        secondary_limit=scaled(w_core + w_secondary, _WORD),
        anchor_thresholds_micro=tuple(int(t) * _MICRO for t in anchor_population_thresholds),
        anchor_low=scaled(margin, TILE),
        anchor_span=scaled(1 - 2 * margin, TILE),
        core_sd=scaled(Fraction(str(core_sd_tile)), TILE),
        secondary_sd=scaled(Fraction(str(secondary_sd_tile)), TILE),
        max_attempts=max_attempts,
    )


@cache
def inverse_normal_table() -> npt.NDArray[np.int64]:
    """round(2^24 * ndtri(i / 4096)), i = 0..4096, ends cut at probability 2^-14: int64[4097], read-only.

    Raises ContractError E614 if the shipped file is not the pinned one.
    """
    source = resources.files("seg1b.kernels") / "data" / "inverse_normal_q24.npy"
    content = source.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != INVERSE_NORMAL_SHA256:
        raise ContractError(
            "E614",
            f"the table of the inverse normal is not the pinned one: its SHA-256 is {found}",
            where=str(source),
            next_step="install seg1b again; scripts/build_inverse_normal.py makes the table",
        )
    table: npt.NDArray[np.int64] = np.load(io.BytesIO(content), allow_pickle=False)
    table.setflags(write=False)
    return table


def world_key(world_digest: str) -> int:
    """Key of the anchor hash: the first eight bytes of the world's digest (64 hexadecimal digits)."""
    return int.from_bytes(bytes.fromhex(world_digest)[:8], "little")


def cluster_v3(
    parameters: ClusterParameters,
    world_digest: str,
    index: EdgeIndex,
    tile_id: npt.NDArray[np.int64],
    country: npt.NDArray[np.int16],
    key: npt.NDArray[np.uint64],
    counter_hi: npt.NDArray[np.uint64],
    site_order: npt.NDArray[np.int32],
    population_micro: npt.NDArray[np.int64],
    anchor0_x: npt.NDArray[np.int64],
    anchor0_y: npt.NDArray[np.int64],
    boundary: npt.NDArray[np.bool_],
    centre_inside: npt.NDArray[np.bool_],
) -> JitterResult:
    """Points of N sites by cluster_v3; all arrays have one entry a site.

    `country` is the position in `index`; `key`, `counter_hi` the pair's "jitter_v3" stream;
    `population_micro` the tile's; `anchor0_x`, `anchor0_y` the fraction (2^-32 of a tile) of the tile's
    settlement or -1; `boundary` whether an edge of the country touches the tile, `centre_inside` whether its
    centre is in the country. Raises ContractError E613 when a tile has no part in its country.
    """
    n = len(tile_id)
    result = JitterResult(
        np.empty(n, dtype=np.int64),
        np.empty(n, dtype=np.int64),
        np.empty(n, dtype=np.int32),
        np.empty(n, dtype=np.int8),
        np.zeros(n, dtype=np.bool_),
    )
    p = parameters
    failed = _cluster_v3(
        _limits(p), np.array(p.anchor_thresholds_micro, dtype=np.int64),
        p.anchor_low, np.uint64(p.anchor_span), p.core_sd, p.secondary_sd, p.max_attempts,
        np.uint64(world_key(world_digest)), inverse_normal_table(), tile_id, country, key, counter_hi,
        site_order, population_micro, anchor0_x, anchor0_y, boundary, centre_inside, arrays(index),
        result.x, result.y, result.attempts, result.component, result.fallback,
    )  # fmt: skip
    if failed >= 0:
        raise ContractError(
            "E613",
            "a site's tile has no area in its country that 4096 sub-rows can see",
            where=f"site {int(failed)} of the shard, tile {int(tile_id[failed])}",
            next_step="check the tile index: the tile should not carry weight in this country",
        )
    return result


def _limits(parameters: ClusterParameters) -> npt.NDArray[np.uint64]:
    """Last word of core, last word of core and secondary; each with a word that says whether there is any."""
    words = []
    for limit in (parameters.core_limit, parameters.secondary_limit):
        words += [max(limit - 1, 0), int(limit > 0)]
    return np.array(words, dtype=np.uint64)


@njit
def _gaussian_offset(word: Any, table: Any, sd: Any) -> Any:
    """A normal deviate of standard deviation sd from one word, by linear interpolation in the table."""
    i = np.int64(word >> np.uint64(52))
    f = np.int64((word >> np.uint64(20)) & np.uint64(0xFFFFFFFF))
    z = table[i] + (((table[i + 1] - table[i]) * f) >> 32)
    return (z * sd) >> 24


@njit
def _anchor(tile: Any, k: Any, own_x: Any, own_y: Any, low: Any, span: Any, world: Any) -> Any:
    """Anchor k of a tile as fractions of the tile: the settlement for k = 0 if there is one, else a hash."""
    if k == 0 and own_x >= 0:
        return own_x, own_y
    x0, x1 = block(np.uint64(tile) * np.uint64(4) + np.uint64(k), np.uint64(ANCHOR_COUNTER_HI), world)
    return low + np.int64(multiply_high(x0, span)), low + np.int64(multiply_high(x1, span))


@njit
def _candidate(
    limits: Any, anchor_low: Any, anchor_span: Any, core_sd: Any, secondary_sd: Any, world: Any, table: Any,
    tile: Any, anchors: Any, own_x: Any, own_y: Any, counter: Any, counter_hi: Any, key: Any,
) -> Any:  # fmt: skip
    """(x, y, component) of one attempt, x and y in units from the tile's corner, perhaps outside the tile."""
    pick, choice = block(counter, counter_hi, key)
    word_x, word_y = block(counter + _U64_ONE, counter_hi, key)
    k = np.int64(0)
    if limits[1] > 0 and pick <= limits[0]:
        component, sd = CORE, core_sd
    elif limits[3] > 0 and pick <= limits[2]:
        component, sd = SECONDARY, secondary_sd
        if anchors > 1:
            k = 1 + np.int64(multiply_high(choice, np.uint64(anchors - 1)))
    else:
        return np.int64(word_x >> np.uint64(32)), np.int64(word_y >> np.uint64(32)), SPARSE
    x, y = _anchor(tile, k, own_x, own_y, anchor_low, anchor_span, world)
    return x + _gaussian_offset(word_x, table, sd), y + _gaussian_offset(word_y, table, sd), component


@njit
def _cluster_v3(
    limits: Any, thresholds: Any, anchor_low: Any, anchor_span: Any, core_sd: Any, secondary_sd: Any,
    max_attempts: Any, world: Any, table: Any, tile_id: Any, country: Any, key: Any, counter_hi: Any,
    site_order: Any, population: Any, anchor0_x: Any, anchor0_y: Any, boundary: Any, centre_inside: Any,
    index: Any, out_x: Any, out_y: Any, attempts: Any, component: Any, fallback: Any,
) -> Any:  # fmt: skip
    """Fills the outputs; returns -1, or the first site whose tile has no part in the country."""
    ncols, bucket_max = index[0], index[6]
    local = np.empty((3 * bucket_max + 1, 4), np.int64)
    borders = np.empty(3 * bucket_max + 2, np.int64)
    before = np.empty(SUB_ROWS + 1, np.int64)
    before_tile, before_country = np.int64(-1), np.int64(-1)
    for i in range(len(tile_id)):
        tile = tile_id[i]
        first_counter = np.uint64(site_order[i]) << np.uint64(16)
        anchors = np.int64(1)
        for threshold in thresholds:
            anchors += threshold <= population[i]
        x, y, edges = np.int64(0), np.int64(0), np.int64(-1)
        attempts[i] = 0
        for a in range(max_attempts):
            x, y, kind = _candidate(
                limits, anchor_low, anchor_span, core_sd, secondary_sd, world, table, tile, anchors,
                anchor0_x[i], anchor0_y[i], first_counter + np.uint64(2 * a), counter_hi[i], key[i],
            )  # fmt: skip
            if x < 0 or x >= TILE or y < 0 or y >= TILE:
                continue
            if boundary[i] and edges < 0:
                edges = gather_edges(country[i], tile, index, local)
            if not boundary[i] or inside_tile_edges(local, edges, centre_inside[i], x, y):
                attempts[i] = a + 1
                component[i] = kind
                break
        if attempts[i] == 0:
            if edges < 0:
                edges = gather_edges(country[i], tile, index, local)
            if before_tile != tile or before_country != country[i]:
                sub_row_lengths(local, edges, centre_inside[i], borders, before)
                before_tile, before_country = tile, np.int64(country[i])
            if before[SUB_ROWS] == 0:
                return i
            word, _ = block(first_counter + np.uint64(2 * max_attempts + 1), counter_hi[i], key[i])
            position = np.int64(multiply_high(word, np.uint64(before[SUB_ROWS])))
            x, y = sub_row_point(local, edges, centre_inside[i], borders, before, position)
            attempts[i] = max_attempts
            component[i] = CLIPPED
            fallback[i] = True
        row = tile // ncols
        out_x[i] = ((tile - row * ncols) << TILE_BITS) + x
        out_y[i] = (row << TILE_BITS) + y
    return -1
