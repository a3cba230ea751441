"""S9's first half: every draw of a seed made again, by other code, and compared with what was published.

The replay (`kernels/replay_*.py`) derives its streams, multiplies, searches and tests points on its own. With the
kernels of S4, S5 and S6 it shares one thing: the table of the inverse normal, whose SHA-256 `kernels/jitter.py` pins.
Not replayed by other code: the plan of the mode `largest_remainder_v1`, made again by S4's own code; and S3's pairs,
derived again from the catalogue by S3's own function. The world of S1 and S2 is taken as given. What the replay
yields is compared with the tables of every state, and the tables with each other and with the catalogue. Nothing a
state reported about itself is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.kernels import (
    replay_allocation,
    replay_assignment,
    replay_containment,
    replay_jitter,
    replay_jitter_v1,
)
from seg1b.kernels.jitter import inverse_normal_table
from seg1b.policy.load import Policies
from seg1b.states import s4_allocation
from seg1b.states.replay_checks import Check, Replay
from seg1b.states.required_pairs import required_pairs
from seg1b.states.seed_tables import Numbering, SeedTables, SiteKeys, SiteTables
from seg1b.states.tables import Pairs, Plan
from seg1b.states.world_model import WorldModel

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

PARITY = "parity_mismatches"
_KEY_CHECKS = ("s5_keys", "s6_keys", "s8_keys", "s4_rows")


def run(
    world: WorldModel,
    tables: SeedTables,
    policies: Policies,
    seed: int,
    manifest_fingerprint: str,
    *,
    surface_known: bool = True,
) -> Replay:
    """Replay one seed and compare. Rows that cannot be compared because keys differ count as differing.

    With an unknown surface only what needs no weights is replayed: S5 on the published plan.
    """
    requirements = check_requirements(world, tables.catalogue, tables.pairs, policies)
    required, _ = required_pairs(tables.catalogue, world.countries, policies.requirements)
    rows = run_countries(
        world,
        tables,
        required,
        policies,
        seed,
        manifest_fingerprint,
        surface_known=surface_known,
        draw=requirements.passed,
    )
    return joined(requirements, [rows])


def check_requirements(
    world: WorldModel, catalogue: OutletCatalogue, pairs: Pairs, policies: Policies
) -> Check:
    """S3's pairs against the catalogue."""
    required, _ = required_pairs(catalogue, world.countries, policies.requirements)
    demand = "the requirements are the catalogue's counts less the denylist"
    return Check("s3_requirements", demand, _differing_pairs(required, pairs))


def run_countries(
    world: WorldModel,
    tables: SiteTables,
    required: Pairs,
    policies: Policies,
    seed: int,
    manifest_fingerprint: str,
    *,
    surface_known: bool = True,
    draw: bool = True,
    numbering: Numbering | None = None,
    plan_proven: bool = False,
) -> Replay:
    """All of `run` but the check of S3, for some countries of a seed, or for a block of pairs of one country.

    `required`: these pairs; `numbering` says which block, None that they are all pairs of their countries. Without
    `draw`, or where keys differ, no draw is made again. `plan_proven`: the draws of S4 and S5 were made again before,
    and were the published ones; then those of S6 alone are.
    """
    iso, borders = world.iso, _Borders(world)
    expected = SiteKeys.of(required)
    keys = [
        _same_keys("s5_keys", tables.assigned, expected, iso),
        _same_keys("s6_keys", tables.jittered, expected, iso),
        _same_keys("s8_keys", tables.egress, expected, iso),
    ]
    parity = sum(check.differing for check in keys)
    violations: dict[str, int | None] = {
        PARITY: parity,
        "duplicate_keys": tables.egress.duplicates(),
        **_placement_violations(world, tables, borders),
    }
    keys.append(_plan_fits(tables))
    blocks: dict[str, int] = {}
    if parity or not keys[-1].passed or not draw:
        return Replay(tuple(keys), violations, blocks)
    if surface_known:
        known = tables.assigned_tile if plan_proven else None
        drawn = _draws(world, tables, policies, seed, manifest_fingerprint, blocks, numbering, known, borders)
    else:
        drawn = [_assignment_on_plan(world.iso, tables, policies, seed, manifest_fingerprint)]
    return Replay((*keys, *drawn, *_coordinates(tables, iso)), violations, blocks)


