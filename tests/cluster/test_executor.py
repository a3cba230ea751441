"""The same expectations of every executor, then what only processes can do wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray_tasks
from numpy.typing import NDArray

from cluster.executor import RayExecutor
from cluster.session import RaySession
from seg1b.errors import ContractError, InputError
from seg1b.lanes.executor import Executor, SerialExecutor, Task, ThreadExecutor
from seg1b.store.store import Store


@dataclass(frozen=True)
class Table:
    """A shared value with an array in it."""

    values: NDArray[np.int64]


@pytest.fixture
def ray_executor(ray_session: RaySession) -> Iterator[RayExecutor]:
    """A fresh executor on the common session."""
    with RayExecutor(session=ray_session) as executor:
        yield executor


@pytest.fixture(params=["serial", "threads", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Each implementation in turn."""
    if request.param == "serial":
        return SerialExecutor()
    if request.param == "threads":
        return ThreadExecutor(workers=2)
    ray: RayExecutor = request.getfixturevalue("ray_executor")
    return ray


def collect(executor: Executor) -> dict[tuple[str, ...], Any]:
    """Receipts by key."""
    return {completion.task.key: completion.receipt for completion in executor.completions()}


def squares(count: int) -> list[Task]:
    """Tasks whose receipts are known, of different costs."""
    return [Task(("square", f"{i}"), ray_tasks.square, (i,), cost=float(i % 3)) for i in range(count)]


def test_every_task_is_answered_once_by_its_key(executor: Executor) -> None:
    """Twelve tasks, twelve receipts."""
    executor.start()
    executor.start()
    for task in squares(12):
        executor.submit(task)
    found = [(completion.task.key, completion.receipt) for completion in executor.completions()]
    assert sorted(found) == sorted((("square", f"{i}"), i * i) for i in range(12))
    assert list(executor.completions()) == []
    assert executor.describe()["executor"] == executor.name


def test_the_order_of_submission_changes_nothing(executor: Executor) -> None:
    """Backwards, the same receipts."""
    for task in reversed(squares(9)):
        executor.submit(task)
    assert collect(executor) == {("square", f"{i}"): i * i for i in range(9)}


def test_tasks_submitted_while_others_finish_are_run_too(executor: Executor) -> None:
    """Each of three tasks leads to a follow-up, and one of those to another."""
    for i in range(3):
        executor.submit(Task(("first", f"{i}"), ray_tasks.square, (i + 2,)))
    found = {}
    for completion in executor.completions():
        found[completion.task.key] = completion.receipt
        kind, number = completion.task.key
        if kind == "first":
            executor.submit(Task(("second", number), ray_tasks.square, (completion.receipt,)))
        if (kind, number) == ("second", "0"):
            executor.submit(Task(("third", number), ray_tasks.square, (completion.receipt,)))
    assert found == {
        ("first", "0"): 4, ("first", "1"): 9, ("first", "2"): 16,
        ("second", "0"): 16, ("second", "1"): 81, ("second", "2"): 256, ("third", "0"): 256,
    }  # fmt: skip


def test_a_task_sees_the_values_shared_before_it_was_submitted(executor: Executor) -> None:
    """Sharing an array gives its sums."""
    executor.share("table", Table(np.arange(1000, dtype=np.int64)))
    for i in (0, 990):
        executor.submit(Task((f"{i}",), ray_tasks.total, ("table", i)))
    assert collect(executor) == {("0",): 499500, ("990",): 9945}


def test_an_error_of_a_task_arrives_as_it_was_raised(executor: Executor, tmp_path: Path) -> None:
    """Class, code, message, place and next step survive; afterwards the executor can be used again."""
    executor.submit(Task(("bad",), ray_tasks.note_and_fail, (str(tmp_path), "E_GAP")))
    with pytest.raises(InputError) as caught:
        list(executor.completions())
    assert type(caught.value) is InputError
    assert str(caught.value) == "E_GAP: the catalogue has a gap\n  where: row 7\n  next:  close the gap"
    assert caught.value.exit_code == 2
    executor.submit(Task(("good",), ray_tasks.square, (3,)))
    assert collect(executor) == {("good",): 9}


def test_a_bug_in_a_task_is_executed_once(executor: Executor, tmp_path: Path) -> None:
    """One execution, one ZeroDivisionError: retries are for crashes."""
    executor.submit(Task(("bug",), ray_tasks.note_and_divide, (str(tmp_path),)))
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        list(executor.completions())
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_cancels_what_has_not_begun(executor: Executor, tmp_path: Path) -> None:
    """A hundred queued tasks do not run on after the costliest failed."""
    executor.submit(Task(("bad",), ray_tasks.note_and_fail, (str(tmp_path), "E_GAP"), cost=9.0))
    for task in squares(100):
        executor.submit(task)
    with pytest.raises(InputError, match="E_GAP"):
        list(executor.completions())
    assert list(executor.completions()) == []


def test_the_notes_of_an_error_say_where_it_happened(ray_executor: RayExecutor, tmp_path: Path) -> None:
    """For a bug, the worker's traceback is at hand without being part of the message."""
    ray_executor.submit(Task(("bug",), ray_tasks.note_and_divide, (str(tmp_path),)))
    with pytest.raises(ZeroDivisionError) as caught:
        list(ray_executor.completions())
    assert "In worker " in caught.value.__notes__[0]
    assert "note_and_divide" in caught.value.__notes__[0]


