"""Dense tiles in the order in which they are sampled: spans cut at blocks, the blocks along a Hilbert curve.

A piece knows the weight before it and the number of its first tile, and no tile's weight: a point of the curve is found
by bisecting the pieces and weighing the few tiles of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.errors import ContractError
from seg1b.kernels.dense import DenseTiles, Integers, weight_of
from seg1b.kernels.jit import in_chunks, njit, read_only


@dataclass(frozen=True)
class DensePieces:
    """A country's spans cut at blocks, in the order of a Hilbert curve; country c owns pieces start[c] to start[c + 1].

    `tile0` int64[N] first tile id, `length` int32[N] tiles of one row, `number` int64[N] of the first of them in
    `tiles.persons`, `cum` int64[N] weight of the same country before the piece. `rule` float64[C, 6] and `cut`
    int64[C, 4] are `MassRule` and `Cut` by country. Pieces without weight are there and are never drawn.
    """

    start: Integers
    tile0: Integers
    length: npt.NDArray[np.int32]
    number: Integers
    cum: Integers
    tiles: DenseTiles
    rule: npt.NDArray[np.float64]
    cut: Integers

    def curve(self, country: int) -> DenseCurve:
        """One country's pieces."""
        part = slice(int(self.start[country]), int(self.start[country + 1]))
        return DenseCurve(
            self.tile0[part], self.length[part], self.number[part], self.cum[part], self.tiles.persons,
            self.tiles.area_cm2, self.tiles.columns, self.rule[country], self.cut[country],
        )  # fmt: skip


@dataclass(frozen=True)
class DenseCurve:
    """One country's pieces, as in `DensePieces`; a `seg1b.kernels.systematic.Curve`."""

    tile0: Integers
    length: npt.NDArray[np.int32]
    number: Integers
    cum: Integers
    persons: npt.NDArray[Any]
    area_cm2: Integers
    columns: int
    rule: npt.NDArray[np.float64]
    cut: Integers

    @property
    def total(self) -> int:
        """Sum of the weights; 0 for a country without tiles."""
        return int(self.cut[0]) if len(self.tile0) else 0

    def tiles_at(self, piece: Integers, point: Integers) -> Integers:
        """The tile at each point of the curve, which lies in that piece: counted on from the piece's start."""
        tiles = np.empty(len(point), np.int64)
        _walk_pieces(
            piece, point, self.tile0, self.number, self.cum, self.persons, self.area_cm2, self.columns, self.rule,
            self.cut, tiles,
        )  # fmt: skip
        return tiles


def weigh_pieces(
    start: Integers, tile0: Integers, length: npt.NDArray[np.int32], number: Integers, tiles: DenseTiles,
    rule: npt.NDArray[np.float64], cut: Integers,
) -> DensePieces:  # fmt: skip
    """Pieces with their cumulative weights, countries in as many threads as there are.

    Raises ContractError E402 if the weights of a country do not sum to its total.
    """
    cum = np.empty(len(tile0), np.int64)

    def weigh(first: int, last: int) -> None:
        for country in range(first, last):
            part = slice(int(start[country]), int(start[country + 1]))
            own = read_only(tile0[part]), read_only(length[part]), read_only(number[part])
            shared = tiles.persons, tiles.area_cm2, tiles.columns, rule[country], cut[country]
            whole = int(_sum_pieces(*own, *shared, cum[part]))
            if part.start < part.stop and whole != cut[country, 0]:
                raise ContractError(
                    "E402", f"the weights of country {country} sum to {whole}, not {cut[country, 0]}"
                )

    in_chunks(weigh, len(start) - 1, start)
    return DensePieces(start, tile0, length, number, cum, tiles, rule, cut)


@njit
def _sum_pieces(
    tile0: Any,
    length: Any,
    number: Any,
    persons: Any,
    area_cm2: Any,
    columns: Any,
    rule: Any,
    cut: Any,
    cum: Any,
) -> Any:
    """Weight before each piece; returns the weight of all."""
    total = np.int64(0)
    for i in range(len(tile0)):
        cum[i] = total
        area = area_cm2[tile0[i] // columns]
        for k in range(number[i], number[i] + length[i]):
            total += weight_of(persons[k], area, k, rule, cut)
    return total


@njit
def _walk_pieces(
    piece: Any, point: Any, tile0: Any, number: Any, cum: Any, persons: Any, area_cm2: Any, columns: Any, rule: Any,
    cut: Any, tiles: Any,
) -> None:  # fmt: skip
    """Tile by tile from the start of a piece, until the point is reached."""
    for i in range(len(point)):
        p = piece[i]
        area = area_cm2[tile0[p] // columns]
        k = number[p]
        left = point[i] - cum[p] - weight_of(persons[k], area, k, rule, cut)
        while left >= 0:
            k += 1
            left -= weight_of(persons[k], area, k, rule, cut)
        tiles[i] = tile0[p] + k - number[p]
