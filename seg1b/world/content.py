"""The world as the states read it: countries, polygons, settlements, and where they come from."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CountryTable:
    """The C countries, sorted by ISO 3166-1 alpha-2 code; the position is the country index everywhere.

    `population` in persons, `gdp_per_head` in US dollars (0.0 where nobody lives), `area_km2` of the polygon.
    `exclusion_reason` is empty for an eligible country. `*_source` say where a value comes from.
    """

    iso: tuple[str, ...]
    name: tuple[str, ...]
    population: NDArray[np.int64]
    population_source: tuple[str, ...]
    gdp_per_head: NDArray[np.float64]
    gdp_source: tuple[str, ...]
    area_km2: NDArray[np.float64]
    subregion: tuple[str, ...]
    macro_region: tuple[str, ...]
    eligible: NDArray[np.bool_]
    exclusion_reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.iso)

    @functools.cached_property
    def index_of(self) -> dict[str, int]:
        """ISO code -> country index."""
        return {iso: index for index, iso in enumerate(self.iso)}


@dataclass(frozen=True, eq=False)
class Polygons:
    """Closed rings (first vertex repeated), grouped by ascending country; a point is inside by even-odd.

    `lon`, `lat` float64[V] in degrees, `ring_start` int64[R+1] into them, `ring_country` int16[R].
    """

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    ring_country: NDArray[np.int16]

    def country_rings(self, country: int) -> range:
        """Return the ring numbers of a country index."""
        low, high = np.searchsorted(self.ring_country, [country, country + 1])
        return range(int(low), int(high))


@dataclass(frozen=True, eq=False)
class Settlements:
    """Populated places sorted by (country, geonameid). Coordinates in 1e-5 degrees, population in persons.

    `name` is a pyarrow StringArray: 235,000 Python strings would cost more time than everything else.
    """

    lon_e5: NDArray[np.int32]
    lat_e5: NDArray[np.int32]
    population: NDArray[np.int32]
    country: NDArray[np.int16]
    geonameid: NDArray[np.int32]
    name: Any

    def __len__(self) -> int:
        return int(self.geonameid.size)


@dataclass(frozen=True)
class RasterReference:
    """A population GeoTIFF of a user world: what it must be (digest, header) and where it is now (`path`).

    `row0`, `col0` is the tile of its north-west pixel on the grid of `resolution_arcsec`. `path` is not data:
    it is neither recorded nor part of any digest.
    """

    file_name: str
    sha256: str
    bytes: int
    rows: int
    cols: int
    row0: int
    col0: int
    resolution_arcsec: int
    nodata: str
    dtype: str
    path: Path | None = None

    def header(self) -> dict[str, Any]:
        """Return everything but the path, as plain JSON values."""
        values = asdict(self)
        del values["path"]
        return values


@dataclass(frozen=True, eq=False)
class World:
    """Everything S0 seals about the Earth. `digest` depends on content only.

    `directory` is where a user's world was read from; None for the embedded one. It is no data.
    """

    countries: CountryTable
    polygons: Polygons
    settlements: Settlements
    provenance: dict[str, Any]
    digest: str
    raster: RasterReference | None = None
    directory: Path | None = None


def attributions(provenance: Any) -> list[str]:
    """Every sentence that a source asks for, wherever it stands in the provenance, each once, in order."""
    found: list[str] = []
    if isinstance(provenance, dict):
        for name, value in sorted(provenance.items()):
            found += [value] if name == "attribution" and isinstance(value, str) else attributions(value)
    return list(dict.fromkeys(found))
