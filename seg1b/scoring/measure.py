"""What is measured of a seed's sites, once; all metrics of a seed, and of several seeds pooled, derive from it.

In two steps: a tally of some countries, which tasks make apart; and, of the tallies together, what needs all sites at
once, their neighbours. Two numbers per site remain (distance and PIT); the rest is kept by pair, cell or country.
Pooling joins measurements, not sites: a neighbour is looked for inside its own seed only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seg1b.kernels.jit import in_chunks, njit, read_only
from seg1b.kernels.neighbours import neighbourhood
from seg1b.kernels.philox import block, u01
from seg1b.kernels.sphere import EARTH_RADIUS_M, cosines
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
from seg1b.scoring.sites import NO_SITES, Sites
from seg1b.scoring.values import summed

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

PIT_LABEL = "pit"
_METRES_PER_DEGREE = EARTH_RADIUS_M * np.pi / 180.0
_LATTICE_REACH = 3.0  # lattice steps; the diagonal of a cell is at most 1.8, next to the pole


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
class SurfaceTally:
    """Sites against one surface: `pit` float64[m] of the sites in countries where people live, `unpopulated` sites in
    tiles where nobody does, and sites per cell: country int16[K], cell int32[K], sites int64[K], by (country, cell).
    """

    name: str
    pit: FloatArray
    unpopulated: int
    cell_country: npt.NDArray[np.int16]
    cell: npt.NDArray[np.int32]
    cell_sites: IntArray


@dataclass(frozen=True, eq=False)
class SiteTally:
    """What can be said of the sites of some countries without looking at the others: what one task finds out.

    Pairs ascending by (country, merchant), one pair perhaps in several rows that follow each other: country int16[P],
    merchant_id uint64[P], sites int64[P], of which southern int64[P]. lon_deg, lat_deg float64[n]: the sites, pair by
    pair.
    """

    pair_country: npt.NDArray[np.int16]
    pair_merchant_id: npt.NDArray[np.uint64]
    pair_sites: IntArray
    pair_southern: IntArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    surfaces: tuple[SurfaceTally, ...]

    def counts(self, countries: int) -> IntArray:
        """Sites per country, int64[countries]."""
        return _sum_by(self.pair_country, self.pair_sites, countries)

    def points(self, countries: int) -> Points:
        """Where the sites stand."""
        start = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.counts(countries))))
        return Points(start, self.lon_deg, self.lat_deg)


@dataclass(frozen=True, eq=False)
class Points:
    """Sites country by country: those of country c are rows start[c] to start[c + 1] of float64[n] degrees."""

    start: IntArray
    lon_deg: FloatArray
    lat_deg: FloatArray


@dataclass(frozen=True, eq=False)
class Measurement:
    """n sites of one seed, or of `seeds` seeds pooled, as P pairs of merchant and country.

    As in `SiteTally`, a pair may stand there more than once. merchant int64[P]: dense number of the unit that is
    resampled; distance_m float64[n], pair by pair, to the nearest other site of the same seed, or None where no site
    has one; near_city: sites near a city; duplicates: sites minus distinct points. The other columns are those of
    `SiteTally`.
    """

    countries: int
    seeds: int
    merchant: IntArray
    merchant_id: npt.NDArray[np.uint64]
    pair_country: npt.NDArray[np.int16]
    pair_sites: IntArray
    pair_southern: IntArray
    near_city: int
    distance_m: FloatArray | None
    duplicates: int
    surfaces: tuple[SurfaceTally, ...]

    def __len__(self) -> int:
        return int(self.pair_sites.sum())

    def counts(self) -> IntArray:
        """Sites per country, int64[C]."""
        return _sum_by(self.pair_country, self.pair_sites, self.countries)


def _sum_by(group: npt.NDArray[np.integer[Any]], values: IntArray, groups: int) -> IntArray:
    """Sum of the values of each group, int64[groups]."""
    total = np.zeros(groups, np.int64)
    np.add.at(total, group, values)
    return total


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
def _fill_uniforms(key: Any, counter_hi: Any, pair: Any, site_order: Any, uniform: Any) -> None:
    for i in range(pair.shape[0]):
        counter = np.uint64(site_order[i]) * np.uint64(SITE_STRIDE)
        uniform[i] = u01(block(counter, counter_hi[pair[i]], key[pair[i]])[0])


def site_uniforms(sites: Sites, seed: int, iso: Sequence[str], label: str = PIT_LABEL) -> FloatArray:
    """One uniform per site, float64[n]: pair stream (seed, label, country, merchant), block site_order *
    2^16.
    """
    pair, first = sites.pairs()
    country, merchant_id = sites.country[first], sites.merchant_id[first]
    key, counter_hi = np.empty(len(first), np.uint64), np.empty(len(first), np.uint64)
    bounds = np.searchsorted(country, np.arange(len(iso) + 1))
    for c in np.flatnonzero(np.diff(bounds)).tolist():
        part = slice(int(bounds[c]), int(bounds[c + 1]))
        key[part], counter_hi[part] = pair_streams(seed, label, iso[c], merchant_id[part])
    uniform = np.empty(len(sites))
    _fill_uniforms(key, counter_hi, pair, read_only(sites.site_order), uniform)
    return uniform


def population_pit(
    sites: Sites, uniform: FloatArray, density: FloatArray, reference: SurfaceReference
) -> FloatArray:
    """Probability integral transform of each site's tile density among its country's people, float64[m].

    Ties (people in tiles of exactly the site's density) are broken by the site's own uniform. Sites of countries where
    the surface has nobody have none and are left out.
    """
    bounds = sites.country_bounds(len(reference.population))
    found = [np.empty(0)]
    for c in np.flatnonzero((np.diff(bounds) > 0) & (reference.population > 0)).tolist():
        part = slice(int(bounds[c]), int(bounds[c + 1]))
        below, tied = reference.densities.below_and_tied(c, density[part])
        found.append((below + uniform[part] * tied) / int(reference.population[c]))
    return np.concatenate(found)


def duplicate_points(
    lon_deg: FloatArray, lat_deg: FloatArray, resolution_m: float, distance_m: FloatArray
) -> int:
    """Number of points minus number of distinct ones after snapping to a lattice of `resolution_m` metres.

    `distance_m` float64[n] to each point's nearest neighbour: points that are farther apart than a few lattice steps
    are not snapped to one.
    """
    close = distance_m <= _LATTICE_REACH * resolution_m
    lon_deg, lat_deg = lon_deg[close], lat_deg[close]
    y = np.rint(lat_deg * _METRES_PER_DEGREE / resolution_m).astype(np.int64)
    snapped_lat = np.clip(y * resolution_m / _METRES_PER_DEGREE, -90.0, 90.0)
    circle_m = _METRES_PER_DEGREE * cosines(snapped_lat)
    x = np.rint(lon_deg * circle_m / resolution_m).astype(np.int64)
    order = np.lexsort((x, y))
    x, y = x[order], y[order]
    return int(np.count_nonzero((x[1:] == x[:-1]) & (y[1:] == y[:-1])))


def tally(sites: Sites, seed: int, context: ScoringContext) -> SiteTally:
    """What can be said of the sites of some countries of one seed without looking at the others."""
    uniform = site_uniforms(sites, seed, context.iso)
    pair, first = sites.pairs()
    return SiteTally(
        pair_country=sites.country[first],
        pair_merchant_id=sites.merchant_id[first],
        pair_sites=np.diff(first, append=len(sites)),
        pair_southern=np.bincount(pair[sites.lat_deg < 0.0], minlength=len(first)),
        lon_deg=sites.lon_deg,
        lat_deg=sites.lat_deg,
        surfaces=tuple(_tally_surface(sites, uniform, named, context.grid) for named in context.surfaces),
    )


def _tally_surface(sites: Sites, uniform: FloatArray, named: NamedSurface, grid: GridLike) -> SurfaceTally:
    people = named.surface.population_at(sites.country, sites.tile_id)
    density = tile_density(people, sites.tile_id, grid)
    pit = population_pit(sites, uniform, density, named.reference)
    cell = cell_of(sites.tile_id, grid, named.reference.tiles_per_cell)
    cells = _cells_of(*np.unique(_cell_key(sites.country, cell), return_counts=True))
    return SurfaceTally(named.name, pit, int(np.count_nonzero(people <= 0)), *cells)


def tally_blocks(
    read: Callable[[int, int], Iterable[Sites]], rows: IntArray, seed: int, context: ScoringContext
) -> SiteTally:
    """The tally of a whole seed, a block at a time: of a block's columns no more stays than the tally has.

    `read(first, stop)` gives the sites of blocks first to stop, in order of country, merchant and site; `rows` is the
    size of each block. Several threads read and tally at once.
    Raises ValueError for a block that is missing, one too many, or of another size.
    """
    start = np.concatenate((np.zeros(1, np.int64), np.cumsum(rows)))
    lon_deg, lat_deg = np.empty(int(start[-1])), np.empty(int(start[-1]))
    parts: list[SiteTally] = [tally(NO_SITES, seed, context)] * len(rows)

    def fill(first: int, stop: int) -> None:
        for i, sites in zip(range(first, stop), read(first, stop), strict=True):
            if len(sites) != rows[i]:
                raise ValueError(f"block {i} has {len(sites)} sites where {rows[i]} were announced")
            own = slice(int(start[i]), int(start[i + 1]))
            lon_deg[own], lat_deg[own] = sites.lon_deg, sites.lat_deg
            parts[i] = replace(tally(sites, seed, context), lon_deg=lon_deg[own], lat_deg=lat_deg[own])

    if len(rows):
        in_chunks(fill, len(rows), start)
    parts = parts or [tally(NO_SITES, seed, context)]
    return SiteTally(
        np.concatenate([part.pair_country for part in parts]),
        np.concatenate([part.pair_merchant_id for part in parts]),
        np.concatenate([part.pair_sites for part in parts]),
        np.concatenate([part.pair_southern for part in parts]),
        lon_deg,
        lat_deg,
        tuple(
            _joined_surface(name, [part.surfaces[i] for part in parts])
            for i, name in enumerate(_surface_names(parts))
        ),
    )


def _surface_names(measured: Sequence[SiteTally] | Sequence[Measurement]) -> tuple[str, ...]:
    if not measured:
        raise ValueError("there is nothing to join")
    names = [tuple(surface.name for surface in one.surfaces) for one in measured]
    if len(set(names)) != 1:
        raise ValueError(f"the sites were measured against different worlds: {names}")
    return names[0]


def _joined_surface(name: str, parts: Sequence[SurfaceTally]) -> SurfaceTally:
    pit = np.concatenate([part.pit for part in parts])
    keys = np.concatenate([_cell_key(part.cell_country, part.cell) for part in parts])
    cells = summed(keys, np.concatenate([part.cell_sites for part in parts]))
    return SurfaceTally(name, pit, sum(part.unpopulated for part in parts), *_cells_of(*cells))


def _cell_key(country: npt.NDArray[np.int16], cell: npt.NDArray[np.int32]) -> IntArray:
    return country.astype(np.int64) << 32 | cell


def _cells_of(
    key: IntArray, sites: IntArray
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int32], IntArray]:
    """Country, cell and sites of keys."""
    return (key >> 32).astype(np.int16), key.astype(np.int32), sites.astype(np.int64)


def measure(sites: SiteTally, context: ScoringContext) -> Measurement:
    """Measure all sites of one seed, each among all others."""
    parameters = context.gates.counter_metric_parameters
    lon, lat = sites.lon_deg, sites.lat_deg
    found = neighbourhood(
        lon, lat, context.city_lon_deg, context.city_lat_deg, parameters.near_city_radius_km * 1000.0
    )
    return Measurement(
        countries=context.countries,
        seeds=1,
        merchant=np.unique(sites.pair_merchant_id, return_inverse=True)[1].astype(np.int64),
        merchant_id=sites.pair_merchant_id,
        pair_country=sites.pair_country,
        pair_sites=sites.pair_sites,
        pair_southern=sites.pair_southern,
        near_city=int(np.count_nonzero(found.near_centre)),
        distance_m=found.distance_m if len(lon) > 1 else None,
        duplicates=duplicate_points(lon, lat, parameters.duplicate_distance_m, found.distance_m),
        surfaces=sites.surfaces,
    )


def pool(measurements: Sequence[Measurement], *, shared_catalogue: bool) -> Measurement:
    """Several seeds as one measurement.

    With a shared catalogue a merchant is the same unit in every seed; otherwise each (seed, merchant) is a
    unit of its own. Raises ValueError for no measurements or different surfaces.
    """
    names = _surface_names(measurements)
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
        pair_country=np.concatenate([m.pair_country for m in measurements]),
        pair_sites=np.concatenate([m.pair_sites for m in measurements]),
        pair_southern=np.concatenate([m.pair_southern for m in measurements]),
        near_city=sum(m.near_city for m in measurements),
        distance_m=np.concatenate(distances) if len(distances) == len(measurements) else None,
        duplicates=sum(m.duplicates for m in measurements),
        surfaces=tuple(
            _joined_surface(name, [m.surfaces[i] for m in measurements]) for i, name in enumerate(names)
        ),
    )


def _numbered(merchants: Sequence[IntArray]) -> IntArray:
    """Join dense numbers so that those of different seeds differ."""
    offset, parts = 0, []
    for merchant in merchants:
        parts.append(merchant + offset)
        offset += int(merchant.max()) + 1 if len(merchant) else 0
    return np.concatenate(parts)
