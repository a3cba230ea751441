"""S4, S5, S6 and S8 for some countries of one seed: the unit that executors distribute.

Each state's rows become one part under that state's key. What is already there, from a run that was interrupted or
from a state that need not run again, is read instead of made (but S4's plan: it is quicker made again than read).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from seg1b.kernels.jit import cpu_s
from seg1b.policy.load import Policies
from seg1b.states import s4_allocation, s5_assignment, s6_jitter, s8_egress
from seg1b.states.plan import SeedIdentity
from seg1b.states.tables import (
    ASSIGNMENT_SCHEMA,
    COUNTRY,
    JITTER_SCHEMA,
    PLAN_KEY,
    PLAN_SCHEMA,
    SITE_KEY,
    TABLE_OF,
    Pairs,
    Plan,
    assignment_to_arrow,
    column,
    jitter_to_arrow,
    placement_from_arrow,
    plan_to_arrow,
)
from seg1b.states.world_model import WorldModel
from seg1b.store.store import Store
from seg1b.store.table_reader import TableReader

BLOCK_SITES = 1 << 20
_SCHEMAS = {"S4": PLAN_SCHEMA, "S5": ASSIGNMENT_SCHEMA, "S6": JITTER_SCHEMA}
_KEYS = {"S4": PLAN_KEY, "S5": SITE_KEY, "S6": SITE_KEY}
_PLACED_COLUMNS = ("tile_id", "lon_deg", "lat_deg", "attempts", "component")


@dataclass
class StageTimes:
    """Wall and CPU seconds per state, and per part of a state (`S9.replay`), as telemetry.

    Seconds of this thread and of kernels that it spread over others.
    """

    seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def of(self, state: str) -> Iterator[None]:
        """Add what happens in the block to a state's times."""
        wall, cpu = time.perf_counter(), cpu_s()
        try:
            yield
        finally:
            entry = self.seconds.setdefault(state, {"wall_s": 0.0, "cpu_s": 0.0})
            entry["wall_s"] += time.perf_counter() - wall
            entry["cpu_s"] += cpu_s() - cpu

    @contextmanager
    def part(self, state: str, name: str) -> Iterator[None]:
        """Add what happens in the block to a state's times, and to those of one part of it."""
        with self.of(state), self.of(f"{state}.{name}"):
            yield

    def add(self, seconds: Mapping[str, Mapping[str, float]]) -> None:
        """Add times measured elsewhere."""
        for state, times in seconds.items():
            entry = self.seconds.setdefault(state, {"wall_s": 0.0, "cpu_s": 0.0})
            for name, value in times.items():
                entry[name] += value

    def joined(self, other: StageTimes) -> StageTimes:
        """Both together, as a new one."""
        total = StageTimes()
        total.add(self.seconds)
        total.add(other.seconds)
        return total


def shard_reader(store: Store, state: str, key: str, part: str, table: str) -> TableReader:
    """A table of the committed output, or else of the part that holds a shard's countries."""
    name = state.lower()
    return (
        store.open_table(name, key, table)
        if store.has(name, key)
        else store.open_part(name, key, part, table)
    )


@dataclass(frozen=True)
class Unit:
    """Pairs that S4 plans together: whole countries, and the blocks of at most BLOCK_SITES in which they are placed."""

    pairs: Pairs
    blocks: tuple[slice, ...]


def units(pairs: Pairs) -> Iterator[Unit]:
    """Cut pairs so that no more than a block is in memory: small countries together, a giant one in several blocks.

    A pair is never cut. Ascending; together the units are all pairs.
    """
    whole: list[slice] = []
    held = 0
    for _, part in pairs.countries():
        sites = int(pairs.n_sites[part].sum())
        if whole and held + sites > BLOCK_SITES:
            yield _unit(pairs, slice(whole[0].start, whole[-1].stop))
            whole, held = [], 0
        whole.append(part)
        held += sites
    if whole:
        yield _unit(pairs, slice(whole[0].start, whole[-1].stop))


def _unit(pairs: Pairs, part: slice) -> Unit:
    own = pairs.rows(part)
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(own.n_sites)))
    blocks, first = [], 0
    while first < len(own.n_sites):
        stop = int(np.searchsorted(before, before[first] + BLOCK_SITES, side="right")) - 1
        stop = max(stop, first + 1)
        blocks.append(slice(first, stop))
        first = stop
    return Unit(own, tuple(blocks))


