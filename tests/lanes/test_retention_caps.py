"""The pruning before a run: newest runs within the cap, and no run where reachable outputs alone exceed it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seg1b.errors import InputError
from seg1b.lanes.executor import DirectRetention
from seg1b.lanes.retention import prune_before_run
from seg1b.policy.retention import RetentionPolicy
from seg1b.store.receipts import Receipt
from seg1b.store.store import Store
from seg1b.store.usage import usage

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from store_cases import key

SIZE = 100_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four runs of a tenth of a megabyte each; the oldest is the last good one."""
    store = Store.open(tmp_path / "runs")
    for number in range(4):
        with store.transaction("s4", key(f"o{number}")) as publication:
            publication.add_bytes("data", bytes(SIZE))
        run_id = f"{number + 1:032x}"
        store.receipts.publish(Receipt(run_id, {}, {"s4": key(f"o{number}")}))
    store.pointers.set("last_good", f"{1:032x}")
    return store


def kept(store: Store, newest: int, cap_bytes: int) -> set[int]:
    """Runs that are left."""
    policy = RetentionPolicy(keep_newest_runs=newest, live_bytes_max=cap_bytes)
    prune_before_run(DirectRetention(store), policy, store.root)
    return {int(run_id, 16) for run_id in store.receipts.run_ids()}


@pytest.mark.parametrize(
    ("newest", "cap_bytes", "left"),
    [(3, 10 * SIZE, {1, 2, 3, 4}), (2, 10 * SIZE, {1, 3, 4}), (0, 10 * SIZE, {1}),
     (3, 4 * SIZE, {1, 3, 4}), (3, 3 * SIZE, {1, 4}), (3, 2 * SIZE, {1})],
)  # fmt: skip
def test_fewer_of_the_newest_are_kept_where_the_cap_asks(
    store: Store, newest: int, cap_bytes: int, left: set[int]
) -> None:
    """What is reachable stays in any case."""
    assert kept(store, newest, cap_bytes) == left


def test_no_run_starts_where_the_reachable_alone_exceeds_the_cap(store: Store) -> None:
    """And nothing is removed. It is the user's business, not an internal error."""
    with pytest.raises(InputError, match="E_STORE_CAP") as error:
        kept(store, 3, SIZE // 2)
    assert error.value.exit_code == 2
    assert "runs du" in error.value.next_step
    assert len(store.receipts.run_ids()) == 4


def test_packs_and_logs_count_and_temporary_files_do_not(store: Store) -> None:
    """Fewer of the newest runs are kept for them; what is left cannot go, so it is refused, by name."""
    with store.certifications.publish("c" * 64) as folder:
        folder.add_bytes("egress", bytes(SIZE))
    (store.root / "logs").mkdir()
    (store.root / "logs" / "certify.log").write_bytes(bytes(SIZE))
    (store.layout.staging / "half").mkdir(parents=True)
    (store.layout.staging / "half" / "file").write_bytes(bytes(100 * SIZE))
    found = usage(store.retention.plan(), store.root)
    assert 3 * SIZE < found.kept_bytes < 4 * SIZE
    assert found.beside.temporary_bytes >= 100 * SIZE
    assert kept(store, 3, 5 * SIZE) == {1, 4}
    assert kept(store, 3, 4 * SIZE) == {1}
    with pytest.raises(InputError, match=r"E_STORE_CAP.*packs have 100\.\d kB, logs and records 100\.\d kB"):
        kept(store, 3, 3 * SIZE)
    slack = 1000  # the lock's file, which counts, says who had it last
    assert kept(store, 3, found.kept_bytes + slack) == {1}
    with pytest.raises(InputError, match="E_STORE_CAP"):
        kept(store, 3, found.kept_bytes - slack)
