"""One seed of the small certification in a store, and candidates of it that cost little."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faulty_filesystem import UnsyncedFileSystem
from lane_cases import one_seed

from seg1b.lanes import waves
from seg1b.lanes.tune import tune
from seg1b.lanes.tune_result import TuneResult
from seg1b.policy.load import Policies
from seg1b.store.store import Store
from seg1b.world.content import World

LOSING = {"gates.hard_gates.top1_share.b": 0.01, "gates.hard_gates.top1_share.b_plus": 0.01}
"""A threshold that no catalogue meets: judged again, a B gate is lost."""

AMBER = {"gates.hard_gates.top1_share.b_plus": 0.01}
"""Only B+ is out of reach."""


@contextmanager
def opened(root: Path) -> Iterator[Store]:
    """The store, without waiting for the disk."""
    with Store.open(root, fs=UnsyncedFileSystem()) as store:
        yield store


def candidate(
    root: Path, world: World, overrides: dict[str, Any], policies: Policies | None = None, **options: Any
) -> TuneResult:
    """Tune seed 42 and leave the wave as it is."""
    with opened(root) as store:
        return tune(store, policies or one_seed(), world, seed=42, overrides=overrides, **options)


def tried(root: Path, world: World, overrides: dict[str, Any], **options: Any) -> TuneResult:
    """Tune seed 42 and drop the wave."""
    found = candidate(root, world, overrides, **options)
    with opened(root) as store:
        if waves.open_wave(store) is not None:
            waves.drop(store)
    return found


def kept(root: Path, world: World, overrides: dict[str, Any], **options: Any) -> str:
    """Tune seed 42, keep the candidate, and return its run."""
    found = candidate(root, world, overrides, **options)
    with opened(root) as store:
        waves.keep(store, found.run_id)
    return found.run_id


def contents(root: Path) -> dict[str, str]:
    """Digest of every durable file of a store: what a refused command must not change."""
    passing = (".staging", "leases", "logs")
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in (*passing, ".lock", ".driver")
    }