def test_an_exception_that_cannot_travel_is_told_in_words(ray_executor: RayExecutor) -> None:
    """A local exception class becomes a ContractError with its name and message."""
    ray_executor.submit(Task(("odd",), ray_tasks.fail_with_odd_exception))
    with pytest.raises(ContractError, match="E_RAY_TASK: a task failed in a worker: OddError: seven is odd"):
        list(ray_executor.completions())


def test_a_function_that_cannot_travel_is_refused_at_once(ray_executor: RayExecutor) -> None:
    """A lambda is refused when it is submitted, by the task's name."""
    with pytest.raises(ContractError, match="E_RAY_PICKLE: task s4/42 cannot be sent to a worker") as caught:
        ray_executor.submit(Task(("s4", "42"), lambda shared: 1))
    assert "module-level function" in caught.value.next_step


def test_a_receipt_that_cannot_travel_is_an_error(ray_executor: RayExecutor) -> None:
    """The error says that it is the receipt."""
    ray_executor.submit(Task(("receipt",), ray_tasks.unpicklable_receipt))
    with pytest.raises(ContractError, match="E_RAY_PICKLE: a task's receipt cannot be sent"):
        list(ray_executor.completions())


def test_shared_arrays_are_mapped_not_copied(ray_executor: RayExecutor) -> None:
    """They arrive read-only, in memory that is not theirs, and at one place for all tasks of a process."""
    ray_executor.share("table", Table(np.arange(1 << 18, dtype=np.int64)))
    for i in range(6):
        ray_executor.submit(Task((f"{i}",), ray_tasks.array_facts, ("table",)))
    places: dict[str, set[int]] = {}
    for completion in ray_executor.completions():
        assert completion.receipt["writeable"] is False
        assert completion.receipt["owns"] is False
        places.setdefault(completion.worker, set()).add(completion.receipt["address"])
    assert all(len(addresses) == 1 for addresses in places.values())


def test_sharing_again_does_not_change_what_queued_tasks_see(ray_executor: RayExecutor) -> None:
    """The value is the one of the moment of submission, also for a process that has seen another."""
    for value in ("old", "new"):
        ray_executor.share("word", value)
        for i in range(4):
            ray_executor.submit(Task((value, f"{i}"), ray_tasks.shared_value, ("word",)))
    found = collect(ray_executor)
    assert found == {(value, f"{i}"): value for value in ("old", "new") for i in range(4)}


def test_two_worker_processes_share_the_work(ray_executor: RayExecutor) -> None:
    """The telemetry counts tasks per process, and the processes are not this one."""
    for i in range(6):
        ray_executor.submit(Task((f"{i}",), ray_tasks.process_id, (0.3,)))
    completions = list(ray_executor.completions())
    assert len({completion.receipt for completion in completions}) == 2
    facts = ray_executor.describe()
    assert facts["workers"] == 2
    assert sum(facts["tasks_by_worker"].values()) == facts["tasks"] == 6
    assert set(facts["tasks_by_worker"]) == {completion.worker for completion in completions}
    assert all(completion.worker.endswith(f"/pid-{completion.receipt}") for completion in completions)
    assert facts["cpus"] == 2.0
    assert len(facts["nodes"]) == 1


def test_libraries_use_as_many_threads_as_a_task_has_cpus(ray_executor: RayExecutor) -> None:
    """Polars and numba know nothing of Ray; the worker told them before it imported them."""
    ray_executor.submit(Task(("threads",), ray_tasks.thread_limits))
    assert collect(ray_executor) == {("threads",): {"polars": 1, "numba": 1}}


def test_a_killed_worker_is_replaced_and_its_task_repeated(ray_executor: RayExecutor, tmp_path: Path) -> None:
    """SIGKILL in the middle of nine tasks gives the receipts of an undisturbed run."""
    for i in range(8):
        ray_executor.submit(Task(("square", f"{i}"), ray_tasks.square, (i,)))
    ray_executor.submit(Task(("square", "8"), ray_tasks.die_at_first, (str(tmp_path), 1, 8), cost=9.0))
    assert collect(ray_executor) == {("square", f"{i}"): i * i for i in range(9)}
    assert len(list(tmp_path.iterdir())) == 2


def test_retries_after_crashes_are_bounded(ray_executor: RayExecutor, tmp_path: Path) -> None:
    """A task that always kills its worker runs 1 + max_retries times, then says so by name."""
    ray_executor.submit(Task(("s6", "42", "FR"), ray_tasks.die_at_first, (str(tmp_path), 99, 1)))
    with pytest.raises(ContractError, match="E_RAY_WORKER_LOST: task s6/42/FR lost its worker process"):
        list(ray_executor.completions())
    assert len(list(tmp_path.iterdir())) == 1 + ray_executor.options.max_retries


def test_a_closed_executor_takes_no_tasks(ray_session: RaySession) -> None:
    """Closing twice is fine; a borrowed session goes on."""
    executor = RayExecutor(session=ray_session)
    executor.close()
    executor.close()
    with pytest.raises(ContractError, match="E_RAY_CLOSED"):
        executor.submit(squares(1)[0])
    assert ray_session.connected


def test_a_worker_closes_the_store_that_its_task_was_given(ray_executor: RayExecutor, tmp_path: Path) -> None:
    """While the workers live on, no temporary folder, no lock file and no open descriptor of theirs is left."""
    with Store.open(tmp_path / "runs") as store:
        for number in range(4):
            ray_executor.submit(Task(("publish", f"{number}"), ray_tasks.publish, (store, f"{number:064x}")))
        assert os.getpid() not in collect(ray_executor).values()
        assert len(list((store.layout.objects / "s3").iterdir())) == 4
        assert list(store.layout.staging.iterdir()) == []
