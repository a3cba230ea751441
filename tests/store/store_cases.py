"""Small tables and keys that the store's tests share."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from seg1b.store.filesystem import FileSystem
from seg1b.store.state_keys import state_key
from seg1b.store.store import Store


def key(name: str, seed: int | None = None) -> str:
    """A state key."""
    return state_key(name, 1, None, {}, {}, seed)


def sites(*countries: str, rows: int = 3, shift: float = 0.0) -> pa.Table:
    """A table of `rows` sites per country, sorted by country and order."""
    return pa.table(
        {
            "country_iso": pa.array([iso for iso in countries for _ in range(rows)], pa.string()),
            "site_order": pa.array([i for _ in countries for i in range(rows)], pa.int32()),
            "lon_deg": pa.array([i + shift for _ in countries for i in range(rows)], pa.float64()),
        }
    )


def fixed_clock() -> float:
    """Always the same second."""
    return 1000.0


def open_store(root: Path, fs: FileSystem | None = None) -> Store:
    """Open a store with a fixed clock."""
    return Store.open(root, fs=fs, clock=fixed_clock)


def visible_files(root: Path) -> dict[str, bytes]:
    """Every file of a store but locks, temporary ones and those that say when."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in {".lock", "published.json"} and ".staging" not in path.parts
    }
