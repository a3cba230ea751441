"""S9 believes nothing: every tampered table is found by the check made for it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seed_cases import FINGERPRINT, edited, only_country, place, with_placement, with_plan, without_row

import seg1b.kernels
from seg1b.errors import ContractError
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies, set_values
from seg1b.states import s4_allocation, s9_draws, s9_replay, s9_validation
from seg1b.states.replay_checks import Replay
from seg1b.states.seed_tables import SeedTables, SiteKeys
from seg1b.states.tables import Pairs, Plan
from seg1b.states.world_model import WorldModel

DEFAULTS = default_policies()
PLAN_COLUMNS = ("country", "merchant_id", "tile_id", "n_sites_tile")
ALL_CHECKS = [
    "s3_requirements", "s5_keys", "s6_keys", "s8_keys", "s4_rows", "s4_plan", "s5_tiles", "s6_tiles", "s6_points",
    "s6_attempts", "s6_components", "s8_coordinates", "s8_geometry",
]  # fmt: skip


@pytest.fixture(scope="module")
def world(world_stage: WorldStage) -> WorldModel:
    """The model of the Earth."""
    return world_stage.world


@pytest.fixture(scope="module")
def tables(world: WorldModel) -> SeedTables:
    """An honest seed."""
    return place(world, DEFAULTS)


def replay(world: WorldModel, tables: SeedTables, seed: int = 42, **options: Any) -> Replay:
    """S9's first half with the default policies."""
    return s9_replay.run(world, tables, DEFAULTS, seed, FINGERPRINT, **options)


def with_keys(tables: SeedTables, table: str, keys: SiteKeys) -> SeedTables:
    """Other keys of one table."""
    changes: dict[str, Any] = {table: keys}
    return dataclasses.replace(tables, **changes)


def failed(found: Replay) -> set[str]:
    """Names of the checks that did not pass."""
    return {check.name for check in found.checks if not check.passed}


def test_an_honest_seed_passes_every_check(world: WorldModel, tables: SeedTables) -> None:
    """All thirteen checks, no violation, two blocks per attempt."""
    found = replay(world, tables)
    assert [check.name for check in found.checks] == ALL_CHECKS
    assert found.passed, failed(found)
    assert failed(found) == set()
    assert set(found.violations.values()) == {0}
    sites = len(tables.assigned_tile)
    assert found.blocks == {
        "site_tile_assign": sites,
        "in_cell_jitter": 2 * int(tables.placement.attempts.sum()),
    }
    assert sites == sum(1 + 3 * m for m in range(12)) * 4 + 24


def test_another_seed_is_not_this_one(world: WorldModel, tables: SeedTables) -> None:
    """Draws are the seed's own."""
    assert {"s4_plan", "s5_tiles", "s6_points"} <= failed(replay(world, tables, seed=43))


def test_a_moved_plan_row_is_found(world: WorldModel, tables: SeedTables) -> None:
    """One site of the plan in the next tile: only the plan's check, for the assignment is drawn again."""
    row = int(np.flatnonzero(tables.plan.country == world.country_index["FR"])[3])
    found = replay(
        world,
        with_plan(tables, tile_id=edited(tables.plan.tile_id, lambda t: t.__setitem__(row, t[row] + 1))),
    )
    assert failed(found) == {"s4_plan"}
    assert next(c for c in found.checks if c.name == "s4_plan").differing >= 1


