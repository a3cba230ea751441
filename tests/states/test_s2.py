"""S2 through the store: runs with population and weight, and the country shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_worlds import bits, box, small_world

from seg1b.errors import InputError
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies
from seg1b.policy.models import TileWeightsPolicy
from seg1b.states import s2_shares, s2_weights
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface, build_surface
from seg1b.world.tile_index import build_tile_index
from seg1b.world.weights import TileWeights, build_weights

KEY = state_key("s2w", 1, None, {}, {}, None)
POLICY = default_policies().tile_weights
WORLD = small_world(
    {"AA": [box(0, 0, 3, 2)], "BB": [box(5, 0, 8, 3)], "CC": [[(1.1, 1.1), (1.2, 1.1), (1.3, 1.1)]]},
    [("AA", 1.5, 0.5, 700)],
    {"AA": 1000},
)


def test_published_and_loaded_are_the_same(tmp_path: Path) -> None:
    """A country with people, one without, one without tiles: surface, weights and who has no mass."""
    store = Store.open(tmp_path / "store")
    index = build_tile_index(WORLD, Grid(360))
    made = s2_weights.run_weights(store, KEY, WORLD, index, POLICY)
    loaded = s2_weights.load_weights(store, KEY, index)
    for ours, theirs in zip(made, loaded, strict=True):
        assert bits(ours) == bits(theirs)
    assert made[1].zero_mass.tolist() == [False, True, False]
    assert store.manifest("s2w", KEY).facts["zero_mass_countries"] == ["BB"]
    assert store.manifest("s2w", KEY).facts["people"] == 999
    store.verify_object("s2w", KEY)


def test_split_runs_keep_their_people(tmp_path: Path) -> None:
    """The weights may cut a run; the published surface is the same, tile by tile."""
    store = Store.open(tmp_path / "store")
    index = build_tile_index(WORLD, Grid(360))
    plain = build_surface(WORLD, index, POLICY.surface)
    surface, weights = s2_weights.run_weights(store, KEY, WORLD, index, POLICY)
    assert isinstance(surface, PopulationSurface)
    assert isinstance(weights, TileWeights)
    assert len(surface.tile0) > len(plain.tile0)
    assert np.array_equal(surface.tile0, weights.tile0)
    assert np.array_equal(surface.totals, plain.totals)
    for country in range(2):
        row, col0, col1 = index.spans.of(country)
        spans = zip(row.tolist(), col0.tolist(), col1.tolist(), strict=True)
        tile = np.array([r * 3600 + c for r, a, b in spans for c in range(a, b)])
        asked = np.full(len(tile), country, np.int16)
        assert np.array_equal(surface.population_at(asked, tile), plain.population_at(asked, tile))


def test_rows_at_once_and_threads_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time with one thread, or all at once with two: the same file, byte for byte, and table."""
    index = build_tile_index(WORLD, Grid(360))
    found = []
    for rows, threads in ((1 << 23, 2), (7, 1)):
        monkeypatch.setattr("seg1b.states.s2_weights._ROWS_AT_ONCE", rows)
        monkeypatch.setattr("seg1b.kernels.jit.threads", lambda threads=threads: threads)
        store = Store.open(tmp_path / str(rows))
        s2_weights.run_weights(store, KEY, WORLD, index, POLICY)
        manifest = store.manifest("s2w", KEY)
        found.append((manifest.tables["runs"].logical_digest, manifest.files["runs.parquet"].sha256))
    assert found[0] == found[1]


def test_too_few_digits_publish_nothing(tmp_path: Path) -> None:
    """dp = 6 cannot serve a country of more than 10,000 tiles."""
    store = Store.open(tmp_path / "store")
    policy = TileWeightsPolicy(**(POLICY.model_dump() | {"dp": 6}))
    index = build_tile_index(small_world({"AA": [box(0, 0, 11, 10)]}), Grid(360))
    with pytest.raises(InputError, match="E103_DP_TOO_SMALL"):
        s2_weights.run_weights(store, KEY, small_world({"AA": [box(0, 0, 11, 10)]}), index, policy)
    assert not store.has("s2w", KEY)


def test_the_real_world_survives_the_store(tmp_path: Path, real_world: World) -> None:
    """All countries at five minutes: the same bits from the store, and the same digest again."""
    index = build_tile_index(real_world, Grid(300))
    digests = []
    for name in ("a", "b"):
        store = Store.open(tmp_path / name)
        made = s2_weights.run_weights(store, KEY, real_world, index, POLICY)
        loaded = s2_weights.load_weights(store, KEY, index)
        assert [bits(part) for part in made] == [bits(part) for part in loaded]
        digests.append(store.manifest("s2w", KEY).tables["runs"].logical_digest)
    assert digests[0] == digests[1]
    surface = build_surface(real_world, index, POLICY.surface)
    assert bits(build_weights(surface, POLICY.mix, POLICY.dp)) == bits(made[1])


def test_shares_survive_the_store(tmp_path: Path, real_world: World, world_stage: WorldStage) -> None:
    """The certified shares, their prices and bounds, from the store as computed."""
    store = Store.open(tmp_path / "store")
    world = world_stage.world
    made = s2_shares.run(
        store, KEY, real_world, world.index, world.surface, default_policies().country_shares
    )
    loaded = s2_shares.load(store, KEY)
    assert bits(loaded) == bits(made) == bits(world_stage.shares)
    assert int(made.share_ppm.sum()) == 1_000_000
