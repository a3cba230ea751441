"""A small catalogue on the real Earth, and one seed of it through S4 to S8 in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from seg1b.catalogue.outlets import OutletCatalogue, from_pairs
from seg1b.policy.load import Policies
from seg1b.states import s4_allocation, s5_assignment, s6_jitter, s8_egress
from seg1b.states.required_pairs import required_pairs
from seg1b.states.seed_tables import SeedTables, SiteKeys, join_egress
from seg1b.states.tables import Plan
from seg1b.states.world_model import WorldModel
from seg1b.world.content import CountryTable

FINGERPRINT = "5" * 64
COUNTRIES = ("FJ", "FR", "MC", "NA", "US")
"""Both sides of the date line, a large one, one of two tiles, and Namibia, which is no null."""


def catalogue(
    countries: CountryTable, isos: tuple[str, ...] = COUNTRIES, merchants: int = 12
) -> OutletCatalogue:
    """Merchant m has 1 + 3 m sites in every country (2 in Monaco); ids of all sizes up to 2^64 - 1."""
    ids = [2**64 - 1 - m if m % 3 == 0 else 10**m for m in range(merchants)]
    rows = [
        (ids[m], countries.index_of[iso], 2 if iso == "MC" else 1 + 3 * m, countries.index_of[isos[0]])
        for m in range(merchants)
        for iso in isos
    ]
    merchant, country, sites, home = zip(*rows, strict=True)
    return from_pairs(
        countries.iso,
        np.array(merchant, np.uint64),
        np.array(country, np.int16),
        np.array(sites, np.int32),
        np.array(home, np.int16),
    )


def place(
    world: WorldModel,
    policies: Policies,
    seed: int = 42,
    isos: tuple[str, ...] = COUNTRIES,
    merchants: int = 12,
) -> SeedTables:
    """S3 to S8 in memory, and the tables as S9 reads them."""
    source = catalogue(world.countries, isos, merchants)
    pairs, _ = required_pairs(source, world.countries, policies.requirements)
    plan = s4_allocation.run(world, pairs, policies.allocation, seed).plan
    tile = s5_assignment.run(world.iso, pairs, plan, policies.assignment, seed, FINGERPRINT)
    placement = s6_jitter.run(world, pairs, tile, policies.jitter, seed, FINGERPRINT)
    files = s8_egress.country_tables(world.iso, pairs, placement, "nobody")
    egress = join_egress(world.iso, ((str(iso), table) for iso, table in files.items()))
    keys = SiteKeys.of(pairs)
    return SeedTables(
        pairs, plan, keys, tile, keys, placement, egress.keys, egress.lon_deg, egress.lat_deg,
        egress.geometry_matches, source,
    )  # fmt: skip


def edited(array: Any, change: Callable[[Any], None]) -> Any:
    """A changed copy of an array."""
    copy = np.array(array)
    change(copy)
    return copy


def with_placement(tables: SeedTables, **columns: Any) -> SeedTables:
    """Other columns of S6, the egress left as it is."""
    return dataclasses.replace(tables, placement=dataclasses.replace(tables.placement, **columns))


def with_plan(tables: SeedTables, **columns: Any) -> SeedTables:
    """Other columns of S4."""
    return dataclasses.replace(tables, plan=dataclasses.replace(tables.plan, **columns))


def without_row(keys: SiteKeys, row: int) -> SiteKeys:
    """Keys with one row dropped."""
    return SiteKeys(
        np.delete(keys.country, row), np.delete(keys.merchant_id, row), np.delete(keys.site_order, row)
    )


def rows(plan: Plan) -> int:
    """Rows of a plan."""
    return len(plan.tile_id)


def only_country(tables: SeedTables, country: int) -> SeedTables:
    """The rows of one country."""

    def some(rows: Any) -> Any:
        keep = rows.country == country
        return dataclasses.replace(
            rows, **{f.name: getattr(rows, f.name)[keep] for f in dataclasses.fields(rows)}
        )

    own = tables.egress.country == country
    placed = tables.placement
    matches = tables.geometry_matches
    return dataclasses.replace(
        tables,
        pairs=some(tables.pairs),
        plan=some(tables.plan),
        assigned=some(tables.assigned),
        jittered=some(tables.jittered),
        egress=some(tables.egress),
        assigned_tile=tables.assigned_tile[own],
        placement=dataclasses.replace(
            placed, **{f.name: getattr(placed, f.name)[own] for f in dataclasses.fields(placed)}
        ),
        lon_deg=tables.lon_deg[own],
        lat_deg=tables.lat_deg[own],
        geometry_matches=None if matches is None else matches[own],
    )
