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

from seg1b.kernels import replay_allocation
from seg1b.kernels.containment import EdgeIndex, tiles_on_border
from seg1b.kernels.systematic import Curve, RunCurve
from seg1b.later import Later
from seg1b.world.anchors import SettlementAnchors, build_anchors
from seg1b.world.content import CountryTable, Settlements, World
from seg1b.world.dense_surface import Surface
from seg1b.world.grid import Grid
from seg1b.world.tile_index import IntegerPolygons, TileIndex, integer_polygons
from seg1b.world.weights import DensePieces, Pieces, WeightRuns, Weights

IntArray = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class WorldModel:
    """Countries, borders, tiles, people and weights on one grid.

    `pieces` are the weights in the order in which S4 samples them, which nothing but S4 and its replay need; `weights`
    the same row by row. `edges` are all border edges by country and row of tiles, for exact point-in-country tests.
    """

    digest: str
    countries: CountryTable
    grid: Grid
    index: TileIndex
    surface: Surface
    weights: Weights
    pieces_later: Later[Pieces | DensePieces]
    polygons: IntegerPolygons
    edges: EdgeIndex
    anchors: SettlementAnchors
    settlements: Settlements

    @property
    def pieces(self) -> Pieces | DensePieces:
        """The weights in the order in which S4 samples them, waited for if need be."""
        return self.pieces_later.result()

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

    def curve_of(self, country: int) -> Curve:
        """One country's weights in the order in which S4 samples them."""
        return self.pieces.curve(country)

    def replay_pieces(self, country: int) -> replay_allocation.Pieces:
        """The same weights as the second implementation takes them."""
        curve = self.pieces.curve(country)
        length = curve.length.astype(np.int64)
        if isinstance(curve, RunCurve):
            return replay_allocation.RunPieces(curve.tile0, length, curve.weight, curve.cum)
        return replay_allocation.TilePieces(
            curve.tile0, length, curve.number, curve.cum, curve.persons, curve.area_cm2, curve.columns,
            curve.rule, curve.cut,
        )  # fmt: skip

    def weights_of(self, country: int) -> WeightRuns:
        """First tile, tiles and weight per tile of one country's runs, row by row."""
        return self.weights.runs_of(country)


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
    surface: Surface,
    weights: Weights,
    hilbert_block_tiles: int,
    known: Landmarks | None = None,
    *,
    pieces_when_asked: bool = False,
) -> WorldModel:
    """Put a model together from the results of S1 and S2, with read-only arrays.

    `known` are the landmarks, where they are at hand already; the pieces are cut at once or `pieces_when_asked`.
    """
    frozen(weights)  # before they are cut: a kernel is compiled for read-only and for writable arrays apart
    pieces = Later(lambda: frozen(weights.pieces(hilbert_block_tiles)), when_asked=pieces_when_asked)
    known = landmarks(world, index.grid) if known is None else known
    return frozen(
        WorldModel(
            digest=world.digest,
            countries=world.countries,
            grid=index.grid,
            index=index,
            surface=surface,
            weights=weights,
            pieces_later=pieces,
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
