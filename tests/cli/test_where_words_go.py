"""Whole processes whose words go to a reader that leaves, to a full disk, or nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL = Path("/dev/full")
KNOBS = ("config", "show")
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""As users have it: what is written into a pipe waits until it is flushed."""
LACKS = ("screen", "no such file.csv")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")


def ended(*arguments: str, **where: Any) -> subprocess.CompletedProcess[str]:
    """A command that has ended; `where` its stdout and stderr go, PIPE unless it is said."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **where}
    command = [sys.executable, "-m", "seg1b", *arguments]
    return subprocess.run(command, check=False, text=True, timeout=60, env=BUFFERED, **pipes)


def nobody() -> int:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_full_disk_below_stdout_is_said(json_too: tuple[str, ...]) -> None:
    """On stderr, as an error like others; not as a defect, and not as a traceback."""
    with FULL.open("w") as full:
        done = ended(*KNOBS, *json_too, stdout=full)
    assert done.returncode == 2
    assert "error  E_OUTPUT_WRITE  the result cannot be written" in done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_usage_error_arrives() -> None:
    """It is told before there is a command, and by nobody else."""
    for arguments in (("nonsense",), ("tune", "--nonsense")):
        done = ended(*arguments, "--json")
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["code"] == "E_USAGE"


@pytest.mark.parametrize("arguments", [("--help",), ("nonsense", "--json")])
def test_what_there_is_to_say_without_a_command_may_find_no_reader(arguments: tuple[str, ...]) -> None:
    """Nothing is said of it."""
    write = nobody()
    done = ended(*arguments, stdout=write)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def test_help_says_it_too() -> None:
    """Help is printed before there is a command, and so is what is wrong with its name."""
    for arguments in (("--help",), ("nonsense", "--json")):
        with FULL.open("w") as full:
            done = ended(*arguments, stdout=full)
        assert (done.returncode, done.stderr.split()[1]) == (2, "E_OUTPUT_WRITE")
        assert "Traceback" not in done.stderr


def test_a_full_disk_below_stderr_stops_nothing() -> None:
    """What was to be said there is lost, the result and the exit code are what they are."""
    with FULL.open("w") as full:
        good, bad = ended(*KNOBS, "--json", stderr=full), ended(*LACKS, stderr=full)
    assert good.returncode == 0
    assert json.loads(good.stdout)
    assert bad.returncode == 2


def test_an_error_that_stdout_does_not_take_is_said_on_stderr() -> None:
    """Of two things that are wrong, the one that the user can mend in the input."""
    with FULL.open("w") as full:
        done = ended(*LACKS, "--json", stdout=full)
    assert done.returncode == 2
    assert "E_CATALOGUE_FILE_MISSING" in done.stderr


@pytest.mark.parametrize("arguments", [KNOBS, (*KNOBS, "--json"), (*LACKS, "--json")])
def test_a_reader_that_has_left_is_no_error(arguments: tuple[str, ...]) -> None:
    """As with `| head`: nothing is said, and nothing is wrong."""
    write = nobody()
    done = ended(*arguments, stdout=write)
    os.close(write)
    assert done.returncode == 0
    assert "error" not in done.stderr


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_stream_that_was_closed_from_the_start_takes_nothing(closed: str) -> None:
    """`>&-` and `2>&-`, as some supervisors start programs."""
    command = " ".join([sys.executable, "-m", "seg1b", *KNOBS, "--json"])
    done = subprocess.run(
        ["sh", "-c", f"{command} {closed}>&-"], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert json.loads(done.stdout) if closed == "2" else not done.stdout


def test_what_waits_for_the_end_of_the_process_is_done() -> None:
    """Handlers of `atexit` run, and a thread at work is waited for, though Python is not taken apart."""
    code = (
        "import atexit, sys, threading, time; from seg1b.cli import app;"
        "atexit.register(print, 'handler', flush=True);"
        "app.run = lambda _: threads and threading.Thread(target=slow).start() or 3;"
        "slow = lambda: (time.sleep(0.3), print('thread', flush=True));"
        "threads = sys.argv[1] == 'threads'; app.main()"
    )
    for kind, said in (("none", "handler\n"), ("threads", "thread\nhandler\n")):
        done = subprocess.run(
            [sys.executable, "-c", code, kind], check=False, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (3, said, "")
