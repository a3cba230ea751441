"""What is still needed, and the removal of everything else.

Live is what can be reached from pointers, certification packs, phase locks and records, open waves, the timing
baseline and unexpired leases: their run ids lead to receipts, receipts to state keys, outputs to the outputs they were
made from.
Half-published outputs live as long as a lease names them. Certification packs are never collected.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg1b.errors import Seg1bError
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import MANIFEST, Layout
from seg1b.store.locks import Clock, LeaseRecord, StoreLock
from seg1b.store.manifest import read_json
from seg1b.store.objects import ObjectStore
from seg1b.store.receipts import Receipts
from seg1b.store.staging import StagingArea
from seg1b.store.tables import damaged

Kind = Literal["object", "partial", "run", "lease"]
PERFORMANCE_BASELINE = "baseline"
CLOSED_WAVE_STATUSES = frozenset({"closed", "abandoned"})
_HEX_TOKEN = re.compile(rb"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f])")


@dataclass(frozen=True)
class Item:
    """One thing that is kept or may go. `held_by` says who needs it; empty: nobody."""

    kind: Kind
    name: str
    state: str
    length_bytes: int
    held_by: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is kept and what may go; `removed` says whether it went."""

    live: tuple[Item, ...]
    collectable: tuple[Item, ...]
    removed: bool

    @property
    def collectable_bytes(self) -> int:
        """Bytes that may go (or went)."""
        return sum(item.length_bytes for item in self.collectable)

    @property
    def live_bytes(self) -> int:
        """Bytes that are kept."""
        return sum(item.length_bytes for item in self.live)


