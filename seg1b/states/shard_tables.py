"""What S4 to S8 published of a shard, read back in the blocks in which it was placed, as S9 replays it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from seg1b.states.seed_tables import Numbering, SiteTables, join_egress
from seg1b.states.shard import Unit, shard_reader
from seg1b.states.tables import TABLE_OF, Pairs, column
from seg1b.store.store import Store
from seg1b.store.table_reader import TableReader

_PER_SITE = ("S5", "S6", "S8")


@dataclass(frozen=True)
class BlockTables:
    """What was published of some pairs; `numbering` is None where they are all pairs of their countries."""

    tables: SiteTables
    numbering: Numbering | None


@dataclass
class ShardTables:
    """The published tables of one shard of a seed."""

    store: Store
    iso: tuple[str, ...]
    keys: Mapping[str, str]
    part: str
    _readers: dict[str, TableReader] = field(default_factory=dict)

    def blocks(self, unit: Unit) -> Iterator[BlockTables]:
        """The unit in its blocks; as a whole where the tables do not have the rows that the blocks should have."""
        plan = self._reader("S4").several(self._codes(unit.pairs))
        if len(unit.blocks) == 1 or not self._in_blocks(unit, plan):
            yield BlockTables(self._tables(unit.pairs, plan, None), None)
            return
        total = int(unit.pairs.n_sites.sum())
        planned = column(plan, "merchant_id", np.uint64)
        first_row, first_site = 0, 0
        for part in unit.blocks:
            pairs = unit.pairs.rows(part)
            sites = int(pairs.n_sites.sum())
            last = part.stop == len(unit.pairs.n_sites)
            stop_row = (
                len(planned) if last else int(np.searchsorted(planned, unit.pairs.merchant_id[part.stop]))
            )
            rows = plan.slice(first_row, stop_row - first_row)
            yield BlockTables(self._tables(pairs, rows, (first_site, sites)), Numbering(first_site, total))
            first_row, first_site = stop_row, first_site + sites

    def _in_blocks(self, unit: Unit, plan: pa.Table) -> bool:
        """Whether every table of one country has its row per site, and the plan's merchants ascend."""
        merchant = column(plan, "merchant_id", np.uint64)
        (code,) = self._codes(unit.pairs)
        found = {dict(self._reader(state).partition_rows).get(code) for state in _PER_SITE}
        return found == {int(unit.pairs.n_sites.sum())} and bool((merchant[1:] >= merchant[:-1]).all())

    def _codes(self, pairs: Pairs) -> Sequence[str]:
        return [self.iso[country] for country, _ in pairs.countries()]

    def _reader(self, state: str) -> TableReader:
        if state not in self._readers:
            self._readers[state] = shard_reader(
                self.store, state, self.keys[state], self.part, TABLE_OF[state]
            )
        return self._readers[state]

    def _tables(self, pairs: Pairs, plan: pa.Table, sites: tuple[int, int] | None) -> SiteTables:
        """`sites`: first row and rows of the one country that is read in blocks; None: whole countries."""
        codes = self._codes(pairs)

        def rows(state: str) -> pa.Table:
            reader = self._reader(state)
            return reader.several(codes) if sites is None else reader.slice(codes[0], *sites)

        def egress() -> Iterator[tuple[str, pa.Table]]:
            reader = self._reader("S8")
            for code in codes:
                yield code, reader.partition(code) if sites is None else reader.slice(code, *sites)

        joined = join_egress(self.iso, egress())
        return SiteTables.from_arrow(self.iso, pairs, plan, rows("S5"), rows("S6"), joined)
