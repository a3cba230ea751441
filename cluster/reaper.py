"""A tiny helper process that outlives a killed driver just long enough to clean up after it.

The kernel ends Ray's servers with the driver that started them, but Ray's own agents, which are children of
those servers, go on for more than a minute. This script waits until its standard input ends (the driver has
closed it, or has died in whatever way) and then ends exactly the processes it was told of, and removes Ray's
temporary folder.

Run as a script with `python -S -E`, so that it costs a few megabytes and milliseconds; it imports nothing of
seg1b.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

_GRACE_S = 2.0
_POLL_S = 0.05


def start_ticks(process_id: int) -> int | None:
    """When a process started (clock ticks since boot), None if it is gone; numbers are used again."""
    try:
        with open(f"/proc/{process_id}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def descendants(process_id: int) -> list[int]:
    """All children, children of children and so on of a process; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    names = os.listdir("/proc") if os.path.isdir("/proc") else []
    for name in filter(str.isdigit, names):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found, todo = [], [process_id]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return sorted(found)


def end(processes: dict[int, int], grace_s: float = _GRACE_S) -> None:
    """Give processes (number to start ticks) a moment to end by themselves, then end them."""
    deadline_s = time.monotonic() + grace_s
    while any(start_ticks(number) == ticks for number, ticks in processes.items()):
        if time.monotonic() > deadline_s:
            break
        time.sleep(_POLL_S)
    for number, ticks in processes.items():
        if start_ticks(number) == ticks:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue


def main() -> None:
    """`reaper.py FOLDER`, with `process-number start-ticks` lines on standard input."""
    lines = sys.stdin.read().split("\n")
    end({int(number): int(ticks) for number, ticks in (line.split() for line in lines if line)})
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
