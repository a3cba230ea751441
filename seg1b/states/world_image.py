"""What S4 to S8 know of the world, kept as it lies in memory: a process maps it instead of decoding and indexing it.

Not an output, and no run names it: all of it follows from S1's and S2w's outputs and the world. A lane that maps it
claims it with its lease; pruning takes what nobody claims, and it is made again. Of a user's raster nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg1b.kernels.containment import EdgeIndex
from seg1b.states.plan import WORLD_IMAGE
from seg1b.states.world_model import Landmarks
from seg1b.store.store import Store
from seg1b.world.anchors import SettlementAnchors
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface
from seg1b.world.tile_index import IntegerPolygons
from seg1b.world.weights import TileWeights

_NAME = "image.bin"
_ALIGNED_BYTES = 64


@dataclass(frozen=True)
class WorldImage:
    """Surface and weights of S2w, which share their runs, and the landmarks."""

    surface: PopulationSurface
    weights: TileWeights
    landmarks: Landmarks

    @property
    def length_bytes(self) -> int:
        """Of all arrays together."""
        return sum(array.nbytes for array in _arrays(self).values())


def publish(store: Store, key: str, image: WorldImage) -> None:
    """Write the arrays one after the other, and say in the facts where each lies."""
    weights, marks = image.weights, image.landmarks
    places: dict[str, Any] = {}
    parts: list[bytes | memoryview] = []
    length = 0
    for name, array in _arrays(image).items():
        padding = -length % _ALIGNED_BYTES
        places[name] = [array.dtype.str, list(array.shape), length + padding]
        parts += [bytes(padding), np.ascontiguousarray(array).reshape(-1).view(np.uint8).data]
        length += padding + array.nbytes
    with store.transaction(WORLD_IMAGE, key) as out:
        out.add_parts(_NAME, parts)
        out.facts = {
            "arrays": places,
            "dp": weights.dp,
            "resolution_arcsec": weights.grid.resolution_arcsec,
            "bucket_max": marks.edges.bucket_max,
        }


def load(store: Store, key: str) -> WorldImage | None:
    """The published image, its arrays read-only and in no memory before they are looked at; None if there is none.

    Raises StoreError if the file has not the length that was published.
    """
    if not store.has(WORLD_IMAGE, key):
        return None
    facts = store.manifest(WORLD_IMAGE, key).facts
    mapped = store.map_document(WORLD_IMAGE, key, _NAME)

    def array(name: str) -> NDArray[Any]:
        kind, shape, offset = facts["arrays"][name]
        return np.frombuffer(mapped, np.dtype(kind), int(np.prod(shape)), offset).reshape(shape)

    grid = Grid(int(facts["resolution_arcsec"]))
    start, tile0, length = array("start"), array("tile0"), array("length")
    return WorldImage(
        PopulationSurface(grid, start, tile0, length, array("population")),
        TileWeights(grid, int(facts["dp"]), start, tile0, length, array("weight"), array("zero_mass")),
        Landmarks(
            IntegerPolygons(array("x"), array("y"), array("ring_start"), array("ring_country")),
            EdgeIndex(
                grid.ncols, array("edge"), array("first_row"), array("bucket_base"), array("bucket_start"),
                array("edge_ref"), int(facts["bucket_max"]),
            ),
            SettlementAnchors(
                grid.ncols * grid.nrows, array("anchor_key"), array("x_fraction"), array("y_fraction")
            ),
        ),
    )  # fmt: skip


def check(store: Store, key: str) -> None:
    """Compare the published image with its digest. Raises StoreError E_STORE_DAMAGED."""
    store.check_document(WORLD_IMAGE, key, _NAME)


def _arrays(image: WorldImage) -> dict[str, NDArray[Any]]:
    """Every array by its name in the image."""
    surface, weights, marks = image.surface, image.weights, image.landmarks
    polygons, edges, anchors = marks.polygons, marks.edges, marks.anchors
    return {
        "start": surface.start,
        "tile0": surface.tile0,
        "length": surface.length,
        "population": surface.population,
        "weight": weights.weight,
        "zero_mass": weights.zero_mass,
        "x": polygons.x,
        "y": polygons.y,
        "ring_start": polygons.ring_start,
        "ring_country": polygons.ring_country,
        "edge": edges.edge,
        "first_row": edges.first_row,
        "bucket_base": edges.bucket_base,
        "bucket_start": edges.bucket_start,
        "edge_ref": edges.edge_ref,
        "anchor_key": anchors.key,
        "x_fraction": anchors.x_fraction,
        "y_fraction": anchors.y_fraction,
    }
