"""S2's tile weights: one integer per tile, 10**dp per country, as runs; and their order for sampling.

The mass of a tile is a mix of three components, each normalised over the country: uniform, area and population. A
component whose total is zero counts as area. The default mix is population alone, and then masses are people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.kernels.apportionment import QuantisedRuns, quantise_runs
from seg1b.kernels.hilbert import Pieces as Pieces
from seg1b.kernels.hilbert import cut_runs_at_blocks
from seg1b.kernels.jit import in_chunks
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface

IntArray = NDArray[np.int64]

_MIX_SCALE = float(1 << 55)
_TILES_PER_UNIT = 100


class MixParameters(Protocol):
    """Shares of the mass components, as the S2 policy has them."""

    @property
    def uniform(self) -> float:
        """Share of the equal component."""
        ...

    @property
    def area(self) -> float:
        """Share of the component in proportion to area."""
        ...

    @property
    def population(self) -> float:
        """Share of the component in proportion to people."""
        ...


@dataclass(frozen=True)
class TileWeights:
    """Integer weights as row-major runs: `start` C + 1 offsets; tile0, length, weight per run; K = 10**dp.

    `zero_mass` (C,) says in which countries nobody lives, so that population counted as area.
    """

    grid: Grid
    dp: int
    start: IntArray
    tile0: IntArray
    length: NDArray[np.int32]
    weight: IntArray
    zero_mass: NDArray[np.bool_]

    @property
    def total(self) -> int:
        """Sum of the weights of every country that has tiles."""
        return int(10**self.dp)

    def pieces(self, block_tiles: int) -> Pieces:
        """The runs cut at blocks of `block_tiles` tiles, the blocks in the order of a Hilbert curve.

        Runs of weight 0 can never be drawn and are left out.
        """
        return cut_runs_at_blocks(
            self.start, self.tile0, self.length, self.weight,
            self.grid.ncols, self.grid.nrows, block_tiles, without_weight=False,
        )  # fmt: skip


def build_weights(surface: PopulationSurface, mix: MixParameters, dp: int) -> TileWeights:
    """Quantise every country's masses to weights that sum to 10**dp, by exact largest remainder.

    Raises InputError E103_DP_TOO_SMALL if a country has more than 10**dp / 100 tiles.
    """
    countries = len(surface.start) - 1
    zero_mass = np.zeros(countries, np.bool_)
    quantised: list[QuantisedRuns | None] = [None] * countries

    def quantise(first: int, last: int) -> None:
        for country in range(first, last):
            part = slice(surface.start[country], surface.start[country + 1])
            runs = surface.length[part]
            tiles = int(runs.sum(dtype=np.int64))
            if tiles * _TILES_PER_UNIT > 10**dp:
                raise _too_few_digits(dp, tiles)
            if tiles:
                zero_mass[country] = not surface.population[part].any()
                quantised[country] = quantise_runs(runs, _masses(surface, part, tiles, mix), 10**dp)

    in_chunks(quantise, countries, surface.start)
    start = np.cumsum([0, *(0 if q is None else len(q.length) for q in quantised)], dtype=np.int64)
    same = int(start[-1]) == len(surface.tile0)  # no run was cut in two
    tile0 = surface.tile0 if same else np.empty(start[-1], np.int64)
    length = surface.length if same else np.empty(start[-1], np.int32)
    weight = np.empty(start[-1], np.int64)
    for country in range(countries):
        found, quantised[country] = quantised[country], None  # one country after the other is let go
        if found is not None:
            own = slice(start[country], start[country + 1])
            weight[own] = found.weight
            if not same:
                tile0[own] = found.tile0(surface.tile0[surface.start[country] : surface.start[country + 1]])
                length[own] = found.length
    return TileWeights(surface.grid, dp, start, tile0, length, weight, zero_mass)


def _too_few_digits(dp: int, tiles: int) -> InputError:
    return InputError(
        "E103_DP_TOO_SMALL",
        f"dp = {dp} gives 10^{dp} units to {tiles} tiles of one country; most would weigh nothing",
        where="s2.tile_weights.yaml: dp",
        next_step=f"raise dp to at least {len(str(tiles * _TILES_PER_UNIT - 1))}",
    )


def _masses(surface: PopulationSurface, part: slice, tiles: int, mix: MixParameters) -> IntArray:
    """Integer mass per tile of every run of a country, whose runs are `part`."""
    length, population = surface.length[part], surface.population[part]
    people = int((population * length).sum())
    if mix.population == 1.0 and people > 0:
        return population
    area_cm2 = surface.grid.row_area_cm2()[surface.tile0[part] // surface.grid.ncols]
    area = area_cm2 / float((area_cm2 * length).sum())
    share = population / people if people else area
    mixed = mix.uniform / tiles + mix.area * area + mix.population * share
    return np.asarray(np.floor(mixed * _MIX_SCALE), np.int64)