def joined(requirements: Check, parts: Sequence[Replay]) -> Replay:
    """The replay of a seed from those of its countries, in any order.

    If a row is missing somewhere, or the requirements are wrong, draws count nowhere: which sites they are for is not
    settled.
    """
    all_parts = summed([Replay((), {PARITY: requirements.differing}, {}), *parts])
    settled = requirements.passed and all(c.passed for c in all_parts.checks if c.name in _KEY_CHECKS)
    found = [check for check in all_parts.checks if settled or check.name in _KEY_CHECKS]
    return Replay((requirements, *found), all_parts.violations, all_parts.blocks if settled else {})


def summed(parts: Sequence[Replay]) -> Replay:
    """Several countries' replays, or several blocks', as one."""
    checks: dict[str, list[Check]] = {}
    violations: dict[str, int | None] = {}
    blocks: dict[str, int] = {}
    for part in parts:
        for check in part.checks:
            checks.setdefault(check.name, []).append(check)
        for name, count in part.violations.items():
            before = violations.get(name, 0)
            violations[name] = None if before is None or count is None else before + count
        for family, used in part.blocks.items():
            blocks[family] = blocks.get(family, 0) + used
    return Replay(tuple(_sum(rows) for rows in checks.values()), violations, blocks)


def _sum(checks: Sequence[Check]) -> Check:
    """One check of several parts; what differs first is named by its country's code, which begins the text."""
    first = min((check.first for check in checks if check.first), default="")
    return Check(checks[0].name, checks[0].demand, sum(check.differing for check in checks), first)


def _differing_pairs(left: Pairs, right: Pairs) -> int:
    if len(left.country) != len(right.country):
        return max(len(left.country), len(right.country))
    differs = (
        (left.country != right.country)
        | (left.merchant_id != right.merchant_id)
        | (left.n_sites != right.n_sites)
    )
    return int(differs.sum())


def _plan_fits(tables: SiteTables) -> Check:
    """Rows of the plan that are not in order, hold no site or are not of a required pair; or sites too many or few."""
    plan, pairs = tables.plan, tables.pairs
    demand = "the plan's rows ascend and sum to the required sites of every pair"
    sites = int(pairs.n_sites.sum())
    if np.any(plan.n_sites_tile < 1) or np.any(plan.n_sites_tile > sites):
        return Check("s4_rows", demand, int(((plan.n_sites_tile < 1) | (plan.n_sites_tile > sites)).sum()))
    planned = int(plan.n_sites_tile.sum())
    if planned != sites:
        return Check("s4_rows", demand, abs(planned - sites), f"{planned} sites planned, {sites} required")
    same_pair = (np.diff(plan.country) == 0) & (plan.merchant_id[1:] == plan.merchant_id[:-1])
    unsorted = same_pair & (np.diff(plan.tile_id) <= 0)
    wrong = (np.repeat(plan.country, plan.n_sites_tile) != np.repeat(pairs.country, pairs.n_sites)) | (
        np.repeat(plan.merchant_id, plan.n_sites_tile) != np.repeat(pairs.merchant_id, pairs.n_sites)
    )
    return Check("s4_rows", demand, int(wrong.sum()) + int(unsorted.sum()))


def _same_keys(name: str, found: SiteKeys, expected: SiteKeys, iso: tuple[str, ...]) -> Check:
    demand = "one row per required site, in key order"
    if len(found) != len(expected):
        return Check(
            name,
            demand,
            abs(len(found) - len(expected)) or 1,
            f"{len(found)} rows, {len(expected)} sites are required",
        )
    differs = found.differs_from(expected)
    first = expected.describe(int(np.argmax(differs)), iso) if differs.any() else ""
    return Check(name, demand, int(differs.sum()), first)


