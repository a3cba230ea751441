"""The first engine's methods go through a shard and S9 like ours, and the replay finds no difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seed_cases import FINGERPRINT, catalogue, place

from seg1b.kernels.replay_jitter_v1 import MixtureRule
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies, default_policies, set_values
from seg1b.states import s9_replay
from seg1b.states.plan import SeedIdentity
from seg1b.states.required_pairs import required_pairs
from seg1b.states.s9_draws import mixture_rule
from seg1b.states.shard import ShardRun
from seg1b.states.tables import (
    ASSIGNMENT_TABLE,
    JITTER_TABLE,
    PLAN_TABLE,
    placement_from_arrow,
    plan_from_arrow,
)
from seg1b.store.store import Store

ISOS = ("FJ", "FR", "NA")
MODES: dict[str, dict[str, Any]] = {
    "uniform_v1": {"s6.mode": "uniform_v1"},
    "mixture_v2": {"s6.mode": "mixture_v2"},
    "largest_remainder_v1": {"s4.mode": "largest_remainder_v1"},
    "rng_v1": {"s5.rng": "v1"},
    "systematic_pps": {"s4.mode": "systematic_pps"},
    "the_whole_first_engine": {
        "s4.mode": "largest_remainder_v1",
        "s5.rng": "v1",
        "s6.mode": "mixture_v2",
        "s5.v1_manifest_fingerprint": "1" * 64,
        "s6.v1_manifest_fingerprint": "2" * 64,
    },
}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_runs_through_a_shard_and_replays_without_a_difference(
    world_stage: WorldStage, tmp_path: Path, mode: str
) -> None:
    """S4 to S8 published as one part; the same rows as in memory; every check of S9 passes with zero."""
    policies = set_values(default_policies(), MODES[mode])
    world = world_stage.world
    tables = place(world, policies, 42, ISOS, 8)
    identity = SeedIdentity(42, {s: f"{i:064x}" for i, s in enumerate(("S4", "S5", "S6", "S8"))}, FINGERPRINT)
    with Store.open(tmp_path / "runs") as store:
        ShardRun(store, world, policies, identity, "part-00000", tables.pairs, "nobody").run()
        plan = store.read_part("s4", identity.keys["S4"], "part-00000", PLAN_TABLE)
        tile = store.read_part("s5", identity.keys["S5"], "part-00000", ASSIGNMENT_TABLE)
        jitter = store.read_part("s6", identity.keys["S6"], "part-00000", JITTER_TABLE)
    assert np.array_equal(plan_from_arrow(world.iso, plan).tile_id, tables.plan.tile_id)
    assert np.array_equal(tile.column("tile_id").to_numpy().astype(np.int64), tables.assigned_tile)
    assert np.array_equal(placement_from_arrow(jitter).lon_deg, tables.placement.lon_deg)
    assert np.array_equal(placement_from_arrow(jitter).component, tables.placement.component)
    found = s9_replay.run(world, tables, policies, 42, FINGERPRINT)
    assert {check.name: check.differing for check in found.checks} == dict.fromkeys(
        (check.name for check in found.checks), 0
    )
    assert set(found.violations.values()) == {0}
    assert found.blocks["in_cell_jitter"] == int(tables.placement.attempts.sum()) * (
        1 if policies.jitter.mode != "cluster_v3" else 2
    )


def test_the_modes_are_not_the_default(world_stage: WorldStage) -> None:
    """Each mode changes what it should: otherwise the test above would run one method six times."""
    world = world_stage.world
    usual = place(world, default_policies(), 42, ISOS, 8)
    for mode in ("systematic_pps", "largest_remainder_v1"):
        other = place(world, set_values(default_policies(), MODES[mode]), 42, ISOS, 8)
        assert not np.array_equal(other.plan.tile_id, usual.plan.tile_id)
    v1 = place(world, set_values(default_policies(), MODES["rng_v1"]), 42, ISOS, 8)
    assert np.array_equal(v1.plan.tile_id, usual.plan.tile_id)
    assert not np.array_equal(v1.assigned_tile, usual.assigned_tile)
    for mode, components in {"uniform_v1": {255}, "mixture_v2": {0, 1, 2}}.items():
        other = place(world, set_values(default_policies(), MODES[mode]), 42, ISOS, 8)
        assert np.array_equal(other.assigned_tile, usual.assigned_tile)
        assert set(np.unique(other.placement.component).tolist()) == components


def with_fingerprint(assignment: str | None, jitter: str | None) -> Policies:
    """v1 draws, keyed by the engine's fingerprints."""
    return set_values(
        default_policies(),
        {
            "s5.rng": "v1",
            "s6.mode": "uniform_v1",
            "s5.v1_manifest_fingerprint": assignment,
            "s6.v1_manifest_fingerprint": jitter,
        },
    )


def test_v1_streams_are_keyed_by_the_engines_fingerprint_or_else_this_runs(world_stage: WorldStage) -> None:
    """Stating the run's own fingerprint changes nothing; another one changes the state whose it is."""
    world = world_stage.world
    own = place(world, with_fingerprint(None, None), 42, ISOS, 8)
    same = place(world, with_fingerprint(FINGERPRINT, FINGERPRINT), 42, ISOS, 8)
    other_s5 = place(world, with_fingerprint("1" * 64, FINGERPRINT), 42, ISOS, 8)
    other_s6 = place(world, with_fingerprint(None, "1" * 64), 42, ISOS, 8)
    assert np.array_equal(own.assigned_tile, same.assigned_tile)
    assert np.array_equal(own.lon_deg, same.lon_deg)
    assert not np.array_equal(own.assigned_tile, other_s5.assigned_tile)
    assert np.array_equal(own.assigned_tile, other_s6.assigned_tile)
    assert not np.array_equal(own.lon_deg, other_s6.lon_deg)


def test_a_tampered_v1_point_is_found(world_stage: WorldStage) -> None:
    """The v1 replay compares to the last bit too."""
    from seed_cases import edited, with_placement

    policies = set_values(default_policies(), MODES["uniform_v1"])
    tables = place(world_stage.world, policies, 42, ISOS, 8)
    lon = edited(tables.placement.lon_deg, lambda v: v.__setitem__(0, np.nextafter(v[0], 400)))
    found = s9_replay.run(world_stage.world, with_placement(tables, lon_deg=lon), policies, 42, FINGERPRINT)
    assert {check.name for check in found.checks if not check.passed} == {"s6_points", "s8_coordinates"}


def test_the_v1_mixture_of_the_replay_is_the_policys(world_stage: WorldStage) -> None:
    """Blend, weights and exponents arrive where they belong."""
    policies = set_values(default_policies(), {"s6.mixture_v2.core.exponent_lon": 1.7})
    rule = mixture_rule(policies)
    assert isinstance(rule, MixtureRule)
    assert rule[0] == 0.5
    assert np.asarray(rule[3])[0].tolist() == [1.7, 1.6]


def test_pairs_come_from_the_catalogue(world_stage: WorldStage) -> None:
    """The helper of these tests asks for what its docstring says."""
    source = catalogue(world_stage.world.countries, ISOS, 8)
    pairs, denied = required_pairs(source, world_stage.world.countries, default_policies().requirements)
    assert int(pairs.n_sites.sum()) == 3 * sum(1 + 3 * m for m in range(8))
    assert denied == {"country_iso": [], "pairs": 0, "sites": 0}
