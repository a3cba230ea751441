"""S2's tile weights: one integer per tile, 10**dp per country, stored as runs or derived; their order for sampling.

The mass of a tile is a mix of three components, each normalised over the country: uniform, area and population. A
component whose total is zero counts as area. The default mix is population alone, and then masses are people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from seg1b.errors import InputError
from seg1b.kernels import dense
from seg1b.kernels.apportionment import QuantisedRuns, quantise_runs
from seg1b.kernels.dense_curve import DensePieces as DensePieces
from seg1b.kernels.dense_curve import weigh_pieces
from seg1b.kernels.hilbert import Pieces as Pieces
from seg1b.kernels.hilbert import cut_at_blocks, cut_runs_at_blocks
from seg1b.kernels.jit import in_chunks, read_only
from seg1b.world.dense_surface import DenseSurface, Surface
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface

IntArray = NDArray[np.int64]

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


class WeightRuns(NamedTuple):
    """Runs of a country: `tile0` int64[n] first tile ids, `length` int32[n] tiles, `weight` int64[n] of each."""

    tile0: IntArray
    length: NDArray[np.int32]
    weight: IntArray


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

    def runs_of(self, country: int) -> WeightRuns:
        """One country's runs, row by row."""
        part = slice(int(self.start[country]), int(self.start[country + 1]))
        return WeightRuns(self.tile0[part], self.length[part], self.weight[part])


@dataclass(frozen=True)
class DenseWeights:
    """Integer weights that follow from the persons of a dense surface; K = 10**dp, as `TileWeights` has it.

    `rule` float64[C, 6] and `cut` int64[C, 4]: how (`kernels.dense.MassRule`, `Cut`); zeros for a country without
    tiles. `zero_mass` (C,) as in `TileWeights`.
    """

    surface: DenseSurface
    dp: int
    rule: NDArray[np.float64]
    cut: IntArray
    zero_mass: NDArray[np.bool_]

    @property
    def total(self) -> int:
        """Sum of the weights of every country that has tiles."""
        return int(10**self.dp)

    def pieces(self, block_tiles: int) -> DensePieces:
        """The spans cut at blocks of `block_tiles` tiles, the blocks in the order of a Hilbert curve."""
        tiles, grid = self.surface.tiles, self.surface.grid
        tile0 = tiles.row.astype(np.int64) * grid.ncols + tiles.col0
        ahead = tiles.before[:-1] - tile0  # of a tile's number before its id: the same all along a span
        length = tiles.col1 - tiles.col0
        cut = cut_at_blocks(
            tiles.start, tile0, length, ahead, grid.ncols, grid.nrows, block_tiles, without_zero=False
        )
        number = cut.tile0 + cut.value
        rule, bounds = read_only(self.rule), read_only(self.cut)
        return weigh_pieces(cut.start, cut.tile0, cut.length, number, tiles, rule, bounds)

    def runs_of(self, country: int) -> WeightRuns:
        """One country's tiles, each a run of its own: 20 bytes a tile."""
        tiles = self.surface.tiles
        own = tiles.of(country, read_only(self.rule)[country])
        count = int((own.col1 - own.col0).sum(dtype=np.int64))
        tile, weight = np.empty(count, np.int64), np.empty(count, np.int64)
        dense.weights_of_spans(own, read_only(self.cut)[country], tiles.columns, tile, weight)
        return WeightRuns(tile, np.ones(count, np.int32), weight)


Weights: TypeAlias = TileWeights | DenseWeights


@overload
def build_weights(surface: PopulationSurface, mix: MixParameters, dp: int) -> TileWeights: ...


@overload
def build_weights(surface: DenseSurface, mix: MixParameters, dp: int) -> DenseWeights: ...


def build_weights(surface: Surface, mix: MixParameters, dp: int) -> Weights:
    """Quantise every country's masses to weights that sum to 10**dp, by exact largest remainder.

    Runs give runs, a dense surface dense weights; tile by tile they are the same. Raises InputError
    E103_DP_TOO_SMALL if a country has more than 10**dp / 100 tiles.
    """
    return (
        _of_tiles(surface, mix, dp)
        if isinstance(surface, DenseSurface)
        else weights_of_runs(surface, mix, dp)
    )


def _of_tiles(surface: DenseSurface, mix: MixParameters, dp: int) -> DenseWeights:
    rule = mass_rules(surface, mix)
    countries = len(rule)
    tiles = surface.tiles.tiles_before()
    for count in np.diff(tiles).tolist():
        if count * _TILES_PER_UNIT > 10**dp:
            raise _too_few_digits(dp, count)
    cut = np.zeros((countries, 4), np.int64)

    def quantise(first: int, last: int) -> None:
        for country in range(first, last):
            if tiles[country] < tiles[country + 1]:
                by_people = rule[country, 0] == 1.0
                known = int(surface.totals[country]) if by_people else None
                own = surface.tiles.of(country, read_only(rule)[country])
                cut[country] = dense.cut_country(own, 10**dp, known)

    in_chunks(quantise, countries, tiles)
    return DenseWeights(surface, dp, rule, cut, (np.diff(tiles) > 0) & (surface.totals == 0))


def mass_rules(surface: DenseSurface, mix: MixParameters) -> NDArray[np.float64]:
    """`MassRule` of every country, float64[C, 6]; zeros for a country without tiles."""
    held = surface.tiles
    area_cm2 = held.area_cm2[held.row] * (held.col1 - held.col0)
    rules = np.zeros((len(held.start) - 1, 6))
    for country, tiles in enumerate(np.diff(held.tiles_before()).tolist()):
        if tiles:
            people = int(surface.totals[country])
            area = int(area_cm2[held.start[country] : held.start[country + 1]].sum())
            alone = float(mix.population == 1.0 and people > 0)
            rules[country] = dense.MassRule(
                alone, mix.uniform / tiles, mix.area, mix.population, float(area), float(people)
            )
    return rules


def weights_of_runs(surface: PopulationSurface, mix: MixParameters, dp: int) -> TileWeights:
    """`build_weights` of runs."""
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
    return np.asarray(np.floor(mixed * dense.MIX_SCALE), np.int64)