def test_two_tiles_exchanged_within_a_pair_are_found(world: WorldModel, tables: SeedTables) -> None:
    """The multiset of tiles stays; which site stands where does not."""
    keys = tables.assigned
    pair = (keys.country == world.country_index["US"]) & (keys.merchant_id == 10**11)
    rows = np.flatnonzero(pair)
    one = rows[0]
    other = rows[np.flatnonzero(tables.assigned_tile[rows] != tables.assigned_tile[one])[0]]

    def exchange(values: Any) -> None:
        values[[one, other]] = values[[other, one]]

    tile = edited(tables.assigned_tile, exchange)
    forged = dataclasses.replace(tables, assigned_tile=tile)
    found = replay(world, forged)
    assert failed(found) == {"s5_tiles", "s6_tiles"}
    assert next(c for c in found.checks if c.name == "s5_tiles").differing == 2
    assert found.violations["points_outside_tile"] == 2
    followed = with_placement(forged, tile_id=tile)
    assert failed(replay(world, followed)) == {"s5_tiles"}


def test_a_tile_that_only_s6_changed_is_found(world: WorldModel, tables: SeedTables) -> None:
    """S6 must keep S5's tile."""
    tile = edited(tables.placement.tile_id, lambda t: t.__setitem__(7, t[7] + 1))
    assert failed(replay(world, with_placement(tables, tile_id=tile))) == {"s6_tiles"}


@pytest.mark.parametrize("column", ["lon_deg", "lat_deg"])
def test_a_point_moved_by_one_bit_is_found(world: WorldModel, tables: SeedTables, column: str) -> None:
    """The last bit of one coordinate, in S6 and the egress together: only the replay can know."""
    values = edited(getattr(tables.placement, column), lambda v: v.__setitem__(11, np.nextafter(v[11], 400)))
    found = replay(world, dataclasses.replace(with_placement(tables, **{column: values}), **{column: values}))
    assert failed(found) == {"s6_points"}
    (check,) = (c for c in found.checks if c.name == "s6_points")
    assert check.differing == 1
    assert check.first == tables.assigned.describe(11, world.iso)


def test_other_attempts_are_found(world: WorldModel, tables: SeedTables) -> None:
    """What a site reports of its own making is drawn again too."""
    attempts = edited(tables.placement.attempts, lambda a: a.__setitem__(0, a[0] + 1))
    assert failed(replay(world, with_placement(tables, attempts=attempts))) == {"s6_attempts"}


def test_another_component_is_found(world: WorldModel, tables: SeedTables) -> None:
    """Core instead of tail would let a report claim another mixture."""
    component = edited(tables.placement.component, lambda c: c.__setitem__(5, (c[5] + 1) % 3))
    assert failed(replay(world, with_placement(tables, component=component))) == {"s6_components"}


def test_an_egress_that_is_not_s6_is_found(world: WorldModel, tables: SeedTables) -> None:
    """A coordinate moved in the egress alone, within its tile."""
    lon = edited(tables.lon_deg, lambda v: v.__setitem__(3, np.nextafter(v[3], 400)))
    assert failed(replay(world, dataclasses.replace(tables, lon_deg=lon))) == {"s8_coordinates"}


def test_a_geometry_that_is_not_its_point_is_found(world: WorldModel, tables: SeedTables) -> None:
    """Maps are drawn from the WKB column."""
    assert tables.geometry_matches is not None
    matches = edited(tables.geometry_matches, lambda m: m.__setitem__(9, False))
    assert failed(replay(world, dataclasses.replace(tables, geometry_matches=matches))) == {"s8_geometry"}
    unread = replay(world, dataclasses.replace(tables, geometry_matches=None))
    assert [check.name for check in unread.checks] == [name for name in ALL_CHECKS if name != "s8_geometry"]


@pytest.mark.parametrize(
    ("table", "check"), [("assigned", "s5_keys"), ("jittered", "s6_keys"), ("egress", "s8_keys")]
)
def test_a_changed_key_is_found(world: WorldModel, tables: SeedTables, table: str, check: str) -> None:
    """Another site number, and a number twice."""
    keys: SiteKeys = getattr(tables, table)
    wrong = dataclasses.replace(keys, site_order=edited(keys.site_order, lambda s: s.__setitem__(1, s[0])))
    found = replay(world, with_keys(tables, table, wrong))
    assert failed(found) == {check}
    assert found.violations["parity_mismatches"] == 1
    same_pair = keys.merchant_id[1] == keys.merchant_id[0] and keys.country[1] == keys.country[0]
    assert found.violations["duplicate_keys"] == (1 if table == "egress" and same_pair else 0)