class _Borders:
    """The edges of countries as the replay finds them, indexed once for all that a part of a seed is asked."""

    def __init__(self, world: WorldModel) -> None:
        self._world = world
        self._known: dict[int, replay_containment.EdgeIndex] = {}

    def of(self, country: int) -> replay_containment.EdgeIndex:
        """Those of one country."""
        if country not in self._known:
            x, y, ring_start = self._world.polygons.of(country)
            self._known[country] = replay_containment.build_edge_index(
                x, y, ring_start, self._world.grid.tiles_per_degree
            )
        return self._known[country]


def _placement_violations(world: WorldModel, tables: SiteTables, borders: _Borders) -> dict[str, int | None]:
    """Egress coordinates that are no coordinates, or lie outside their S5 tile or their country."""
    lon, lat = tables.lon_deg, tables.lat_deg
    valid = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lon) <= 180.0) & (np.abs(lat) <= 90.0)
    if len(tables.assigned_tile) != len(lon):
        return {
            "invalid_coordinates": int((~valid).sum()),
            "points_outside_tile": None,
            "points_outside_country": None,
        }
    x, y = world.grid.to_units(np.where(valid, lon, 0.0), np.where(valid, lat, 0.0))
    row, col = world.grid.row_col(tables.assigned_tile)
    in_tile = (x >> 32 == col) & (y >> 32 == row)
    in_country = np.zeros(len(lon), np.bool_)
    for country, part in tables.egress.countries():
        index = borders.of(country)
        in_country[part] = replay_containment.points_in_country(x[part], y[part], index)
    return {
        "invalid_coordinates": int((~valid).sum()),
        "points_outside_tile": int((~in_tile & valid).sum()),
        "points_outside_country": int((~in_country & valid).sum()),
    }


def _country_pairs(pairs: Pairs) -> Iterator[tuple[int, slice, slice]]:
    """(country, its pairs, its sites) in order."""
    first = np.concatenate(([0], np.cumsum(pairs.n_sites)))
    for country, part in pairs.countries():
        yield country, part, slice(int(first[part.start]), int(first[part.stop]))


def _draws(
    world: WorldModel,
    tables: SiteTables,
    policies: Policies,
    seed: int,
    manifest_fingerprint: str,
    blocks: dict[str, int],
    numbering: Numbering | None,
    known_tile: IntArray | None,
    borders: _Borders,
) -> list[Check]:
    """Replay S4, S5 and S6 country by country; S6 alone if the tile of every site is known."""
    pairs = tables.pairs
    sites = int(pairs.n_sites.sum())
    lon, lat = np.empty(sites), np.empty(sites)
    attempts, component = np.empty(sites, np.int64), np.empty(sites, np.uint8)
    if known_tile is None:
        tile, plan_differs = _replayed_tiles(world, tables, policies, seed, manifest_fingerprint, numbering)
    else:
        tile, plan_differs = known_tile, 0
    rule = cluster_rule(world.digest, policies)
    for country, part, rows in _country_pairs(pairs):
        merchants, n_sites = pairs.merchant_id[part], pairs.n_sites[part]
        lon[rows], lat[rows], attempts[rows], component[rows] = _replayed_points(
            world,
            country,
            merchants,
            n_sites,
            tile[rows],
            policies,
            seed,
            manifest_fingerprint,
            rule,
            borders,
        )
    keys, iso_codes = tables.assigned, world.iso
    per_attempt = 2 if policies.jitter.mode == "cluster_v3" else 1
    blocks["site_tile_assign"] = sites
    blocks["in_cell_jitter"] = int(attempts.sum()) * per_attempt
    placed = tables.placement
    return [
        Check("s4_plan", "the replayed plan has the published rows", plan_differs),
        _same(
            "s5_tiles",
            "the replayed assignment gives the published tile",
            tile == tables.assigned_tile,
            keys,
            iso_codes,
        ),
        _same("s6_tiles", "S6 kept S5's tile", placed.tile_id == tables.assigned_tile, keys, iso_codes),
        _same(
            "s6_points",
            "the replayed jitter gives the published point, to the last bit",
            (lon == placed.lon_deg) & (lat == placed.lat_deg),
            keys,
            iso_codes,
        ),
        _same(
            "s6_attempts",
            "the replayed jitter took the published attempts",
            attempts == placed.attempts,
            keys,
            iso_codes,
        ),
        _same(
            "s6_components",
            "the replayed jitter chose the published component",
            component == placed.component,
            keys,
            iso_codes,
        ),
    ]


