"""What is still needed, and the removal of everything else.

Live is what can be reached from the holders of `roots.py`: the run ids that they name lead to receipts, receipts to
state keys, outputs to the outputs they were made from. Half-published outputs live as long as a lease names them.
Certification packs are never collected.

Pruning holds the store's lock, so leases, receipts, pointers and commits stand still meanwhile. Publications do not
wait for it: parts, whole outputs and packs may appear at any moment. So outputs are listed once, before the holders
are read, and what was not there then is none of this pruning's business; and whoever publishes has claimed the key,
and those of what it is made from, with a lease before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from seg1b.errors import Seg1bError, StoreError
from seg1b.store.filesystem import FileSystem, storage_errors
from seg1b.store.layout import MANIFEST, Layout
from seg1b.store.locks import Clock, LeaseRecord, StoreLock
from seg1b.store.manifest import Holding
from seg1b.store.objects import ObjectStore
from seg1b.store.receipts import Receipts
from seg1b.store.records import Ledger
from seg1b.store.roots import Root, lease_roots, read_leases, read_roots
from seg1b.store.staging import StagingArea

_IDENTITY = ("seed", "catalogue_origin", "parameter_hash", "gates_hash")
_LINEAGE = ("lane", "of", "own_values")
"""What is remembered of a pruned run, of its receipt's identity and lineage."""

Kind = Literal["object", "partial", "run", "lease"]
Holders = dict[str, list[str]]
"""Who holds a run, key or lease, by its name."""


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