def test_a_duplicate_key_is_counted(world: WorldModel, tables: SeedTables) -> None:
    """Two rows of the egress with one key, whatever their order."""
    keys = tables.egress
    row = int(np.flatnonzero(keys.site_order == 2)[0])
    wrong = dataclasses.replace(keys, site_order=edited(keys.site_order, lambda s: s.__setitem__(row, 1)))
    assert replay(world, dataclasses.replace(tables, egress=wrong)).violations["duplicate_keys"] == 1


@pytest.mark.parametrize(
    ("table", "check"), [("assigned", "s5_keys"), ("jittered", "s6_keys"), ("egress", "s8_keys")]
)
def test_a_missing_row_is_found(world: WorldModel, tables: SeedTables, table: str, check: str) -> None:
    """And nothing after it can be compared, so nothing after it may pass."""
    forged = with_keys(tables, table, without_row(getattr(tables, table), 4))
    if table == "egress":
        forged = dataclasses.replace(
            forged, lon_deg=np.delete(tables.lon_deg, 4), lat_deg=np.delete(tables.lat_deg, 4)
        )
    if table == "assigned":
        forged = dataclasses.replace(forged, assigned_tile=np.delete(tables.assigned_tile, 4))
    found = replay(world, forged)
    assert failed(found) == {check}
    assert not found.passed
    assert found.violations["parity_mismatches"] == 1
    if table != "jittered":
        assert found.violations["points_outside_tile"] is None
        assert found.violations["points_outside_country"] is None


def test_requirements_that_are_not_the_catalogue_are_found(world: WorldModel, tables: SeedTables) -> None:
    """One site more in S3 than the catalogue has, or a pair less."""
    pairs = tables.pairs
    more = dataclasses.replace(pairs, n_sites=edited(pairs.n_sites, lambda n: n.__setitem__(0, n[0] + 1)))
    assert "s3_requirements" in failed(replay(world, dataclasses.replace(tables, pairs=more)))
    less = Pairs(pairs.country[1:], pairs.merchant_id[1:], pairs.n_sites[1:])
    assert "s3_requirements" in failed(replay(world, dataclasses.replace(tables, pairs=less)))


def test_the_denylist_is_part_of_what_is_required(world: WorldModel, tables: SeedTables) -> None:
    """Sites of a denied country that were placed all the same are not the required ones."""
    policies = set_values(DEFAULTS, {"s3.denylist_country_iso": ("FJ",)})
    found = s9_replay.run(world, tables, policies, 42, FINGERPRINT)
    assert {"s3_requirements", "s5_keys", "s6_keys", "s8_keys"} == failed(found)


def test_points_outside_tile_and_country_are_counted(world: WorldModel, tables: SeedTables) -> None:
    """One point in the next tile, one in the sea, one at no place at all."""
    tile_deg = 1 / world.grid.tiles_per_degree
    lon = np.array(tables.lon_deg)
    inland = int(np.flatnonzero(~world.on_boundary(tables.assigned.country, tables.assigned_tile))[0])
    lon[inland] += tile_deg
    found = replay(world, dataclasses.replace(tables, lon_deg=lon))
    assert found.violations["points_outside_tile"] == 1
    assert failed(found) == {"s8_coordinates"}
    lon, lat = np.array(tables.lon_deg), np.array(tables.lat_deg)
    lon[inland], lat[inland] = -30.0, 0.0
    found = replay(world, dataclasses.replace(tables, lon_deg=lon, lat_deg=lat))
    assert found.violations["points_outside_tile"] == 1
    assert found.violations["points_outside_country"] == 1
    lon[inland] = np.nan
    lat[inland + 1] = 90.5
    found = replay(world, dataclasses.replace(tables, lon_deg=lon, lat_deg=lat))
    assert found.violations["invalid_coordinates"] == 2
    assert found.violations["points_outside_tile"] == 0


