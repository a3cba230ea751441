"""Several drivers and their tasks on one store: whatever a live driver's task has made, no pruning collects."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from faulty_filesystem import UnsyncedFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import key, open_store

from seg1b.errors import ContractError, StoreError
from seg1b.store.locks import Lease
from seg1b.store.store import Store

DRIVERS, OBJECTS = 3, 5
Step = tuple[str, int, int]

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("task", "task", "hear", "beat", "prune", "prune", "end")),
        st.integers(0, DRIVERS - 1),
        st.integers(0, OBJECTS - 1),
    ),
    max_size=30,
)


def publish(store: Store, number: int) -> None:
    """Publish an object, unless it is there."""
    if not store.has("s0c", key(f"o{number}")):
        with store.transaction("s0c", key(f"o{number}")) as publication:
            publication.facts["n"] = number


def play(root: Path, steps: Sequence[Step]) -> None:
    """A driver begins with its first step; each of its tasks claims what it makes (or finds) for it.

    The driver may hear of it later, or never.
    """
    driving, working = (open_store(root, UnsyncedFileSystem()) for _ in range(2))
    leases: dict[int, Lease] = {}
    made: dict[int, set[int]] = {}
    for what, driver, number in steps:
        if what == "prune":
            working.retention.prune(dry_run=False)
        elif what == "end":
            if driver in leases:
                leases.pop(driver).release()
                made.pop(driver)
        else:
            if driver not in leases:
                leases[driver], made[driver] = driving.lease(f"driver {driver}"), set()
            if what == "task":
                assert working.widen_lease(leases[driver].record.lease_id, [key(f"o{number}")])
                publish(working, number)
                made[driver].add(number)
            elif what == "hear":
                leases[driver].hold(keys=[key(f"o{n}") for n in made[driver]])
            else:
                leases[driver].heartbeat()
        for number in {n for numbers in made.values() for n in numbers}:
            assert driving.has("s0c", key(f"o{number}")), (what, driver, number)
    for lease in leases.values():
        lease.release()
    working.retention.prune(dry_run=False)
    assert not list(driving.layout.objects.glob("*/*"))
    assert not list(driving.layout.leases.iterdir() if driving.layout.leases.is_dir() else ())


@settings(max_examples=60)
@given(_STEPS)
def test_no_pruning_comes_between_a_task_and_its_driver(steps: list[Step]) -> None:
    """In any order of tasks, heartbeats and prunings; and when all drivers have ended, nothing is left behind."""
    root = Path(tempfile.mkdtemp())
    try:
        play(root / "runs", steps)
    finally:
        shutil.rmtree(root)


def test_a_heartbeat_keeps_what_a_task_has_claimed(tmp_path: Path) -> None:
    """The driver writes its lease from memory, and the claim of a task that it has not heard of stays."""
    play(tmp_path / "runs", [("beat", 0, 0), ("task", 0, 1), ("beat", 0, 0), ("prune", 1, 0)])


def test_a_driver_that_slept_longer_than_its_lease_hears_of_it(tmp_path: Path) -> None:
    """If somebody pruned meanwhile. What it relied on may be gone, and it must not go on as if nothing was."""
    now = [1000.0]
    sleeper, other = (Store.open(tmp_path / "runs", clock=lambda: now[0]) for _ in range(2))
    with sleeper.lease("certify", ttl_s=100.0) as lease:
        lease.hold(keys=[key("o1")])
        publish(sleeper, 1)
        now[0] += 101.0
        lease.heartbeat()  # late, but nobody pruned
        now[0] += 101.0
        assert {item.name for item in other.retention.prune(dry_run=False).collectable} >= {key("o1")}
        for renew in (lease.heartbeat, lambda: lease.hold(keys=[key("o2")])):
            with pytest.raises(StoreError, match="E_STORE_LEASE_LOST"):
                renew()
    assert list(sleeper.layout.leases.iterdir()) == []


def test_a_lease_that_is_gone_is_not_brought_back(tmp_path: Path) -> None:
    """A task that outlives its driver claims nothing, so nothing leaks."""
    store = open_store(tmp_path / "runs")
    lease = store.lease("certify")
    lease.release()
    assert store.widen_lease(lease.record.lease_id, [key("o1")]) is False
    assert list(store.layout.leases.iterdir()) == []
    with pytest.raises(ContractError, match="E_STORE_NAME"):
        store.widen_lease("../x", [key("o1")])
