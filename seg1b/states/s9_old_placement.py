"""The neighbours of the first engine's placement, which S9's evidence compares with: kept, since few knobs change them.

They depend on the requirements, the tile weights and the seed, and on nothing that S4 to S8 put out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pyarrow as pa

from seg1b.scoring.evidence import Neighbours, Recall
from seg1b.states.s9_findings import OLD_PLACEMENT_STATE, old_placement_key
from seg1b.states.tables import column
from seg1b.store.store import Store

_TABLE = "neighbours"
_SCHEMA = pa.schema(
    [
        pa.field("country", pa.int16(), nullable=False),
        pa.field("distance_m", pa.float64(), nullable=False),
    ]
)


def recalling(store: Store, keys: Mapping[str, str], seed: int) -> Recall:
    """What reads the neighbours of a seed from the store, or computes and publishes them there."""
    return partial(_recall, store, old_placement_key(keys, seed))


def _recall(store: Store, key: str, compute: Callable[[], Neighbours]) -> Neighbours:
    if not store.has(OLD_PLACEMENT_STATE, key):
        found = compute()
        with store.transaction(OLD_PLACEMENT_STATE, key) as out:
            out.add_table(_TABLE, pa.table([found.country, found.distance_m], schema=_SCHEMA))
        return found
    table = store.read_table(OLD_PLACEMENT_STATE, key, _TABLE)
    return Neighbours(column(table, "country", np.int16), column(table, "distance_m", np.float64))
