"""A small Earth for scoring tests: 24 square countries of bumps of people, and honest sites in them.

Tiles are a tenth of a degree. Country k is a square of 3 by 3 degrees; its people live in six round towns,
the rest of the land is empty. Market sizes fall like rank^-2, and sites follow the tempered prior, so that
most counter-metrics hold for honest sites by construction. Small worlds cannot reach B+: top shares are large
where countries are few.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from seg1b.policy.gates import GatesPolicy
from seg1b.policy.load import load_policies
from seg1b.scoring.controls import population_placement
from seg1b.scoring.measure import ScoringContext, make_context
from seg1b.scoring.sites import Sites, make_sites
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface

COUNTRIES = 24
SIDE_TILES = 30
SITES = 9000
GRID = Grid(360)
ISO = tuple(f"{chr(65 + k // 26)}{chr(65 + k % 26)}" for k in range(COUNTRIES))
REGIONS = ("Africa", "Asia", "Europe", "North America", "South America", "Oceania")
MACRO_REGION = tuple(REGIONS[k % 6] for k in range(COUNTRIES))
PRIOR: npt.NDArray[np.float64] = np.asarray(1.0 / (1.0 + np.arange(COUNTRIES)), np.float64)


def north_west(country: int) -> tuple[int, int]:
    """First (row, col) of a country's square; the last six countries lie south of the equator."""
    return 700 + 75 * (country // 6), 200 + 500 * (country % 6)


def runs_from_tiles(
    start: list[int], tiles: npt.NDArray[np.int64], people: npt.NDArray[np.int64]
) -> PopulationSurface:
    """A surface with one run per tile; `start` are the first tiles of each country, plus the end."""
    return PopulationSurface(
        GRID, np.array(start, np.int64), tiles, np.ones(len(tiles), np.int32), np.asarray(people, np.int64)
    )


@functools.cache
def bumps() -> tuple[PopulationSurface, npt.NDArray[np.float64]]:
    """The surface and the (lon, lat) of each country's largest town."""
    rng = np.random.default_rng(2)
    tiles, people, towns = [], [], []
    row, col = np.divmod(np.arange(SIDE_TILES**2), SIDE_TILES)
    for c in range(COUNTRIES):
        row0, col0 = north_west(c)
        density = np.zeros(SIDE_TILES**2)
        centres = rng.integers(4, SIDE_TILES - 4, (6, 2))
        for size, (r, k) in zip((8, 5, 4, 3, 3, 2), centres.tolist(), strict=True):
            density += size * np.exp(-((row - r) ** 2 + (col - k) ** 2) / 8.0)
        population = (np.where(density < 0.02, 0.0, density) * 1e9 * PRIOR[c] ** 2).astype(np.int64)
        tiles.append((row0 + row) * GRID.ncols + col0 + col)
        people.append(population)
        towns.append(((col0 + centres[0, 1] + 0.5) / 10 - 180, 90 - (row0 + centres[0, 0] + 0.5) / 10))
    start = [SIDE_TILES**2 * c for c in range(COUNTRIES + 1)]
    return runs_from_tiles(start, np.concatenate(tiles), np.concatenate(people)), np.array(towns)


@functools.cache
def gates() -> GatesPolicy:
    """The shipped gates, with a city radius that suits tiles of 11 km."""
    policy = load_policies().gates
    parameters = policy.counter_metric_parameters.model_copy(update={"near_city_radius_km": 40.0})
    return policy.model_copy(update={"counter_metric_parameters": parameters})


def context_of(
    surface: PopulationSurface,
    towns: npt.NDArray[np.float64],
    extra: tuple[tuple[str, PopulationSurface], ...] = (),
) -> ScoringContext:
    """The scoring context of a surface of COUNTRIES countries."""
    return make_context(
        iso=ISO,
        macro_region=MACRO_REGION,
        eligible=np.ones(COUNTRIES, np.bool_),
        prior=PRIOR,
        market=np.square(PRIOR),
        grid=GRID,
        settlement_lon_deg=towns[:, 0],
        settlement_lat_deg=towns[:, 1],
        settlement_population=np.full(len(towns), 60_000),
        surfaces=(("bundled", surface), *extra),
        gates=gates(),
    )


@functools.cache
def context() -> ScoringContext:
    """The context of the bumps."""
    return context_of(*bumps())


def outlets(counts: npt.NDArray[np.int64]) -> Sites:
    """Outlets without a place: merchants own 1 to 12 sites, and one outlet in each of several countries."""
    country = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(country)) - np.repeat(np.cumsum(counts) - counts, counts)
    merchant = place // (1 + country % 12) + 7 * country
    order = place % (1 + country % 12) + 1
    zeros = np.zeros(len(country))
    return make_sites(merchant, country, order, zeros, zeros, zeros.astype(np.int64))


@functools.cache
def honest() -> Sites:
    """Sites in proportion to the prior between countries and to people within them."""
    counts = np.floor(PRIOR / PRIOR.sum() * SITES).astype(np.int64)
    return population_placement(outlets(counts), bumps()[0], GRID, 1)


def chosen(sites: Sites, rows: npt.NDArray[Any]) -> Sites:
    """Sites made of these rows (a mask, or row numbers in any order) of others."""
    return make_sites(
        sites.merchant_id[rows],
        sites.country[rows],
        sites.site_order[rows],
        sites.lon_deg[rows],
        sites.lat_deg[rows],
        sites.tile_id[rows],
    )
