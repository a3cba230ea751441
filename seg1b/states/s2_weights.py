"""S2w: where in a country its sites go, the weights of tiles. (How many sites a country gets is S2s, `s2_shares`.)"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from seg1b.policy.models import TileMix, TileWeightsPolicy
from seg1b.states.stages import Stage, untimed
from seg1b.states.tables import column
from seg1b.store.publication import Publication
from seg1b.store.store import Store
from seg1b.world.content import World
from seg1b.world.dense_surface import DenseSurface, Surface, dense_surface
from seg1b.world.surface import PopulationSurface, build_surface
from seg1b.world.tile_index import TileIndex
from seg1b.world.weights import DenseWeights, TileWeights, Weights, build_weights, mass_rules

WEIGHTS_STATE = "s2w"
_RUN_SCHEMA = pa.schema(
    [
        pa.field("country", pa.int16(), nullable=False),
        pa.field("tile0", pa.int64(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("population_micro", pa.int64(), nullable=False),
        pa.field("weight", pa.int64(), nullable=False),
    ]
)
_RUN_ENCODINGS = {
    "length": "BYTE_STREAM_SPLIT",
    "population_micro": "BYTE_STREAM_SPLIT",
    "weight": "BYTE_STREAM_SPLIT",
}
_CUT_SCHEMA = pa.schema(
    [
        pa.field("country", pa.int16(), nullable=False),
        pa.field("total", pa.int64(), nullable=False),
        pa.field("mass_sum", pa.int64(), nullable=False),
        pa.field("residue", pa.int64(), nullable=False),
        pa.field("tied_until", pa.int64(), nullable=False),
    ]
)
_ROWS_AT_ONCE = 1 << 23


def run_weights(
    store: Store,
    key: str,
    world: World,
    index: TileIndex,
    policy: TileWeightsPolicy,
    stage: Stage = untimed,
) -> tuple[Surface, Weights]:
    """Build the population surface and the weights, and publish both: as runs, or a user's raster tile by tile.

    Raises InputError E103_DP_TOO_SMALL and, for a user's raster, W106, W107 and the raster's own codes.
    """
    with stage("S2w.surface"):
        surface = placement_surface(world, index, policy)
    with stage("S2w.weights"):
        if isinstance(surface, DenseSurface):
            dense = build_weights(surface, policy.mix, policy.dp)
            weights: Weights = dense
            publish = partial(_publish_tiles, weights=dense, mix=policy.mix)
        else:
            runs = build_weights(surface, policy.mix, policy.dp)
            people = _population_of(surface, runs)
            surface = PopulationSurface(surface.grid, runs.start, runs.tile0, runs.length, people)
            weights, publish = runs, partial(_publish_runs, surface=surface, weights=runs)
    with stage("S2w.publish"), store.transaction(WEIGHTS_STATE, key) as out:
        form = publish(out)
        out.facts = {
            "dp": weights.dp,
            "hilbert_block_tiles": policy.hilbert_block_tiles,
            "resolution_arcsec": index.grid.resolution_arcsec,
            "zero_mass_countries": [world.countries.iso[c] for c in np.flatnonzero(weights.zero_mass)],
            "people": int(surface.totals.sum()) // 1_000_000,
            **form,
        }
    return surface, weights


def _publish_runs(out: Publication, surface: PopulationSurface, weights: TileWeights) -> dict[str, Any]:
    """Write population and weight of every run; the facts of this form."""
    with out.table_writer(
        "runs", _RUN_SCHEMA, sorted_by=("country", "tile0"), encodings=_RUN_ENCODINGS
    ) as writer:
        for first in range(0, len(weights.tile0), _ROWS_AT_ONCE):
            writer.append("", _run_table(surface, weights, slice(first, first + _ROWS_AT_ONCE)))
    return {"runs": len(weights.tile0)}


def _publish_tiles(out: Publication, weights: DenseWeights, mix: TileMix) -> dict[str, Any]:
    """Write the persons of every tile of S1's spans, in their order, and what weights follow from beside them.

    No weight is written: the mix and the cut of each country say them all. The facts of this form.
    """
    persons = weights.surface.persons
    schema = pa.schema([pa.field("persons", pa.from_numpy_dtype(persons.dtype), nullable=False)])
    with out.table_writer("tiles", schema) as writer:
        for first in range(0, len(persons), _ROWS_AT_ONCE):
            writer.append("", pa.table([persons[first : first + _ROWS_AT_ONCE]], schema=schema))
    country = np.flatnonzero(np.diff(weights.surface.start)).astype(np.int16)
    cuts = [country, *weights.cut[country].T]
    out.add_table("cuts", pa.table(cuts, schema=_CUT_SCHEMA), sorted_by=("country",))
    return {"tiles": len(persons), "mix": mix.model_dump()}


def _run_table(surface: PopulationSurface, weights: TileWeights, part: slice) -> pa.Table:
    """Some rows of the published table."""
    tile0 = weights.tile0[part]
    run = np.arange(part.start, part.start + len(tile0))
    country = (np.searchsorted(weights.start, run, side="right") - 1).astype(np.int16)
    columns = [country, tile0, weights.length[part], surface.population[part], weights.weight[part]]
    return pa.table(columns, schema=_RUN_SCHEMA)


def placement_surface(world: World, index: TileIndex, policy: TileWeightsPolicy) -> Surface:
    """The surface that sites are placed by: a user's raster where the world has one, else the bundled settlements."""
    if world.raster is None:
        return build_surface(world, index, policy.surface)
    from seg1b.world.raster_surface import build_raster_surface

    return build_raster_surface(world, index)


