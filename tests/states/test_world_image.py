"""The image of the world's model: what goes in comes out, and its bytes are those of its revision."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_worlds import bits, box, small_world

from seg1b.policy.load import default_policies
from seg1b.states import s2_weights, world_image
from seg1b.states.plan import WORLD_IMAGE, world_image_key
from seg1b.states.world_image import WorldImage
from seg1b.states.world_model import landmarks
from seg1b.store.store import Store
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface
from seg1b.world.tile_index import build_tile_index
from seg1b.world.weights import TileWeights

KEY = "b" * 64
GOLDEN = (
    "77eb9335c6e0147d183cf5685446cb27b4a9b4e05d670c6c914e78ce00d85ce0",
    "0d2a70bbf58d77d813f03dadece3a8505c024d2dfd20f7b12d358a86f724a566",
)
"""Key of an image and SHA-256 of that of two countries: other bytes under an old key would be mapped as if they were
the old ones. Who changes what the image holds raises the revision in `states.plan`, and enters both here.
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "runs")


@pytest.fixture
def image(store: Store) -> WorldImage:
    """Two countries on tiles of a tenth of a degree, one settlement each."""
    rings = {"AA": [box(0, 0, 3, 2)], "BB": [box(3, 0, 5, 2)]}
    world = small_world(rings, [("AA", 1.55, 0.45, 700), ("BB", 4.55, 1.45, 50)], {"AA": 1000})
    index = build_tile_index(world, Grid(360))
    surface, weights = s2_weights.run_weights(store, KEY, world, index, default_policies().tile_weights)
    assert isinstance(surface, PopulationSurface)
    assert isinstance(weights, TileWeights)
    return WorldImage(surface, weights, landmarks(world, index.grid))


def test_what_goes_in_comes_out(store: Store, image: WorldImage) -> None:
    """Every array and every number; each array begins where a CPU reads it best."""
    assert world_image.load(store, KEY) is None
    world_image.publish(store, KEY, image)
    found = world_image.load(store, KEY)
    assert found is not None
    assert bits(found) == bits(image)
    places = store.manifest(WORLD_IMAGE, KEY).facts["arrays"]
    assert all(offset % 64 == 0 for _, _, offset in places.values())
    for part in (found.surface, found.weights, *vars(found.landmarks).values()):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            assert not isinstance(value, np.ndarray) or not value.flags.writeable, field.name


def test_its_bytes_are_those_of_its_revision(store: Store, image: WorldImage) -> None:
    """They cannot change without the key."""
    world_image.publish(store, KEY, image)
    document = store.manifest(WORLD_IMAGE, KEY).documents["image.bin"]
    assert (world_image_key({"S1": KEY, "S2w": KEY}), document) == GOLDEN
