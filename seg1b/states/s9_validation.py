"""S9: prove a seed and score it.

The replay (`s9_replay.py`) comes first. Scores are computed from the published coordinates, not from what a state
reported. What is found is published by `s9_findings.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from seg1b.errors import ContractError
from seg1b.kernels.jit import side_by_side
from seg1b.policy.load import Policies
from seg1b.scoring.evidence import Neighbours, Recall, computed, old_placement_tests, soft_diagnostics
from seg1b.scoring.measure import Measurement, ScoringContext, SiteTally, measure, tally
from seg1b.scoring.score import Score, score_measured
from seg1b.scoring.sentinel import collapse_sentinel
from seg1b.scoring.values import plain
from seg1b.states import s9_replay
from seg1b.states.replay_checks import Replay
from seg1b.states.s9_findings import OLD_PLACEMENT_STATE, Validation, old_placement_key
from seg1b.states.seed_tables import SeedTables
from seg1b.states.tables import column
from seg1b.states.world_model import WorldModel
from seg1b.store.store import Store

_NEIGHBOURS = "neighbours"
_SCHEMA = pa.schema(
    [
        pa.field("country", pa.int16(), nullable=False),
        pa.field("distance_m", pa.float64(), nullable=False),
    ]
)
_SITES_HELD = 1_000_000
"""So many sites (60 bytes each) may be held while intervals are computed, beside what these need."""


def validate(
    world: WorldModel,
    tables: SeedTables,
    context: ScoringContext,
    policies: Policies,
    seed: int,
    manifest_fingerprint: str,
    surface_known: bool = True,
) -> Validation[Score]:
    """Replay and score one seed. The same call serves S9 and `seg1b verify`.

    Without the placement surface (a user's raster that is not at hand) draws that need weights are not replayed.
    Raises ContractError E901_ROW_MISSING or E904_EGRESS_SCHEMA_VIOLATION for tables that cannot be scored at all.
    """
    replayed = s9_replay.run(world, tables, policies, seed, manifest_fingerprint, surface_known=surface_known)
    require_scorable(replayed)
    return conclude(tally(tables.sites(world.grid), seed, context), replayed, context, seed)


def conclude(
    sites: SiteTally,
    replayed: Replay,
    context: ScoringContext,
    seed: int,
    recall: Recall = computed,
) -> Validation[Score]:
    """Score the egress of a seed that was replayed; `require_scorable` must have passed.

    `recall` may know the neighbours of the first engine's placement. A caller who keeps no reference to `sites` has
    their memory back when intervals are computed.
    """
    sentinel = collapse_sentinel(
        sites.points(context.countries), context.iso, context.gates.collapse_sentinel
    )
    measurement = measure(sites, context)

    def scored() -> Score:
        return score_measured(measurement, sentinel, seed, context, replayed.violations)

    if len(measurement) <= _SITES_HELD:
        found, score = side_by_side(partial(evidence, sites, measurement, context, seed, recall), scored)
        return Validation(replayed, score, found)
    found = evidence(sites, measurement, context, seed, recall)
    del sites
    return Validation(replayed, scored(), found)


def require_scorable(replayed: Replay) -> None:
    """Compiled code that scores does not look at bounds: one row per required site, and valid coordinates."""
    for check in replayed.checks:
        if check.name in ("s3_requirements", "s5_keys", "s6_keys", "s8_keys") and not check.passed:
            raise ContractError(
                "E901_ROW_MISSING",
                f"{check.name}: {check.differing} rows are not as demanded ({check.demand})",
                where=check.first,
            )
    invalid = replayed.violations["invalid_coordinates"]
    if invalid:
        raise ContractError("E904_EGRESS_SCHEMA_VIOLATION", f"{invalid} coordinates are none")


def evidence(
    sites: SiteTally,
    measurement: Measurement,
    context: ScoringContext,
    seed: int,
    recall: Recall = computed,
) -> dict[str, Any]:
    """Two-sample tests against the first engine's placement of the same counts, and soft diagnostics."""
    points = sites.points(context.countries)
    return {
        "reference": "the same counts placed by largest remainder, as the first engine did",
        "neighbour_tests": plain(old_placement_tests(sites, measurement, context, seed, recall)),
        "soft_diagnostics": plain(soft_diagnostics(points, measurement, context)),
    }


def recalling(store: Store, keys: Mapping[str, str], seed: int) -> Recall:
    """What reads the neighbours of a seed's placement by the first engine, or computes and publishes them.

    They depend on the requirements, the tile weights and the seed, and on nothing that S4 to S8 put out: few knobs
    change them.
    """
    return partial(_recall, store, old_placement_key(keys, seed))


def _recall(store: Store, key: str, compute: Callable[[], Neighbours]) -> Neighbours:
    if not store.has(OLD_PLACEMENT_STATE, key):
        found = compute()
        with store.transaction(OLD_PLACEMENT_STATE, key) as out:
            out.add_table(_NEIGHBOURS, pa.table([found.country, found.distance_m], schema=_SCHEMA))
        return found
    table = store.read_table(OLD_PLACEMENT_STATE, key, _NEIGHBOURS)
    return Neighbours(column(table, "country", np.int16), column(table, "distance_m", np.float64))
