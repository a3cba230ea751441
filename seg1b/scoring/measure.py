"""What is measured at every site, once; all metrics of a seed, and of several seeds pooled, derive from it.

Pooling joins measurements, not sites: a neighbour is looked for inside its own seed only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import njit, read_only
from seg1b.kernels.philox import block, u01
from seg1b.kernels.sphere import EARTH_RADIUS_M, nearest_neighbour_m, sin_cos_degrees, within_distance
from seg1b.kernels.streams import SITE_STRIDE, pair_streams
from seg1b.policy.gates import GatesPolicy
from seg1b.scoring.reference import (
    GridLike,
    SurfaceLike,
    SurfaceReference,
    build_reference,
    cell_of,
    tile_density,
)
from seg1b.scoring.sites import Sites

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

PIT_LABEL = "pit"
_METRES_PER_DEGREE = EARTH_RADIUS_M * np.pi / 180.0


@dataclass(frozen=True, eq=False)
class NamedSurface:
    """A population surface, its reference and the name under which its metrics are reported."""

    surface: SurfaceLike
    reference: SurfaceReference

    @property
    def name(self) -> str:
        """Name of the surface."""
        return self.reference.name


@dataclass(frozen=True, eq=False)
class ScoringContext:
    """What does not depend on a seed: countries, gates, cities, surfaces.

    `eligible` bool[C] (a denylist does not shorten it), `prior` float64[C] tempered market prior (any scale),
    `market` float64[C] untempered market size (any unit; 0 where unknown). The first surface is the one that
    sites were placed by; the others (the bundled one beside a user's raster) are judged by the same gates.
    """

    iso: tuple[str, ...]
    macro_region: tuple[str, ...]
    eligible: BoolArray
    prior: FloatArray
    market: FloatArray
    grid: GridLike
    city_lon_deg: FloatArray
    city_lat_deg: FloatArray
    surfaces: tuple[NamedSurface, ...]
    gates: GatesPolicy

    @property
    def countries(self) -> int:
        """Number of countries C."""
        return len(self.iso)


@dataclass(frozen=True, eq=False)
class SurfaceMeasurement:
    """Per site, against one surface: `pit` float64[n] (NaN in a country without people), `unpopulated`
    bool[n].
    """

    name: str
    pit: FloatArray
    unpopulated: BoolArray
    cell: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Measurement:
    """n sites of one seed, or of `seeds` seeds pooled.

    merchant int64[n]: dense number of the unit that is resampled; distance_m float64[n] to the nearest other
    site of the same seed, or None where no site has one; duplicates: sites minus distinct points.
    """

    countries: int
    seeds: int
    merchant: IntArray
    merchant_id: npt.NDArray[np.uint64]
    country: npt.NDArray[np.int16]
    southern: BoolArray
    near_city: BoolArray
    distance_m: FloatArray | None
    duplicates: int
    surfaces: tuple[SurfaceMeasurement, ...]

    def __len__(self) -> int:
        return len(self.country)

    def counts(self) -> IntArray:
        """Sites per country, int64[C]."""
        return np.bincount(self.country, minlength=self.countries).astype(np.int64)


def make_context(
    *,
    iso: Sequence[str],
    macro_region: Sequence[str],
    eligible: BoolArray,
    prior: FloatArray,
    market: FloatArray,
    grid: GridLike,
    settlement_lon_deg: FloatArray,
    settlement_lat_deg: FloatArray,
    settlement_population: npt.NDArray[np.integer[Any]],
    surfaces: Sequence[tuple[str, SurfaceLike]],
    gates: GatesPolicy,
) -> ScoringContext:
    """The context of a world; builds the reference of each named surface, the one used for placement
    first.
    """
    parameters = gates.counter_metric_parameters
    city = np.asarray(settlement_population) >= parameters.near_city_population_min
    lon, lat = np.asarray(settlement_lon_deg)[city], np.asarray(settlement_lat_deg)[city]
    named = tuple(
        NamedSurface(
            surface,
            build_reference(
                name, grid, surface, lon, lat, parameters.near_city_radius_km, parameters.correlation_cell_deg
            ),
        )
        for name, surface in surfaces
    )
    return ScoringContext(
        tuple(iso),
        tuple(macro_region),
        np.asarray(eligible, np.bool_),
        prior,
        market,
        grid,
        lon,
        lat,
        named,
        gates,
    )


@njit
def _fill_uniforms(key: Any, counter_hi: Any, site_order: Any, uniform: Any) -> None:
    for i in range(key.shape[0]):
        counter = np.uint64(site_order[i]) * np.uint64(SITE_STRIDE)
        uniform[i] = u01(block(counter, counter_hi[i], key[i])[0])


def site_uniforms(sites: Sites, seed: int, iso: Sequence[str], label: str = PIT_LABEL) -> FloatArray:
    """One uniform per site, float64[n]: pair stream (seed, label, country, merchant), block site_order *
    2^16.
    """
    bounds = sites.country_bounds(len(iso))
    uniform = np.empty(len(sites))
    for c in np.flatnonzero(np.diff(bounds)).tolist():
        part = slice(int(bounds[c]), int(bounds[c + 1]))
        merchants, inverse = np.unique(sites.merchant_id[part], return_inverse=True)
        key, counter_hi = pair_streams(seed, label, iso[c], merchants)
        order = read_only(sites.site_order[part])
        _fill_uniforms(key[inverse], counter_hi[inverse], order, uniform[part])
    return uniform


def population_pit(
    sites: Sites, uniform: FloatArray, density: FloatArray, reference: SurfaceReference
) -> FloatArray:
    """Probability integral transform of each site's tile density among its country's people, float64[n].

    Ties (people in tiles of exactly the site's density) are broken by the site's own uniform. NaN where the
    surface has nobody in the country.
    """
    bounds = sites.country_bounds(len(reference.population))
    pit = np.full(len(sites), np.nan)
    for c in np.flatnonzero((np.diff(bounds) > 0) & (reference.population > 0)).tolist():
        part = slice(int(bounds[c]), int(bounds[c + 1]))
        below, tied = reference.densities.below_and_tied(c, density[part])
        pit[part] = (below + uniform[part] * tied) / int(reference.population[c])
    return pit


def duplicate_points(lon_deg: FloatArray, lat_deg: FloatArray, resolution_m: float) -> int:
    """Number of points minus number of distinct ones after snapping to a lattice of `resolution_m` metres."""
    y = np.rint(lat_deg * _METRES_PER_DEGREE / resolution_m).astype(np.int64)
    snapped_lat = np.clip(y * resolution_m / _METRES_PER_DEGREE, -90.0, 90.0)
    circle_m = _METRES_PER_DEGREE * sin_cos_degrees(snapped_lat)[1]
    x = np.rint(lon_deg * circle_m / resolution_m).astype(np.int64)
    order = np.lexsort((x, y))
    x, y = x[order], y[order]
    return int(np.count_nonzero((x[1:] == x[:-1]) & (y[1:] == y[:-1])))


def measure(sites: Sites, seed: int, context: ScoringContext) -> Measurement:
    """Measure every site of one seed."""
    parameters = context.gates.counter_metric_parameters
    uniform = site_uniforms(sites, seed, context.iso)
    surfaces = tuple(_measure_surface(sites, uniform, named, context.grid) for named in context.surfaces)
    lon, lat = sites.lon_deg, sites.lat_deg
    return Measurement(
        countries=context.countries,
        seeds=1,
        merchant=np.unique(sites.merchant_id, return_inverse=True)[1].astype(np.int64),
        merchant_id=sites.merchant_id,
        country=sites.country,
        southern=lat < 0.0,
        near_city=within_distance(
            lon, lat, context.city_lon_deg, context.city_lat_deg, parameters.near_city_radius_km * 1000.0
        ),
        distance_m=nearest_neighbour_m(lon, lat) if len(sites) > 1 else None,
        duplicates=duplicate_points(lon, lat, parameters.duplicate_distance_m),
        surfaces=surfaces,
    )


def _measure_surface(
    sites: Sites, uniform: FloatArray, named: NamedSurface, grid: GridLike
) -> SurfaceMeasurement:
    people = named.surface.population_at(sites.country, sites.tile_id)
    density = tile_density(people, sites.tile_id, grid)
    return SurfaceMeasurement(
        named.name,
        population_pit(sites, uniform, density, named.reference),
        people <= 0,
        cell_of(sites.tile_id, grid, named.reference.tiles_per_cell),
    )


def pool(measurements: Sequence[Measurement], *, shared_catalogue: bool) -> Measurement:
    """Several seeds as one measurement.

    With a shared catalogue a merchant is the same unit in every seed; otherwise each (seed, merchant) is a
    unit of its own. Raises ValueError for no measurements or different surfaces.
    """
    if not measurements:
        raise ValueError("there is nothing to pool")
    names = [tuple(s.name for s in m.surfaces) for m in measurements]
    if len(set(names)) != 1 or len({m.countries for m in measurements}) != 1:
        raise ValueError(f"the seeds were measured against different worlds: {names}")
    merchant_id = np.concatenate([m.merchant_id for m in measurements])
    if shared_catalogue:
        merchant = np.unique(merchant_id, return_inverse=True)[1].astype(np.int64)
    else:
        merchant = _numbered([m.merchant for m in measurements])
    distances = [m.distance_m for m in measurements if m.distance_m is not None]
    return Measurement(
        countries=measurements[0].countries,
        seeds=sum(m.seeds for m in measurements),
        merchant=merchant,
        merchant_id=merchant_id,
        country=np.concatenate([m.country for m in measurements]),
        southern=np.concatenate([m.southern for m in measurements]),
        near_city=np.concatenate([m.near_city for m in measurements]),
        distance_m=np.concatenate(distances) if len(distances) == len(measurements) else None,
        duplicates=sum(m.duplicates for m in measurements),
        surfaces=tuple(
            SurfaceMeasurement(
                name,
                np.concatenate([m.surfaces[i].pit for m in measurements]),
                np.concatenate([m.surfaces[i].unpopulated for m in measurements]),
                np.concatenate([m.surfaces[i].cell for m in measurements]),
            )
            for i, name in enumerate(names[0])
        ),
    )


def _numbered(merchants: Sequence[IntArray]) -> IntArray:
    """Join dense numbers so that those of different seeds differ."""
    offset, parts = 0, []
    for merchant in merchants:
        parts.append(merchant + offset)
        offset += int(merchant.max()) + 1 if len(merchant) else 0
    return np.concatenate(parts)