class Retention:
    """Reachability and collection."""

    def __init__(
        self,
        layout: Layout,
        fs: FileSystem,
        staging: StagingArea,
        lock: StoreLock,
        objects: ObjectStore,
        receipts: Receipts,
        clock: Clock = time.time,
    ) -> None:
        self._layout, self._fs, self._staging, self._lock = layout, fs, staging, lock
        self._objects, self._receipts, self._clock = objects, receipts, clock

    def plan(self, *, keep_newest_runs: int = 0, keep_runs: Iterable[str] = ()) -> Plan:
        """What is live and who holds it (`runs du`), and what may go. Changes nothing.

        Raises InputError E_STORE_UNKNOWN_ID for a mistyped run: never an empty keep set.
        """
        keep = [self._receipts.resolve(text) for text in keep_runs]
        newest = self._receipts.newest_first()[: max(0, keep_newest_runs)]
        runs, keys = self._holders(keep, newest)
        items = [*self._object_items(keys), *self._run_items(runs), *self._lease_items()]
        ordered = sorted(items, key=lambda item: (item.kind, item.state, item.name))
        live = tuple(item for item in ordered if item.held_by)
        return Plan(live, tuple(item for item in ordered if not item.held_by), removed=False)

    def prune(
        self, *, dry_run: bool = True, keep_newest_runs: int = 0, keep_runs: Iterable[str] = ()
    ) -> Plan:
        """Remove what nobody holds, under the store's lock; by default only say what would go."""
        keep = list(keep_runs)
        if dry_run:
            return self.plan(keep_newest_runs=keep_newest_runs, keep_runs=keep)
        with self._lock.hold("prune"):
            plan = self.plan(keep_newest_runs=keep_newest_runs, keep_runs=keep)
            # receipts first: a crash in between must not leave receipts without their outputs
            ordered = sorted(plan.collectable, key=lambda item: item.kind != "run")
            graves = [self._bury(item) for item in ordered]
        with storage_errors("removing what was pruned", self._layout.staging):
            for grave in graves:  # out of sight already; the lock need not wait for the disk
                self._fs.remove_tree(grave)
        return Plan(plan.live, plan.collectable, removed=True)

    def _bury(self, item: Item) -> Path:
        """Take an item out of sight by one rename."""
        layout = self._layout
        places = {"lease": layout.leases / f"{item.name}.json", "run": layout.runs / item.name}
        source = places.get(item.kind) or layout.objects / item.state / item.name
        with storage_errors(f"removing {item.kind} {item.name}", source):
            grave = self._staging.new_path()
            if item.kind == "lease":
                self._fs.make_directory(grave)
                self._fs.replace(source, grave / source.name)
            else:
                self._fs.rename_directory(source, grave)
            self._fs.sync_directory(source.parent)
        return grave

    # -- reachability

    def _roots(self) -> list[tuple[str, set[str]]]:
        """(holder, run ids and keys it names) of everything that keeps things alive."""
        layout = self._layout
        roots = [(f"pointer {path.stem}", _tokens(path)) for path in _json_files(layout.pointers)]
        roots += [(f"lock {path.stem}", _tokens(path)) for path in _json_files(layout.phase_locks)]
        baseline = layout.performance / f"{PERFORMANCE_BASELINE}.json"
        roots += [("performance baseline", _tokens(baseline))] if baseline.is_file() else []
        roots += [(f"phase {path.stem}", _tokens(path)) for path in _json_files(layout.phases)]
        for path in _json_files(layout.waves):
            if not _is_closed(path):
                roots.append((f"wave {path.stem}", _tokens(path)))
        if layout.certifications.is_dir():
            for pack in sorted(layout.certifications.iterdir()):
                named: set[str] = set()
                for path in sorted(pack.rglob("*.json")):
                    named |= _tokens(path)
                roots.append((f"certification {pack.name[:12]}", named))
        for record in self._leases():
            if not record.expired(self._clock()):
                purpose = record.owner.get("purpose", "a driver")
                roots.append((f"lease of {purpose}", {*record.run_ids, *record.keys}))
        return roots

    def _holders(
        self, keep: Iterable[str], newest: Iterable[str]
    ) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Who holds each run and each key."""
        roots = self._roots()
        roots += [("kept by name", {run_id}) for run_id in keep]
        roots += [("kept as one of the newest", {run_id}) for run_id in newest]
        all_runs = set(self._receipts.run_ids())
        runs: dict[str, list[str]] = {}
        keys: dict[str, list[str]] = {}
        objects = {path.name: path.parent.name for path in self._object_folders()}
        inputs: dict[str, set[str]] = {}
        for holder, named in roots:
            reached = set(named)
            for run_id in sorted(named & all_runs):
                _hold(runs, run_id, holder)
                reached |= set(self._receipts.load(run_id).keys.values())
            todo = sorted(reached & set(objects))
            seen = set(todo)
            while todo:
                key = todo.pop()
                _hold(keys, key, holder)
                if key not in inputs:
                    inputs[key] = self._inputs(objects[key], key)
                fresh = (inputs[key] & set(objects)) - seen
                seen |= fresh
                todo.extend(sorted(fresh))
        return runs, keys

    def _inputs(self, state: str, key: str) -> set[str]:
        if not self._objects.has(state, key):
            return set()
        return set(self._objects.manifest(state, key).inputs.values())

    def _object_folders(self) -> list[Path]:
        folder = self._layout.objects
        if not folder.is_dir():
            return []
        states = sorted(path for path in folder.iterdir() if path.is_dir())
        return [path for state in states for path in sorted(state.iterdir()) if path.is_dir()]

    def _object_items(self, keys: dict[str, list[str]]) -> list[Item]:
        items = []
        for path in self._object_folders():
            kind: Kind = "object" if (path / MANIFEST).is_file() else "partial"
            holders = tuple(keys.get(path.name, ()))
            items.append(Item(kind, path.name, path.parent.name, _length_bytes(path), holders))
        return items

    def _run_items(self, runs: dict[str, list[str]]) -> list[Item]:
        folder = self._layout.runs
        paths = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        return [
            Item("run", path.name, "", _length_bytes(path), tuple(runs.get(path.name, ()))) for path in paths
        ]

    def _lease_items(self) -> list[Item]:
        items = []
        for record in self._leases():
            path = self._layout.leases / f"{record.lease_id}.json"
            alive = not record.expired(self._clock())
            holders = (f"heartbeat of process {record.owner.get('pid', '?')}",) if alive else ()
            items.append(Item("lease", record.lease_id, "", _length_bytes(path), holders))
        return items

    def _leases(self) -> list[LeaseRecord]:
        """All leases. A lease that cannot be read raises: it might hold something."""
        records = []
        for path in _json_files(self._layout.leases):
            record = read_lease(path)
            if record is not None:
                records.append(record)
        return records


def read_lease(path: Path) -> LeaseRecord | None:
    """A lease, or None if it is gone. Raises StoreError E_STORE_DAMAGED for one that cannot be read."""
    try:
        return LeaseRecord.from_json(read_json(path))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, Seg1bError):
            raise
        raise damaged(path, f"the lease is not consistent ({error})") from error


def _hold(holders: dict[str, list[str]], name: str, holder: str) -> None:
    found = holders.setdefault(name, [])
    if holder not in found:
        found.append(holder)


def _json_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _tokens(path: Path) -> set[str]:
    """Everything in a file that looks like a run id or key. Too many keep too much, never too little."""
    with storage_errors("reading a record", path):
        data = path.read_bytes()
    return {match.group().decode("ascii") for match in _HEX_TOKEN.finditer(data)}


def _is_closed(path: Path) -> bool:
    value = read_json(path)
    return isinstance(value, dict) and value.get("status") in CLOSED_WAVE_STATUSES


def _length_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(item.lstat().st_size for item in path.rglob("*") if item.is_file())
