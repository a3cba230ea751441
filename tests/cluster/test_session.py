"""A session of our own leaves nothing behind; a cluster of somebody else's can be joined and stays."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_tasks import python_path

pytestmark = pytest.mark.starts_ray

DRIVER = """
import sys, time
from cluster.executor import RayExecutor
from cluster.session import RayOptions
from seg1b.lanes.executor import Task
import ray_tasks

if __name__ == "__main__":
    address, wait_s = sys.argv[1] or None, float(sys.argv[2])
    with RayExecutor(RayOptions(address=address, workers=None if address else 1)) as executor:
        for i in range(2):
            executor.submit(Task((f"{i}",), ray_tasks.square, (i + 5,)))
        found = {c.task.key[0]: c.receipt for c in executor.completions()}
        facts = executor.describe()
        print(sorted(found.items()), facts["started_here"], facts["cpus"], flush=True)
        executor.submit(Task(("long",), ray_tasks.process_id, (wait_s,)))
        print("waiting", flush=True)
        list(executor.completions())
    print("closed", flush=True)
"""


def environment(folder: Path) -> dict[str, str]:
    """Workers find the task functions; a mark by which every process of this test can be recognised."""
    own = {"PYTHONPATH": python_path(), "SEG1B_TEST_MARK": str(folder), "TMPDIR": str(folder / "t")}
    return {**os.environ, **own}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of Ray's sockets, with a temporary folder `t` in it."""
    folder = Path(tempfile.mkdtemp(prefix="seg1b-t-", dir="/tmp"))
    (folder / "t").mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def marked_processes(folder: Path) -> set[int]:
    """Processes that inherited the mark."""
    mark, found = f"SEG1B_TEST_MARK={folder}".encode(), set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until_gone(folder: Path, limit_s: float = 15.0) -> set[int]:
    """The marked processes that are left after a while; the empty set as soon as there is none."""
    deadline_s = time.monotonic() + limit_s
    while (left := marked_processes(folder)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return left


def start_driver(folder: Path, address: str, wait_s: float) -> subprocess.Popen[str]:
    """A driver in its own process."""
    script = folder / "driver.py"
    script.write_text(DRIVER, encoding="utf-8")
    command = [sys.executable, str(script), address, f"{wait_s}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        env=environment(folder),
        cwd=folder,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def read_until(driver: subprocess.Popen[str], word: str) -> list[str]:
    """Lines up to the one that starts with a word (or the end, if the driver died)."""
    assert driver.stdout is not None
    lines = []
    for line in driver.stdout:
        lines.append(line.strip())
        if line.startswith(word):
            break
    return lines


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_nothing_is_left_of_an_interrupted_driver(short_folder: Path, name: str) -> None:
    """Ctrl-C and even kill -9 in the middle of a task leave neither processes nor folders."""
    driver = start_driver(short_folder, "", 60.0)
    lines = read_until(driver, "waiting")
    assert lines == ["[('0', 25), ('1', 36)] True 1.0", "waiting"], driver.communicate(timeout=30)[1]
    assert len(marked_processes(short_folder)) > 3
    time.sleep(0.3)
    os.killpg(driver.pid, signal.Signals[name]) if name == "SIGINT" else driver.kill()
    _, messages = driver.communicate(timeout=30)
    assert driver.returncode != 0
    assert ("KeyboardInterrupt" in messages) == (name == "SIGINT")
    assert wait_until_gone(short_folder) == set()
    assert not list((short_folder / "t").iterdir())


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def foreign_cluster(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster started on the command line, as a platform engineer would; its address."""
    port = free_port()
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}",
        "--num-cpus=2",
        "--include-dashboard=false", "--disable-usage-stats", f"--object-store-memory={100 << 20}",
        f"--temp-dir={short_folder / 'ray'}", f"--ray-client-server-port={free_port()}",
        "--dashboard-agent-listen-port=0",
        "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    log = (short_folder / "head.log").open("wb")
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # the drivers get the same
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    head = subprocess.Popen(command, env=environment(short_folder), stdout=log, stderr=log, cwd=short_folder)
    try:
        deadline_s = time.monotonic() + 40
        while "Ray runtime started" not in (text := (short_folder / "head.log").read_text()):
            assert time.monotonic() < deadline_s, text
            assert head.poll() is None, text
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        try:
            head.wait(timeout=20)
        finally:
            for process_id in wait_until_gone(short_folder, 10.0):
                os.kill(process_id, signal.SIGKILL)  # marked: started by this test
            log.close()


def test_joining_a_cluster_and_leaving_it_running(short_folder: Path, foreign_cluster: str) -> None:
    """A driver joins, works, leaves; the next one finds the cluster as it was."""
    for _ in range(2):
        driver = start_driver(short_folder, foreign_cluster, 0.1)
        out, messages = driver.communicate(timeout=60)
        assert out.splitlines() == ["[('0', 25), ('1', 36)] False 2.0", "waiting", "closed"], messages
        assert driver.returncode == 0