def _replayed_tiles(
    world: WorldModel,
    tables: SiteTables,
    policies: Policies,
    seed: int,
    manifest_fingerprint: str,
    numbering: Numbering | None,
) -> tuple[IntArray, int]:
    """The tile of every site by the draws of S4 and S5, and how many of the planned ones are not as published."""
    pairs = tables.pairs
    tile = np.empty(int(pairs.n_sites.sum()), np.int64)
    published = _expanded(tables.plan)
    differing = 0
    for country, part, rows in _country_pairs(pairs):
        planned = replay_plan(world, country, pairs, part, policies, seed, numbering)
        merchants, n_sites = pairs.merchant_id[part], pairs.n_sites[part]
        planned = planned[np.lexsort((planned, np.repeat(np.arange(len(n_sites), dtype=np.int32), n_sites)))]
        differing += int((planned != published[rows]).sum())
        fingerprint = _v1_fingerprint(policies, manifest_fingerprint)
        tile[rows] = replay_assignment.replay_assignment(
            seed, world.iso[country], merchants, n_sites, planned, fingerprint
        )
    return tile, differing


def _assignment_on_plan(
    iso: tuple[str, ...], tables: SiteTables, policies: Policies, seed: int, manifest_fingerprint: str
) -> Check:
    """Replay S5 on the published plan."""
    tile = np.empty(len(tables.assigned_tile), np.int64)
    planned = _expanded(tables.plan)
    for country, part, rows in _country_pairs(tables.pairs):
        merchants, n_sites = tables.pairs.merchant_id[part], tables.pairs.n_sites[part]
        tile[rows] = replay_assignment.replay_assignment(
            seed,
            iso[country],
            merchants,
            n_sites,
            planned[rows],
            _v1_fingerprint(policies, manifest_fingerprint),
        )
    demand = "the replayed assignment of the published plan gives the published tile"
    return _same("s5_tiles", demand, tile == tables.assigned_tile, tables.assigned, iso)


def _v1_fingerprint(policies: Policies, manifest_fingerprint: str) -> str | None:
    """What S5's streams are keyed by in the first engine's family; None in ours."""
    if policies.assignment.rng != "v1":
        return None
    return policies.assignment.v1_manifest_fingerprint or manifest_fingerprint


def _same(name: str, demand: str, same: BoolArray, keys: SiteKeys, iso: tuple[str, ...]) -> Check:
    wrong = ~same
    first = keys.describe(int(np.argmax(wrong)), iso) if wrong.any() else ""
    return Check(name, demand, int(wrong.sum()), first)


def _coordinates(tables: SiteTables, iso: tuple[str, ...]) -> list[Check]:
    """S6's points against the egress, and the egress's numbers against its geometry."""
    placed = tables.placement
    same = (placed.lon_deg == tables.lon_deg) & (placed.lat_deg == tables.lat_deg)
    checks = [
        _same("s8_coordinates", "the egress has S6's points, to the last bit", same, tables.egress, iso),
    ]
    if tables.geometry_matches is not None:
        checks.append(
            _same(
                "s8_geometry",
                "the WKB point is the lon/lat point",
                tables.geometry_matches,
                tables.egress,
                iso,
            )
        )
    return checks


def _expanded(plan: Plan) -> IntArray:
    """Each pair's multiset of tiles, ascending, pair after pair."""
    return np.repeat(plan.tile_id, plan.n_sites_tile)