class _Burials(NamedTuple):
    """What was taken out of sight and where it lies, and what was not, with who holds it."""

    graves: list[Path]
    gone: list[Item]
    spared: list[Item]


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
        ledger: Ledger,
        clock: Clock = time.time,
    ) -> None:
        self._layout, self._fs, self._staging, self._lock = layout, fs, staging, lock
        self._objects, self._receipts, self._ledger, self._clock = objects, receipts, ledger, clock

    def plan(self, *, keep_newest_runs: int = 0, keep_runs: Iterable[str] = ()) -> Plan:
        """What is live and who holds it (`runs du`), and what may go. Changes nothing.

        Raises InputError E_STORE_UNKNOWN_ID for a mistyped run: never an empty keep set.
        """
        with self._undisturbed():
            outputs = _Outputs(self._layout, self._objects)
            return self._plan(outputs, self._live_leases(), keep_newest_runs, keep_runs)

    def prune(
        self,
        *,
        dry_run: bool = True,
        keep_newest_runs: int = 0,
        keep_runs: Iterable[str] = (),
        at_most_bytes: int | None = None,
    ) -> Plan:
        """Remove what nobody holds, under the store's lock; by default only say what would go.

        With `at_most_bytes` nothing goes where more than that would stay; `removed` tells.
        The ledger remembers the runs that went, whatever befalls the deletion of the rest.
        """
        keep = list(keep_runs)
        if dry_run:
            return self.plan(keep_newest_runs=keep_newest_runs, keep_runs=keep)
        with ExitStack() as afterwards:
            with self._lock.hold("prune"):
                outputs, leases = _Outputs(self._layout, self._objects), self._live_leases()
                plan = self._plan(outputs, leases, keep_newest_runs, keep)
                if at_most_bytes is not None and plan.live_bytes > at_most_bytes:
                    return plan
                graves, plan = self._bury_all(plan, outputs, leases, afterwards)
            with storage_errors("removing what was pruned", self._layout.staging):
                for grave in graves:  # out of sight already; the lock need not wait for the disk
                    self._fs.remove_tree(grave)
        return plan

    def _remembered(self, run_id: str) -> dict[str, Any]:
        """What the ledger is to know of a run whose receipt goes."""
        facts: dict[str, Any] = {"run_id": run_id}
        with suppress(Seg1bError):  # a run without a sound receipt goes as well
            receipt = self._receipts.load(run_id)
            for source, names in ((receipt.identity, _IDENTITY), (receipt.lineage, _LINEAGE)):
                facts |= {name: source[name] for name in names if name in source}
        return facts

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Hold the store's lock while looking, so that nobody prunes meanwhile; a read-only store has none to hold."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lock.hold("looking at what is held"))
            except StoreError as error:
                if error.code != "E_STORE_READ_ONLY":
                    raise
            yield

    # -- removal

    def _bury_all(
        self, plan: Plan, outputs: _Outputs, leases: Sequence[LeaseRecord], afterwards: ExitStack
    ) -> tuple[list[Path], Plan]:
        """Take what is collectable out of sight, and say what was; what a lease names by now stays.

        Whatever names another goes first, so that a crash in between leaves no receipt and no output without what it
        rests on. Runs go before all else, and are noted before anything else goes.
        """
        order = outputs.dependents_first(plan.collectable)
        runs = [item for item in order if item.kind == "run"]
        facts = {item.name: self._remembered(item.name) for item in runs}
        try:
            graves, gone, spared = self._bury_each(runs, outputs, leases)
        finally:
            pruned = [facts[item.name] for item in runs if not (self._layout.runs / item.name).exists()]
            self._note_pruned(pruned, afterwards)
        more = self._bury_each(order[len(runs) :], outputs, leases)
        plan = Plan(
            _ordered((*plan.live, *spared, *more.spared)), _ordered((*gone, *more.gone)), removed=True
        )
        return [*graves, *more.graves], plan

    def _note_pruned(self, runs: Sequence[Mapping[str, Any]], afterwards: ExitStack) -> None:
        """Note in the ledger what these runs were: at once, or `afterwards` if the disk is full till then."""
        if runs:
            try:
                self._ledger.note("pruned", runs=runs)
            except StoreError as error:
                if error.code != "E_STORE_FULL":
                    raise
                afterwards.callback(self._ledger.note, "pruned", runs=runs)

    def _bury_each(self, items: Iterable[Item], outputs: _Outputs, leases: Sequence[LeaseRecord]) -> _Burials:
        """Take one after the other out of sight, but what a lease names by now.

        Leases are written under the lock that is held here; reading them before every removal covers file systems on
        which another machine's lock is not seen.
        """
        late: Holders = {}
        done = _Burials([], [], [])
        for item in items:
            now = self._live_leases()
            if _claims(now) != _claims(leases):
                leases, fresh = now, _Outputs(self._layout, self._objects)
                late = self._holders(lease_roots(self._layout, now), fresh, now)
            if item.name in late:
                done.spared.append(replace(item, held_by=tuple(late[item.name])))
            else:
                done.graves.append(self._bury(item))
                done.gone.append(item)
        return done

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

    def _plan(
        self,
        outputs: _Outputs,
        leases: Sequence[LeaseRecord],
        keep_newest_runs: int,
        keep_runs: Iterable[str],
    ) -> Plan:
        keep = [self._receipts.resolve(text) for text in keep_runs]
        newest = self._receipts.newest_first()[:keep_newest_runs] if keep_newest_runs > 0 else ()
        roots = read_roots(self._layout, leases)
        roots += [Root("kept by name", frozenset({run_id})) for run_id in keep]
        roots += [Root("kept as one of the newest", frozenset({run_id})) for run_id in newest]
        holders = self._holders(roots, outputs, leases)
        self._hold_witnesses(holders)
        items = [*outputs.items(holders), *self._run_items(holders), *self._lease_items(holders)]
        live = _ordered(item for item in items if item.held_by)
        return Plan(live, _ordered(item for item in items if not item.held_by), removed=False)

    def _holders(self, roots: Iterable[Root], outputs: _Outputs, leases: Sequence[LeaseRecord]) -> Holders:
        """Who holds what, whether it is there or not: runs and keys by `roots`, leases by their hearts."""
        all_runs = set(self._receipts.run_ids())
        holders: Holders = {}
        for lease in leases:
            _hold(holders, lease.lease_id, f"heartbeat of process {lease.owner.get('pid', '?')}")
        for root in roots:
            reached = set(root.named)
            for run_id in root.named & all_runs:
                reached |= set(self._receipts.load(run_id).keys.values())
            todo = list(reached)
            while todo:
                fresh = outputs.inputs(todo.pop()) - reached
                reached |= fresh
                todo.extend(fresh)
            for name in reached:
                _hold(holders, name, root.holder)
        return holders

    def _hold_witnesses(self, holders: Holders) -> None:
        """A witness is kept as long as the run that it speaks of; it has no outputs of its own."""
        for run_id in self._receipts.run_ids():
            with suppress(Seg1bError):  # of a damaged receipt nothing is known
                of = self._receipts.load(run_id).lineage.get("of")
                if of in holders:
                    _hold(holders, run_id, f"witness of run {of[:12]}")

    def _run_items(self, holders: Holders) -> list[Item]:
        folder = self._layout.runs
        paths = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        return [
            Item("run", path.name, "", tree_bytes(path), tuple(holders.get(path.name, ()))) for path in paths
        ]

    def _lease_items(self, holders: Holders) -> list[Item]:
        return [
            Item(
                "lease",
                record.lease_id,
                "",
                tree_bytes(self._layout.leases / f"{record.lease_id}.json"),
                tuple(holders.get(record.lease_id, ())),
            )
            for record in read_leases(self._layout)
        ]

    def _live_leases(self) -> tuple[LeaseRecord, ...]:
        now_unix_s = self._clock()
        return tuple(record for record in read_leases(self._layout) if not record.expired(now_unix_s))


