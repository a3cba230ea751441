"""S9's replay of a shard, read back in blocks: it finds what it finds in whole countries, however rows are forged."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seg1b.kernels import replay_assignment
from seg1b.lanes.seed_tasks import STAGE, check_shard, place_shard
from seg1b.lanes.shards import Shard
from seg1b.lanes.world_stage import WorldStage
from seg1b.policy.load import default_policies
from seg1b.states import s8_egress, s9_replay, shard
from seg1b.states.plan import SeedIdentity
from seg1b.states.replay_checks import PLAN_CHECKS, Check, Replay
from seg1b.states.required_pairs import required_pairs
from seg1b.states.s9_draws import Redraw
from seg1b.states.shard import units
from seg1b.states.shard_tables import ShardTables
from seg1b.states.tables import (
    ASSIGNMENT_TABLE,
    COUNTRY,
    JITTER_TABLE,
    PAIR_KEY,
    PLAN_TABLE,
    Pairs,
    pairs_to_arrow,
)
from seg1b.store.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "states"))
from seed_cases import COUNTRIES, FINGERPRINT, catalogue

DEFAULTS = default_policies()
TABLES = {"S4": PLAN_TABLE, "S5": ASSIGNMENT_TABLE, "S6": JITTER_TABLE, "S8": s8_egress.TABLE}
HONEST = {state: state[1] * 64 for state in ("S3", *TABLES)}
FORGED = {state: digit * 64 for state, digit in zip(TABLES, "abef", strict=True)} | {"S3": HONEST["S3"]}
PART = "part-00000"
BLOCK_SITES = 60
Tables = dict[str, dict[str, pa.Table]]
"""Rows by state and country."""


def pairs_of(stage: WorldStage) -> Pairs:
    """Four countries of 210 sites in twelve pairs, and Monaco's 24; ids up to 2^64 - 1."""
    countries = stage.world.countries
    return required_pairs(catalogue(countries), countries, DEFAULTS.requirements)[0]


@pytest.fixture(scope="module")
def store(world_stage: WorldStage, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """S3, and S4 to S8 of one shard, not yet committed."""
    with Store.open(tmp_path_factory.mktemp("checked") / "runs") as opened:
        iso, pairs = world_stage.world.iso, pairs_of(world_stage)
        with opened.transaction("s3", HONEST["S3"]) as out:
            table = pairs_to_arrow(iso, pairs)
            out.add_table("s3_requirements", table, partition_column=COUNTRY, sorted_by=PAIR_KEY)
        identity = SeedIdentity(42, HONEST, FINGERPRINT)
        place_shard({STAGE: world_stage}, opened, DEFAULTS, identity, the_shard(world_stage))
        yield opened


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every country but Monaco is a giant."""
    monkeypatch.setattr(shard, "BLOCK_SITES", BLOCK_SITES)


def the_shard(stage: WorldStage) -> Shard:
    """All countries of the catalogue."""
    return Shard(PART, tuple(sorted(stage.world.country_index[iso] for iso in COUNTRIES)), 4 * 210 + 24)


def read(store: Store) -> Tables:
    """What is honestly published."""
    found: Tables = {}
    for state, name in TABLES.items():
        reader = store.open_part(state.lower(), HONEST[state], PART, name)
        found[state] = {str(key): table for key, table in reader.partitions()}
    return found


def publish(store: Store, tables: Mapping[str, Mapping[str, pa.Table]]) -> None:
    """Forged tables under keys of their own, by a writer that does not look at the order of rows."""
    for state, by_country in tables.items():
        options: dict[str, Any] = {"partition_column": COUNTRY}
        if state == "S8":
            options["files"] = "per_partition"
        schema = next(iter(by_country.values())).schema
        with ExitStack() as stack:
            out = stack.enter_context(store.part(state.lower(), FORGED[state], PART))
            writer = stack.enter_context(out.table_writer(TABLES[state], schema, **options))
            for key in sorted(by_country):
                writer.append(key, by_country[key])


def check(store: Store, stage: WorldStage, keys: dict[str, str], *, plan_proven: bool = False) -> Replay:
    """The replay of the shard, as a seed's verdict takes it."""
    identity = SeedIdentity(42, keys, FINGERPRINT)
    found = check_shard({STAGE: stage}, store, DEFAULTS, identity, the_shard(stage), plan_proven).replay
    return s9_replay.joined(Check("s3_requirements", "", 0), [found])


def failed(found: Replay) -> set[str]:
    """Names of the checks that did not pass."""
    return {one.name for one in found.checks if not one.passed}


def replaced(table: pa.Table, column: str, change: Callable[[Any], None]) -> pa.Table:
    """A table with some values of a column changed."""
    field = table.schema.field(column)
    values = table.column(column).to_numpy().copy()
    change(values)
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))


