"""How many of a country's people live less densely than somebody, and how many exactly as densely.

Of a surface of runs the classes of equal density are few enough to be kept. Of a dense surface every tile is a class
of its own, 16 bytes each; there the tiles are gone through when somebody asks, with what is asked kept in order.
Both count integers (micro-persons) and give the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, njit
from seg1b.kernels.sorting import sort_with_values
from seg1b.world.dense_surface import DenseSurface, Surface
from seg1b.world.surface import PopulationSurface

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

_GUIDE_BITS = 12


class Densities(Protocol):
    """The distribution of each country's people over the densities of their tiles."""

    def below_and_tied(self, country: int, density: FloatArray) -> tuple[IntArray, IntArray]:
        """Micro-persons of a country in less dense tiles, and in tiles of exactly each density, int64[n] each.

        `density` float64[n] in micro-persons per cm2 of tile (`reference.tile_density`).
        """
        ...


def densities_of(surface: Surface, row_area_cm2: IntArray, columns: int) -> Densities:
    """The densities of a surface on a grid of rows of `columns` tiles, each of its row's area (int64[rows])."""
    if isinstance(surface, DenseSurface):
        return DensityScan(surface, row_area_cm2, columns)
    return density_classes(surface, row_area_cm2, columns)


# Classes, kept


@dataclass(frozen=True, eq=False)
class DensityClasses:
    """Classes of country c are rows start[c] to start[c + 1], ascending: `density` float64[D] and `people` int64[D].

    A density without people has no class.
    """

    start: IntArray
    density: FloatArray
    people: IntArray

    def below_and_tied(self, country: int, density: FloatArray) -> tuple[IntArray, IntArray]:
        """As `Densities` says."""
        own = slice(int(self.start[country]), int(self.start[country + 1]))
        classes, people = self.density[own], self.people[own]
        if not len(classes):
            return np.zeros(len(density), np.int64), np.zeros(len(density), np.int64)
        below = np.concatenate((np.zeros(1, np.int64), np.cumsum(people)))
        k = np.searchsorted(classes, density)
        same = np.minimum(k, len(classes) - 1)
        tied = np.where((k < len(classes)) & (classes[same] == density), people[same], 0)
        return below[k], tied


def density_classes(surface: PopulationSurface, row_area_cm2: IntArray, columns: int) -> DensityClasses:
    """The classes of every country, countries in as many threads as there are."""
    countries = len(surface.start) - 1
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))] * countries

    def classify(first: int, last: int) -> None:
        longest = int(np.diff(surface.start[first : last + 1]).max(initial=0))
        scratch = [np.empty(longest, np.int64) for _ in range(4)]
        for c in range(first, last):
            runs = surface.runs_of(c)
            bits = (runs.population / row_area_cm2[runs.tile0 // columns]).view(np.int64)
            classes = _classes_of_runs(runs.population, runs.length, bits, *scratch)
            found[c] = scratch[0][:classes].copy(), scratch[1][:classes].copy()

    in_chunks(classify, countries, surface.start)
    start = np.cumsum([0, *(len(classes) for classes, _ in found)], dtype=np.int64)
    density = np.concatenate([np.empty(0, np.int64), *(classes for classes, _ in found)]).view(np.float64)
    people = np.concatenate([np.empty(0, np.int64), *(people for _, people in found)])
    return DensityClasses(start, density, people)


@njit
def _classes_of_runs(
    population: Any, length: Any, density: Any, key: Any, mass: Any, key_scratch: Any, mass_scratch: Any
) -> int:
    """Bits of the densities where people live, ascending, in `key`, and their people in `mass`; their number.

    The bits of positive doubles ascend as the doubles do. All arrays have as many entries as there are runs.
    """
    used = 0
    for run in range(population.shape[0]):
        if population[run] > 0:
            key[used] = density[run]
            mass[used] = population[run] * length[run]
            used += 1
    sort_with_values(key[:used], mass[:used], key_scratch, mass_scratch)
    classes = 0
    for i in range(used):
        if classes > 0 and key[classes - 1] == key[i]:
            mass[classes - 1] += mass[i]
        else:
            key[classes], mass[classes] = key[i], mass[i]
            classes += 1
    return classes


# Tiles, gone through


@dataclass(frozen=True, eq=False)
class DensityScan:
    """Nothing is kept: a question about a country goes once through its tiles."""

    surface: Surface
    row_area_cm2: IntArray
    columns: int

    def below_and_tied(self, country: int, density: FloatArray) -> tuple[IntArray, IntArray]:
        """As `Densities` says."""
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
