"""Tables between states: order, keys, and the way to Arrow and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from seg1b.errors import ContractError
from seg1b.states import s7_synthesis, s8_egress
from seg1b.states.s4_allocation import concentration_floor
from seg1b.states.seed_tables import SiteKeys, join_egress
from seg1b.states.tables import (
    ASSIGNMENT_SCHEMA,
    COUNTRY,
    JITTER_SCHEMA,
    Pairs,
    Placement,
    Plan,
    assignment_to_arrow,
    country_column,
    country_indices,
    country_slices,
    jitter_to_arrow,
    pairs_from_arrow,
    pairs_to_arrow,
    placement_from_arrow,
    plan_from_arrow,
    plan_to_arrow,
)
from seg1b.store.store import Store

ISO = ("FR", "NA", "US")
PAIRS = Pairs(
    np.array([0, 0, 2], np.int16), np.array([5, 2**64 - 1, 5], np.uint64), np.array([2, 1, 3], np.int64)
)
PLAN = Plan(
    np.array([0, 0, 0, 2], np.int16),
    np.array([5, 5, 2**64 - 1, 5], np.uint64),
    np.array([10, 12, 11, 7], np.int64),
    np.array([1, 1, 1, 3], np.int64),
)
TILES = np.array([12, 10, 11, 7, 7, 7], np.int64)
PLACED = Placement(
    TILES,
    np.array([1.5, 2.5, 3.5, -179.9, 180.0, 0.0]),
    np.array([1.0, -2.0, 3.0, -4.0, 5.0, 90.0]),
    np.array([1, 2, 0, 1, 1, 1], np.int32),
    np.array([0, 1, 3, 2, 255, 0], np.uint8),
)
KEYS = {"S0c": "0" * 64, "S5": "5" * 64, "S6": "6" * 64}


def test_sites_count_from_one_in_every_pair() -> None:
    """Three pairs with 2, 1 and 3 sites."""
    country, merchant, order = PAIRS.sites()
    assert country.tolist() == [0, 0, 0, 2, 2, 2]
    assert merchant.tolist() == [5, 5, 2**64 - 1, 5, 5, 5]
    assert order.tolist() == [1, 2, 1, 1, 2, 3]
    assert PAIRS.sites_per_country(3).tolist() == [3, 0, 3]
    assert list(PAIRS.countries()) == [(0, slice(0, 2)), (2, slice(2, 3))]
    assert PAIRS.only([2]).n_sites.tolist() == [3]
    assert PAIRS.only([1]).sites()[2].tolist() == []
    assert PAIRS.merchants() == 2  # one of them in two countries
    assert PAIRS.only([1]).merchants() == 0


@given(st.lists(st.integers(0, 5), max_size=30).map(sorted))
def test_slices_cover_a_country_column_once(country: list[int]) -> None:
    """In order, whole, each country once."""
    column = np.array(country, np.int16)
    found = list(country_slices(column))
    assert [c for c, part in found for _ in range(part.stop - part.start)] == country
    assert [c for c, _ in found] == sorted(set(country))


def test_a_plan_knows_the_rows_of_its_pairs() -> None:
    """Offsets; and a plan of other pairs is refused."""
    assert PLAN.rows_of_pairs(PAIRS).tolist() == [0, 2, 3, 4]
    with pytest.raises(ContractError, match="E401"):
        PLAN.rows_of_pairs(PAIRS.only([0]))
    other = Pairs(PAIRS.country, np.array([5, 6, 5], np.uint64), PAIRS.n_sites)
    with pytest.raises(ContractError, match="E401"):
        PLAN.rows_of_pairs(other)


def test_tables_survive_the_way_to_arrow() -> None:
    """Merchants above 2^63 and Namibia included."""
    pairs = pairs_from_arrow(ISO, pairs_to_arrow(ISO, PAIRS))
    assert all(
        np.array_equal(getattr(pairs, n), getattr(PAIRS, n)) for n in ("country", "merchant_id", "n_sites")
    )
    plan = plan_from_arrow(ISO, plan_to_arrow(ISO, PLAN))
    assert all(
        np.array_equal(getattr(plan, n), getattr(PLAN, n))
        for n in ("country", "merchant_id", "tile_id", "n_sites_tile")
    )
    assert assignment_to_arrow(ISO, PAIRS, TILES).schema == ASSIGNMENT_SCHEMA
    table = jitter_to_arrow(ISO, PAIRS, PLACED)
    assert table.schema == JITTER_SCHEMA
    placed = placement_from_arrow(table)
    assert all(
        np.array_equal(getattr(placed, n), getattr(PLACED, n))
        for n in ("tile_id", "lon_deg", "lat_deg", "attempts", "component")
    )


def test_country_codes_go_there_and_back() -> None:
    """NA is Namibia; a code that the world lacks is named; no rows are no rows."""
    column = pa.chunked_array([country_column(ISO, np.array([1, 0, 1], np.int16))])
    assert column.to_pylist() == ["NA", "FR", "NA"]
    assert country_indices(ISO, column).tolist() == [1, 0, 1]
    assert country_indices(ISO, pa.chunked_array([], pa.string())).tolist() == []
    with pytest.raises(ContractError, match=r"E302_FK_COUNTRY.*'XX'"):
        country_indices(ISO, pa.chunked_array([["FR", "XX"]]))
    with pytest.raises(ContractError, match="E302_FK_COUNTRY"):
        country_indices(ISO, pa.chunked_array([pa.array(["FR", None])]))


@pytest.mark.parametrize(
    ("n_sites", "tiles", "top1", "hhi"),
    [(1, 5, 1.0, 1.0), (4, 4, 0.25, 0.25), (5, 2, 0.6, 13 / 25), (6, 3, 2 / 6, 12 / 36), (3, 1, 1.0, 1.0)],
)
def test_the_least_concentration(n_sites: int, tiles: int, top1: float, hhi: float) -> None:
    """n sites spread over T tiles as evenly as whole sites can be."""
    found_top1, found_hhi = concentration_floor(np.array([n_sites], np.int64), tiles)
    assert found_top1.tolist() == [pytest.approx(top1)]
    assert found_hhi.tolist() == [pytest.approx(hhi)]


# -- S8 ------------------------------------------------------------------------------------------------------------


def test_wkb_points_are_what_shapely_reads() -> None:
    """21 bytes each, little-endian."""
    points = s8_egress.wkb_points(PLACED.lon_deg, PLACED.lat_deg)
    assert {len(p) for p in points.to_pylist()} == {21}
    read = shapely.from_wkb(points.to_pylist())
    assert (
        shapely.get_coordinates(read).tolist() == np.column_stack([PLACED.lon_deg, PLACED.lat_deg]).tolist()
    )


def test_the_egress_has_the_country_in_its_name_only() -> None:
    """Five columns in the file, attribution and GeoParquet 1.1 metadata with it."""
    tables = s8_egress.country_tables(ISO, PAIRS, PLACED, "maps by many")
    assert list(tables) == ["FR", "US"]
    table = tables["FR"]
    assert table.column_names == ["merchant_id", "site_order", "lon_deg", "lat_deg", "geometry"]
    assert table.schema.metadata[b"attribution"] == b"maps by many"
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"] == {"encoding": "WKB", "geometry_types": ["Point"]}
    assert not any(field.nullable for field in table.schema)
    joined = join_egress(ISO, iter(tables.items()))  # type: ignore[arg-type]
    assert joined.geometry_matches.all()
    assert not joined.keys.differs_from(SiteKeys.of(PAIRS)).any()


def test_a_wrong_or_null_geometry_does_not_match() -> None:
    """One point of another place, one missing."""
    (table, *_) = s8_egress.country_tables(ISO, PAIRS, PLACED, "").values()
    points = table.column("geometry").to_pylist()
    forged = table.set_column(4, "geometry", pa.array([points[1], None, points[2]], pa.binary()))
    assert join_egress(ISO, iter([("FR", forged)])).geometry_matches.tolist() == [False, False, True]


def test_duplicate_keys_are_counted_wherever_they_are() -> None:
    """Not only next to each other."""
    keys = SiteKeys(
        np.array([0, 1, 0, 0], np.int16), np.array([1, 1, 1, 2], np.uint64), np.array([1, 1, 1, 1], np.int32)
    )
    assert keys.duplicates() == 1
    assert keys.describe(3, ISO) == "FR, merchant 2, site 1"


# -- S7 ------------------------------------------------------------------------------------------------------------


def published(tmp_path: Path, assigned: pa.Table, jittered: pa.Table) -> Store:
    """A store with S5 and S6."""
    store = Store.open(tmp_path / "runs")
    for state, name, table in (
        ("s5", "s5_site_tile_assignment", assigned),
        ("s6", "s6_site_jitter", jittered),
    ):
        with store.transaction(state, KEYS[state.upper()]) as out:
            out.add_table(name, table, partition_column=COUNTRY)
    return store


def test_the_join_names_its_tables_by_digest(tmp_path: Path) -> None:
    """Six sites of two countries."""
    store = published(tmp_path, assignment_to_arrow(ISO, PAIRS, TILES), jitter_to_arrow(ISO, PAIRS, PLACED))
    s7_synthesis.run(store, "7" * 64, ISO, PAIRS, KEYS)
    join = store.read_json("s7", "7" * 64, "s7_join.json")
    assert join["by_country"] == {"FR": 3, "US": 3}
    assert join["rows"] == 6
    for state, name in (("s5", "s5_site_tile_assignment"), ("s6", "s6_site_jitter")):
        assert join["joins"][name] == store.manifest(state, KEYS[state.upper()]).tables[name].logical_digest


def test_a_join_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    """Another tile, a country too few, other required sites: nothing is published."""
    moved = Placement(TILES + 1, PLACED.lon_deg, PLACED.lat_deg, PLACED.attempts, PLACED.component)
    good = assignment_to_arrow(ISO, PAIRS, TILES)
    cases = {
        "tile": (good, jitter_to_arrow(ISO, PAIRS, moved), PAIRS, "E701_ROW_MISSING"),
        "country": (good, jitter_to_arrow(ISO, PAIRS, PLACED).slice(0, 3), PAIRS, "E701_ROW_MISSING"),
        "fewer": (good, jitter_to_arrow(ISO, PAIRS, PLACED), PAIRS.only([0]), "E708_1A_COVERAGE_FAIL"),
        "more": (
            good,
            jitter_to_arrow(ISO, PAIRS, PLACED),
            Pairs(PAIRS.country, PAIRS.merchant_id, PAIRS.n_sites + 1),
            "E708_1A_COVERAGE_FAIL",
        ),
        "unserved": (
            good,
            jitter_to_arrow(ISO, PAIRS, PLACED),
            Pairs(
                np.array([0, 0, 1, 2], np.int16),
                np.array([5, 2**64 - 1, 9, 5], np.uint64),
                np.array([2, 1, 1, 3]),
            ),
            "E708_1A_COVERAGE_FAIL",
        ),
    }
    for name, (assigned, jittered, pairs, code) in cases.items():
        store = published(tmp_path / name, assigned, jittered)
        with pytest.raises(ContractError, match=code):
            s7_synthesis.run(store, "7" * 64, ISO, pairs, KEYS)
        assert not store.has("s7", "7" * 64)


@pytest.mark.parametrize("slice_sites", [1, 2, 3, 100])
def test_the_required_sites_are_hashed_the_same_in_slices_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_sites: int
) -> None:
    """Whole pairs at a time, also where a pair is larger than a slice."""
    monkeypatch.setattr(s7_synthesis, "_SLICE_SITES", slice_sites)
    store = published(tmp_path, assignment_to_arrow(ISO, PAIRS, TILES), jitter_to_arrow(ISO, PAIRS, PLACED))
    s7_synthesis.run(store, "7" * 64, ISO, PAIRS, KEYS)
    assert store.manifest("s7", "7" * 64).facts["sites"] == 6


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 12))
def test_slices_are_whole_pairs_and_no_more_of_them_than_needed(sizes: list[int], sites: int) -> None:
    """Together all pairs; a slice reaches its size with the last of its pairs and not before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s7_synthesis, "_SLICE_SITES", sites)
        parts = list(s7_synthesis._slices(np.array(sizes, np.int64)))
    assert [pair for part in parts for pair in range(part.start, part.stop)] == list(range(len(sizes)))
    assert all(sum(sizes[part.start : part.stop - 1]) < sites for part in parts)


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("merchant_id", [5, 6, 2**64 - 1, 5, 5, 5], "E708_1A_COVERAGE_FAIL"),
        ("merchant_id", [5, 2**64 - 1, 2**64 - 1, 5, 5, 5], "E708_1A_COVERAGE_FAIL"),
        ("site_order", [1, 2, 1, 1, 3, 2], "E708_1A_COVERAGE_FAIL"),
        ("site_order", [2, 3, 1, 1, 2, 3], "E708_1A_COVERAGE_FAIL"),
    ],
)
def test_tables_that_agree_on_other_sites_are_refused(
    tmp_path: Path, name: str, values: list[int], code: str
) -> None:
    """S5 and S6 are the same, as many rows as required, and yet not the required ones."""
    tables = []
    for table in (assignment_to_arrow(ISO, PAIRS, TILES), jitter_to_arrow(ISO, PAIRS, PLACED)):
        field = table.schema.field(name)
        tables.append(
            table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
        )
    store = published(tmp_path, *tables)
    with pytest.raises(ContractError, match=code) as caught:
        s7_synthesis.run(store, "7" * 64, ISO, PAIRS, KEYS)
    assert caught.value.where.startswith("country ")
    assert not store.has("s7", "7" * 64)


def test_the_egress_file_keeps_its_metadata(tmp_path: Path) -> None:
    """Attribution travels with every file."""
    (table, *_) = s8_egress.country_tables(ISO, PAIRS, PLACED, "maps by many").values()
    pq.write_table(table, tmp_path / "fr.parquet")
    assert pq.read_schema(tmp_path / "fr.parquet").metadata[b"attribution"] == b"maps by many"
