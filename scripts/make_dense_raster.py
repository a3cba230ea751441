"""Make a dense population raster of 30 arc-seconds to measure with: the bundled surface, roughened pixel by pixel.

Every pixel on land holds people: the bundled surface's and a few more, times a factor between 1/2 and 3/2 that follows
from the pixel's number alone. The rest is nodata (-99999). So no two neighbours are alike, as in a census raster, and
the same command makes the same values everywhere. Strips of rows are written one after the other.

    python scripts/make_dense_raster.py people.tif [--window WEST SOUTH EAST NORTH] [--compress deflate|zstd|lzw|none]

The default window, -180 -58 180 84, has 43,200 x 17,040 pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from seg1b.policy.load import default_policies
from seg1b.world.bundle import load_world
from seg1b.world.grid import Grid
from seg1b.world.surface import PopulationSurface, build_surface
from seg1b.world.tile_index import build_tile_index

NODATA = -99999.0
STRIP_ROWS = 256
_FEW_PEOPLE = 1.0 / 32.0


def factor(tile_id: NDArray[np.int64]) -> NDArray[np.float64]:
    """A number in [1/2, 3/2) for each tile, in steps of 1/4096: the top bits of a multiplicative hash."""
    mixed = tile_id.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return 0.5 + (mixed >> np.uint64(52)).astype(np.float64) / 4096.0


def strip(surface: PopulationSurface, top: int, bottom: int) -> NDArray[np.float32]:
    """Persons of the tiles of rows [top, bottom), float32; nodata where there is no country."""
    columns = surface.grid.ncols
    values = np.full((bottom - top) * columns, NODATA, np.float32)
    for country in range(len(surface.start) - 1):
        first, last = surface.start[country : country + 2].tolist()
        low, high = first + np.searchsorted(surface.tile0[first:last], [top * columns, bottom * columns])
        length = surface.length[low:high].astype(np.int64)
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        tile = np.repeat(surface.tile0[low:high], length) + within
        people = np.repeat(surface.population[low:high], length) / 1e6 + _FEW_PEOPLE
        values[tile - top * columns] = people * factor(tile)
    return values.reshape(bottom - top, columns)


def main() -> None:
    """Write the raster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--window", type=int, nargs=4, default=(-180, -58, 180, 84), help="whole degrees")
    parser.add_argument("--compress", choices=("deflate", "zstd", "lzw", "none"), default="deflate")
    arguments = parser.parse_args()
    west, south, east, north = arguments.window
    world, grid = load_world(), Grid(30)
    surface = build_surface(world, build_tile_index(world, grid), default_policies().tile_weights.surface)
    per_degree = grid.tiles_per_degree
    rows = range((90 - north) * per_degree, (90 - south) * per_degree)
    columns = slice((west + 180) * per_degree, (east + 180) * per_degree)
    profile = {
        "driver": "GTiff", "height": len(rows), "width": columns.stop - columns.start, "count": 1, "dtype": "float32",
        "crs": "EPSG:4326", "transform": from_origin(west, north, 1 / per_degree, 1 / per_degree), "nodata": NODATA,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "bigtiff": "if_safer",
    }  # fmt: skip
    if arguments.compress != "none":
        profile |= {"compress": arguments.compress, "zlevel": 1, "zstd_level": 1}
    with rasterio.open(arguments.out, "w", **profile) as dataset:
        for top in range(rows.start, rows.stop, STRIP_ROWS):
            bottom = min(top + STRIP_ROWS, rows.stop)
            window = rasterio.windows.Window(0, top - rows.start, dataset.width, bottom - top)
            dataset.write(strip(surface, top, bottom)[:, columns], 1, window=window)
    print(
        f"{arguments.out}: {len(rows)} x {dataset.width} pixels, {arguments.out.stat().st_size / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
