"""The real world, loaded once for all tests of a process that need it."""

from __future__ import annotations

import pytest
from hypothesis import settings

from seg1b.lanes.world_stage import WorldStage, compute_world
from seg1b.policy.load import default_policies
from seg1b.world.bundle import load_world
from seg1b.world.content import World

settings.register_profile("seg1b", deadline=None)  # no test is timed
settings.load_profile("seg1b")


@pytest.fixture(scope="session")
def real_world() -> World:
    """The embedded world."""
    return load_world()


@pytest.fixture(scope="session")
def world_stage(real_world: World) -> WorldStage:
    """The embedded world with the default policies at 30 arc-seconds: about 3 seconds and 1 GB."""
    return compute_world(default_policies(), real_world)