def order(table: pa.Table, rows: list[int]) -> pa.Table:
    """The rows in another order, or some of them twice or not at all."""
    return table.take(pa.array(rows))


def exchanged(rows: int, one: int, other: int) -> list[int]:
    """Row numbers with two of them exchanged."""
    found = list(range(rows))
    found[one], found[other] = found[other], found[one]
    return found


def test_an_honest_shard_is_replayed_in_blocks_as_in_whole_countries(
    store: Store, world_stage: WorldStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five blocks of each giant and Monaco; every check, count of blocks and violation is the same."""
    calls: list[int] = []
    honest = s9_replay.run_countries

    def counted(world: Any, tables: Any, *arguments: Any, **options: Any) -> Replay:
        calls.append(len(tables.assigned_tile))
        return honest(world, tables, *arguments, **options)

    monkeypatch.setattr(s9_replay, "run_countries", counted)
    in_blocks = check(store, world_stage, HONEST)
    assert in_blocks.passed
    assert len(in_blocks.checks) == 13
    assert sum(calls) == 4 * 210 + 24
    assert len(calls) == 4 * 5 + 1
    assert max(calls) <= BLOCK_SITES
    monkeypatch.setattr(shard, "BLOCK_SITES", 1 << 20)
    assert check(store, world_stage, HONEST) == in_blocks
    assert calls[-1] == 4 * 210 + 24


def test_a_plan_that_was_proven_before_is_not_replayed_and_the_findings_are_the_same(
    store: Store, world_stage: WorldStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check, violation and count of blocks: what is kept of a seed does not tell which way it was found."""
    replayed = check(store, world_stage, HONEST)
    for owner, name in ((Redraw, "plan"), (replay_assignment, "replay_assignment")):
        monkeypatch.setattr(owner, name, lambda *_, what=name: pytest.fail(f"{what} was called"))
    assert check(store, world_stage, HONEST, plan_proven=True) == replayed
    with pytest.raises(pytest.fail.Exception, match="plan was called"):
        check(store, world_stage, HONEST)


def test_blocks_know_their_numbers(store: Store, world_stage: WorldStage) -> None:
    """Consecutive, of one country, complete; Monaco, in one block, has no numbers."""
    tables = ShardTables(store, world_stage.world.iso, HONEST, PART)
    for unit in units(pairs_of(world_stage)):
        blocks = list(tables.blocks(unit))
        total = int(unit.pairs.n_sites.sum())
        if len(unit.blocks) == 1:
            assert [block.numbering for block in blocks] == [None]
            continue
        numbers = [block.numbering for block in blocks]
        lengths = [len(block.tables.assigned_tile) for block in blocks]
        assert [n.first for n in numbers if n] == np.cumsum([0, *lengths[:-1]]).tolist()
        assert {n.sites for n in numbers if n} == {sum(lengths)} == {total}


# -- forgeries -----------------------------------------------------------------------------------------------------


def extra_row(state: str) -> Callable[[Tables], None]:
    """The last site of the United States twice."""

    def forge(tables: Tables) -> None:
        own = tables[state]["US"]
        tables[state]["US"] = order(own, [*range(own.num_rows), own.num_rows - 1])

    return forge


def missing_row(state: str) -> Callable[[Tables], None]:
    """Site 100 of the United States is not there."""

    def forge(tables: Tables) -> None:
        own = tables[state]["US"]
        tables[state]["US"] = order(own, [row for row in range(own.num_rows) if row != 100])

    return forge


def missing_country(state: str) -> Callable[[Tables], None]:
    """France is not there."""

    def forge(tables: Tables) -> None:
        del tables[state]["FR"]

    return forge


def rows_exchanged(state: str, one: int, other: int) -> Callable[[Tables], None]:
    """Two rows stand in each other's place."""

    def forge(tables: Tables) -> None:
        own = tables[state]["US"]
        tables[state]["US"] = order(own, exchanged(own.num_rows, one, other))

    return forge


def plan_backwards(tables: Tables) -> None:
    """The plan's rows descend."""
    own = tables["S4"]["US"]
    tables["S4"]["US"] = order(own, list(range(own.num_rows))[::-1])


def plan_of_a_stranger(tables: Tables) -> None:
    """A row's merchant is one whom nobody requires, between two blocks' merchants."""
    own = tables["S4"]["US"]
    ids = own.column("merchant_id").to_numpy()
    row = int(np.flatnonzero(ids != ids[-1])[-1])
    tables["S4"]["US"] = replaced(own, "merchant_id", lambda m: m.__setitem__(row, m[row] + np.uint64(1)))


def plan_moves_a_site(tables: Tables) -> None:
    """The first pair's plan has one site more, the last one's has one less: the sum is right."""

    def change(sites: Any) -> None:
        sites[0] += 1
        sites[int(np.flatnonzero(sites > 1)[-1])] -= 1

    tables["S4"]["US"] = replaced(tables["S4"]["US"], "n_sites_tile", change)


def plan_with_a_site_more(tables: Tables) -> None:
    """The last row of the plan."""

    def change(sites: Any) -> None:
        sites[-1] += 1

    tables["S4"]["US"] = replaced(tables["S4"]["US"], "n_sites_tile", change)


def plan_in_another_tile(tables: Tables) -> None:
    """The last row of the plan, in the last block, one tile to the east."""

    def change(tiles: Any) -> None:
        tiles[-1] += 1

    tables["S4"]["US"] = replaced(tables["S4"]["US"], "tile_id", change)


def nudged(state: str, column: str, row: int) -> Callable[[Tables], None]:
    """A value changed by as little as its type allows."""

    def change(values: Any) -> None:
        floating = values.dtype.kind == "f"
        values[row] = np.nextafter(values[row], np.inf) if floating else values[row] + values.dtype.type(1)

    def forge(tables: Tables) -> None:
        tables[state]["US"] = replaced(tables[state]["US"], column, change)

    return forge


FORGERIES: dict[str, tuple[Callable[[Tables], None], set[str]]] = {
    **{f"extra row in {state}": (extra_row(state), {f"{state.lower()}_keys"}) for state in ("S5", "S6", "S8")},
    **{f"missing row in {state}": (missing_row(state), {f"{state.lower()}_keys"}) for state in ("S5", "S6", "S8")},
    **{f"missing country in {state}": (missing_country(state), {f"{state.lower()}_keys"})
       for state in ("S5", "S6", "S8")},
    "missing country in S4": (missing_country("S4"), {"s4_rows"}),
    "missing row in S4": (missing_row("S4"), {"s4_rows"}),
    "extra row in S4": (extra_row("S4"), {"s4_rows"}),
    "rows of two blocks exchanged in S5": (rows_exchanged("S5", 3, 200), {"s5_keys"}),
    "rows of two blocks exchanged in S6": (rows_exchanged("S6", 3, 200), {"s6_keys"}),
    "rows of two blocks exchanged in S8": (rows_exchanged("S8", 3, 200), {"s8_keys"}),
    "rows of two pairs exchanged in S4": (rows_exchanged("S4", 3, 150), {"s4_rows"}),
    "rows of a pair exchanged in S4": (rows_exchanged("S4", -2, -1), {"s4_rows"}),
    "a plan that descends": (plan_backwards, {"s4_rows"}),
    "a plan with a stranger": (plan_of_a_stranger, {"s4_rows"}),
    "a plan that moves a site to another block": (plan_moves_a_site, {"s4_rows"}),
    "a plan with a site more": (plan_with_a_site_more, {"s4_rows"}),
    "a plan with another tile": (plan_in_another_tile, {"s4_plan"}),
    "another tile in S5": (nudged("S5", "tile_id", 209), {"s5_tiles", "s6_tiles"}),
    "another point in S6": (nudged("S6", "lon_deg", 209), {"s6_points", "s8_coordinates"}),
    "another component in S6": (nudged("S6", "component", 209), {"s6_components"}),
    "another number of attempts in S6": (nudged("S6", "attempts", 0), {"s6_attempts"}),
    "another point in S8": (nudged("S8", "lat_deg", 100), {"s8_coordinates", "s8_geometry"}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FORGERIES))
def test_every_forgery_is_found_in_blocks_as_in_whole_countries(
    store: Store, world_stage: WorldStage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same checks fail; a table whose rows do not fit the blocks is compared as a whole."""
    forge, expected = FORGERIES[name]
    tables = read(store)
    forge(tables)
    for state in TABLES:  # an earlier forgery's
        shutil.rmtree(store.layout.object(state.lower(), FORGED[state]), ignore_errors=True)
    publish(store, tables)
    in_blocks = check(store, world_stage, FORGED)
    assert failed(in_blocks) == expected
    monkeypatch.setattr(shard, "BLOCK_SITES", 1 << 20)
    whole = check(store, world_stage, FORGED)
    assert failed(whole) == expected
    proven = failed(check(store, world_stage, FORGED, plan_proven=True))
    assert expected - set(PLAN_CHECKS) <= proven
    if name != "another tile in S5":  # whose points are then not those of the tile either
        assert proven == expected - set(PLAN_CHECKS)
    keys = {f"s{digit}_keys" for digit in "568"}
    if not expected & keys:
        assert in_blocks.violations == whole.violations
        assert [one.differing for one in in_blocks.checks if one.name not in ("s4_rows", *keys)] == [
            one.differing for one in whole.checks if one.name not in ("s4_rows", *keys)
        ]
