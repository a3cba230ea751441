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
from seg1b.kernels.apportionment import quantise_runs
from seg1b.kernels.hilbert import Pieces as Pieces
from seg1b.kernels.hilbert import cut_runs_at_blocks
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
    tile0, length, weight, zero_mass = [], [], [], []
    start = [0]
    for country in range(len(surface.start) - 1):
        part = slice(surface.start[country], surface.start[country + 1])
        runs = surface.length[part]
        tiles = int(runs.sum(dtype=np.int64))
        zero_mass.append(tiles > 0 and not surface.population[part].any())
        if tiles == 0:
            start.append(start[-1])
            continue
        if tiles * _TILES_PER_UNIT > 10**dp:
            raise InputError(
                "E103_DP_TOO_SMALL",
                f"dp = {dp} gives 10^{dp} units to {tiles} tiles of one country; most would weigh nothing",
                where="s2.tile_weights.yaml: dp",
                next_step=f"raise dp to at least {len(str(tiles * _TILES_PER_UNIT - 1))}",
            )
        row = surface.tile0[part] // surface.grid.ncols
        mass = _masses(runs, surface.population[part], surface.grid.row_area_cm2()[row], tiles, mix)
        quantised = quantise_runs(runs, mass, 10**dp)
        tile0.append(quantised.tile0(surface.tile0[part]))
        length.append(quantised.length)
        weight.append(quantised.weight)
        start.append(start[-1] + len(quantised.length))
    return TileWeights(
        surface.grid,
        dp,
        np.array(start, np.int64),
        np.concatenate(tile0),
        np.concatenate(length),
        np.concatenate(weight),
        np.array(zero_mass, np.bool_),
    )


def _masses(
    length: NDArray[np.int32], population: IntArray, area_cm2: IntArray, tiles: int, mix: MixParameters
) -> IntArray:
    """Integer mass per tile of every run."""
    people = int((population * length).sum())
    if mix.population == 1.0 and people > 0:
        return population
    area = area_cm2 / float((area_cm2 * length).sum())
    share = population / people if people else area
    mixed = mix.uniform / tiles + mix.area * area + mix.population * share
    return np.asarray(np.floor(mixed * _MIX_SCALE), np.int64)
