"""Compile what the tasks of a certification need, before there is anything to certify.

Compiled kernels are cached on disk, but the first process to need one compiles it, and on a fresh machine every worker
would compile the same ones at the same time. So an executor runs `placing` in one worker and `validating` in another
while the driver computes the world: each takes a seed of a world of twelve square countries through half of the
chain, with the same functions and the same types as the real one. A test holds that nothing is left to compile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seg1b.catalogue.bundle import write_synthesis
from seg1b.catalogue.outlets import from_pairs
from seg1b.catalogue.shares import CountryShares
from seg1b.catalogue.synthesise import synthesise
from seg1b.catalogue.verify import read_catalogue, verify_bundle
from seg1b.lanes.seed_tasks import witness_digests
from seg1b.lanes.world_stage import WorldStage
from seg1b.later import Later
from seg1b.policy.load import Policies, default_policies, set_values
from seg1b.scoring.densities import Densities
from seg1b.scoring.measure import NamedSurface, ScoringContext
from seg1b.scoring.reference import SurfaceReference, tiles_per_cell
from seg1b.states import s9_validation
from seg1b.states.required_pairs import required_pairs
from seg1b.states.s3_requirements import country_metrics
from seg1b.states.seed_tables import SeedTables, SiteKeys
from seg1b.states.shard import StageTimes
from seg1b.states.tables import (
    Pairs,
    Placement,
    Plan,
    assignment_to_arrow,
    column,
    jitter_to_arrow,
    pairs_from_arrow,
    pairs_to_arrow,
    placement_from_arrow,
    plan_from_arrow,
    plan_to_arrow,
)
from seg1b.states.world_model import WorldModel, frozen
from seg1b.world.anchors import SettlementAnchors
from seg1b.world.content import CountryTable, Settlements
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface
from seg1b.world.tile_index import CountrySpans, IntegerPolygons, TileIndex
from seg1b.world.weights import Pieces, TileWeights

_COUNTRIES = 12
_EDGE_TILES = 20
_FIRST_ROW, _FIRST_COLUMN = 10_790, 21_600
_PEOPLE_MICRO = 100 * 1_000_000
_SEED = 1
_FINGERPRINT = "0" * 64


def placing() -> None:
    """Compile the synthesis of a catalogue and S3 to S6."""
    stage, policies = small_stage(), _small_policies()
    synthesis = synthesise(stage.world.countries, stage.shares, policies.synthesis, _SEED)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "bundle"
        write_synthesis(root, synthesis, stage.shares, policies.country_shares, stage.world.digest)
        catalogue = read_catalogue(verify_bundle(root), stage.world.iso)
    pairs, _ = required_pairs(catalogue, stage.world.countries, policies.requirements)
    country_metrics(pairs, stage.world.countries, stage.shares)
    pairs = pairs_from_arrow(stage.world.iso, pairs_to_arrow(stage.world.iso, pairs))
    witness_digests(stage, policies, _SEED, _FINGERPRINT, pairs)
    witness_digests(stage, policies, _SEED, _FINGERPRINT, pairs.only(range(_COUNTRIES)))


def validating() -> None:
    """Compile S9: the replay of all draws and the scores."""
    stage, policies = small_stage(), _small_policies()
    tables = _small_tables(stage)
    s9_validation.validate(stage.world, tables, stage.context, policies, _SEED, _FINGERPRINT)


def _small_policies() -> Policies:
    return set_values(default_policies(), {"synthesis.merchants": 60, "synthesis.sizes.pareto.upper": 40})


def small_stage() -> WorldStage:
    """Twelve square countries in a row along the equator, made by hand: none of the world's kernels is needed."""
    grid = Grid(30)
    columns = _FIRST_COLUMN + _EDGE_TILES * np.arange(_COUNTRIES, dtype=np.int64)
    countries = _countries()
    surface, weights = _surface(grid, columns)
    tiles = _EDGE_TILES * _EDGE_TILES
    whole = np.repeat(np.arange(_COUNTRIES), _EDGE_TILES)
    pieces = Pieces(
        surface.start, surface.tile0, surface.length, weights.weight,
        weights.weight * _EDGE_TILES * (np.arange(len(whole)) % _EDGE_TILES),
    )  # fmt: skip
    polygons = _polygons(columns)
    index = TileIndex(grid, _spans(columns), np.empty(0, np.int16), np.empty(0, np.int64))
    middle = _EDGE_TILES // 2
    anchor_tile = (_FIRST_ROW + middle) * grid.ncols + columns + middle
    half = np.full(_COUNTRIES, 1 << 31, np.int64)
    anchors = SettlementAnchors(
        grid.n_tiles, np.arange(_COUNTRIES, dtype=np.int64) * grid.n_tiles + anchor_tile, half, half.copy()
    )
    lon, lat = grid.centroid(anchor_tile)
    settlements = Settlements(
        np.rint(lon * 1e5).astype(np.int32),
        np.rint(lat * 1e5).astype(np.int32),
        np.full(_COUNTRIES, 60_000, np.int32),
        np.arange(_COUNTRIES, dtype=np.int16),
        np.arange(_COUNTRIES, dtype=np.int32),
        pa.array([f"town {number}" for number in range(_COUNTRIES)]),
    )
    world = WorldModel(
        _FINGERPRINT, countries, grid, index, surface, weights, Later.known(frozen(pieces)), polygons,
        polygons.edge_index(_COUNTRIES, grid), anchors, settlements,
    )  # fmt: skip
    shares = _shares(countries)
    reference = SurfaceReference(
        "placement",
        tiles_per_cell(grid, 1.0),
        np.full(_COUNTRIES, tiles * _PEOPLE_MICRO, np.int64),
        np.full(_COUNTRIES, tiles * _PEOPLE_MICRO // 2, np.int64),
        np.arange(_COUNTRIES, dtype=np.int16),
        np.full(_COUNTRIES, 90 * 360 + 180, np.int32),
        np.full(_COUNTRIES, tiles * _PEOPLE_MICRO, np.int64),
        Densities(surface, grid.row_area_cm2(), grid.ncols),
    )
    context = ScoringContext(
        countries.iso, countries.macro_region, countries.eligible, shares.prior, shares.market_size, grid, lon, lat,
        (NamedSurface(surface, reference),), default_policies().gates,
    )  # fmt: skip
    return WorldStage(frozen(world), frozen(shares), Later.known(frozen(context)), {}, "", (), StageTimes())


def _countries() -> CountryTable:
    iso = tuple(f"A{chr(65 + number)}" for number in range(_COUNTRIES))
    regions = ("Africa", "Asia", "Europe", "North America", "South America", "Oceania")
    people = _EDGE_TILES * _EDGE_TILES * _PEOPLE_MICRO // 1_000_000
    return CountryTable(
        iso, iso,
        np.full(_COUNTRIES, people, np.int64), ("",) * _COUNTRIES,
        np.full(_COUNTRIES, 10_000.0), ("",) * _COUNTRIES,
        np.full(_COUNTRIES, 344.0), ("",) * _COUNTRIES,
        tuple(regions[number % len(regions)] for number in range(_COUNTRIES)),
        np.ones(_COUNTRIES, np.bool_), ("",) * _COUNTRIES,
    )  # fmt: skip


def _surface(grid: Grid, columns: NDArray[np.int64]) -> tuple[PopulationSurface, TileWeights]:
    """A hundred people in every tile; one run for each row of a country."""
    rows = np.arange(_FIRST_ROW, _FIRST_ROW + _EDGE_TILES, dtype=np.int64)
    tile0 = (rows[None, :] * grid.ncols + columns[:, None]).ravel()
    start = np.arange(_COUNTRIES + 1, dtype=np.int64) * _EDGE_TILES
    length = np.full(len(tile0), _EDGE_TILES, np.int32)
    people = np.full(len(tile0), _PEOPLE_MICRO, np.int64)
    weight = np.full(len(tile0), 10**12 // (_EDGE_TILES * _EDGE_TILES), np.int64)
    no_mass = np.zeros(_COUNTRIES, np.bool_)
    surface = PopulationSurface(grid, start, tile0, length, people)
    return surface, TileWeights(grid, 12, start, tile0, length, weight, no_mass)


def _spans(columns: NDArray[np.int64]) -> CountrySpans:
    """Every row of every country."""
    rows = np.tile(np.arange(_FIRST_ROW, _FIRST_ROW + _EDGE_TILES, dtype=np.int32), _COUNTRIES)
    first = np.repeat(columns, _EDGE_TILES).astype(np.int32)
    start = np.arange(_COUNTRIES + 1, dtype=np.int64) * _EDGE_TILES
    return CountrySpans(start, rows, first, (first + _EDGE_TILES).astype(np.int32))


def _polygons(columns: NDArray[np.int64]) -> IntegerPolygons:
    """Squares whose western border is moved in by a quarter of a tile, so that border tiles reject some points."""
    corner_x = np.array([0, 1, 1, 0, 0]) * _EDGE_TILES
    corner_y = np.array([0, 0, 1, 1, 0]) * _EDGE_TILES
    x = (columns[:, None] + corner_x[None, :]) << 32
    x[:, [0, 3, 4]] += 1 << 30
    y = np.tile((_FIRST_ROW + corner_y) << 32, _COUNTRIES)
    ring_start = np.arange(_COUNTRIES + 1, dtype=np.int64) * 5
    return IntegerPolygons(x.ravel(), y.astype(np.int64), ring_start, np.arange(_COUNTRIES, dtype=np.int16))


def _shares(countries: CountryTable) -> CountryShares:
    equal = np.full(_COUNTRIES, 1.0 / _COUNTRIES)
    ppm = np.full(_COUNTRIES, 1_000_000 // _COUNTRIES, np.int64)
    ppm[0] += 1_000_000 - int(ppm.sum())
    return CountryShares(
        countries.iso, ppm, equal, np.full(_COUNTRIES, 1e9), np.full(_COUNTRIES, 10_000, np.int64),
        np.ones(_COUNTRIES, np.int64), np.full(_COUNTRIES, 0.5), {}, np.zeros(_COUNTRIES), 0.0, 0.0, {},
    )  # fmt: skip


def _small_tables(stage: WorldStage) -> SeedTables:
    """Four merchants in every country with sites on tile centres: not what S4 to S6 would give, but of the same types.

    The tables go through Arrow once, because arrays read from there are read-only, and a kernel is compiled for
    read-only and for writable arrays apart.
    """
    iso, grid = stage.world.iso, stage.world.grid
    merchants = np.tile(np.arange(1, 5, dtype=np.uint64), _COUNTRIES)
    country = np.repeat(np.arange(_COUNTRIES, dtype=np.int16), 4)
    n_sites = np.tile(np.array([1, 2, 9, 15], np.int64), _COUNTRIES)
    pairs = Pairs(country, merchants, n_sites)
    site_country, site_merchant, order = pairs.sites()
    spans = stage.world.index.spans
    first = (spans.row.astype(np.int64) * grid.ncols + spans.col0)[::_EDGE_TILES]
    tile = first[site_country] + grid.ncols * (site_merchant.astype(np.int64) % 7) + order % 11
    plan = Plan(country, merchants, first[country] + merchants.astype(np.int64), n_sites)
    lon, lat = grid.centroid(tile)
    placed = Placement(tile, lon, lat, np.ones(len(tile), np.int32), np.zeros(len(tile), np.uint8))
    assigned, jittered = assignment_to_arrow(iso, pairs, tile), jitter_to_arrow(iso, pairs, placed)
    keys = SiteKeys.from_arrow(iso, assigned)
    placement = placement_from_arrow(jittered)
    return SeedTables(
        pairs_from_arrow(iso, pairs_to_arrow(iso, pairs)),
        plan_from_arrow(iso, plan_to_arrow(iso, plan)),
        keys,
        column(assigned, "tile_id", np.int64),
        SiteKeys.from_arrow(iso, jittered),
        placement,
        keys,
        placement.lon_deg,
        placement.lat_deg,
        np.ones(len(tile), np.bool_),
        from_pairs(iso, merchants, country, n_sites.astype(np.int32), np.zeros(len(country), np.int16)),
    )
