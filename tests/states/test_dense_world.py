"""A user's raster through the states: the same rows as from runs of the same people, and S2's own two tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seed_cases import FINGERPRINT, place
from small_worlds import as_runs, bits, box, small_world

from seg1b.policy.load import Policies, default_policies, set_values
from seg1b.policy.models import TileMix
from seg1b.scoring.measure import ScoringContext, make_context, tally
from seg1b.scoring.sites import make_sites
from seg1b.states import s2_weights, s9_replay
from seg1b.states.world_model import WorldModel, assemble
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store
from seg1b.world.dense_surface import DenseSurface, Surface, dense_surface
from seg1b.world.grid import Grid
from seg1b.world.tile_index import build_tile_index
from seg1b.world.weights import build_weights

GRID = Grid(360)
KEY = state_key("s2w", 1, None, {}, {}, None)
ISOS = ("AA", "BB", "CC")
WORLD = small_world(
    {"AA": [box(0, 0, 3, 2)], "BB": [box(3, -2, 9, 4)], "CC": [box(-179.5, 10, -178, 12)]},
    [("AA", 1.5, 0.5, 60_000), ("BB", 5.5, -1.5, 700), ("CC", -179, 11, 90)],
    {"AA": 1000},
)
INDEX = build_tile_index(WORLD, GRID)
MODES: tuple[dict[str, Any], ...] = (
    {},
    {"s4.mode": "systematic_pps"},
    {"s4.mode": "largest_remainder_v1", "s5.rng": "v1", "s6.mode": "mixture_v2"},
    {"s2w.mix.population": 0.5, "s2w.mix.area": 0.25, "s2w.mix.uniform": 0.25},
)


def people(kind: str = "f4") -> DenseSurface:
    """Persons with empty tiles and many ties; nobody at all in CC."""
    rng = np.random.default_rng(8)
    tiles = int(INDEX.tiles.sum())
    persons = rng.choice([0, 0, 1, 3, 900, 5000], tiles) * rng.choice([1.0, 0.3], tiles)
    persons[tiles - int(INDEX.tiles[2]) :] = 0
    return dense_surface(INDEX, persons.astype(kind))


def model(surface: Surface, policies: Policies) -> WorldModel:
    """A model of the world with these people."""
    policy = policies.tile_weights
    weights = build_weights(surface, policy.mix, policy.dp)
    return assemble(WORLD, INDEX, surface, weights, policy.hilbert_block_tiles)


def context(surface: Surface) -> ScoringContext:
    """What scoring knows of them."""
    return make_context(
        iso=ISOS,
        macro_region=WORLD.countries.macro_region,
        eligible=np.asarray(WORLD.countries.eligible),
        prior=np.ones(3),
        market=np.ones(3),
        grid=GRID,
        settlement_lon_deg=WORLD.settlements.lon_e5 / 1e5,
        settlement_lat_deg=WORLD.settlements.lat_e5 / 1e5,
        settlement_population=WORLD.settlements.population,
        surfaces=[("placement", surface)],
        gates=default_policies().gates,
    )


@pytest.mark.parametrize("knobs", MODES, ids=["default", "systematic", "first_engine", "mixed"])
def test_every_row_is_that_of_runs(knobs: dict[str, Any]) -> None:
    """S4 to S8 in every mode, and S9's replay and tally of them, on both forms."""
    policies = set_values(default_policies(), knobs)
    dense = people()
    runs = as_runs(dense)
    worlds = model(dense, policies), model(runs, policies)
    tables = [place(world, policies, isos=ISOS) for world in worlds]
    assert bits(tables[0]) == bits(tables[1])
    for world in worlds:
        found = s9_replay.run(world, tables[0], policies, 42, FINGERPRINT)
        assert [check.name for check in found.checks if not check.passed] == []
    keys, placed = tables[0].jittered, tables[0].placement
    sites = make_sites(
        keys.merchant_id, keys.country, keys.site_order, placed.lon_deg, placed.lat_deg, placed.tile_id
    )
    assert bits(tally(sites, 42, context(dense))) == bits(tally(sites, 42, context(runs)))


