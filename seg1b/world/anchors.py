"""The settlement in a tile, if there is one: the first anchor of the tile's shops stands there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg1b.world.content import World
from seg1b.world.grid import Grid
from seg1b.world.surface import settlement_coordinates

IntArray = NDArray[np.int64]
_FRACTION = (1 << 32) - 1


@dataclass(frozen=True)
class SettlementAnchors:
    """Position of the largest settlement of a country in each tile that holds one.

    `key` (A,) ascending country * tiles + tile id; `x_fraction`, `y_fraction` (A,) in 2**-32 tile from the tile's
    western and northern edge. Ties of population go to the smaller GeoNames id.
    """

    tiles: int
    key: IntArray
    x_fraction: IntArray
    y_fraction: IntArray

    def at(self, country: NDArray[np.int16], tile_id: IntArray) -> tuple[IntArray, IntArray]:
        """Fractions of each (country, tile), -1 where it holds no settlement. n queries, two n-arrays."""
        if not len(self.key):
            none = np.full(len(tile_id), -1, np.int64)
            return none, none.copy()
        wanted = country.astype(np.int64) * self.tiles + tile_id
        index = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        found = self.key[index] == wanted
        return np.where(found, self.x_fraction[index], -1), np.where(found, self.y_fraction[index], -1)


def build_anchors(world: World, grid: Grid) -> SettlementAnchors:
    """The first anchors of every tile that holds a settlement of its country."""
    x, y = settlement_coordinates(world, grid)
    settlements = world.settlements
    tiles = grid.ncols * grid.nrows
    key = settlements.country.astype(np.int64) * tiles + (y >> 32) * grid.ncols + (x >> 32)
    order = np.lexsort((settlements.geonameid, -settlements.population.astype(np.int64), key))
    first = np.ones(len(order), np.bool_)
    first[1:] = key[order][1:] != key[order][:-1]
    chosen = order[first]
    return SettlementAnchors(tiles, key[chosen], x[chosen] & _FRACTION, y[chosen] & _FRACTION)
