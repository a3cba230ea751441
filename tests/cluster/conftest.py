"""One local Ray for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ray_tasks import python_path

from cluster.session import RayOptions, RaySession


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker that this room adds."""
    config.addinivalue_line("markers", "starts_ray: starts a Ray of its own (several seconds)")


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
