"""S1: which tiles belong to which country, as row spans. Reads the sealed world's polygons and nothing else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from seg1b.policy.models import TileIndexPolicy
from seg1b.states.stages import Stage, untimed
from seg1b.states.tables import column
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.grid import Grid
from seg1b.world.tile_index import CountrySpans, TileIndex, build_tile_index

STATE = "s1"
_SPAN_SCHEMA = pa.schema(
    [
        pa.field("country", pa.int16(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("col0", pa.int32(), nullable=False),
        pa.field("col1", pa.int32(), nullable=False),
    ]
)
_SPAN_ENCODINGS = {"col0": "BYTE_STREAM_SPLIT", "col1": "BYTE_STREAM_SPLIT"}  # they jump from span to span
_RESCUE_SCHEMA = pa.schema(
    [pa.field("country", pa.int16(), nullable=False), pa.field("tile_id", pa.int64(), nullable=False)]
)


def run(store: Store, key: str, world: World, policy: TileIndexPolicy, stage: Stage = untimed) -> TileIndex:
    """Index the world's tiles and publish spans and rescue tiles.

    Raises InputError E001_GEO_INVALID for polygons that do not close.
    """
    with stage("S1.scanline"):
        index = build_tile_index(world, Grid(policy.resolution_arcsec))
    without = [iso for iso, tiles in zip(world.countries.iso, index.tiles, strict=True) if tiles == 0]
    with stage("S1.publish"), store.transaction(STATE, key) as out:
        spans = _to_arrow(index.spans)
        out.add_table("spans", spans, sorted_by=("country", "row", "col0"), encodings=_SPAN_ENCODINGS)
        rescued = pa.table([index.rescue_country, index.rescue_tile], schema=_RESCUE_SCHEMA)
        out.add_table("rescue_tiles", rescued, sorted_by=("country",))
        out.facts = {
            "resolution_arcsec": policy.resolution_arcsec,
            "predicate": policy.predicate,
            "tiles": int(index.tiles.sum()),
            "countries_with_tiles": int(np.count_nonzero(index.tiles)),
            "countries_without_tiles": without,
            "rescue_tiles": {
                world.countries.iso[c]: int(t)
                for c, t in zip(index.rescue_country.tolist(), index.rescue_tile.tolist(), strict=True)
            },
        }
    return index


def load(store: Store, key: str, countries: int) -> TileIndex:
    """The published index; `countries` is the length of the world's country table."""
    rescued = store.read_table(STATE, key, "rescue_tiles")
    return TileIndex(
        Grid(int(store.manifest(STATE, key).facts["resolution_arcsec"])),
        _from_arrow(store.read_table(STATE, key, "spans"), countries),
        column(rescued, "country", np.int16),
        column(rescued, "tile_id", np.int64),
    )


def _to_arrow(spans: CountrySpans) -> pa.Table:
    country = np.repeat(np.arange(len(spans.start) - 1, dtype=np.int16), np.diff(spans.start))
    return pa.table([country, spans.row, spans.col0, spans.col1], schema=_SPAN_SCHEMA)


def _from_arrow(table: pa.Table, countries: int) -> CountrySpans:
    every = np.arange(
        countries + 1, dtype=np.int16
    )  # of the column's type: else all of it would be converted
    start = np.searchsorted(column(table, "country", np.int16), every).astype(np.int64)
    return CountrySpans(
        start,
        column(table, "row", np.int32),
        column(table, "col0", np.int32),
        column(table, "col1", np.int32),
    )
