"""One local Ray for all tests of this room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.session import RayOptions, RaySession

HERE = str(Path(__file__).parent)


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker that this room adds."""
    config.addinivalue_line("markers", "starts_ray: starts a Ray of its own (several seconds)")


def python_path() -> str:
    """PYTHONPATH with which worker processes find the task functions of these tests, and the packages."""
    return os.pathsep.join([HERE, str(Path(HERE).parents[1])])


@pytest.fixture(scope="session")
def ray_session() -> Iterator[RaySession]:
    """Two CPUs, started once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", python_path())
    session = RaySession(RayOptions(workers=2, max_retries=2, object_store_bytes=200 << 20))
    session.start()
    session.wait()
    yield session
    session.close()
    patch.undo()
