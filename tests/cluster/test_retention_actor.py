"""The actor holds nothing of its own: kill it, run two, let its creator end; the store's word stands."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from cluster.executor import RayExecutor
from cluster.retention import RetentionClient, RetentionKeeper
from cluster.session import RaySession
from seg1b.errors import InputError
from seg1b.store.receipts import Receipt, new_run_id
from seg1b.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty run store."""
    return Store.open(tmp_path / "runs")


def publish_run(store: Store) -> str:
    """A run with a receipt and no outputs."""
    run_id = new_run_id()
    store.receipts.publish(Receipt(run_id, {"seed": 42}, {}))
    return run_id


def test_a_keeper_finds_what_another_wrote(store: Store) -> None:
    """Pointers and leases are in the store, so a new keeper has them."""
    run_id = publish_run(store)
    first = RetentionKeeper(str(store.root))
    first.set_pointer("current_candidate", run_id)
    first.claim("a" * 32, {"pid": 1, "host": "h", "purpose": "test"}, [run_id], [], 60.0)
    second = RetentionKeeper(str(store.root))
    assert second.pointers() == {"current_candidate": run_id}
    assert second.status()["leases"] == {"a" * 32: "test"}
    second.heartbeat("a" * 32)
    second.release("a" * 32)
    second.release("a" * 32)
    assert first.status()["leases"] == {}


def test_a_heartbeat_for_a_lost_lease_is_an_error(store: Store) -> None:
    """What the lease held may be gone: silence would be a lie."""
    with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID"):
        RetentionKeeper(str(store.root)).heartbeat("b" * 32)


def test_a_lease_protects_a_run_until_it_expires(store: Store) -> None:
    """Unclaimed runs go, claimed ones stay, and a claim whose heart stopped counts no longer."""
    kept, gone = publish_run(store), publish_run(store)
    keeper = RetentionKeeper(str(store.root))
    keeper.claim("a" * 32, {"purpose": "test"}, [kept], [], 60.0)
    dry = keeper.prune()
    assert [item.name for item in dry.collectable] == [gone]
    assert not dry.removed
    assert len(store.receipts.run_ids()) == 2
    assert keeper.prune(dry_run=False).removed
    assert store.receipts.run_ids() == (kept,)
    keeper.claim("a" * 32, {"purpose": "test"}, [], [], 0.01)
    time.sleep(0.05)
    keeper.prune(dry_run=False)
    assert store.receipts.run_ids() == ()


def test_claiming_twice_widens_one_lease(store: Store) -> None:
    """A repeated call after a crash of the actor must not leave two leases."""
    runs = sorted(publish_run(store) for _ in range(2))
    keeper = RetentionKeeper(str(store.root))
    for run_id in (*runs, runs[0]):
        keeper.claim("a" * 32, {"purpose": "test"}, [run_id], [], 60.0)
    assert len(list(store.layout.leases.glob("*.json"))) == 1
    assert not keeper.prune().collectable


def test_a_killed_actor_restarts_and_keeps_pointers(ray_session: RaySession, store: Store) -> None:
    """SIGKILL twice; the answer is the same, from another process."""
    run_id = publish_run(store)
    client = RetentionClient(store.root)
    client.set_pointer("last_good", run_id)
    client.claim("c" * 32, run_ids=[run_id])
    pids = []
    for _ in range(2):
        status = client.status()
        assert status["pointers"] == {"last_good": run_id}
        assert list(status["leases"]) == ["c" * 32]
        assert status["collectable_bytes"] == 0
        pids.append(status["pid"])
        os.kill(status["pid"], signal.SIGKILL)
    client.heartbeat("c" * 32)
    assert client.pointers() == {"last_good": run_id}
    assert client.status()["pid"] not in pids
    assert len(set(pids)) == 2
    client.release("c" * 32)
    mine = store._staging.session()
    assert set(store.layout.staging.iterdir()) == {mine, mine.with_suffix(".lock")}  # the actor left nothing


def test_errors_of_the_store_come_through_the_actor(ray_session: RaySession, store: Store) -> None:
    """A mistyped run and a folder that is no store, in the store's own words."""
    client = RetentionClient(store.root)
    with pytest.raises(InputError, match="E_STORE_UNKNOWN_ID: pointer last_good cannot be set") as caught:
        client.set_pointer("last_good", "f" * 32)
    assert type(caught.value) is InputError
    with pytest.raises(InputError, match="E_STORE_MISSING: there is no run store here"):
        RetentionClient(store.root / "nowhere").status()


def test_two_drivers_share_the_actor_and_collect_no_more_than_nobody_needs(
    ray_session: RaySession, store: Store
) -> None:
    """Two clients, and a plain store beside them, claim, point and prune at once: every claimed run stays."""
    runs = [publish_run(store) for _ in range(8)]
    clients = [RetentionClient(store.root), RetentionClient(store.root)]
    clients[0].claim("0" * 32, run_ids=runs[:3])
    clients[1].claim("1" * 32, run_ids=runs[3:6])
    store.pointers.set("baseline_authority", runs[6])
    failures: list[BaseException] = []

    def drive(client: RetentionClient, lease_id: str, mine: list[str]) -> None:
        try:
            for run_id in mine:
                client.set_pointer("current_candidate", run_id)
                client.heartbeat(lease_id)
                client.prune(dry_run=False)
        except BaseException as error:  # noqa: BLE001 (asserted below)
            failures.append(error)

    threads = [
        threading.Thread(target=drive, args=(clients[i], f"{i}" * 32, runs[3 * i : 3 * i + 3]))
        for i in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for _ in range(3):
        store.retention.prune(dry_run=False)
    for thread in threads:
        thread.join()
    assert not failures
    assert set(store.receipts.run_ids()) == set(runs[:7])
    assert clients[0].status()["pid"] == clients[1].status()["pid"]
    assert clients[0].pointers()["current_candidate"] in runs[:6]


def test_an_actor_whose_creator_ended_is_created_again(ray_session: RaySession, store: Store) -> None:
    """`ray.kill` without restart is what happens to it when its creator leaves a joined cluster."""
    import ray

    run_id = publish_run(store)
    client = RetentionClient(store.root)
    client.set_pointer("last_good", run_id)
    ray.kill(ray.get_actor(client.actor_name, namespace="seg1b"), no_restart=True)
    assert client.pointers() == {"last_good": run_id}


def test_a_driver_prunes_before_ray_is_up_and_through_the_actor_afterwards(
    ray_session: RaySession, store: Store
) -> None:
    """The same authority: first the store itself, then the actor, which then exists under its name."""
    import ray

    run_id = publish_run(store)
    name = RetentionClient(store.root).actor_name
    early = RayExecutor().retention(store)
    early.set_pointer("last_good", run_id)
    assert not early.prune(dry_run=False).collectable
    with pytest.raises(ValueError, match=name):
        ray.get_actor(name, namespace="seg1b")
    later = RayExecutor(session=ray_session).retention(store)
    later.set_pointer("current_candidate", run_id)
    assert later.prune().live[0].name == run_id
    assert ray.get_actor(name, namespace="seg1b") is not None
    assert store.pointers.get("current_candidate") == run_id