def test_a_tile_outside_the_grid_is_a_difference_not_a_crash(world: WorldModel, tables: SeedTables) -> None:
    """Hostile numbers in S5 and S6: past the last tile, and below the first."""
    tile = edited(tables.assigned_tile, lambda t: t.__setitem__([0, 1], [2**62, -5]))
    forged = with_placement(dataclasses.replace(tables, assigned_tile=tile), tile_id=tile)
    found = replay(world, forged)
    assert failed(found) == {"s5_tiles"}
    assert found.violations["points_outside_tile"] == 2


def test_without_a_surface_the_assignment_is_still_replayed(world: WorldModel, tables: SeedTables) -> None:
    """S5 on the published plan, and the coordinates; not S4 and S6, which need weights and people."""
    found = replay(world, tables, surface_known=False)
    assert [c.name for c in found.checks] == [
        "s3_requirements", "s5_keys", "s6_keys", "s8_keys", "s4_rows", "s5_tiles", "s8_coordinates", "s8_geometry",
    ]  # fmt: skip
    assert found.passed
    tile = edited(tables.assigned_tile, lambda t: t.__setitem__(0, t[0] + 1))
    assert "s5_tiles" in failed(
        replay(world, dataclasses.replace(tables, assigned_tile=tile), surface_known=False)
    )


@pytest.mark.parametrize(
    "columns",
    [
        lambda plan: {"n_sites_tile": edited(plan.n_sites_tile, lambda n: n.__setitem__(0, n[0] + 1))},
        lambda plan: {"n_sites_tile": edited(plan.n_sites_tile, lambda n: n.__setitem__(0, -1))},
        lambda plan: {"n_sites_tile": edited(plan.n_sites_tile, lambda n: n.__setitem__(0, 2**62))},
        lambda plan: {"merchant_id": edited(plan.merchant_id, lambda m: m.__setitem__(-1, m[-1] - np.uint64(1)))},
        lambda plan: {"country": edited(plan.country, lambda c: c.__setitem__(0, c[0] + 1))},
        lambda plan: {name: np.delete(getattr(plan, name), 0) for name in PLAN_COLUMNS},
    ],
    ids=["a site more", "a negative count", "a huge count", "another merchant", "another country", "a row less"],
)  # fmt: skip
def test_a_plan_that_is_not_of_the_required_pairs_is_found(
    world: WorldModel, tables: SeedTables, columns: Callable[[Plan], dict[str, Any]]
) -> None:
    """Also where the tiles in their order are the replayed ones."""
    assert failed(replay(world, with_plan(tables, **columns(tables.plan)))) == {"s4_rows"}


def test_a_tile_in_two_rows_is_found(world: WorldModel, tables: SeedTables) -> None:
    """The same sites, cut otherwise."""
    plan = tables.plan
    row = int(np.flatnonzero(plan.n_sites_tile > 1)[0])
    count = np.insert(plan.n_sites_tile, row, 1)
    count[row + 1] -= 1
    doubled = {
        name: np.insert(getattr(plan, name), row, getattr(plan, name)[row])
        for name in ("country", "merchant_id", "tile_id")
    }
    assert failed(replay(world, with_plan(tables, n_sites_tile=count, **doubled))) == {"s4_rows"}


