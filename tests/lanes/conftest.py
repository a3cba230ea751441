"""Certifications that many tests of this room look at; none of them may change them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lane_cases import Certified, WorldCache, copied, fast_world, small_policies

from seg1b.lanes.certify import certify
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies
from seg1b.store.store import Store
from seg1b.world.content import World


@pytest.fixture(scope="session")
def world_cache(world_stage: WorldStage) -> WorldCache:
    """The session's world stages."""
    return WorldCache(world_stage)


@pytest.fixture
def quick(world_cache: WorldCache) -> Iterator[None]:
    """Certifications and verifications of this test do not compute the world again."""
    with fast_world(world_cache):
        yield


@pytest.fixture(scope="session")
def small(real_world: World, tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """Two seeds of 600 merchants, the world published too."""
    root = tmp_path_factory.mktemp("small") / "runs"
    policies = small_policies()
    with Store.open(root) as store:
        return Certified(certify(store, policies, real_world), root, policies)


@pytest.fixture
def folder(small: Certified, tmp_path: Path) -> Path:
    """A copy of the small certification that a test may spoil."""
    return copied(small.result.path, tmp_path / "copy")


@pytest.fixture(scope="session")
def default_certification(real_world: World, tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """The default workload: 10,000 merchants, seeds 42, 7, 101 and 202, packaged gates, this process alone."""
    root = tmp_path_factory.mktemp("default") / "runs"
    with Store.open(root) as store:
        return Certified(certify(store, default_policies(), real_world), root, default_policies())
