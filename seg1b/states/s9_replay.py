"""S9's first half: every draw of a seed made again, by other code, and compared with what was published.

What is drawn again (`s9_draws`) is compared with the tables of every state, and the tables with each other and with
the catalogue. S3's pairs are derived again from the catalogue by S3's own function; the world of S1 and S2 is taken as
given. Nothing a state reported about itself is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seg1b.catalogue.outlets import OutletCatalogue
from seg1b.kernels import replay_containment
from seg1b.policy.load import Policies
from seg1b.states.replay_checks import Check, Replay
from seg1b.states.required_pairs import required_pairs
from seg1b.states.s9_draws import Points, Redraw, expanded
from seg1b.states.seed_tables import Numbering, SeedTables, SiteKeys, SiteTables
from seg1b.states.tables import Pairs
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
    iso, redraw = world.iso, Redraw(world, policies, seed, manifest_fingerprint)
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
        **_placement_violations(tables, redraw),
    }
    keys.append(_plan_fits(tables))
    blocks: dict[str, int] = {}
    if parity or not keys[-1].passed or not draw:
        return Replay(tuple(keys), violations, blocks)
    if not surface_known:
        drawn = [_assignment_on_plan(tables, redraw)]
    else:
        planned = None if plan_proven else _tiles(tables, redraw, numbering)
        drawn, blocks = _draws(tables, redraw, planned)
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


def _placement_violations(tables: SiteTables, redraw: Redraw) -> dict[str, int | None]:
    """Egress coordinates that are no coordinates, or lie outside their S5 tile or their country."""
    lon, lat = tables.lon_deg, tables.lat_deg
    valid = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lon) <= 180.0) & (np.abs(lat) <= 90.0)
    if len(tables.assigned_tile) != len(lon):
        return {
            "invalid_coordinates": int((~valid).sum()),
            "points_outside_tile": None,
            "points_outside_country": None,
        }
    grid = redraw.world.grid
    x, y = grid.to_units(np.where(valid, lon, 0.0), np.where(valid, lat, 0.0))
    row, col = grid.row_col(tables.assigned_tile)
    in_tile = (x >> 32 == col) & (y >> 32 == row)
    in_country = np.zeros(len(lon), np.bool_)
    for country, part in tables.egress.countries():
        index = redraw.borders(country)
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
    tables: SiteTables, redraw: Redraw, planned: tuple[IntArray, int] | None
) -> tuple[list[Check], dict[str, int]]:
    """S6 drawn again, on the tiles that S4 and S5 gave when they were (`_tiles`); None if that was done before.

    The checks, and the blocks of random numbers that each family of streams must have used.
    """
    pairs, keys, iso, placed = tables.pairs, tables.assigned, redraw.world.iso, tables.placement
    tile, plan_differs = (tables.assigned_tile, 0) if planned is None else planned
    sites = len(tile)
    drawn = Points(np.empty(sites), np.empty(sites), np.empty(sites, np.int64), np.empty(sites, np.uint8))
    for country, part, rows in _country_pairs(pairs):
        for name, values in vars(redraw.points(country, pairs, part, tile[rows])).items():
            getattr(drawn, name)[rows] = values
    per_attempt = 2 if redraw.policies.jitter.mode == "cluster_v3" else 1
    blocks = {"site_tile_assign": sites, "in_cell_jitter": int(drawn.attempts.sum()) * per_attempt}
    compared = {
        ("s5_tiles", "the replayed assignment gives the published tile"): tile == tables.assigned_tile,
        ("s6_tiles", "S6 kept S5's tile"): placed.tile_id == tables.assigned_tile,
        ("s6_points", "the replayed jitter gives the published point, to the last bit"): (
            (drawn.lon_deg == placed.lon_deg) & (drawn.lat_deg == placed.lat_deg)
        ),
        ("s6_attempts", "the replayed jitter took the published attempts"): (
            drawn.attempts == placed.attempts
        ),
        ("s6_components", "the replayed jitter chose the published component"): (
            drawn.component == placed.component
        ),
    }
    checks = [_same(name, demand, same, keys, iso) for (name, demand), same in compared.items()]
    return [Check("s4_plan", "the replayed plan has the published rows", plan_differs), *checks], blocks


def _tiles(tables: SiteTables, redraw: Redraw, numbering: Numbering | None) -> tuple[IntArray, int]:
    """The tile of every site by the draws of S4 and S5, and how many of the planned ones are not as published."""
    pairs = tables.pairs
    tile = np.empty(int(pairs.n_sites.sum()), np.int64)
    published = expanded(tables.plan)
    differing = 0
    for country, part, rows in _country_pairs(pairs):
        n_sites = pairs.n_sites[part]
        planned = redraw.plan(country, pairs, part, numbering)
        planned = planned[np.lexsort((planned, np.repeat(np.arange(len(n_sites), dtype=np.int32), n_sites)))]
        differing += int((planned != published[rows]).sum())
        tile[rows] = redraw.assignment(country, pairs, part, planned)
    return tile, differing


def _assignment_on_plan(tables: SiteTables, redraw: Redraw) -> Check:
    """S5 drawn again on the published plan."""
    tile, planned = np.empty(len(tables.assigned_tile), np.int64), expanded(tables.plan)
    for country, part, rows in _country_pairs(tables.pairs):
        tile[rows] = redraw.assignment(country, tables.pairs, part, planned[rows])
    demand = "the replayed assignment of the published plan gives the published tile"
    return _same("s5_tiles", demand, tile == tables.assigned_tile, tables.assigned, redraw.world.iso)


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