def test_tables_that_cannot_be_scored_are_refused_before_compiled_code_sees_them(
    world_stage: WorldStage, tables: SeedTables
) -> None:
    """A row less in the egress or a coordinate that is none: errors by name. A tile that is none is a finding."""
    keys = without_row(tables.egress, 4)
    short = dataclasses.replace(
        tables, egress=keys, lon_deg=np.delete(tables.lon_deg, 4), lat_deg=np.delete(tables.lat_deg, 4)
    )
    nowhere = dataclasses.replace(tables, lon_deg=edited(tables.lon_deg, lambda v: v.__setitem__(0, np.nan)))
    tile = edited(tables.assigned_tile, lambda t: t.__setitem__(0, -1))
    off = dataclasses.replace(tables, assigned_tile=tile)
    for forged, code in ((short, "E901"), (nowhere, "E904")):
        with pytest.raises(ContractError, match=code):
            s9_validation.validate(world_stage.world, forged, world_stage.context, DEFAULTS, 42, FINGERPRINT)
    found = s9_validation.validate(world_stage.world, off, world_stage.context, DEFAULTS, 42, FINGERPRINT)
    assert not found.passed
    assert found.replay.violations["points_outside_tile"] == 1


def test_shards_of_a_replay_join_to_the_whole(world_stage: WorldStage, tables: SeedTables) -> None:
    """Country by country, in any order, with and without a lie: the joined replay is that of the whole."""
    world = world_stage.world
    moved = edited(tables.lon_deg, lambda v: v.__setitem__(-1, v[-1] + 1e-9))
    stranger = edited(tables.jittered.merchant_id, lambda v: v.__setitem__(7, 10**9))
    misnamed = with_keys(tables, "jittered", dataclasses.replace(tables.jittered, merchant_id=stranger))
    for case in (tables, dataclasses.replace(tables, lon_deg=moved), misnamed):
        whole = replay(world, case)
        requirements = s9_replay.check_requirements(world, case.catalogue, case.pairs, DEFAULTS)
        parts = []
        for country in np.unique(case.pairs.country)[::-1].tolist():
            own = only_country(case, country)
            parts.append(s9_replay.run_countries(world, own, own.pairs, DEFAULTS, 42, FINGERPRINT))
        assert s9_replay.joined(requirements, parts) == whole


# -- independence --------------------------------------------------------------------------------------------------


def imports_of(file: Path) -> set[str]:
    """`package.module` or `package.module.name` of every import in a module's file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith(("seg1b", "cluster"))}


def test_the_replay_shares_no_code_with_the_states_it_checks() -> None:
    """Of everything that draws, only the table of the normal distribution, and S4's code for a plan without draws."""
    harmless = {"seg1b.errors.ContractError", "seg1b.kernels.jit.njit"}
    kernels = Path(seg1b.kernels.__path__[0])
    drawing = {name for file in kernels.glob("replay_*.py") for name in imports_of(file)}
    assert {name for name in drawing if not name.startswith("seg1b.kernels.replay_")} <= harmless
    assert imports_of(kernels / "replay_containment.py") <= harmless
    allowed_rooms = (
        "seg1b.policy.",
        "seg1b.states.replay_checks.",
        "seg1b.states.tables.",
        "seg1b.states.seed_tables.",
        "seg1b.states.world_model.",
        "seg1b.states.s9_draws.",
    )
    imported = imports_of(Path(s9_replay.__file__)) | imports_of(Path(s9_draws.__file__))
    rest = {name for name in imported if not name.startswith(allowed_rooms)}
    assert rest == {
        "seg1b.kernels.replay_allocation",
        "seg1b.kernels.replay_assignment",
        "seg1b.kernels.replay_containment",
        "seg1b.kernels.replay_jitter",
        "seg1b.kernels.replay_jitter_v1",
        "seg1b.kernels.jitter.inverse_normal_table",
        "seg1b.states.s4_allocation",
        "seg1b.states.required_pairs.required_pairs",
        "seg1b.catalogue.outlets.OutletCatalogue",
    }


def test_s4s_own_code_is_called_for_the_first_engines_plan_alone(
    world: WorldModel, tables: SeedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default replay does not touch it."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the replay of a drawn plan called S4")

    monkeypatch.setattr(s4_allocation, "run", refuse)
    assert replay(world, tables).passed
