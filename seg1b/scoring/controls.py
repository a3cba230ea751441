"""Negative controls: worlds that must fail. Each is made from honest sites and fails the gate made for it.

All are pure functions of (sites, surface, grid, seed); randomness is Philox, addressed by the control's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit
from seg1b.kernels.philox import fill, multiply_high
from seg1b.kernels.streams import world_stream
from seg1b.scoring.reference import GridLike, SurfaceLike
from seg1b.scoring.sites import Sites, make_sites
from seg1b.world.surface import Runs

IntArray: TypeAlias = npt.NDArray[np.int64]
UintArray: TypeAlias = npt.NDArray[np.uint64]
ControlFunction: TypeAlias = Callable[[Sites, SurfaceLike, GridLike, int], Sites]


@dataclass(frozen=True)
class Control:
    """A named control and the gates or counter-metrics that it must fail, every one of them."""

    name: str
    what: str
    build: ControlFunction
    must_fail: tuple[str, ...]


def _draws(seed: int, label: str, n: int) -> tuple[UintArray, UintArray]:
    stream = world_stream(seed, f"control/{label}")
    x0, x1 = np.empty(n, np.uint64), np.empty(n, np.uint64)
    fill(np.uint64(0), np.uint64(stream.counter_hi), np.uint64(stream.key), x0, x1)
    return x0, x1


@njit
def _scaled(draws: Any, bound: Any, out: Any) -> None:
    for i in range(draws.shape[0]):
        out[i] = multiply_high(draws[i], np.uint64(bound))


def _below(draws: UintArray, bound: int) -> IntArray:
    """Draws mapped to 0..bound-1 by the upper half of a 128-bit product."""
    out = np.empty(len(draws), np.int64)
    _scaled(draws, bound, out)
    return out


def relocated(sites: Sites, tile_id: IntArray, grid: GridLike, seed: int, label: str = "relocated") -> Sites:
    """The same outlets in other tiles, uniform inside each: int64[n] tiles in the order of the sites."""
    x0, x1 = _draws(seed, f"{label}/position", len(sites))
    row, col = np.divmod(np.asarray(tile_id, np.int64), grid.ncols)
    half = np.uint64(32)
    x = (col << 32) + (x0 >> half).astype(np.int64)
    y = (row << 32) + (x1 >> half).astype(np.int64)
    degree = float(grid.tiles_per_degree << 32)
    return make_sites(
        sites.merchant_id,
        sites.country,
        sites.site_order,
        (x - ((180 * grid.tiles_per_degree) << 32)) / degree,
        (((90 * grid.tiles_per_degree) << 32) - y) / degree,
        tile_id,
    )


def _tile_at(runs: Runs, weight: IntArray, position: IntArray) -> IntArray:
    """Tile at each position of the cumulative weight (per tile, int64) of a country's runs."""
    cumulative = np.concatenate((np.zeros(1, np.int64), np.cumsum(weight * runs.length)))
    run = np.searchsorted(cumulative, position, side="right") - 1
    tiles: IntArray = runs.tile0[run] + (position - cumulative[run]) // weight[run]
    return tiles


def _drawn_tiles(sites: Sites, surface: SurfaceLike, seed: int, label: str, by_people: bool) -> IntArray:
    """A tile per site, in proportion to people (or per tile, also where nobody lives). Countries keep their
    sites.
    """
    countries = len(surface.start) - 1
    bounds = sites.country_bounds(countries)
    x0, _ = _draws(seed, label, len(sites))
    tiles = sites.tile_id.copy()
    for c in np.flatnonzero((np.diff(bounds) > 0) & (np.diff(surface.start) > 0)).tolist():
        runs, part = surface.runs_of(c), slice(int(bounds[c]), int(bounds[c + 1]))
        weight = np.asarray(runs.population if by_people else np.ones(len(runs.tile0), np.int64))
        if not weight.any():
            weight = np.ones(len(runs.tile0), np.int64)
        total = int((weight * runs.length).sum())
        tiles[part] = _tile_at(runs, weight, _below(x0[part], total))
    return tiles


