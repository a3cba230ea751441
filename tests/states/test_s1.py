"""S1 through the store: what is published is what was computed, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_worlds import bits, box, small_world

from seg1b.errors import InputError
from seg1b.policy.models import TileIndexPolicy
from seg1b.states import s1_tile_index
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.grid import Grid
from seg1b.world.tile_index import build_tile_index

KEY = state_key("s1", 1, None, {}, {}, None)
POLICY = TileIndexPolicy(resolution_arcsec=3600, predicate="center")
WORLD = small_world(
    {"AA": [box(0, 0, 3, 2)], "BB": [box(4.9, 4.9, 5.2, 5.2)], "CC": [[(1.1, 1.1), (1.2, 1.1), (1.3, 1.1)]]}
)


def test_published_and_loaded_are_the_same(tmp_path: Path) -> None:
    """Spans, a rescue tile, and a country without a tile."""
    store = Store.open(tmp_path / "store")
    made = s1_tile_index.run(store, KEY, WORLD, POLICY)
    loaded = s1_tile_index.load(store, KEY, len(WORLD.countries))
    assert bits(loaded) == bits(made) == bits(build_tile_index(WORLD, Grid(3600)))
    store.verify_object("s1", KEY)


def test_facts(tmp_path: Path) -> None:
    """What the report says about S1 is in its manifest."""
    store = Store.open(tmp_path / "store")
    s1_tile_index.run(store, KEY, WORLD, POLICY)
    assert store.manifest("s1", KEY).facts == {
        "resolution_arcsec": 3600,
        "predicate": "center",
        "tiles": 7,
        "countries_with_tiles": 2,
        "countries_without_tiles": ["CC"],
        "rescue_tiles": {"BB": 84 * 360 + 185},
    }


def test_tables_by_hand(tmp_path: Path) -> None:
    """Two rows of three tiles, and the rescue tile."""
    store = Store.open(tmp_path / "store")
    s1_tile_index.run(store, KEY, WORLD, POLICY)
    assert store.read_table("s1", KEY, "spans").to_pylist() == [
        {"country": 0, "row": 88, "col0": 180, "col1": 183},
        {"country": 0, "row": 89, "col0": 180, "col1": 183},
        {"country": 1, "row": 84, "col0": 185, "col1": 186},
    ]
    assert store.read_table("s1", KEY, "rescue_tiles").to_pylist() == [
        {"country": 1, "tile_id": 84 * 360 + 185}
    ]


def test_nothing_is_published_of_a_broken_world(tmp_path: Path) -> None:
    """An open ring: an error, and no object."""
    world = small_world({"AA": [box(0, 0, 3, 2)]})
    world.polygons.lat[-1] = 1.0
    store = Store.open(tmp_path / "store")
    with pytest.raises(InputError, match="E001_GEO_INVALID"):
        s1_tile_index.run(store, KEY, world, POLICY)
    assert not store.has("s1", KEY)


def test_the_real_world_survives_the_store(tmp_path: Path, real_world: World) -> None:
    """All countries, at five minutes; published twice, the logical digests are the same."""
    policy = TileIndexPolicy(resolution_arcsec=300, predicate="center")
    digests = []
    for name in ("a", "b"):
        store = Store.open(tmp_path / name)
        made = s1_tile_index.run(store, KEY, real_world, policy)
        loaded = s1_tile_index.load(store, KEY, len(real_world.countries))
        assert bits(loaded) == bits(made)
        assert loaded.tiles.dtype == np.int64
        tables = store.manifest("s1", KEY).tables
        digests.append({table: entry.logical_digest for table, entry in tables.items()})
    assert digests[0] == digests[1]
    assert set(digests[0]) == {"spans", "rescue_tiles"}
