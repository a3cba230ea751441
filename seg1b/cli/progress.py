"""Live progress on stderr: a table of seeds in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from seg1b.cli.runtime import Session
    from seg1b.lanes.certify import Event

_STEPS = {"prepare": "catalogue and requirements", "place": "placing", "validate": "replay and scores"}
_PARTS = {"prepare": (0.0, 0.2), "place": (0.2, 0.4), "validate": (0.6, 0.4)}
"""Where a stage begins and how much of a seed it is. The witness runs beside a seed and is not part of its bar."""


@contextmanager
def watching(session: Session, seeds: Sequence[int]) -> Iterator[Callable[[Event], None]]:
    """An observer for the certification and tuning lanes."""
    if session.err.is_terminal:
        with _live(session, seeds) as observer:
            yield observer
    else:
        yield _plain(session)


def _plain(session: Session) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        if event.done == 0 and event.stage != "world":
            return
        who = "" if event.seed is None else f" seed {event.seed}"
        elapsed = time.perf_counter() - session.started
        session.err.print(
            f"{elapsed:7.1f} s {event.stage}{who} {event.done}/{event.total}", markup=False, soft_wrap=True
        )

    return observe


@contextmanager
def _live(session: Session, seeds: Sequence[int]) -> Iterator[Callable[[Event], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: list[Any] = [
        TextColumn("{task.description:<10}"), BarColumn(bar_width=24),
        TextColumn("{task.fields[step]:<28}"), TimeElapsedColumn(),
    ]  # fmt: skip
    with Progress(*columns, console=session.err, transient=True) as progress:
        world = progress.add_task("world", total=1, step="tiles, weights, shares")
        rows = {
            seed: progress.add_task(f"seed {seed}", total=1.0, step="waiting", start=False) for seed in seeds
        }
        last = progress.add_task("publish", total=1, step="", start=False)

        def observe(event: Event) -> None:
            if event.stage in ("world", "publish"):
                task = world if event.stage == "world" else last
                progress.start_task(task)
                step = "done" if event.done == event.total else "report and certificate"
                step = "tiles, weights, shares" if event.stage == "world" and not event.done else step
                progress.update(task, completed=event.done, total=event.total, step=step)
                if event.stage == "world" and event.done == event.total:
                    for row in rows.values():
                        progress.start_task(row)
                        progress.update(row, step=_STEPS["prepare"])
                return
            if event.seed not in rows or event.stage not in _PARTS:
                return
            row = rows[event.seed]
            progress.update(row, completed=_done(event), step=_step(event))
            if _done(event) >= 1.0:
                progress.stop_task(row)

        yield observe


def _done(event: Event) -> float:
    """Share of a seed's work that an event stands for, by typical times."""
    part = event.done / max(event.total, 1)
    start, weight = _PARTS[event.stage]
    return start + weight * part


def _step(event: Event) -> str:
    if event.stage == "place":
        return f"placed {event.done} of {event.total} shards"
    if event.stage == "prepare":
        return _STEPS["place"]
    return "done" if event.done == event.total else _STEPS.get(event.stage, event.stage)