def population_placement(sites: Sites, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """Not a control but their opposite: every site independently in proportion to people."""
    return relocated(sites, _drawn_tiles(sites, surface, seed, "people", True), grid, seed, "people")


def uniform_scatter(sites: Sites, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """Every tile of a country is equally likely, inhabited or not."""
    return relocated(sites, _drawn_tiles(sites, surface, seed, "uniform", False), grid, seed, "uniform")


def one_cluster(sites: Sites, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """All sites of a country in its most populous tile (the first of equals)."""
    tiles = sites.tile_id.copy()
    bounds = sites.country_bounds(len(surface.start) - 1)
    for c in np.flatnonzero((np.diff(bounds) > 0) & (np.diff(surface.start) > 0)).tolist():
        runs = surface.runs_of(c)
        tiles[int(bounds[c]) : int(bounds[c + 1])] = runs.tile0[int(np.argmax(runs.population))]
    return relocated(sites, tiles, grid, seed, "cluster")


def shuffled_countries(sites: Sites, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """Countries with sites trade places at random: the counts stay, their owners change."""
    active = np.flatnonzero(sites.counts(len(surface.start) - 1))
    new = np.arange(len(surface.start) - 1)
    new[active] = active[np.argsort(_draws(seed, "shuffle", len(active))[0], kind="stable")]
    return _moved(sites, new[sites.country], surface, grid, seed)


def equal_countries(sites: Sites, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """Every country that has tiles gets the same number of sites."""
    able = np.flatnonzero(np.diff(surface.start) > 0)
    return _moved(sites, able[np.arange(len(sites)) * len(able) // len(sites)], surface, grid, seed)


def _moved(sites: Sites, country: IntArray, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """The outlets in other countries, placed by population there; renumbered, so that keys stay unique."""
    order = np.argsort(country, kind="stable")
    bounds = np.searchsorted(country[order], np.arange(len(surface.start)))
    number = np.empty(len(sites), np.int64)
    number[order] = np.arange(len(sites)) - bounds[country[order]] + 1
    moved = make_sites(sites.merchant_id, country, number, sites.lon_deg, sites.lat_deg, sites.tile_id)
    return population_placement(moved, surface, grid, seed)


def largest_remainder_tiles(sites: Sites, surface: SurfaceLike, grid: GridLike) -> IntArray:
    """Tiles of the first engine's placement without its anti-collapse moves: area weights, largest remainder.

    With fewer sites than tiles every quota is a remainder, so a merchant's n sites take the n largest tiles
    of the country (ties by tile id), the same for every merchant; beyond that they start again. Returns
    int64[n].
    """
    area = grid.row_area_cm2()
    bounds = sites.country_bounds(len(surface.start) - 1)
    tiles = sites.tile_id.copy()
    for c in np.flatnonzero((np.diff(bounds) > 0) & (np.diff(surface.start) > 0)).tolist():
        (tile0, length), part = surface.tiles_of(c), slice(int(bounds[c]), int(bounds[c + 1]))
        merchant = sites.merchant_id[part]
        first = np.concatenate(([True], merchant[1:] != merchant[:-1]))
        place = np.arange(len(merchant)) - np.flatnonzero(first)[np.cumsum(first) - 1]
        order = np.lexsort((tile0, -area[tile0 // grid.ncols]))
        cumulative = np.concatenate((np.zeros(1, np.int64), np.cumsum(length[order], dtype=np.int64)))
        place %= cumulative[-1]
        run = np.searchsorted(cumulative, place, side="right") - 1
        tiles[part] = tile0[order][run] + place - cumulative[run]
    return tiles


def old_placement(sites: Sites, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """The first engine's placement; with tiles of its real kernel, call `relocated` on them instead."""
    return relocated(sites, largest_remainder_tiles(sites, surface, grid), grid, seed, "old")


def empty_desert(sites: Sites, surface: SurfaceLike, grid: GridLike, seed: int) -> Sites:
    """All sites of a country in its emptiest tiles: where nobody lives, or else where fewest do."""
    bounds = sites.country_bounds(len(surface.start) - 1)
    x0, _ = _draws(seed, "desert", len(sites))
    tiles = sites.tile_id.copy()
    for c in np.flatnonzero((np.diff(bounds) > 0) & (np.diff(surface.start) > 0)).tolist():
        runs, part = surface.runs_of(c), slice(int(bounds[c]), int(bounds[c + 1]))
        keep = np.flatnonzero(runs.population == runs.population.min())
        cumulative = np.concatenate((np.zeros(1, np.int64), np.cumsum(runs.length[keep], dtype=np.int64)))
        position = _below(x0[part], int(cumulative[-1]))
        run = np.searchsorted(cumulative, position, side="right") - 1
        tiles[part] = runs.tile0[keep][run] + position - cumulative[run]
    return relocated(sites, tiles, grid, seed, "desert")


def one_merchant(sites: Sites, _surface: SurfaceLike, _grid: GridLike, _seed: int) -> Sites:
    """One chain owns everything; sites stay where they are."""
    order = np.arange(1, len(sites) + 1)
    country, lon, lat = sites.country, sites.lon_deg, sites.lat_deg
    return make_sites(np.zeros(len(sites)), country, order, lon, lat, sites.tile_id)


def duplicated_points(sites: Sites, _surface: SurfaceLike, _grid: GridLike, _seed: int) -> Sites:
    """Every second site stands exactly where the one before it stands, if that one is in the same country."""
    source = np.arange(len(sites))
    paired = (source % 2 == 1) & np.concatenate(([False], sites.country[1:] == sites.country[:-1]))
    source[paired] -= 1
    return replace(
        sites, lon_deg=sites.lon_deg[source], lat_deg=sites.lat_deg[source], tile_id=sites.tile_id[source]
    )


CONTROLS: tuple[Control, ...] = (
    Control(
        "uniform_scatter",
        "sites anywhere in their country",
        uniform_scatter,
        ("population_pit_mean", "population_pit_ks", "population_correlation_1deg"),
    ),
    Control(
        "one_cluster",
        "all sites of a country in one tile",
        one_cluster,
        ("population_pit_mean", "population_pit_ks", "population_correlation_1deg"),
    ),
    Control(
        "shuffled_countries", "countries trade their counts", shuffled_countries, ("market_slope", "prior_kl")
    ),
    Control(
        "equal_countries",
        "the same count in every country",
        equal_countries,
        ("country_gini_lower_bound", "market_slope", "prior_kl"),
    ),
    Control(
        "old_placement",
        "largest remainder on area weights",
        old_placement,
        ("population_pit_mean", "population_pit_ks"),
    ),
    Control(
        "empty_desert",
        "sites where nobody lives",
        empty_desert,
        ("population_pit_mean", "population_pit_ks", "unpopulated_tile_share", "near_city_share_difference"),
    ),
    Control("one_merchant", "one chain owns everything", one_merchant, ("largest_merchant_share",)),
    Control(
        "duplicated_points",
        "every second site on top of another",
        duplicated_points,
        ("duplicate_point_share", "nn_p99_p50_ratio"),
    ),
)
"""The controls by name, and which gates each must fail. On a surface without empty tiles `empty_desert` fails
the population gates but not `unpopulated_tile_share`.
"""
