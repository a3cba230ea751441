"""How many of a country's people live less densely than somebody, and how many exactly as densely.

Nothing is kept but the surface: a question about a country goes once through its tiles, with the densities that are
asked for in order. To sort five million runs by their density would take longer than to go through them for four seeds.
All counts are integers (micro-persons).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit
from seg1b.world.dense_surface import Surface

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

_GUIDE_BITS = 12


@dataclass(frozen=True, eq=False)
class Densities:
    """The distribution of each country's people over the densities of their tiles.

    A tile's density is its people by the area of its row, `row_area_cm2` int64[rows], on a grid of `columns` tiles.
    """

    surface: Surface
    row_area_cm2: IntArray
    columns: int

    def below_and_tied(self, country: int, density: FloatArray) -> tuple[IntArray, IntArray]:
        """Micro-persons of a country in less dense tiles, and in tiles of exactly each density, int64[n] each.

        `density` float64[n] in micro-persons per cm2 of tile (`reference.tile_density`).
        """
        asked, place = np.unique(density, return_inverse=True)
        ahead, tied = np.zeros(len(asked) + 1, np.int64), np.zeros(len(asked), np.int64)
        guide, least, shift = _guide(asked)
        for runs in self.surface.batches(country):
            _rank_runs(*runs, self.row_area_cm2, self.columns, asked, guide, least, shift, ahead, tied)
        return np.cumsum(ahead[:-1])[place], tied[place]


def _guide(asked: FloatArray) -> tuple[IntArray, int, int]:
    """Where the densities of each leading bit pattern begin among those asked, the least pattern, the bits below it.

    The bits of doubles that are not negative ascend as the doubles do.
    """
    bits = asked.view(np.int64)
    if not len(bits):
        return np.zeros(2, np.int64), 0, 0
    shift = max(0, int(bits[-1] - bits[0]).bit_length() - _GUIDE_BITS)
    least, most = int(bits[0] >> shift), int(bits[-1] >> shift)
    return np.searchsorted(bits >> shift, np.arange(least, most + 2)), least, shift


@njit
def _rank_runs(
    tile0: Any, length: Any, population: Any, row_area_cm2: Any, columns: Any, asked: Any, guide: Any, least: Any,
    shift: Any, ahead: Any, tied: Any,
) -> None:  # fmt: skip
    """Add the people of ascending runs to `tied` of their own density and to `ahead` of the first that is higher."""
    row_end = np.int64(0)
    area = np.int64(0)
    for run in range(len(tile0)):
        if population[run] == 0:
            continue
        if tile0[run] >= row_end:
            row = tile0[run] // columns
            row_end = (row + 1) * columns
            area = row_area_cm2[row]
        density = population[run] / area
        pattern = (np.float64(density).view(np.int64) >> shift) - least
        if pattern > len(guide) - 2:
            continue
        people = population[run] * length[run]
        low, high = np.int64(0), np.int64(0)
        if pattern >= 0:
            low, high = guide[pattern], guide[pattern + 1]
        while low < high:
            middle = (low + high) >> 1
            if asked[middle] <= density:
                low = middle + 1
            else:
                high = middle
        ahead[low] += people
        if low > 0 and asked[low - 1] == density:
            tied[low - 1] += people
