"""S4, S5, S6 and S8 for some countries of one seed: the unit that executors distribute.

Each state's rows become one part under that state's key. What is already there, from a run that was interrupted or
from a state that need not run again, is read instead of made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from seg1b.policy.load import Policies
from seg1b.states import s4_allocation, s5_assignment, s6_jitter, s8_egress
from seg1b.states.tables import (
    COUNTRY,
    PLAN_KEY,
    SITE_KEY,
    Pairs,
    Placement,
    Plan,
    assignment_to_arrow,
    column,
    jitter_to_arrow,
    placement_from_arrow,
    plan_from_arrow,
    plan_to_arrow,
)
from seg1b.states.world_model import WorldModel
from seg1b.store.publication import Publication
from seg1b.store.store import Store

PLAN_TABLE = "s4_alloc_plan"
ASSIGNMENT_TABLE = "s5_site_tile_assignment"
JITTER_TABLE = "s6_site_jitter"


@dataclass(frozen=True)
class SeedIdentity:
    """What names a seed's outputs: the seed, the keys of all its states, and its manifest fingerprint."""

    seed: int
    keys: dict[str, str]
    manifest_fingerprint: str


@dataclass
class StageTimes:
    """Wall and CPU seconds per state, as telemetry."""

    seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def of(self, state: str) -> Iterator[None]:
        """Add what happens in the block to a state's times."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            entry = self.seconds.setdefault(state, {"wall_s": 0.0, "cpu_s": 0.0})
            entry["wall_s"] += time.perf_counter() - wall
            entry["cpu_s"] += time.process_time() - cpu

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


def shard_partitions(
    store: Store, state: str, key: str, part: str, table: str, codes: Sequence[str]
) -> Iterator[tuple[str, pa.Table]]:
    """(ISO code, rows) of some countries of a table: of the committed output, or else of the part that holds them."""
    name = state.lower()
    committed = store.has(name, key)
    reader = store.open_table(name, key, table) if committed else store.open_part(name, key, part, table)
    for code in codes:
        yield code, reader.partition(code)


@dataclass
class ShardRun:
    """One shard on its way through the states."""

    store: Store
    world: WorldModel
    policies: Policies
    identity: SeedIdentity
    name: str
    pairs: Pairs
    attribution: str
    times: StageTimes = field(default_factory=StageTimes)

    def run(self) -> StageTimes:
        """Publish the shard's part of every state that lacks it."""
        if self._published("S8"):
            return self.times
        with self.times.of("S4"):
            plan = self._plan()
        with self.times.of("S5"):
            tile_id = self._assignment(plan)
        with self.times.of("S6"):
            placement = self._placement(tile_id)
        with self.times.of("S8"), self._part("S8") as out:
            s8_egress.write(out, self.world.iso, self.pairs, placement, self.attribution)
        return self.times

    def _published(self, state: str) -> bool:
        """Whether this shard's rows of a state are there, as this very part or in a committed output."""
        key = self.identity.keys[state]
        return self.store.has(state.lower(), key) or self.name in self.store.parts(state.lower(), key)

    @contextmanager
    def _part(self, state: str) -> Iterator[Publication]:
        with self.store.part(state.lower(), self.identity.keys[state], self.name) as out:
            yield out

    def _read(self, state: str, table: str) -> pa.Table:
        """This shard's rows of a published table."""
        codes = [self.world.iso[country] for country in np.unique(self.pairs.country).tolist()]
        partitions = shard_partitions(self.store, state, self.identity.keys[state], self.name, table, codes)
        return pa.concat_tables([rows for _, rows in partitions])

    def _plan(self) -> Plan:
        if self._published("S4"):
            return plan_from_arrow(self.world.iso, self._read("S4", PLAN_TABLE))
        done = s4_allocation.run(self.world, self.pairs, self.policies.allocation, self.identity.seed)
        with self._part("S4") as out:
            table = plan_to_arrow(self.world.iso, done.plan)
            out.add_table(PLAN_TABLE, table, partition_column=COUNTRY, sorted_by=PLAN_KEY)
            out.add_bytes("diagnostics.json", json.dumps(done.diagnostics, sort_keys=True).encode())
        return done.plan

    def _assignment(self, plan: Plan) -> np.ndarray[Any, np.dtype[np.int64]]:
        if self._published("S5"):
            return column(self._read("S5", ASSIGNMENT_TABLE), "tile_id", np.int64)
        identity = self.identity
        tile_id = s5_assignment.run(
            self.world.iso,
            self.pairs,
            plan,
            self.policies.assignment,
            identity.seed,
            identity.manifest_fingerprint,
        )
        with self._part("S5") as out:
            table = assignment_to_arrow(self.world.iso, self.pairs, tile_id)
            out.add_table(ASSIGNMENT_TABLE, table, partition_column=COUNTRY, sorted_by=SITE_KEY)
        return tile_id

    def _placement(self, tile_id: np.ndarray[Any, np.dtype[np.int64]]) -> Placement:
        if self._published("S6"):
            return placement_from_arrow(self._read("S6", JITTER_TABLE))
        identity = self.identity
        placement = s6_jitter.run(
            self.world,
            self.pairs,
            tile_id,
            self.policies.jitter,
            identity.seed,
            identity.manifest_fingerprint,
        )
        with self._part("S6") as out:
            table = jitter_to_arrow(self.world.iso, self.pairs, placement)
            out.add_table(JITTER_TABLE, table, partition_column=COUNTRY, sorted_by=SITE_KEY)
        return placement
