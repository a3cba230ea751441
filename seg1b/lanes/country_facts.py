"""What screening must know of the world: southern share, area, prior and market of every country.

Southern share and area follow from the world and the policies of S1 and S2 alone: for the packaged ones they are a
packaged file, bound to the key of S2w; otherwise a store that has S2's shares is asked, and else they are computed.
`scripts/build_country_facts.py` makes the file; a test compares it with what S1 and S2 give.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from seg1b.catalogue.elementary import power_each
from seg1b.catalogue.shares import CountryShares, market_size, minimum_sites
from seg1b.policy.load import Policies
from seg1b.states import s2_shares
from seg1b.states.plan import WORLD_STATES, keys_for
from seg1b.world.content import CountryTable, Polygons, World

if TYPE_CHECKING:
    from seg1b.store.store import Store

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
T = TypeVar("T")

PACKAGED = Path(__file__).parent / "data" / "country_facts.json"


@dataclass(frozen=True)
class CountryFacts:
    """What screening must know of the world, arrays of one entry per country.

    `south`: share of a country's people south of the equator; `prior` (sums to 1) and `market` as S2 has them.
    """

    countries: CountryTable
    south: Floats
    prior: Floats
    market: Floats


def country_facts(world: World, policies: Policies, store: Store | None = None) -> CountryFacts:
    """Southern share, prior and market of every country, as S2 has them.

    Only countries on the equator need a population surface, so without a store this takes a fraction of S2's time.
    """
    if store is not None and not are_packaged(world, policies):
        found = _published_shares(store, policies, world)
        if found is not None:
            return CountryFacts(world.countries, found.southern_share, found.prior, found.market_size)
    countries, rule = world.countries, policies.country_shares
    market = market_size(countries, rule.prior.gdp_exponent)
    served = np.flatnonzero((minimum_sites(countries, rule) > 0) & (market > 0.0))
    prior = np.zeros(len(countries))
    prior[served] = power_each(market[served], rule.prior.tempering)
    return CountryFacts(countries, southern_share(world, policies), prior / math.fsum(prior), market)


def _published_shares(store: Store, policies: Policies, world: World) -> CountryShares | None:
    """S2's shares in the store, or None."""
    key = shares_key(policies, world)
    return s2_shares.load(store, key) if store.has(s2_shares.STATE, key) else None


def shares_key(policies: Policies, world: World) -> str:
    """Key of S2s (hex64)."""
    return keys_for(policies, {"world": world.digest}, None, WORLD_STATES)["S2s"]


def southern_share(world: World, policies: Policies) -> Floats:
    """Share of each country's people south of the equator, (C,): as the placement surface has it."""
    packaged = _packaged(world, policies)
    return computed_southern_share(world, policies) if packaged is None else packaged[0]


def computed_area_km2(world: World, policies: Policies) -> Floats:
    """As S1 has it."""
    from seg1b.world.grid import Grid
    from seg1b.world.tile_index import build_tile_index

    return build_tile_index(world, Grid(policies.tile_index.resolution_arcsec)).area_km2()


def weights_key(world: World, policies: Policies) -> str:
    """Key of S2w (hex64)."""
    return keys_for(policies, {"world": world.digest}, None, WORLD_STATES)["S2w"]


def are_packaged(world: World, policies: Policies) -> bool:
    """Whether southern share and area of this world, under these policies of S1 and S2, are a packaged file."""
    return _packaged(world, policies) is not None


def _packaged(world: World, policies: Policies) -> tuple[Floats, Floats] | None:
    """(southern share, area) of the packaged file, if it is of this world and these policies of S1 and S2."""
    found = _read_packaged()
    if found is None or found["s2w_key"] != weights_key(world, policies):
        return None
    return np.array(found["southern_share"], np.float64), np.array(found["area_km2"], np.float64)


@lru_cache(maxsize=1)
def _read_packaged() -> dict[str, Any] | None:
    return dict(json.loads(PACKAGED.read_bytes())) if PACKAGED.is_file() else None


def shares_of(policies: Policies, world: World, store: Store | None) -> CountryShares:
    """S2's country shares, from a store that has them, else projected now."""
    found = None if store is None else _published_shares(store, policies, world)
    if found is not None:
        return found
    from seg1b.catalogue.projected_shares import country_shares  # compiled; only policies come here

    south, area = _packaged(world, policies) or (
        computed_southern_share(world, policies),
        computed_area_km2(world, policies),
    )
    return country_shares(world.countries, south, area, policies.country_shares)


def computed_southern_share(world: World, policies: Policies) -> Floats:
    """The same from polygons and settlements; a country wholly on one side needs no surface."""
    polygons = world.polygons
    low = np.minimum.reduceat(polygons.lat, polygons.ring_start[:-1])
    high = np.maximum.reduceat(polygons.lat, polygons.ring_start[:-1])
    least, most = np.full(len(world.countries), np.inf), np.full(len(world.countries), -np.inf)
    np.minimum.at(least, polygons.ring_country, low)
    np.maximum.at(most, polygons.ring_country, high)
    south = np.where(most <= 0.0, 1.0, 0.0)
    straddling = np.flatnonzero((least < 0.0) & (most > 0.0))
    if straddling.size:
        from seg1b.states.s2_weights import placement_surface
        from seg1b.world.grid import Grid
        from seg1b.world.tile_index import build_tile_index

        part = only_countries(world, straddling)
        index = build_tile_index(part, Grid(policies.tile_index.resolution_arcsec))
        south[straddling] = placement_surface(part, index, policies.tile_weights).southern_share()
    return south


def only_countries(world: World, keep: Integers) -> World:
    """The world of some countries (ascending indices), renumbered from 0.

    Its digest is still that of the whole; the names of settlements are left out.
    """
    number = np.full(len(world.countries), -1, np.int16)
    number[keep] = np.arange(len(keep), dtype=np.int16)
    rings = np.flatnonzero(number[world.polygons.ring_country] >= 0)
    start, stop = world.polygons.ring_start[rings], world.polygons.ring_start[rings + 1]
    length = stop - start
    vertex = np.repeat(start - np.concatenate(([0], np.cumsum(length)[:-1])), length) + np.arange(
        length.sum()
    )
    polygons = Polygons(
        world.polygons.lon[vertex],
        world.polygons.lat[vertex],
        np.concatenate(([0], np.cumsum(length))).astype(np.int64),
        number[world.polygons.ring_country[rings]],
    )
    places = np.flatnonzero(number[world.settlements.country] >= 0)
    settlements = _rows(dataclasses.replace(world.settlements, name=()), places)
    settlements = dataclasses.replace(settlements, country=number[settlements.country])
    return dataclasses.replace(
        world, countries=_rows(world.countries, keep), polygons=polygons, settlements=settlements
    )


def _rows(table: T, keep: Integers) -> T:
    """Some rows of a columnar dataclass."""
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(table):  # type: ignore[arg-type]
        values = getattr(table, field.name)
        if isinstance(values, np.ndarray):
            columns[field.name] = values[keep]
        else:
            columns[field.name] = tuple(values[i] for i in keep.tolist()) if values else values
    return dataclasses.replace(table, **columns)  # type: ignore[type-var]