def load_weights(store: Store, key: str, index: TileIndex) -> tuple[Surface, Weights]:
    """The published surface and weights."""
    manifest = store.manifest(WEIGHTS_STATE, key)
    return (_load_tiles if "tiles" in manifest.tables else _load_runs)(store, key, index)


def _load_tiles(store: Store, key: str, index: TileIndex) -> tuple[Surface, Weights]:
    facts = store.manifest(WEIGHTS_STATE, key).facts
    persons = store.open_table(WEIGHTS_STATE, key, "tiles").column("persons")
    surface = dense_surface(index, persons)
    cuts = store.read_table(WEIGHTS_STATE, key, "cuts")
    cut = np.zeros((len(surface.start) - 1, 4), np.int64)
    cut[column(cuts, "country", np.int16)] = np.stack(
        [column(cuts, name, np.int64) for name in _CUT_SCHEMA.names[1:]], axis=1
    )
    rule = mass_rules(surface, TileMix.model_validate(facts["mix"]))
    zero_mass = (np.diff(surface.start) > 0) & (surface.totals == 0)
    return surface, DenseWeights(surface, int(facts["dp"]), rule, cut, zero_mass)


def _load_runs(store: Store, key: str, index: TileIndex) -> tuple[Surface, Weights]:
    facts = store.manifest(WEIGHTS_STATE, key).facts
    table = store.read_table(WEIGHTS_STATE, key, "runs")
    countries = len(index.spans.start) - 1
    every = np.arange(
        countries + 1, dtype=np.int16
    )  # of the column's type: else all of it would be converted
    start = np.searchsorted(column(table, "country", np.int16), every).astype(np.int64)
    tile0, length = column(table, "tile0", np.int64), column(table, "length", np.int32)
    population, weight = column(table, "population_micro", np.int64), column(table, "weight", np.int64)
    surface = PopulationSurface(index.grid, start, tile0, length, population)
    inhabited = np.diff(start) > 0
    zero_mass = np.zeros(countries, np.bool_)
    zero_mass[inhabited] = (
        np.maximum.reduceat(population, start[:-1][inhabited]) == 0 if len(tile0) else False
    )
    return surface, TileWeights(index.grid, int(facts["dp"]), start, tile0, length, weight, zero_mass)


def _population_of(surface: PopulationSurface, weights: TileWeights) -> np.ndarray:
    """Population of every weight run: quantising may have cut one run of a country in two, nothing else."""
    if len(weights.tile0) == len(surface.tile0):
        return surface.population
    parts = []
    for country in range(len(weights.start) - 1):
        ours = weights.tile0[weights.start[country] : weights.start[country + 1]]
        theirs = slice(surface.start[country], surface.start[country + 1])
        people = surface.population[theirs]
        if len(ours) > len(people):
            same = ours[:-1] == surface.tile0[theirs]
            tail = len(people) if same.all() else int(np.argmin(same))
            people = np.insert(people, tail, people[tail - 1])
        parts.append(people)
    return np.concatenate(parts)
