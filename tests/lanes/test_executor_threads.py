"""What only threads can do: run side by side, and be waited for when one of them fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from seg1b.errors import InputError
from seg1b.lanes.executor import Executor, SerialExecutor, Task, ThreadExecutor


def note(shared: Mapping[str, Any], name: str) -> str:
    """Say that it runs."""
    shared["log"].append(name)
    return name


def meet(shared: Mapping[str, Any], name: str) -> str:
    """Wait until as many others run as the barrier wants."""
    shared["barrier"].wait(timeout=30.0)
    return name


def fail_once_others_run(shared: Mapping[str, Any]) -> None:
    """An error of ours, while the other task is at work."""
    shared["begun"].wait(timeout=30.0)
    raise InputError("E_GAP", "the catalogue has a gap")


def work_through_an_error(shared: Mapping[str, Any]) -> None:
    """Begin, let the other one fail, take a while, end."""
    shared["begun"].set()
    time.sleep(0.2)
    shared["log"].append("ended")


def interrupt(shared: Mapping[str, Any]) -> None:
    """As if Ctrl-C came while this ran."""
    shared["begun"].wait(timeout=30.0)
    raise KeyboardInterrupt


@pytest.mark.parametrize("executor", [SerialExecutor(), ThreadExecutor(workers=1)])
def test_the_costliest_task_runs_first(executor: Executor) -> None:
    """Also when it is submitted while others finish; equals in the order of submission."""
    log: list[str] = []
    executor.share("log", log)
    for name, cost in (("small", 1.0), ("large", 9.0), ("middle", 5.0), ("middle too", 5.0)):
        executor.submit(Task((name,), note, (name,), cost))
    for completion in executor.completions():
        if completion.task.key == ("large",):
            executor.submit(Task(("late",), note, ("late",), 7.0))
    assert log == ["large", "late", "middle", "middle too", "small"]


def test_as_many_tasks_run_at_once_as_there_are_workers() -> None:
    """Three meet; none of them could end alone."""
    executor = ThreadExecutor(workers=3)
    executor.share("barrier", threading.Barrier(3))
    for number in range(6):
        executor.submit(Task((f"{number}",), meet, (f"{number}",)))
    assert sorted(done.receipt for done in executor.completions()) == [f"{number}" for number in range(6)]
    assert executor.describe() == {"executor": "threads", "workers": 3}


@pytest.mark.parametrize(
    ("fault", "error"), [(fail_once_others_run, InputError), (interrupt, KeyboardInterrupt)]
)
def test_after_an_error_running_tasks_end_and_the_others_never_begin(
    fault: Any, error: type[BaseException]
) -> None:
    """When the error arrives here nothing runs any more, and nothing is left in the queue."""
    log: list[str] = []
    executor = ThreadExecutor(workers=2)
    executor.share("log", log)
    executor.share("begun", threading.Event())
    executor.submit(Task(("bad",), fault, (), 9.0))
    executor.submit(Task(("good",), work_through_an_error, (), 8.0))
    for number in range(20):
        executor.submit(Task((f"{number}",), note, (f"{number}",)))
    before = threading.active_count()
    with pytest.raises(error):
        list(executor.completions())
    assert log == ["ended"]
    assert threading.active_count() == before
    assert list(executor.completions()) == []


def test_ctrl_c_while_it_waits_ends_it_when_the_running_tasks_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The main thread hears of Ctrl-C where it waits for tasks."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    log: list[str] = []
    executor = ThreadExecutor(workers=1)
    executor.share("log", log)
    executor.share("begun", threading.Event())
    executor.submit(Task(("good",), work_through_an_error, (), 8.0))
    executor.submit(Task(("other",), note, ("other",)))
    monkeypatch.setattr("seg1b.lanes.executor.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(executor.completions())
    assert log == ["ended"]
    monkeypatch.undo()
    assert list(executor.completions()) == []