def test_another_weight_is_another_plan() -> None:
    """The comparison above can fail: one tile with more people changes S4's rows, and the replay knows."""
    policies = default_policies()
    honest = people()
    persons = honest.persons.copy()
    persons[int(np.flatnonzero(persons)[40])] += 100_000
    other = model(dense_surface(INDEX, persons), policies)
    tables = place(other, policies, isos=ISOS)
    assert bits(tables) != bits(place(model(honest, policies), policies, isos=ISOS))
    found = s9_replay.run(model(honest, policies), tables, policies, 42, FINGERPRINT)
    assert "s4_plan" in {check.name for check in found.checks if not check.passed}


# S2's tables


@pytest.fixture
def by_raster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds whose raster holds `people`."""
    monkeypatch.setattr(s2_weights, "placement_surface", lambda *_: people())


@pytest.mark.usefixtures("by_raster")
@pytest.mark.parametrize("mix", [(0.0, 0.0, 1.0), (0.25, 0.25, 0.5)])
def test_published_and_loaded_are_the_same(tmp_path: Path, mix: tuple[float, float, float]) -> None:
    """One value a tile and one cut a country; no weight is written."""
    store = Store.open(tmp_path / "store")
    shares = TileMix(uniform=mix[0], area=mix[1], population=mix[2])
    policy = default_policies().tile_weights.model_copy(update={"mix": shares})
    made = s2_weights.run_weights(store, KEY, WORLD, INDEX, policy)
    loaded = s2_weights.load_weights(store, KEY, INDEX)
    for ours, theirs in zip(made, loaded, strict=True):
        assert bits(ours) == bits(theirs)
    manifest = store.manifest("s2w", KEY)
    assert set(manifest.tables) == {"tiles", "cuts"}
    assert manifest.rows("tiles") == manifest.facts["tiles"] == int(INDEX.tiles.sum())
    assert manifest.facts["zero_mass_countries"] == ["CC"]
    assert manifest.facts["people"] == int(made[0].totals.sum()) // 1_000_000
    store.verify_object("s2w", KEY)


@pytest.mark.usefixtures("by_raster")
def test_rows_at_once_and_threads_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred rows at a time with one thread, all at once with two or four: the same bytes and rows."""
    found = []
    for rows, threads in ((1 << 23, 2), (100, 1), (977, 4)):
        monkeypatch.setattr("seg1b.states.s2_weights._ROWS_AT_ONCE", rows)
        monkeypatch.setattr("seg1b.store.table_reader._ROWS_AT_ONCE", rows)
        monkeypatch.setattr("seg1b.kernels.jit.threads", lambda threads=threads: threads)
        store = Store.open(tmp_path / str(rows))
        s2_weights.run_weights(store, KEY, WORLD, INDEX, default_policies().tile_weights)
        manifest = store.manifest("s2w", KEY)
        files = sorted((name, entry.sha256) for name, entry in manifest.files.items())
        found.append((manifest.logical_digest, files, bits(s2_weights.load_weights(store, KEY, INDEX)[1])))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "f8"])
def test_a_raster_keeps_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Bytes stay bytes on disk and in memory."""
    surface = people("f8")
    whole = dense_surface(INDEX, np.minimum(surface.persons, 255).astype(kind))
    monkeypatch.setattr(s2_weights, "placement_surface", lambda *_: whole)
    store = Store.open(tmp_path / "store")
    s2_weights.run_weights(store, KEY, WORLD, INDEX, default_policies().tile_weights)
    loaded, _ = s2_weights.load_weights(store, KEY, INDEX)
    assert isinstance(loaded, DenseSurface)
    assert loaded.persons.dtype == np.dtype(kind)
    assert bits(loaded) == bits(whole)


def test_a_dense_model_is_read_only_and_small() -> None:
    """Every array in it, and no more than a few bytes a tile beside what any world has."""
    found = model(people(), default_policies())
    arrays = [
        getattr(part, field.name)
        for part in (found.surface, found.weights, found.pieces)
        for field in dataclasses.fields(part)
        if isinstance(getattr(part, field.name), np.ndarray)
    ]
    assert not any(array.flags.writeable for array in arrays)
    assert sum(array.nbytes for array in arrays) < 10 * int(INDEX.tiles.sum())
