"""Work that copies of the process share: the same results, the same errors, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from seg1b import forks
from seg1b.forks import share_out

copies = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux alone")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three CPUs, and, whatever the tests before left, one thread."""
    monkeypatch.setattr(forks, "usable_cpus", lambda: 3)
    monkeypatch.setattr(threading, "active_count", lambda: 1)


def children() -> set[int]:
    """Children of this process, at work or zombies; those of a process that runs many tests are not all ours."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """No test leaves a child behind."""
    before = children()
    yield
    assert children() <= before


def only_in_copies(action: Callable[[], object]) -> Callable[[int], int]:
    """Work that squares its item; a copy of this process does something else first, and it is waited for to begin."""
    parent = os.getpid()
    wait, begun = os.pipe()

    def work(item: int) -> int:
        if os.getpid() != parent:
            os.write(begun, b"!" * 100)
            action()
        os.read(wait, 1)
        return item * item

    return work


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("count", range(8))
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    """However many items a copy has; arrays come back bit for bit."""
    found = share_out(lambda item: np.sqrt(np.arange(item, item + 5)), range(count))
    assert [one.tobytes() for one in found] == [np.sqrt(np.arange(i, i + 5)).tobytes() for i in range(count)]


@copies
@pytest.mark.usefixtures("alone")
def test_as_many_processes_work_as_there_are_cpus(tmp_path: Path) -> None:
    """All three are at work at the same time, and none does what another does."""

    def work(item: int) -> tuple[int, int]:
        (tmp_path / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        (tmp_path / "done").mkdir(exist_ok=True)
        (tmp_path / "done" / f"{item}-{os.getpid()}").touch()
        return item, os.getpid()

    found = share_out(work, range(7))
    assert [item for item, _ in found] == list(range(7))
    assert len({pid for _, pid in found}) == 3
    assert {done.name for done in (tmp_path / "done").iterdir()} == {f"{item}-{pid}" for item, pid in found}


@copies
@pytest.mark.usefixtures("alone")
def test_more_items_than_a_pipe_has_room_for() -> None:
    """Several have a number in common then."""
    items = range(3 * forks._PARTS_MAX + 5)
    assert share_out(lambda item: item * item, items) == [item * item for item in items]


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (3, 2)])
def test_one_cpu_or_a_second_thread_means_no_copies(
    monkeypatch: pytest.MonkeyPatch, cpus: int, threads: int
) -> None:
    """A copy would lack the other thread, and whatever lock it holds would never be let go."""
    monkeypatch.setattr(forks, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    assert set(share_out(lambda _: os.getpid(), range(4))) == {os.getpid()}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("bad", [{0}, {1}, {2, 4}, {3, 5}])
def test_the_error_is_that_of_the_first_item_that_fails(bad: set[int]) -> None:
    """Whichever process met it, and whoever failed earlier by the clock."""

    def work(item: int) -> int:
        if item in bad:
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match=f"^item {min(bad)}$"):
        share_out(work, range(6))


@copies
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "death",
    [
        lambda: os._exit(0),
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: sys.exit("not a word of this is said"),
    ],
)
def test_what_a_copy_that_dies_leaves_undone_is_done_here(
    capfd: pytest.CaptureFixture[str], death: Callable[[], object]
) -> None:
    """Killed, gone or failed: all results are there."""
    assert share_out(only_in_copies(death), range(5)) == [0, 1, 4, 9, 16]
    assert capfd.readouterr() == ("", "")


@copies
@pytest.mark.usefixtures("alone")
def test_an_interrupt_ends_the_copies() -> None:
    """They would have slept for a minute."""
    parent = os.getpid()

    def work(item: int) -> int:
        if os.getpid() == parent:
            raise KeyboardInterrupt
        signal.alarm(60)
        signal.pause()
        return item

    with pytest.raises(KeyboardInterrupt):
        share_out(work, range(3))


KILLED = """
import os, sys, threading, time
from seg1b import forks
forks.usable_cpus = lambda: 3
parent = os.getpid()
wait, go = os.pipe()
def work(item):
    if os.getpid() == parent:  # which gets an item: its copies wait with theirs
        os.write(go, b"go")
        print("at work", flush=True)
        time.sleep(60)
    os.read(wait, 1)
    return bytes(1 << 20)
forks.share_out(work, range(3))
"""


@copies
def test_a_process_that_is_killed_leaves_no_copy_waiting() -> None:
    """Its copies have more to say than a pipe takes: they end, and whoever reads its words is not kept waiting."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        time.sleep(0.5)  # for the copies to fill their pipes
        process.kill()
        assert process.communicate(timeout=30) == (b"", b"")


IGNORED = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
parent = os.getpid()
from seg1b import forks
forks.usable_cpus = lambda: 3
assert forks.share_out(lambda item: item * item, range(20)) == [item * item for item in range(20)]
assert forks.share_out(lambda item: (item, os._exit(0) if os.getpid() != parent else 0)[0], range(9)) == [*range(9)]
"""


@copies
def test_copies_are_let_go_where_nobody_waits_for_children() -> None:
    """A supervisor may have SIGCHLD ignored, and a program inherits that."""
    subprocess.run([sys.executable, "-c", IGNORED], check=True, capture_output=True, timeout=60)