class _Outputs:
    """The outputs that there were at one look, half-published ones too, and what each was made from."""

    def __init__(self, layout: Layout, objects: ObjectStore) -> None:
        self._objects = objects
        folder = layout.objects
        states = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        self._folders: dict[str, list[Path]] = {}
        self._holdings: dict[Path, Holding] = {}
        for path in (path for state in states for path in sorted(state.iterdir()) if path.is_dir()):
            self._folders.setdefault(path.name, []).append(path)

    def items(self, holders: Holders) -> list[Item]:
        """One item for each."""
        found = []
        for name, paths in self._folders.items():
            for path in paths:
                kind: Kind = "object" if (path / MANIFEST).is_file() else "partial"
                held_by = tuple(holders.get(name, ()))
                found.append(Item(kind, name, path.parent.name, self._bytes(path, kind), held_by))
        return found

    def inputs(self, key: str) -> frozenset[str]:
        """Keys that the output names as what it was made from. Raises StoreError if its manifest is damaged."""
        published = [path for path in self._folders.get(key, ()) if self._objects.has(path.parent.name, key)]
        return frozenset(name for path in published for name in self._holding(path).inputs.values())

    def _holding(self, path: Path) -> Holding:
        if path not in self._holdings:
            self._holdings[path] = self._objects.holding(path.parent.name, path.name)
        return self._holdings[path]

    def _bytes(self, path: Path, kind: Kind) -> int:
        """What a published output says of itself, which costs no look at its files; else what is there."""
        if kind == "object":
            with suppress(Seg1bError):
                return self._holding(path).length_bytes
        return tree_bytes(path)

    def dependents_first(self, items: Iterable[Item]) -> list[Item]:
        """Runs before outputs, every output before those that it was made from, and leases last."""
        found = list(items)
        outputs = sorted({item.name for item in found if item.state})
        graph: dict[str, list[str]] = {key: [] for key in outputs}
        for key in outputs:
            with suppress(Seg1bError):  # a damaged manifest does not save what nobody needs
                graph[key] = sorted(self.inputs(key) & set(outputs))
        rank = {key: -position for position, key in enumerate(TopologicalSorter(graph).static_order())}
        last = {"run": 0, "object": 1, "partial": 1, "lease": 2}
        return sorted(
            found, key=lambda item: (last[item.kind], rank.get(item.name, 0), item.state, item.name)
        )


def tree_bytes(path: Path | str) -> int:
    """Bytes of a file or of all files below a folder; what goes meanwhile counts nothing."""
    total = 0
    with suppress(NotADirectoryError, FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                below = entry.is_dir(follow_symlinks=False)
                total += tree_bytes(entry.path) if below else entry.stat(follow_symlinks=False).st_size
        return total
    with suppress(FileNotFoundError):
        total = os.lstat(path).st_size
    return total


def _claims(leases: Iterable[LeaseRecord]) -> set[tuple[str, frozenset[str], frozenset[str]]]:
    """What leases claim, whenever their hearts beat last."""
    return {(one.lease_id, frozenset(one.run_ids), frozenset(one.keys)) for one in leases}


def _hold(holders: Holders, name: str, holder: str) -> None:
    found = holders.setdefault(name, [])
    if holder not in found:
        found.append(holder)


def _ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: (item.kind, item.state, item.name)))
