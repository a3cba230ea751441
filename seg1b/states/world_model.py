"""Everything about the Earth that S3 to S9 need, in memory once and shared by all seeds.

All arrays are read-only: executors hand the same pages to every worker, and a compiled kernel sees one kind of array
wherever it runs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels.containment import EdgeIndex, tiles_on_border
from seg1b.kernels.hilbert import Pieces
from seg1b.world.anchors import SettlementAnchors, build_anchors
from seg1b.world.content import CountryTable, Settlements, World
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface
from seg1b.world.tile_index import IntegerPolygons, TileIndex, integer_polygons
from seg1b.world.weights import TileWeights

IntArray = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class WorldModel:
    """Countries, borders, tiles, people and weights on one grid.

    `pieces` are the weights in the order in which S4 samples them; `weights` the same row by row. `edges` are all
    border edges by country and row of tiles, for exact point-in-country tests.
    """

    digest: str
    countries: CountryTable
    grid: Grid
    index: TileIndex
    surface: PopulationSurface
    weights: TileWeights
    pieces: Pieces
    polygons: IntegerPolygons
    edges: EdgeIndex
    anchors: SettlementAnchors
    settlements: Settlements

    @property
    def iso(self) -> tuple[str, ...]:
        """ISO codes; the position is the country index."""
        return self.countries.iso

    @property
    def total_weight(self) -> int:
        """K, the sum of every country's weights."""
        return self.weights.total

    @cached_property
    def country_index(self) -> dict[str, int]:
        """Country index by ISO code."""
        return {iso: index for index, iso in enumerate(self.iso)}

    def on_boundary(self, country: NDArray[np.int16], tile_id: IntArray) -> NDArray[np.bool_]:
        """Whether a border of the country runs through each tile; n queries, n booleans."""
        return tiles_on_border(self.edges, country, tile_id)

    def pieces_of(self, country: int) -> tuple[IntArray, IntArray, IntArray]:
        """First tile, weight per tile and exclusive cumulative weight of one country's pieces, in curve order."""
        part = slice(self.pieces.start[country], self.pieces.start[country + 1])
        return self.pieces.tile0[part], self.pieces.weight[part], self.pieces.cum[part]

    def weights_of(self, country: int) -> tuple[IntArray, NDArray[np.int32], IntArray]:
        """First tile, tiles and weight per tile of one country's runs, row by row."""
        part = slice(self.weights.start[country], self.weights.start[country + 1])
        return self.weights.tile0[part], self.weights.length[part], self.weights.weight[part]


@dataclass(frozen=True)
class Landmarks:
    """What a model has of the world and the grid alone: borders and settlements."""

    polygons: IntegerPolygons
    edges: EdgeIndex
    anchors: SettlementAnchors


def landmarks(world: World, grid: Grid) -> Landmarks:
    """Borders and settlements of a world on a grid."""
    polygons = integer_polygons(world.polygons, grid)
    edges = polygons.edge_index(len(world.countries.iso), grid)
    return Landmarks(polygons, edges, build_anchors(world, grid))


def assemble(
    world: World,
    index: TileIndex,
    surface: PopulationSurface,
    weights: TileWeights,
    hilbert_block_tiles: int,
    known: Landmarks | None = None,
) -> WorldModel:
    """Put a model together from the results of S1 and S2, with read-only arrays.

    `known` are the landmarks, where they are at hand already.
    """
    known = landmarks(world, index.grid) if known is None else known
    return frozen(
        WorldModel(
            digest=world.digest,
            countries=world.countries,
            grid=index.grid,
            index=index,
            surface=surface,
            weights=weights,
            pieces=weights.pieces(hilbert_block_tiles),
            polygons=known.polygons,
            edges=known.edges,
            anchors=known.anchors,
            settlements=world.settlements,
        )
    )


def frozen(value: T) -> T:
    """The same dataclass, every array in it (also in nested dataclasses) set read-only."""
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            frozen(getattr(value, field.name))
    return value
