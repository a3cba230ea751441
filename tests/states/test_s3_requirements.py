"""S3 counts what the sealed catalogue asks for, less what the denylist takes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seed_cases import COUNTRIES, catalogue

from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.catalogue.outlets import from_pairs
from seg1b.catalogue.verify import verify_bundle
from seg1b.errors import InputError
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies, set_values
from seg1b.states import s0_gate, s3_requirements
from seg1b.states.tables import Pairs
from seg1b.store.store import Store

SEAL, KEY = "c" * 64, "3" * 64
DEFAULTS = default_policies()


@pytest.fixture
def store(world_stage: WorldStage, tmp_path: Path) -> Store:
    """A store with a sealed catalogue."""
    write_user_catalogue(tmp_path / "bundle", catalogue(world_stage.world.countries))
    opened = Store.open(tmp_path / "runs")
    s0_gate.seal_catalogue(opened, SEAL, verify_bundle(tmp_path / "bundle"))
    return opened


def run(store: Store, stage: WorldStage, tiles: Any = None, **knobs: Any) -> Pairs:
    """S3 with some knobs."""
    policy = set_values(DEFAULTS, {f"s3.{name}": value for name, value in knobs.items()}).requirements
    tiles = stage.world.index.tiles if tiles is None else tiles
    return s3_requirements.run(store, KEY, SEAL, stage.world.countries, tiles, stage.shares, policy)


def test_counts_are_the_catalogues(store: Store, world_stage: WorldStage) -> None:
    """Sorted by country and merchant, published and read back the same."""
    pairs = run(store, world_stage)
    assert len(pairs.country) == 12 * len(COUNTRIES)
    key = list(zip(pairs.country.tolist(), pairs.merchant_id.tolist(), strict=True))
    assert key == sorted(key)
    again = s3_requirements.load(store, KEY, world_stage.world.iso)
    assert np.array_equal(again.n_sites, pairs.n_sites)
    facts = store.manifest("s3", KEY).facts
    assert facts["sites"] == facts["source_sites"] == int(pairs.n_sites.sum())
    assert facts["merchants"] == 12
    assert facts["country_metrics"]["active_countries"] == len(COUNTRIES)


def test_a_denied_country_is_left_out_and_listed(store: Store, world_stage: WorldStage) -> None:
    """Its sites are numbered, and it stays in the denominators."""
    pairs = run(store, world_stage, denylist_country_iso=("NA", "DE"))
    namibia = world_stage.world.country_index["NA"]
    assert namibia not in pairs.country
    facts = store.manifest("s3", KEY).facts
    assert facts["denied"] == {
        "country_iso": ["DE", "NA"],
        "pairs": 12,
        "sites": sum(1 + 3 * m for m in range(12)),
    }
    assert facts["source_sites"] == facts["sites"] + facts["denied"]["sites"]
    eligible = int(world_stage.world.countries.eligible.sum())
    assert facts["country_metrics"]["eligible_country_nonzero_share"] == 4 / eligible


def test_a_merchant_that_is_denied_everywhere_is_not_counted(world_stage: WorldStage, tmp_path: Path) -> None:
    """Of four merchants one is in Namibia alone and one there too; pairs come by country and merchant."""
    world = world_stage.world.countries
    index = world.index_of
    places = [(1, "DE"), (2, "NA"), (3, "DE"), (3, "NA"), (4, "BR")]
    country = np.array([index[iso] for _, iso in places], np.int16)
    ids, ones = np.array([m for m, _ in places], np.uint64), np.ones(5, np.int32)
    home = np.array([index[iso] for iso in ("DE", "NA", "DE", "DE", "BR")], np.int16)
    write_user_catalogue(tmp_path / "bundle", from_pairs(world.iso, ids, country, ones, home))
    store = Store.open(tmp_path / "runs")
    s0_gate.seal_catalogue(store, SEAL, verify_bundle(tmp_path / "bundle"))
    pairs = run(store, world_stage, denylist_country_iso=("NA",))
    assert [(world.iso[c], int(m)) for c, m in zip(pairs.country, pairs.merchant_id, strict=True)] == [
        ("BR", 4),
        ("DE", 1),
        ("DE", 3),
    ]
    assert store.manifest("s3", KEY).facts["merchants"] == 3


def test_a_disabled_denylist_denies_nobody(store: Store, world_stage: WorldStage) -> None:
    """The list may stay in the file."""
    run(store, world_stage, denylist_country_iso=("NA",), enabled=False)
    assert store.manifest("s3", KEY).facts["denied"] == {"country_iso": [], "pairs": 0, "sites": 0}


@pytest.mark.parametrize("enabled", [True, False])
def test_a_denied_country_that_does_not_exist_is_an_error(
    store: Store, world_stage: WorldStage, enabled: bool
) -> None:
    """A typing error must not silently deny nobody; the code is named."""
    with pytest.raises(InputError, match=r"E315_POLICY_ISO_UNKNOWN.*'XZ'") as caught:
        run(store, world_stage, denylist_country_iso=("XZ",), enabled=enabled)
    assert "s3.requirements.yaml" in caught.value.where
    assert not store.has("s3", KEY)


def test_a_country_without_tiles_is_an_error(store: Store, world_stage: WorldStage) -> None:
    """By name; denying it is a way out."""
    tiles = np.array(world_stage.world.index.tiles)
    tiles[[world_stage.world.country_index[iso] for iso in ("MC", "NA")]] = 0
    with pytest.raises(InputError, match=r"E303_MISSING_WEIGHTS.*MC") as caught:
        run(store, world_stage, tiles)
    assert caught.value.where == "country MC and 1 more"
    assert not store.has("s3", KEY)
    assert len(run(store, world_stage, tiles, denylist_country_iso=("MC", "NA")).country) == 36


def test_nothing_left_to_place_is_an_error(store: Store, world_stage: WorldStage) -> None:
    """A denylist of every country that the catalogue has is the user's mistake, and said to be."""
    with pytest.raises(InputError, match="E316_NOTHING_REQUIRED"):
        run(store, world_stage, denylist_country_iso=COUNTRIES)
    assert not store.has("s3", KEY)
