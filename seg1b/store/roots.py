"""Who keeps things alive: the records, packs and leases whose naming of a run or key is a reason to keep it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seg1b.errors import StoreError
from seg1b.store.filesystem import storage_errors
from seg1b.store.layout import Layout
from seg1b.store.locks import LeaseRecord
from seg1b.store.manifest import read_json
from seg1b.store.tables import damaged

PERFORMANCE_BASELINE = "baseline"
CLOSED_WAVE_STATUSES = frozenset({"closed", "abandoned"})
_HEX_TOKEN = re.compile(rb"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f])")


@dataclass(frozen=True)
class Root:
    """One holder, and the run ids and keys that it names."""

    holder: str
    named: frozenset[str]


Leases = Sequence[LeaseRecord]
RootReader = Callable[[Layout, Leases], list[Root]]


def _pointers(layout: Layout, _: Leases) -> list[Root]:
    return _records("pointer", _json_files(layout.pointers))


def _phase_locks(layout: Layout, _: Leases) -> list[Root]:
    return _records("lock", _json_files(layout.phase_locks))


def _performance_baseline(layout: Layout, _: Leases) -> list[Root]:
    path = layout.performance / f"{PERFORMANCE_BASELINE}.json"
    return [Root("performance baseline", _tokens(path))] if path.is_file() else []


def _phases(layout: Layout, _: Leases) -> list[Root]:
    return _records("phase", _json_files(layout.phases))


def _open_waves(layout: Layout, _: Leases) -> list[Root]:
    return _records("wave", [path for path in _json_files(layout.waves) if not _is_closed(path)])


def _certifications(layout: Layout, _: Leases) -> list[Root]:
    folder = layout.certifications
    packs = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        Root(
            f"certification {pack.name[:12]}",
            frozenset().union(*(_tokens(path) for path in sorted(pack.rglob("*.json")))),
        )
        for pack in packs
    ]


def lease_roots(_: Layout, live: Leases) -> list[Root]:
    """What running drivers claim."""
    return [
        Root(f"lease of {lease.owner.get('purpose', 'a driver')}", frozenset((*lease.run_ids, *lease.keys)))
        for lease in live
    ]


ROOTS: Mapping[str, RootReader] = {
    "pointer": _pointers,
    "lock": _phase_locks,
    "performance baseline": _performance_baseline,
    "phase": _phases,
    "wave": _open_waves,
    "certification": _certifications,
    "lease": lease_roots,
}
"""Every kind of holder. Closed waves, guard verdicts, other timings and the ledger name things and keep nothing."""


def read_roots(layout: Layout, live: Leases) -> list[Root]:
    """All holders. `live`: leases that have not expired. Raises StoreError for a holder that cannot be read."""
    return [root for read in ROOTS.values() for root in read(layout, live)]


def read_leases(layout: Layout) -> list[LeaseRecord]:
    """All leases. Raises StoreError E_STORE_DAMAGED for one that cannot be read: it might hold something."""
    found = (read_lease(path) for path in _json_files(layout.leases))
    return [record for record in found if record is not None]


def read_lease(path: Path) -> LeaseRecord | None:
    """A lease, or None if it is gone. Raises StoreError E_STORE_DAMAGED for one that cannot be read."""
    try:
        return LeaseRecord.from_json(read_json(path))
    except StoreError as error:
        if error.code == "E_STORE_MISSING":
            return None
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"the lease is not consistent ({error})") from error


def _records(kind: str, paths: Iterable[Path]) -> list[Root]:
    return [Root(f"{kind} {path.stem}", _tokens(path)) for path in paths]


def _json_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _tokens(path: Path) -> frozenset[str]:
    """Everything in a file that looks like a run id or key. Too many keep too much, never too little."""
    with storage_errors("reading a record", path):
        data = path.read_bytes()
    return frozenset(match.group().decode("ascii") for match in _HEX_TOKEN.finditer(data))


def _is_closed(path: Path) -> bool:
    value = read_json(path)
    return isinstance(value, dict) and value.get("status") in CLOSED_WAVE_STATUSES
