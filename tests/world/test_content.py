"""What a world holds: rings of a country, attributions in the provenance, a raster's header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seg1b.world.content import Polygons, RasterReference, attributions


def test_rings_of_a_country_follow_each_other() -> None:
    """Three rings of country 0, one of country 2; country 1 has none."""
    four = np.zeros(4)
    polygons = Polygons(four, four, np.arange(5, dtype=np.int64), np.array([0, 0, 0, 2], np.int16))
    assert [polygons.country_rings(c) for c in range(3)] == [range(3), range(3, 3), range(3, 4)]


def test_each_attribution_is_told_once_wherever_it_stands() -> None:
    """Blocks by name; what is no text or stands under another name is none."""
    provenance = {
        "sources": {
            "towns": {"attribution": "GeoNames"},
            "borders": {"attribution": "Natural Earth", "year": 5},
        },
        "attribution": "GeoNames",
        "counts": {"attribution": 3},
        "licence": "CC BY",
    }
    assert attributions(provenance) == ["GeoNames", "Natural Earth"]
    assert attributions("attribution") == []


def test_where_a_raster_lies_is_no_part_of_its_header() -> None:
    """The same raster elsewhere is the same world."""
    fields = ("people.tif", "0" * 64, 10, 2, 3, 0, 0, 30, "-1", "float32")
    here, there = RasterReference(*fields, path=Path("a")), RasterReference(*fields, path=Path("b"))
    assert here.header() == there.header()
    assert "path" not in here.header()
    assert here.header()["file_name"] == "people.tif"
