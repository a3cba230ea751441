"""The negative controls on the real world: each fails what it must, and the honest placement passes all of that."""

from __future__ import annotations

import numpy as np
import pytest

from seg1b.lanes import controls
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import Policies, default_policies, set_values
from seg1b.scoring.controls import CONTROLS
from seg1b.world.content import World


@pytest.fixture(scope="module")
def quick() -> Policies:
    """The defaults with few bootstrap replicates, which decide no control."""
    return set_values(default_policies(), {"gates.bootstrap.replicates": 100})


@pytest.fixture(scope="module")
def rows(quick: Policies, real_world: World, world_stage: WorldStage) -> dict[str, controls.ControlRow]:
    """All of them, with the world that other tests have made already."""
    patch = pytest.MonkeyPatch()
    patch.setattr(controls, "compute_world", lambda _policies, _world: world_stage)
    try:
        found = controls.run_controls(quick, real_world, seed=7)
    finally:
        patch.undo()
    return {row.control: row for row in found}


@pytest.mark.parametrize("name", [*(control.name for control in CONTROLS), controls.FIRST_ENGINE])
def test_every_control_fails_what_it_must(rows: dict[str, controls.ControlRow], name: str) -> None:
    """The gate made for it sees it."""
    row = rows[name]
    assert row.must_fail
    assert set(row.must_fail) <= set(row.failed)
    assert row.ok


def test_the_honest_placement_fails_nothing_that_a_control_must(rows: dict[str, controls.ControlRow]) -> None:
    """So it is the control that fails the gate, not the world."""
    row = rows[controls.HONEST]
    never = {name for control in CONTROLS for name in control.must_fail}
    assert row.ok
    assert not never & set(row.failed)
    assert len(rows) == len(CONTROLS) + 2


def test_a_blind_gate_is_reported() -> None:
    """A control that passes what it must fail is not ok, nor is an honest placement that fails."""
    assert not controls._row("uniform_scatter", "", ("prior_kl", "nn_p50_km"), ("prior_kl",)).ok
    assert not controls._row(controls.HONEST, "", (), ("population_pit_mean",)).ok


def test_the_first_engine_knows_no_people(
    quick: Policies, real_world: World, world_stage: WorldStage
) -> None:
    """Largest remainder on area weights puts almost half of its sites where nobody lives."""
    pairs = controls.synthetic_pairs(world_stage, quick, 7)
    old = controls.first_engine_sites(world_stage.world, real_world, pairs, quick, 7)
    honest = controls.honest_sites(world_stage.world, pairs, quick, 7)
    assert len(old) == len(honest) == int(pairs.n_sites.sum())
    people = [
        world_stage.world.surface.population_at(sites.country, sites.tile_id) for sites in (old, honest)
    ]
    assert np.mean(people[0] == 0) > 0.4
    assert np.mean(people[1] == 0) < 0.02