def replay_plan(
    world: WorldModel,
    country: int,
    pairs: Pairs,
    part: slice,
    policies: Policies,
    seed: int,
    numbering: Numbering | None = None,
) -> IntArray:
    """Tile of every site number of a country, or of a block of its pairs, by S4's policy.

    The first engine's plan draws nothing; it is made again by the same code.
    """
    policy = policies.allocation
    iso = world.iso[country]
    pieces = world.replay_pieces(country)
    n_sites = pairs.n_sites[part]
    if policy.mode == "two_stage_pps":
        two_stage = policy.two_stage
        return replay_allocation.replay_country_plan(
            seed,
            iso,
            n_sites,
            pieces,
            two_stage.sites_per_area,
            two_stage.dispersed_ppm,
            None if numbering is None else (numbering.first, numbering.sites),
        )
    if policy.mode == "systematic_pps":
        return replay_allocation.replay_pair_plan(seed, iso, pairs.merchant_id[part], n_sites, pieces)
    again = s4_allocation.run(world, pairs.only([country]), policy, seed).plan
    return _expanded(again)


def _replayed_points(
    world: WorldModel,
    country: int,
    merchants: NDArray[np.uint64],
    n_sites: IntArray,
    tile: IntArray,
    policies: Policies,
    seed: int,
    manifest_fingerprint: str,
    rule: replay_jitter.ClusterRule,
    borders: _Borders,
) -> tuple[NDArray[np.float64], NDArray[np.float64], IntArray, NDArray[np.uint8]]:
    """Longitude, latitude, attempts and component (255: none) of a country's sites."""
    policy, iso = policies.jitter, world.iso[country]
    index = borders.of(country)
    if policy.mode == "cluster_v3":
        settlements = world.settlements
        own = slice(*np.searchsorted(settlements.country, [country, country + 1]).tolist())
        anchors = replay_jitter.settlement_anchors(
            tile,
            world.grid.tiles_per_degree,
            settlements.lon_e5[own],
            settlements.lat_e5[own],
            settlements.population[own],
            settlements.geonameid[own],
        )
        people = world.surface.population_at(np.full(len(tile), country, np.int16), tile)
        found = replay_jitter.replay_jitter(seed, iso, merchants, n_sites, tile, people, anchors, rule, index)
        scale = float(world.grid.tiles_per_degree << 32)
        lon = (found.x - (180 * world.grid.tiles_per_degree << 32)) / scale
        lat = ((90 * world.grid.tiles_per_degree << 32) - found.y) / scale
        return lon, lat, found.attempts, found.component.astype(np.uint8)
    mixture = policy.mixture_v2
    namespace = mixture.namespace if policy.mode == "mixture_v2" else policy.uniform_v1.namespace
    v1 = replay_jitter_v1.replay_jitter_v1(
        seed,
        iso,
        merchants,
        n_sites,
        tile,
        policy.v1_manifest_fingerprint or manifest_fingerprint,
        namespace,
        policy.max_attempts,
        mixture_rule(policies) if policy.mode == "mixture_v2" else replay_jitter_v1.UNIFORM,
        index,
    )
    return v1.lon_deg, v1.lat_deg, v1.attempts, v1.component.astype(np.uint8)  # -1, uniform, is 255


def cluster_rule(world_digest: str, policies: Policies) -> replay_jitter.ClusterRule:
    """The jitter policy as the replay's own integers."""
    policy = policies.jitter
    cluster = policy.cluster_v3
    weights = cluster.component_weights
    return replay_jitter.cluster_rule(
        world_digest,
        inverse_normal_table(),
        policy.max_attempts,
        (weights.core, weights.secondary, weights.sparse_tail),
        cluster.anchor_population_thresholds,
        cluster.anchor_margin,
        cluster.core_sd_tile,
        cluster.secondary_sd_tile,
    )


def mixture_rule(policies: Policies) -> replay_jitter_v1.MixtureRule:
    """The mixture policy as the replay's own numbers."""
    mixture = policies.jitter.mixture_v2
    parts = (mixture.core, mixture.secondary, mixture.sparse_tail)
    weights = mixture.component_weights
    return replay_jitter_v1.MixtureRule(
        mixture.selection_blend,
        weights.core,
        weights.secondary,
        np.array([[part.exponent_lon, part.exponent_lat] for part in parts]),
        np.array([[part.max_offset, part.max_offset] for part in parts]),
    )