@dataclass
class ShardRun:
    """One shard on its way through the states, block by block."""

    store: Store
    world: WorldModel
    policies: Policies
    identity: SeedIdentity
    name: str
    pairs: Pairs
    attribution: str
    times: StageTimes = field(default_factory=StageTimes)

    def run(self) -> StageTimes:
        """Publish the shard's part of every state that lacks it: none is seen before all its rows are there."""
        lacking = [state for state in ("S8", "S6", "S5", "S4") if not self._published(state)]
        if not lacking:
            return self.times
        with ExitStack() as stack:
            sinks = {state: _Sink(self, state, stack) for state in lacking}
            readers = {
                state: self._reader(state, TABLE_OF[state])
                for state, reader in (("S5", "S6"), ("S6", "S8"))
                if state not in sinks and reader in sinks
            }
            diagnostics: list[dict[str, Any]] = []
            for unit in units(self.pairs):
                plan, row_start = None, np.empty(0, np.int64)
                if "S4" in sinks or "S5" in sinks:
                    with self.times.part("S4", "allocate"):
                        done = s4_allocation.run(
                            self.world, unit.pairs, self.policies.allocation, self.identity.seed
                        )
                        plan, row_start = done.plan, done.plan.rows_of_pairs(unit.pairs)
                        diagnostics += done.diagnostics
                for part in unit.blocks:
                    rows = (
                        None
                        if plan is None
                        else plan.rows(slice(row_start[part.start], row_start[part.stop]))
                    )
                    self._block(unit.pairs, part, rows, sinks, readers)
            if "S4" in sinks:
                with self.times.part("S4", "publish"):
                    sinks["S4"].out.add_bytes(
                        "diagnostics.json", json.dumps(diagnostics, sort_keys=True).encode()
                    )
            for state in ("S4", "S5", "S6", "S8"):
                if state in sinks:
                    with self.times.part(state, "publish"):
                        sinks[state].close()
        return self.times

    def _block(
        self,
        unit: Pairs,
        part: slice,
        plan: Plan | None,
        sinks: Mapping[str, _Sink],
        readers: Mapping[str, TableReader],
    ) -> None:
        """Place the pairs `part` of a unit, and write what is not there yet."""
        pairs, identity, iso = unit.rows(part), self.identity, self.world.iso
        if plan is not None and "S4" in sinks:
            with self.times.part("S4", "write"):
                sinks["S4"].writer.extend(plan_to_arrow(iso, plan))
        if plan is not None and "S5" in sinks:
            with self.times.part("S5", "assign"):
                tile_id = s5_assignment.run(
                    iso, pairs, plan, self.policies.assignment, identity.seed, identity.manifest_fingerprint
                )
            with self.times.part("S5", "write"):
                sinks["S5"].writer.extend(assignment_to_arrow(iso, pairs, tile_id))
        elif "S5" in readers:
            with self.times.part("S5", "read"):
                rows = _read_block(readers["S5"], iso, unit, part, ("tile_id",))
                tile_id = column(rows, "tile_id", np.int64)
        if "S6" in sinks:
            with self.times.part("S6", "jitter"):
                placement = s6_jitter.run(
                    self.world,
                    pairs,
                    tile_id,
                    self.policies.jitter,
                    identity.seed,
                    identity.manifest_fingerprint,
                )
            with self.times.part("S6", "write"):
                sinks["S6"].writer.extend(jitter_to_arrow(iso, pairs, placement))
        elif "S6" in readers:
            with self.times.part("S6", "read"):
                placement = placement_from_arrow(_read_block(readers["S6"], iso, unit, part, _PLACED_COLUMNS))
        if "S8" in sinks:
            with self.times.part("S8", "write"):
                for key, table in s8_egress.country_tables(iso, pairs, placement, self.attribution).items():
                    sinks["S8"].writer.append(key, table)

    def _published(self, state: str) -> bool:
        """Whether this shard's rows of a state are there, as this very part or in a committed output."""
        key = self.identity.keys[state]
        return self.store.has(state.lower(), key) or self.name in self.store.parts(state.lower(), key)

    def _reader(self, state: str, table: str) -> TableReader:
        return shard_reader(self.store, state, self.identity.keys[state], self.name, table)


class _Sink:
    """A state's part that is being written: closed, it is published; left by an error, it is dropped."""

    def __init__(self, run: ShardRun, state: str, stack: ExitStack) -> None:
        options = (
            s8_egress.WRITING if state == "S8" else {"partition_column": COUNTRY, "sorted_by": _KEYS[state]}
        )
        schema = s8_egress.egress_schema(run.attribution) if state == "S8" else _SCHEMAS[state]
        self._stack = stack.enter_context(ExitStack())
        self.out = self._stack.enter_context(
            run.store.part(state.lower(), run.identity.keys[state], run.name)
        )
        self.writer = self._stack.enter_context(self.out.table_writer(TABLE_OF[state], schema, **options))

    def close(self) -> None:
        """Publish."""
        self._stack.close()


def _read_block(
    reader: TableReader, iso: Sequence[str], unit: Pairs, part: slice, columns: Sequence[str]
) -> pa.Table:
    """Some columns of the sites of a unit's pairs `part`."""
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(unit.n_sites)))
    tables = []
    for country, own in unit.countries():
        first, stop = max(own.start, part.start), min(own.stop, part.stop)
        if first < stop:
            begin, rows = int(before[first] - before[own.start]), int(before[stop] - before[first])
            tables.append(reader.slice(iso[country], begin, rows, columns))
    return pa.concat_tables(tables)
