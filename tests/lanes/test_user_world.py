"""A user's own population raster: certified, verified with it, and without it as far as that goes."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from lane_cases import Certified, WorldCache, copied, fast_world, one_seed, run_small
from rasterio.transform import from_origin

from seg1b.catalogue.bundle import write_user_catalogue
from seg1b.errors import Seg1bError
from seg1b.lanes.verify import verify
from seg1b.world.content import World, attributions
from seg1b.world.custom import build_user_world

sys.path.insert(0, str(Path(__file__).parents[1] / "states"))
from seed_cases import catalogue

pytestmark = pytest.mark.usefixtures("quick")
ISOS = ("LS", "SZ")


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People on 8 x 6 degrees of southern Africa: more to the east, nobody in every fifth column."""
    path = tmp_path_factory.mktemp("raster") / "people.tif"
    values = np.tile(np.arange(960, dtype=np.float32) / 100.0, (720, 1))
    values[:, ::5] = 0.0
    values[0, 0] = -99999.0
    with rasterio.open(
        path, "w", driver="GTiff", height=720, width=960, count=1, dtype="float32", crs="EPSG:4326",
        transform=from_origin(26.0, -25.0, 1 / 120, 1 / 120), nodata=-99999.0, compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(values, 1)
    return path


@pytest.fixture(scope="module")
def certified(raster: Path, world_cache: WorldCache, tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """Two countries' sites placed by the raster."""
    root = tmp_path_factory.mktemp("user")
    world: World = build_user_world(None, raster, root / "world")
    write_user_catalogue(root / "bundle", catalogue(world.countries, ISOS, 8))
    with fast_world(world_cache):
        result = run_small(root / "runs", world, one_seed(), bundle=root / "bundle")
    return Certified(result, root / "runs", one_seed())


def test_the_raster_places_the_sites_and_the_bundled_surface_watches(certified: Certified) -> None:
    """Both surfaces are named, and what is measured on one says on which."""
    document = certified.result.certificate
    assert document["world"]["population_surface"] == ["placement", "bundled"]
    assert document["world_is_the_packaged_one"] is False
    (entry,) = document["seeds"]
    assert all(check["passed"] for check in entry["checks"])
    assert {"population_pit_mean@placement", "population_pit_mean@bundled"} <= set(entry["metrics"])
    assert entry["metrics"]["unpopulated_tile_share@placement"] == 0.0
    assert not list(certified.result.path.rglob("*.tif"))


def test_worlds_that_differ_in_their_attribution_alone_share_no_egress(
    real_world: World, tmp_path: Path
) -> None:
    """In one store, each certification's files say what their own world's sources ask for; no draw is made again."""
    source = {"hand": {"attribution": "Drawn by hand."}}
    other = dataclasses.replace(real_world, provenance={**real_world.provenance, "sources": source})
    write_user_catalogue(tmp_path / "bundle", catalogue(real_world.countries, ISOS, 8))
    told = {}
    for world in (real_world, other):
        result = run_small(tmp_path / "runs", world, one_seed(), bundle=tmp_path / "bundle")
        files = sorted((result.path / "seeds/42/site_locations").glob("*/*.parquet"))
        (sentence,) = {pq.read_schema(file).metadata[b"attribution"].decode() for file in files}
        assert (result.path / "ATTRIBUTION.txt").read_text() == sentence + "\n"
        told[world.digest, sentence] = result.certificate["seeds"][0]["logical_digest"]
    assert [sentence for _, sentence in told] == [
        " ".join(attributions(real_world.provenance)),
        "Drawn by hand.",
    ]
    assert len(set(told.values())) == 1
    assert {path.name: len(list(path.iterdir())) for path in (tmp_path / "runs/objects").iterdir()} == {
        "s0c": 1, "s3": 1, "s4": 1, "s5": 1, "s6": 1, "s7": 1, "s8": 2, "s9": 2, "s9m": 2, "s9o": 1, "s9p": 1, "s9r": 2,
    }  # fmt: skip


def test_with_the_raster_everything_is_verified(certified: Certified, raster: Path, tmp_path: Path) -> None:
    """On a copy, the raster named by hand."""
    folder = copied(certified.result.path, tmp_path / "copy")
    report = verify(folder, certified.policies, raster=raster)
    assert report.findings == []
    assert not report.partially
    assert report.packaged["world_is_the_packaged_one"] is False
    assert any("a user's own" in line for line in report.checked)


def test_without_the_raster_it_says_what_was_not_checked(certified: Certified, tmp_path: Path) -> None:
    """Partially: digests, keys, assignment, coordinates and what needs no surface."""
    folder = copied(certified.result.path, tmp_path / "copy")
    report = verify(folder, certified.policies)
    assert report.findings == []
    assert report.partially
    assert any("no raster" in line for line in report.unchecked)


def test_without_the_raster_a_moved_shop_is_still_found(certified: Certified, tmp_path: Path) -> None:
    """The egress against S6, and the tile's bounds, need no surface."""
    folder = copied(certified.result.path, tmp_path / "copy")
    (file,) = (folder / "seeds/42/site_locations/legal_country_iso=LS").glob("*.parquet")
    table = pq.read_table(file, partitioning=None)
    lon = table.column("lon_deg").to_numpy().copy()
    lon[0] += 0.02
    pq.write_table(table.set_column(2, table.schema.field(2), pa.array(lon)), file)
    codes = {finding.code for finding in verify(folder, certified.policies).findings}
    assert {"E_VERIFY_FILE_DIGEST", "E_VERIFY_STRUCTURE"} <= codes


def test_another_raster_is_not_this_one(certified: Certified, raster: Path, tmp_path: Path) -> None:
    """A raster with one other pixel is refused or found."""
    other = tmp_path / raster.name
    with rasterio.open(raster) as source:
        values, profile = source.read(1), source.profile
    values[5, 7] += 1.0
    with rasterio.open(other, "w", **profile) as dataset:
        dataset.write(values, 1)
    found: Any
    try:
        found = verify(certified.result.path, certified.policies, raster=other).findings
    except Seg1bError as error:
        found = error.code
    assert found
